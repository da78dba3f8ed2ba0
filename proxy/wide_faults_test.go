package proxy_test

import "testing"

// TestWideTalk holds conversations over several shards to what one server with all the rows says.
func TestWideTalk(t *testing.T) {
	t.Parallel()
	s, p, whole := newTalk(t, nil)
	s.same(t, p, whole, []talk{
		{name: "pipelined writes", lines: []string{
			"P |UPDATE accounts SET balance = balance - 1 WHERE id = $1 ; B ||{a} ; E |0 ; P |UPDATE accounts SET balance = balance + 1 WHERE id = $1 ; B ||{b} ; E |0 ; S"}},
		{name: "several syncs", lines: []string{
			"P |SELECT count(*) FROM accounts ; B | ; E |0 ; S ; P |SELECT owner FROM accounts WHERE id = $1 ; B ||{b} ; D P| ; E |0 ; S ; P |SELECT owner FROM accounts WHERE id = $1 ; B ||{a} ; E |0 ; S"}},
		{name: "several queries", lines: []string{
			"Q UPDATE accounts SET owner = 'q' WHERE id = {a} ; Q UPDATE accounts SET owner = 'q' WHERE id = {b} ; Q SELECT count(*) FROM accounts WHERE owner = 'q'"}},
		{name: "an error skips to the Sync", lines: []string{
			"P |UPDATE accounts SET balance = balance - 1 WHERE id = $1 ; B ||{a} ; E |0 ; P |UPDATE accounts SET balance = -1 WHERE id = $1 ; B ||{b} ; E |0 ; P |SELECT 1 ; B | ; E |0 ; S ; P |SELECT count(*) FROM accounts ; B | ; E |0 ; S"}},
		{name: "describe a portal without executing it", lines: []string{
			"P |SELECT id, owner FROM accounts WHERE balance > $1 ORDER BY id ; B ||5 ; D P| ; S"}},
		{name: "describe a portal, then Flush", lines: []string{
			"P |SELECT id, owner FROM accounts WHERE balance > $1 ORDER BY id ; B ||5 ; D P| ; H", "E |0 ; S"}},
		{name: "describe two portals before executing", lines: []string{
			"P one|SELECT count(*) FROM accounts ; P two|SELECT id, owner FROM accounts WHERE id = $1 ; B p|one ; D P|p ; B q|two|{b} ; D P|q ; E p|0 ; E q|0 ; S"}},
		{name: "describe a statement and run it in one request", lines: []string{
			"P |UPDATE accounts SET owner = 'd' WHERE balance > $1 ; D S| ; B ||5 ; E |0 ; S"}},
		{name: "describe a statement, and the write fails on one shard", lines: []string{
			"P |UPDATE accounts SET balance = CASE id WHEN {b} THEN -1 ELSE 0 END WHERE id IN ({a}, {b}) AND owner <> $1 ; D S| ; B ||5 ; E |0 ; S"}},
		{name: "Parse, Describe, Flush as drivers do", lines: []string{
			"P s|SELECT owner FROM accounts WHERE id = $1 ; D S|s ; H", "S", "B |s|{b} ; D P| ; E |0 ; S", "B |s|{a} ; E |0 ; S"}},
		{name: "Flush in the middle of writes", lines: []string{
			"P |UPDATE accounts SET owner = 'f' WHERE id = $1 ; B ||{a} ; E |0 ; H", "P |UPDATE accounts SET owner = 'f' WHERE id = $1 ; B ||{b} ; E |0 ; H", "S"}},
		{name: "Flush, and the second write fails", lines: []string{
			"P |UPDATE accounts SET owner = 'g' WHERE id = $1 ; B ||{a} ; E |0 ; H", "P |UPDATE accounts SET balance = -1 WHERE id = $1 ; B ||{b} ; E |0 ; H", "S"}},
		{name: "Flush, a read of all, then writes", lines: []string{
			"P |SELECT count(*) FROM accounts ; B | ; E |0 ; H", "P |UPDATE accounts SET owner = 'h' WHERE balance > 0 ; B | ; E |0 ; H", "P |UPDATE accounts SET balance = -1 WHERE id = $1 ; B ||{b} ; E |0 ; H", "S"}},
		{name: "bind a portal early", lines: []string{
			"P w|UPDATE accounts SET owner = $2 WHERE id = $1 ; B p|w|{a}|e ; H", "B q|w|{b}|e ; E p|0 ; E q|0 ; S"}},
		{name: "empty queries", lines: []string{
			"Q ", "P | ; B | ; D P| ; E |0 ; S", "Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}", "Q  ; Q ;", "P | ; B | ; D P| ; E |0 ; S", "Q ROLLBACK"}},
		{name: "errors of names", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}",
			"B |none ; E |0 ; S", "Q ROLLBACK", "P dup|SELECT 1 ; S", "P dup|SELECT 1 ; S", "E nope|0 ; S", "D P|nope ; S", "D S|nope ; S", "C S|nope ; C P|nope ; S"}},
		{name: "a name whose statement is wrong", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}",
			"P bad|SELECT nothing FROM accounts ; D S|bad ; S", "Q ROLLBACK", "Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}",
			"P bad|SELECT id FROM accounts WHERE id = {a} ; D S|bad ; S", "B |bad ; E |0 ; S", "Q COMMIT"}},
		{name: "function call", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}", "Q ROLLBACK"}},
		{name: "BEGIN in a failed transaction", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET balance = -1 WHERE id = {b}", "Q BEGIN", "Q SELECT 1", "Q COMMIT"}},
		{name: "START TRANSACTION and warnings", lines: []string{
			"Q START TRANSACTION", "Q UPDATE accounts SET owner = 's' WHERE id = {a}", "Q UPDATE accounts SET owner = 's' WHERE id = {b}", "Q BEGIN", "Q COMMIT", "Q COMMIT", "Q ROLLBACK"}},
		{name: "BEGIN in a pipeline", lines: []string{
			"P |START TRANSACTION ; B | ; E |0 ; P |UPDATE accounts SET owner = 't' WHERE id = {a} ; B | ; E |0 ; P |UPDATE accounts SET owner = 't' WHERE id = {b} ; B | ; E |0 ; S", "P |COMMIT ; B | ; E |0 ; S"}},
		{name: "ROLLBACK in a failed transaction, with more behind it", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'u' WHERE id = {a}", "Q SELECT 1/0", "Q ROLLBACK ; Q UPDATE accounts SET owner = 'v' WHERE id = {b}"}},
		{name: "ROLLBACK TO in a failed transaction, with more behind it", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'u2' WHERE id = {a}", "Q SAVEPOINT s", "Q SELECT 1/0", "Q ROLLBACK TO s ; Q UPDATE accounts SET owner = 'v2' WHERE id = {b} ; Q COMMIT"}},
		{name: "ROLLBACK TO on one shard, then another", lines: []string{
			"Q BEGIN", "Q SAVEPOINT s", "Q UPDATE accounts SET owner = 'w' WHERE id = {a}", "Q SELECT 1/0", "Q ROLLBACK TO s", "Q UPDATE accounts SET owner = 'w' WHERE id = {b}", "Q COMMIT"}},
		{name: "savepoints by the extended protocol", lines: []string{
			"P |BEGIN ; B | ; E |0 ; S", "P |UPDATE accounts SET owner = 'y' WHERE id = {a} ; B | ; E |0 ; S", "P |SAVEPOINT s ; B | ; E |0 ; S", "P |UPDATE accounts SET owner = 'z' WHERE id = {b} ; B | ; E |0 ; S",
			"P |SELECT 1/0 ; B | ; E |0 ; S", "P |ROLLBACK TO s ; B | ; E |0 ; S", "P |COMMIT ; B | ; E |0 ; S"}},
		{name: "RELEASE that a failed transaction ignores", lines: []string{
			"Q BEGIN", "Q SAVEPOINT s", "Q UPDATE accounts SET owner = 'r' WHERE id = {a}", "Q SELECT 1/0", "Q RELEASE s", "Q ROLLBACK TO s", "Q UPDATE accounts SET owner = 'r' WHERE id = {b}", "Q COMMIT"}},
		{name: "errors of savepoints", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}", "Q SAVEPOINT s", "Q ROLLBACK TO nope", "Q ROLLBACK TO s", "Q RELEASE s", "Q RELEASE s", "Q ROLLBACK"}},
		{name: "AND CHAIN", lines: []string{
			"Q BEGIN ISOLATION LEVEL READ UNCOMMITTED", "Q UPDATE accounts SET owner = 'c' WHERE id = {a}", "Q UPDATE accounts SET owner = 'c' WHERE id = {b}", "Q COMMIT AND CHAIN", "Q SHOW transaction_isolation", "Q UPDATE accounts SET owner = 'c' WHERE id = {c}", "Q ROLLBACK AND CHAIN", "Q SELECT owner FROM accounts WHERE id = {c}", "Q COMMIT", "Q COMMIT AND CHAIN"}},
		{name: "a chain forgets settings and savepoints", lines: []string{
			"Q BEGIN", "Q SET LOCAL work_mem = '7MB'", "Q SET maintenance_work_mem = '7MB'", "Q SAVEPOINT s", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q ROLLBACK AND CHAIN", "Q UPDATE accounts SET owner = current_setting('work_mem') || current_setting('maintenance_work_mem') WHERE id = {a}",
			"Q UPDATE accounts SET owner = current_setting('work_mem') || current_setting('maintenance_work_mem') WHERE id = {b}", "Q COMMIT"}},
		{name: "SET TRANSACTION chains", lines: []string{
			"Q BEGIN", "Q SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}", "Q COMMIT AND CHAIN", "Q SHOW transaction_isolation", "Q ROLLBACK"}},
		{name: "LOCK outside a block", lines: []string{
			"Q LOCK TABLE accounts", "P |LOCK TABLE accounts ; B | ; E |0 ; S", "Q BEGIN", "Q LOCK TABLE accounts", "Q LOCK rates", "Q COMMIT"}},
		{name: "READ ONLY", lines: []string{
			"P |BEGIN READ ONLY ; B | ; E |0 ; S", "Q SELECT owner FROM accounts WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}", "Q COMMIT"}},
		{name: "READ ONLY that joins", lines: []string{
			"Q BEGIN READ ONLY", "Q SELECT owner FROM accounts WHERE id = {a}", "Q SELECT owner FROM accounts WHERE id = {b}", "Q SHOW transaction_read_only", "Q COMMIT"}},
		{name: "several statements in one text", lines: []string{
			"Q BEGIN", "Q UPDATE accounts SET owner = 'm' WHERE id = {a}", "Q UPDATE accounts SET owner = 'm' WHERE id = {b}", "Q UPDATE accounts SET owner = 'n' WHERE id = {b}; SELECT owner FROM accounts WHERE id = {b}", "Q COMMIT"}},
		{name: "simple and extended mixed", lines: []string{
			"P |UPDATE accounts SET owner = 'k' WHERE id = {a} ; B | ; E |0 ; Q UPDATE accounts SET owner = 'k' WHERE id = {b}"}},
		{name: "an error, then a Query before its Sync", lines: []string{
			"P |UPDATE accounts SET owner = 'k' WHERE id = {b} ; B | ; E |0 ; P |UPDATE accounts SET balance = -1 WHERE id = {a} ; B | ; E |0 ; Q SELECT 1 ; S"}},
		{name: "function call", lines: []string{"Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q ROLLBACK"}},
	})
}

// TestWideCopyTalk is TestWideTalk for COPY.
func TestWideCopyTalk(t *testing.T) {
	t.Parallel()
	s, p, whole := newTalk(t, nil)
	s.same(t, p, whole, []talk{
		{name: "all at once", lines: []string{"Q COPY accounts FROM STDIN ; d 40\\tx\\t1 ; d 41\\tx\\t2 ; d 42\\tx\\t3 ; d 43\\tx\\t4 ; c ; Q SELECT count(*), sum(balance) FROM accounts WHERE owner = 'x'"}},
		{name: "one by one", lines: []string{"Q COPY accounts FROM STDIN", "d 44\\tx\\t1", "d 45\\tx\\t1 ; d 46\\tx\\t1", "c", "Q SELECT count(*) FROM accounts WHERE owner = 'x'"}},
		{name: "CopyFail", lines: []string{"Q COPY accounts FROM STDIN", "d 47\\tx\\t1 ; d 48\\tx\\t1 ; f enough", "Q SELECT count(*) FROM accounts WHERE owner = 'x'"}},
		{name: "a row is wrong", lines: []string{"Q COPY accounts FROM STDIN ; d 47\\tx\\t1 ; d 48\\tx\\t-1 ; d 49\\tx\\t-1 ; d 50\\tx\\t-1 ; c", "Q SELECT count(*) FROM accounts WHERE owner = 'x'"}},
		{name: "a row is short", lines: []string{"Q COPY accounts FROM STDIN ; d 47\\tx\\t1 ; d 48\\tx ; c", "Q SELECT count(*) FROM accounts WHERE owner = 'x'"}},
		{name: "Sync in the middle", lines: []string{"Q COPY accounts FROM STDIN ; d 51\\tx\\t1 ; H ; d 52\\tx\\t1 ; c", "Q SELECT count(*) FROM accounts WHERE owner = 'x'"}},
		{name: "in a transaction", lines: []string{"Q BEGIN", "Q UPDATE accounts SET owner = 'y' WHERE id = {a}", "Q COPY accounts FROM STDIN ; d 51\\tx\\t1 ; d 52\\tx\\t1 ; c", "Q SELECT count(*) FROM accounts WHERE owner = 'x'", "Q ROLLBACK", "Q SELECT count(*) FROM accounts WHERE owner IN ('x', 'y')"}},
		{name: "fails in a transaction", lines: []string{"Q BEGIN", "Q UPDATE accounts SET owner = 'y' WHERE id = {a}", "Q SAVEPOINT s", "Q COPY accounts FROM STDIN ; d 51\\tx\\t-1 ; d 52\\tx\\t1 ; c", "Q SELECT 1", "Q ROLLBACK TO s", "Q COMMIT"}},
		{name: "an empty one", lines: []string{"Q COPY accounts FROM STDIN ; c", "Q COPY accounts (balance, id) FROM STDIN WITH (FORMAT csv, HEADER) ; d balance,id ; d 7,60 ; d 8,61 ; d 9,62 ; c"}},
		{name: "out", lines: []string{"Q COPY (SELECT id FROM accounts WHERE id = {a}) TO STDOUT", "Q COPY (SELECT id FROM accounts WHERE id = {b}) TO STDOUT"}},
		{name: "no such table", lines: []string{"Q COPY nothing FROM STDIN", "Q COPY accounts (id, nothing) FROM STDIN"}},
		{name: "data that nobody asked for", lines: []string{"d 1 ; c ; Q SELECT count(*) FROM accounts"}},
		{name: "into a reference table", lines: []string{"Q COPY rates FROM STDIN ; d a\\t1 ; d b\\t2 ; c", "Q SELECT count(*) FROM rates", "Q COPY rates FROM STDIN ; d c\\t1 ; d b\\t2 ; c", "Q SELECT count(*) FROM rates"}},
	})
}

// TestWideSettingsTalk is TestWideTalk for settings.
func TestWideSettingsTalk(t *testing.T) {
	t.Parallel()
	s, p, whole := newTalk(t, nil)
	show := "current_setting('work_mem') || ' ' || coalesce(nullif(current_setting('app.tenant', true), ''), '-') || ' ' || current_setting('TimeZone')"
	look := func(id string) string { return "Q SELECT " + show + " FROM accounts WHERE id = {" + id + "}" }
	wide := []string{"Q BEGIN", "Q UPDATE accounts SET owner = 'x' WHERE id = {a}", "Q UPDATE accounts SET owner = 'x' WHERE id = {b}"}
	after := []string{look("a"), look("b"), look("c"), look("a")}
	lines := func(parts ...[]string) (all []string) {
		for _, part := range parts {
			all = append(all, part...)
		}
		return all
	}
	s.same(t, p, whole, []talk{
		{name: "SET is undone", lines: lines(wide, []string{"Q SET work_mem = '9MB'", look("a"), look("b"), look("c"), "Q ROLLBACK"}, after)},
		{name: "SET LOCAL", lines: lines(wide, []string{"Q SET LOCAL work_mem = '9MB'", look("a"), look("b"), look("c"), "Q COMMIT"}, after)},
		{name: "SET is kept", lines: lines(wide, []string{"Q SET work_mem = '9MB'", "Q SET TimeZone = 'Asia/Tokyo'", look("a"), look("b"), look("c"), "Q COMMIT"}, after)},
		{name: "set_config", lines: lines(wide, []string{"Q SELECT set_config('app.tenant', '7', true)", look("a"), look("b"), look("c"), "Q COMMIT"}, after)},
		{name: "set_config for the session", lines: lines(wide, []string{"Q SELECT set_config('app.tenant', '7', false)", look("a"), look("b"), look("c"), "Q COMMIT"}, after)},
		{name: "set_config for the session is undone", lines: lines(wide, []string{"Q SELECT set_config('app.tenant', '7', false)", look("a"), look("b"), look("c"), "Q ROLLBACK"}, []string{"Q SELECT 1"})},
		{name: "set_config first", lines: lines([]string{"Q BEGIN", "Q SELECT set_config('app.tenant', '7', true)", look("a"), look("b"), look("c"), "Q COMMIT", "Q SELECT 1"})},
		{name: "set_config by the extended protocol", lines: lines(wide, []string{"P |SELECT set_config('app.tenant', $1, true) ; B ||8 ; D P| ; E |0 ; S", look("a"), look("b"), "Q COMMIT"}, after)},
		{name: "SET behind a savepoint", lines: lines(wide, []string{"Q SAVEPOINT s", "Q SET work_mem = '9MB'", "Q SELECT 1/0", "Q ROLLBACK TO s", look("a"), look("b"), look("c"), "Q SET work_mem = '10MB'", "Q RELEASE s", "Q COMMIT"}, after)},
		{name: "SET of nonsense", lines: lines(wide, []string{"Q SET work_mem = 'nonsense'", "Q SET work_mem = '9MB'", "Q COMMIT"}, after)},
		{name: "COMMIT fails, the SET is undone", lines: lines(wide, []string{"Q SET work_mem = '9MB'", "Q SELECT 1/0", "Q COMMIT"}, after)},
		{name: "RESET", lines: lines([]string{"Q SET work_mem = '9MB'"}, wide, []string{"Q RESET work_mem", look("a"), look("b"), look("c"), "Q COMMIT"}, after)},
		{name: "RESET ALL", lines: lines([]string{"Q SET work_mem = '9MB'"}, wide, []string{"Q RESET ALL", look("a"), look("b"), look("c"), "Q COMMIT"}, after)},
		{name: "a pipeline that sets", lines: lines([]string{"P |SET work_mem = '9MB' ; B | ; E |0 ; P |SELECT count(*) FROM accounts ; B | ; D P| ; E |0 ; S"}, after)},
	})
}
