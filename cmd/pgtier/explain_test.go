package main

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
)

func TestExplainSaysWhereAStatementGoes(t *testing.T) {
	shard := servers.Cluster(t).Shards[0]
	app := pgtest.Database(t, shard.Manager)
	pgtest.Exec(t, shard.Manager, app, "CREATE TABLE orders (id int PRIMARY KEY, user_id int); CREATE TABLE rates (name text); CREATE SEQUENCE s")
	manager, replica := shard.Manager.URL(app, "", ""), shard.Replicas[0].URL(app, "", "")
	with := writeFile(t, "with.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q, replicas: [{url: %q}]}]}}\n", manager, replica))
	caches := writeFile(t, "caches.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q}], cache: {enabled: true}}}\n", manager))
	sharded := writeFile(t, "sharded.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q}, {manager: %q}], sharding: {tables: {orders: {key: user_id}}}}}\n", manager, manager))
	keeps := writeFile(t, "keeps.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q}, {manager: %q}], sharding: {tables: {orders: {key: user_id}}, reference: [rates]}, cache: {enabled: true}}}\n", manager, manager))
	without := writeFile(t, "without.yaml", fmt.Sprintf("databases: {'*': {shards: [{manager: %q}], reads: {consistency: eventual}}}\n", manager))
	lost := writeFile(t, "lost.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q, replicas: [{url: %q}]}]}}\n",
		strings.Replace(manager, shard.Manager.Address(), "127.0.0.1:1", 1), replica))
	nobody := writeFile(t, "nobody.yaml", "databases: {app: {shards: [{manager: 'postgres://u:hunter2@127.0.0.1:1/x'}]}}\n")
	for name, tc := range map[string]struct {
		args   []string
		status int
		says   []string
	}{
		"a read": {[]string{"--config", with, "--database", "app", "SELECT * FROM orders WHERE user_id = $1", "42"}, 0, []string{"kind         select\n",
			"table        orders (reads)", "parameter    $1 = 42 (chooses nothing: not sharded)", "key          none (not sharded)", "read only    proved (reads public.orders; every function is stable)",
			"consistency  session (reads.consistency: never older", "target       replica (reads public.orders", "cause        replica", "connection   shared", "cache        not kept (cache.enabled is false; else it could be: depends on public.orders and settings alone)"}},
		"a read that is kept": {[]string{"--config", caches, "--database", "app", "SELECT * FROM orders"}, 0, []string{"cache        kept (depends on public.orders and settings alone)"}},
		"one past the cache":  {[]string{"--config", caches, "--database", "app", "/* pgtier: cache=off */ SELECT * FROM orders"}, 0, []string{"cache        not kept (the statement has hints; else it could be: depends on"}},
		"one of the manager":  {[]string{"--config", caches, "--database", "app", "/* pgtier: consistency=manager */ SELECT * FROM orders"}, 0, []string{"cache        not kept (consistency level manager; else it could be: depends on"}},
		"one never kept":      {[]string{"--config", caches, "--database", "app", "SELECT nextval('s')"}, 0, []string{"cache        not kept ("}},
		"a shard": {[]string{"--config", sharded, "--database", "app", "SELECT * FROM orders WHERE user_id = $1", "42"}, 0, []string{"shards       s", "(one: key orders.user_id)",
			"cache        not kept (cache.enabled is false; else it could be: depends on public.orders and settings alone)"}},
		"a shard whose answer is kept": {[]string{"--config", keeps, "--database", "app", "SELECT * FROM orders WHERE user_id = $1", "42"}, 0, []string{"cache        kept (depends on public.orders and settings alone)"}},
		"shards whose answer is kept":  {[]string{"--config", keeps, "--database", "app", "SELECT count(*) FROM orders"}, 0, []string{"cache        kept (depends on public.orders and settings alone)"}},
		"a copy whose answer is kept":  {[]string{"--config", keeps, "--database", "app", "SELECT * FROM rates"}, 0, []string{"cache        kept (depends on public.rates and settings alone)"}},
		"a shard that nobody knows yet": {[]string{"--config", sharded, "--database", "app", "SELECT * FROM orders WHERE user_id = $1"}, 0,
			[]string{"shards       one (by its parameters; give them behind the statement)"}},
		"all shards": {[]string{"--config", sharded, "--database", "app", "SELECT count(*), max(id) FROM orders ORDER BY 1 LIMIT 3"}, 0,
			[]string{"shards       s0, s1 (scatter: partial aggregates of all shards)", "sends        SELECT count(*), max(id) FROM orders", "merge        2 aggregates and keys of groups made of parts, in order, limited"}},
		"shards and one of them": {[]string{"--config", sharded, "--database", "app", "SELECT count(*) + 1 FROM orders"}, 0,
			[]string{"sends        SELECT count(*) FROM orders", "merge        1 aggregates", "finishes     SELECT pgtier.pgtier_1 + 1 FROM (", "(on s0, with the groups as parameters)"}},
		"no shard":        {[]string{"--config", sharded, "--database", "app", "SELECT stddev(id) FROM orders"}, 0, []string{"shards       none (refused with 0A000: aggregate stddev()", "hint         Group by the sharding key"}},
		"a write":         {[]string{"--config", with, "--database", "app", "SELECT nextval('s')"}, 0, []string{"target       manager (writes)", "cause        not_proved"}},
		"a hint":          {[]string{"--config", with, "--database", "app", "/* pgtier: consistency=manager */ SELECT 1"}, 0, []string{"consistency  manager (the statement's hint", "target       manager (consistency level manager)"}},
		"a bad hint":      {[]string{"--config", with, "--database", "app", "/* pgtier: consistency=maybe */ SELECT 1"}, 0, []string{"target       none (refused with 22023: hint consistency is"}},
		"a setting":       {[]string{"--config", with, "--database", "app", "SET work_mem = '1MB'"}, 0, []string{"setting      work_mem (may differ afterwards"}},
		"a pin":           {[]string{"--config", with, "--database", "app", "CREATE TEMP TABLE x (i int)"}, 0, []string{"connection   kept (", "cause        pinned"}},
		"no SQL":          {[]string{"--config", with, "--database", "app", "SELEKT 1"}, 0, []string{"kind         not understood", "the server says the error", "target       manager"}},
		"no replicas":     {[]string{"--config", without, "--database", app, "SELECT 1"}, 0, []string{"consistency  eventual", "target       manager (no replicas are configured)"}},
		"manager is lost": {[]string{"--config", lost, "--database", "app", "SELECT * FROM orders"}, 0, []string{"target       replica"}},
		"nobody there":    {[]string{"--config", nobody, "--database", "app", "SELECT 1"}, 1, []string{"databases.app s0 postgres://u@127.0.0.1:1/x: not reached"}},
		"no database":     {[]string{"--config", with, "--database", "nosuch", "SELECT 1"}, 1, []string{`"nosuch" is not configured; there are app`}},
		"no file":         {[]string{"--config", "/nonexistent", "--database", "app", "SELECT 1"}, 1, []string{"open configuration"}},
		"no config":       {[]string{"--database", "app", "SELECT 1"}, 2, []string{"--config is missing"}},
		"no flag":         {[]string{"--config", with, "SELECT 1"}, 2, []string{"--database is missing"}},
		"no statement":    {[]string{"--config", with, "--database", "app"}, 2, []string{"requires at least 1 arg"}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "manager is lost" {
				if err := shard.CatchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			status, stdout, stderr := command(t, append([]string{"explain"}, tc.args...)...)
			if status != tc.status {
				t.Errorf("got status %d, want %d\n%s%s", status, tc.status, stdout, stderr)
			}
			for _, want := range tc.says {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("no %q in\n%s%s", want, stdout, stderr)
				}
			}
			if strings.Contains(stdout+stderr, "hunter2") {
				t.Error("the password is shown")
			}
		})
	}
}
