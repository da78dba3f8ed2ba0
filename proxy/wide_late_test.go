package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/shardmap"
)

// TestLateWritesOfReferenceTablesArePlannedAgain has home say that a shard joins with the next motion, of which the proxy has not heard: what comes to home is too late, and
// is carried out once by that motion, or its transaction hears that it has to begin again.
func TestLateWritesOfReferenceTablesArePlannedAgain(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*proxy.Config){
		"over shards": nil,
		"one shard":   onDatabase(func(d *proxy.Database) { d.Shards = d.Shards[:1] }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			extra := func(d *proxy.Database) { d.Sharding.Reference = append(d.Sharding.Reference, "extras") }
			change := func(cfg *proxy.Config) {
				onDatabase(extra)(cfg)
				if edit != nil {
					edit(cfg)
				}
			}
			s, p := newSpreadWith(t, change)
			cfg := s.config(t)
			change(&cfg)
			m := s.moving(t, cfg, 0)
			setup := p.client(t)
			mustExec(t, setup, "CREATE TABLE extras (name text PRIMARY KEY)")
			mustExec(t, setup, "INSERT INTO extras VALUES ('x')")
			mustExec(t, setup, "INSERT INTO rates VALUES ('a', 0), ('b', 0)")
			begun, asked := p.client(t), p.client(t)
			mustExec(t, begun, "BEGIN")
			mustExec(t, begun, "UPDATE accounts SET balance = balance + 1 WHERE id = 1")
			mustExec(t, asked, "BEGIN")
			wantValue(t, asked, "SELECT balance FROM accounts WHERE id = 1", "100")

			pgtest.Exec(t, s.manager, s.database, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d, 0); %s", shardmap.GuardClass, shardmap.OutdateSQL(m.now.Motion.Number+1)))
			mustExec(t, setup, "EXPLAIN DELETE FROM rates") // writes nothing
			_, err := begun.Exec(bounded(t), "UPDATE rates SET rate = rate + 100 WHERE name = 'a'")
			wantError(t, err, "40001", "another shard has a copy of the reference table now")
			mustExec(t, begun, "ROLLBACK")
			_, err = asked.Exec(bounded(t), "DELETE FROM rates")
			wantError(t, err, "40001", "another shard has a copy of the reference table now")
			mustExec(t, asked, "ROLLBACK")

			waiting := map[string]started{}
			for _, sql := range []string{
				"UPDATE rates SET rate = rate + 1 WHERE name = 'a'",
				"UPDATE rates SET rate = rate + 1 WHERE name = 'b'",
				"INSERT INTO taxes VALUES ('c', 1); INSERT INTO taxes VALUES ('d', 1)",
				"CREATE INDEX ON taxes (rate)",
				"TRUNCATE extras",
			} {
				waiting[sql] = p.starts(t, sql)
			}
			run := func(what string, run func() error) {
				done := make(started, 1)
				waiting[what] = done
				go func() { done <- run() }() // ends with the statement
			}
			extended, transaction, copies := p.client(t), p.client(t), p.client(t)
			run("extended", func() error {
				_, err := extended.Exec(bounded(t), "INSERT INTO rates VALUES ($1, $2)", "extended", 5)
				return err
			})
			run("a transaction's first", func() error {
				tx, err := transaction.Begin(bounded(t))
				if err != nil {
					return err
				}
				if _, err := tx.Exec(bounded(t), "INSERT INTO rates VALUES ('first', 6)"); err != nil {
					return err
				}
				return tx.Commit(bounded(t))
			})
			run("COPY", func() error {
				_, err := copies.PgConn().CopyFrom(bounded(t), strings.NewReader("copied\t7\n"), "COPY rates FROM STDIN")
				return err
			})
			p.held(t, int64(len(waiting)))
			m.change(shardmap.Motion{})
			for what, w := range waiting {
				w.ends(t, what)
			}
			const all = "SELECT string_agg(name || ' ' || rate, ', ' ORDER BY name) FROM (TABLE rates UNION ALL TABLE taxes) AS x"
			for i := range cfg.Databases[s.database].Shards {
				if got, want := s.on(t, i, all), "a 1, b 1, c 1, copied 7, d 1, extended 5, first 6"; got != want {
					t.Errorf("shard %d has %s, want %s", i, got, want)
				}
			}
			wantValue(t, setup, "SELECT count(*) FROM extras", "0")
			wantValue(t, setup, "SELECT balance FROM accounts WHERE id = 1", "100")
		})
	}
}
