package tags

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/catalog"
)

// decoder reads the messages of pgoutput, as far as Changed needs them.
type decoder struct {
	t         *testing.T
	data      []byte
	relations map[uint32]*Change
}

func (d *decoder) take(n int) []byte {
	d.t.Helper()
	if n > len(d.data) {
		d.t.Fatalf("message ends early: %x", d.data)
	}
	out := d.data[:n]
	d.data = d.data[n:]
	return out
}

func (d *decoder) byte() byte    { return d.take(1)[0] }
func (d *decoder) int16() int    { return int(binary.BigEndian.Uint16(d.take(2))) }
func (d *decoder) int32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) string() string {
	s, _, _ := strings.Cut(string(d.data), "\x00")
	d.take(len(s) + 1)
	return s
}

func (d *decoder) tuple() (row []Datum) {
	for range d.int16() {
		c := Datum{Kind: d.byte()}
		if c.Kind == 't' {
			c.Text = d.take(int(d.int32()))
		}
		row = append(row, c)
	}
	return row
}

// changes are those of one message.
func (d *decoder) changes(message []byte) (list []*Change) {
	d.data = message
	change := func(kind byte) *Change {
		c := *d.relations[d.int32()]
		c.Kind = kind
		return &c
	}
	switch kind := d.byte(); kind {
	case 'R':
		id := d.int32()
		c := &Change{Schema: d.string(), Table: d.string()}
		d.byte()
		for range d.int16() {
			c.Identity = append(c.Identity, d.byte() == 1)
			c.Columns = append(c.Columns, d.string())
			d.take(8)
		}
		d.relations[id] = c
	case 'I', 'U', 'D':
		c := change(kind)
		for len(d.data) > 0 {
			switch which := d.byte(); which {
			case 'N':
				c.New = d.tuple()
			default:
				c.Old, c.Key = d.tuple(), which == 'K'
			}
		}
		list = append(list, c)
	case 'T':
		n := d.int32()
		d.byte()
		for range n {
			list = append(list, change('T'))
		}
	}
	return list
}

// decoded are the tags of what was committed since it was last asked.
func (d *decoder) decoded(conn *pgconn.PgConn, x *Index) (tags []Tag) {
	d.t.Helper()
	err := pgtest.NewQuerier(conn).Query(d.t.Context(), "SELECT data FROM pg_logical_slot_get_binary_changes('tags_'||current_database(), NULL, NULL, 'proto_version', '1', 'publication_names', 'tags')",
		func(fields [][]byte) error {
			message, err := hex.DecodeString(strings.TrimPrefix(string(fields[0]), `\x`))
			if err != nil {
				return err
			}
			for _, c := range d.changes(message) {
				tags = x.Changed(tags, c)
			}
			return nil
		})
	if err != nil {
		d.t.Fatal(err)
	}
	return tags
}

// TestDecodedChangesTouchWhatTheyChange commits writes and asks pgoutput what they did: where an answer differs, its tags must meet those of the changes.
func TestDecodedChangesTouchWhatTheyChange(t *testing.T) {
	seed := uint64(number(t, "PGTIER_TAGS_SEED", int(rand.Uint32())))
	t.Logf("PGTIER_TAGS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var sum tally
	for range number(t, "PGTIER_TAGS_ROUNDS", 2) {
		for _, identity := range []string{"", "ALTER TABLE orders REPLICA IDENTITY FULL; ALTER TABLE users REPLICA IDENTITY FULL; ALTER TABLE items REPLICA IDENTITY FULL;"} {
			decode(t, random, identity, &sum)
		}
	}
	t.Logf("%d pairs, %d answers changed; tags met in %d pairs, in %d of them for nothing", sum.pairs, sum.changed, sum.met, sum.idle)
	if sum.changed < 100 {
		t.Error("the test says nothing")
	}
}

// decode runs a part of the writes one behind the other, on a database of its own.
func decode(t *testing.T, random *rand.Rand, identity string, sum *tally) {
	conn := testDatabase(t, identity, "ALTER TABLE audit REPLICA IDENTITY FULL; ALTER TABLE dogs REPLICA IDENTITY FULL; CREATE PUBLICATION tags FOR ALL TABLES;")
	exec(t, conn, "SELECT pg_create_logical_replication_slot('tags_'||current_database(), 'pgoutput')")
	defer exec(t, conn, "SELECT pg_drop_replication_slot('tags_'||current_database())")
	x := testIndex(t, conn, catalog.Relations)
	d := &decoder{t: t, relations: map[uint32]*Change{}}
	cache := newCache()
	var reads []*statement
	for i, template := range mixed(t, random) {
		s := fill(random, cache, template, strings.Contains(template, ";"))
		if !strings.Contains(s.sql, "m_users") && s.prepare(t.Context(), random, conn, "r"+strconv.Itoa(i)) {
			reads = append(reads, s)
		}
	}
	before := ask(t, conn, x, reads)
	writes := lines(t, "testdata/writes.sql")
	random.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
	for i, template := range writes[:50] {
		w := fill(random, cache, template, strings.Contains(template, ";"))
		if strings.HasPrefix(template, "ALTER") || !w.prepare(t.Context(), random, conn, "w"+strconv.Itoa(i)) {
			continue
		}
		if _, err := w.run(t.Context(), conn); err != nil {
			sum.rejected++
			continue
		}
		touched := d.decoded(conn, x)
		after := ask(t, conn, x, reads)
		for _, r := range before {
			at := slices.IndexFunc(after, func(a asked) bool { return a.statement == r.statement })
			changed := at < 0 || after[at].answer != r.answer
			met := meet(r.tags, touched)
			sum.pairs++
			if met {
				sum.met++
			}
			if met && !changed {
				sum.idle++
			}
			if changed {
				sum.changed++
				if !met {
					t.Errorf("read  %s\nwrite %s\nbefore:\n%s\nafter: %v", r.statement, w, r.answer, after[max(at, 0)].answer)
				}
			}
		}
		before = after
	}
}

// TestDecodedValuesHaveTheTagsOfSentOnes inserts values in every way and compares the tags of the text with those of what is stored.
func TestDecodedValuesHaveTheTagsOfSentOnes(t *testing.T) {
	conn := testDatabase(t)
	x := testIndex(t, conn, catalog.Relations)
	random := rand.New(rand.NewPCG(1, 2))
	cache := newCache()
	for _, c := range []struct{ table, column, template string }{
		{"nodes", "id", "INSERT INTO nodes (id) VALUES ({int}) RETURNING id"},
		{"swapped", "id", "INSERT INTO swapped (id) VALUES ({int}) RETURNING id"},
		{"prices", "p", "INSERT INTO prices VALUES ({num}) RETURNING p"},
		{"days", "d", "INSERT INTO days VALUES ({date}) RETURNING d"},
		{"codes", "c", "INSERT INTO codes VALUES ({code}) RETURNING c"},
		{"texts", "t", "INSERT INTO texts VALUES ({code}) RETURNING t"},
		{"items", "id", "INSERT INTO items VALUES ({uuid}) RETURNING id"},
	} {
		exec(t, conn, "TRUNCATE "+c.table+" CASCADE")
		pinned := 0
		for i := range 100 {
			s := fill(random, cache, c.template, i%2 == 0)
			exec(t, conn, "BEGIN")
			if s.prepare(t.Context(), random, conn, "s") {
				if rows, err := s.run(t.Context(), conn); err == nil && len(rows) == 1 {
					value, err := strconv.Unquote(strings.Trim(rows[0], "[]"))
					if err != nil {
						t.Fatal(err)
					}
					stored := x.Changed(nil, &Change{Kind: 'I', Schema: "public", Table: c.table, Columns: []string{c.column}, New: []Datum{{'t', []byte(value)}}})[1]
					sent := x.Write(s.st).Append(nil, s.values())
					column := x.names["public."+c.table].columns[0]
					switch {
					case slices.Contains(sent, stored):
						pinned++
					case !slices.Contains(sent, column.whole) && !slices.Contains(sent, column.made):
						t.Errorf("%s: stores %q, whose tag %v is not among %v", s, value, stored, sent)
					}
				}
			}
			exec(t, conn, "ROLLBACK; DEALLOCATE ALL")
		}
		if pinned < 20 {
			t.Errorf("%s: only %d of 100 were read", c.template, pinned)
		}
	}
}
