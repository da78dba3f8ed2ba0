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
