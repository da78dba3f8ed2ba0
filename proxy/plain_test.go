package proxy_test

import (
	"fmt"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
)

// conversation is what a client sends in one piece, and how many ReadyForQuery answer it.
type conversation struct {
	msgs  []byte
	syncs int
}

// TestTextsThatComeInTurnsMeanWhatTheyDoDirectly sends the same texts again and again as the unnamed statement, by two clients
// over one connection, with everything between that may change what a text, a name or the unnamed statement means.
func TestTextsThatComeInTurnsMeanWhatTheyDoDirectly(t *testing.T) {
	extended := func(sql string) conversation { return conversation{named("", sql), 1} }
	query := func(sql string) conversation { return conversation{wire.AppendQuery(nil, sql), 1} }
	unparsed := conversation{wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "", nil))), 1} // whatever is unnamed
	byName := conversation{wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "kept", nil))), 1}
	const instant = "SELECT extract(epoch FROM timestamptz '2024-01-01 00:00')::int"
	cycle := []conversation{extended("BEGIN")}
	for i := range 12 { // more than a session remembers
		cycle = append(cycle, extended(fmt.Sprintf("SELECT %d, v FROM kept_rows", i)), unparsed)
	}
	cycle = append(cycle, extended("INSERT INTO kept_rows VALUES (7) RETURNING v"), extended("END"), unparsed, extended(instant), byName)
	script := append([]conversation{query("CREATE TABLE kept_rows (v int)"), {named("kept", "SELECT 'kept', '2024-01-01 00:00'::timestamptz"), 1}}, cycle...)
	add := func(more ...conversation) { script = append(append(script, more...), cycle...) }
	add(extended("SELECT FROM nothing"), unparsed)
	add(extended("BEGIN"), extended("SELECT 1/0"), extended("SELECT 0, v FROM kept_rows"), byName, unparsed, extended("ROLLBACK"))
	add(query("SET TimeZone = 'Asia/Tokyo'"), extended(instant), byName)
	add(query("BEGIN"), query("SET LOCAL TimeZone = 'UTC'"), extended(instant), byName, query("ROLLBACK"), extended(instant))
	add(extended("ALTER TABLE kept_rows ADD w int"), extended("SELECT * FROM kept_rows"))
	add(conversation{append(append(unsynced("", "SELECT 3, v FROM kept_rows"), unsynced("", instant)...), unsynced("", "SELECT 3, v FROM kept_rows")...), 0},
		conversation{wire.AppendSync(nil), 1}, unparsed)
	add(conversation{wire.AppendSync(append(unsynced("", instant), unsynced("", "SELECT FROM nothing")...)), 1}, unparsed)
	add(conversation{wire.AppendSync(append(unsynced("", "SELECT 1/0"), unsynced("", instant)...)), 1}, unparsed)
	add(conversation{wire.AppendSync(wire.AppendCloseStatement(nil, "")), 1}, unparsed, query("SELECT 1"), unparsed)
	add(conversation{wire.AppendQuery(named("", instant), "SELECT 2"), 2}, unparsed)
	add(conversation{wire.AppendSync(append(wire.AppendCloseStatement(nil, "kept"), unsynced("kept", "SELECT 'again'")...)), 1}, byName)
	add(query("PREPARE sql AS SELECT 5"), query("EXECUTE sql"), query("DEALLOCATE sql"))
	add(query("DISCARD ALL"), byName, unparsed)

	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "GRANT CREATE ON SCHEMA public TO trusty")
	direct, err := r.directLogin(t)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range script {
		if _, err := direct.nc.Write(c.msgs); err != nil {
			t.Fatal(err)
		}
		want = append(want, direct.heard(t, nil, c.syncs))
	}
	direct.wantQuery(t, "DROP TABLE kept_rows", "DROP TABLE I")
	p := r.serve(t, one)
	mine, other := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	failed := 0
	for i, c := range script {
		got := mine.heard(t, c.msgs, c.syncs)
		if got != want[i] {
			failed++
			t.Errorf("%d, %q: heard %q, want %q", i, c.msgs, got, want[i])
		}
		if failed > 10 {
			t.FailNow()
		}
		if n := len(got); n > 0 && got[n-1] == 'I' {
			other.wantHeard(t, named("", fmt.Sprintf("SELECT %d", i%12)), 1, fmt.Sprintf("%d SELECT 1 I", i%12))
		}
	}
}

// TestExecuteIsJudgedByTheCatalogOfItsTime: what was harmless the last time need not be so any more.
func TestExecuteIsJudgedByTheCatalogOfItsTime(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	boss, c, other := p.console(t, "boss"), p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	const replaced = "CREATE OR REPLACE FUNCTION judged() RETURNS int LANGUAGE plpgsql AS $$ BEGIN %s RETURN 1; END $$"
	other.wantQuery(t, fmt.Sprintf(replaced, ""), "CREATE FUNCTION I")
	c.wantQuery(t, "PREPARE j AS SELECT judged()", "PREPARE I")
	c.wantQuery(t, "EXECUTE j", "1 SELECT 1 I")
	c.wantQuery(t, "EXECUTE j", "1 SELECT 1 I")
	if _, rows := table(t, boss, "SHOW PINS"); len(rows) != 0 {
		t.Fatalf("pinned too early: %v", rows)
	}
	other.wantQuery(t, fmt.Sprintf(replaced, "PERFORM pg_advisory_lock(3);"), "CREATE FUNCTION I")
	c.wantQuery(t, "EXECUTE j", "1 SELECT 1 I")
	if _, rows := table(t, boss, "SHOW PINS"); len(rows) != 1 {
		t.Errorf("EXECUTE of what takes an advisory lock by now: pins are %v, want one", rows)
	}
}
