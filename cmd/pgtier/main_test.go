package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/configs"
)

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

var servers = pgtest.Share(localpg.Options{Replicas: 1})

// command runs one command line and returns what a shell would see.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitStatus(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		status int
		says   string // on either stream
	}{
		{[]string{"version"}, 0, "pgtier 0."},
		{[]string{"--help"}, 0, "check"},
		{nil, 2, "a command is missing"},
		{[]string{"chekc"}, 2, `unknown command "chekc"; did you mean check?`},
		{[]string{"version", "--nope"}, 2, "unknown flag: --nope"},
		{[]string{"version", "extra"}, 2, "extra"},
		{[]string{"check"}, 2, "--config is missing"},
		{[]string{"import"}, 2, "accepts 1 arg"},
		{[]string{"import", "/nonexistent.ini"}, 1, "read PgBouncer's configuration"},
		{[]string{"check", "--config", "/nonexistent.yaml"}, 1, "FAIL  configuration: open configuration"},
	} {
		status, stdout, stderr := command(t, tc.args...)
		if status != tc.status || !strings.Contains(stdout+stderr, tc.says) {
			t.Errorf("%q: got status %d, %s%s; want %d and %q", tc.args, status, stdout, stderr, tc.status, tc.says)
		}
	}
}

func TestImportPrintsAFileThatLoads(t *testing.T) {
	ini := writeFile(t, "pgbouncer.ini", "[databases]\napp = host=10.0.0.1\n[pgbouncer]\nlisten_addr = 127.0.0.1\nserver_reset_query = x\n")
	status, stdout, stderr := command(t, "import", ini)
	if status != 0 || !strings.Contains(stderr, "server_reset_query: not needed") {
		t.Errorf("got status %d, %s", status, stderr)
	}
	if _, err := configs.Parse("imported", []byte(stdout), nil); err != nil {
		t.Errorf("%v in\n%s", err, stdout)
	}
}

func TestHealthcheckFollowsReadiness(t *testing.T) {
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			http.Error(w, "draining", http.StatusServiceUnavailable)
		}
	}))
	address := strings.TrimPrefix(server.URL, "http://")
	if status, _, stderr := command(t, "healthcheck", "--http", address); status != 0 {
		t.Errorf("ready: got status %d, %s", status, stderr)
	}
	ready = false
	if status, _, stderr := command(t, "healthcheck", "--http", address); status != 1 || !strings.Contains(stderr, "draining") {
		t.Errorf("not ready: got status %d, %s", status, stderr)
	}
	server.Close()
	if status, _, _ := command(t, "healthcheck", "--http", address); status != 1 {
		t.Errorf("gone: got status %d", status)
	}
}

func TestCheckLooksAtRealServers(t *testing.T) {
	shard := servers.Cluster(t).Shards[0]
	manager, replica := shard.Manager, shard.Replicas[0]
	app := pgtest.Database(t, manager)
	pgtest.Exec(t, manager, app, "DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN PASSWORD 'weak'")
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := manager.URL(app, "", "")
	for name, tc := range map[string]struct {
		manager, more string
		status        int
		says          []string
	}{
		"all is well": {good, "auth: {users: [{name: postgres, password: x}], admins: [postgres], query: 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1'}", 0,
			[]string{"ok    databases.app s0", "reached, and the login of postgres works", "PostgreSQL 15", "takes writes", "ok    auth.query: works"}},
		"a replica":        {replica.URL(app, "", ""), "", 1, []string{"is a replica (in recovery)", "FAIL  auth: nobody can log in"}},
		"wrong password":   {manager.URL(app, "weak", "hunter2"), "", 1, []string{"FAIL", "login refused: password authentication failed", "28P01"}},
		"no such database": {manager.URL("nosuch", "", ""), "", 1, []string{"FAIL", `database "nosuch" does not exist`}},
		"nobody there":     {"postgres://u@127.0.0.1:1/x", "", 1, []string{"FAIL", "not reached"}},
		"too many":         {good, "pool: {size: 5000}", 1, []string{"a pool may open 5000 connections"}},
		"query refused":    {manager.URL(app, "weak", "weak"), "auth: {query: 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1'}", 1, []string{"FAIL  auth.query: fails", "permission denied"}},
		"query too narrow": {good, "auth: {query: 'SELECT $1::text'}", 1, []string{"FAIL  auth.query: gives 1 columns"}},
		"no role":          {"postgres://127.0.0.1/x", "auth: {method: trust}", 0, []string{"warn  databases.app s0", "warn  auth.method: trust"}},
		"user without one": {good, "auth: {users: [{name: postgres}], admins: [postgres]}", 0, []string{`warn  auth: auth: user "postgres" has no password`}},
		"missing HBA":      {good, "auth: {method: hba, hba_file: /nonexistent}", 1, []string{"FAIL  auth: auth.hba_file"}},
		"missing TLS":      {good, "tls: {client: {cert: /nonexistent, key: /nonexistent}, server: {ca: /nonexistent}}", 1, []string{"FAIL  tls.client: load certificate", "FAIL  tls.server.ca: open"}},
		"bad file":         {good, "pool: {size: x}\nzonk: 1", 1, []string{"line 2: pool.size", "line 3: zonk"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, "pgtier.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q}]}}\n%s\n", tc.manager, tc.more))
			status, stdout, stderr := command(t, "check", "--config", file)
			if status != tc.status {
				t.Errorf("got status %d, want %d\n%s%s", status, tc.status, stdout, stderr)
			}
			for _, want := range tc.says {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			if strings.Contains(stdout+stderr, "hunter2") {
				t.Error("the password is shown")
			}
		})
	}
}

func TestCheckLooksAtReplicas(t *testing.T) {
	shard := servers.Cluster(t).Shards[0]
	manager, replica := shard.Manager, shard.Replicas[0]
	app := pgtest.Database(t, manager)
	pgtest.Exec(t, manager, app, "DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN PASSWORD 'weak'")
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := pgtest.Start(t, localpg.Options{Replicas: 1, Password: servers.Cluster(t).Password})
	pgtest.Exec(t, other.Shards[0].Manager, "postgres", "CREATE DATABASE "+app)
	if err := other.Shards[0].CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := pgtest.Start(t, localpg.Options{Replicas: 2})
	promoted, behind := late.Shards[0].Replicas[0], late.Shards[0].Replicas[1]
	if err := promoted.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	good, lagging := manager.URL(app, "", ""), "postgres://"+behind.Address()
	for name, tc := range map[string]struct {
		manager, replica string
		status           int
		says             []string
	}{
		"all is well": {good, "postgres://" + replica.Address(), 0, []string{"ok    databases.app s0-r1 postgres://postgres@" + replica.Address() + "/" + app + ": reached, has the database, and the login of postgres works",
			"is a replica of the manager, on timeline 1", "hot_standby_feedback off", "pools of one role may open 20 of the server's"}},
		"a role of its own":   {good, replica.URL(app, "weak", "wrong"), 0, []string{"warn  databases.app s0", "names the role weak, which is not used"}},
		"no monitor":          {manager.URL(app, "weak", "weak"), "postgres://" + replica.Address(), 0, []string{"GRANT pg_monitor TO weak"}},
		"no replica":          {good, "postgres://" + manager.Address(), 1, []string{"FAIL  databases.app s0-r1", "takes writes: it is no replica"}},
		"nobody there":        {good, "postgres://127.0.0.1:1", 1, []string{"FAIL  databases.app s0-r1", "not reached"}},
		"of another system":   {good, "postgres://" + other.Shards[0].Replicas[0].Address(), 1, []string{"is a replica of another system"}},
		"an older timeline":   {promoted.URL("postgres", "", ""), lagging, 1, []string{"follows timeline 1, the manager is on 2; point primary_conninfo"}},
		"the manager's lost":  {"postgres://postgres:x@127.0.0.1:1/" + app, "postgres://" + replica.Address(), 1, []string{"FAIL  databases.app s0 ", "login refused"}},
		"a replica's replica": {replica.URL(app, "", ""), "postgres://" + replica.Address(), 1, []string{"is a replica (in recovery) and takes no writes", "whether it follows the manager was not looked at"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, "pgtier.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q, replicas: [{url: %q}]}]}}\nauth: {method: trust}\n", tc.manager, tc.replica))
			status, stdout, stderr := command(t, "check", "--config", file)
			if status != tc.status {
				t.Errorf("got status %d, want %d\n%s%s", status, tc.status, stdout, stderr)
			}
			for _, want := range tc.says {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
		})
	}
}

func TestCheckSaysHowFarAReplicaIsBehind(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Replicas: 1})
	shard := cluster.Shards[0]
	pgtest.Exec(t, shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	pgtest.Exec(t, shard.Manager, "postgres", "CREATE TABLE t (i int)")
	file := writeFile(t, "pgtier.yaml", fmt.Sprintf("databases: {app: {shards: [{manager: %q, replicas: [{url: %q}]}], reads: {max_lag: 1ms}}}\nauth: {method: trust}\n",
		shard.Manager.URL("postgres", "", ""), "postgres://"+shard.Replicas[0].Address()))
	status, stdout, _ := command(t, "check", "--config", file)
	if status != 0 || !strings.Contains(stdout, " bytes behind the manager") {
		t.Errorf("got status %d\n%s", status, stdout)
	}
}

func TestCheckReadsCertificates(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{TLS: true})
	cert, key, err := cluster.Certificates.IssueServer("proxy", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "pgtier.yaml", fmt.Sprintf("databases: {postgres: {shards: [{manager: %q}]}}\nauth: {method: trust}\ntls: {client: {mode: require, cert: %s, key: %s}}\n",
		cluster.Shards[0].Manager.URL("", "", ""), cert, key))
	status, stdout, _ := command(t, "check", "--config", file)
	if status != 0 || !strings.Contains(stdout, "tls.client.cert: "+cert+": the certificate of") {
		t.Errorf("got status %d\n%s", status, stdout)
	}
}
