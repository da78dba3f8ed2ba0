package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/cache"
)

// keeps starts a proxy that keeps answers, over tables that it has read the catalog of.
func (r *rig) keeps(t testing.TB, edit func(*proxy.Config)) (*running, *cache.Cache) {
	t.Helper()
	pgtest.Exec(t, r.manager, r.database, `CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric(10,2), at timestamptz);
INSERT INTO items SELECT g, 'item ' || g, g * 1.5, '2024-01-01 12:00+00'::timestamptz + g * interval '1 h' FROM generate_series(1, 100) g;
CREATE TABLE parts (id bigint PRIMARY KEY, item bigint REFERENCES items ON DELETE CASCADE ON UPDATE CASCADE, n int);
INSERT INTO parts SELECT g, g / 2 + 1, g FROM generate_series(1, 100) g;
CREATE INDEX ON parts (item);`)
	cfg := r.config(t, func(cfg *proxy.Config) {
		for name, d := range cfg.Databases {
			d.Cache.Enabled, d.Cache.MaxDelay = true, 0
			cfg.Databases[name] = d
		}
		if edit != nil {
			edit(cfg)
		}
	})
	p := r.start(t, cfg)
	p.client(t)
	if err := p.ReadCatalog(bounded(t), p.database); err != nil {
		t.Fatal(err)
	}
	return p, p.cache(t)
}

// cache is that of the proxy's database.
func (p *running) cache(t testing.TB) *cache.Cache {
	t.Helper()
	k := p.SharedOf(p.database).Keeper.Load()
	if k == nil {
		t.Fatal("the database has no cache")
	}
	eventually(t, "the cache stands aside", func() bool { return k.Cache.Away() == 0 })
	return k.Cache
}

var cacheModes = []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec}

// asks is what sql answers in mode, row by row, with its columns' names and types.
func asks(c *pgx.Conn, mode pgx.QueryExecMode, sql string, args ...any) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	rows, err := c.Query(ctx, sql, append([]any{mode}, args...)...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var out strings.Builder
	for _, f := range rows.FieldDescriptions() {
		fmt.Fprintf(&out, "%s:%d ", f.Name, f.DataTypeOID)
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "| %v ", values)
	}
	rows.Close()
	fmt.Fprintf(&out, "%s", rows.CommandTag())
	return out.String(), rows.Err()
}

// TestCacheAnswersAsTheServer asks the same from several clients in all protocols, before and after writes.
func TestCacheAnswersAsTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, kept := r.keeps(t, nil)
	direct, err := pgx.Connect(bounded(t), r.manager.URL(r.database, "postgres", r.cluster.Password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close(context.Background()) })
	one, two := p.client(t), p.client(t)
	for _, mode := range cacheModes {
		t.Run(mode.String(), func(t *testing.T) {
			for _, q := range []struct {
				sql  string
				args []any
			}{
				{"SELECT name, price, at FROM items WHERE id = $1", []any{int64(7)}},
				{"SELECT count(*), sum(price) FROM items", nil},
				{"SELECT i.name, p.n FROM items i JOIN parts p ON p.item = i.id WHERE i.id = $1 ORDER BY p.n", []any{int64(3)}},
				{"SELECT name FROM items WHERE id = $1", []any{int64(100000)}},
				{"SELECT to_char(at, 'YYYY-MM-DD HH24'), price FROM items WHERE id < $1 ORDER BY id", []any{int64(4)}},
			} {
				for round, write := range []string{"", "UPDATE items SET price = price + 1", "DELETE FROM items WHERE id = 3", "ROLLBACK", "TRUNCATE items, parts",
					"INSERT INTO items SELECT g, 'item ' || g, g * 1.5, '2024-01-01 12:00+00'::timestamptz + g * interval '1 h' FROM generate_series(1, 100) g"} {
					if write != "" {
						if _, err := two.Exec(bounded(t), write); err != nil {
							t.Fatal(write, err)
						}
					}
					want, err := asks(direct, mode, q.sql, q.args...)
					if err != nil {
						t.Fatal(err)
					}
					before := kept.Hits.Load()
					for i, c := range []*pgx.Conn{one, two, one, two} {
						got, err := asks(c, mode, q.sql, q.args...)
						if err != nil || got != want {
							t.Fatalf("%s, round %d, after %q, asked for the %d. time: got %s, %v, want %s", q.sql, round, write, i+1, got, err, want)
						}
					}
					if hits := kept.Hits.Load() - before; hits < 2 {
						t.Errorf("%s, round %d, after %q: %d of 4 were hits", q.sql, round, write, hits)
					}
				}
			}
		})
	}
}

// TestAnswersAreGivenUpByCommand tells of what is kept, and gives up that of one table, of one database and of all.
func TestAnswersAreGivenUpByCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, kept := r.keeps(t, func(cfg *proxy.Config) { cfg.Auth.Admins = []string{"postgres"} })
	console, err := p.dial(t, strings.Replace(p.dsn("postgres", ""), "dbname="+p.database, "dbname=pgtier", 1))
	if err != nil {
		t.Fatal(err)
	}
	c := p.client(t)
	served := func(sql string) bool {
		t.Helper()
		before := kept.Hits.Load()
		if _, err := value(c, sql); err != nil {
			t.Fatal(err)
		}
		return kept.Hits.Load() > before
	}
	const items, parts = "SELECT name FROM items WHERE id = 1", "SELECT n FROM parts WHERE id = 1"
	served(items) // the first question finds a catalog that nobody has judged by, which gives up everything
	for command, gone := range map[string]map[string]bool{
		"RESET CACHE " + p.database + " public.items":  {items: true, parts: false},
		"reset cache " + p.database + " public.parts;": {items: false, parts: true},
		"RESET CACHE " + p.database:                    {items: true, parts: true},
		"RESET CACHE":                                  {items: true, parts: true},
	} {
		for sql := range gone {
			served(sql)
			if !served(sql) {
				out, _ := asks(console, pgx.QueryExecModeSimpleProtocol, "SHOW CACHE")
				t.Fatalf("%s is not served: %s", sql, out)
			}
		}
		if _, err := value(console, command); err != nil {
			t.Fatal(command, err)
		}
		for sql, gone := range gone {
			if served(sql) == gone {
				t.Errorf("after %s: %s is served: %v", command, sql, !gone)
			}
		}
	}
	_, err = value(console, "RESET CACHE a b c")
	wantError(t, err, "42601", "a database, a table and a key at most")
	_, err = value(console, "RESET CACHE "+p.database+" public.items price = 1")
	wantError(t, err, "22023", "not tied to values of price")
	for _, name := range []string{"items", "public.nothing", "items id = 1"} {
		_, err = value(console, "RESET CACHE "+p.database+" "+name)
		wantError(t, err, "22023", "there is no table")
	}
	out, err := asks(console, pgx.QueryExecModeSimpleProtocol, "SHOW CACHE")
	for _, want := range []string{"serving", "SELECT name FROM items WHERE id = ", "kept"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("SHOW CACHE lacks %q: %s, %v", want, out, err)
		}
	}
}

// TestAnswersThatAreTooLongAreTold asks for more than is kept, always and now and then.
func TestAnswersThatAreTooLongAreTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, _ := r.keeps(t, func(cfg *proxy.Config) {
		cfg.Auth.Admins = []string{"postgres"}
		for name, d := range cfg.Databases {
			d.Cache.MaxEntry = 1 << 10
			cfg.Databases[name] = d
		}
	})
	console, err := p.dial(t, strings.Replace(p.dsn("postgres", ""), "dbname="+p.database, "dbname=pgtier", 1))
	if err != nil {
		t.Fatal(err)
	}
	c := p.client(t)
	mustValue(t, c, "SELECT count(*) FROM items") // finds a catalog that nobody has judged by
	for _, sql := range []string{"SELECT name FROM items WHERE id < 90", "SELECT price FROM items WHERE id < 3", "SELECT price FROM items WHERE id < 90"} {
		for range 5 { // the first few by themselves, and more in a pipeline
			mustValue(t, c, sql)
		}
	}
	out, err := asks(console, pgx.QueryExecModeSimpleProtocol, "SHOW CACHE")
	for _, want := range []string{"SELECT name FROM items WHERE id < $n not kept 5 0 0 0 answers are longer than cache.max_entry",
		"SELECT price FROM items WHERE id < $n kept 10 4 40 1 5 answers were longer than cache.max_entry"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("SHOW CACHE lacks %q: %s, %v", want, out, err)
		}
	}
}

// TestAnswersAreGivenUpByKey gives up what shows one row, and leaves what is tied to another.
func TestAnswersAreGivenUpByKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, kept := r.keeps(t, func(cfg *proxy.Config) { cfg.Auth.Admins = []string{"postgres"} })
	console, err := p.dial(t, strings.Replace(p.dsn("postgres", ""), "dbname="+p.database, "dbname=pgtier", 1))
	if err != nil {
		t.Fatal(err)
	}
	c := p.client(t)
	texts := map[string]bool{ // gone
		"SELECT name FROM items WHERE id = 1": true, "SELECT name FROM items WHERE id = 2": false, "SELECT count(*) FROM items": true, "SELECT count(*) FROM parts": false,
	}
	for range 2 {
		for sql := range texts {
			mustValue(t, c, sql)
		}
	}
	pgtest.Exec(t, r.manager, r.database, "UPDATE items SET name = 'new' WHERE id < 3; DELETE FROM items WHERE id = 100; DELETE FROM parts")
	mustValue(t, console, "RESET CACHE "+p.database+" public.items id = 1")
	for sql, gone := range texts {
		before := kept.Hits.Load()
		got, want := mustValue(t, c, sql), pgtest.Value(t, r.manager, r.database, sql)
		if hit := kept.Hits.Load() > before; hit == gone || gone && got != want {
			t.Errorf("%s: served %v, got %s, which is %s by now", sql, hit, got, want)
		}
	}
}

// TestAnswersAreGivenUpWhereOtherServersMayBe writes past a proxy that follows nobody, and has it ask anew.
func TestAnswersAreGivenUpWhereOtherServersMayBe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, _ := r.keeps(t, func(cfg *proxy.Config) { cfg.Auth.Admins = []string{"postgres"} })
	console, err := p.dial(t, strings.Replace(p.dsn("postgres", ""), "dbname="+p.database, "dbname=pgtier", 1))
	if err != nil {
		t.Fatal(err)
	}
	c := p.client(t)
	const sql = "SELECT name FROM items WHERE id = 1"
	for n, commands := range [][]string{{"RECONNECT"}, {"RECONNECT " + p.database}, {"PAUSE", "RESUME"}, {"PAUSE " + p.database, "RESUME " + p.database}} {
		for range 2 {
			mustValue(t, c, sql)
		}
		old, now := mustValue(t, c, sql), fmt.Sprint("as of ", n)
		pgtest.Exec(t, r.manager, r.database, "UPDATE items SET name = '"+now+"' WHERE id = 1")
		wantValue(t, c, sql, old) // it is served from what was kept
		for _, command := range commands {
			mustValue(t, console, command)
		}
		if got := mustValue(t, c, sql); got != now {
			t.Errorf("behind %v: got %s, want %s", commands, got, now)
		}
	}
}

// TestAnswersWhileNoServerIsThere cuts the server off: the last answer is given up to its bound, and said to be that.
func TestAnswersWhileNoServerIsThere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		bound time.Duration
		given bool
	}{"within the bound": {time.Hour, true}, "beyond it": {time.Millisecond, false}, "without one": {0, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			line := newCutter(t, r.manager.Address())
			p, kept := r.keeps(t, func(cfg *proxy.Config) {
				d := cfg.Databases[r.database]
				_, port, _ := net.SplitHostPort(line.listener.Addr().String())
				at, _ := strconv.Atoi(port)
				d.Shards[0].Manager.Port = uint16(at)
				d.Cache.StaleOnError, d.Failover.Wait, d.Pool.ServerDownWait = tc.bound, 100*time.Millisecond, time.Second
				cfg.Databases[r.database] = d
			})
			config, err := pgx.ParseConfig(p.dsn("postgres", ""))
			if err != nil {
				t.Fatal(err)
			}
			notices := make(chan string, 10)
			config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices <- n.Severity + " " + n.Message }
			c, err := pgx.ConnectConfig(bounded(t), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close(context.Background()) })
			const sql = "SELECT name FROM items WHERE id = 1"
			for range 2 {
				wantValue(t, c, sql, "item 1")
			}
			const revoked = "SELECT price FROM items WHERE id = 1"
			if tc.given {
				mustValue(t, c, revoked)
				mustExec(t, c, "REVOKE SELECT ON items FROM PUBLIC")
				p.readsCatalog(t)
				eventually(t, "the last answer is one from behind the change", func() bool {
					before := kept.Kept.Load()
					wantValue(t, c, sql, "item 1")
					return kept.Kept.Load() > before
				})
			}
			kept.Flush() // it may have become another: the answer is the last one
			_ = line.listener.Close()
			var got string
			eventually(t, "the server is missed", func() bool {
				line.cut(1) // those too that were being opened
				got, err = value(c, sql)
				return err != nil || kept.Stale.Load() > 0
			})
			switch {
			case tc.given && (err != nil || got != "item 1" || kept.Stale.Load() != 1):
				t.Errorf("got %s, %v, counted %d", got, err, kept.Stale.Load())
			case tc.given:
				if notice := <-notices; !strings.HasPrefix(notice, "NOTICE no server can be asked: this is what one answered ") {
					t.Errorf("it comes with %s", notice)
				}
			case err == nil || kept.Stale.Load() != 0 || len(notices) > 0:
				t.Errorf("got %s, %v, counted %d", got, err, kept.Stale.Load())
			}
			if _, err := value(c, "SELECT name FROM items WHERE id = 2"); err == nil {
				t.Error("what nobody has asked for before is answered")
			}
			if !tc.given {
				return
			}
			if _, err := value(c, revoked); err == nil {
				t.Error("what was answered before rights changed is answered still")
			}
		})
	}
}

// TestOwnWritesAreSeenInTheTransaction reads what a transaction has written itself, and what others see meanwhile.
func TestOwnWritesAreSeenInTheTransaction(t *testing.T) {
	t.Parallel()
	p, _ := newRig(t).keeps(t, nil)
	one, two := p.client(t), p.client(t)
	const sql = "SELECT price FROM items WHERE id = 1"
	ask := func(c *pgx.Conn, want string) {
		t.Helper()
		if got, err := value(c, sql); err != nil || got != want {
			t.Fatalf("got %s, %v, want %s", got, err, want)
		}
	}
	for range 2 {
		ask(one, "1.50")
		ask(two, "1.50")
	}
	mustExec(t, one, "BEGIN")
	mustExec(t, one, "UPDATE items SET price = 2 WHERE id = 1")
	ask(one, "2.00")
	ask(two, "1.50")
	mustExec(t, one, "COMMIT")
	ask(two, "2.00")
	ask(one, "2.00")
	mustExec(t, one, "BEGIN")
	mustExec(t, one, "UPDATE items SET price = 3 WHERE id = 1")
	ask(one, "3.00")
	mustExec(t, one, "ROLLBACK")
	ask(two, "2.00")
	ask(one, "2.00")
	mustExec(t, one, "BEGIN; UPDATE items SET price = 4 WHERE id = 1; COMMIT")
	ask(two, "4.00")
	mustExec(t, one, "BEGIN; UPDATE items SET price = 5 WHERE id = 1")
	ask(two, "4.00")
	ask(one, "5.00")
	mustExec(t, one, "COMMIT AND CHAIN")
	ask(two, "5.00")
	mustExec(t, one, "UPDATE items SET price = 6 WHERE id = 1")
	ask(two, "5.00")
	mustExec(t, one, "COMMIT")
	ask(two, "6.00")
}

// TestWritesPastTheProxyAreKnown writes directly, and through another proxy, and reads through the first: what was committed
// max_delay ago is in every answer.
func TestWritesPastTheProxyAreKnown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const most = 300 * time.Millisecond
	follows := func(cfg *proxy.Config) {
		for name, d := range cfg.Databases {
			d.Cache.MaxDelay = most
			cfg.Databases[name] = d
		}
	}
	p, kept := r.keeps(t, follows)
	other := r.serve(t, nil)
	direct, err := pgx.Connect(bounded(t), r.manager.URL(r.database, "postgres", r.cluster.Password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close(context.Background()) })
	reader := p.client(t)
	writers := []*pgx.Conn{direct, other.client(t)}
	hits, seen := kept.Hits.Load(), map[int]time.Time{}
	until := time.Now().Add(5 * time.Second)
	for n := 1; time.Now().Before(until); n++ {
		mustExec(t, writers[n%2], "UPDATE items SET price = $1 WHERE id = 1", n)
		seen[n] = time.Now()
		for range 20 {
			asked := time.Now()
			got, err := value(reader, "SELECT price::int FROM items WHERE id = 1")
			if err != nil {
				t.Fatal(err)
			}
			old, _ := strconv.Atoi(got)
			if next, written := seen[old+1]; written && asked.Sub(next) > most {
				t.Fatalf("read %d, %s after %d was written", old, asked.Sub(next), old+1)
			}
			time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
		}
	}
	if hits = kept.Hits.Load() - hits; hits < 100 {
		t.Errorf("%d reads were hits", hits)
	}
	t.Logf("%d writes, %d hits", len(seen), hits)
}

// TestFollowingIsSwitchedByReload switches it off and on: what is kept is served either way, and while it is on a write past the
// proxy ends it.
func TestFollowingIsSwitchedByReload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, kept := r.keeps(t, nil)
	c := p.client(t)
	for _, delay := range []time.Duration{time.Second, 0, time.Second} {
		cfg := r.config(t, nil)
		d := cfg.Databases[r.database]
		d.Cache.Enabled, d.Cache.MaxDelay = true, delay
		cfg.Databases[r.database] = d
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an answer is served", func() bool {
			before := kept.Hits.Load()
			mustValue(t, c, "SELECT name FROM items WHERE id = 1")
			return kept.Hits.Load() > before
		})
		pgtest.Exec(t, r.manager, r.database, "UPDATE items SET name = name || '+' WHERE id = 1")
		written := pgtest.Value(t, r.manager, r.database, "SELECT name FROM items WHERE id = 1")
		if delay > 0 {
			eventually(t, "the write is known", func() bool { return mustValue(t, c, "SELECT name FROM items WHERE id = 1") == written })
		} else if got := mustValue(t, c, "SELECT name FROM items WHERE id = 1"); got == written {
			t.Error("the write is known though nobody follows")
		}
	}
}
