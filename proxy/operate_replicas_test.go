package proxy_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// replicated is a proxy over a manager and two replicas that one test has for itself.
type replicated struct {
	*running
	crew *crew
	cfg  proxy.Config
}

// serveReplicated starts servers with table t of one row, and a proxy whose replicas all take reads; edit changes the
// database's part.
func serveReplicated(t *testing.T, edit func(*proxy.Database)) *replicated {
	t.Helper()
	c := newCrew(t, 2, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'one')")
	if err := c.shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := c.config(t, func(d *proxy.Database) {
		replicas := d.Shards[0].Replicas
		replicas[0].Zone, replicas[1].Zone, replicas[1].Weight = "here", "there", 2
		d.Reads.Balance = "round_robin"
		if edit != nil {
			edit(d)
		}
	})
	withHTTP(&cfg)
	p := &replicated{running: c.start(t, cfg), crew: c, cfg: cfg}
	boss := p.console(t, "boss")
	p.awaitStates(t, boss, "up up up")
	return p
}

// reload gives the proxy its configuration with the database's part changed.
func (p *replicated) reload(t *testing.T, edit func(*proxy.Database)) {
	t.Helper()
	d := p.cfg.Databases[p.database]
	edit(&d)
	p.cfg.Databases = map[string]proxy.Database{p.database: d}
	if err := p.Reload(p.cfg); err != nil {
		t.Fatal(err)
	}
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
		eventually(t, "the replica has what was written", func() bool { return line(t, boss, "SHOW REPLICAS", "server", "s0-r1")["lag_ms"] == "0" })
		m, r1, r2 := line(t, boss, "SHOW REPLICAS", "server", "s0"), line(t, boss, "SHOW REPLICAS", "server", "s0-r1"), line(t, boss, "SHOW REPLICAS", "server", "s0-r2")
		for _, want := range []struct {
			row           map[string]string
			column, value string
		}{
			{m, "role", "manager"}, {m, "state", "up"}, {m, "database", "crew"}, {m, "shard", "s0"}, {m, "timeline", "1"}, {m, "reads", "0"}, {m, "conflict", ""},
			{r1, "role", "replica"}, {r1, "state", "up"}, {r1, "zone", "here"}, {r1, "weight", "1"}, {r1, "in_flight", "0"},
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
		for _, s := range p.crew.shard.Replicas {
			_, port, _ := strings.Cut(s.Address(), ":")
			if row := line(t, boss, "SHOW SERVERS", "port", port); row["addr"] != "127.0.0.1" || row["database"] != "crew" {
				t.Errorf("connection to %s: got %v", s.Name, row)
			}
		}
		// One to each server; more where a read that took long had others go past it.
		var pool map[string]string
		var connections []map[string]string
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("SHOW POOLS: %v, SHOW SERVERS: %v", pool, connections)
			}
		})
		eventually(t, "the pool of three servers has all connections idle, and one client", func() bool {
			pool = line(t, boss, "SHOW POOLS", "database", "crew")
			_, connections = table(t, boss, "SHOW SERVERS")
			return len(connections) >= 3 && pool["sv_idle"] == strconv.Itoa(len(connections)) && pool["sv_active"] == "0" && pool["cl_active"] == "1"
		})
		if got := sample(t, scrape(t, p.running), "pgbouncer_pools_client_active_connections", "database", "crew"); got != 1 {
			t.Errorf("clients of the pool of three servers: got %v, want 1", got)
		}
	})
}

func TestMetricsTellOfReplicas(t *testing.T) {
	p := serveReplicated(t, nil)
	boss, c := p.console(t, "boss"), p.client(t)
	p.readFrom(t, c, boss, "s0-r1", "s0-r2")
	mustValue(t, c, "INSERT INTO t VALUES (2, 'two')")
	families := scrape(t, p.running)
	for _, want := range []struct {
		name   string
		value  float64
		labels []string
	}{
		{"pgtier_manager_up", 1, nil}, {"pgtier_manager_conflict", 0, nil}, {"pgtier_failovers_total", 0, nil}, {"pgtier_repeated_total", 0, nil},
		{"pgtier_unproved_reads_total", 0, nil}, {"pgtier_routes_total", 0, []string{"cause", "no_replica"}},
		{"pgtier_server_up", 1, []string{"server", "s0"}}, {"pgtier_server_up", 1, []string{"server", "s0-r2"}},
		{"pgtier_server_state", 1, []string{"server", "s0", "role", "manager", "state", "up"}},
		{"pgtier_server_state", 1, []string{"server", "s0-r1", "role", "replica", "state", "up"}}, {"pgtier_replica_in_flight", 0, []string{"server", "s0-r1"}},
	} {
		if got := sample(t, families, want.name, append(want.labels, "database", "crew")...); got != want.value {
			t.Errorf("%s %v: got %v, want %v", want.name, want.labels, got, want.value)
		}
	}
	for _, name := range []string{"pgtier_replica_replayed_bytes", "pgtier_replica_latency_seconds", "pgtier_replica_reads_total"} {
		if got := sample(t, families, name, "server", "s0-r1"); got <= 0 {
			t.Errorf("%s: got %v", name, got)
		}
	}
	for _, cause := range []string{"replica", "not_proved"} {
		if got := sample(t, families, "pgtier_routes_total", "database", "crew", "cause", cause); got <= 0 {
			t.Errorf("routes by cause %s: got %v", cause, got)
		}
	}
	if proved, by := p.Reads(); by == 0 || proved < by {
		t.Errorf("reads: got %d proved, %d by replicas", proved, by)
	}
	_, body := get(t, p.running, "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics are not well formed: %v, %v", problems, err)
	}
}

func TestReadyWhileOneServerCanBeUsed(t *testing.T) {
	p := serveReplicated(t, func(d *proxy.Database) { d.Failover.Wait = 0 })
	boss, c := p.console(t, "boss"), p.client(t)
	p.readFrom(t, c, boss, "s0-r1", "s0-r2")
	if err := p.crew.shard.Manager.Stop(localpg.Immediate); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the manager is lost", func() bool { return sample(t, scrape(t, p.running), "pgtier_manager_up") == 0 })
	if status, body := get(t, p.running, "/readyz"); status != http.StatusOK {
		t.Errorf("replicas are there: got %d %s", status, body)
	}
	_, body := get(t, p.running, "/status.json")
	var shown struct {
		Ready bool
		Hosts []struct{ Server, Role, State, Reason string }
	}
	if err := json.Unmarshal([]byte(body), &shown); err != nil {
		t.Fatal(err)
	}
	if !shown.Ready || len(shown.Hosts) != 3 || shown.Hosts[0].State != "down" || shown.Hosts[0].Reason == "" || shown.Hosts[1].State != "up" {
		t.Errorf("status: got %s", body)
	}
	for _, s := range p.crew.shard.Replicas {
		if err := s.Stop(localpg.Immediate); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "not ready", func() bool {
		status, body := get(t, p.running, "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "s0 is down (") && strings.Contains(body, "s0-r2 is down (")
	})
}

func TestReloadChangesHowReadsAreServed(t *testing.T) {
	p := serveReplicated(t, nil)
	c, boss := p.client(t), p.console(t, "boss")
	p.readFrom(t, c, boss, "s0-r1", "s0-r2")
	p.reload(t, func(d *proxy.Database) { d.Reads.Consistency = "manager" })
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
	p.insideReplica(t, c, "BEGIN READ ONLY", "SELECT note FROM t WHERE id = 1")
	p.reload(t, func(d *proxy.Database) { d.Shards = []proxy.Shard{{Manager: d.Shards[0].Manager}} })
	mustValue(t, c, "COMMIT")
	wantValue(t, c, "SELECT pg_is_in_recovery()", "f")
}

// facts are the rows of EXPLAIN ROUTE: the last value and reason of each item, and all tables.
func facts(t testing.TB, boss *pgx.Conn, sql string) (values, reasons map[string]string, tables []string) {
	t.Helper()
	values, reasons = map[string]string{}, map[string]string{}
	_, rows := table(t, boss, "EXPLAIN ROUTE "+sql)
	for _, row := range rows {
		values[row["item"]], reasons[row["item"]] = row["value"], row["reason"]
		if row["item"] == "table" {
			tables = append(tables, row["value"]+": "+row["reason"])
		}
	}
	return values, reasons, tables
}

func TestExplainRouteSaysWhatSessionsDo(t *testing.T) {
	p := serveReplicated(t, nil)
	pgtest.Exec(t, p.crew.manager, "crew", `CREATE SEQUENCE s; CREATE VIEW v AS SELECT note FROM t;
		CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 2 * n'; CREATE TABLE u (id int); CREATE TABLE log (at timestamptz);
		CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (now()); RETURN NEW; END';
		CREATE TRIGGER logs AFTER INSERT ON u FOR EACH ROW EXECUTE FUNCTION logs()`)
	if err := p.crew.shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	boss := p.console(t, "boss")
	p.readFrom(t, p.client(t), boss, "s0-r1", "s0-r2")
	for sql, want := range map[string]string{
		"SELECT note FROM t":                                             "replica",
		"SELECT * FROM v WHERE note = 'x'":                               "replica",
		"SELECT twice(id) FROM t":                                        "replica",
		"SELECT 1; SELECT note FROM t":                                   "replica",
		"/* pgtier: consistency=eventual */ SELECT 1":                    "replica",
		"/* pgtier: consistency=manager */ SELECT 1":                     "level",
		"SELECT 1; SHOW work_mem":                                        "server_local",
		"SHOW work_mem":                                                  "server_local",
		"EXPLAIN SELECT 1":                                               "server_local",
		"SELECT nextval('s')":                                            "not_proved",
		"SELECT * FROM t FOR UPDATE":                                     "not_proved",
		"INSERT INTO u VALUES (1)":                                       "not_proved",
		"WITH d AS (DELETE FROM u RETURNING 1) SELECT * FROM d":          "not_proved",
		"SET work_mem = '1MB'":                                           "not_proved",
		"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; SELECT 1; COMMIT": "not_proved",
		"SELECT nosuch()":                                                "pinned",
		"SELEKT 1":                                                       "not_proved",
		"CREATE TEMP TABLE x (i int)":                                    "pinned",
		"SELECT pg_advisory_lock(1)":                                     "pinned",
	} {
		values, _, _ := facts(t, boss, sql)
		if values["cause"] != want {
			t.Errorf("%s: explained as %s, want %s", sql, values["cause"], want)
		}
		c, before := p.client(t), routes(t, boss, want)
		_, _ = value(c, sql) // the server refuses some
		if after := routes(t, boss, want); after == before {
			t.Errorf("%s: a session does otherwise than %s", sql, want)
		}
	}

	_, reasons, tables := facts(t, boss, "INSERT INTO u SELECT id FROM t; -- and more\n SELECT * FROM v")
	if got, want := strings.Join(tables, "; "), "u: changes; t: reads; public.log: may change, by a trigger, rule, key, partition or function; v: reads"; got != want {
		t.Errorf("tables: got %s, want %s", got, want)
	}
	if got := reasons["target"]; got != "insert is no query" {
		t.Errorf("reason: got %q", got)
	}
	values, reasons, _ := facts(t, boss, "crew: /* pgtier: consistency=strong */ SELECT set_config('work_mem', '1MB', false)")
	for item, want := range map[string]string{"database": "crew", "consistency": "strong", "setting": "work_mem", "key": "none", "connection": "shared",
		"cache": "not kept", "replicas": "2 of 2 take reads now"} {
		if values[item] != want {
			t.Errorf("%s: got %q, want %q", item, values[item], want)
		}
	}
	if got := reasons["consistency"]; !strings.HasPrefix(got, "the statement's hint") {
		t.Errorf("who wants level strong: got %q", got)
	}
	if values, _, _ := facts(t, boss, "BEGIN READ ONLY"); values["target"] != "replica" {
		t.Errorf("BEGIN READ ONLY: got %v", values)
	}
	for command, state := range map[string]string{"EXPLAIN ROUTE": "42601", "EXPLAIN ROUTE nosuch: SELECT 1": "3D000", "EXPLAIN ROUTE pgtier: SELECT 1": "0A000"} {
		if _, err := value(boss, command); sqlstate(err) != state {
			t.Errorf("%s: got %v, want %s", command, err, state)
		}
	}
}

func TestExplainRouteAsksWhichDatabase(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		withConsole(cfg)
		d := cfg.Databases[r.database]
		cfg.Databases["second"] = d
	})
	boss := p.console(t, "watcher")
	if _, err := value(boss, "EXPLAIN ROUTE SELECT 1"); sqlstate(err) != "3D000" {
		t.Errorf("got %v", err)
	}
	values, reasons, _ := facts(t, boss, r.database+": SELECT 1; SELECT 2")
	if values["database"] != r.database || values["target"] != "manager" || reasons["target"] != "no replicas are configured" || values["read only"] != "proved" || values["statements"] != "2" {
		t.Errorf("got %v, %v", values, reasons)
	}
}

func TestSerializableReadsGoToTheManager(t *testing.T) {
	p := serveReplicated(t, nil)
	c, boss := p.client(t), p.console(t, "boss")
	p.readFrom(t, c, boss, "s0-r1", "s0-r2")
	login := p.client(t, "options='-c default_transaction_isolation=serializable'")
	wantValue(t, login, "SELECT note FROM t WHERE id = 1", "one") // the first read of a session needs no position
	pgtest.Exec(t, p.crew.manager, "postgres", "ALTER ROLE postgres SET default_transaction_isolation = 'serializable'")
	mustValue(t, boss, "RECONNECT")
	eventually(t, "a replica has the role's new default", func() bool {
		wantValue(t, p.client(t), "SELECT note FROM t WHERE id = 1", "one")
		return routes(t, boss, "repeated") != "0"
	})
}
