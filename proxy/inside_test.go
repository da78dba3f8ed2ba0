package proxy_test

import "testing"

// TestTextsInATransactionOnAReplica: each command of a text is judged by itself.
func TestTextsInATransactionOnAReplica(t *testing.T) {
	t.Parallel()
	_, p := settledCrew(t, 1, "", nil)
	for sql, state := range map[string]string{
		"SHOW work_mem; SELECT pg_is_in_recovery()":                         "25006",
		"EXPLAIN SELECT 1; SELECT pg_is_in_recovery()":                      "25006",
		"SET LOCAL work_mem = '1MB'; SELECT count(*) FROM pg_stat_activity": "25006",
		"SELECT 1; SELECT pg_is_in_recovery()":                              "25006",
		"SHOW work_mem; SELECT 1":                                           "",
		"SELECT 1; SHOW work_mem":                                           "",
		"SHOW work_mem; SHOW lock_timeout":                                  "",
	} {
		conn := p.client(t)
		p.insideReplica(t, conn, "BEGIN READ ONLY", "SELECT 1")
		switch _, err := value(conn, sql); {
		case state == "" && err != nil:
			t.Errorf("%s: %v", sql, err)
		case state != "":
			wantError(t, err, state, "READ ONLY transaction that a replica serves")
		}
	}
}
