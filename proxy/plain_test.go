package proxy_test

import (
	"fmt"
	"testing"

	"pgtier/proxy/wire"
)

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
