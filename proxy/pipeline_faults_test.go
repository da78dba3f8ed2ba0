package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// direct is a connection to the server, past the proxy.
func (r *rig) direct(t testing.TB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(bounded(t), r.manager.URL(r.database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// locked makes the tables locked and free, and locks the former; the returned function lets go.
func (r *rig) locked(t testing.TB) (unlock func()) {
	t.Helper()
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE IF NOT EXISTS locked AS SELECT 'locked' AS n; CREATE TABLE IF NOT EXISTS free AS SELECT 7 AS n")
	c := r.direct(t)
	mustValue(t, c, "BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE; SELECT 1")
	var once sync.Once
	unlock = func() { once.Do(func() { mustValue(t, c, "ROLLBACK") }) }
	t.Cleanup(func() { once.Do(func() { _, _ = value(c, "ROLLBACK") }) })
	return unlock
}

func (p *running) piped() uint64 { return p.Pipelines(p.database).Requests }

// travels asks c's question until it has travelled in a pipeline.
func (c *rawClient) travels(t testing.TB, p *running) {
	t.Helper()
	before := p.piped()
	for deadline := time.Now().Add(limit); p.piped() == before; {
		if err := c.round(wire.AppendQuery(nil, "SELECT 1")); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing travels in a pipeline")
		}
	}
}

// losesLocked ends the server connection on which a read in a pipeline waits for a lock, and returns when the read, sent
// again, waits for it on another.
func (r *rig) losesLocked(t testing.TB, p *running) {
	t.Helper()
	const waiting = "wait_event_type = 'Lock'"
	eventually(t, "the read waits for a lock", func() bool { return r.connections(t, waiting) == "1" })
	again := p.Pipelines(p.database).SentAgain
	pgtest.Exec(t, r.manager, r.database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND "+waiting)
	eventually(t, "the read waits again", func() bool {
		return p.Pipelines(p.database).SentAgain > again && r.connections(t, waiting) == "1"
	})
}

// untilTravels asks msgs until they have travelled in a pipeline; each answer must be want.
func (c *rawClient) untilTravels(t testing.TB, p *running, msgs []byte, want string) {
	t.Helper()
	before := p.piped()
	eventually(t, "the request travels", func() bool {
		c.write(t, msgs)
		c.wantTold(t, want)
		return t.Failed() || p.piped() > before
	})
}

// pipes sends msgs, whose first request shall travel in a pipeline, and returns when it does.
func (c *rawClient) pipes(t testing.TB, p *running, msgs []byte) {
	t.Helper()
	before := p.piped()
	c.write(t, msgs)
	for deadline := time.Now().Add(limit); p.piped() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request does not travel in a pipeline")
		}
	}
}

// requestOf is a whole request of the extended protocol; a statement of "" is parsed first, from sql.
func requestOf(statement, sql string) []byte {
	var b []byte
	if statement == "" {
		b = wire.AppendParse(b, "", []byte(sql), nil)
	}
	return wire.AppendSync(wire.AppendExecute(wire.AppendBindText(b, statement, nil)))
}

// oneLane lets one pipeline of any depth wait for anything.
func oneLane(c *pool.Config) { c.Size, c.Pipeline.Lanes, c.Pipeline.Slow = 4, 1, time.Hour }

// A request of which a part has come behind one that travels in a pipeline must not be taken for that one when it is sent
// again.
func TestARepeatBesideThePartOfAnotherRequest(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE zero AS SELECT 0 AS n")
	p := r.eager(t, oneLane)
	failing := requestOf("", "SELECT 1/n FROM zero")
	for name, next := range map[string][]byte{
		"simple":   wire.AppendQuery(nil, "SELECT 'next'"),
		"extended": requestOf("", "SELECT 'next'"),
		"longer":   requestOf("", "SELECT 'next' /*"+strings.Repeat("x", 1000)+"*/"),
	} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, wire.Protocol30)
			c.travels(t, p)
			cut := len(next) - 3 // within the last message
			if name == "longer" {
				c.write(t, append(append([]byte(nil), failing...), next[:cut]...))
			} else {
				c.pipes(t, p, failing)
				c.write(t, next[:cut])
			}
			c.wantTold(t, "1 2 E:22012:division by zero Z")
			c.write(t, next[cut:])
			if got, err := c.told(limit); !strings.Contains(got, "D:next") || strings.Contains(got, "E:") {
				t.Errorf("the next request: heard %q, %v", got, err)
			}
		})
	}
}

// A request that cannot travel behind one in a pipeline that fails: both have their own answers.
func TestARepeatBesideAnotherWholeRequest(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE zero AS SELECT 0 AS n")
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT 1/n FROM zero"))
	c.write(t, wire.AppendQuery(nil, "PREPARE mine AS SELECT 'a statement that is longer than the first'"))
	c.wantTold(t, "T E:22012:division by zero Z")
	if got, err := c.told(limit); got != "C Z" {
		t.Errorf("the PREPARE: heard %q, %v", got, err)
	}
	if err := c.round(wire.AppendQuery(nil, "EXECUTE mine")); err != nil {
		t.Error(err)
	}
}

// Answers come in the order of the requests, though the second asks for its own before its Sync.
func TestAFlushBehindAReadInAPipeline(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	c.write(t, append(wire.AppendParse(nil, "", []byte("SELECT 2"), nil), wire.MsgFlush, 0, 0, 0, 4))
	if got, err := c.told(500 * time.Millisecond); got != "" {
		t.Errorf("before the first request is answered, the client hears %q, %v", got, err)
	}
	unlock()
	c.wantTold(t, "T D:locked C Z")
	c.write(t, wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "", nil))))
	c.wantTold(t, "1 2 D:2 C Z")
}

// The same where the second request's Sync is late, so that its messages are sent on without it.
func TestALateSyncBehindAReadInAPipeline(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	second := requestOf("", "SELECT 2")
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	c.write(t, second[:len(second)-5])
	if got, err := c.told(time.Second); got != "" {
		t.Errorf("before the first request is answered, the client hears %q, %v", got, err)
	}
	unlock()
	c.wantTold(t, "T D:locked C Z")
	c.write(t, second[len(second)-5:])
	c.wantTold(t, "1 2 D:2 C Z")
}

// And where the first is sent again because its server was lost.
func TestALateSyncBehindAReadThatIsSentAgain(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	second := requestOf("", "SELECT 2")
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	c.write(t, second[:len(second)-5])
	if got, err := c.told(500 * time.Millisecond); got != "" { // long enough for the second to be sent on without its Sync
		t.Errorf("before the first request is answered, the client hears %q, %v", got, err)
	}
	r.losesLocked(t, p)
	unlock()
	c.wantTold(t, "T D:locked C Z")
	c.write(t, second[len(second)-5:])
	c.wantTold(t, "1 2 D:2 C Z")
}

// PostgreSQL answers what came in front of a Terminate.
func TestATerminateBehindAReadInAPipeline(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE free AS SELECT 7 AS n")
	p := r.eager(t, oneLane)
	lost := 0
	for i := range 6 {
		c := p.rawDial(t, wire.Protocol30)
		c.travels(t, p)
		if i%2 == 0 {
			c.pipes(t, p, wire.AppendQuery(nil, "SELECT n, pg_sleep(0.02) FROM free"))
			c.write(t, wire.AppendTerminate(nil))
		} else {
			c.write(t, wire.AppendTerminate(wire.AppendQuery(nil, "SELECT n, pg_sleep(0.02) FROM free")))
		}
		if got, err := c.told(limit); !strings.HasPrefix(got, "T D:7") {
			lost++
			t.Logf("heard %q, %v", got, err)
		}
	}
	if lost > 0 {
		t.Errorf("%d of 6 answers in front of a Terminate were lost", lost)
	}
}

// evictable lets a head hold up those behind it for 400 ms, and has them evicted after 1.6 s.
func evictable(c *pool.Config) {
	c.Size, c.Pipeline.Lanes, c.Pipeline.Slow = 4, 1, 400*time.Millisecond
}

// A request that was sent elsewhere before it was sent at all has prepared nothing.
func TestAnEvictedRequestHasPreparedNothing(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, evictable)
	head, c := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	head.travels(t, p)
	if err := c.round(wire.AppendSync(wire.AppendParse(nil, "mine", []byte("SELECT n FROM free"), nil))); err != nil { // over another connection
		t.Fatal(err)
	}
	head.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	evicted := p.Pipelines(p.database).Evicted
	c.pipes(t, p, requestOf("mine", ""))
	c.wantTold(t, "2 D:7 C Z") // over a connection of its own
	if p.Pipelines(p.database).Evicted == evicted {
		t.Fatal("nothing was evicted, and the test proves nothing")
	}
	unlock()
	head.wantTold(t, "T D:locked C Z")
	again := p.Pipelines(p.database).SentAgain
	head.travels(t, p)
	c.pipes(t, p, requestOf("mine", ""))
	c.wantTold(t, "2 D:7 C Z")
	if got := p.Pipelines(p.database).SentAgain; got != again {
		t.Errorf("the statement failed in the pipeline: it is taken for prepared there")
	}
	eventually(t, "the pipeline has given its connection back", func() bool { return p.Pipelines(p.database).Open == 0 })
	for _, sql := range []string{"BEGIN", "SELECT 1"} { // takes that connection
		if err := c.round(wire.AppendQuery(nil, sql)); err != nil {
			t.Fatal(err)
		}
	}
	c.write(t, requestOf("mine", ""))
	c.wantTold(t, "2 D:7 C Z")
}

// The unnamed statement is that of the client, and nobody else's answer.
func TestAnEvictedRequestLeavesNoUnnamedStatement(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, evictable)
	head, c, other := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	// As drivers do that describe first and bind later.
	msgs := wire.AppendParse(nil, "", []byte("SELECT 'mine'"), nil)
	msgs = wire.AppendSync(append(msgs, wire.MsgDescribe, 0, 0, 0, 6, 'S', 0))
	if err := c.round(msgs); err != nil {
		t.Fatal(err)
	}
	head.travels(t, p)
	head.pipes(t, p, requestOf("", "SELECT n FROM locked"))
	other.pipes(t, p, requestOf("", "SELECT 'mine'")) // evicted before it is sent
	other.wantTold(t, "1 2 D:mine C Z")
	unlock()
	head.wantTold(t, "1 2 D:locked C Z")
	eventually(t, "the pipeline has given its connection back", func() bool { return p.Pipelines(p.database).Open == 0 })
	if _, err := c.nc.Write(requestOf("", "")[len(wire.AppendParse(nil, "", nil, nil)):]); err != nil { // Bind, Execute, Sync
		t.Fatal(err)
	}
	c.wantTold(t, "2 D:mine C Z")
}

// Only what is proved to read may travel: a second Bind must not carry another statement along.
func TestASecondBindSmugglesNothing(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t AS SELECT 'right' AS n; CREATE SCHEMA other; CREATE TABLE other.t AS SELECT 'wrong' AS n; CREATE TABLE written (n int); CREATE FUNCTION w() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO written VALUES (1); RETURN 1; END $$")
	p := r.eager(t, oneLane)
	for _, sql := range []string{"DELETE FROM t WHERE n = 'x'", "SET search_path = other", "SELECT w()", "SELECT n FROM t FOR UPDATE", "BEGIN"} {
		t.Run(sql, func(t *testing.T) {
			c, neighbour := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
			if err := c.round(wire.AppendSync(wire.AppendParse(nil, "harmless", []byte("SELECT 1"), nil))); err != nil {
				t.Fatal(err)
			}
			if err := c.round(wire.AppendSync(wire.AppendParse(nil, "", []byte(sql), nil))); err != nil {
				t.Fatal(err)
			}
			neighbour.travels(t, p)
			before := p.piped()
			msgs := wire.AppendBindText(wire.AppendBindText(nil, "harmless", nil), "", nil)
			if err := c.round(wire.AppendSync(wire.AppendExecute(msgs))); err != nil {
				t.Logf("%s: %v", sql, err)
			}
			if p.piped() != before {
				t.Errorf("%s travelled in a pipeline", sql)
			}
			neighbour.untilTravels(t, p, wire.AppendQuery(nil, "SELECT n FROM t"), "T D:right C Z")
		})
	}
}

// A session is ended at once, though its request waits in a pipeline and its client has asked ahead.
func TestAKillOfAClientThatAskedAhead(t *testing.T) {
	r := newRig(t)
	defer r.locked(t)() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	c.write(t, wire.AppendQuery(nil, "SELECT 2"))
	if got, err := c.told(200 * time.Millisecond); got != "" { // long enough for the session to wait for the first answer
		t.Errorf("before the first request is answered, the client hears %q, %v", got, err)
	}
	for _, s := range p.Sessions() {
		if s.Key().PID == c.pid {
			if err := p.KillClient(s.ID()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := c.told(limit); !strings.HasPrefix(got, "E:57P01") && !strings.HasPrefix(got, "E:08") {
		t.Errorf("a killed client hears %q, %v", got, err)
	}
}

func TestAKillOfAClientInAPipeline(t *testing.T) {
	r := newRig(t)
	defer r.locked(t)() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	for _, s := range p.Sessions() {
		if s.Key().PID == c.pid {
			if err := p.KillClient(s.ID()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := c.told(limit); !strings.HasPrefix(got, "E:") {
		t.Errorf("a killed client hears %q, %v", got, err)
	}
}

// What nobody waits for any more is ended at the server, as it is without pipelines.
func TestAStatementThatNobodyWaitsForEnds(t *testing.T) {
	for name, leave := range map[string]func(*testing.T, *running, *rawClient){
		"cancelled": func(t *testing.T, p *running, c *rawClient) {
			if err := p.cancelWith(c.pid, c.key); err != nil {
				t.Fatal(err)
			}
		},
		"hung up": func(_ *testing.T, _ *running, c *rawClient) { _ = c.nc.Close() },
		"killed": func(t *testing.T, p *running, c *rawClient) {
			for _, s := range p.Sessions() {
				if s.Key().PID == c.pid {
					if err := p.KillClient(s.ID()); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			unlock := r.locked(t)
			defer unlock() // before the proxy is closed
			p := r.eager(t, oneLane)
			c := p.rawDial(t, wire.Protocol30)
			c.travels(t, p)
			c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
			leave(t, p, c)
			eventually(t, "the statement does not run on, and keep its lane", func() bool { return r.connections(t, "wait_event_type = 'Lock'") == "0" })
			unlock()
		})
	}
}

// Close does not wait for what runs in pipelines.
func TestCloseDoesNotWaitForAPipeline(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	closed := make(chan struct{})
	go func() { // ends with the lock
		p.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(8 * time.Second):
		t.Error("Close waits for a statement in a pipeline")
		buf := make([]byte, 1<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "Pipelines).Close") || strings.Contains(g, "pipeline).run") {
				t.Log(g)
			}
		}
	}
	unlock()
	<-closed
}

// A notification that came while a read travelled comes with its answer.
func TestANotificationWhileAReadTravels(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	if err := c.round(wire.AppendQuery(nil, "LISTEN news")); err != nil {
		t.Fatal(err)
	}
	c.travels(t, p)
	beside := p.client(t)
	mustValue(t, beside, "LISTEN news")
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	mustValue(t, r.direct(t), "NOTIFY news, 'hello'")
	if _, err := beside.WaitForNotification(bounded(t)); err != nil { // all sessions get it at once
		t.Fatal(err)
	}
	unlock()
	got, err := c.told(limit)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got, "A") {
		return
	}
	began := time.Now()
	_ = c.nc.SetReadDeadline(began.Add(limit))
	kind, _, err := c.message()
	if err != nil || kind != wire.MsgNotification {
		t.Fatalf("got %q, %v", kind, err)
	}
	if took := time.Since(began); took > limit/4 {
		t.Errorf("the notification came %s after the answer", took)
	}
}

// What a connection reports is told to whoever reads over it.
func TestAPipelineTellsWhatItsServerReports(t *testing.T) {
	r := newRig(t)
	p := r.eager(t, oneLane)
	for name, sharing := range map[string]bool{"by itself": false, "in a pipeline": true} {
		t.Run(name, func(t *testing.T) {
			pgtest.Exec(t, r.manager, "postgres", "ALTER DATABASE "+r.database+" RESET datestyle")
			if err := p.Reconnect(r.database); err != nil {
				t.Fatal(err)
			}
			c := p.rawDial(t, wire.Protocol30)
			if err := c.round(wire.AppendQuery(nil, "SELECT 1")); err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, r.manager, "postgres", "ALTER DATABASE "+r.database+" SET datestyle = 'German, DMY'")
			if err := p.Reconnect(r.database); err != nil {
				t.Fatal(err)
			}
			eventually(t, "old pipelines are gone", func() bool { return p.Pipelines(r.database).Open == 0 })
			if sharing {
				other := p.rawDial(t, wire.Protocol30)
				other.travels(t, p) // over a connection that c has not been told of
			}
			c.write(t, wire.AppendQuery(nil, "SELECT date '2024-05-06'"))
			got, err := c.told(limit)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(got, "06.05.2024") && !strings.Contains(got, "S:DateStyle=German") {
				t.Errorf("the client was told that dates are %s, and hears %q", c.params["DateStyle"], got)
			}
		})
	}
}

// Pipelines leave connections to others, however many settings their clients have.
func TestPipelinesTakeAQuarterOfThePool(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t (n int)")
	p := r.eager(t, func(c *pool.Config) { c.Size = 4 })
	writer := p.client(t)
	ended := make(chan struct{})
	var readers sync.WaitGroup
	var most atomic.Int64
	for i := range 6 {
		c := p.client(t, fmt.Sprintf("application_name=app%d", i))
		readers.Go(func() { // ends with ended
			for {
				select {
				case <-ended:
					return
				default:
				}
				if _, err := value(c, "SELECT 1"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, "all readers are busy", func() bool { return p.piped() > 500 })
	var slowest time.Duration
	done := make(chan struct{})
	go func() { // ends with its writes
		defer close(done)
		for range 5 {
			began := time.Now()
			if _, err := value(writer, "INSERT INTO t VALUES (1)"); err != nil {
				t.Error(err)
				return
			}
			slowest = max(slowest, time.Since(began))
		}
	}()
	stuck := false
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		most.Store(max(most.Load(), int64(p.Pipelines(r.database).Open)))
		select {
		case <-done:
		default:
			if stuck = time.Now().After(deadline); !stuck {
				continue
			}
		}
		break
	}
	close(ended)
	readers.Wait()
	<-done
	if stuck || slowest > limit/4 {
		t.Errorf("a write waits %s beside reads in pipelines (not within %s: %v)", slowest, limit, stuck)
	}
	if most.Load() > 1 {
		t.Errorf("%d pipelines in a pool of 4", most.Load())
	}
}

// A read behind DDL is not taken for one that has run since the proxy started.
func TestAReadThatWaitedForTheCatalogIsNotLate(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t AS SELECT 7 AS n; CREATE FUNCTION f(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1'")
	const longest = 3 * time.Second
	p := r.eager(t, func(c *pool.Config) { oneLane(c); c.QueryTimeout = longest })
	started := time.Now()
	eventually(t, "the proxy is older than the limit", func() bool { return time.Since(started) > longest })
	ddl, c, other := p.client(t), p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	ended := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() { // keeps the pipeline open; ends with ended
		for {
			select {
			case <-ended:
				return
			default:
			}
			if err := other.round(wire.AppendQuery(nil, "SELECT 1")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer busy.Wait()
	defer close(ended)
	for i := range 6 {
		mustValue(t, ddl, fmt.Sprintf("CREATE TABLE made%d (n int)", i))
		began := time.Now()
		c.write(t, wire.AppendQuery(nil, "SELECT f(n), pg_sleep(0.4) FROM t"))
		got, err := c.told(limit)
		if strings.Contains(got, "E:") || err != nil {
			t.Errorf("after %s of %s: %q, %v", time.Since(began), longest, got, err)
			break
		}
	}
	if p.piped() == 0 {
		t.Error("nothing travelled in a pipeline")
	}
}

// What is under way goes back to nothing.
func TestNothingIsUnderWayAfterALostPipeline(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	r.losesLocked(t, p)
	unlock()
	c.wantTold(t, "T D:locked C Z")
	eventually(t, "no pipeline is open", func() bool { return p.Pipelines(r.database).Open == 0 })
	if got := p.Pipelines(r.database).UnderWay; got != 0 {
		t.Errorf("%d requests are under way in no pipeline", got)
	}
}

// What is remembered of statements is bounded in bytes, as the cache of statements is.
func TestRecordsOfStatementsAreBounded(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) { cfg.Limits.StatementCache = 1 << 20 })
	c := p.client(t)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	text := func(i int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "SELECT 1 AS a%d", i)
		for j := range 600 {
			fmt.Fprintf(&b, ", 1 AS a_column_with_a_long_name_of_its_own_%d_%d", i, j)
		}
		return b.String()
	}
	for i := range 50 {
		mustValue(t, c, text(i))
	}
	before := heap()
	const more = 150
	for i := range more {
		mustValue(t, c, text(50+i))
	}
	grown := int64(heap()) - int64(before)
	t.Logf("%d statements of %d KB: the heap grows by %d KB", more, len(text(0))>>10, grown>>10)
	if grown > 2<<20 {
		t.Errorf("%d KB are kept for statements that the cache of 1 MB has forgotten", grown>>10)
	}
}

// The limit of a statement's time holds in a pipeline.
func TestTheQueryTimeoutHoldsInAPipeline(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, func(c *pool.Config) { oneLane(c); c.QueryTimeout = time.Second })
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	c.wantTold(t, "E:57014:canceling statement due to user request Z")
	unlock() // with a slow of an hour the next would wait behind it
	if err := c.round(wire.AppendQuery(nil, "SELECT 1")); err != nil {
		t.Error(err)
	}
}

// The client's own statement_timeout holds in a pipeline, and for nobody else.
func TestAStatementTimeoutHoldsInAPipeline(t *testing.T) {
	r := newRig(t)
	unlock := r.locked(t)
	defer unlock() // before the proxy is closed
	p := r.eager(t, func(c *pool.Config) { oneLane(c); c.Size, c.Pipeline.Lanes = 8, 2 })
	c, patient := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	if err := c.round(wire.AppendQuery(nil, "SET statement_timeout = 1000")); err != nil {
		t.Fatal(err)
	}
	patient.travels(t, p)
	c.travels(t, p)
	patient.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	c.pipes(t, p, wire.AppendQuery(nil, "SELECT n FROM locked"))
	c.wantTold(t, "E:57014:canceling statement due to statement timeout Z")
	unlock()
	patient.wantTold(t, "T D:locked C Z")
}

// A statement whose result type has changed.
func TestAChangedResultTypeInAPipeline(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t AS SELECT 7 AS n")
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	if err := c.round(wire.AppendSync(wire.AppendParse(nil, "mine", []byte("SELECT * FROM t"), nil))); err != nil {
		t.Fatal(err)
	}
	c.travels(t, p)
	c.pipes(t, p, requestOf("mine", ""))
	c.wantTold(t, "2 D:7 C Z")
	pgtest.Exec(t, r.manager, r.database, "ALTER TABLE t ADD COLUMN m int DEFAULT 8")
	for range 3 {
		c.travels(t, p)
		c.write(t, requestOf("mine", ""))
		got, err := c.told(limit)
		if want := "2 D:7\x00\x00\x00\x018 C Z"; got != want { // both columns: it is prepared again
			t.Errorf("heard %q, %v; want %q", got, err, want)
		}
	}
}

// PAUSE, RECONNECT and RESUME with pipelines busy.
func TestPauseAndReconnectWithPipelines(t *testing.T) {
	r := newRig(t)
	p := r.eager(t, func(c *pool.Config) { c.Size = 8 })
	ended := make(chan struct{})
	var readers sync.WaitGroup
	var answers atomic.Int64
	progress := func() {
		t.Helper()
		until := answers.Load() + 80
		eventually(t, "clients are answered", func() bool { return answers.Load() >= until || t.Failed() })
	}
	for i := range 8 {
		c := p.client(t)
		readers.Go(func() { // ends with ended
			for n := i; ; n += 8 {
				select {
				case <-ended:
					return
				default:
				}
				if got, err := value(c, fmt.Sprintf("SELECT %d", n)); err != nil || got != fmt.Sprint(n) {
					t.Errorf("asked for %d, got %s, %v", n, got, err)
					return
				}
				answers.Add(1)
			}
		})
	}
	for range 4 {
		progress()
		if err := p.Pause(bounded(t), r.database); err != nil {
			t.Errorf("PAUSE: %v", err)
		}
		if err := p.Resume(r.database); err != nil {
			t.Errorf("RESUME: %v", err)
		}
		progress()
		if err := p.Reconnect(r.database); err != nil {
			t.Errorf("RECONNECT: %v", err)
		}
	}
	close(ended)
	readers.Wait()
	eventually(t, "pipelines end", func() bool { return p.Pipelines(r.database).Open == 0 })
	if got := p.Pipelines(r.database).UnderWay; got != 0 {
		t.Errorf("%d under way", got)
	}
}

// Notices travel with the answer that they belong to.
func TestNoticesInAPipeline(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, `CREATE FUNCTION says(int) RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'n %', $1; RETURN $1; END $$`)
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	for range 5 {
		c.untilTravels(t, p, wire.AppendQuery(nil, "SELECT says(5)"), "T N D:5 C Z")
	}
}

// Requests that differ in shape.
func TestShapesOfRequestsInAPipeline(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE free AS SELECT 7 AS n; CREATE TABLE none (n int)")
	p := r.eager(t, oneLane)
	c := p.rawDial(t, wire.Protocol30)
	c.travels(t, p)
	describe := append([]byte(nil), wire.MsgDescribe, 0, 0, 0, 6, 'P', 0)
	parse := wire.AppendParse(nil, "", []byte("SELECT n FROM free"), nil)
	bind := wire.AppendBindText(nil, "", nil)
	execute, sync := wire.AppendExecute(nil), wire.AppendSync(nil)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, x := range []struct {
		name  string
		msgs  []byte
		heard []string
	}{
		{"with Describe", join(parse, bind, describe, execute, sync), []string{"1 2 T D:7 C Z"}},
		{"without Describe", join(parse, bind, execute, sync), []string{"1 2 D:7 C Z"}},
		{"without Execute", join(parse, bind, sync), []string{"1 2 Z"}},
		{"Parse alone", join(parse, sync), []string{"1 Z"}},
		{"two Binds", join(parse, bind, bind, execute, sync), []string{"1 2 2 D:7 C Z"}},
		{"two Syncs", join(parse, bind, execute, sync, sync), []string{"1 2 D:7 C Z", "Z"}},
		{"two requests", join(parse, bind, execute, sync, parse, bind, execute, sync), []string{"1 2 D:7 C Z", "1 2 D:7 C Z"}},
		{"no rows", wire.AppendQuery(nil, "SELECT n FROM none"), []string{"T C Z"}},
		{"empty", wire.AppendQuery(nil, ""), []string{"I Z"}},
		{"syntax error", join(wire.AppendParse(nil, "", []byte("SELECT n FROM gone"), nil), bind, execute, sync), []string{"E:42P01:relation \"gone\" does not exist Z"}},
		{"two Executes", join(parse, bind, execute, execute, sync), []string{"1 2 D:7 C C Z"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c.travels(t, p)
			c.write(t, x.msgs)
			for _, want := range x.heard {
				c.wantTold(t, want)
			}
		})
	}
}

// An answer is dealt out though the one behind it takes long, and though nothing came within patience of the wake-up before.
func TestAnAnswerDoesNotWaitForTheOneBehindIt(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE locked0 AS SELECT 'locked' AS n; CREATE TABLE locked1 AS TABLE locked0; CREATE TABLE locked2 AS TABLE locked0")
	p := r.eager(t, oneLane)
	var unlock [3]func()
	for i := range unlock {
		table := fmt.Sprintf("locked%d", i)
		mustValue(t, p.client(t), "SELECT n FROM "+table) // its record knows how long the answer is
		c := r.direct(t)
		mustValue(t, c, "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE; SELECT 1")
		unlock[i] = sync.OnceFunc(func() { mustValue(t, c, "ROLLBACK") })
		defer unlock[i]() // before the proxy is closed
	}
	var c [5]*rawClient
	for i := range c {
		c[i] = p.rawDial(t, wire.Protocol30)
	}
	c[0].travels(t, p)
	for i := range c { // the last four are one batch behind the first
		c[i].pipes(t, p, wire.AppendQuery(nil, fmt.Sprintf("SELECT n FROM locked%d", min(i, 2))))
	}
	unlock[0]()
	c[0].wantTold(t, "T D:locked C Z")
	eventually(t, "the second waits for longer than patience", func() bool {
		return r.connections(t, "wait_event_type = 'Lock' AND state_change < clock_timestamp() - interval '100 ms'") == "1"
	})
	unlock[1]()
	if got, err := c[1].told(limit); got != "T D:locked C Z" {
		t.Errorf("while the third is locked, the second hears %q, %v", got, err)
	}
	unlock[2]()
	for i := 2; i < len(c); i++ {
		c[i].wantTold(t, "T D:locked C Z")
	}
}
