package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// hold begins a transaction, which keeps a server connection until the returned function ends it.
func hold(t testing.TB, c *pgx.Conn) (end func()) {
	t.Helper()
	mustValue(t, c, "BEGIN; SELECT 1")
	return func() {
		t.Helper()
		mustValue(t, c, "ROLLBACK")
	}
}

// later runs one statement in the background.
func later(c *pgx.Conn, sql string) <-chan error {
	done := make(chan error, 1)
	go func() { // ends within limit
		_, err := value(c, sql)
		done <- err
	}()
	return done
}

// answer runs one statement in the background and tells its value, or its error.
func answer(c *pgx.Conn, sql string) <-chan string {
	heard := make(chan string, 1)
	go func() { // ends within limit
		v, err := value(c, sql)
		if err != nil {
			v = err.Error()
		}
		heard <- v
	}()
	return heard
}

// waiting polls until n sessions wait for a server connection.
func (p *running) waiting(t testing.TB, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d sessions wait", n), func() bool { return p.waitingNow() == n })
}

// waitingNow is how many sessions wait for a server connection, or for another session's answer.
func (p *running) waitingNow() (n int) {
	for _, s := range p.Sessions() {
		if s.Info().State.String() == "waiting" {
			n++
		}
	}
	return n
}

func TestPoolSizeIsKeptAndTheQueueIsFair(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 2 }))
	endFirst, endSecond := hold(t, p.client(t)), hold(t, p.client(t))
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE turns (id serial, who int)")
	var done []<-chan error
	for i := range 8 {
		done = append(done, later(p.client(t), fmt.Sprintf("INSERT INTO turns (who) VALUES (%d)", i)))
		p.waiting(t, i+1) // in the queue, in this order
	}
	eventually(t, "there are two server connections", func() bool { return r.connections(t, "true") == "2" }) // one that will read the catalog counts until it asks
	endFirst()
	for i, d := range done {
		if err := <-d; err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	endSecond()
	if got := pgtest.Value(t, r.manager, r.database, "SELECT string_agg(who::text, '' ORDER BY id) FROM turns"); got != "01234567" {
		t.Errorf("turns were taken in the order %s", got)
	}
}

func TestWaitTimeout(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size, c.WaitTimeout = 1, 500*time.Millisecond }))
	waiter := p.client(t)
	end := hold(t, p.client(t))
	_, err := value(waiter, "SELECT 1")
	wantError(t, err, "57P03", `no connection to server "s0" became free`)
	end()
	wantValue(t, waiter, "SELECT 1", "1")
}

func TestMinIdleIsWarmFromTheStart(t *testing.T) {
	r := newRig(t)
	r.serve(t, pools(func(c *pool.Config) { c.MinIdle, c.IdleTimeout = 3, 50*time.Millisecond }))
	eventually(t, "three connections are open before any client", func() bool { return r.connections(t, "true") == "3" })
}

func TestReserveOpensForLongWaits(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size, c.Reserve, c.ReserveTimeout = 1, 1, 100*time.Millisecond }))
	second := p.client(t)
	end := hold(t, p.client(t))
	began := time.Now()
	wantValue(t, second, "SELECT 1", "1")
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("the reserve opened after %s", took)
	}
	end()
}

func TestLimitsOnClients(t *testing.T) {
	r := newRig(t)
	for name, tc := range map[string]struct {
		edit func(*pool.Config)
		free string // a role that is not touched by the limit, "" for none
	}{
		"max_clients":          {func(c *pool.Config) { c.MaxClients = 2 }, ""},
		"max_user_clients":     {func(c *pool.Config) { c.MaxUserClients = 2 }, "trusty"},
		"max_database_clients": {func(c *pool.Config) { c.MaxDatabaseClients = 2 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.serve(t, pools(tc.edit))
			first := p.client(t)
			p.client(t)
			_, err := p.dial(t, p.dsn("postgres", ""))
			wantError(t, err, "53300", "too many clients already")
			if tc.free != "" {
				if c, err := p.dial(t, p.dsn(tc.free, "")); err != nil {
					t.Errorf("another role: %v", err)
				} else {
					wantValue(t, c, "SELECT 1", "1")
				}
			}
			_ = first.Close(bounded(t))
			eventually(t, "a client that leaves makes room", func() bool {
				c, err := p.dial(t, p.dsn("postgres", ""))
				return err == nil && mustValue(t, c, "SELECT 1") == "1"
			})
		})
	}
}

func TestLimitsOnServerConnections(t *testing.T) {
	r := newRig(t)
	for name, tc := range map[string]struct {
		edit  func(*pool.Config)
		roles []string
	}{
		"max_database_connections": {func(c *pool.Config) { c.MaxDatabaseConnections = 3 }, []string{"postgres", "trusty"}},
		"max_user_connections":     {func(c *pool.Config) { c.MaxUserConnections = 3 }, []string{"postgres"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.serve(t, pools(tc.edit))
			var all sync.WaitGroup
			most := 0
			for i := range 12 {
				c, err := p.dial(t, p.dsn(tc.roles[i%len(tc.roles)], ""))
				if err != nil {
					t.Fatal(err)
				}
				all.Go(func() {
					if _, err := value(c, "SELECT pg_sleep(0.05)"); err != nil {
						t.Error(err)
					}
				})
			}
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }() // ends with the clients
			for open := true; open; {
				select {
				case <-done:
					open = false
				case <-time.After(10 * time.Millisecond):
				}
				n := 0
				fmt.Sscan(r.connections(t, "query LIKE '%pg_sleep%'"), &n) // not one that reads the catalog
				most = max(most, n)
			}
			if most > 3 || most == 0 {
				t.Errorf("up to %d server connections, want 3", most)
			}
		})
	}
}

func TestIdleTimeoutAndMaxLifetimeCloseConnections(t *testing.T) {
	r := newRig(t)
	t.Run("idle_timeout", func(t *testing.T) {
		p := r.serve(t, pools(func(c *pool.Config) { c.IdleTimeout = 50 * time.Millisecond }))
		wantValue(t, p.client(t), "SELECT 1", "1")
		eventually(t, "the idle connection is closed", func() bool { return r.connections(t, "true") == "0" })
	})
	t.Run("max_lifetime", func(t *testing.T) {
		p := r.serve(t, pools(func(c *pool.Config) { c.MaxLifetime = 200 * time.Millisecond }))
		c := p.client(t)
		first := mustValue(t, c, "SELECT pg_backend_pid()")
		eventually(t, "another connection serves", func() bool { return mustValue(t, c, "SELECT pg_backend_pid()") != first })
	})
}

// TestStampede has 200 clients meet a cold pool of 10.
func TestStampede(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 10 }))
	const clients = 200
	query := wire.AppendQuery(nil, "SELECT 1")
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			c := p.rawStart(t)
			if c == nil {
				return
			}
			defer c.nc.Close()
			if err := c.round(query); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := 0
	fmt.Sscan(r.connections(t, "query = 'SELECT 1'"), &n) // not one that reads the catalog
	if n < 1 || n > 10 {
		t.Errorf("%d server connections after the stampede, want 1 to 10", n)
	}
	eventually(t, "all sessions have ended", func() bool { return len(p.Sessions()) == 0 })
}

// rawStart is rawDial for goroutines: it reports errors without ending the test.
func (p *running) rawStart(t testing.TB) *rawClient {
	nc, err := dialTCP(p.address)
	if err != nil {
		t.Error(err)
		return nil
	}
	c, err := rawLogin(nc, wire.Protocol30, []wire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: p.database}})
	if err != nil {
		_ = nc.Close()
		t.Error(err)
		return nil
	}
	return c
}

// ownServer is a rig with a server that the test may stop.
func ownServer(t testing.TB) *rig {
	t.Helper()
	cluster := pgtest.Start(t, localpg.Options{})
	return &rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: "postgres"}
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	r := ownServer(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 3 }))
	var clients []*pgx.Conn
	for range 5 {
		clients = append(clients, p.client(t, "application_name=survivor"))
	}
	inside := p.client(t)
	hold(t, inside)
	hold(t, clients[0])() // a second connection
	// Connections used a moment ago are lent without a look at them, so that their next user finds out as at the server
	// itself. Those that rested are looked at.
	eventually(t, "the idle connection has rested", func() bool {
		return r.connections(t, "state = 'idle' AND state_change < now() - interval '2.2 s'") == "1"
	})
	if err := r.manager.Stop(localpg.Fast); err != nil {
		t.Fatal(err)
	}
	waits := later(clients[1], "SELECT 1")
	if err := r.manager.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Errorf("a client that asked while the server was away: %v", err)
	}
	if _, err := value(inside, "SELECT 1"); err == nil {
		t.Error("a transaction survived the server")
	}
	for i, c := range clients {
		if got, err := value(c, "SHOW application_name"); got != "survivor" {
			t.Errorf("idle client %d after the restart: %q, %v", i, got, err)
		}
	}
}

func TestServerDownAtTheStart(t *testing.T) {
	r := ownServer(t)
	if err := r.manager.Stop(localpg.Immediate); err != nil {
		t.Fatal(err)
	}
	p := r.serve(t, pools(func(c *pool.Config) { c.ServerDownWait, c.MinIdle = 100*time.Millisecond, 1 }))
	_, err := p.dial(t, p.dsn("postgres", ""))
	wantError(t, err, "57P03", `cannot connect to server "s0"`)
	if err := r.manager.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "clients get in", func() bool {
		c, err := p.dial(t, p.dsn("postgres", ""))
		return err == nil && mustValue(t, c, "SELECT 1") == "1"
	})
}

// TestRefusedLoginsBackOff: a wrong password must not hammer the server, however many clients come.
func TestRefusedLoginsBackOff(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Pool.LoginRetry = 10 * time.Second
		r.setURL(cfg, r.url(t, "app", "wrong", "sslmode=disable"))
	})
	before := strings.Count(r.manager.LogTail(10000), `password authentication failed for user "app"`)
	for range 30 {
		_, err := p.dial(t, p.dsn("app", ""))
		wantError(t, err, "28P01", `server "s0" refused the login of role "app"`)
	}
	if n := strings.Count(r.manager.LogTail(10000), `password authentication failed for user "app"`) - before; n < 1 || n > 10 {
		t.Errorf("30 clients made %d attempts at the server", n)
	}
}

func TestAClientThatVanishesIsRolledBack(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (id int)")
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	for name, last := range map[string]string{"between statements": "SELECT 1", "during one": "SELECT pg_sleep(60)", "in a failed transaction": "SELECT 1/0"} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, wire.Protocol30)
			if err := c.round(wire.AppendQuery(nil, "BEGIN; INSERT INTO kept VALUES (1)")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.nc.Write(wire.AppendQuery(nil, last)); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(last, "sleep") {
				eventually(t, "the statement runs", func() bool { return r.connections(t, "state = 'active' AND query LIKE '%pg_sleep(60)'") == "1" })
			}
			_ = c.nc.Close()
			wantValue(t, p.client(t), "SELECT count(*) FROM kept", "0")
		})
	}
	eventually(t, "no server connection is left at work", func() bool { return r.connections(t, "state <> 'idle'") == "0" })
}

func TestSessionMode(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Mode, c.Size = pool.ModeSession, 1 }))
	ctx := bounded(t)
	first := p.client(t)
	mustValue(t, first, "SET timezone = 'Asia/Tokyo'; CREATE TEMP TABLE mine (id int); INSERT INTO mine VALUES (7); LISTEN news; SELECT pg_advisory_lock(1)")
	if _, err := first.Prepare(ctx, "seven", "SELECT id FROM mine"); err != nil {
		t.Fatal(err)
	}
	var id int
	if err := first.QueryRow(ctx, "seven").Scan(&id); err != nil || id != 7 {
		t.Errorf("prepared statement over a temporary table: %d, %v", id, err)
	}
	pid := mustValue(t, first, "SELECT pg_backend_pid()")
	pgtest.Exec(t, r.manager, r.database, "NOTIFY news, 'hello'")
	if n, err := first.WaitForNotification(ctx); err != nil || n.Payload != "hello" {
		t.Errorf("notification: %v, %v", n, err)
	}
	if err := first.Close(ctx); err != nil {
		t.Fatal(err)
	}
	second := p.client(t)
	wantValue(t, second, "SELECT pg_backend_pid()", pid)
	wantValue(t, second, "SHOW timezone", "UTC")
	wantValue(t, second, "SELECT to_regclass('mine') IS NULL", "t")
	wantValue(t, second, "SELECT count(*) FROM pg_prepared_statements", "0")
	wantValue(t, second, "SELECT count(*) FROM pg_listening_channels()", "0")
	wantValue(t, second, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "0")
}

func TestStatementMode(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Mode, c.Size = pool.ModeStatement, 1 }))
	c := p.client(t)
	wantValue(t, c, "SELECT 1", "1")
	for _, sql := range []string{"BEGIN", "START TRANSACTION", "SELECT 1; BEGIN"} {
		if _, err := value(c, sql); err == nil {
			t.Errorf("%s: no error", sql)
			c = p.client(t)
		}
		if c.IsClosed() {
			c = p.client(t)
		}
		wantValue(t, c, "SELECT 2", "2")
	}
	_, err := c.Exec(context.Background(), "begin", pgx.QueryExecModeExec)
	if err == nil {
		t.Error("BEGIN by the extended protocol: no error")
	}
}

// TestAServerConnectionThatWasEndedWhileItRestedIsReplacedUnseen: the pool lends what it used a moment ago without a look,
// so the session itself must tell a server that was told to go before it began from one that lost a statement.
func TestAServerConnectionThatWasEndedWhileItRestedIsReplacedUnseen(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (n int)")
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	c := p.client(t)
	for _, sql := range []string{"SELECT 'read'", "INSERT INTO kept VALUES (1) RETURNING 'written'", "BEGIN"} {
		pid := mustValue(t, c, "SELECT pg_backend_pid()")
		if got := pgtest.Value(t, r.manager, r.database, "SELECT pg_terminate_backend("+pid+")"); got != "t" && got != "true" {
			t.Fatalf("pg_terminate_backend says %s", got)
		}
		if _, err := value(c, sql); err != nil {
			t.Errorf("%s on a connection that was ended: %v", sql, err)
		}
		if sql == "BEGIN" { // which goes with the first statement
			mustValue(t, c, "INSERT INTO kept VALUES (2) RETURNING now()::text")
			mustValue(t, c, "COMMIT")
		}
	}
	if got := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM kept"); got != "2" {
		t.Errorf("%s rows, want the two that were written", got)
	}
}
