package main

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// wantCheck checks a configuration and wants its exit status and what it prints, which is never a password.
func wantCheck(t *testing.T, config string, status int, says ...string) {
	t.Helper()
	got, stdout, stderr := command(t, "check", "--config", writeFile(t, "pgtier.yaml", config))
	if got != status {
		t.Errorf("got status %d, want %d\n%s%s", got, status, stdout, stderr)
	}
	for _, want := range says {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout+stderr, "hunter2") {
		t.Error("the password is shown")
	}
}

// weakApp makes a database and the role weak, which may do little, on the shared servers.
func weakApp(t *testing.T) (manager, replica *localpg.Server, app string) {
	t.Helper()
	shard := servers.Cluster(t).Shards[0]
	app = pgtest.Database(t, shard.Manager)
	pgtest.Exec(t, shard.Manager, app, "DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN PASSWORD 'weak'")
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return shard.Manager, shard.Replicas[0], app
}

func TestCheckLooksAtRealServers(t *testing.T) {
	manager, replica, app := weakApp(t)
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
			wantCheck(t, fmt.Sprintf("databases: {app: {shards: [{manager: %q}]}}\n%s\n", tc.manager, tc.more), tc.status, tc.says...)
		})
	}
}

func TestCheckLooksWhetherTheCacheCanFollow(t *testing.T) {
	manager, _, app := weakApp(t)
	low := pgtest.Start(t, localpg.Options{Settings: map[string]string{"wal_level": "replica"}}).Shards[0].Manager
	const config = "databases: {app: {shards: [{manager: %q}], cache: {enabled: true, max_delay: %s}}}\nauth: {method: trust}\n"
	wantCheck(t, fmt.Sprintf(config, low.URL("postgres", "", ""), "1s"), 1, "cache.max_delay needs wal_level = logical")
	wantCheck(t, fmt.Sprintf(config, low.URL("postgres", "", ""), "0"), 0)
	wantCheck(t, fmt.Sprintf(config, manager.URL(app, "weak", "weak"), "1s"), 1, "ALTER ROLE weak REPLICATION")
	wantCheck(t, fmt.Sprintf(config, manager.URL(app, "", ""), "1s"), 0)
}

func TestCheckLooksAtReplicas(t *testing.T) {
	manager, replica, app := weakApp(t)
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
			"is a replica of the manager, on timeline 1", "s0-r1 postgres://postgres@" + replica.Address() + "/" + app + ": PostgreSQL 15", "hot_standby_feedback off", "pools of one role may open 20 of the server's"}},
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
			wantCheck(t, fmt.Sprintf("databases: {app: {shards: [{manager: %q, replicas: [{url: %q}]}]}}\nauth: {method: trust}\n", tc.manager, tc.replica), tc.status, tc.says...)
		})
	}
}

func TestCheckSaysHowFarAReplicaIsBehind(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Replicas: 1})
	shard := cluster.Shards[0]
	pgtest.Exec(t, shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	pgtest.Exec(t, shard.Manager, "postgres", "CREATE TABLE t (i int)")
	wantCheck(t, fmt.Sprintf("databases: {app: {shards: [{manager: %q, replicas: [{url: %q}]}], reads: {max_lag: 1ms}}}\nauth: {method: trust}\n",
		shard.Manager.URL("postgres", "", ""), "postgres://"+shard.Replicas[0].Address()), 0, " bytes behind the manager")
}

func TestCheckReadsCertificates(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{TLS: true})
	cert, key, err := cluster.Certificates.IssueServer("proxy", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	wantCheck(t, fmt.Sprintf("databases: {postgres: {shards: [{manager: %q}]}}\nauth: {method: trust}\ntls: {client: {mode: require, cert: %s, key: %s}}\n",
		cluster.Shards[0].Manager.URL("", "", ""), cert, key), 0, "tls.client.cert: "+cert+": the certificate of")
}

func TestCheckKnowsWhichVersionsServe(t *testing.T) {
	for _, tc := range []struct {
		number   int
		replicas bool
		want     verdict
		says     string
	}{
		{90624, false, broken, "PostgreSQL x is too old; version 10 or newer is needed"},
		{100000, false, doubtful, "PostgreSQL x is older than the versions tested (15)"},
		{120022, true, broken, "PostgreSQL x is too old for a database with replicas; they need version 13 or newer on every server"},
		{130000, true, doubtful, "PostgreSQL x is older than the versions tested (15)"},
		{150003, true, fine, "PostgreSQL x"},
	} {
		if got, says := judgeVersion(tc.number, "x", tc.replicas); got != tc.want || says != tc.says {
			t.Errorf("%d, replicas %t: got %s %q, want %s %q", tc.number, tc.replicas, got, says, tc.want, tc.says)
		}
	}
}
