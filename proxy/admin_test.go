package proxy_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/lib/pq" // the driver postgres
	"go.uber.org/zap"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// withConsole is an edit that names an admin and a stats user.
func withConsole(cfg *proxy.Config) {
	cfg.Auth.Admins, cfg.Auth.StatsUsers = []string{"boss"}, []string{"watcher"}
}

// consoleDSN is the console's address for user.
func (p *running) consoleDSN(user, database string, params ...string) string {
	return strings.Replace(p.dsn(user, "", params...), "dbname="+p.database, "dbname="+database, 1)
}

// console logs in to the admin database.
func (p *running) console(t testing.TB, user string) *pgx.Conn {
	t.Helper()
	c, err := p.dial(t, p.consoleDSN(user, "pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// table runs a SHOW by the simple protocol: column names and rows by column.
func table(t testing.TB, c *pgx.Conn, command string) (columns []string, rows []map[string]string) {
	t.Helper()
	results := c.PgConn().Exec(bounded(t), command)
	for results.NextResult() {
		result := results.ResultReader()
		for _, f := range result.FieldDescriptions() {
			columns = append(columns, f.Name)
		}
		for result.NextRow() {
			row := map[string]string{}
			for i, v := range result.Values() {
				row[columns[i]] = string(v)
			}
			rows = append(rows, row)
		}
	}
	if err := results.Close(); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return columns, rows
}

// line is the row of a SHOW where column has value.
func line(t testing.TB, c *pgx.Conn, command, column, want string) map[string]string {
	t.Helper()
	_, rows := table(t, c, command)
	for _, row := range rows {
		if row[column] == want {
			return row
		}
	}
	t.Fatalf("%s: no row with %s = %q in %v", command, column, want, rows)
	return nil
}

// sqlstate is the SQLSTATE of an error, "" for nil.
func sqlstate(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// goldenColumns are the commands and columns of testdata/columns.golden: PgBouncer 1.25's, and our own.
func goldenColumns(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "columns.golden"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, l := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if command, columns, ok := strings.Cut(l, ": "); ok && !strings.HasPrefix(l, "#") {
			out[command] = columns
		}
	}
	return out
}

func TestConsoleColumnsArePgBouncers(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	wantValue(t, p.client(t), "SELECT 1", "1")
	c := p.console(t, "watcher")
	for command, want := range goldenColumns(t) {
		columns, _ := table(t, c, command+";")
		if got := strings.Join(columns, " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", command, got, want)
		}
		rows, err := c.Query(bounded(t), command) // extended, binary results
		if err != nil {
			t.Errorf("%s by the extended protocol: %v", command, err)
			continue
		}
		n := 0
		for rows.Next() {
			if _, err := rows.Values(); err != nil {
				t.Errorf("%s: decode: %v", command, err)
			}
			n++
		}
		_, simple := table(t, c, command)
		if rows.Err() != nil || n != len(simple) {
			t.Errorf("%s by the extended protocol: got %d rows, %v; want %d", command, n, rows.Err(), len(simple))
		}
	}
}

func TestConsoleOverLibPQ(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	for _, params := range [][]string{nil, {"binary_parameters=yes"}, {"extra_float_digits=3", "application_name=exporter"}} {
		db, err := sql.Open("postgres", p.consoleDSN("watcher", "pgtier", params...))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for command, want := range goldenColumns(t) {
			rows, err := db.QueryContext(bounded(t), command)
			if err != nil {
				t.Errorf("%v %s: %v", params, command, err)
				continue
			}
			columns, _ := rows.Columns()
			if got := strings.Join(columns, " "); got != want {
				t.Errorf("%v %s: got %s, want %s", params, command, got, want)
			}
			for rows.Next() {
			}
			if err := rows.Err(); err != nil {
				t.Errorf("%v %s: %v", params, command, err)
			}
			_ = rows.Close()
		}
		statement, err := db.PrepareContext(bounded(t), "SHOW VERSION")
		if err != nil {
			t.Fatal(err)
		}
		var version string
		if err := statement.QueryRowContext(bounded(t)).Scan(&version); err != nil || !strings.HasPrefix(version, "PgBouncer 1.25") {
			t.Errorf("%v: prepared SHOW VERSION: got %q, %v", params, version, err)
		}
	}
}

func TestConsoleOverPsql(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	for command := range goldenColumns(t) {
		if out, err := psql(t, p.consoleDSN("watcher", "pgbouncer"), command); err != nil {
			t.Errorf("psql -c %q: %v\n%s", command, err, out)
		}
	}
	out, err := psql(t, p.consoleDSN("watcher", "pgbouncer", "options='-c geqo=off'"), "SHOW HELP")
	for _, want := range []string{"Console usage", "SHOW HELP|POOLS", "PAUSE [<db>]", "KILL_CLIENT <client_id>", "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("psql SHOW HELP: %v, no %q in\n%s", err, want, out)
		}
	}
}

func TestConsoleTypes(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	wantValue(t, p.client(t), "SELECT 1", "1")
	c := p.console(t, "boss")
	results := c.PgConn().Exec(bounded(t), "SHOW POOLS; SHOW STATS; SHOW DNS_HOSTS")
	var oids [][]uint32
	for results.NextResult() {
		var of []uint32
		result := results.ResultReader()
		for _, f := range result.FieldDescriptions() {
			of = append(of, f.DataTypeOID)
		}
		_, _ = result.Close() // its error comes back below
		oids = append(oids, of)
	}
	if err := results.Close(); err != nil || len(oids) != 3 {
		t.Fatalf("got %d results, %v", len(oids), err)
	}
	if got := oids[0]; got[0] != 25 || got[2] != 23 || got[16] != 25 {
		t.Errorf("SHOW POOLS: got types %v", got)
	}
	if got := oids[1]; got[0] != 25 || got[1] != 1700 {
		t.Errorf("SHOW STATS: got types %v", got)
	}
	if got := oids[2]; !slices.Equal(got, []uint32{25, 20, 25}) {
		t.Errorf("SHOW DNS_HOSTS: got types %v", got)
	}
	// Binary values are what the text says.
	for _, command := range []string{"SHOW STATS_TOTALS", "SHOW DATABASES", "SHOW LISTS"} {
		_, simple := table(t, c, command)
		rows, err := c.Query(bounded(t), command)
		if err != nil {
			t.Fatal(err)
		}
		maps, err := pgx.CollectRows(rows, pgx.RowToMap)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range maps {
			for name, v := range row {
				if got := printed(v); got != simple[i][name] {
					t.Errorf("%s: %s: binary %q, text %q", command, name, got, simple[i][name])
				}
			}
		}
	}
}

func printed(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case interface{ Value() (any, error) }:
		return fmt.Sprint(x)
	}
	if n, ok := v.(interface {
		MarshalJSON() ([]byte, error)
	}); ok {
		b, _ := n.MarshalJSON()
		return string(b)
	}
	return fmt.Sprint(v)
}

func TestConsoleExtendedProtocol(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	c := p.console(t, "boss").PgConn()
	statement, err := c.Prepare(bounded(t), "s", "SHOW LISTS", nil)
	if err != nil || len(statement.Fields) != 2 || len(statement.ParamOIDs) != 0 {
		t.Fatalf("prepare: got %+v, %v", statement, err)
	}
	_, err = c.Prepare(bounded(t), "s", "SHOW LISTS", nil)
	if got := sqlstate(err); got != "42P05" {
		t.Errorf("prepare twice: got %s", got)
	}
	result := c.ExecPrepared(bounded(t), "s", nil, nil, []int16{0}).Read()
	if result.Err != nil || len(result.Rows) != 14 {
		t.Errorf("execute: got %d rows, %v; want 14", len(result.Rows), result.Err)
	}
	for sql, want := range map[string]string{
		"SHOW LISTS; SHOW POOLS": "42601", "SHOW ME": "42601", "SHOW POOLS $1": "42601", "": "", "-- ping": "", "/* a /* b */ */": "",
	} {
		result := c.ExecParams(bounded(t), sql, nil, nil, nil, nil).Read()
		if got := sqlstate(result.Err); got != want {
			t.Errorf("%q: got %s, want %s", sql, got, want)
		}
	}
	result = c.ExecParams(bounded(t), "SHOW LISTS", [][]byte{[]byte("x")}, nil, nil, nil).Read()
	if got := sqlstate(result.Err); got != "08P01" {
		t.Errorf("with a parameter: got %s", got)
	}
	// A pipeline goes on after the Sync that follows an error.
	pipeline := c.StartPipeline(bounded(t))
	pipeline.SendQueryParams("SHOW NONSENSE", nil, nil, nil, nil)
	pipeline.SendQueryParams("SHOW LISTS", nil, nil, nil, nil)
	if err := pipeline.Sync(); err != nil {
		t.Fatal(err)
	}
	pipeline.SendQueryParams("SHOW VERSION", nil, nil, nil, nil)
	if err := pipeline.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := pipeline.GetResults(); sqlstate(err) != "42601" {
		t.Errorf("pipeline's first: got %v", err)
	}
	if err := pipeline.Close(); sqlstate(err) != "" && sqlstate(err) != "42601" {
		t.Errorf("pipeline: %v", err)
	}
	if result := c.ExecPrepared(bounded(t), "s", nil, nil, nil).Read(); result.Err != nil {
		t.Errorf("after the pipeline: %v", result.Err)
	}
}

func TestConsoleErrors(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	boss, watcher := p.console(t, "boss"), p.console(t, "watcher")
	if _, err := p.dial(t, p.consoleDSN("stranger", "pgbouncer")); sqlstate(err) != "28000" || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("a stranger: got %v", err)
	}
	for _, test := range []struct {
		c       *pgx.Conn
		command string
		code    string
	}{
		{boss, "FOO", "42601"}, {boss, "SHOW", "42601"}, {boss, "SHOW POOLS app", "42601"}, {boss, "PAUSE a b", "42601"},
		{boss, "DISABLE", "42601"}, {boss, "SHUTDOWN LATER", "42601"}, {boss, `"SHOW" POOLS`, "42601"}, {boss, "PAUSE 'app", "42601"},
		{boss, "PAUSE nothere", "3D000"}, {boss, "KILL pgbouncer", "0A000"}, {boss, "RESUME", "55000"}, {boss, "RESUME " + r.database, "55000"},
		{boss, "KILL_CLIENT x", "22023"}, {boss, "KILL_CLIENT 999999", "55000"}, {boss, "SUSPEND", "0A000"}, {boss, "SHOW FDS", "0A000"},
		{boss, "SET max_client_conn = 1", "0A000"}, {boss, "SET", "42601"}, {boss, "SET = 1", "42601"}, {boss, "RELOAD", "F0000"},
		{boss, "SHOW HOTKEYS", "0A000"}, {boss, "RESET CACHE nowhere", "3D000"}, {watcher, "EXPLAIN ROUTE", "42601"},
		{boss, "RESHARD PLAN", "22023"},
		{watcher, "PAUSE", "42501"}, {watcher, "KILL", "42501"}, {watcher, "SHUTDOWN", "42501"}, {watcher, "KILL_CLIENT 1", "42501"},
		{watcher, "RELOAD", "42501"}, {watcher, "SHOW POOLS; KILL", "42501"},
		{watcher, "SET client_encoding TO 'utf8'", ""}, {watcher, "SET SESSION application_name = 'x'; SET extra_float_digits = 3", ""},
		{watcher, "show Pools", ""}, {watcher, "SELECT version", ""}, {watcher, ";;", ""}, {watcher, "", ""}, {watcher, "SHOW TimeZone;", ""},
	} {
		_, err := test.c.PgConn().Exec(bounded(t), test.command).ReadAll()
		if got := sqlstate(err); got != test.code {
			t.Errorf("%s: got %v, want %s", test.command, err, test.code)
		}
	}
	var pe *pgconn.PgError
	if _, err := value(boss, "FOO bar"); !errors.As(err, &pe) || pe.Message != "invalid command 'FOO bar', use SHOW HELP;" || pe.Hint == "" {
		t.Errorf("got %+v", pe)
	}
}

func TestConsoleBoundsMessages(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	c := p.console(t, "boss")
	_, err := value(c, "SHOW "+strings.Repeat("x", 1<<17))
	if sqlstate(err) != "54000" {
		t.Errorf("got %v", err)
	}
	for range 5 { // and the next visitor is served
		wantValue(t, p.console(t, "boss"), "SHOW STANDARD_CONFORMING_STRINGS", "on")
	}
}

func TestShowsTellTheTruth(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	boss := p.console(t, "boss")
	a, b := p.client(t, "application_name=alpha"), p.client(t)
	mustValue(t, a, "BEGIN")
	pid := mustValue(t, a, "SELECT pg_backend_pid()")
	mustValue(t, b, "SELECT 1")
	if _, err := b.Prepare(bounded(t), "q", "SELECT 2"); err != nil {
		t.Fatal(err)
	}
	pool := line(t, boss, "SHOW POOLS", "database", r.database)
	if pool["cl_active"] != "2" || pool["cl_waiting"] != "0" || pool["sv_active"] != "1" || pool["pool_mode"] != "transaction" || pool["user"] != "postgres" {
		t.Errorf("SHOW POOLS: got %v", pool)
	}
	client := line(t, boss, "SHOW CLIENTS", "application_name", "alpha")
	server := line(t, boss, "SHOW SERVERS", "remote_pid", pid)
	if client["state"] != "active" || client["link"] != server["ptr"] || server["link"] != client["ptr"] || server["state"] != "active" ||
		client["addr"] != "127.0.0.1" || server["port"] != fmt.Sprint(r.manager.Port) || client["type"] != "C" || server["type"] != "S" ||
		server["application_name"] != "alpha" || client["close_needed"] != "0" {
		t.Errorf("SHOW CLIENTS: %v\nSHOW SERVERS: %v", client, server)
	}
	if ok, _ := regexp.MatchString(`^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \S+$`, client["connect_time"]); !ok {
		t.Errorf("connect_time: got %q", client["connect_time"])
	}
	idle := line(t, boss, "SHOW CLIENTS", "prepared_statements", "1")
	if idle["state"] != "idle" || idle["link"] != "" {
		t.Errorf("the idle client: got %v", idle)
	}
	if me := line(t, boss, "SHOW CLIENTS", "database", "pgbouncer"); me["user"] != "boss" || me["state"] != "active" {
		t.Errorf("the console's own line: got %v", me)
	}
	mustValue(t, a, "SELECT pg_sleep(0.05)")
	mustValue(t, a, "COMMIT")
	stats := line(t, boss, "SHOW STATS_TOTALS", "database", r.database)
	var tx, query int
	_, _ = fmt.Sscan(stats["xact_time"], &tx)
	_, _ = fmt.Sscan(stats["query_time"], &query)
	if tx < 50_000 || query < 50_000 || tx < query/2 || tx > 20_000_000 || stats["bytes_received"] == "0" || stats["bytes_sent"] == "0" || stats["client_parse_count"] == "0" {
		t.Errorf("SHOW STATS_TOTALS: got %v", stats)
	}
	databases := line(t, boss, "SHOW DATABASES", "name", r.database)
	if databases["current_client_connections"] != "2" || databases["pool_size"] != "20" || databases["paused"] != "0" || databases["host"] != "127.0.0.1" || databases["server_lifetime"] != "3600" {
		t.Errorf("SHOW DATABASES: got %v", databases)
	}
	if user := line(t, boss, "SHOW USERS", "name", "postgres"); user["current_client_connections"] != "2" || user["current_connections"] == "0" {
		t.Errorf("SHOW USERS: got %v", user)
	}
	line(t, boss, "SHOW CONFIG", "key", "pool.size")
	if row := line(t, boss, "SHOW CONFIG", "key", "listen"); row["changeable"] != "no" || row["default"] != "127.0.0.1:6432" {
		t.Errorf("SHOW CONFIG: got %v", row)
	}
	_, rows := table(t, boss, "SHOW CONFIG")
	if text := fmt.Sprint(rows); strings.Contains(text, r.cluster.Password) {
		t.Error("SHOW CONFIG shows a password")
	}
}

func TestShowPins(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	boss, a := p.console(t, "boss"), p.client(t)
	mustValue(t, a, "SELECT pg_advisory_lock(7)")
	pid := mustValue(t, a, "SELECT pg_backend_pid()")
	pin := line(t, boss, "SHOW PINS", "database", r.database)
	if pin["server_pid"] != pid || pin["user"] != "postgres" || pin["reason"] == "" || pin["since"] == "" || pin["addr"] != "127.0.0.1" {
		t.Errorf("got %v", pin)
	}
	mustValue(t, a, "DISCARD ALL")
	if _, rows := table(t, boss, "SHOW PINS"); len(rows) != 0 {
		t.Errorf("after DISCARD ALL: got %v", rows)
	}
}

func TestPauseHoldsClientsUntilResume(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	first, second := p.console(t, "boss"), p.console(t, "boss")
	busy := p.client(t)
	mustValue(t, busy, "BEGIN")
	mustValue(t, busy, "SELECT 1") // which takes the connection
	paused := later(first, "PAUSE "+r.database)
	eventually(t, "the pause begins", func() bool { return line(t, second, "SHOW DATABASES", "name", r.database)["paused"] == "1" })
	if _, err := value(second, "PAUSE "+r.database); sqlstate(err) != "55000" {
		t.Errorf("a second PAUSE: got %v", err)
	}
	select {
	case err := <-paused:
		t.Fatalf("PAUSE returned while a transaction was open: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	mustValue(t, busy, "COMMIT")
	if err := <-paused; err != nil {
		t.Fatalf("PAUSE: %v", err)
	}
	if _, rows := table(t, second, "SHOW SERVERS"); len(rows) != 0 {
		t.Errorf("servers left after PAUSE: %v", rows)
	}
	var answered atomic.Bool
	got := make(chan error, 1)
	go func() { _, err := value(busy, "SELECT 1"); answered.Store(true); got <- err }()
	eventually(t, "the client waits", func() bool { return line(t, second, "SHOW POOLS", "database", r.database)["cl_waiting"] == "1" })
	if answered.Load() {
		t.Error("a statement was answered during the pause")
	}
	mustValue(t, second, "RESUME "+r.database)
	if err := <-got; err != nil {
		t.Errorf("after RESUME: %v", err)
	}
	mustValue(t, first, "PAUSE")
	if state := line(t, second, "SHOW STATE", "key", "paused"); state["value"] != "yes" {
		t.Errorf("SHOW STATE: got %v", state)
	}
	mustValue(t, second, "RESUME")
	wantValue(t, busy, "SELECT 2", "2")
}

func TestPauseIsCancelled(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	c, busy := p.console(t, "boss"), p.client(t)
	mustValue(t, busy, "BEGIN")
	mustValue(t, busy, "SELECT 1") // which takes the connection
	paused := later(c, "PAUSE")
	other := p.console(t, "watcher")
	eventually(t, "the pause begins", func() bool { return line(t, other, "SHOW STATE", "key", "paused")["value"] == "yes" })
	if err := c.PgConn().CancelRequest(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-paused; sqlstate(err) != "57014" {
		t.Errorf("got %v", err)
	}
	mustValue(t, busy, "COMMIT")
	wantValue(t, busy, "SELECT 1", "1")
	wantValue(t, c, "SHOW TIMEZONE", "GMT")
}

func TestKill(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	boss, a := p.console(t, "boss"), p.client(t)
	mustValue(t, a, "BEGIN")
	mustValue(t, boss, "KILL "+r.database)
	if _, err := value(a, "SELECT 1"); err == nil {
		t.Error("the client survived KILL")
	}
	eventually(t, "no server is left", func() bool { _, rows := table(t, boss, "SHOW SERVERS"); return len(rows) == 0 })
	got := make(chan error, 1)
	go func() {
		c, err := pgx.Connect(bounded(t), p.dsn("postgres", ""))
		if err == nil {
			_, err = value(c, "SELECT 1")
			_ = c.Close(context.Background())
		}
		got <- err
	}()
	eventually(t, "a new client waits", func() bool { return line(t, boss, "SHOW POOLS", "database", r.database)["cl_waiting"] == "1" })
	mustValue(t, boss, "RESUME "+r.database)
	if err := <-got; err != nil {
		t.Errorf("the client that waited: %v", err)
	}
}

func TestKillClient(t *testing.T) {
	p := newRig(t).serve(t, withConsole)
	boss, a, b := p.console(t, "boss"), p.client(t, "application_name=victim"), p.client(t)
	other := p.console(t, "watcher")
	mustValue(t, boss, "KILL_CLIENT "+line(t, boss, "SHOW CLIENTS", "application_name", "victim")["id"])
	if _, err := value(a, "SELECT 1"); err == nil {
		t.Error("the client survived")
	}
	wantValue(t, b, "SELECT 1", "1")
	mustValue(t, boss, "KILL_CLIENT "+line(t, boss, "SHOW CLIENTS", "user", "watcher")["id"])
	if _, err := value(other, "SHOW VERSION"); err == nil {
		t.Error("the console survived")
	}
}

func TestDisableTurnsNewClientsAway(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	boss, present := p.console(t, "boss"), p.client(t)
	mustValue(t, boss, "DISABLE "+r.database)
	mustValue(t, boss, "RECONNECT "+r.database)
	wantValue(t, present, "SELECT 1", "1") // by a new server connection
	if _, err := p.dial(t, p.dsn("postgres", "")); sqlstate(err) != "57P03" {
		t.Errorf("a new client: got %v", err)
	}
	if row := line(t, boss, "SHOW DATABASES", "name", r.database); row["disabled"] != "1" {
		t.Errorf("SHOW DATABASES: got %v", row)
	}
	mustValue(t, boss, "ENABLE "+r.database)
	wantValue(t, p.client(t), "SELECT 1", "1")
}

func TestReconnectAndWaitClose(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withConsole)
	boss, a, b := p.console(t, "boss"), p.client(t), p.client(t)
	mustValue(t, a, "BEGIN")
	before := mustValue(t, a, "SELECT pg_backend_pid()")
	mustValue(t, b, "SELECT 1")
	mustValue(t, boss, "RECONNECT")
	if row := line(t, boss, "SHOW SERVERS", "remote_pid", before); row["close_needed"] != "1" {
		t.Errorf("SHOW SERVERS: got %v", row)
	}
	closed := later(boss, "WAIT_CLOSE")
	select {
	case err := <-closed:
		t.Fatalf("WAIT_CLOSE returned too early: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	mustValue(t, a, "COMMIT")
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if after := mustValue(t, a, "SELECT pg_backend_pid()"); after == before {
		t.Error("the connection was not replaced")
	}
}

func TestReconnectAfterAServerRestart(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{})
	r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: "postgres"}
	p := r.serve(t, func(cfg *proxy.Config) { withConsole(cfg); cfg.HTTP = "127.0.0.1:0" })
	boss, a := p.console(t, "boss"), p.client(t)
	wantValue(t, a, "SELECT 1", "1")
	if status, body := get(t, p, "/readyz"); status != 200 {
		t.Errorf("before: got %d %s", status, body)
	}
	if err := r.manager.Stop(localpg.Fast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready", func() bool { status, _ := get(t, p, "/readyz"); return status == 503 })
	if _, body := get(t, p, "/readyz"); !strings.Contains(body, `database "postgres"`) {
		t.Errorf("readyz does not say why: %s", body)
	}
	if status, _ := get(t, p, "/livez"); status != 200 {
		t.Errorf("livez: got %d", status)
	}
	if err := r.manager.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	mustValue(t, boss, "RECONNECT")
	wantValue(t, a, "SELECT 2", "2")
	eventually(t, "ready again", func() bool { status, _ := get(t, p, "/readyz"); return status == 200 })
}

func TestReloadTellsWhatChanged(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, withConsole)
	var p *proxy.Proxy
	fail := atomic.Bool{}
	p, err := proxy.New(cfg, zap.NewNop(), proxy.WithVersion("9.9"), proxy.WithReload(func() ([]string, error) {
		if fail.Load() {
			return nil, errors.New("pool.size: 0 is below 1")
		}
		next := r.config(t, func(c *proxy.Config) { withConsole(c); c.Pool.Size = 7 })
		return []string{"pool.size: 20 -> 7"}, p.Reload(next)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	run := &running{Proxy: p, address: p.Addrs()[0].String(), database: r.database}
	config, err := pgx.ParseConfig(run.consoleDSN("boss", "pgtier"))
	if err != nil {
		t.Fatal(err)
	}
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	c, err := pgx.ConnectConfig(bounded(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	mustValue(t, c, "RELOAD")
	if !slices.Equal(notices, []string{"pool.size: 20 -> 7"}) {
		t.Errorf("notices: got %q", notices)
	}
	if row := line(t, c, "SHOW DATABASES", "name", r.database); row["pool_size"] != "7" {
		t.Errorf("got %v", row)
	}
	if got := mustValue(t, c, "SHOW VERSION"); !strings.Contains(got, "pgtier 9.9") {
		t.Errorf("SHOW VERSION: got %q", got)
	}
	fail.Store(true)
	var pe *pgconn.PgError
	if _, err := value(c, "RELOAD"); !errors.As(err, &pe) || pe.Code != "F0000" || !strings.Contains(pe.Detail, "below 1") {
		t.Errorf("a bad file: got %+v", pe)
	}
}

func TestShutdown(t *testing.T) {
	for _, test := range []struct {
		command string
		stays   bool // a client at rest
	}{{"SHUTDOWN", false}, {"SHUTDOWN wait_for_servers", false}, {"SHUTDOWN WAIT_FOR_CLIENTS", true}} {
		t.Run(test.command, func(t *testing.T) {
			p := newRig(t).serve(t, withConsole)
			boss, resting := p.console(t, "boss"), p.client(t)
			mustValue(t, resting, "SELECT 1")
			mustValue(t, boss, test.command)
			if test.stays {
				wantValue(t, resting, "SELECT 2", "2")
				select {
				case <-p.ShutdownRequested():
					t.Fatal("over before the client left")
				default:
				}
				_ = resting.Close(context.Background())
			}
			select {
			case <-p.ShutdownRequested():
			case <-time.After(limit):
				t.Fatal("not over")
			}
			if _, err := value(resting, "SELECT 1"); err == nil {
				t.Error("the client is still there")
			}
			if _, err := p.dial(t, p.consoleDSN("boss", "pgtier")); err == nil {
				t.Error("a new client got in")
			}
			p.Close() // with a console open: must not hang
			if _, err := value(boss, "SHOW VERSION"); err == nil {
				t.Error("the console survived Close")
			}
		})
	}
}
