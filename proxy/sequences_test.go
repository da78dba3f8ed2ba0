package proxy_test

import (
	"slices"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
)

// TestLastvalIsTheSessionsOwn advances a sequence in each way that a client has, on the only connection: lastval tells that session its value, and another that it has none.
func TestLastvalIsTheSessionsOwn(t *testing.T) {
	t.Parallel()
	const next = "SELECT nextval('numbers')"
	extended := unsynced("", next)
	for name, tc := range map[string]struct {
		requests [][]byte
		behind   bool // the last of them is not told by ReadyForQuery: a Flush is at its end
	}{
		"Query":                     {requests: [][]byte{wire.AppendQuery(nil, next)}},
		"Query in a transaction":    {requests: [][]byte{wire.AppendQuery(nil, "BEGIN"), wire.AppendQuery(nil, next), wire.AppendQuery(nil, "COMMIT")}},
		"Sync":                      {requests: [][]byte{wire.AppendSync(extended)}},
		"two statements and a Sync": {requests: [][]byte{wire.AppendSync(append(unsynced("", "SELECT 1"), extended...))}},
		"EXECUTE":                   {requests: [][]byte{wire.AppendQuery(nil, "PREPARE s AS "+next), wire.AppendQuery(nil, "EXECUTE s")}},
		"an argument of EXECUTE":    {requests: [][]byte{wire.AppendQuery(nil, "PREPARE s AS SELECT $1::bigint"), wire.AppendQuery(nil, "EXECUTE s(nextval('numbers'))")}},
		"Flush":                     {requests: [][]byte{append(slices.Clone(extended), wire.MsgFlush, 0, 0, 0, 4)}, behind: true},
		"a serial column":           {requests: [][]byte{wire.AppendQuery(nil, "INSERT INTO numbered (v) VALUES (1)")}},
	} {
		for _, own := range []bool{true, false} {
			r := newRig(t)
			pgtest.Exec(t, r.manager, r.database, "CREATE SEQUENCE numbers START 77; CREATE TABLE numbered (id int DEFAULT nextval('numbers'), v int)")
			p := r.serve(t, one)
			p.readsCatalog(t)
			c := p.rawDial(t, wire.Protocol30)
			for i, request := range tc.requests {
				if tc.behind && i == len(tc.requests)-1 {
					c.write(t, request)
					if got, err := c.hear(4, limit); err != nil || len(got) < 4 {
						t.Fatalf("%s: heard %q, %v", name, got, err)
					}
					request = wire.AppendSync(nil)
				}
				if err := c.round(request); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if own {
				if got := c.heard(t, wire.AppendQuery(nil, "SELECT lastval()"), 1); got != "77 SELECT 1 I" {
					t.Errorf("%s: the session hears %q", name, got)
				}
				continue
			}
			other := p.rawDial(t, wire.Protocol30)
			if got := other.heard(t, wire.AppendQuery(nil, "SELECT lastval()"), 1); got != "!55000 I" {
				t.Errorf("%s: another session hears %q", name, got)
			}
		}
	}
}

// TestLastvalIsNobodyElses asks for it on the connection on which another session has advanced a sequence.
func TestLastvalIsNobodyElses(t *testing.T) {
	t.Parallel()
	for name, before := range map[string][]string{
		"at once":                              nil,
		"in a transaction":                     {"BEGIN", "SELECT 1"},
		"pinned":                               {"CREATE TEMP TABLE mine (v int)"},
		"pinned behind a write of no sequence": {"INSERT INTO plain VALUES (1)", "CREATE TEMP TABLE mine (v int)"},
	} {
		r := newRig(t)
		pgtest.Exec(t, r.manager, r.database, "CREATE TABLE numbered (id serial, v int); CREATE TABLE plain (v int)")
		p := r.serve(t, one)
		p.readsCatalog(t)
		mustExec(t, p.client(t), "INSERT INTO numbered (v) VALUES (1)")
		c := p.client(t)
		for _, sql := range before {
			mustExec(t, c, sql)
		}
		if got, err := value(c, "SELECT lastval()"); sqlstate(err) != "55000" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if err := c.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
		c = p.client(t)
		mustExec(t, c, "INSERT INTO numbered (v) VALUES (1)")
		wantValue(t, c, "SELECT lastval()", "2")
	}
}
