package shardmap

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
	"go.uber.org/zap"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/shard"
)

var servers = pgtest.Share(localpg.Options{Shards: 2})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// deadline bounds what a test waits for.
const deadline = time.Minute

// connQuerier is a Querier over one connection. It refuses while it is shut.
type connQuerier struct {
	conn *pgconn.PgConn

	mu   sync.Mutex // held by the query
	shut bool       // guarded by mu
}

var errShut = errors.New("no connection")

func (q *connQuerier) set(shut bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = shut
}

func (q *connQuerier) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shut {
		return errShut
	}
	return pgtest.NewQuerier(q.conn).Query(ctx, sql, visit)
}

// rig is two shards, each a database of a server of its own, and a control database.
type rig struct {
	t       *testing.T
	servers [2]*localpg.Server
	names   [2]string // of the shards' databases
	control string    // on the first server
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t}
	for i, s := range servers.Cluster(t).Shards {
		r.servers[i], r.names[i] = s.Manager, pgtest.Database(t, s.Manager)
	}
	r.control = pgtest.Database(t, r.servers[0])
	return r
}

// connect opens a connection, as role if that is not "".
func (r *rig) connect(server int, database, role, password string) *connQuerier {
	r.t.Helper()
	conn, err := pgconn.Connect(r.t.Context(), r.servers[server].URL(database, role, password))
	if err != nil {
		r.t.Fatal(err)
	}
	q := &connQuerier{conn: conn}
	r.t.Cleanup(func() {
		q.mu.Lock() // a query under way ends first
		defer q.mu.Unlock()
		conn.Close(context.Background())
	})
	return q
}

func config(change ...func(*Config)) Config {
	c := Config{Database: "app", Buckets: 64, Shards: []shard.Name{"s0", "s1"}, Home: "s0", Who: "test", Tables: []Table{{Name: "users", Key: []string{"id"}}, {Schema: "shop", Name: "countries"}}}
	for _, f := range change {
		f(&c)
	}
	return c
}

// client is a watcher with its connections.
type client struct {
	*Watcher
	control *connQuerier
	shards  map[shard.Name]Querier
}

// watcher makes one that does not run yet, with connections of its own.
func (r *rig) watcher(change ...func(*Config)) *client {
	r.t.Helper()
	c := &client{control: r.connect(0, r.control, "", ""), shards: map[shard.Name]Querier{"s0": r.connect(0, r.names[0], "", ""), "s1": r.connect(1, r.names[1], "", "")}}
	c.Watcher = New(config(change...), c.control, c.shards, 10*time.Millisecond, zap.NewNop())
	return c
}

// run runs it until the test ends.
func (r *rig) run(w *client) *client {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		w.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// refresh asks once and returns what is in force.
func (r *rig) refresh(w *client) *State {
	r.t.Helper()
	if err := w.Refresh(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return w.State()
}

// holds asks once and fails the test unless a map is in force on prepared shards.
func (r *rig) holds(w *client) *State {
	r.t.Helper()
	s := r.refresh(w)
	if s.Refusal != nil || s.Map == nil || len(s.Unprepared) > 0 {
		r.t.Fatalf("got refusal %v, unprepared %v", s.Refusal, s.Unprepared)
	}
	return s
}

// refuses asks once and fails the test unless the state refuses and says want.
func (r *rig) refuses(w *client, want string) {
	r.t.Helper()
	if s := r.refresh(w); s.Refusal == nil || s.Map != nil || !strings.Contains(s.Refusal.Error(), want) {
		r.t.Errorf("got refusal %v, want %q", s.Refusal, want)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after %s: %s", deadline, what)
		}
	}
}

func (r *rig) sql(server int, database, sql string) {
	r.t.Helper()
	pgtest.Exec(r.t, r.servers[server], database, sql)
}

func TestFirstMapIsSpreadEvenly(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	if s := w.State(); s.Map != nil || s.Refusal == nil || w.Age() >= 0 {
		t.Errorf("before the first answer: %+v, age %s", s, w.Age())
	}
	s := r.holds(w)
	if got := s.Map.String(); s.Map.Version() != 1 || got != "0-31:s0,32-63:s1" {
		t.Errorf("got version %d, %s", s.Map.Version(), got)
	}
	if again := r.holds(w); again != s {
		t.Error("a second answer of the same makes another state")
	}
	other := r.holds(r.watcher())
	if other.Map.String() != s.Map.String() || other.Seal != s.Seal {
		t.Error("another proxy has another map or seal")
	}
	for i, name := range r.names {
		if got := pgtest.Value(t, r.servers[i], name, "SELECT database || ' ' || name FROM pgtier.shard"); got != fmt.Sprintf("app s%d", i) {
			t.Errorf("mark of s%d: %s", i, got)
		}
	}
	if got := pgtest.Value(t, r.servers[0], r.control, "SELECT string_agg(concat(schema, '.', name, '=', key), ' ' ORDER BY name) FROM pgtier.sharded"); got != `shop.countries= .users="id"` {
		t.Errorf("declared tables: %s", got)
	}
}

// TestProxiesStartingAtOnceAgree has proxies of two configurations make the first map: the one that is quickest decides for all.
func TestProxiesStartingAtOnceAgree(t *testing.T) {
	r := newRig(t)
	var clients []*client
	for i := range 8 {
		clients = append(clients, r.watcher(func(c *Config) {
			if i%2 == 1 {
				c.Buckets, c.Function = 128, shard.Modulo
			}
		}))
	}
	var starting sync.WaitGroup
	for _, w := range clients {
		starting.Go(func() {
			for range 3 {
				if err := w.Refresh(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	starting.Wait()
	maps, refusals := map[string]int{}, 0
	for i, w := range clients {
		s := w.State()
		switch {
		case s.Refusal == nil && len(s.Unprepared) == 0:
			maps[s.Map.String()+s.Seal.secret]++
		case s.Refusal != nil && strings.Contains(s.Refusal.Error(), "sharding.buckets"):
			refusals++
		default:
			t.Errorf("proxy %d: refusal %v, unprepared %v", i, s.Refusal, s.Unprepared)
		}
	}
	if len(maps) != 1 || refusals != 4 {
		t.Errorf("got maps %v and %d refusals", maps, refusals)
	}
}

func TestChangeReachesEveryWatcherAndOneWins(t *testing.T) {
	r := newRig(t)
	var clients []*client
	for range 4 {
		w := r.watcher()
		r.holds(w)
		clients = append(clients, r.run(w))
	}
	first := r.read(r.mover())
	var (
		changing sync.WaitGroup
		mu       sync.Mutex
		won      []*Current
	)
	for i := range clients {
		next := r.moved(first, "s1", shard.Bucket(i))
		m := r.mover()
		changing.Go(func() {
			now, err := m.Change(t.Context(), first, next)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, now)
			case !errors.Is(err, ErrMoved):
				t.Error(err)
			}
		})
	}
	changing.Wait()
	if len(won) != 1 {
		t.Fatalf("%d won: %v", len(won), won)
	}
	for _, w := range clients {
		until(t, "the map of version 2 is in force", func() bool {
			s := w.State()
			return s.Map != nil && s.Map.Version() == 2 && s.Map.String() == won[0].Map.String() && s.Motion.Number == 1
		})
	}
	m := r.mover()
	next := r.moved(won[0], "s0", 0)
	if now, err := m.Change(t.Context(), won[0], next); err != nil || now.Map.Version() != 3 || now.Motion.Number != 2 {
		t.Errorf("to version 3: %+v, %v", now, err)
	}
	if _, err := m.Change(t.Context(), next, next); !errors.Is(err, ErrMoved) {
		t.Errorf("behind a motion that is not in force any more: %v", err)
	}
	if _, err := m.Change(t.Context(), r.read(m), won[0]); err == nil || errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), "version 2 does not follow 3, 4 does") {
		t.Errorf("to a version that does not follow: %v", err)
	}
}

func TestLostControlKeepsTheLastMap(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	held := r.holds(w)
	r.run(w)
	w.control.set(true)
	until(t, "it is known how old the map is", func() bool { return w.Age() > 100*time.Millisecond })
	if err := w.Refresh(t.Context()); !errors.Is(err, errShut) {
		t.Errorf("got %v", err)
	}
	if w.State() != held {
		t.Errorf("got %+v", w.State())
	}
	w.control.set(false)
	until(t, "the map is current again", func() bool { return w.Age() < 100*time.Millisecond })
}

func TestUnreachableShards(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	s1 := w.shards["s1"].(*connQuerier)
	s1.set(true)
	if err := w.Refresh(t.Context()); !errors.Is(err, errShut) || !strings.Contains(w.State().Refusal.Error(), "shard s1, which has to be asked before the first map is made") {
		t.Errorf("first map with a shard that is away: %v, %v", err, w.State().Refusal)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := w.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait without a map: %v", err)
	}
	s1.set(false)
	r.run(w)
	if s, err := w.Wait(t.Context()); err != nil || s.Map == nil {
		t.Errorf("Wait: %+v, %v", s, err)
	}
	// A map that is there does not need all shards.
	other := r.watcher()
	other.shards["s1"].(*connQuerier).set(true)
	s := r.refresh(other)
	if s.Map == nil || s.Refusal != nil || len(s.Unprepared) != 1 || !errors.Is(s.Unprepared["s1"], errShut) {
		t.Errorf("got %+v", s)
	}
	other.shards["s1"].(*connQuerier).set(false)
	if again := r.holds(other); again.Map != s.Map {
		t.Error("the map is another")
	}
}

func TestConfigurationThatDoesNotFitIsRefused(t *testing.T) {
	r := newRig(t)
	r.holds(r.watcher())
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"buckets":      {func(c *Config) { c.Buckets = 128 }, "were placed with sharding.buckets 64, the configuration says 128; it cannot be changed"},
		"function":     {func(c *Config) { c.Function = shard.Modulo }, "were placed with sharding.function hash, the configuration says modulo"},
		"home":         {func(c *Config) { c.Home = "s1" }, "were placed with sharding.home s0, the configuration says s1"},
		"shard":        {func(c *Config) { c.Shards = c.Shards[:1] }, `map 1 of database app has buckets on shard "s1", which the configuration does not name`},
		"key":          {func(c *Config) { c.Tables[0].Key = []string{"tenant", "id"} }, `the rows of table users were placed as sharded by "id", and the configuration has it sharded by tenant, id`},
		"with schema":  {func(c *Config) { c.Tables[0] = Table{Schema: "public", Name: "users", Key: []string{"x"}} }, "the rows of table public.users were placed"},
		"reference":    {func(c *Config) { c.Tables[1].Key = []string{"id"} }, "the rows of table shop.countries were placed as a reference table"},
		"table gone":   {func(c *Config) { c.Tables = c.Tables[:1] }, "table shop.countries is a reference table and no longer in the configuration"},
		"swapped URLs": {nil, "of this database; look at the URLs of both"},
	} {
		w := r.watcher()
		if tc.change != nil {
			w = r.watcher(tc.change)
		} else {
			w.Configure(config(), w.control, map[shard.Name]Querier{"s0": w.shards["s1"], "s1": w.shards["s0"]})
		}
		s := r.refresh(w)
		if s.Refusal == nil || s.Map != nil || !strings.Contains(s.Refusal.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, s.Refusal, tc.want)
		}
		// The right configuration mends it.
		w.Configure(config(), w.control, w.shards)
		r.holds(w)
	}
	r.holds(r.watcher(func(c *Config) { c.Tables = append(c.Tables, Table{Name: "more", Key: []string{"id"}}) }))
	r.holds(r.watcher(func(c *Config) {
		c.Tables = append(c.Tables, Table{Schema: "public", Name: "more", Key: []string{"id"}})
		c.Shards = append(c.Shards[:2:2], "s2")
		c.Shards = c.Shards[:2]
	}))
}

func TestControlThatIsAnotherIsRefused(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	r.holds(w)
	// The key control forgotten: another database, without a map.
	forgotten := r.watcher()
	empty := pgtest.Database(t, r.servers[1])
	forgotten.Configure(config(), r.connect(1, empty, "", ""), forgotten.shards)
	r.refuses(forgotten, "the control database has no map of database app, but the server of shard s0 belongs to one, as shard s0 of database app; let the key control name")
	if there := pgtest.Value(t, r.servers[1], empty, "SELECT to_regnamespace('pgtier') IS NULL"); there != "true" && there != "t" {
		t.Errorf("schema pgtier was made all the same: %s", there)
	}
	// Two names for one database.
	r.refuses(r.watcher(func(c *Config) { c.Database = "alias" }), "as shard s0 of database app")

	m := r.mover()
	was := r.read(m)
	if _, err := m.Change(t.Context(), was, r.moved(was, "s1", 0)); err != nil {
		t.Fatal(err)
	}
	r.holds(w)
	r.sql(0, r.control, "DELETE FROM pgtier.map WHERE version = 2")
	for range 2 { // once refused, it stays
		r.refuses(w, "went back from version 2 to 1")
	}
	r.sql(0, r.control, "UPDATE pgtier.sharding SET id = 'other'")
	r.refuses(w, "was made anew")
	r.refuses(r.watcher(), "the server of shard s")
	r.sql(0, r.control, "DROP SCHEMA pgtier CASCADE")
	r.refuses(w, "is gone from the control database")
	r.sql(0, r.control, "CREATE SCHEMA pgtier")
}

func TestInspectChangesNothing(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	inspect := func(change ...func(*Config)) (*Current, string) {
		t.Helper()
		m, found, err := Inspect(t.Context(), config(change...), w.control, w.shards)
		if err != nil {
			t.Fatal(err)
		}
		return m, text(errors.Join(found...))
	}
	if m, found := inspect(); m != nil || found != "" {
		t.Errorf("before the first map: %v, %s", m, found)
	}
	if there := pgtest.Value(t, r.servers[0], r.control, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgtier'"); there != "0" {
		t.Error("schema pgtier was made")
	}
	r.holds(w)
	if m, found := inspect(); m == nil || m.Map.Version() != 1 || found != "" {
		t.Errorf("with a map: %v, %s", m, found)
	}
	if _, found := inspect(func(c *Config) { c.Buckets, c.Tables = 128, nil }); !strings.Contains(found, "sharding.buckets 64") || !strings.Contains(found, "no longer in the configuration") {
		t.Errorf("another configuration: %s", found)
	}
	w.shards["s0"], w.shards["s1"] = w.shards["s1"], w.shards["s0"]
	if _, found := inspect(); strings.Count(found, "look at the URLs of both") != 2 {
		t.Errorf("swapped URLs: %s", found)
	}
	r.sql(0, r.control, "DROP SCHEMA pgtier CASCADE")
	if m, found := inspect(); m != nil || strings.Count(found, "has no map of database app") != 2 {
		t.Errorf("without the map: %v, %s", m, found)
	}
	w.control.set(true)
	if _, _, err := Inspect(t.Context(), config(), w.control, w.shards); !errors.Is(err, errShut) {
		t.Errorf("without the control database: %v", err)
	}
}

func TestBrokenMapIsRefused(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	r.holds(w)
	r.sql(0, r.control, "INSERT INTO pgtier.map (database, version, owners, made_by) VALUES ('app', 2, '0-31:s0', 'somebody')")
	r.refuses(w, "read map 2 of database app")
	r.sql(0, r.control, "UPDATE pgtier.map SET owners = '0-63:s7' WHERE version = 2")
	r.refuses(w, `map 2 of database app has buckets on shard "s7"`)
	r.sql(0, r.control, "UPDATE pgtier.map SET owners = '0-63:s1' WHERE version = 2")
	if s := r.holds(w); s.Map.Version() != 2 {
		t.Errorf("got version %d", s.Map.Version())
	}
}

func TestRoleWithoutRightsIsToldWhatToRun(t *testing.T) {
	r := newRig(t)
	for i := range r.servers {
		r.sql(i, "postgres", `DO $$ BEGIN CREATE ROLE "Plain" LOGIN PASSWORD 'plain'; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$`)
	}
	plain := func(server int, database string) *connQuerier { return r.connect(server, database, "Plain", "plain") }
	control, shards := plain(0, r.control), map[shard.Name]Querier{"s0": plain(0, r.names[0]), "s1": plain(1, r.names[1])}
	w := &client{Watcher: New(config(), control, shards, time.Hour, zap.NewNop()), control: control}
	s := r.refresh(w)
	var missing *Missing
	if !errors.As(s.Refusal, &missing) || !strings.Contains(missing.Error(), "create schema pgtier in the control database: ") || !strings.Contains(missing.Error(), "CREATE TABLE IF NOT EXISTS pgtier.map") {
		t.Fatalf("got %v", s.Refusal)
	}
	r.sql(0, r.control, missing.SQL)
	s = r.refresh(w)
	if s.Refusal != nil || len(s.Unprepared) != 2 {
		t.Fatalf("got %v, %v", s.Refusal, s.Unprepared)
	}
	for i, name := range r.names {
		if !errors.As(s.Unprepared[shard.Name(fmt.Sprintf("s%d", i))], &missing) {
			t.Fatalf("s%d: %v", i, s.Unprepared)
		}
		r.sql(i, name, missing.SQL)
		r.sql(i, name, missing.SQL) // again does no harm
	}
	s = r.holds(w)
	anchor := plain(0, r.names[0])
	if err := anchor.Query(t.Context(), s.Seal.Decide("g"), nothing); err != nil {
		t.Error(err)
	}
}

// TestOnlyPgtierDecides has a role that may do nothing but log in try to decide another one's transaction.
func TestOnlyPgtierDecides(t *testing.T) {
	r := newRig(t)
	s := r.holds(r.watcher())
	r.sql(0, "postgres", `DO $$ BEGIN CREATE ROLE stranger LOGIN PASSWORD 'stranger'; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$`)
	q := r.connect(0, r.names[0], "stranger", "stranger")
	one := func(sql string) (answer string, err error) {
		err = q.Query(t.Context(), sql, func(fields [][]byte) error {
			answer = string(fields[0])
			return nil
		})
		return answer, err
	}
	for _, sql := range []string{
		"INSERT INTO pgtier.xact (gid, decision) VALUES ('x', 'commit')", "SELECT * FROM pgtier.xact", "SELECT secret FROM pgtier.shard", "DELETE FROM pgtier.xact",
		"SELECT pgtier.decide('x', '')", "SELECT pgtier.decide('x', NULL)", "SELECT pgtier.settle('x', 'abc')",
		strings.Replace(s.Seal.Decide("y"), "'y'", "'x'", 1), Seal{}.Decide("x"),
		"CREATE TABLE pgtier.mine (a int)", "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::bytea'; " + Seal{}.Settle("x"),
	} {
		if answer, err := one(sql); sqlState(err) != codeNoRight {
			t.Errorf("%s: got %q, %v", sql, answer, err)
		}
	}
	// In a client's own role, with the proof.
	if _, err := one(s.Seal.Decide("pgtier:app:s0:1")); err != nil {
		t.Error(err)
	}
	for gid, want := range map[string]string{"pgtier:app:s0:1": "commit", "pgtier:app:s0:2": "abort", `it's \odd`: "abort"} {
		for range 2 {
			if got, err := one(s.Seal.Settle(gid)); err != nil || got != want {
				t.Errorf("settle %s: got %q, %v, want %s", gid, got, err, want)
			}
		}
	}
	for _, gid := range []string{"pgtier:app:s0:1", "pgtier:app:s0:2"} {
		if _, err := one(s.Seal.Decide(gid)); sqlState(err) != "23505" {
			t.Errorf("decide %s late: %v", gid, err)
		}
	}
}

// TestSettlingWaitsForTheAnchor has a transaction that has decided and not committed yet be settled by somebody else.
func TestSettlingWaitsForTheAnchor(t *testing.T) {
	r := newRig(t)
	s := r.holds(r.watcher())
	for end, want := range map[string]string{"COMMIT": "commit", "ROLLBACK": "abort"} {
		anchor, other := r.connect(0, r.names[0], "", ""), r.connect(0, r.names[0], "", "")
		if err := anchor.Query(t.Context(), "BEGIN; "+s.Seal.Decide(end), nothing); err != nil {
			t.Fatal(err)
		}
		settled := make(chan string, 1)
		go func() { // ends with the anchor's transaction
			err := other.Query(t.Context(), s.Seal.Settle(end), func(fields [][]byte) error {
				settled <- string(fields[0])
				return nil
			})
			if err != nil {
				settled <- err.Error()
			}
		}()
		select {
		case got := <-settled:
			t.Errorf("%s: settled before the anchor's end: %s", end, got)
		case <-time.After(50 * time.Millisecond):
		}
		if err := anchor.Query(t.Context(), end, nothing); err != nil {
			t.Fatal(err)
		}
		if got := <-settled; got != want {
			t.Errorf("%s: settled as %s, want %s", end, got, want)
		}
	}
}

func TestLiteral(t *testing.T) {
	r := newRig(t)
	q := r.connect(0, r.names[0], "", "")
	for _, setting := range []string{"on", "off"} {
		for _, text := range []string{"", "plain", "it's", `back\slash`, `\'; DROP TABLE x; --`, "é"} {
			var got string
			err := q.Query(t.Context(), "SET standard_conforming_strings = "+setting+"; SELECT "+literal(text), func(fields [][]byte) error {
				got = string(fields[0])
				return nil
			})
			if err != nil || got != text {
				t.Errorf("%q: got %q, %v", text, got, err)
			}
		}
	}
}
