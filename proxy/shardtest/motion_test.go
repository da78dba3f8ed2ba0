package shardtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/configs"
	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// move is a range of buckets whose rows stand on another shard than their owner's, too.
type move struct {
	shard.Span
	owner, other int
}

// moves are those of the tests: s0 and s1 are being filled with buckets that they do not own yet, s2 still has some that s0 has won of it.
var moves = []move{
	{shard.Span{First: 341, Last: 600}, 1, 0},
	{shard.Span{First: 700, Last: 1000}, 2, 1},
	{shard.Span{First: 0, Last: 100}, 0, 2},
	{shard.Span{First: 110, Last: 150}, 0, 2},
	{shard.Span{First: 160, Last: 300}, 0, 2},
}

// foreign is SQL of what is true of rows of t on a shard that stand there because they move, and are another's.
func (r *rig) foreign(shard int, t *table) string {
	condition := "false"
	for _, m := range r.moves {
		if m.other == shard && t.place == sharded {
			condition += fmt.Sprintf(" OR %s BETWEEN %d AND %d", t.bucket(), m.First, m.Last)
		}
	}
	return condition
}

// fill has rows of the buckets that move stand on other shards too, until the test ends: not all of them, so that what is there does not fit together.
func (r *rig) fill(t *testing.T) {
	t.Helper()
	before := make([]map[string][]byte, shardCount)
	for i := range before {
		before[i] = map[string][]byte{}
		for name, rows := range r.loads[i].rows {
			before[i][name] = rows
		}
	}
	t.Cleanup(func() {
		r.moves = nil
		for i := range before {
			r.loads[i].rows = before[i]
		}
		r.restore(t, false)
	})
	r.moves = moves
	for i := range shardCount {
		for _, table := range tables() {
			var rows bytes.Buffer
			if _, err := r.loads[shardCount].conn.CopyTo(t.Context(), &rows, fmt.Sprintf("COPY (SELECT * FROM %s "+whole+" WHERE (%s) AND hashtext(%s::text) %% 7 <> 0) TO STDOUT",
				table.name, r.foreign(i, &table), whole)); err != nil {
				t.Fatal(err)
			}
			r.loads[i].rows[table.name] = append(bytes.Clone(before[i][table.name]), rows.Bytes()...)
		}
	}
	r.restore(t, false)
}

// querier asks over a connection.
type querier struct{ conn *pgconn.PgConn }

func (q querier) Query(ctx context.Context, sql string, visit func([][]byte) error) error {
	results, err := q.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return err
	}
	for _, row := range results[len(results)-1].Rows {
		if err := visit(row); err != nil {
			return err
		}
	}
	return nil
}

// announce has the proxies act by a motion, and those after the test by none.
func (r *rig) announce(t *testing.T, motion shardmap.Motion) {
	t.Helper()
	config, err := configs.Parse("shardtest", []byte(r.configuration()), nil)
	if err != nil {
		t.Fatal(err)
	}
	app := config.Proxy.Databases[database]
	mapped, err := app.MapConfig(database, "shardtest")
	if err != nil {
		t.Fatal(err)
	}
	shards := map[shard.Name]shardmap.Querier{}
	for i, name := range mapped.Shards {
		shards[name] = querier{dial(t, r.shards[i], database)}
	}
	mover := shardmap.NewMover(mapped, querier{dial(t, r.shards[0], database)}, shards)
	change := func(ctx context.Context, motion shardmap.Motion) (int64, error) {
		from, err := mover.Read(ctx)
		if err != nil {
			return 0, err
		}
		next := *from
		next.Motion = motion
		now, err := mover.Change(ctx, from, &next)
		if err != nil {
			return 0, err
		}
		return now.Motion.Number, nil
	}
	ctx, stop := context.WithTimeout(t.Context(), stepLimit)
	defer stop()
	number, err := change(ctx, motion)
	if err == nil {
		err = mover.Await(ctx, number)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), stepLimit)
		defer stop()
		if _, err := change(ctx, shardmap.Motion{}); err != nil {
			t.Error(err)
		}
	})
}

// moving has buckets move: their rows stand on two shards, and the proxy knows it.
func (r *rig) moving(t *testing.T) *client {
	t.Helper()
	url := r.serve(t)
	sharded, err := connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sharded.close)
	r.fill(t)
	motion := shardmap.Motion{}
	for _, m := range moves {
		motion.Moving = append(motion.Moving, m.Span)
	}
	motion.Moving = shard.SpansOf(bucketsOf(motion.Moving)...)
	r.announce(t, motion)
	return sharded
}

func bucketsOf(spans []shard.Span) (list []shard.Bucket) {
	for _, s := range spans {
		for b := int(s.First); b <= int(s.Last); b++ {
			list = append(list, shard.Bucket(b))
		}
	}
	return list
}

// foreignPrint is what stands on the shards of rows that are not theirs.
func (r *rig) foreignPrint(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for i := range shardCount {
		for _, table := range tables() {
			rows := r.loads[i].conn.ExecParams(t.Context(), fmt.Sprintf("SELECT '%s', count(*), coalesce(sum(hashtextextended(%s::text, 0)::numeric), 0) FROM %s "+whole+" WHERE %s",
				table.name, whole, table.name, r.foreign(i, &table)), nil, nil, nil, nil).Read()
			if rows.Err != nil {
				t.Fatal(rows.Err)
			}
			fmt.Fprintf(&text, "%d %s\n", i, rows.Rows[0])
		}
	}
	return text.String()
}

// writeSharded is a write of anything but a row of a reference table that others may refer to: in a real move the rows of moving buckets follow their owner's, and here they keep what they refer
// to for ever.
func writeSharded(g *generator) *statement {
	s := g.write()
	for _, table := range tables() {
		if table.place == reference && (strings.Contains(s.sql, "DELETE FROM "+table.name) || strings.Contains(s.sql, "UPDATE "+table.name)) {
			return &statement{kind: "random plain", sql: "SELECT 1"}
		}
	}
	return s
}

// TestShardsAnswerAsOneServerWhileBucketsMove runs the corpus and generated statements as TestShardsAnswerAsOneServer does, with rows on two shards.
func TestShardsAnswerAsOneServerWhileBucketsMove(t *testing.T) {
	r, seed := newRig(t), seedOf(t)
	p := newPair(t, r, r.moving(t))
	defer p.tally.report(t)
	p.runCorpus(t, simpleText, prepared)
	r.restore(t, false)
	before := r.foreignPrint(t)
	limit := secondsOf(t, 6)
	began := time.Now()
	p.runRandom(t, seed, began.Add(limit/2), (*generator).read, false)
	p.runRandom(t, seed, began.Add(limit), writeSharded, true)
	if after := r.foreignPrint(t); after != before {
		t.Errorf("rows have changed on shards that do not own them: %s\nbefore: %s", after, before)
	}
}
