package proxy_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/router/topology"
)

// replicated is a proxy over a manager and two replicas that one test has for itself.
type replicated struct {
	*running
	rig   *rig
	shard *localpg.Shard
	cfg   proxy.Config
}

// serveReplicated starts servers with table t of one row, and a proxy whose replicas all take reads.
func serveReplicated(t *testing.T, edit func(*proxy.Config)) *replicated {
	t.Helper()
	cluster := pgtest.Start(t, localpg.Options{Replicas: 2})
	shard := cluster.Shards[0]
	r := &rig{cluster: cluster, manager: shard.Manager, database: "postgres"}
	pgtest.Exec(t, shard.Manager, "postgres", "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'one')")
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := r.config(t, func(cfg *proxy.Config) {
		withHTTP(cfg)
		d := cfg.Databases[r.database]
		for i, s := range shard.Replicas {
			server, err := topology.ParseURL(s.URL("", "", ""))
			if err != nil {
				t.Fatal(err)
			}
			d.Shards[0].Replicas = append(d.Shards[0].Replicas, proxy.Replica{URL: server, Zone: [2]string{"here", "there"}[i], Weight: 1 + i})
		}
		d.Reads.Balance = "round_robin"
		cfg.Databases[r.database] = d
		if edit != nil {
			edit(cfg)
		}
	})
	p := &replicated{running: r.start(t, cfg), rig: r, shard: shard, cfg: cfg}
	boss := p.console(t, "boss")
	p.awaitStates(t, boss, "up up up")
	return p
}

// awaitStates waits until SHOW REPLICAS has these states.
func (p *replicated) awaitStates(t *testing.T, boss *pgx.Conn, want string) {
	t.Helper()
	eventually(t, "servers are "+want, func() bool {
		_, rows := table(t, boss, "SHOW REPLICAS")
		var states []string
		for _, row := range rows {
			states = append(states, row["state"])
		}
		return strings.Join(states, " ") == want
	})
}

// readFrom runs SELECT note FROM t until each of the replicas has served it.
func (p *replicated) readFrom(t *testing.T, c, boss *pgx.Conn, replicas ...string) {
	t.Helper()
	eventually(t, "reads are served by "+strings.Join(replicas, " and "), func() bool {
		wantValue(t, c, "SELECT note FROM t WHERE id = 1", "one")
		for _, name := range replicas {
			if line(t, boss, "SHOW REPLICAS", "server", name)["reads"] == "0" {
				return false
			}
		}
		return true
	})
}

// routes is how many requests SHOW ROUTES counts for cause.
func routes(t testing.TB, boss *pgx.Conn, cause string) string {
	t.Helper()
	return line(t, boss, "SHOW ROUTES", "cause", cause)["count"]
}

func TestOperatorsSeeReplicas(t *testing.T) {
	p := serveReplicated(t, nil)
	boss, c := p.console(t, "boss"), p.client(t)
	p.readFrom(t, c, boss, "s0-r1", "s0-r2")
	mustValue(t, c, "INSERT INTO t VALUES (2, 'two')")

	t.Run("SHOW REPLICAS", func(t *testing.T) {
		m, r1, r2 := line(t, boss, "SHOW REPLICAS", "server", "s0"), line(t, boss, "SHOW REPLICAS", "server", "s0-r1"), line(t, boss, "SHOW REPLICAS", "server", "s0-r2")
		for _, want := range []struct {
			row           map[string]string
			column, value string
		}{
			{m, "role", "manager"}, {m, "state", "up"}, {m, "database", "postgres"}, {m, "shard", "s0"}, {m, "timeline", "1"}, {m, "reads", "0"}, {m, "conflict", ""},
			{r1, "role", "replica"}, {r1, "state", "up"}, {r1, "zone", "here"}, {r1, "weight", "1"}, {r1, "in_flight", "0"}, {r1, "lag_ms", "0"},
			{r2, "zone", "there"}, {r2, "weight", "2"}, {r2, "host", "127.0.0.1"}, {r2, "warm_percent", "100"},
		} {
			if want.row[want.column] != want.value {
				t.Errorf("%s of %s: got %q, want %q", want.column, want.row["server"], want.row[want.column], want.value)
			}
		}
		for _, row := range []map[string]string{r1, r2} {
			if row["reads"] == "0" || row["latency_us"] == "0" || !strings.Contains(row["replayed_lsn"], "/") {
				t.Errorf("no figures in %v", row)
			}
		}
	})
	t.Run("SHOW ROUTES", func(t *testing.T) {
		for cause, least := range map[string]string{"replica": "1", "not_proved": "1"} {
			if got := routes(t, boss, cause); got < least {
				t.Errorf("%s: got %s, want %s or more", cause, got, least)
			}
		}
		for _, cause := range []string{"transaction", "repeated", "unproved"} {
			if got := routes(t, boss, cause); got != "0" {
				t.Errorf("%s: got %s, want 0", cause, got)
			}
		}
	})
	t.Run("SHOW SERVERS and POOLS", func(t *testing.T) {
		for _, s := range p.shard.Replicas {
			_, port, _ := strings.Cut(s.Address(), ":")
			if row := line(t, boss, "SHOW SERVERS", "port", port); row["addr"] != "127.0.0.1" || row["database"] != "postgres" {
				t.Errorf("connection to %s: got %v", s.Name, row)
			}
		}
		if row := line(t, boss, "SHOW POOLS", "database", "postgres"); row["sv_idle"] != "3" || row["cl_active"] != "1" {
			t.Errorf("the pool of three servers: got %v", row)
		}
		if got := sample(t, scrape(t, p.running), "pgbouncer_pools_client_active_connections", "database", "postgres"); got != 1 {
			t.Errorf("clients of the pool of three servers: got %v, want 1", got)
		}
	})
}

func TestReloadChangesHowReadsAreServed(t *testing.T) {
	p := serveReplicated(t, nil)
	c, boss := p.client(t), p.console(t, "boss")
	p.readFrom(t, c, boss, "s0-r1", "s0-r2")
	d := p.cfg.Databases["postgres"]
	d.Reads.Consistency = "manager"
	p.cfg.Databases = map[string]proxy.Database{"postgres": d}
	if err := p.Reload(p.cfg); err != nil {
		t.Fatal(err)
	}
	wantValue(t, c, "SELECT note FROM t WHERE id = 1", "one")
	if got := routes(t, boss, "level"); got != "1" {
		t.Errorf("got %s requests for the manager by its level, want 1", got)
	}
}

func TestWatchBeginsBeforeTheFirstClient(t *testing.T) {
	p := serveReplicated(t, nil) // waits until the servers are up
	if n := len(p.Sessions()); n != 0 {
		t.Errorf("got %d sessions", n)
	}
}


func TestReloadWithoutReplicasLeavesTheirTransactionsWhole(t *testing.T) {
	p := serveReplicated(t, nil)
	c, boss := p.client(t), p.console(t, "boss")
	p.readFrom(t, c, boss, "s0-r1", "s0-r2")
	mustValue(t, c, "BEGIN READ ONLY")
	wantValue(t, c, "SELECT note FROM t WHERE id = 1", "one")
	d := p.cfg.Databases["postgres"]
	d.Shards = []proxy.Shard{{Manager: d.Shards[0].Manager}}
	p.cfg.Databases = map[string]proxy.Database{"postgres": d}
	if err := p.Reload(p.cfg); err != nil {
		t.Fatal(err)
	}
	mustValue(t, c, "COMMIT")
	wantValue(t, c, "SELECT pg_is_in_recovery()", "f")
}
