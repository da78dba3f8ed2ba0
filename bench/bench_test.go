package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/configs"
)

func names(all []workload) []string {
	var found []string
	for _, w := range all {
		found = append(found, w.name)
	}
	return found
}

func TestFlagsChooseWorkloads(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"quick":                  {[]string{"--quick"}, []string{"select-simple-16", "select-extended-16", "select-prepared-16", "tpcb-prepared-16"}},
		"only":                   {[]string{"--only", "row,tls"}, []string{"tls-prepared-16", "row-1kB-16", "row-100kB-16"}},
		"only of the quick ones": {[]string{"--quick", "--only", "reconnect"}, []string{"reconnect-16"}},
		"clients":                {[]string{"--clients", "3", "--only", "select"}, []string{"select-simple-3", "select-extended-3", "select-prepared-3"}},
		"transactions":           {[]string{"--only", "tpcb"}, []string{"tpcb-simple-16", "tpcb-extended-16", "tpcb-prepared-16"}},
		"idle":                   {[]string{"--only", "idle"}, nil},
		"replicas":               {[]string{"--only", "reads"}, []string{"reads-19-of-20-16"}},
		"no replicas":            {[]string{"--only", "reads", "--replicas", "0"}, nil},
		"shards":                 {[]string{"--shards"}, []string{"shards-point-simple-16", "shards-point-prepared-16", "shards-aggregate-group-1", "shards-aggregate-top-1", "shards-commit-simple-1", "shards-commit-simple-16", "shards-commit-prepared-16"}},
		"some of shards":         {[]string{"--shards", "--only", "point,commit"}, []string{"shards-point-simple-16", "shards-point-prepared-16", "shards-commit-simple-1", "shards-commit-simple-16", "shards-commit-prepared-16"}},
		"profile of shards":      {[]string{"--shards", "--profile"}, []string{"shards-point-simple-16", "shards-point-prepared-16"}},
		"cache": {[]string{"--cache", "--only", "hot,zipf-50"}, []string{
			"cache-hot-simple-16", "cache-hot-prepared-16", "cache-hot-simple-64", "cache-hot-prepared-64", "cache-zipf-50-simple-64", "cache-zipf-50-prepared-64",
		}},
		"profile of the cache": {[]string{"--cache", "--profile"}, []string{"cache-hot-simple-64", "cache-hot-prepared-64"}},
		"profile":              {[]string{"--profile"}, []string{"select-simple-16", "select-extended-16", "select-prepared-16"}},
	} {
		o, err := parseOptions(tc.args)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := names(o.workloads()); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestReadsFromReplicasAreMeasuredByTheirOwnWorkloadOnly(t *testing.T) {
	twin := &target{name: splitTarget, routes: func(context.Context) (string, error) { return "", nil }}
	for _, w := range workloads([]int{16}) {
		if got := twin.takes(w); got != (w.name == "reads-19-of-20-16") {
			t.Errorf("%s: takes %v", w.name, got)
		}
		if got := twin.databaseFor(w); got != benchDatabase {
			t.Errorf("%s: asks for database %q, want %q", w.name, got, benchDatabase)
		}
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--clients", "0"}, {"--clients", "many"}, {"--rounds", "0"}, {"--seconds", "-1"}, {"--idle", "20000"}, {"--peer", "name"}, {"--peer", "=x"}, {"--peer", "a/b=x"}, {"extra"}, {"--cache", "--quick"}, {"--cache", "--shards"}, {"--cache", "--peer", "a=x"}, {"--shards", "--quick"}, {"--shards", "--peer", "a=x"},
	} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%q: accepted", args)
		}
	}
}

func TestPgBouncerSharesPreparedStatementsSince121(t *testing.T) {
	for version, want := range map[string]bool{"PgBouncer 1.18.0": false, "PgBouncer 1.20.1": false, "PgBouncer 1.21.0": true, "PgBouncer 1.25.0": true, "PgBouncer 2.0": true} {
		if got, err := sharesPrepared(version); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", version, got, err, want)
		}
	}
	if _, err := sharesPrepared("pgbouncer"); err == nil {
		t.Error("no version: accepted")
	}
}

func TestReportsShowNoDirectories(t *testing.T) {
	got := shownCommand([]string{"--out", "bench/results", "--pgtier=/opt/x/pgtier", "--peer", "new=/opt/p/pgbouncer {config:bench/peers/pgbouncer.ini}"})
	want := "go run ./bench --out bench/results --pgtier=pgtier --peer 'new=pgbouncer {config:bench/peers/pgbouncer.ini}'"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSessionPoolingTakesNoMoreClientsThanConnections(t *testing.T) {
	pooled := &target{preparedDatabase: sessionDatabase}
	for _, tc := range []struct {
		w    workload
		able bool
	}{
		{workload{mode: "prepared", clients: poolSize}, true},
		{workload{mode: "prepared", clients: poolSize + 1}, false},
		{workload{mode: "simple", clients: 64}, true},
	} {
		if reason := pooled.unable(tc.w); (reason == "") != tc.able {
			t.Errorf("%+v: got %q, want able %v", tc.w, reason, tc.able)
		}
	}
}

func TestTargetsSayWhatTheyCannotRun(t *testing.T) {
	forking := &target{sessions: 64, noTLS: "no TLS"}
	for _, tc := range []struct {
		w    workload
		want string
	}{
		{workload{clients: 64}, ""},
		{workload{clients: 65}, "65 clients do not fit into 64 processes"},
		{workload{clients: 1, tls: true}, "no TLS"},
	} {
		if got := forking.unable(tc.w); got != tc.want {
			t.Errorf("%+v: got %q, want %q", tc.w, got, tc.want)
		}
	}
}

// proxiesOf is what starts proxies before servers, which the test's end stops.
func proxiesOf(t *testing.T, s *server) *proxies {
	t.Helper()
	t.Cleanup(func() {
		if err := s.cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	// Not t.TempDir: every directory above must be open to the proxies' account.
	dir, err := os.MkdirTemp("", "pgtier-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := newProxies(s, dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSeriesAgainstRealProxies runs a short series against the server, PgBouncer and, as a peer, one more PgBouncer,
// and reads the configuration that pgtier would get as pgtier does.
func TestSeriesAgainstRealProxies(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	say := t.Logf
	s, err := startServer(ctx, 0, quickClients, say)
	if err != nil {
		t.Fatal(err)
	}
	p := proxiesOf(t, s)
	program, err := debianProgram("pgbouncer")
	if err != nil {
		t.Fatal(err)
	}
	pgbouncer, err := p.pgbouncer(ctx, program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pgbouncer.stop(); err != nil {
			t.Error(err)
		}
	})
	template, err := os.ReadFile(filepath.Join("peers", "pgbouncer.ini"))
	if err != nil {
		t.Fatal(err)
	}
	// Debian's PgBouncer has no prepared statements in transaction pooling, so it gets a second database as ours does.
	older := strings.NewReplacer("max_prepared", "; max_prepared",
		"[pgbouncer]", sessionDatabase+" = host={host} port={server_port} dbname={database} pool_mode=session\n[pgbouncer]").Replace(string(template))
	if err := os.WriteFile(p.path("older.ini"), []byte(older), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := p.peer(ctx, peer{name: "second", command: program + " {config:" + p.path("older.ini") + "}"})
	if err != nil {
		t.Fatal(err)
	}
	if second.version != pgbouncer.version {
		t.Errorf("the peer's version is %q, want %q", second.version, pgbouncer.version)
	}
	t.Cleanup(func() {
		if err := second.stop(); err != nil {
			t.Error(err)
		}
	})
	second.preparedDatabase = sessionDatabase
	pool := startPgpool(ctx, t, p)
	binaries, err := localpg.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	short := &series{
		pgbench: pgbench{program: binaries.Path("pgbench"), scratch: p.dir}, server: s,
		targets: []*target{p.direct(), pgbouncer, second, pool}, rounds: 1, seconds: 1, say: say, warm: warmUps(),
	}
	t.Run("workloads", func(t *testing.T) { checkWorkloads(ctx, t, short) })
	t.Run("idle clients", func(t *testing.T) {
		got, err := idle(ctx, pgbouncer, 50)
		if err != nil || got.Before <= 0 || got.After <= 0 || got.Clients != 50 {
			t.Errorf("got %+v, %v, want memory before and after", got, err)
		}
	})
	t.Run("more idle clients than processes", func(t *testing.T) {
		if got, err := idle(ctx, pool, pool.sessions+1); err == nil {
			t.Errorf("got %+v, want a reason why not", got)
		}
	})
	t.Run("a peer that cannot start", func(t *testing.T) {
		if _, err := p.peer(ctx, peer{name: "broken", command: "echo no such proxy on {port}; exit 3"}); err == nil {
			t.Error("started")
		}
	})
	t.Run("a peer without its file", func(t *testing.T) {
		if _, err := p.peer(ctx, peer{name: "lost", command: "true {config:peers/none.ini}"}); err == nil {
			t.Error("started")
		}
	})
	t.Run("pgtier's file", func(t *testing.T) {
		file := p.path("test.yaml")
		if err := os.WriteFile(file, []byte(p.pgtierConfig(6432, s.manager)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := configs.Load(file, nil); err != nil {
			t.Error(err)
		}
	})
	if _, err := exec.LookPath("git"); err == nil && commit(ctx) == "" {
		t.Error("the commit has no name")
	}
}

// startPgpool starts a Pgpool-II that must be gone with all its processes when the test ends.
func startPgpool(ctx context.Context, t *testing.T, p *proxies) *target {
	program, err := debianProgram("pgpool")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := p.pgpool(ctx, program, quickClients)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.stop(); err != nil {
			t.Error(err)
		}
		// A killed process is there until whoever inherits it has noticed.
		deadline := time.Now().Add(10 * time.Second)
		for syscall.Kill(-pool.pid, 0) == nil && time.Now().Before(deadline) {
			time.Sleep(tick)
		}
		if err := syscall.Kill(-pool.pid, 0); err != syscall.ESRCH {
			t.Errorf("processes of %s after its end: got %v, want none", pool.name, err)
		}
	})
	if !strings.HasPrefix(pool.version, "pgpool-II version ") {
		t.Errorf("got version %q", pool.version)
	}
	return pool
}

// checkWorkloads runs one workload of each kind: a built-in one, TLS, a script of our own.
func checkWorkloads(ctx context.Context, t *testing.T, s *series) {
	for _, w := range chosen(workloads([]int{2}), "select-prepared,tls,row-1kB", false) {
		runs, problems := s.measure(ctx, w)
		// On a busy machine no transaction may end within so short a round, or their processor time may be less than the kernel's tick.
		idle := func(t *target) bool {
			if t.unable(w) != "" || problems[t.name] != "" {
				return false
			}
			got := runs[t.name]
			return len(got) == 0 || got[0].ServerCPU == 0 || t.pid != 0 && got[0].ProxyCPU == 0
		}
		for tries := 1; tries < 5 && slices.ContainsFunc(s.targets, idle); tries++ {
			runs, problems = s.measure(ctx, w)
		}
		for _, target := range s.targets {
			if reason := target.unable(w); reason != "" {
				if problems[target.name] != reason || len(runs[target.name]) != 0 {
					t.Errorf("%s against %s: %d runs, %q, want none because %s", w.name, target.name, len(runs[target.name]), problems[target.name], reason)
				}
				continue
			}
			if problems[target.name] != "" || len(runs[target.name]) != 1 {
				t.Errorf("%s against %s: %d runs, %s", w.name, target.name, len(runs[target.name]), problems[target.name])
				continue
			}
			one := runs[target.name][0]
			if one.Throughput <= 0 || one.ServerCPU <= 0 || len(one.latencies) == 0 {
				t.Errorf("%s against %s: got %+v, want throughput, the server's time and latencies", w.name, target.name, one)
			}
			if proxied := target.pid != 0; proxied != (one.ProxyCPU > 0) || proxied != (one.Peak > 0) {
				t.Errorf("%s against %s: got %.1f µs and %d bytes of the proxy, process %d", w.name, target.name, one.ProxyCPU, one.Peak, target.pid)
			}
		}
	}
}
