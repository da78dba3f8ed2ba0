package movetest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// gate is the network between a proxy and a server: it passes everything on, but for messages that it was told to hold, and all when it is shut.
type gate struct {
	// fixed
	to      string
	refuses string // connections that begin with this are closed

	mu     sync.Mutex
	words  map[string]chan struct{} // guarded by mu; what brings one of these is held, and its channel closed
	shut   bool                     // guarded by mu
	opened chan struct{}            // guarded by mu; closed when what is held goes on; nil while nothing may be
}

// newGate starts one to a server and returns it with the address to connect to.
func newGate(t testing.TB, to *localpg.Server, refuses string) (g *gate, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g = &gate{to: to.Address(), refuses: refuses, words: map[string]chan struct{}{}}
	t.Cleanup(func() {
		_ = l.Close()
		g.open()
	})
	go func() { // ends with the listener
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", g.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			go g.pass(in, out, true)  // ends with either side
			go g.pass(out, in, false) // ends with either side
		}
	}()
	return g, l.Addr().String()
}

// hold has the next message that has the word wait for open. caught tells that it has come.
func (g *gate) hold(word string) (caught <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closes()
	comes := make(chan struct{})
	g.words[word] = comes
	return comes
}

// close lets nothing through until open.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closes()
	g.shut = true
}

// closes makes what is held wait. mu is held.
func (g *gate) closes() {
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

// open lets everything through again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.words)
	g.shut = false
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// waits returns what a message has to wait for, nil for nothing.
func (g *gate) waits(message []byte, asks bool) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	for word, comes := range g.words {
		if asks && bytes.Contains(message, []byte(word)) {
			delete(g.words, word)
			close(comes)
			return g.opened
		}
	}
	if g.shut {
		return g.opened
	}
	return nil
}

// pass passes on what comes from one side; asks: from the proxy.
func (g *gate) pass(from, to net.Conn, asks bool) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
	}()
	buf := make([]byte, 64<<10)
	for first := asks; ; first = false {
		n, err := from.Read(buf)
		if first && g.refuses != "" && bytes.Contains(buf[:n], []byte(g.refuses)) {
			return
		}
		if wait := g.waits(buf[:n], asks); wait != nil {
			<-wait
		}
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// distant is a proxy that has gates in front of home and of the control database.
type distant struct {
	*daemon
	r             *rig
	home, control *gate
}

// distant starts one, and tells all proxies of all servers.
func (r *rig) distant() *distant {
	r.t.Helper()
	home, homeAt := newGate(r.t, r.cluster.Shards[0].Manager, "")
	control, controlAt := newGate(r.t, r.cluster.Shards[3].Manager, "pgtier mover") // whose moves would stand still as well
	far := &distant{newDaemon(r.t, "the proxy behind the gates", pgtest.FreeAddress(r.t), r.file+".far"), r, home, control}
	configure := func() {
		text, err := os.ReadFile(r.file)
		r.try(err)
		behind := strings.NewReplacer(home.to, homeAt, control.to, controlAt).Replace(string(text))
		r.try(os.WriteFile(far.config, []byte(behind), 0o600))
	}
	configure()
	r.try(far.start(r.ctx()))
	r.widen()
	configure()
	r.try(far.reload())
	return far
}

// late begins a statement, and returns what it hears when it is through.
func (d *distant) late(client *pgx.Conn, sql string) <-chan error {
	heard := make(chan error, 1)
	go func() { // ends with the statement
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		_, err := client.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		heard <- err
	}()
	return heard
}

// answer is what a client hears of a statement.
type answer struct {
	rows int64 // found
	err  error
}

// find begins what finds rows or changes them, and returns what its client hears when it is through.
func (d *distant) find(sql string, mode pgx.QueryExecMode) <-chan answer {
	client := d.r.connect(d.url("app"))
	heard := make(chan answer, 1)
	go func() { // ends with the statement
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		tag, err := client.Exec(ctx, sql, mode)
		heard <- answer{tag.RowsAffected(), err}
	}()
	return heard
}

// waiting is how many clients wait in the proxy.
func (d *distant) waiting() (n int) {
	for _, row := range d.r.rows(d.url("pgtier"), "SHOW CLIENTS") {
		if slices.Contains(row, "app") && slices.Contains(row, "waiting") {
			n++
		}
	}
	return n
}

// join adds a shard, beside what is held. The step is over with what it returns.
func (r *rig) join(name string) <-chan string {
	r.t.Helper()
	r.untilPossible("--add", name)
	done := make(chan string, 1)
	go func() { // ends with the command
		if status, out := r.command(r.ctx(), "reshard", "start", "--add", name); status != 0 {
			done <- fmt.Sprintf("status %d: %s", status, out)
		}
		close(done)
	}()
	return done
}

// joined waits for a join.
func (r *rig) joined(done <-chan string) {
	r.t.Helper()
	if why := <-done; why != "" {
		r.t.Fatal(why)
	}
}

// untilSaid waits until the job says so, or is over.
func (r *rig) untilSaid(done <-chan string, words string) {
	r.t.Helper()
	eventually(r.t, patience, func() string {
		select {
		case <-done:
			return ""
		default:
		}
		if said := r.said(); !strings.Contains(said, words) {
			return "the job says " + said
		}
		return ""
	})
}

// mayRefuse fails the test where something that came late was refused otherwise than it should be.
func (r *rig) mayRefuse(what string, heard error) {
	r.t.Helper()
	if state := stateOf(heard); heard != nil && state != "40001" && state != "57P03" && state != "08006" { // the last where the proxy could not believe what it was told when it asked
		r.t.Errorf("%s heard %v", what, heard)
	}
}

// TestWritesOfReferenceTablesThatComeLateAreOnEveryShard has the network stand still in the middle of writes of a reference table while shards join: whatever their
// home server begins only then is on the new shard too.
func TestWritesOfReferenceTablesThatComeLateAreOnEveryShard(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	far := r.distant()
	client := r.connect(far.url("app"))
	_, err := client.Exec(r.ctx(), "INSERT INTO countries VALUES ('soon', '')") // by the extended protocol, prepared
	r.try(err)

	// copies fails the test unless a row is on all of these shards where its client has heard no error, and on none where it has heard one that says so.
	copies := func(code string, heard error, shards ...int) {
		t.Helper()
		want := "late"
		if heard != nil {
			want = ""
		}
		r.mayRefuse("the write of row "+code, heard)
		for _, i := range shards {
			if got := r.value(i, "SELECT name FROM countries WHERE code = '"+code+"'"); got != want {
				t.Errorf("shard s%d has %q of the row %s that came late, want %q", i, got, code, want)
			}
		}
	}
	next := func(name string) {
		t.Helper()
		r.reshard("cutover")
		r.reshard("finish")
	}

	// The write itself is on its way, and the job begins behind it.
	caught := far.home.hold("'on its way'")
	heard := far.late(client, "INSERT INTO countries VALUES ('on its way', 'late')")
	<-caught
	done := r.join("s1")
	r.untilSaid(done, "waits until all proxies have the answers")
	far.home.open()
	err = <-heard
	r.try(err)
	r.joined(done)
	copies("on its way", err, 0, 1)
	next("s1")

	// The proxy is cut off when it has just asked to write, and the others go on without it when its lease is over.
	caught = far.home.hold("current_setting('transaction_isolation'), pg_catalog.pg_advisory_xact_lock")
	heard = far.late(client, "INSERT INTO countries VALUES ('cut off', 'late')")
	<-caught
	far.control.close()
	r.joined(r.join("s2"))
	far.home.open()
	eventually(t, patience, func() string { // the proxy has not heard of the new shard yet
		if r.value(0, "SELECT count(*) FROM countries WHERE code = 'cut off'") != "0" || far.waiting() > 0 || len(heard) > 0 {
			return ""
		}
		return "the write is not through, nor waits, nor is refused"
	})
	far.control.open()
	copies("cut off", <-heard, 0, 1, 2) // the proxy may hear of the new shard before it has its lease again
	next("s2")
	r.leftovers()
	r.sane()
}

// TestChangesOfTheSchemaThatComeLateAreOnEveryShard has the network stand still in the middle of changes of the schema while shards join: what their server begins only
// then is on the new shard too, or refused.
func TestChangesOfTheSchemaThatComeLateAreOnEveryShard(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	far := r.distant()

	// The change itself is on its way. It has asked, and the move begins behind it.
	caught := far.home.hold("CREATE TABLE asked")
	heard := far.late(r.connect(far.url("app")), "CREATE TABLE asked (id int)")
	<-caught
	done := r.join("s1")
	r.untilSaid(done, "begins behind changes of the schema of shard s0, and waits for process")
	far.home.open()
	r.try(<-heard)
	r.joined(done)
	if r.value(1, "SELECT to_regclass('asked') IS NULL") == "t" {
		t.Error("the new shard lacks a table whose maker has heard no error")
	}
	r.reshard("cutover")
	r.reshard("finish")

	// The proxy is cut off when it has planned them, and the others move buckets without it when its lease is over, to the end.
	changes := []struct {
		sql, done string
		hinted    bool // to home, and then as without a transaction
	}{
		{sql: "CREATE TABLE late (id int)", done: "to_regclass('late') IS NOT NULL"},
		{sql: "ALTER TABLE accounts ADD COLUMN late int", done: "EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'accounts'::regclass AND attname = 'late')"},
		{sql: "CREATE INDEX CONCURRENTLY late_index ON regs (v)", done: "to_regclass('late_index') IS NOT NULL"},
		{sql: "TRUNCATE purses", done: "NOT EXISTS (SELECT FROM purses)"},
		{sql: "/* pgtier: shard=s0 */ CREATE TABLE hinted (id int)", done: "to_regclass('hinted') IS NOT NULL", hinted: true},
	}
	answers := make([]<-chan error, len(changes))
	clients := make([]*pgx.Conn, len(changes))
	for i := range changes {
		clients[i] = r.connect(far.url("app"))
	}
	for i, c := range changes {
		first := "BEGIN"
		if c.hinted || strings.Contains(c.sql, "CONCURRENTLY") {
			first = "pgtier.schema_planned("
		}
		caught = far.home.hold(first)
		answers[i] = far.late(clients[i], c.sql)
		<-caught
	}
	far.control.close()
	r.joined(r.join("s2"))
	r.reshard("cutover")
	r.reshard("finish")
	far.home.open()
	eventually(t, patience, func() string { // the proxy has not heard of the new shard yet
		answered := 0
		for _, a := range answers {
			answered += len(a)
		}
		if answered+far.waiting() == len(changes) {
			return ""
		}
		return "the changes neither are through nor wait"
	})
	far.control.open()
	for i, c := range changes {
		heard := <-answers[i]
		r.mayRefuse(c.sql, heard)
		want := "t"
		if heard != nil {
			want = "f"
		}
		for shard := range 3 {
			if got := r.value(shard, "SELECT "+c.done); got != want && (!c.hinted || shard == 0) {
				t.Errorf("%s, which heard %v: %s on shard s%d", c.sql, heard, got, shard)
			}
		}
	}
	eventually(t, patience, func() string {
		_, err := clients[0].Exec(r.ctx(), "/* pgtier: shard=s0 */ DROP TABLE IF EXISTS hinted", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err.Error()
		}
		return ""
	})
	r.leftovers()
	r.sane()
}

// sent is a statement for one account that the network has held back.
type sent struct {
	account int
	what    string
	heard   <-chan answer
}

// holdBack has a write and a read of each account set out for home, and held back.
func (d *distant) holdBack(accounts ...int) (all []sent) {
	for _, id := range accounts {
		caught := d.home.hold("came late")
		all = append(all, sent{id, "the write", d.find(fmt.Sprintf("UPDATE accounts SET note = 'came late' WHERE id = %d", id), pgx.QueryExecModeSimpleProtocol)})
		<-caught
		caught = d.home.hold("is late")
		all = append(all, sent{id, "the read", d.find(fmt.Sprintf("SELECT note FROM accounts WHERE id = %d AND note <> 'is late'", id), pgx.QueryExecModeExec)})
		<-caught
	}
	return all
}

// moved fails the test unless one of the accounts is on the shard now.
func (r *rig) moved(i int, accounts ...int) {
	r.t.Helper()
	ids := strings.Trim(strings.ReplaceAll(fmt.Sprint(accounts), " ", ","), "[]")
	if r.value(i, "SELECT count(*) FROM accounts WHERE id IN ("+ids+")") == "0" {
		r.t.Fatalf("no account of %s is on shard s%d: nothing is tried", ids, i)
	}
}

// TestStatementsThatComeLateFindTheirRows has the network stand still in front of statements whose rows move meanwhile: the move waits for them before it deletes
// rows, or lets any stand on two shards.
func TestStatementsThatComeLateFindTheirRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	far := r.distant()
	r.joined(r.join("s1"))
	late := far.holdBack(1, 2, 3, 4)
	r.reshard("cutover")
	r.moved(1, 1, 2, 3, 4)
	done := make(chan string, 1)
	go func() { // ends with the command
		defer close(done)
		if status, out := r.command(r.ctx(), "reshard", "finish"); status != 0 {
			done <- out
		}
	}()
	r.untilSaid(done, "waits until all proxies have the answers")
	far.home.open()
	for _, s := range late {
		if a := <-s.heard; a.err != nil || a.rows != 1 {
			t.Errorf("%s of account %d has found %d rows and heard %v", s.what, s.account, a.rows, a.err)
		}
	}
	r.joined(done)

	// A read of both shards, of which one does not hear yet, while rows of the other are to be copied there.
	caught := far.home.hold("read of all")
	heard := far.find("SELECT id FROM accounts WHERE note <> 'read of all'", pgx.QueryExecModeSimpleProtocol)
	<-caught
	r.untilPossible("--drain", "s1")
	done = make(chan string, 1)
	go func() { // ends with the command
		defer close(done)
		if status, out := r.command(r.ctx(), "reshard", "start", "--drain", "s1"); status != 0 {
			done <- out
		}
	}()
	r.untilSaid(done, "waits until all proxies have the answers")
	far.home.open()
	if a := <-heard; a.err != nil || a.rows != accounts {
		t.Errorf("the read of all %d accounts has found %d and heard %v", accounts, a.rows, a.err)
	}
	r.joined(done)
	r.reshard("cutover")
	r.reshard("finish")
	r.leftovers()
	r.sane()
}

// TestProxiesThatWereStoppedBelieveNoAnswersFromThen stops a proxy with statements of it on their way, moves their rows without it, and lets both go on.
func TestProxiesThatWereStoppedBelieveNoAnswersFromThen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	far := r.distant()
	r.joined(r.join("s1"))
	r.reshard("cutover")
	r.reshard("finish")
	var ids []int
	for _, id := range strings.Split(r.value(0, "SELECT string_agg(id::text, ',') FROM (SELECT id FROM accounts ORDER BY id LIMIT 8) a"), ",") {
		n, err := strconv.Atoi(id)
		r.try(err)
		ids = append(ids, n)
	}
	late := far.holdBack(ids...)
	caught := far.home.hold("all are late")
	late = append(late, sent{-1, "the read of all", far.find("SELECT id FROM accounts WHERE note <> 'all are late'", pgx.QueryExecModeSimpleProtocol)})
	<-caught
	r.try(far.cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = far.cmd.Process.Signal(syscall.SIGCONT) })
	r.joined(r.join("s2"))
	r.reshard("cutover")
	r.moved(2, ids...)
	r.reshard("finish")
	far.home.open()
	eventually(t, patience, func() string { // the server has answered
		if got := r.value(0, "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query ~ '(came|is|are) late'"); got != fmt.Sprint(len(late)) {
			return "the server has answered " + got
		}
		return ""
	})
	r.try(far.cmd.Process.Signal(syscall.SIGCONT))
	for _, s := range late {
		a, want := <-s.heard, int64(1)
		if s.account < 0 {
			want = accounts
		}
		if state := stateOf(a.err); a.err == nil && a.rows != want || a.err != nil && state != "08007" && state != "08006" && state != "57P03" {
			t.Errorf("%s of account %d has found %d rows and heard %v", s.what, s.account, a.rows, a.err)
		}
	}
	eventually(t, patience, func() string {
		if a := <-far.find("SELECT id FROM accounts", pgx.QueryExecModeSimpleProtocol); a.err != nil || a.rows != accounts {
			return fmt.Sprintf("%d accounts, %v", a.rows, a.err)
		}
		return ""
	})
	r.leftovers()
	r.sane()
}

// said is what the job says of itself.
func (r *rig) said() string {
	_, out := r.command(r.ctx(), "reshard", "status")
	return out
}
