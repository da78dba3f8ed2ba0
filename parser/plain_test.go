package parser

import "testing"

func TestPlainStatements(t *testing.T) {
	for text, want := range map[string]bool{
		"":      true,
		"BEGIN": true, "START TRANSACTION": true, "END": true, "COMMIT AND CHAIN": true, "ROLLBACK": true, "ABORT": true,
		"SAVEPOINT a": true, "RELEASE a": true, "ROLLBACK TO a": true,
		"SELECT abalance FROM accounts WHERE aid = $1":                   true,
		"SELECT 1; SELECT 2":                                             true,
		"SELECT * FROM accounts FOR UPDATE":                              true,
		"SELECT anybodys(1)":                                             true, // which the catalog judges
		"UPDATE accounts SET abalance = abalance + $1 WHERE aid = $2":    true,
		"INSERT INTO history (tid, mtime) VALUES (1, CURRENT_TIMESTAMP)": true,
		"DELETE FROM accounts WHERE filler = 'x'":                        true,
		"WITH d AS (DELETE FROM accounts RETURNING *) SELECT * FROM d":   true,
		"MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN DELETE":     true,
		"BEGIN READ ONLY":                                                true,
		"BEGIN; SET TimeZone = 'UTC'; COMMIT":                            false,
		"SET TimeZone = 'UTC'":                                           false,
		"SET LOCAL TimeZone = 'UTC'":                                     false,
		"SET TRANSACTION READ ONLY":                                      false,
		"RESET TimeZone":                                                 false,
		"RESET ALL":                                                      false,
		"SHOW pgtier.lsn":                                                false,
		"SELECT set_config('pgtier.cache', 'off', false)":                false,
		"SELECT set_config($1, $2, true)":                                false,
		"SELECT currval('s')":                                            false,
		"SELECT pg_advisory_lock(1)":                                     false,
		"SELECT pg_notify('a', 'b')":                                     false,
		"SELECT * FROM pg_prepared_statements":                           false,
		"PREPARE a AS SELECT 1":                                          false,
		"EXECUTE a":                                                      false,
		"DEALLOCATE a":                                                   false,
		"DISCARD ALL":                                                    false,
		"LISTEN a":                                                       false,
		"UNLISTEN *":                                                     false,
		"NOTIFY a":                                                       false,
		"CREATE TABLE a ()":                                              false,
		"SELECT 1 INTO TEMP a":                                           false,
		"EXPLAIN ANALYZE UPDATE a SET b = 1":                             false,
		"DECLARE a CURSOR FOR SELECT 1":                                  false,
		"COPY a FROM STDIN":                                              false,
		"LOCK a":                                                         false,
		"DO 'BEGIN END'":                                                 false,
		"CALL a()":                                                       false,
		"PREPARE TRANSACTION 'a'":                                        false,
		"/* pgtier: consistency=manager */ SELECT 1":                     false,
		`SELECT '\'`:                                                     false,
		"SELECT FROM WHERE":                                              false,
	} {
		if got := NewCache(1 << 20).Statement([]byte(text)).Plain; got != want {
			t.Errorf("%q: plain is %v, want %v", text, got, want)
		}
	}
}

// A statement that is plain shows nothing of what sessions follow, whatever it is.
func FuzzPlain(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<12 {
			return
		}
		st := analyse(text)
		if !st.Plain {
			return
		}
		for i := range st.Commands {
			c := &st.Commands[i]
			followed := ChangesSettings | ResetsAll | DiscardsAll | DiscardsPlans | DiscardsTemp | DiscardsSequences | SQLPrepare | SQLExecute | SQLDeallocate |
				Listens | Unlistens | Notifies | ReadsSequenceState | ReadsSessionViews | DDL | CopyIn | UsesCursor | RunsOpaqueCode
			if (st.Effects|c.Effects)&followed != 0 || c.Pin != "" || st.Pin != "" || c.Kind == Show || c.Kind == Set || st.Restores() || c.Explained != nil {
				t.Errorf("%q is plain and has effects %b, kind %v, pin %q", text, st.Effects, c.Kind, c.Pin)
			}
		}
	})
}
