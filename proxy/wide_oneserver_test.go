package proxy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// TestShardsThatAreDatabasesOfOneServer has statements lock what all databases of a server share: no shard may wait for another
// part of the same statement.
func TestShardsThatAreDatabasesOfOneServer(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, localpg.Options{Settings: map[string]string{"max_prepared_transactions": "20"}})
	r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: "bank"}
	cfg := r.config(t, nil)
	d := cfg.Databases["bank"]
	at := d.Shards[0].Manager
	d.Shards = nil
	for i := range 3 {
		at.Database = fmt.Sprintf("bank%d", i)
		pgtest.Exec(t, r.manager, "postgres", "CREATE DATABASE "+at.Database)
		pgtest.Exec(t, r.manager, at.Database, spreadSQL)
		d.Shards = append(d.Shards, proxy.Shard{Name: fmt.Sprintf("s%d", i), Manager: at})
	}
	d.Sharding.Tables = map[string]proxy.Table{"accounts": {Key: []string{"id"}}, "cards": {Key: []string{"id"}}}
	d.Sharding.Reference = []string{"rates"}
	cfg.Databases["bank"] = d
	p := r.startLogged(t, cfg, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	c := p.client(t)
	mustExec(t, c, "INSERT INTO accounts SELECT 1, 'x', 100")
	for _, sql := range []string{"ANALYZE", "ANALYZE pg_authid", "ANALYZE accounts", "VACUUM", "VACUUM ANALYZE", "CREATE INDEX CONCURRENTLY owners ON accounts (owner)",
		"REINDEX TABLE CONCURRENTLY accounts", "DROP INDEX CONCURRENTLY owners", "UPDATE accounts SET balance = balance + 1", "ALTER TABLE accounts ADD COLUMN more int", "TRUNCATE rates"} {
		began := time.Now()
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := c.Exec(ctx, sql)
		stop()
		if err != nil {
			t.Errorf("%s: %v after %s", sql, err, time.Since(began))
			c = p.client(t)
		}
	}
	mustExec(t, c, "BEGIN")
	mustExec(t, c, "ANALYZE accounts")
	mustExec(t, c, "COMMIT")

	// In a transaction block the parts wait for each other, which no server takes for a deadlock.
	mustExec(t, c, "BEGIN")
	began := time.Now()
	_, err := c.Exec(bounded(t), "ANALYZE")
	wantError(t, err, "40P01", "deadlock detected")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("found after %s", took)
	}
	mustExec(t, c, "ROLLBACK")
}
