package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pgtier/cmd/demo"
	"pgtier/resharder"
	"pgtier/router/shard"
)

const (
	// reshardTarget is the pgtier whose buckets move.
	reshardTarget = "pgtier-reshard"
	// reshardRate is the limited load's writes a second.
	reshardRate = 1000
	// reshardLimit bounds one command of pgtier reshard.
	reshardLimit = 20 * time.Minute
)

// reshardConfig declares the one table that moves.
const reshardConfig = `    sharding:
      tables: {pgbench_accounts: {key: aid}}
`

// moves measures moves of half of a server's rows to another one, and back.
type moves struct {
	s       *series
	p       *proxies
	proxy   *target
	program string // pgtier
	config  string // its file
	rows    int
	window  time.Duration // before and behind each move
	bucket  string        // SQL of a row's bucket
	first   shard.Bucket  // of those that move, up to the last
}

// moveRun is one job with what its clients saw.
type moveRun struct {
	progress resharder.Progress
	rows     int64
	copying  time.Duration
	seen     map[string]phaseRun // by phase; nil without a load
	failed   int
	seconds  []second
}

// startReshardServers starts a server with all accounts, and an empty one.
func startReshardServers(ctx context.Context, o options, say progress) (*server, error) {
	s, err := startShardServers(ctx, o.rows, 1, o.mostClients(), say)
	if err != nil {
		return nil, err
	}
	for _, one := range s.cluster.Shards {
		if err := demo.AllowMoves(ctx, one.Manager.URL(benchDatabase, "", ""), benchRole); err != nil {
			return nil, stopAfter(err, s.cluster.Stop)
		}
	}
	bare := fmt.Sprintf("SET ROLE %s; %s", benchRole, strings.NewReplacer("pgbench_accounts", "bare", " PRIMARY KEY", "").Replace(accountsTable))
	if err := s.cluster.Shards[1].Manager.Exec(ctx, benchDatabase, bare); err != nil {
		return nil, stopAfter(err, s.cluster.Stop)
	}
	return s, s.settle(ctx)
}

// reshardMoves starts the proxy, first with the one shard that has the rows.
func reshardMoves(ctx context.Context, o options, s *series, p *proxies) (*moves, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	m := &moves{s: s, p: p, program: o.pgtier, config: p.path(reshardTarget + ".yaml"), rows: o.rows, window: time.Duration(o.seconds) * time.Second, first: shardBuckets / 2}
	if m.program == "" {
		if m.program, err = p.build(ctx); err != nil {
			return nil, err
		}
	}
	key, err := shard.NewKey(shard.Hash, shardBuckets, shard.Column{Name: "aid", Type: shard.Int4, Modifier: shard.NoModifier})
	if err != nil {
		return nil, err
	}
	m.bucket = key.Expression("")
	if m.proxy, err = p.startPgtier(ctx, m.program, reshardTarget, port, p.pgtierConfig(port, p.server.manager)+reshardConfig); err != nil {
		return nil, err
	}
	m.proxy.note = reshardTarget + ": before one server with all accounts; half of them move to a second server, and back, in each round"
	s.targets = []*target{m.proxy}
	s.say("%s: %s, port %d, process %d", m.proxy.name, m.proxy.version, m.proxy.port, m.proxy.pid)
	return m, m.widen(ctx, port)
}

// widen adds the second shard to the configuration once the first map is made, which has all shards of the file.
func (m *moves) widen(ctx context.Context, port int) error {
	shards := m.p.server.cluster.Shards
	if err := m.await(ctx, "the first map", func() error {
		count, err := shards[0].Manager.Value(ctx, benchDatabase, "SELECT count(*) FROM pgtier.map")
		if err == nil && count == "0" {
			err = errors.New("there is none")
		}
		return err
	}); err != nil {
		return err
	}
	if err := writeFor(m.config, m.p.pgtierConfig(port, shards[0].Manager, shards[1].Manager)+reshardConfig, m.p.account); err != nil {
		return err
	}
	if err := syscall.Kill(m.proxy.pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload %s: %w", m.proxy.name, err)
	}
	return m.await(ctx, "a plan without obstacles", func() error { return m.reshard(ctx, "plan", "--to", "s0,s1") })
}

// await tries until it works.
func (m *moves) await(ctx context.Context, what string, try func() error) error {
	for end := time.Now().Add(startPatience); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
	}
}

// reshard runs one command of pgtier reshard to its end.
func (m *moves) reshard(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, reshardLimit)
	defer cancel()
	args = append([]string{"reshard"}, append(args, "--config", m.config, "--database", benchDatabase)...)
	out, err := exec.CommandContext(ctx, m.program, args...).CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("pgtier %s: %w: %s", strings.Join(args, " "), err, lines[len(lines)-1])
	}
	return nil
}

// load is what clients do meanwhile.
type load struct {
	name string
	rate int // transactions a second; 0 is as many as they can
}

func reshardLoads() []load {
	return []load{{fmt.Sprintf("%d writes a second", reshardRate), reshardRate}, {"full speed", 0}}
}

// measure runs all rounds and puts the results into the report.
func (m *moves) measure(ctx context.Context, r *report) error {
	found := &reshardResults{}
	runs := map[string][]moveRun{}
	var bare, copied, shares []float64
	for round := range m.s.rounds {
		var plain, ours float64
		steps := []func() error{
			func() (err error) { plain, err = m.bare(ctx); return err },
			func() error {
				run, err := m.once(ctx, nil)
				ours = float64(run.rows) / run.copying.Seconds()
				found.Rows = run.rows
				return err
			},
		}
		for i := range steps { // neither always comes first
			if err := steps[(i+round)%len(steps)](); err != nil {
				return err
			}
		}
		bare, copied, shares = append(bare, plain), append(copied, ours), append(shares, ours/plain)
		m.s.say("round %d  bare COPY %8.0f rows/s  move %8.0f rows/s  %.2f", round+1, plain, ours, ours/plain)
		for _, l := range reshardLoads() {
			run, err := m.once(ctx, &l)
			if err != nil {
				return err
			}
			runs[l.name] = append(runs[l.name], run)
			m.s.say("round %d  %s: %.0f tx/s before, %.0f during, held at most %.1f ms", round+1, l.name,
				run.seen[phaseBefore].throughput(), run.seen[phaseDuring].throughput(), milliseconds(run.progress.HeldQuantile(1)))
		}
	}
	found.Bare, found.Copy, found.Share = spreadOf(bare), spreadOf(copied), spreadOf(shares)
	for _, l := range reshardLoads() {
		found.Loads = append(found.Loads, summarizeMoves(l, runs[l.name]))
	}
	r.Reshard = found
	return nil
}

// bare copies the rows that move by one COPY into another, both binary, into a table without indexes, and returns rows a second.
func (m *moves) bare(ctx context.Context) (float64, error) {
	from, err := m.p.direct().connect(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = from.Close(ctx) }() // it was only read from
	second := m.second()
	into, err := second.connect(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect to the second server: %w", err)
	}
	defer func() { _ = into.Close(ctx) }() // what it wrote is committed
	if _, err := into.Exec(ctx, "TRUNCATE bare").ReadAll(); err != nil {
		return 0, fmt.Errorf("empty the table: %w", err)
	}
	began := time.Now()
	rows, write := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends with the last row, or when the other side is closed
		_, err := from.CopyTo(ctx, write, fmt.Sprintf("COPY (SELECT * FROM pgbench_accounts WHERE %s >= %d) TO STDOUT (FORMAT binary)", m.bucket, m.first))
		done <- errors.Join(err, write.CloseWithError(err))
	}()
	tag, err := into.CopyFrom(ctx, rows, "COPY bare FROM STDIN (FORMAT binary)")
	if err = errors.Join(err, rows.CloseWithError(err), <-done); err != nil {
		return 0, fmt.Errorf("copy the rows: %w", err)
	}
	return float64(tag.RowsAffected()) / time.Since(began).Seconds(), nil
}

// second is the server that rows move to.
func (m *moves) second() *target {
	t := *m.p.direct()
	t.port = m.p.server.cluster.Shards[1].Manager.Port
	return &t
}

// once moves half of the rows to the second server, under a load unless it is nil, and back.
func (m *moves) once(ctx context.Context, l *load) (run moveRun, err error) {
	var clients *writers
	if l != nil {
		if clients, err = m.write(*l); err != nil {
			return run, err
		}
		defer clients.kill()
		if err := rest(ctx, m.window+time.Second); err != nil { // the first second is for logins
			return run, err
		}
	}
	began := time.Now()
	if err := m.reshard(ctx, "start", "--to", "s0,s1", "--auto"); err != nil {
		return run, err
	}
	if err := m.reshard(ctx, "finish"); err != nil {
		return run, err
	}
	ended := time.Now()
	if err := m.read(ctx, &run); err != nil {
		return run, err
	}
	if clients != nil {
		const unwritten = 3 * time.Second // pgbench keeps some lines of its log back
		if err := rest(ctx, m.window+unwritten); err != nil {
			return run, err
		}
		if err := clients.end(); err != nil {
			return run, err
		}
		if err := clients.look(&run, began, ended, m.window); err != nil {
			return run, err
		}
	}
	return run, m.back(ctx)
}

// back moves the rows back and forgets the second server's table: it is new again.
func (m *moves) back(ctx context.Context) error {
	if err := m.reshard(ctx, "start", "--to", "s0", "--auto"); err != nil {
		return err
	}
	if err := m.reshard(ctx, "finish"); err != nil {
		return err
	}
	if err := m.p.server.cluster.Shards[1].Manager.Exec(ctx, benchDatabase, "DROP TABLE pgbench_accounts"); err != nil {
		return err
	}
	return m.p.server.settle(ctx)
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// read asks what the last job says of itself, and the proxy's log how long its copy took, slots and cleaning included.
func (m *moves) read(ctx context.Context, run *moveRun) error {
	home := m.p.server.cluster.Shards[0].Manager
	number, err := home.Value(ctx, benchDatabase, "SELECT max(number) FROM pgtier.job")
	if err != nil {
		return err
	}
	text, err := home.Value(ctx, benchDatabase, "SELECT progress FROM pgtier.job WHERE number = "+number)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), &run.progress); err != nil {
		return fmt.Errorf("read the job's progress: %w", err)
	}
	for _, move := range run.progress.Moves {
		run.rows += move.Rows
	}
	log, err := os.ReadFile(m.p.path(reshardTarget + ".log"))
	if err != nil {
		return fmt.Errorf("read the proxy's log: %w", err)
	}
	at, err := steps(string(log), number)
	if err != nil {
		return err
	}
	run.copying = at[resharder.StepIndex].Sub(at[resharder.StepCopy])
	if at[resharder.StepCopy].IsZero() || run.copying <= 0 {
		return fmt.Errorf("the proxy's log does not say when job %s copied", number)
	}
	return nil
}

// steps are the times at which a job came to its steps, by the log of who carried it on.
func steps(log, number string) (map[resharder.Step]time.Time, error) {
	at := map[resharder.Step]time.Time{}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"step of the job"`) {
			continue
		}
		var entry struct {
			Time time.Time      `json:"ts"`
			Job  int64          `json:"job"`
			Step resharder.Step `json:"step"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return nil, fmt.Errorf("read the proxy's log: %w", err)
		}
		if strconv.FormatInt(entry.Job, 10) == number {
			at[entry.Step] = entry.Time
		}
	}
	return at, nil
}

// writers are a pgbench that writes until it is ended.
type writers struct {
	command *exec.Cmd
	out     strings.Builder
	ended   chan error
	logs    string
}

// write starts one; each transaction writes one row by its key.
func (m *moves) write(l load) (*writers, error) {
	logs, err := os.MkdirTemp(m.s.pgbench.scratch, "log-")
	if err != nil {
		return nil, fmt.Errorf("make directory for pgbench's log: %w", err)
	}
	script := filepath.Join(logs, "script.sql")
	text := fmt.Sprintf("\\set aid random(1, %d)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n", m.rows)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write pgbench's script: %w", err)
	}
	args := []string{"-h", loopback, "-p", strconv.Itoa(m.proxy.port), "-U", benchRole, "-n", "-M", "prepared", "-c", strconv.Itoa(quickClients), "-j", strconv.Itoa(threads),
		"-T", strconv.Itoa(int(2 * reshardLimit / time.Second)), "-l", "--log-prefix", filepath.Join(logs, "t"), "--max-tries=5", "-f", script}
	if l.rate > 0 {
		args = append(args, "-R", strconv.Itoa(l.rate))
	}
	w := &writers{command: exec.Command(m.s.pgbench.program, append(args, benchDatabase)...), ended: make(chan error, 1), logs: logs}
	w.command.Env = clientEnv(false, m.p.server.password)
	w.command.Stdout, w.command.Stderr = &w.out, &w.out
	w.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.command.Start(); err != nil {
		return nil, fmt.Errorf("run pgbench: %w", err)
	}
	go func() { w.ended <- w.command.Wait() }() // ends with the process
	return w, nil
}

// end ends pgbench, which must not have ended by itself: clients that hear an error do.
func (w *writers) end() error {
	select {
	case err := <-w.ended:
		w.ended <- err
		return fmt.Errorf("pgbench has ended: %w: %s", err, firstLines(w.out.String(), 3))
	default:
	}
	w.kill()
	if strings.Contains(w.out.String(), "aborted") {
		return fmt.Errorf("clients of pgbench have ended: %s", firstLines(w.out.String(), 3))
	}
	return nil
}

// kill ends pgbench whatever it does. It may be called again.
func (w *writers) kill() {
	_ = w.command.Process.Kill() // it may have ended
	w.ended <- <-w.ended
}

// look reads what clients saw from a while before a move until the same while after it.
func (w *writers) look(run *moveRun, began, ended time.Time, window time.Duration) error {
	all, failed, err := readStamped(w.logs)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(w.logs); err != nil {
		return fmt.Errorf("remove pgbench's log: %w", err)
	}
	run.failed = failed
	run.seen = map[string]phaseRun{
		phaseBefore: phaseOf(all, began.Add(-window), began),
		phaseDuring: phaseOf(all, began, ended),
		phaseAfter:  phaseOf(all, ended, ended.Add(window)),
	}
	if cuts := run.progress.Cuts; len(cuts) > 0 {
		first, last := cuts[0].At.Add(-cuts[0].Held), cuts[0].At
		for _, cut := range cuts {
			if start := cut.At.Add(-cut.Held); start.Before(first) {
				first = start
			}
			if cut.At.After(last) {
				last = cut.At
			}
		}
		run.seen[phaseCuts] = phaseOf(all, first, last)
	}
	run.seconds = secondsOf(all, began, began.Add(-window), ended.Add(window))
	return nil
}
