package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/shard"
)

// TestMillionRowsAreCopiedInPieces copies a table that is cut into ranges of blocks while it grows, is written to and is throttled, and deletes what was copied in many
// small transactions.
func TestMillionRowsAreCopiedInPieces(t *testing.T) {
	if testing.Short() {
		t.Skip("a million rows")
	}
	layout := Layout{Function: shard.Hash, Buckets: 64, Tables: []Wanted{{"", "accounts", []string{"id"}}}}
	p := newPair(t, "CREATE UNLOGGED TABLE accounts (id int8 PRIMARY KEY, balance int8, filler char(84))", layout)
	for _, s := range []*side{p.source, p.target} {
		s.exec("INSERT INTO accounts SELECT i, i, 'x' FROM generate_series(1, 1000000) i WHERE " + fmt.Sprint(s == p.source))
		s.exec("ALTER TABLE accounts SET LOGGED")
	}
	slot := p.prepare(p.forward())
	p.source.exec("UPDATE accounts SET balance = 0 WHERE id % 100 = 0; INSERT INTO accounts SELECT i, i, 'later' FROM generate_series(1000001, 1010000) i; DELETE FROM accounts WHERE id % 97 = 0")
	var throttled atomic.Int64
	c := &Copy{Source: p.source.Server, Target: p.target.Server, Tables: p.tables(p.source), Spans: p.spans, Snapshot: slot.Snapshot, Streams: 4, PieceBytes: 16 << 20,
		Throttle: func(_ context.Context, bytes int) error { throttled.Add(int64(bytes)); return nil },
		Finish: func(ctx context.Context, conn *pgconn.PgConn) error {
			_, err := query(ctx, conn, "CREATE TABLE public.finished AS SELECT count(*) AS n FROM public.accounts")
			return err
		}}
	pieces, err := c.pieces(contextFor(t))
	if err != nil || len(pieces) < 5 {
		t.Fatalf("%d pieces, %v", len(pieces), err)
	}
	must(t, c.Run(contextFor(t)))
	want := p.value(t, "SELECT count(*) FROM generate_series(1, 1000000) i, LATERAL (SELECT i::int8 AS id) q")
	done := c.Progress()
	if got := p.target.value("SELECT count(*) || ' ' || (SELECT n FROM finished) || ' ' || count(*) FILTER (WHERE balance = id AND id <= 1000000) FROM accounts"); got != fmt.Sprintf("%[1]s %[1]s %[1]s", want) {
		t.Errorf("count, count at the end and unchanged rows are %s, want %s each", got, want)
	}
	if fmt.Sprint(done.Rows) != want || done.Bytes < done.Rows*80 || done.Bytes != throttled.Load() || done.ExpectedBytes < 20<<20 {
		t.Errorf("progress %+v, want %s rows; %d throttled", done, want, throttled.Load())
	}
	a, _, hopeless := run(t, p.forward())
	settled(t, a, hopeless)
	if found, err := p.verify(a.Barrier).Run(contextFor(t)); err != nil || len(found) > 0 {
		t.Errorf("verify: %v, %v", found, err)
	}
	calls := 0
	n, err := DeleteBuckets(contextFor(t), p.target.Server, p.tables(p.target), p.spans, func(context.Context, int64) error { calls++; return nil })
	must(t, err)
	if left := p.target.value("SELECT count(*) FROM accounts"); left != "0" || n == 0 || calls < 5 {
		t.Errorf("%d rows deleted in %d transactions, %s left", n, calls, left)
	}
}

// value asks the source about a set that has a column id, in the buckets that are moved.
func (p *pair) value(t *testing.T, sql string) string {
	t.Helper()
	return p.source.value(sql + " WHERE " + inSpans(p.tables(p.source)[0].Key.Expression("q"), p.spans))
}

func TestCopyThatFailsLeavesNothingHalf(t *testing.T) {
	layout := Layout{Function: shard.Hash, Buckets: 64, Tables: []Wanted{{"", "users", []string{"id"}}}}
	p := newPair(t, schemaSQL, layout)
	p.fill(2000)
	slot := p.prepare(p.forward())
	stop := errors.New("stop here")
	c := &Copy{Source: p.source.Server, Target: p.target.Server, Tables: p.tables(p.source), Spans: p.spans, Snapshot: slot.Snapshot, Streams: 1}
	c.Throttle = func(context.Context, int) error { return stop }
	if err := c.Run(contextFor(t)); !errors.Is(err, stop) {
		t.Errorf("throttle's error: %v", err)
	}
	if got := p.target.value("SELECT count(*) FROM users"); got != "0" {
		t.Errorf("%s rows of a piece that was broken off", got)
	}
	c.Throttle, c.Finish = nil, func(context.Context, *pgconn.PgConn) error { return stop }
	if err := c.Run(contextFor(t)); !errors.Is(err, stop) {
		t.Errorf("finish's error: %v", err)
	}
	if err := c.Run(contextFor(t)); err == nil || !strings.Contains(err.Error(), "users_pkey") {
		t.Errorf("a copy over rows that are there: %v", err)
	}
	ctx, cancel := context.WithCancel(contextFor(t))
	c.Throttle = func(context.Context, int) error { cancel(); return nil }
	if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	c.Throttle, c.Finish, c.Snapshot = nil, nil, "00000003-0000001B-1"
	if err := c.Run(contextFor(t)); err == nil || !strings.Contains(err.Error(), "take up snapshot") {
		t.Errorf("a snapshot that is gone: %v", err)
	}
}

// TestKeysOfEveryTypeAreMoved has a table for each type that keys may have, and one of several columns, under both functions.
func TestKeysOfEveryTypeAreMoved(t *testing.T) {
	values := map[string]string{
		"int2": "i", "int4": "i * 7919 - 100000", "int8": "i::int8 * 1000000007", "bool": "i % 2 = 0", "text": "'key ' || i", "varchar(20)": "'v' || i", "bpchar": "'b' || i", "char(12)": "'c' || i",
		"uuid": "md5(i::text)::uuid", "bytea": "decode(md5(i::text), 'hex')", "date": "'2000-01-01'::date + i", "timestamp": "'2000-01-01'::timestamp + i * interval '1 hour'",
		"timestamptz": "'2000-01-01'::timestamptz + i * interval '1 hour'", "numeric": "i / 3.0", "numeric(10,2)": "i / 4.0",
	}
	for _, function := range []shard.Function{shard.Hash, shard.Modulo} {
		layout := Layout{Function: function, Buckets: 64}
		schema, fill, change := "", "", ""
		i := 0
		for _, name := range []string{"int2", "int4", "int8", "bool", "text", "varchar(20)", "bpchar", "char(12)", "uuid", "bytea", "date", "timestamp", "timestamptz", "numeric", "numeric(10,2)"} {
			if function == shard.Modulo && !strings.HasPrefix(name, "int") {
				continue
			}
			i++
			table := fmt.Sprintf("t%d", i)
			// A key column in quotes, a key of several columns, a primary key in another order.
			schema += fmt.Sprintf(`CREATE TABLE %[1]s ("The Key" %[2]s, n int, v text, PRIMARY KEY (n, "The Key"));`, table, name)
			fill += fmt.Sprintf(`INSERT INTO %[1]s SELECT %[2]s, i, 'v' FROM generate_series(1, 300) i;`, table, values[name])
			change += fmt.Sprintf(`UPDATE %[1]s SET v = v || n WHERE n %% 3 = 0; DELETE FROM %[1]s WHERE n %% 5 = 0; UPDATE %[1]s SET n = n + 1000 WHERE n %% 7 = 0;
UPDATE %[1]s SET "The Key" = (SELECT "The Key" FROM %[1]s ORDER BY n LIMIT 1) WHERE n %% 11 = 0; INSERT INTO %[1]s SELECT %[2]s, i, NULL FROM generate_series(301, 350) i;`, table, values[name])
			key := []string{"The Key"}
			if function == shard.Hash && i%2 == 0 {
				key = append(key, "n")
			}
			layout.Tables = append(layout.Tables, Wanted{"public", table, key})
		}
		t.Run(function.String(), func(t *testing.T) {
			p := newPair(t, schema, layout)
			p.source.exec(fill)
			if problems := Problems(layout, p.tables(p.source), p.tables(p.target)); problems != nil {
				t.Fatal(problems)
			}
			p.copy(p.prepare(p.forward()))
			p.same()
			p.source.exec(change)
			a, _, hopeless := run(t, p.forward())
			settled(t, a, hopeless)
			p.same()
			if found, err := p.verify(nil).Run(contextFor(t)); err != nil || len(found) > 0 {
				t.Errorf("verify: %v, %v", found, err)
			}
			for _, table := range p.tables(p.target) {
				all := p.target.value("SELECT count(*) FROM " + table.sql())
				if n, err := Count(contextFor(t), p.target.Server, table, p.spans); err != nil || fmt.Sprint(n) != all || n == 0 && table.Key.Columns()[0].Type != shard.Bool {
					t.Errorf("table %s has %s rows, %d of them in the buckets that were moved, %v", table, all, n, err)
				}
			}
		})
	}
}

// TestDeleteEndsCopiesThatAreUnderWay has a copy whose last commit is still to come when its rows are deleted.
func TestDeleteEndsCopiesThatAreUnderWay(t *testing.T) {
	layout := Layout{Function: shard.Hash, Buckets: 64, Tables: []Wanted{{"", "users", []string{"id"}}}}
	p := newPair(t, schemaSQL, layout)
	p.fill(200)
	slot := p.prepare(p.forward())
	finishing, release := make(chan struct{}), make(chan struct{})
	c := &Copy{Source: p.source.Server, Target: p.target.Server, Tables: p.tables(p.source), Spans: p.spans, Snapshot: slot.Snapshot,
		Finish: func(ctx context.Context, conn *pgconn.PgConn) error {
			_, err := query(ctx, conn, "CREATE TABLE public.late ()")
			close(finishing)
			<-release
			return err
		}}
	copied := make(chan error, 1)
	go func() { copied <- c.Run(contextFor(t)) }() // ends when it is released
	<-finishing
	// Another move of the same server goes on.
	other, err := p.target.connectWriter(contextFor(t))
	must(t, err)
	defer hangUp(other)
	must(t, claim(contextFor(t), other, claimKey(c.Tables, p.spans[:1])))
	n, err := DeleteBuckets(contextFor(t), p.target.Server, p.tables(p.target), p.spans, nil)
	close(release)
	if err != nil || n == 0 {
		t.Errorf("%d rows deleted, %v", n, err)
	}
	if err := <-copied; err == nil {
		t.Error("the copy has committed behind the deletion")
	}
	if got := p.target.value("SELECT to_regclass('late') IS NULL AND NOT EXISTS (SELECT FROM users)"); got != "t" {
		t.Error("something of the copy is there")
	}
	if _, err := query(contextFor(t), other, "SELECT 1"); err != nil {
		t.Errorf("the other move: %v", err)
	}
}
