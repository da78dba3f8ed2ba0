// Package session is one client from hello to goodbye: it gathers complete
// requests, borrows a server connection for as long as PostgreSQL's semantics
// need it, relays the frames both ways and carries the client's session state
// from one server connection to the next.
package session

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
	"pgtier/router/plan"
	"pgtier/router/shard"
)

// Session is one logged-in client. Its fields belong to the goroutine in Serve
// unless their group says otherwise.
type Session struct {
	// Fixed after login.
	id       uint64
	env      *Env
	db       *Database
	role     string
	client   *wire.Conn
	startup  *backend.Settings // what the client asked for at login, as the server spelled it back
	key      Key
	began    time.Time
	protocol uint32
	tls      string // version and cipher, "" without TLS
	appName  string // application_name of the startup packet

	at    *Database // the shard of the turn under way; db where there are none
	spots []spot    // what is known of shards that were gone to before
	wide  *wide     // what is under way on several shards
	servers
	*work
	route           route
	tells           bool         // the turn under way shows the proxy's own settings
	ticket          fleet.Ticket // what the manager showed or took last
	seen            fleet.Ticket // what the replica seenOn showed last
	seenOn          string
	seenAt          time.Time   // it has not crashed from then until it did; zero: that is not known
	behind          int         // reads in a row for which every replica was behind
	floor           balance.LSN // what pgtier.lsn asked for
	floorDue        bool        // the manager is not known to show it
	floorUnknown    bool        // pgtier.lsn was given what is no position
	opening         []byte      // a BEGIN that no server has seen, a Query
	openingBuf      []byte      // its memory, for the next
	openingReadOnly bool
	begun           bool // the turn under way began with a held BEGIN
	unread          bool // the transaction on a replica has only begun; openingAs is what it says
	openingFailed   bool // a transaction whose BEGIN never came to a server

	keep   keeping
	in     wire.Input
	waiter *pool.Waiter[*backend.Conn]

	settings *backend.Settings // what the client's session has now, beyond server defaults
	params   *backend.Params   // what the client was told by ParameterStatus
	names    map[string]*backend.Statement
	rawNames rawNames // on the connection, since that became the session's own
	lift     *lift    // nil: the pin stays
	// rawChanges: a statement that was parsed since, or that the connection was given, changes the schema of a database with shards.
	rawChanges bool
	nameSize   int64              // bytes of the statements in names
	unnamed    *backend.Statement // what the client's unnamed statement holds
	recent     recent             // what it held before
	oldest     uint8              // the place in recent that was given up last
	tx         byte               // wire.TxIdle, TxActive, TxFailed
	raw        bool               // names and state pass untouched: session mode, or pinned
	reparsed   bool               // a message of this turn replaces the unnamed statement
	advances   bool               // a statement of this turn may advance a sequence
	seqOn      uint64             // server connection (ID) on which this session last may have advanced a sequence
	dx         *duplex
	skipLeft   int // bytes to come of a client message that is being streamed
	needIn     int // size of a client message that must be whole
	leaving    bool
	last       *backend.Conn     // leased last; a wish for the next lease
	harmless   *parser.Statement // noted in this turn, and nothing was to be noted
	effects    parser.Effects    // of all statements noted in this turn
	plain      bool              // the turn is nothing but plain statements, see inspect
	restores   bool              // one of them brings settings back
	changing   bool              // one of them changes the schema of a database with shards, see asksFirst
	rowless    bool              // nothing of what they run touches rows: any server's answer holds
	staying    []int             // groups of buckets whose rows they may lock, see stays
	turnTime   int64             // env clock during a turn; 0: something was waited for, read it again
	listens    map[string]bool

	notifies   bool // a statement of this turn may NOTIFY
	outlives   bool // the connection's state may outlive DISCARD ALL
	rawListens bool // in raw mode, a prepared statement may LISTEN

	// Shared: guarded by mu.
	mu       sync.Mutex
	server   *backend.Conn             // leased now
	lentBy   *pool.Pool[*backend.Conn] // the pool of server
	branches []*branch                 // with those leased on several shards
	pin      string
	pinTime  time.Time   // when pin was set
	canceled bool        // a cancel came between the queue and the lease
	killed   *wire.Error // tell the client and end
	left     bool        // server is to be given up as if it were lost
	stopWait func(error) // ends a wait, see stoppable
	mailbox  []byte      // notifications to deliver between requests

	// Shared: atomic.
	messages atomic.Bool           // killed or mailbox were set since the session last looked
	pipedNow atomic.Pointer[entry] // under way in a pipeline
	probed   atomic.Int64          // the rest (since) in which the sweeper has looked after it
	held     atomic.Int32          // prepared statements in names
	overdue  atomic.Bool           // a query timeout is being carried out
	unended  atomic.Int64          // since when messages wait for their Sync, nanoseconds of env clock; 0: none do
	hasty    atomic.Bool           // they have waited long enough: send them on
	state    atomic.Int32          // State
	underway underway              // what servers owe answers to
	since    atomic.Int64          // when state began, nanoseconds of env clock
	txSince  atomic.Int64          // when the transaction began, 0 outside
	queries  atomic.Uint64         // answered so far
}

// work is what a session needs only while it has something to do. One that dozes has none.
type work struct {
	relay          relay
	piped          piped
	aim            aim
	kept           kept
	txn            transaction
	story          story              // of the transaction under way, for shards that join it later
	openingAs      parser.Transaction // what the held BEGIN says, and SET TRANSACTION since
	opened         []byte             // the BEGIN that the turn under way began with
	items          []item             // the requests under way; reused
	ranBuffer      []ran              // reused
	boundBuffer    []plan.Param       // reused
	circumstance   plan.Circumstances // reused
	circumstanceOf *backend.Params    // that it was made of
	trail          trail              // what the transaction under way may have written
	trailBuffer    []shard.Bucket     // reused
	sinceLayout    *Layout            // in force before the transaction under way can have taken a snapshot
	fencing        holding            // a wait because the servers' fence has refused the turn
	planned        *Layout            // by which the turn under way goes to one shard; nil where there are none
}

// logger tells of the session what a log needs. It is made when it is needed: few sessions have anything to say.
func (s *Session) logger() *zap.Logger {
	return s.env.Log.With(zap.Uint64("session", s.id), zap.String("database", s.db.Name), zap.String("role", s.role))
}

func newWork(s *Session) *work {
	w := &work{}
	w.relay.s = s
	return w
}

// State is what a session is doing.
type State int32

// The states of a session.
const (
	StateIdle    State = iota // between requests, outside a transaction
	StateIdleTx               // between requests, inside a transaction
	StateWaiting              // for a server connection
	StateActive               // a server works for it
)

// String names the state as SHOW CLIENTS does.
func (s State) String() string {
	switch s {
	case StateIdle:
		return "idle"
	case StateIdleTx:
		return "idle in transaction"
	case StateWaiting:
		return "waiting"
	}
	return "active"
}

// transaction is what the statements since the last idle point may have done to
// the session.
type transaction struct {
	capture    []string // settings to read back
	captureAll bool     // RESET ALL inside a transaction: read back everything we know
	ddl        bool
	code       bool // functions, triggers, views or rules were made
	listening  bool // a LISTEN ran on the leased connection
	notified   bool // a NOTIFY ran
	unlisten   []string
	unlistened bool // UNLISTEN was executed in the transaction under way
	silenced   bool // one was executed and committed
	wrote      written
	reads      reading
}

func (t *transaction) empty() bool {
	return len(t.capture) == 0 && !t.captureAll && !t.ddl && !t.listening && !t.notified && len(t.unlisten) == 0
}

// ofSession reports whether something may have been changed that stays with the session.
func (t *transaction) ofSession() bool {
	return len(t.capture) > 0 || t.captureAll || t.listening || len(t.unlisten) > 0
}

func (t *transaction) clear() {
	*t = transaction{capture: t.capture[:0]}
}

// ID identifies the session within the process.
func (s *Session) ID() uint64 { return s.id }

// Key is what a CancelRequest must show.
func (s *Session) Key() Key { return s.key }

// Serve relays until the client leaves, is told to, or fails, and returns the
// reason for the log; nil is a plain goodbye. If dozes is true the session goes on without a goroutine: wake runs in one when
// there is something to do, which may be before Serve has returned, and has to call Serve again.
func (s *Session) Serve(wake func()) (dozes bool, err error) {
	defer func() {
		if !dozes { // also after a panic
			s.close()
		}
	}()
	if s.work == nil {
		s.work = newWork(s)
	}
	s.probed.Store(0) // a kick may have woken it up behind the doze that it had asked for: the sweeper shall come again
	for kicked := false; ; {
		if err := s.checkKilled(); err != nil {
			return false, err
		}
		if err := s.joinDuplex(); err != nil {
			return false, err
		}
		if e := s.piped.entry; e != nil && e.settled() && !s.collect() {
			return false, s.reason()
		}
		s.deliver()
		if s.in.Len() > 0 && s.dx == nil {
			s.busy()
			if !s.pending() {
				return false, s.reason()
			}
		}
		s.quiet()
		if s.dx == nil {
			s.in.Release()
		}
		if kicked && s.rests() && s.doze(wake) {
			return true, nil
		}
		if kicked && s.piped.entry != nil { // the answer has come, and is about to be handed over: the sweeper shall come again
			s.probed.Store(0)
		}
		err := s.client.Loop(nil, s)
		switch {
		case err == nil && s.leaving:
			return false, s.reason()
		case err == nil:
			kicked = false
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.client.Unkick()
			kicked = true
		default:
			return false, err
		}
	}
}

// rests reports whether the session has rested so long that the sweeper has looked after it, and owes nobody anything.
func (s *Session) rests() bool {
	return State(s.state.Load()) == StateIdle && s.probed.Load() == s.since.Load() && s.tx == wire.TxIdle && s.server == nil && !s.raw && s.dx == nil && s.wide == nil &&
		s.opening == nil && !s.openingFailed && s.piped.entry == nil && s.in.Len() == 0 && !s.messages.Load()
}

// doze leaves the client to the dozer, and returns whether it did: then the session is that of whoever wakes it up, and the
// caller must not touch it any more.
func (s *Session) doze(wake func()) bool {
	s.relay.in.Drop()
	s.hosts = nil
	client, messages, idle := s.client, &s.messages, s.work
	s.work = nil
	if !s.env.Dozer.Doze(client, wake) {
		s.work = idle
		return false
	}
	if messages.Load() { // it may have come, with its kick, before anybody dozed
		client.Kick()
	}
	return true
}

func (s *Session) reason() error {
	if s.relay.err != nil && !errors.Is(s.relay.err, io.EOF) {
		return s.relay.err
	}
	return nil
}

// Readable takes what the client sent and serves the complete requests in it.
// false ends the loop.
func (s *Session) Readable() bool {
	s.busy()
	ok := s.readable()
	s.quiet()
	return ok
}

// readable is Readable but for that.
func (s *Session) readable() bool {
	if s.dx != nil {
		return s.duplexReadable()
	}
	if s.piped.entry != nil && !s.collect() {
		s.leaving = true
		return false
	}
	want := s.client.IdleRead()
	if size, ok := wire.FrameSize(s.in.Bytes()); ok && size <= s.env.limit().MaxQuery {
		want = max(want, size)
	}
	if s.in.Len() >= want {
		want = s.in.Len() * 2
	}
	n, err := s.client.Take(s.in.Space(s.env.Bufs, want))
	s.in.Added(n)
	if n == 0 {
		if err != nil {
			s.leaving = true
			return false
		}
		s.in.Release()
		return true
	}
	s.db.Stats.Received.Add(uint64(n))
	if !s.requests() {
		s.leaving = true
		return false
	}
	if s.tx == wire.TxIdle || s.server == nil {
		s.in.Release()
	} else {
		s.in.Keep() // transactions are short, and no more of them than server connections
	}
	s.noteUnended()
	return s.dx == nil && !s.interrupted()
}

// interrupted reports whether somebody left a message for this session while it worked.
func (s *Session) interrupted() bool { return s.messages.Load() }

// send writes to the client; an error means that it is gone.
func (s *Session) send(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	s.db.Stats.Sent.Add(uint64(len(b)))
	if err := s.client.Send(b); err != nil {
		s.leaving = true
		return false
	}
	return true
}

// fatal tells the client why its session ends.
func (s *Session) fatal(e *wire.Error) bool {
	fe := *e
	fe.Severity = "FATAL"
	_ = s.client.NetConn().SetWriteDeadline(time.Now().Add(time.Second))
	s.send(fe.Append(nil))
	s.leaving = true
	s.relay.err = &fe
	return false
}

// Kill ends the session: the client is told e as soon as it can be.
// Safe for concurrent use.
func (s *Session) Kill(e *wire.Error) {
	s.mu.Lock()
	if s.killed == nil {
		s.killed = e
		s.messages.Store(true)
	}
	for _, c := range s.leased() {
		// Under mu: the connection is still this session's, and unlease lifts the deadline.
		_ = c.SetDeadline(time.Unix(1, 0))
	}
	s.endWait(e)
	s.mu.Unlock()
	s.killPiped()
	s.waiter.Close(e)
	s.client.Kick()
	_ = s.client.NetConn().SetWriteDeadline(time.Now().Add(killWriteTimeout))
}

// killWriteTimeout is how long a killed session may try to tell its client why.
const killWriteTimeout = 2 * time.Second

func (s *Session) checkKilled() error {
	s.mu.Lock()
	e := s.killed
	s.mu.Unlock()
	if e == nil {
		return nil
	}
	s.dropPiped()
	s.fatal(e)
	return e
}

// Notify queues a message (a NotificationResponse) for delivery between
// requests. false: the client does not read and its mailbox is full; the
// session is being ended. Safe for concurrent use.
func (s *Session) Notify(msg []byte) bool {
	s.mu.Lock()
	full := len(s.mailbox)+len(msg) > maxMailbox
	if !full {
		s.mailbox = append(s.mailbox, msg...)
		s.messages.Store(true)
	}
	s.mu.Unlock()
	if full {
		s.Kill(&wire.Error{Severity: "FATAL", Code: wire.CodeOutOfMemory, Message: "too many undelivered notifications",
			Hint: "Read from the connection, or LISTEN to fewer channels."})
		return false
	}
	s.client.Kick()
	return true
}

// maxMailbox bounds the notifications that wait for one client, in bytes.
const maxMailbox = 1 << 20

// deliver writes waiting notifications where PostgreSQL does: outside transactions.
func (s *Session) deliver() {
	if s.tx != wire.TxIdle || s.dx != nil || s.opening != nil || s.piped.entry != nil {
		return
	}
	s.mu.Lock()
	msgs := s.mailbox
	s.mailbox = nil
	s.messages.Store(s.killed != nil)
	s.mu.Unlock()
	if len(msgs) > 0 {
		s.wasTold()
	}
	s.send(msgs)
}

// wasTold has the session find from now on what it is told of, whichever shard has it.
func (s *Session) wasTold() {
	if f := s.at.Fleet.Load(); f != nil {
		s.ticket = f.Now()
	}
	cluster := s.db.Cluster.Load()
	if cluster == nil {
		return
	}
	l, err := cluster.Layout()
	if err != nil {
		return // nobody is asked before there is one
	}
	for _, db := range l.Shards {
		f := db.Fleet.Load()
		if f == nil || db == s.at {
			continue
		}
		at := slices.IndexFunc(s.spots, func(sp spot) bool { return sp.db == db })
		if at < 0 {
			at = len(s.spots)
			s.spots = append(s.spots, spot{db: db})
		}
		s.spots[at].ticket = f.Now()
	}
}

// enter notes a change of state and returns its time. The first work for a
// server begins the transaction.
func (s *Session) enter(st State) int64 {
	now := s.env.now()
	s.enterAt(st, now)
	return now
}

// enterAt is enter when the time is known.
func (s *Session) enterAt(st State, now int64) {
	s.since.Store(now) // first: nobody must take a new state for an old one
	s.state.Store(int32(st))
	if st == StateActive && s.txSince.Load() == 0 {
		s.txSince.Store(now)
	}
}

// rest sets the state between requests.
func (s *Session) rest() {
	if s.tx != wire.TxIdle || s.opening != nil || s.openingFailed {
		s.enter(StateIdleTx)
		return
	}
	now := s.enter(StateIdle)
	if began := s.txSince.Swap(0); began > 0 {
		s.db.Stats.TxTime.Add(uint64(now - began))
	}
}

// facts of a text, by the shared cache.
func (s *Session) facts(sql []byte) *parser.Statement { return s.env.Parser.Statement(sql) }

// close gives everything back. The server connection is rolled back and reused
// where that is certain, closed where it is not.
func (s *Session) close() {
	s.abortDuplex()
	s.dropPiped()
	if s.wide != nil {
		s.wide.close()
	}
	s.dropServer()
	s.tx = wire.TxIdle
	s.changed(true) // what no server has any more
	s.state.Store(int32(StateIdle))
	for _, st := range s.names {
		s.db.Statements.Release(st)
	}
	s.names = nil
	s.setUnnamed(nil)
	s.forgetRecent()
	if s.listens != nil {
		s.db.Listener.Forget(s)
	}
	s.detach()
	s.in.Drop()
	s.relay.in.Drop()
	_ = s.client.Close()
}
