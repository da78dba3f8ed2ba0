package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/shard"
)

// patience bounds every wait of these tests; the machine may be busy with others.
const patience = 60 * time.Second

var servers = pgtest.Share(localpg.Options{Shards: 2})

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		applyAsChild() // does not return
	}
	os.Exit(servers.Run(m))
}

// schemaSQL has a table of each kind that rows are moved from.
const schemaSQL = `
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN small AS int CHECK (VALUE < 1000);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE users (id int8 PRIMARY KEY, name text, big text, n numeric, upper_name text GENERATED ALWAYS AS (upper(name)) STORED, at timestamptz DEFAULT now());
ALTER TABLE users ALTER COLUMN big SET STORAGE EXTERNAL;
CREATE TABLE orders (user_id int8 NOT NULL REFERENCES users (id), id int8 GENERATED ALWAYS AS IDENTITY, item text, mood mood, moods mood[], s small, p pair, j json, r regclass,
  ts tstzrange, f float8, b bytea, i interval, m money, c char(5), v varchar(10), PRIMARY KEY (user_id, id));
CREATE TABLE serials (id int8 GENERATED ALWAYS AS IDENTITY, user_id int8 NOT NULL, note text, UNIQUE (user_id, note));
ALTER TABLE serials ALTER COLUMN note SET NOT NULL;
ALTER TABLE serials REPLICA IDENTITY USING INDEX serials_user_id_note_key;
CREATE TABLE log (user_id int8, line text, j json, n numeric, c char(4));
ALTER TABLE log REPLICA IDENTITY FULL;
CREATE INDEX ON log (user_id);
CREATE TABLE events (user_id int8 NOT NULL, day date NOT NULL, what text, PRIMARY KEY (user_id, day, what)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') PARTITION BY HASH (user_id);
CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''the trigger fired''; END';
`

func testLayout() Layout {
	by := []string{"user_id"}
	return Layout{Function: shard.Hash, Buckets: 64, Tables: []Wanted{{"", "users", []string{"id"}}, {"public", "orders", by}, {"", "serials", by}, {"", "log", by},
		{"", "events", by}, {"", "countries", nil}}}
}

// moving are the buckets that the tests move: a third.
func moving() []shard.Span {
	return []shard.Span{{First: 0, Last: 9}, {First: 20, Last: 29}, {First: 63, Last: 63}}
}

// side is a database of one of the servers.
type side struct {
	t        testing.TB
	server   *localpg.Server
	database string
	Server

	mu    sync.Mutex
	conns []*pgconn.PgConn // all that were dialled
}

func newSide(t testing.TB, server *localpg.Server, schema string) *side {
	s := &side{t: t, server: server, database: pgtest.Database(t, server)}
	s.exec(schema)
	config, err := pgconn.ParseConfig(server.URL(s.database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnectTimeout = 5 * time.Second
	s.Server = Server{Name: server.Name, Dial: func(ctx context.Context, params map[string]string) (*pgconn.PgConn, error) {
		conn, err := Connect(ctx, config, params)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns = append(s.conns, conn)
		}
		return conn, err
	}}
	return s
}

func (s *side) exec(sql string) { s.t.Helper(); pgtest.Exec(s.t, s.server, s.database, sql) }

func (s *side) value(sql string) string {
	s.t.Helper()
	return pgtest.Value(s.t, s.server, s.database, sql)
}

// pair is a source and a target.
type pair struct {
	t              testing.TB
	source, target *side
	layout         Layout
	spans          []shard.Span
}

func newPair(t testing.TB, schema string, layout Layout) *pair {
	return newPairOn(t, servers.Cluster(t), schema, layout)
}

func newPairOn(t testing.TB, c *localpg.Cluster, schema string, layout Layout) *pair {
	return &pair{t, newSide(t, c.Shards[0].Manager, schema), newSide(t, c.Shards[1].Manager, schema), layout, moving()}
}

func contextFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *pair) tables(s *side) []*Table {
	p.t.Helper()
	tables, err := Describe(contextFor(p.t), s.Server, p.layout)
	must(p.t, err)
	return tables
}

// names are unique on the servers, which the tests share.
func (p *pair) forward() ApplyConfig {
	name := p.source.database + "_f"
	return ApplyConfig{Source: p.source.Server, Target: p.target.Server, Slot: name, Publication: name, Origin: name, Ignore: []string{p.source.database + "_r"},
		Layout: p.layout, Durable: 20 * time.Millisecond}
}

func (p *pair) reverse() ApplyConfig {
	c := p.forward()
	name := c.Ignore[0]
	return ApplyConfig{Source: c.Target, Target: c.Source, Slot: name, Publication: name, Origin: name, Ignore: []string{c.Slot}, Layout: c.Layout, Durable: c.Durable}
}

// prepare makes what a stream needs, and removes it when the test ends.
func (p *pair) prepare(c ApplyConfig) *Slot {
	p.t.Helper()
	ctx := contextFor(p.t)
	must(p.t, CreateOrigin(ctx, c.Target, c.Origin))
	from := p.source
	if c.Source.Name == p.target.Name {
		from = p.target
	}
	must(p.t, CreatePublication(ctx, c.Source, Publication{Name: c.Publication, Tables: p.tables(from), Spans: p.spans}))
	slot, err := CreateSlot(ctx, c.Source, c.Slot)
	must(p.t, err)
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		slot.Close()
		if err := errors.Join(Drop(ctx, c.Source, Objects{Slot: c.Slot, Publication: c.Publication}), Drop(ctx, c.Target, Objects{Origin: c.Origin})); err != nil {
			p.t.Error(err)
		}
	})
	return slot
}

// copy copies what the snapshot shows.
func (p *pair) copy(slot *Slot) {
	p.t.Helper()
	c := &Copy{Source: p.source.Server, Target: p.target.Server, Tables: p.tables(p.source), Spans: p.spans, Snapshot: slot.Snapshot, Streams: 3}
	must(p.t, c.Run(contextFor(p.t)))
}

// run runs an applier until the returned function is called, again after each error that is not hopeless. hopeless gets one that is.
func run(t testing.TB, c ApplyConfig) (a *Applier, stop func(), hopeless <-chan *Hopeless) {
	a = NewApplier(c)
	ctx, cancel := context.WithCancel(context.Background())
	lost := make(chan *Hopeless, 1)
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		told := ""
		for ctx.Err() == nil {
			err := a.Run(ctx)
			var h *Hopeless
			if errors.As(err, &h) {
				t.Logf("applier: hopeless: %v", err)
				lost <- h
				return
			}
			if ctx.Err() == nil {
				if text := err.Error(); text != told {
					told = text
					t.Logf("applier: %v", err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return a, stop, lost
}

// rowsOf are the rows of a table in the buckets, sorted, as one text.
func (p *pair) rowsOf(s *side, table *Table) string {
	p.t.Helper()
	names := []string{}
	for _, c := range table.Columns {
		names = append(names, identifier(c.Name))
	}
	for _, g := range table.Generated {
		names = append(names, g[:strings.Index(g, " AS ")])
	}
	piece := piece{table: table}
	return s.value(fmt.Sprintf("SET extra_float_digits = 3; SET search_path = pg_catalog; SELECT count(*) || ':' || coalesce(string_agg(r, chr(10) ORDER BY r), '') FROM (SELECT ROW(%s)::text AS r FROM %s WHERE %s) q",
		strings.Join(names, ", "), table.sql(), piece.where(p.spans)))
}

// same fails the test unless the moved rows of all tables are the same on both sides.
func (p *pair) same() {
	p.t.Helper()
	for _, table := range p.tables(p.source) {
		if s, d := p.rowsOf(p.source, table), p.rowsOf(p.target, table); s != d {
			p.t.Errorf("table %s differs:\n source %.400q\n target %.400q", table, s, d)
		}
	}
}

// fill puts rows in all tables.
func (p *pair) fill(n int) {
	p.source.exec(fmt.Sprintf(`
INSERT INTO users SELECT i, 'user ' || i, CASE WHEN i %% 3 = 0 THEN repeat(md5(i::text), 200) END, i / 7.0 FROM generate_series(1, %[1]d) i;
INSERT INTO orders (user_id, item, mood, moods, s, p, j, r, ts, f, b, i, m, c, v) SELECT 1 + i %% (%[1]d - 20), 'item' || chr(9) || i, 'happy', '{sad,"so so"}', i %% 1000, (i, 'x'::text)::pair, '{"a":  1}', 'pg_class', tstzrange(now(), NULL), i / 3.0,
  decode(md5(i::text), 'hex'), i * interval '1 hour 1 month', i, 'ab', 'v' FROM generate_series(1, 2 * %[1]d) i;
INSERT INTO orders (user_id) SELECT i FROM generate_series(1, %[1]d - 20) i;
INSERT INTO serials (user_id, note) SELECT 1 + i %% %[1]d, 'note ' || i FROM generate_series(1, %[1]d) i;
INSERT INTO log SELECT CASE WHEN i %% 10 > 0 THEN i END, CASE WHEN i %% 4 > 0 THEN 'line' END, '{"x":1}', 1.0, 'c' FROM generate_series(1, %[1]d) i, generate_series(1, 2);
INSERT INTO events SELECT i, '2020-06-01'::date + (i %% 2) * 365, 'what' FROM generate_series(1, %[1]d) i;
INSERT INTO countries VALUES ('de', 'Germany'), ('fr', NULL)`, n))
}

// load writes to all tables of one side from so many connections until the returned function is called, which returns how many transactions were committed. Users are
// numbered from first to last.
func (p *pair) load(s *side, workers, first, last int) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	committed := 0
	for w := range workers {
		wg.Go(func() { // ends with ctx
			for i := 0; ctx.Err() == nil; {
				conn, err := s.Dial(ctx, map[string]string{"application_name": "load"})
				if err != nil { // the server is down; that it comes back is seen at the end
					time.Sleep(20 * time.Millisecond)
					continue
				}
				for ; ctx.Err() == nil && !conn.IsClosed(); i++ {
					_, err := query(ctx, conn, loadSQL(w, i, first, last))
					switch code := sqlState(err); {
					case ctx.Err() != nil:
					case code == "40P01":
						_, _ = query(ctx, conn, "ROLLBACK") // the next statement says if that failed
					case code != "" && code[:2] != "57":
						p.t.Errorf("load: %v", err)
						return
					case err == nil && i%4 < 3:
						mu.Lock()
						committed++
						mu.Unlock()
					}
				}
				hangUp(conn)
			}
		})
	}
	stop = sync.OnceValue(func() int { cancel(); wg.Wait(); return committed })
	p.t.Cleanup(func() { stop() })
	return stop
}

// loadSQL is the i-th transaction of a worker.
func loadSQL(w, i, first, last int) string {
	user := first + (i*7919+w*104729)%(last-first+1)
	// One key is left alone for tests that plant something.
	return fmt.Sprintf(`BEGIN;
UPDATE users SET name = 'w%[2]d.%[3]d', n = n + 1 WHERE id = %[1]d AND at < 'infinity';
INSERT INTO users (id, name) SELECT %[4]d, 'new' WHERE %[3]d %% 4 = 0 ON CONFLICT (id) DO UPDATE SET big = repeat('x', %[3]d %% 9 * 1000);
INSERT INTO log VALUES (%[1]d, 'line %[3]d', '{"i": %[3]d}', %[3]d, 'c'), (%[1]d, 'twice', NULL, 1.0, NULL), (%[1]d, 'twice', NULL, 1.0, NULL);
DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE user_id = %[1]d LIMIT 2 FOR UPDATE SKIP LOCKED);
INSERT INTO events VALUES (%[1]d, '2021-01-01'::date + %[3]d %% 300, 'w%[2]d.%[3]d');
UPDATE events SET day = day - 300 WHERE user_id = %[1]d AND what LIKE 'w%[2]d%%' AND day > '2021-05-05';
UPDATE serials SET note = 'w%[2]d.%[3]d ' || id WHERE user_id = %[1]d;
%[5]s`, user, w, i, 1_000_000+w*1000+i%500, []string{"COMMIT", "COMMIT", "COMMIT", "ROLLBACK"}[i%4])
}

// dialURL logs in by a URL.
func dialURL(t testing.TB, url string) func(context.Context, map[string]string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(url)
	must(t, err)
	return func(ctx context.Context, params map[string]string) (*pgconn.PgConn, error) {
		return Connect(ctx, config, params)
	}
}
