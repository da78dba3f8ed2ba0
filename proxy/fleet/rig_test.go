package fleet

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/auth"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
	"pgtier/router/topology"
)

// patience bounds every wait of these tests; the machine may be busy with others.
const patience = 60 * time.Second

// rig is a fleet that watches a real shard.
type rig struct {
	*Fleet
	t       *testing.T
	shard   *localpg.Shard
	servers []*localpg.Server // in the order of View.Hosts
}

// quickConfig watches closely, so that tests need not wait, and bears a busy machine.
func quickConfig() Config {
	cfg := DefaultConfig()
	cfg.Slow = 100 * time.Millisecond
	cfg.RetryMost = 100 * time.Millisecond
	cfg.Silence = 10 * time.Second
	return cfg
}

// start starts a cluster and a fleet that watches it. user is the monitor's role, "" the superuser.
func start(t *testing.T, options localpg.Options, cfg Config, user string) *rig {
	t.Helper()
	cluster := pgtest.Start(t, options)
	shard := cluster.Shards[0]
	if user != "" {
		pgtest.Exec(t, shard.Manager, "postgres", "CREATE ROLE "+user+" LOGIN PASSWORD 'weak'")
		catchUp(t, shard)
	}
	r := watch(t, shard, cfg, user)
	r.await("everything up", func(v *View) bool {
		for _, h := range v.Hosts {
			if h.State != balance.Up {
				return false
			}
		}
		return v.Manager == 0
	})
	return r
}

// watch starts a fleet over shard and ends it with the test.
func watch(t *testing.T, shard *localpg.Shard, cfg Config, user string) *rig {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	servers := append([]*localpg.Server{shard.Manager}, shard.Replicas...)
	topo := topology.Shard{Name: shard.Name}
	password := ""
	if user != "" {
		password = "weak"
	}
	for i, s := range servers {
		parsed, err := topology.ParseURL(s.URL("postgres", user, password))
		if err != nil {
			t.Fatal(err)
		}
		parsed.Name = s.Name
		if i == 0 {
			topo.Manager = parsed
		} else {
			topo.Replicas = append(topo.Replicas, parsed)
		}
	}
	dialer := &backend.Dialer{Bufs: wire.NewBuffers()}
	dial := func(ctx context.Context, s topology.Server) (*backend.Conn, error) {
		network, address := s.Address()
		return dialer.Dial(ctx, backend.Target{Name: s.Name, Network: network, Address: address, Host: s.Host, Database: s.Database,
			User: s.User, Credential: auth.PasswordCredential(s.Password.Reveal()), TLS: wire.TLSConfig{Mode: wire.TLSDisable}})
	}
	log := zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))
	f := New(topo, cfg, dial, log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ended by cancel
		f.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	})
	return &rig{Fleet: f, t: t, shard: shard, servers: servers}
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("after %s still not: %s", patience, what)
		case <-tick.C:
		}
	}
}

// await waits until the view is as wanted and returns it.
func (r *rig) await(what string, holds func(*View) bool) *View {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		v := r.View()
		if holds(v) {
			return v
		}
		select {
		case <-deadline:
			r.t.Fatalf("after %s still not: %s\n%s", patience, what, show(v))
		case <-tick.C:
		}
	}
}

// show prints a view for a failure.
func show(v *View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "manager %d, epoch %d, conflict %q\n", v.Manager, v.Epoch, v.Conflict)
	for _, h := range v.Hosts {
		fmt.Fprintf(&b, "  %s: %s, %s, timeline %d, replayed %s, lag %s, %q\n", h.Name, h.State, h.Role, h.Timeline, h.Replayed, h.Lag, h.Reason)
	}
	return b.String()
}

// host is the view's entry for a server.
func (r *rig) host(v *View, s *localpg.Server) *Host {
	r.t.Helper()
	for i := range v.Hosts {
		if v.Hosts[i].Name == s.Name {
			return &v.Hosts[i]
		}
	}
	r.t.Fatalf("%s is not in the view", s.Name)
	return nil
}

// is reports whether a server has a state in the view.
func (r *rig) is(v *View, s *localpg.Server, state balance.State) bool {
	return r.host(v, s).State == state
}

func catchUp(t *testing.T, shard *localpg.Shard) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := shard.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
}

// session opens a connection of its own to a server.
func session(t *testing.T, s *localpg.Server) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// run executes SQL on a session.
func run(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value asks for one text.
func value(t *testing.T, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var text string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

// lsn asks for a position.
func lsn(t *testing.T, conn *pgx.Conn, sql string) balance.LSN {
	t.Helper()
	got, err := balance.ParseLSN(value(t, conn, sql))
	if err != nil {
		t.Fatal(err)
	}
	return got
}
