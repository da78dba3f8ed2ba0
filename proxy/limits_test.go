package proxy_test

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// short is a time limit for tests: the sweeper strikes up to a tenth of a second later.
const short = 500 * time.Millisecond

func TestQueryTimeout(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size, c.QueryTimeout = 1, short }))
	c := p.client(t)
	pid := mustValue(t, c, "SELECT pg_backend_pid()")
	_, err := value(c, "SELECT pg_sleep(30)")
	wantError(t, err, "57014", "canceling statement")
	wantValue(t, c, "SELECT pg_backend_pid()", pid)
	mustValue(t, c, "BEGIN")
	_, err = value(c, "SELECT pg_sleep(30)")
	wantError(t, err, "57014", "canceling statement")
	_, err = value(c, "SELECT 1")
	wantError(t, err, "25P02", "current transaction is aborted")
	mustValue(t, c, "ROLLBACK")
	for range 5 { // many short statements are not one long one
		mustValue(t, c, "SELECT pg_sleep(0.15)")
	}
}

func TestIdleTransactionTimeout(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (id int)")
	p := r.serve(t, pools(func(c *pool.Config) { c.Size, c.IdleTransactionTimeout = 1, short }))
	c := p.rawDial(t, wire.Protocol30)
	if err := c.round(wire.AppendQuery(nil, "BEGIN; INSERT INTO kept VALUES (1)")); err != nil {
		t.Fatal(err)
	}
	c.wantFarewell(t, "25P03")
	wantValue(t, p.client(t), "SELECT count(*) FROM kept", "0")
}

func TestTransactionTimeout(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (id int)")
	p := r.serve(t, pools(func(c *pool.Config) { c.Size, c.TransactionTimeout = 1, 2*short }))
	t.Run("busy", func(t *testing.T) {
		c := p.rawDial(t, wire.Protocol30)
		if err := c.round(wire.AppendQuery(nil, "BEGIN; INSERT INTO kept VALUES (1)")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.nc.Write(wire.AppendQuery(nil, "SELECT pg_sleep(30)")); err != nil {
			t.Fatal(err)
		}
		c.wantFarewell(t, "57014")
		wantValue(t, p.client(t), "SELECT count(*) FROM kept", "0")
		eventually(t, "the server does not go on with it", func() bool { return r.connections(t, "state <> 'idle'") == "0" })
	})
	t.Run("idle", func(t *testing.T) {
		c := p.rawDial(t, wire.Protocol30)
		if err := c.round(wire.AppendQuery(nil, "BEGIN; INSERT INTO kept VALUES (1)")); err != nil {
			t.Fatal(err)
		}
		c.wantFarewell(t, "57014")
		wantValue(t, p.client(t), "SELECT count(*) FROM kept", "0")
	})
	t.Run("many short ones", func(t *testing.T) {
		c := p.client(t)
		for range 10 {
			mustValue(t, c, "SELECT pg_sleep(0.15)")
		}
	})
}

func TestClientIdleTimeout(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.ClientIdleTimeout = short }))
	c := p.rawDial(t, wire.Protocol30)
	c.wantFarewell(t, "57P05")
	inside := p.client(t)
	mustValue(t, inside, "BEGIN")
	mustValue(t, inside, "SELECT pg_sleep(1)") // neither work nor a transaction is idleness
	mustValue(t, inside, "COMMIT")
}

func TestClientLoginTimeout(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.ClientLoginTimeout, c.MaxClients = short, 3 }))
	var silent []*rawClient
	for range 3 {
		nc, err := dialTCP(p.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		silent = append(silent, &rawClient{nc: nc, in: make([]byte, 512)})
	}
	for _, c := range silent {
		told, err := c.farewell()
		if told == nil || told.Code != "57014" && told.Code != "53300" {
			t.Errorf("a silent client got %v, %v", told, err)
		}
	}
	wantValue(t, p.client(t), "SELECT 1", "1")
}

// TestSilentConnectionsKeepNobodyOut: as many as may be in have come and say nothing, and none of them is over time.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	r := newRig(t)
	const most = 20
	core, logs := observer.New(zap.InfoLevel)
	p := r.startLogged(t, r.config(t, pools(func(c *pool.Config) { c.MaxClients = most })), zap.New(core))
	in := p.client(t)
	var silent []*rawClient
	for range most {
		nc, err := dialTCP(p.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		silent = append(silent, &rawClient{nc: nc, in: make([]byte, 512)})
	}
	wantValue(t, in, "SELECT 1", "1")
	wantValue(t, p.client(t), "SELECT 2", "2")
	silent[0].wantFarewell(t, "53300")
	if logs.FilterMessage("turned away before login").Len() == 0 {
		t.Error("the log says nothing of those who were turned away")
	}
	wantValue(t, in, "SELECT 3", "3")
}

// TestLimitsFollowTheReload: a limit that a reload brings holds for clients that were there before.
func TestLimitsFollowTheReload(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, nil)
	p := r.start(t, cfg)
	c := p.client(t)
	mustValue(t, c, "SELECT pg_sleep(1)")
	d := cfg.Databases[r.database]
	d.Pool.QueryTimeout = short
	cfg.Databases[r.database] = d
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	_, err := value(c, "SELECT pg_sleep(30)")
	wantError(t, err, "57014", "canceling statement")
}
