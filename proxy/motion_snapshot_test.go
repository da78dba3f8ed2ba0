package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/shard"
)

// TestSnapshotsOlderThanAMove has transactions take their snapshot, at the old owner or at the new one, before a bucket moves: whoever then comes to its
// rows is told to begin again, for at the old owner they are gone and at the new one the snapshot does not have them. What reads each statement's
// own moment, other buckets, or has no snapshot yet, goes on.
func TestSnapshotsOlderThanAMove(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	const (
		strict     = "BEGIN ISOLATION LEVEL REPEATABLE READ"
		readA      = "SELECT balance FROM accounts WHERE id = {a}"
		readB      = "SELECT balance FROM accounts WHERE id = {b}"
		writeA     = "UPDATE accounts SET balance = balance WHERE id = {a}"
		wide       = "SELECT count(*) FROM accounts"
		serialized = "E:40001"
	)
	query := func(sql string) []byte { return wire.AppendQuery(nil, sql) }
	extended := func(sql string) []byte { return wire.AppendSync(unsynced("", sql)) }
	cases := []struct {
		name   string
		before []string
		after  string
		as     func(string) []byte
		want   string // what the client hears in it; "" no error
	}{
		{"at the old owner", []string{strict, readA}, readA, query, serialized},
		{"at the old owner, a write", []string{strict, readA}, writeA, query, serialized},
		{"at the old owner, extended", []string{strict, readA}, readA, extended, serialized},
		{"at the new owner", []string{strict, readB}, readA, query, serialized},
		{"at the new owner, extended", []string{strict, readB}, readA, extended, serialized},
		{"at the new owner, a write", []string{strict, readB}, writeA, query, serialized},
		{"at the new owner, in one text", []string{strict, readB}, readB + "; " + readA, query, serialized},
		{"at the old owner, with a savepoint", []string{strict, "SAVEPOINT a", readA}, readA, query, serialized},
		{"SERIALIZABLE", []string{"BEGIN ISOLATION LEVEL SERIALIZABLE", readB}, readA, query, serialized},
		{"SERIALIZABLE by SET TRANSACTION", []string{"BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", readA}, readA, query, serialized},
		{"by default", []string{"SET default_transaction_isolation = 'repeatable read'", "BEGIN", readB}, readA, query, serialized},
		{"behind AND CHAIN", []string{strict, readB, "COMMIT AND CHAIN", readB}, readA, query, serialized},
		{"behind a write", []string{strict, "UPDATE accounts SET balance = balance WHERE id = {b}"}, readA, query, serialized},
		{"of several shards", []string{strict, readB}, wide, query, serialized},
		{"another bucket", []string{strict, readB}, readB, query, ""},
		{"only begun", []string{strict}, readA, query, ""},
		{"chained", []string{strict, readB}, "COMMIT AND CHAIN", query, ""},
		{"READ COMMITTED at the new owner", []string{"BEGIN", readB}, readA, query, ""},
		{"READ COMMITTED at the new owner, extended", []string{"BEGIN", readB}, readA, extended, ""},
		{"READ COMMITTED at the old owner", []string{"BEGIN", readA}, readA, query, ""},
		{"READ COMMITTED over several shards", []string{"BEGIN", wide}, readA, query, ""},
		{"no transaction", []string{readB}, readA, query, ""},
	}
	ids := s.ids(t)
	hear := func(c *rawClient, sent []byte) string {
		t.Helper()
		c.write(t, sent)
		heard, err := c.told(limit)
		if err != nil {
			t.Fatalf("%v behind %s", err, heard)
		}
		return heard
	}
	clients := make([]*rawClient, len(cases))
	for i, tc := range cases {
		clients[i] = p.rawDial(t, wire.Protocol30)
		for _, sql := range tc.before {
			if heard := hear(clients[i], query(ids.Replace(sql))); strings.Contains(heard, "E:") {
				t.Fatalf("%s: %s: %s", tc.name, sql, heard)
			}
		}
	}
	piped := p.rawDial(t, wire.Protocol30) // its next statement comes while the request is under way
	hear(piped, query(strict))
	piped.write(t, append(unsynced("", ids.Replace(readB)), 'H', 0, 0, 0, 4))
	for kind := byte(0); kind != wire.MsgCommandComplete; {
		var err error
		if kind, _, err = piped.message(); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := s.apart(t)
	m.moves(a, 0, 1)
	for i, tc := range cases {
		c := clients[i]
		heard := hear(c, tc.as(ids.Replace(tc.after)))
		if tc.want == "" && strings.Contains(heard, "E:") || !strings.Contains(heard, tc.want) {
			t.Errorf("%s: heard %s, want %q", tc.name, heard, tc.want)
		}
		if tc.want == "" && tc.after == readA && !strings.Contains(heard, "D:") {
			t.Errorf("%s: no row is found: %s", tc.name, heard)
		}
		switch {
		case tc.name == "chained": // what follows has a snapshot of its own
		case tc.want != "":
			if heard := hear(c, query("SELECT 1")); !strings.Contains(heard, "E:25P02") {
				t.Errorf("%s: the transaction goes on: %s", tc.name, heard)
			}
			hear(c, query("ROLLBACK AND CHAIN")) // to try again
		default:
			hear(c, query("ROLLBACK"))
		}
		if heard := hear(c, query(ids.Replace(readA))); !strings.Contains(heard, "D:") {
			t.Errorf("%s: afterwards heard %s", tc.name, heard)
		}
	}
	piped.write(t, wire.AppendSync(unsynced("", ids.Replace(readA))))
	if heard, err := piped.told(limit); !strings.Contains(heard, serialized) {
		t.Errorf("in a pipeline: heard %s, %v", heard, err)
	}
}

// TestImportedSnapshotsOlderThanAMove has transactions import a snapshot that is older than a move: before it, and they are told to begin again when they come to what has moved, and after it,
// which is refused.
func TestImportedSnapshotsOlderThanAMove(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, b := s.apart(t) // on s0 and on s1
	balance := func(id int) string { return fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", id) }
	exporter, err := pgx.Connect(bounded(t), s.cluster.Shards[1].Manager.URL(s.database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exporter.Close(context.Background()) })
	mustExec(t, exporter, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	var snapshot string
	if err := exporter.QueryRow(bounded(t), "SELECT pg_export_snapshot()").Scan(&snapshot); err != nil {
		t.Fatal(err)
	}
	set := "SET TRANSACTION SNAPSHOT '" + snapshot + "'"
	before, after, text := p.client(t), p.client(t), p.client(t)
	for _, c := range []*pgx.Conn{before, after} {
		mustExec(t, c, "SET pgtier.shard = 's1'")
		wantValue(t, c, balance(b), "100") // a snapshot is one server's
	}
	mustExec(t, before, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	mustExec(t, before, set)
	wantValue(t, before, balance(b), "100")
	m.moves(a, 0, 1)
	_, err = before.Exec(bounded(t), balance(a))
	wantError(t, err, "40001", "rows of this transaction have moved to another shard")
	mustExec(t, before, "ROLLBACK")

	mustExec(t, after, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	_, err = after.Exec(bounded(t), set)
	wantError(t, err, "0A000", "SET TRANSACTION SNAPSHOT is not supported once buckets have moved")
	mustExec(t, after, "ROLLBACK")
	_, err = text.Exec(bounded(t), "BEGIN ISOLATION LEVEL REPEATABLE READ; "+set+"; "+balance(a)+"; COMMIT", pgx.QueryExecModeSimpleProtocol)
	wantError(t, err, "0A000", "SET TRANSACTION SNAPSHOT is not supported once buckets have moved")
	wantValue(t, text, balance(a), "100")
}

// moves moves the bucket of an account, with its rows.
func (m *moving) moves(id, from, to int) {
	m.t.Helper()
	bucket := m.bucket(id)
	span := []shard.Span{{First: bucket, Last: bucket}}
	m.change(shardmap.Motion{Moving: span, Held: span, Near: true})
	m.carry(from, to, "accounts", []shard.Bucket{bucket})
	m.give(shard.Name(fmt.Sprintf("s%d", to)), shardmap.Motion{}, bucket)
}
