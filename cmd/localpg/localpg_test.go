package localpg_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// patience bounds every wait of these tests.
const patience = time.Minute

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}

// processesIn lists the processes that work in a directory or below.
func processesIn(dir string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err == nil && (cwd == dir || strings.HasPrefix(cwd, dir+"/")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// newDir names a directory that does not exist yet, where the servers' user may go: what TempDir makes is ours only.
func newDir(t *testing.T, name string) string {
	t.Helper()
	parent := t.TempDir()
	if err := os.Chmod(filepath.Dir(parent), 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(parent, name)
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

func TestReplicaFollowsManagerAndCanBePromoted(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Replicas: 2})
	ctx := limited(t)
	shard := cluster.Shards[0]
	manager, first, second := shard.Manager, shard.Replicas[0], shard.Replicas[1]

	pgtest.Exec(t, manager, "postgres", "CREATE TABLE t AS SELECT 42 AS v")
	if err := shard.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	for _, replica := range shard.Replicas {
		if got := pgtest.Value(t, replica, "postgres", "SELECT v FROM t"); got != "42" {
			t.Errorf("%s shows %q, want 42", replica.Name, got)
		}
	}
	if err := first.Exec(ctx, "postgres", "INSERT INTO t VALUES (1)"); err == nil {
		t.Error("a replica took a write")
	}

	if err := manager.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := first.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if err := second.Follow(ctx, first); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, first, "postgres", "INSERT INTO t VALUES (43)")
	eventually(t, "the other replica shows what the new manager wrote", func() bool {
		return pgtest.Value(t, second, "postgres", "SELECT max(v) FROM t") == "43"
	})
}

func TestKilledServerLeavesNoProcessAndComesBackOnItsPort(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Replicas: 1})
	ctx := limited(t)
	shard := cluster.Shards[0]
	manager := shard.Manager
	pgtest.Exec(t, manager, "postgres", "CREATE TABLE t AS SELECT 42 AS v")
	before, address := manager.PID(), manager.Address()

	conn, err := pgx.Connect(ctx, manager.URL("", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	segment := segmentOf(t, manager.DataDir)
	if err := manager.Kill(); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(sharedMemorySegments(t), segment) {
		t.Errorf("the killed server's shared memory segment %s is left", segment)
	}
	if left := processesIn(manager.DataDir); len(left) > 0 || manager.PID() != 0 {
		t.Errorf("processes %v are left of the killed server, PID() is %d", left, manager.PID())
	}
	if err := conn.Ping(ctx); err == nil {
		t.Error("a connection to the killed server still answers")
	}
	if err := manager.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if manager.PID() == before || manager.Address() != address {
		t.Errorf("after the restart: process %d (was %d), address %s (was %s)", manager.PID(), before, manager.Address(), address)
	}
	if got := pgtest.Value(t, manager, "postgres", "SELECT v FROM t"); got != "42" {
		t.Errorf("after the restart t holds %q, want 42", got)
	}
	if err := shard.AwaitStreaming(ctx); err != nil {
		t.Error(err)
	}
}

func TestRestartWaitsForItsOwnPort(t *testing.T) {
	manager := pgtest.Start(t, localpg.Options{}).Shards[0].Manager
	if err := manager.Stop(localpg.Fast); err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp", manager.Address())
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- manager.Start(limited(t)) }()
	eventually(t, "the server has met the squatter", func() bool {
		return strings.Contains(manager.LogTail(20), "Address already in use")
	})
	if err := squatter.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Value(t, manager, "postgres", "SELECT 1"); got != "1" {
		t.Errorf("after the wait: got %q, want 1", got)
	}
}

func TestPausedServerAcceptsAndNeverAnswers(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{})
	manager := cluster.Shards[0].Manager
	conn, err := pgx.Connect(limited(t), manager.URL("", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(limited(t))
	if err := manager.Pause(); err != nil {
		t.Fatal(err)
	}
	dialled, err := net.DialTimeout("tcp", manager.Address(), time.Second)
	if err != nil {
		t.Fatalf("a paused server must still accept: %v", err)
	}
	dialled.Close()
	// The open session's backend is frozen as well, not only the postmaster.
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(limited(t)) }()
	select {
	case err := <-answered:
		t.Fatalf("a paused server answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := manager.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the query that waited: %v", err)
	}
	// A paused server can be stopped in order.
	if err := manager.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := manager.Stop(localpg.Fast); err != nil {
		t.Error(err)
	}
}

func TestTLSClusterProvesItselfAndTakesClientCertificates(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{TLS: true, HBA: []string{"hostssl all by_cert 127.0.0.1/32 cert"}})
	ctx := limited(t)
	manager := cluster.Shards[0].Manager
	pgtest.Exec(t, manager, "postgres", "CREATE ROLE by_cert LOGIN")

	connect := func(user string, pairs ...tls.Certificate) (*pgx.Conn, error) {
		config, err := pgx.ParseConfig(manager.URL("postgres", user, "wrong"))
		if err != nil {
			t.Fatal(err)
		}
		if user == "" {
			config.Password = cluster.Password
		}
		config.TLSConfig = &tls.Config{RootCAs: cluster.Certificates.Roots, ServerName: manager.Host, Certificates: pairs}
		return pgx.ConnectConfig(ctx, config)
	}
	superuser, err := connect("")
	if err != nil {
		t.Fatalf("verified connection: %v", err)
	}
	superuser.Close(ctx)

	if conn, err := connect("by_cert"); err == nil {
		conn.Close(ctx)
		t.Error("a role that must show a certificate came in without")
	}
	certFile, keyFile, err := cluster.Certificates.IssueClient("by_cert")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connect("by_cert", pair)
	if err != nil {
		t.Fatalf("with its certificate: %v", err)
	}
	conn.Close(ctx)
}

func TestPasswordsAreCheckedOverTCP(t *testing.T) {
	for _, method := range []string{"scram-sha-256", "md5", "password"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Start(t, localpg.Options{Auth: method, Superuser: "the boss", Password: `p'w\:/@?%`})
			ctx := limited(t)
			manager := cluster.Shards[0].Manager
			conn, err := pgx.Connect(ctx, manager.URL("", "", ""))
			if err != nil {
				t.Fatalf("right password: %v", err)
			}
			conn.Close(ctx)
			if conn, err := pgx.Connect(ctx, manager.URL("", cluster.Superuser, "wrong")); err == nil {
				conn.Close(ctx)
				t.Error("a wrong password was taken")
			}
		})
	}
}

func TestStopLeavesNothing(t *testing.T) {
	given := newDir(t, strings.Repeat("long", 25)) // too long for a Unix socket's path
	cluster, err := localpg.Start(limited(t), localpg.Options{Dir: given, Shards: 2, Replicas: 1, Settings: map[string]string{"work_mem": "5MB"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Value(t, cluster.Shards[1].Manager, "postgres", "SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem is %s, want the given 5MB", got)
	}
	const identity = "SELECT system_identifier FROM pg_control_system()"
	if a, b := pgtest.Value(t, cluster.Shards[0].Manager, "postgres", identity), pgtest.Value(t, cluster.Shards[1].Manager, "postgres", identity); a == b {
		t.Errorf("both shards have the system identifier %s", a)
	}
	if len(processesIn(given)) == 0 {
		t.Fatal("no process works in the directory: this test cannot see what is left")
	}
	// One of them is killed, which leaves what only a restart or we clear away.
	if err := cluster.Shards[0].Replicas[0].Kill(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := cluster.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if left := processesIn(given); len(left) > 0 || !missing(given) || !missing(cluster.SocketDir) {
		t.Errorf("left: processes %v, directory gone: %v, sockets gone: %v", left, missing(given), missing(cluster.SocketDir))
	}
}

func TestKeptDirectoryStaysAndAFullOneIsRefused(t *testing.T) {
	dir := newDir(t, "kept")
	cluster, err := localpg.Start(limited(t), localpg.Options{Dir: dir, Keep: true, Production: true})
	if err != nil {
		t.Fatal(err)
	}
	manager := cluster.Shards[0].Manager
	if got := pgtest.Value(t, manager, "postgres", "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s in production mode, want on", got)
	}
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if missing(filepath.Join(manager.DataDir, "PG_VERSION")) || !missing(filepath.Join(manager.DataDir, "postmaster.pid")) {
		t.Errorf("the data should be there and not in use:\n%s", manager.LogTail(10))
	}
	if _, err := localpg.Start(limited(t), localpg.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("start in a directory in use: got %v, want a refusal", err)
	}
}

func TestFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	dir := newDir(t, "failed")
	_, err := localpg.Start(limited(t), localpg.Options{Dir: dir, Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `"no_such_setting"`) {
		t.Errorf("got %v, want the server's own words about no_such_setting", err)
	}
	if left := processesIn(dir); len(left) > 0 || !missing(dir) {
		t.Errorf("left: processes %v, directory gone: %v", left, missing(dir))
	}
}

func TestMissingBinariesAreNamedWithAHint(t *testing.T) {
	t.Setenv("PGTIER_PG_BIN", t.TempDir())
	_, err := localpg.Start(limited(t), localpg.Options{})
	if !errors.Is(err, localpg.ErrNoBinaries) || !strings.Contains(err.Error(), "PGTIER_PG_BIN") {
		t.Errorf("got %v, want ErrNoBinaries that names PGTIER_PG_BIN", err)
	}
}

// childDir tells TestMain that this process is the victim of TestNothingSurvivesAKilledParent.
const childDir = "PGTIER_TEST_VICTIM_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	cluster, err := localpg.Start(context.Background(), localpg.Options{Dir: dir, Replicas: 1})
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	// A paused server and a killed one are the hard cases for whoever clears up.
	err = errors.Join(cluster.Shards[0].Manager.Pause(), cluster.Shards[0].Replicas[0].Kill())
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	println("started")
	select {} // until killed
}

func TestNothingSurvivesAKilledParent(t *testing.T) {
	dir := newDir(t, "victim")
	child := exec.CommandContext(limited(t), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	output, err := child.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4096)
	n, err := output.Read(said)
	if err != nil || string(said[:n]) != "started\n" {
		t.Fatalf("the child said %q (%v), want started", said[:n], err)
	}
	if len(processesIn(dir)) == 0 {
		t.Fatal("no process works in the directory: this test cannot see what is left")
	}
	segment := segmentOf(t, filepath.Join(dir, "s0", "manager"))
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // "signal: killed"
	eventually(t, "all servers have gone", func() bool { return len(processesIn(dir)) == 0 })
	eventually(t, "the directory has gone", func() bool { return missing(dir) })
	if slices.Contains(sharedMemorySegments(t), segment) {
		t.Errorf("shared memory segment %s is left", segment)
	}
}

// segmentOf reads the id of the System V segment that a running server's lock file names.
func segmentOf(t *testing.T, dataDir string) string {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(strings.Split(string(lock), "\n")[6])
	if len(fields) != 2 || !slices.Contains(sharedMemorySegments(t), fields[1]) {
		t.Fatalf("the lock file names the segment %q, which does not exist: this test cannot see what is left", fields)
	}
	return fields[1]
}

// sharedMemorySegments lists the ids of the machine's System V segments.
func sharedMemorySegments(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(content)) {
		ids = append(ids, strings.Fields(line)[1])
	}
	return ids
}
