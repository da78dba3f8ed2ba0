package router

import (
	"testing"

	"pgtier/parser"
	"pgtier/router/catalog"
)

func TestExplainWithoutProofsGoesToTheManager(t *testing.T) {
	cache := parser.NewCache(1 << 20)
	var nothing *catalog.Snapshot // proves nothing
	for name, tc := range map[string]struct {
		sql          string
		in           Circumstances
		target, says string
	}{
		"nothing is known":            {"SELECT a FROM t", Circumstances{Replicas: 1}, "manager", "catalog not read yet"},
		"no replicas":                 {"SELECT a FROM t", Circumstances{}, "manager", "no replicas are configured"},
		"session pooling":             {"SELECT a FROM t", Circumstances{Replicas: 1, Keeps: "pool.mode is session"}, "manager", "keeps its connection: pool.mode is session"},
		"a read-only transaction":     {"BEGIN READ ONLY", Circumstances{Replicas: 1}, "replica", "begins a READ ONLY transaction, which one replica serves whole"},
		"one that asks the manager":   {"BEGIN READ ONLY", Circumstances{Replicas: 1, Level: Manager}, "manager", "consistency level manager"},
		"a strong one":                {"BEGIN READ ONLY", Circumstances{Replicas: 1, Level: Strong}, "manager", "a transaction of level strong that is not REPEATABLE READ"},
		"a strong one, frozen":        {"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", Circumstances{Replicas: 1, Level: Strong}, "replica", "begins a READ ONLY transaction, which one replica serves whole"},
		"serializable, though":        {"BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", Circumstances{Replicas: 1}, "manager", "begins a SERIALIZABLE transaction, which no replica serves; it is held back until the first statement behind it"},
		"a hint that is none of ours": {"/* pgtier: speed=warp */ SELECT 1", Circumstances{Replicas: 1}, "none", `refused with 22023: hint "speed" is unknown, want one of consistency, cache, shard, sharding_key`},
		"a level that is none":        {"SET pgtier.consistency = 'x'", Circumstances{Replicas: 1}, "none", `refused with 22023: invalid value for setting "pgtier.consistency": "x"`},
		"one by set_config":           {"SELECT set_config('pgtier.consistency', 'x', false)", Circumstances{}, "none", `refused with 22023: invalid value for setting "pgtier.consistency": "x"`},
		"a setting that is none":      {"SHOW pgtier.nonsense", Circumstances{Replicas: 1}, "none", `refused with 22023: unknown setting "pgtier.nonsense"`},
		"for one transaction":         {"SET LOCAL pgtier.consistency = 'strong'", Circumstances{Replicas: 1}, "none", `refused with 0A000: setting "pgtier.consistency" cannot be set for one transaction`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range Explain(cache.Statement([]byte(tc.sql)), tc.in, nothing) {
				if f.Item == "target" && (f.Value != tc.target || f.Reason != tc.says) {
					t.Errorf("%s: got %s (%s), want %s (%s)", tc.sql, f.Value, f.Reason, tc.target, tc.says)
				}
			}
		})
	}
}
