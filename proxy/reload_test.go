package proxy_test

import (
	"context"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/auth"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

func TestReloadChangesUsers(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, func(cfg *proxy.Config) {
		cfg.Auth.Method, cfg.Auth.Users = "scram-sha-256", []auth.UserConfig{{Name: "app", Password: "app-secret"}}
	})
	p := r.start(t, cfg)
	old, err := p.dial(t, p.dsn("app", "app-secret"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.dial(t, p.dsn("other", "other-secret"))
	wantError(t, err, "28P01", "password authentication failed")
	cfg.Auth.Users = []auth.UserConfig{{Name: "other", Password: "other-secret"}}
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if c, err := p.dial(t, p.dsn("other", "other-secret")); err != nil {
		t.Errorf("a user that was added: %v", err)
	} else {
		wantValue(t, c, "SELECT session_user", "other")
	}
	_, err = p.dial(t, p.dsn("app", "app-secret"))
	wantError(t, err, "28P01", "password authentication failed")
	wantValue(t, old, "SELECT session_user", "app") // as in PostgreSQL, who is in stays in
}

func TestReloadChangesThePoolSize(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, pools(func(c *pool.Config) { c.Size = 1 }))
	p := r.start(t, cfg)
	resize := func(size int) {
		t.Helper()
		d := cfg.Databases[r.database]
		d.Pool.Size = size
		cfg.Databases = map[string]proxy.Database{r.database: d}
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	endFirst := hold(t, p.client(t))
	second, third := p.client(t), p.client(t)
	done := []<-chan error{later(second, "BEGIN; SELECT 1"), later(third, "BEGIN; SELECT 1")}
	p.waiting(t, 2)
	resize(3)
	for _, d := range done {
		if err := <-d; err != nil {
			t.Errorf("a client that waited for the larger pool: %v", err)
		}
	}
	eventually(t, "the pool has three connections", func() bool { return r.connections(t, "true") == "3" }) // one that will read the catalog counts until it asks
	resize(1)
	wantValue(t, third, "SELECT 2", "2") // nobody is cut off inside a transaction
	endFirst()
	mustValue(t, second, "COMMIT")
	mustValue(t, third, "COMMIT")
	eventually(t, "the pool has shrunk", func() bool { return r.connections(t, "true") == "1" })
	wantValue(t, second, "SELECT 1", "1")
}

func TestReloadAddsAndRemovesDatabases(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, nil)
	p := r.start(t, cfg)
	old := p.rawDial(t, wire.Protocol30)
	wantValue(t, p.client(t), "SELECT 1", "1")
	more := cfg
	more.Databases = maps.Clone(cfg.Databases)
	more.Databases["alias"] = cfg.Databases[r.database]
	if err := p.Reload(more); err != nil {
		t.Fatal(err)
	}
	alias := *p
	alias.database = "alias"
	wantValue(t, alias.client(t), "SELECT current_database()", r.database)
	delete(more.Databases, r.database)
	if err := p.Reload(more); err != nil {
		t.Fatal(err)
	}
	old.wantFarewell(t, "57P01")
	_, err := p.dial(t, p.dsn("postgres", ""))
	wantError(t, err, "3D000", `database "`+r.database+`" does not exist`)
	wantValue(t, alias.client(t), "SELECT 1", "1")
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	wantValue(t, p.client(t), "SELECT 1", "1")
}

func TestReloadMovesADatabaseToAnotherServer(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, nil)
	p := r.start(t, cfg)
	c := p.client(t, "timezone=Asia/Tokyo")
	wantValue(t, c, "SELECT current_database()", r.database)
	elsewhere := pgtest.Database(t, r.manager)
	server := r.url(t, "postgres", r.cluster.Password, "sslmode=disable")
	server.Database = elsewhere
	cfg.Databases = maps.Clone(cfg.Databases)
	r.setURL(&cfg, server)
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client works in the other database", func() bool { return mustValue(t, c, "SELECT current_database()") == elsewhere })
	wantValue(t, c, "SHOW timezone", "Asia/Tokyo")
	eventually(t, "no connection to the old database is left", func() bool { return r.connections(t, "true") == "0" })
	p.Close()
}

func TestABadReloadChangesNothing(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, nil)
	p := r.start(t, cfg)
	c := p.client(t)
	for what, change := range map[string]func(*proxy.Config){
		"no database":           func(c *proxy.Config) { c.Databases = nil },
		"a pool of nothing":     func(c *proxy.Config) { c.Pool.Size = 0 },
		"an unknown method":     func(c *proxy.Config) { c.Auth.Method = "kerberos" },
		"a missing user list":   func(c *proxy.Config) { c.Auth.UsersFile = "/nonexistent/users" },
		"a missing rule file":   func(c *proxy.Config) { c.Auth.Method, c.Auth.HBAFile = "hba", "/nonexistent/hba" },
		"a broken rule file":    func(c *proxy.Config) { c.Auth.Method, c.Auth.HBAFile = "hba", file(t, "hba", "host all\n") },
		"an unknown TLS mode":   func(c *proxy.Config) { c.TLS.Client.Mode = "maybe" },
		"require without a key": func(c *proxy.Config) { c.TLS.Client.Mode = "require" },
	} {
		broken := cfg
		broken.Databases = map[string]proxy.Database{"replaced": cfg.Databases[r.database]}
		change(&broken)
		if err := p.Reload(broken); err == nil {
			t.Errorf("%s: no error", what)
		}
		wantValue(t, c, "SELECT 1", "1")
		wantValue(t, p.client(t), "SELECT 1", "1")
	}
}

func TestDrainLetsTransactionsEnd(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (id int)")
	p := r.serve(t, nil)
	idle, busy := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	if err := busy.round(wire.AppendQuery(nil, "BEGIN; INSERT INTO kept VALUES (1)")); err != nil {
		t.Fatal(err)
	}
	drained := make(chan error, 1)
	ctx := bounded(t)
	go func() { drained <- p.Drain(ctx) }() // ends with ctx
	idle.wantFarewell(t, "57P01")
	if _, err := dialTCP(p.address); err == nil {
		t.Error("a draining proxy listens")
	}
	if err := busy.round(wire.AppendQuery(nil, "INSERT INTO kept VALUES (2)")); err != nil {
		t.Errorf("a statement of the transaction: %v", err)
	}
	if err := busy.round(wire.AppendQuery(nil, "COMMIT")); err != nil {
		t.Errorf("the end of the transaction: %v", err)
	}
	busy.wantFarewell(t, "57P01")
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if got := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM kept"); got != "2" {
		t.Errorf("%s rows are kept, want 2", got)
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	hold(t, p.client(t))
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	if err := p.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 clients left") {
		t.Errorf("got %v", err)
	}
}

// TestCloseEndsEverything: clients at rest, in transactions, in the queue and at work, and nothing of them is left.
func TestCloseEndsEverything(t *testing.T) {
	r := newRig(t)
	before := runtime.NumGoroutine()
	p, err := proxy.New(r.config(t, pools(func(c *pool.Config) { c.Size, c.MinIdle = 2, 1 })), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	run := &running{Proxy: p, address: p.Addrs()[0].String(), database: r.database}
	clients := map[string]*rawClient{}
	for name, sql := range map[string]string{"at rest": "SELECT 1", "in a transaction": "BEGIN; SELECT 1"} {
		clients[name] = run.rawDial(t, wire.Protocol30)
		if err := clients[name].round(wire.AppendQuery(nil, sql)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"at work", "in the queue"} {
		clients[name] = run.rawDial(t, wire.Protocol30)
		if _, err := clients[name].nc.Write(wire.AppendQuery(nil, "SELECT pg_sleep(30)")); err != nil {
			t.Fatal(err)
		}
		if name == "at work" {
			r.sleeping(t, "1")
		}
	}
	silent, err := dialTCP(run.address) // never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	run.waiting(t, 1)
	began := time.Now()
	p.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %s", took)
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) { c.wantFarewell(t, "57P01") })
	}
	eventually(t, "the server has no connection of it left", func() bool { return r.connections(t, "true") == "0" })
	leaked := func() bool { return runtime.NumGoroutine() > before }
	for end := time.Now().Add(limit); leaked() && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	if leaked() {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
	}
	p.Close() // again is harmless
}
