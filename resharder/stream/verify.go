package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/shard"
)

const (
	// chunkRows is how many rows a chunk is meant to have, chunksMost how many chunks a table is cut into: each takes some 100 bytes here.
	chunkRows  = 256
	chunksMost = 1 << 18
	// rowBytes is taken for the size of a row of which the planner knows nothing.
	rowBytes = 100
	// strikes is how often a part must differ, unchanged at the source meanwhile, to be wrong.
	strikes = 3
	// chunkRounds and rowRounds are how often parts are looked at that differ; what clients write all the time is left then.
	chunkRounds = 3
	rowRounds   = 10
	// listedMost is how many chunks are looked at row by row at once: a million rows.
	listedMost = 1 << 20 / chunkRows
	// keysMost is how many rows a Difference names, keyText how much of each.
	keysMost = 5
	keyText  = 200
)

// Verify compares the rows of two servers. Fill its fields, then Run it.
//
// A row is what its columns are as text, in the order of their names, with the same settings on both sides. The rows of a bucket fall into chunks by
// their identity; of each chunk, count, sum and xor of the rows' hashes are compared, which takes one scan of a table on each side. While clients write, a chunk
// that differs may be one that was written in between: it is looked at on the source, on the target behind a marker, and on the source again. Where the source is the same
// both times and the target is not, three times, it is wrong; row by row where chunks do not come to rest.
type Verify struct {
	Source, Target Server
	// Tables are the source's; those without a key are compared whole.
	Tables []*Table
	Spans  []shard.Span
	// Barrier is the Applier's while clients write; nil when nothing is written on either side and all is applied.
	Barrier func(ctx context.Context) error
	// Unsettled is how many rows Run has left undecided, because clients wrote to them whenever it looked.
	Unsettled int
}

// Difference is a part of a table that is not the same on both sides.
type Difference struct {
	Table  string
	Bucket int // -1 in a reference table
	Chunk  int
	// Rows is how many differ, Keys are some of them, by their identity as text.
	Rows int
	Keys []string
}

// String says where it is.
func (d Difference) String() string {
	return fmt.Sprintf("table %s, bucket %d, chunk %d: %d rows differ, among them %s", d.Table, d.Bucket, d.Chunk, d.Rows, strings.Join(d.Keys, ", "))
}

// Run compares, and returns what is wrong.
func (v *Verify) Run(ctx context.Context) ([]Difference, error) {
	source, err := v.Source.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	defer hangUp(source)
	target, err := v.Target.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	defer hangUp(target)
	v.Unsettled = 0
	var differences []Difference
	for _, t := range v.Tables {
		c := newComparison(v, t, source, target)
		found, err := c.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("verify table %s: %w", t, err)
		}
		differences = append(differences, found...)
	}
	return differences, nil
}

// comparison is that of one table.
type comparison struct {
	v              *Verify
	table          *Table
	source, target *pgconn.PgConn
	chunks         int64 // of a bucket
	row, key       string
}

// part is a chunk of a bucket, or one row of it: then number is the hash of its identity.
type part struct{ bucket, number int64 }

// digest is what is compared of a part. The zero value is that of no rows.
type digest struct {
	count    int64
	xor, sum string
}

func newComparison(v *Verify, t *Table, source, target *pgconn.PgConn) *comparison {
	c := &comparison{v: v, table: t, source: source, target: target}
	names, identity := []string{}, []string{}
	for _, column := range t.Columns {
		names = append(names, column.Name)
		if column.InPrimary || column.InIdentity && t.Identity != IdentityFull {
			identity = append(identity, identifier(column.Name))
		}
	}
	names = append(names, t.generated...)
	slices.Sort(names)
	for i, n := range names {
		names[i] = identifier(n)
	}
	if len(identity) == 0 {
		identity = names
	}
	slices.Sort(identity)
	c.row = "ROW(" + strings.Join(names, ", ") + ")::text COLLATE \"C\""
	c.key = "ROW(" + strings.Join(identity, ", ") + ")::text COLLATE \"C\""
	rows, buckets := max(t.Rows, t.Bytes/rowBytes), int64(1)
	if t.Key != nil {
		buckets = 0
		for _, s := range v.Spans {
			buckets += int64(s.Last) - int64(s.First) + 1
		}
		rows = share(rows, v.Spans, t.Key.Buckets())
	}
	c.chunks = 1
	for c.chunks*buckets*chunkRows < rows && c.chunks*buckets*2 <= chunksMost {
		c.chunks *= 2
	}
	return c
}

// run compares the chunks once, and then those that differ.
func (c *comparison) run(ctx context.Context) ([]Difference, error) {
	s, d, err := c.both(ctx)
	if err != nil {
		return nil, err
	}
	suspects := map[part]int{}
	for p := range union(s, d) {
		if s[p] != d[p] {
			suspects[p] = 0
		}
	}
	if c.v.Barrier != nil && len(suspects) > 0 {
		wrong, err := c.settle(ctx, suspects, chunkRounds, func() string { return c.digests(false, slices.Collect(maps.Keys(suspects))) })
		if err != nil {
			return nil, err
		}
		for _, p := range wrong {
			suspects[p] = 0
		}
	}
	var found []Difference
	left := slices.SortedFunc(maps.Keys(suspects), comparePart)
	for some := range slices.Chunk(left, listedMost) {
		differences, err := c.rows(ctx, some)
		if err != nil {
			return nil, err
		}
		found = append(found, differences...)
	}
	return found, nil
}

func comparePart(a, b part) int {
	return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.number, b.number))
}

// rows looks at chunks row by row.
func (c *comparison) rows(ctx context.Context, chunks []part) ([]Difference, error) {
	ask := c.digests(true, chunks)
	look, err := c.look(ctx, ask)
	if err != nil {
		return nil, err
	}
	suspects := map[part]int{}
	for p := range union(look[0], look[1], look[2]) {
		if look[1][p] != look[0][p] && look[1][p] != look[2][p] {
			suspects[p] = 0
		}
	}
	var wrong []part
	if c.v.Barrier == nil {
		wrong = slices.Collect(maps.Keys(suspects))
	} else {
		wrong, err = c.settle(ctx, suspects, rowRounds, func() string { return ask })
		if err != nil {
			return nil, err
		}
		c.v.Unsettled += len(suspects)
	}
	return c.differences(ctx, wrong)
}

// settle looks at the suspects again until each is the same once, wrong, or has been looked at often enough. What is undecided stays in the map.
func (c *comparison) settle(ctx context.Context, suspects map[part]int, rounds int, ask func() string) (wrong []part, err error) {
	for round := 0; round < rounds && len(suspects) > 0; round++ {
		look, err := c.look(ctx, ask())
		if err != nil {
			return nil, err
		}
		for p, struck := range suspects {
			switch before, there, after := look[0][p], look[1][p], look[2][p]; {
			case there == before || there == after:
				delete(suspects, p)
			case before != after:
			case struck+1 < strikes:
				suspects[p] = struck + 1
			default:
				delete(suspects, p)
				wrong = append(wrong, p)
			}
		}
	}
	return wrong, nil
}

// both asks both sides at once for all chunks.
func (c *comparison) both(ctx context.Context) (s, d map[part]digest, err error) {
	sql := c.digests(false, nil)
	var targetErr error
	done := make(chan struct{})
	go func() { // ends with the answer; it is waited for below
		defer close(done)
		d, targetErr = c.ask(ctx, c.v.Target.Name, c.target, sql)
	}()
	s, err = c.ask(ctx, c.v.Source.Name, c.source, sql)
	<-done
	return s, d, errors.Join(err, targetErr)
}

// look asks the source, the target once it has all that the source had, and the source again.
func (c *comparison) look(ctx context.Context, sql string) (look [3]map[part]digest, err error) {
	if look[0], err = c.ask(ctx, c.v.Source.Name, c.source, sql); err != nil {
		return look, err
	}
	if c.v.Barrier != nil {
		if err := c.v.Barrier(ctx); err != nil {
			return look, err
		}
	}
	if look[1], err = c.ask(ctx, c.v.Target.Name, c.target, sql); err != nil {
		return look, err
	}
	if look[2] = look[0]; c.v.Barrier == nil {
		return look, nil
	}
	look[2], err = c.ask(ctx, c.v.Source.Name, c.source, sql)
	return look, err
}

// digests is SQL for the digests of chunks, or of each row of them; nil is all.
func (c *comparison) digests(rows bool, chunks []part) string {
	number := "key & " + strconv.FormatInt(c.chunks-1, 10)
	if rows {
		number = "key"
	}
	return "SELECT bucket, " + number + ", count(*), bit_xor(row), sum(row) FROM (" + c.hashes("", chunks) + ") q GROUP BY 1, 2"
}

// hashes is SQL for bucket, hash of the identity and hash of each row of the chunks, and what else is asked for.
func (c *comparison) hashes(more string, chunks []part) string {
	bucket := "0::int8"
	if c.table.Key != nil {
		bucket = "(" + c.table.Key.Expression("") + ")"
	}
	p := piece{table: c.table}
	sql := "SELECT " + bucket + " AS bucket, hashtextextended(" + c.key + ", 0) AS key, hashtextextended(" + c.row + ", 0) AS row" + more +
		" FROM " + c.table.sql() + " WHERE " + p.where(c.v.Spans)
	if chunks == nil {
		return sql
	}
	list := make([]string, len(chunks))
	for i, p := range chunks {
		list[i] = strconv.FormatInt(p.bucket*c.chunks+p.number, 10)
	}
	return fmt.Sprintf("SELECT * FROM (%s) h WHERE bucket * %d + (key & %d) = ANY ('{%s}'::int8[])", sql, c.chunks, c.chunks-1, strings.Join(list, ","))
}

// ask reads digests.
func (c *comparison) ask(ctx context.Context, name string, conn *pgconn.PgConn, sql string) (map[part]digest, error) {
	digests := map[part]digest{}
	result := conn.ExecParams(ctx, sql, nil, nil, nil, nil)
	var failed error
	for result.NextRow() {
		r := result.Values()
		bucket, err1 := strconv.ParseInt(string(r[0]), 10, 64)
		number, err2 := strconv.ParseInt(string(r[1]), 10, 64)
		count, err3 := strconv.ParseInt(string(r[2]), 10, 64)
		failed = errors.Join(failed, err1, err2, err3)
		if failed == nil {
			digests[part{bucket, number}] = digest{count, string(r[3]), string(r[4])}
		}
	}
	if _, err := result.Close(); err != nil {
		failed = err
	}
	if failed != nil {
		return nil, fmt.Errorf("%s: %w", name, failed)
	}
	return digests, nil
}

// differences names rows that are wrong, by chunks.
func (c *comparison) differences(ctx context.Context, wrong []part) ([]Difference, error) {
	byChunk := map[part]*Difference{}
	var chunks []part
	keys := make([]string, 0, len(wrong))
	for _, p := range wrong {
		at := part{p.bucket, p.number & (c.chunks - 1)}
		d := byChunk[at]
		if d == nil {
			d = &Difference{Table: c.table.String(), Bucket: int(at.bucket), Chunk: int(at.number)}
			if c.table.Key == nil {
				d.Bucket = -1
			}
			byChunk[at] = d
			chunks = append(chunks, at)
		}
		if d.Rows++; d.Rows <= keysMost {
			keys = append(keys, strconv.FormatInt(p.number, 10))
		}
	}
	if len(wrong) == 0 {
		return nil, nil
	}
	sql := fmt.Sprintf("SELECT DISTINCT bucket, key & %d, left(name, %d) FROM (%s) q WHERE key = ANY ('{%s}'::int8[]) ORDER BY 3",
		c.chunks-1, keyText, c.hashes(", "+c.key+" AS name", chunks), strings.Join(keys, ","))
	for _, conn := range []*pgconn.PgConn{c.source, c.target} {
		rows, err := query(ctx, conn, sql)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			bucket, _ := strconv.ParseInt(string(r[0]), 10, 64) // bigints of the server
			number, _ := strconv.ParseInt(string(r[1]), 10, 64)
			if d, name := byChunk[part{bucket, number}], string(r[2]); d != nil && !slices.Contains(d.Keys, name) && len(d.Keys) < keysMost {
				d.Keys = append(d.Keys, name)
			}
		}
	}
	slices.SortFunc(chunks, comparePart)
	found := make([]Difference, len(chunks))
	for i, at := range chunks {
		found[i] = *byChunk[at]
	}
	return found, nil
}

// union are the parts of all.
func union(all ...map[part]digest) map[part]bool {
	parts := map[part]bool{}
	for _, m := range all {
		for p := range m {
			parts[p] = true
		}
	}
	return parts
}
