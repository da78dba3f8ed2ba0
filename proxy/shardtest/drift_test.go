package shardtest

import (
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
)

// TestTablesThatAreNotAlikeGiveNoRows changes a table on one shard alone. Whatever would put its rows among the others' must say so, and name the
// shard; what names columns that all shards have alike goes on.
func TestTablesThatAreNotAlikeGiveNoRows(t *testing.T) {
	r := newRig(t)
	for _, drift := range []struct{ name, change, undo string }{
		{"a column more", "ALTER TABLE bank ADD COLUMN extra int", "ALTER TABLE bank DROP COLUMN extra"},
		{"another order", "ALTER TABLE bank DROP COLUMN account CASCADE; ALTER TABLE bank ADD COLUMN account bigint",
			"DROP TABLE bank; CREATE TABLE bank (account bigint PRIMARY KEY, balance bigint NOT NULL)"},
		{"another type", "ALTER TABLE bank ALTER COLUMN balance TYPE int", "ALTER TABLE bank ALTER COLUMN balance TYPE bigint"},
	} {
		t.Run(drift.name, func(t *testing.T) {
			r.restore(t, false)
			sharded, err := connect(r.serve(t))
			if err != nil {
				t.Fatal(err)
			}
			defer sharded.close()
			pgtest.Exec(t, r.shards[1], database, drift.change)
			defer pgtest.Exec(t, r.shards[1], database, drift.undo)
			for _, sql := range []string{
				"SELECT * FROM bank", "SELECT * FROM bank ORDER BY account", "SELECT * FROM bank UNION ALL SELECT * FROM bank",
				"UPDATE bank SET balance = balance + 0 RETURNING *", "COPY bank TO STDOUT", "COPY (SELECT * FROM bank) TO STDOUT", "COPY bank FROM STDIN",
			} {
				for _, m := range []mode{simpleText, unnamed} {
					s := &statement{sql: sql, simple: strings.HasPrefix(sql, "COPY")}
					if !s.runs(m) {
						continue
					}
					o := sharded.run(s, m, &values{})
					if o.state() != "0A000" || o.err == nil || !strings.Contains(o.err.Message, "s1") || !strings.Contains(o.err.Hint, "pgtier check") {
						t.Errorf("%s (%s): got %s, want a refusal that names s1 and pgtier check", sql, m, errorText(o.err))
					}
				}
			}
			if o := sharded.run(&statement{sql: "SELECT count(*) FROM bank"}, simpleText, &values{}); o.err != nil {
				t.Errorf("SELECT count(*): %s", errorText(o.err))
			}
		})
	}
	r.restore(t, false)
}
