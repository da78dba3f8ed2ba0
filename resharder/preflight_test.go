package resharder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// found fails the test unless the plan has a finding of the gravity that says all the words.
func found(t *testing.T, p *Plan, g Gravity, words ...string) {
	t.Helper()
	for _, f := range p.Findings {
		has := f.Gravity == g
		for _, word := range words {
			has = has && strings.Contains(f.String(), word)
		}
		if has {
			return
		}
	}
	t.Errorf("no finding %s that says %q in %v", g, words, p.Findings)
}

func TestPlanFindsWhatIsInTheWay(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	plan := func(goal Goal) *Plan {
		t.Helper()
		p, err := MakePlan(r.ctx(), r.config, goal)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := plan(Goal{Drain: "s1"})
	if !p.Possible() || p.Moved() != 32 || p.Rows < 1 && p.Bytes < 1 {
		t.Errorf("got %+v", p)
	}
	found(t, p, Warning, "proxies", "none is running")
	if len(p.Leaves) != 1 || p.Leaves[0] != "s1" {
		t.Errorf("%v leave", p.Leaves)
	}
	if p := plan(Goal{To: []shard.Name{"s0", "s1"}}); len(p.Moves) != 0 || !p.Possible() {
		t.Errorf("a goal that is reached: %+v", p)
	}

	r.exec("s1", "ALTER TABLE accounts ADD COLUMN more text REFERENCES countries ON DELETE SET NULL, ADD COLUMN less text REFERENCES countries; CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; CREATE TRIGGER zzzz BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION late(); CREATE TRIGGER zzzzz BEFORE INSERT ON entries_1 FOR EACH ROW EXECUTE FUNCTION late(); SELECT lo_create(0)")
	p = plan(Goal{Drain: "s1"})
	found(t, p, Obstacle, "public.accounts", "more")
	found(t, p, Warning, "table public.accounts", "accounts_more_fkey", "reference table public.countries")
	if slices.ContainsFunc(p.Findings, func(f Finding) bool { return strings.Contains(f.String(), "accounts_less_fkey") }) {
		t.Errorf("a foreign key that changes nothing is warned of: %v", p.Findings)
	}
	found(t, p, Obstacle, "public.entries", "zzzz", "rename it")
	found(t, p, Obstacle, "public.entries", "zzzzz of public.entries_1", "rename it")
	found(t, p, Note, "shard s1", "1 large objects")
	if p.Possible() {
		t.Error("the plan is possible")
	}
	if _, err := Start(r.ctx(), r.config, Goal{Drain: "s1"}, false); err == nil || !strings.Contains(err.Error(), "zzzz") {
		t.Errorf("a job with obstacles: %v", err)
	}
	r.exec("s1", "ALTER TABLE accounts DROP COLUMN more, DROP COLUMN less; DROP TRIGGER zzzz ON entries; DROP TRIGGER zzzzz ON entries_1")

	r.exec("s2", schemaSQL+"INSERT INTO accounts (id) VALUES (1)")
	p = plan(Goal{Add: "s2"})
	found(t, p, Obstacle, "shard s2, table public.accounts", "has rows")
	found(t, p, Note, "shard s2", "is no member yet")
	r.exec("s2", "TRUNCATE accounts CASCADE")
	if p = plan(Goal{Add: "s2"}); !p.Possible() || len(p.Joins) != 1 {
		t.Errorf("got %+v", p)
	}

	// A proxy that has not re-read its file.
	all := r.config.Map.Shards
	r.config.Map.Shards = r.names[:2]
	w := r.watcher("old")
	r.config.Map.Shards = all
	r.try(w.Refresh(r.ctx()))
	found(t, plan(Goal{Add: "s2"}), Obstacle, "proxy old/", "does not know shard s2", "reload it")
	r.try(w.Leave(r.ctx()))

	// A job under way.
	r.start(Goal{Drain: "s1"})
	found(t, plan(Goal{Add: "s2"}), Obstacle, "another one is under way")
	if _, err := Start(r.ctx(), r.config, Goal{Drain: "s1"}, false); err == nil {
		t.Error("two jobs at once")
	}
}

func TestPlanFindsWhatServersAndRolesLack(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Shards: 2, Settings: map[string]string{"max_replication_slots": "1", "max_wal_senders": "1", "wal_level": "replica"}})
	r := newRig(t, cluster, 2)
	p, err := MakePlan(r.ctx(), r.config, Goal{Drain: "s1"})
	r.try(err)
	found(t, p, Obstacle, "shard s1", "wal_level replica", "ALTER SYSTEM")
	r.exec("s1", fmt.Sprintf("SELECT pg_create_physical_replication_slot('taken_%s')", r.dbs["s1"]))
	role := "mover_" + r.dbs["s1"]
	r.exec("s1", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'secret'; GRANT SELECT ON ALL TABLES IN SCHEMA public, pgtier TO %[1]s; GRANT USAGE ON SCHEMA pgtier TO %[1]s", role))
	p, err = MakePlan(r.ctx(), r.config, Goal{Drain: "s1"})
	r.try(err)
	found(t, p, Obstacle, "shard s1", "0 of 1 replication slots free")

	r.config.Servers.Shards["s1"] = func(ctx context.Context, parameters map[string]string) (*pgconn.PgConn, error) {
		config, err := pgconn.ParseConfig(r.server["s1"].URL(r.dbs["s1"], role, "secret"))
		if err != nil {
			return nil, err
		}
		return stream.Connect(ctx, config, parameters)
	}
	p, err = MakePlan(r.ctx(), r.config, Goal{Drain: "s1"})
	r.try(err)
	for _, words := range []string{"may not replicate", "may not create publications", "may not write past triggers", "may not keep positions", "public.accounts: belongs to postgres"} {
		found(t, p, Obstacle, "shard s1", words)
	}
}
