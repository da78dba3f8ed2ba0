package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/resharder"
)

// reshardRig is a database that has one shard and shall have three.
type reshardRig struct {
	t       *testing.T
	cluster *localpg.Cluster
	names   []string
	file    string
}

func newReshardRig(t *testing.T) *reshardRig {
	r := &reshardRig{t: t, cluster: pgtest.Start(t, localpg.Options{Shards: 3})}
	for _, s := range r.cluster.Shards {
		r.names = append(r.names, pgtest.Database(t, s.Manager))
	}
	pgtest.Exec(t, r.cluster.Shards[0].Manager, r.names[0], `CREATE TABLE users (id bigint PRIMARY KEY, n bigint NOT NULL DEFAULT 0); CREATE TABLE countries (code text PRIMARY KEY);
INSERT INTO users SELECT generate_series(1, 500); INSERT INTO countries VALUES ('de'), ('fr')`)
	r.file = writeFile(t, "pgtier.yaml", r.config(1))
	return r
}

// config is the file of the first shards.
func (r *reshardRig) config(shards int) string {
	var list []string
	for i, s := range r.cluster.Shards[:shards] {
		list = append(list, fmt.Sprintf("{name: s%d, manager: %q}", i, s.Manager.URL(r.names[i], "", "")))
	}
	return fmt.Sprintf("listen: ['127.0.0.1:0']\nhttp: ''\nauth: {method: trust, admins: [postgres]}\ndatabases: {app: {shards: [%s], sharding: {buckets: 64, tables: {users: {key: id}}, reference: [countries], reshard: {groups: 2}}}}\n", strings.Join(list, ", "))
}

func (r *reshardRig) widen() {
	if err := os.WriteFile(r.file, []byte(r.config(3)), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// run runs a reshard command and returns what it printed.
func (r *reshardRig) run(want int, args ...string) string {
	r.t.Helper()
	status, stdout, stderr := command(r.t, append([]string{"reshard"}, append(args, "--config", r.file, "--database", "app")...)...)
	if status != want {
		r.t.Fatalf("pgtier reshard %s: status %d, want %d\n%s%s", strings.Join(args, " "), status, want, stdout, stderr)
	}
	r.t.Logf("pgtier reshard %s\n%s%s", strings.Join(args, " "), stdout, stderr)
	return stdout + stderr
}

// untilPossible waits until no proxy that runs, or has a moment ago, lacks the new shards.
func (r *reshardRig) untilPossible() {
	r.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		status, stdout, _ := command(r.t, "reshard", "plan", "--to", "s0,s1,s2", "--config", r.file)
		if status == 0 {
			return
		}
		if time.Now().After(end) {
			r.t.Fatal(stdout)
		}
	}
}

// says fails the test unless the text has all the words.
func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in:\n%s", word, text)
		}
	}
}

func TestReshardCommandsCarryAJobThemselvesWhereNobodyServes(t *testing.T) {
	r := newReshardRig(t)
	s := startServe(t, serveFlags{config: r.file}, "app") // makes the map
	conn := asRole(t, s.url)
	if _, err := conn.Exec(t.Context(), "UPDATE users SET n = 1 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	s.signals <- syscall.SIGTERM
	s.end(t)
	r.widen()
	says(t, r.run(0, "status"), "has never had a job")
	says(t, r.run(1, "cutover"), "there is no job", "start begins one")
	says(t, r.run(2, "plan"), "say where the buckets shall go", "'pgtier reshard plan --help'")
	says(t, r.run(2, "plan", "--add", "s1", "--add", "s2"), "one shard is added or drained at a time")
	says(t, r.run(2, "start", "--to", "s0,s1", "--drain", "s1"), "one of them")
	says(t, r.run(1, "plan", "--to", "s0,s9"), `"s9" is not in the configuration`)
	r.untilPossible()
	says(t, r.run(0, "plan", "--to", "s0,s1,s2"), "42 of 64 buckets", "s0 to s1", "none is running")
	pgtest.Exec(t, r.cluster.Shards[0].Manager, r.names[0], "ALTER TABLE users SET UNLOGGED")
	if out := r.run(1, "start", "--to", "s0,s1,s2"); strings.Count(out, "FAIL") != 1 || strings.Count(out, "unlogged") != 1 {
		t.Errorf("an obstacle is told:\n%s", out)
	}
	pgtest.Exec(t, r.cluster.Shards[0].Manager, r.names[0], "ALTER TABLE users SET LOGGED")
	says(t, r.run(0, "start", "--to", "s0,s1,s2"), "this command does until it ends", "copied and following")
	says(t, r.run(1, "finish"), "0 of 4 groups", "finish comes after")
	says(t, r.run(1, "start", "--to", "s0,s1"), "another one is under way")
	says(t, r.run(0, "start", "--to", "s0,s1,s2"), "copied and following") // said again
	says(t, r.run(0, "verify"), "both sides are equal")
	if status := r.run(0, "status"); strings.Contains(status, " left") || strings.Contains(status, "does: ") {
		t.Errorf("all is copied and compared, and something is left:\n%s", status)
	}
	says(t, r.run(0, "cutover"), "the new owners serve", "4 cuts held statements for")
	says(t, r.run(0, "cutover"), "the new owners serve")
	says(t, r.run(0, "start", "--to", "s0,s1,s2"), "the new owners serve", "finish gives the way back up") // what was done before is done still
	says(t, r.run(1, "cancel"), "run pgtier reshard rollback first")
	says(t, r.run(0, "rollback"), "the old owners serve")
	says(t, r.run(0, "cutover"), "the new owners serve")
	says(t, r.run(0, "status"), "2 of 2 groups", "12 cuts held")
	says(t, r.run(0, "finish"), "the job is done")
	says(t, r.run(0, "finish"), "the job is done")
	rows := 0
	for i, s := range r.cluster.Shards {
		var n int
		fmt.Sscan(pgtest.Value(t, s.Manager, r.names[i], "SELECT count(*) FROM users"), &n)
		if n < 100 {
			t.Errorf("s%d has %d users", i, n)
		}
		rows += n
		if got := pgtest.Value(t, s.Manager, r.names[i], "SELECT count(*) FROM countries"); got != "2" {
			t.Errorf("s%d has %s countries", i, got)
		}
	}
	if rows != 500 {
		t.Errorf("there are %d users", rows)
	}
}

// TestRollbackIsDoneWhenTheMoverHasHeardOfIt asks for a rollback while the first group is granted to its new owner and the journal does not have that yet.
func TestRollbackIsDoneWhenTheMoverHasHeardOfIt(t *testing.T) {
	r := newReshardRig(t)
	s := startServe(t, serveFlags{config: r.file}, "app")
	conn := asRole(t, s.url)
	if _, err := conn.Exec(t.Context(), "SELECT FROM users"); err != nil { // the map is there
		t.Fatal(err)
	}
	conn.Close(t.Context())
	s.signals <- syscall.SIGTERM
	s.end(t)
	r.widen()
	r.untilPossible()
	command, err := newReshardRun(reshardFlags{config: r.file, database: "app"}, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer command.close()
	granted, goOn := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(granted) })
	config := command.config
	config.Point = func(ctx context.Context, name string) error {
		if name == "committed" {
			once()
			select {
			case <-goOn:
			case <-ctx.Done():
			}
		}
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	var carrying sync.WaitGroup
	defer carrying.Wait()
	defer stop()
	carrying.Go(func() { resharder.Run(ctx, config) }) // ends by stop
	r.run(0, "start", "--to", "s0,s1,s2")
	ask := func(wish resharder.Wish) {
		t.Helper()
		if _, err := command.control.Journal().Ask(t.Context(), wish, false); err != nil {
			t.Fatal(err)
		}
	}
	ask(resharder.WishCutover)
	select {
	case <-granted:
	case <-time.After(3 * time.Minute):
		t.Fatal("no group is granted")
	}
	ask(resharder.WishRollback)
	status, err := command.control.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rolledBack(status) {
		t.Error("rollback is done, and a group has its new owner")
	}
	close(goOn)
	says(t, r.run(0, "rollback"), "the old owners serve")
	for i, s := range r.cluster.Shards[1:] {
		if got := pgtest.Value(t, s.Manager, r.names[1+i], "SELECT string_agg(granted::text, ' ') FROM pgtier.move"); got != "{}" {
			t.Errorf("after the rollback s%d owns groups %s", 1+i, got)
		}
	}
	says(t, r.run(0, "cancel"), "everything is taken back")
}

// asRole connects as the servers' own role.
func asRole(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("postgres")
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestServingProcessesMoveBucketsUnderTheirClients(t *testing.T) {
	r := newReshardRig(t)
	s := startServe(t, serveFlags{config: r.file}, "app")
	other := startServe(t, serveFlags{config: r.file}, "app")
	r.widen()
	for _, served := range []*served{s, other} {
		served.signals <- syscall.SIGHUP
		served.log.await(t, "configuration reloaded")
	}
	stop, writes := make(chan struct{}), make([]int64, 501)
	var (
		writing sync.WaitGroup
		mu      sync.Mutex
	)
	for i, served := range []*served{s, other, s} {
		conn := asRole(t, served.url)
		writing.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := n%500 + 1
				if _, err := conn.Exec(context.Background(), "UPDATE users SET n = n + 1 WHERE id = $1", id); err != nil {
					t.Errorf("a client heard: %v", err)
					return
				}
				mu.Lock()
				writes[id]++
				mu.Unlock()
			}
		})
	}
	end := sync.OnceFunc(func() { close(stop); writing.Wait() })
	defer end()
	r.untilPossible()
	r.run(0, "start", "--to", "s0,s1,s2")
	console := asRole(t, strings.Replace(s.url, "/app?", "/pgtier?", 1))
	if _, err := console.Exec(t.Context(), "RESHARD cutover app"); err != nil {
		t.Fatal(err)
	}
	says(t, r.run(0, "cutover"), "the new owners serve")
	says(t, r.run(0, "rollback"), "the old owners serve")
	says(t, r.run(0, "cutover"), "the new owners serve")
	says(t, r.run(0, "finish"), "the job is done")
	end()
	sum := int64(0)
	for _, n := range writes {
		sum += n
	}
	var stored, rows string
	if err := asRole(t, other.url).QueryRow(t.Context(), "SELECT sum(n), count(*) FROM users", pgx.QueryExecModeSimpleProtocol).Scan(&stored, &rows); err != nil {
		t.Fatal(err)
	}
	if stored != fmt.Sprint(sum) || rows != "500" {
		t.Errorf("%s writes of %d are there, in %s rows", stored, sum, rows)
	}
	t.Logf("%d writes", sum)
	shown, err := console.Query(t.Context(), "SHOW RESHARD", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for shown.Next() {
		count++
	}
	if count != 2 {
		t.Errorf("SHOW RESHARD has %d rows", count)
	}
	if _, err := console.Exec(t.Context(), "RESHARD cutover app", pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "is done") {
		t.Errorf("RESHARD of a job that is over: %v", err)
	}
}

func TestShowSaysNothingTwice(t *testing.T) {
	var out strings.Builder
	show := newReshardShow(&out)
	job := &resharder.Status{Job: &resharder.Job{Step: resharder.StepCopy, Progress: resharder.Progress{Doing: "copies rows", Moves: []resharder.MoveProgress{
		{Rows: 500, ExpectedRows: 2000, Bytes: 3 << 20, ExpectedBytes: 12 << 20, Rate: 1 << 20, ETA: 9 * time.Second}}}}}
	for range 3 {
		show.status(job)
	}
	job.Progress.Moves[0].Rows = 600 // too soon for another line
	show.status(job)
	show.said = show.said.Add(-sayEvery)
	show.status(job)
	job.Step, job.Progress.Doing = resharder.StepFollow, ""
	show.status(job)
	show.said = show.said.Add(-sayEvery)
	show.status(job)
	want := "copy: copies rows (500 of about 2000 rows, 3.0 MiB of about 12.0 MiB, 1.0 MiB a second, 9s left)\n" +
		"copy: copies rows (600 of about 2000 rows, 3.0 MiB of about 12.0 MiB, 1.0 MiB a second, 9s left)\n" +
		"follow (0 of 0 groups, lag 0 kB)\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	if got := shortened("follow: compares", 8); got != "follow:…" {
		t.Errorf("got %q", got)
	}
}
