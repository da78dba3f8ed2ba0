package session

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/catalog"
)

// Env is what all sessions of a proxy share. Immutable after New, but for what
// its parts guard themselves.
type Env struct {
	Bufs   *wire.Buffers
	Parser *parser.Cache
	Log    *zap.Logger
	Limits atomic.Pointer[Limits]
	// SlowQuery is the time in nanoseconds from which a request is logged; 0 logs none.
	SlowQuery atomic.Int64
	// EagerPipelines lets reads into pipelines before anything is known of how long they take, and keeps pipelines longer that nobody uses: for tests.
	EagerPipelines bool
	// Dozer takes over the clients of sessions that rest; nil: each keeps its goroutine.
	Dozer *wire.Dozer
	// RestFor is how long a session rests before it is looked after once, and dozes.
	RestFor time.Duration
	// Epoch is the zero of the sessions' clock.
	Epoch time.Time
	ids   atomic.Uint64
}

// Limits bounds the memory of sessions, in bytes.
type Limits struct {
	MaxMessage    int // longest message relayed
	MaxQuery      int // longest Query or Parse
	SessionMemory int // names and texts of one session's prepared statements
}

func (e *Env) limit() *Limits { return e.Limits.Load() }

// Now is the sessions' clock, in nanoseconds.
func (e *Env) Now() int64 { return e.now() }

func (e *Env) now() int64 { return int64(time.Since(e.Epoch)) }

// caught is deferred in goroutines beside a session's own: a panic there ends what they work for with an error, and not
// the daemon.
func (e *Env) caught(err *error) {
	if r := recover(); r != nil {
		e.Log.Error("panicked beside a session", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		*err = errPanicked
	}
}

var errPanicked = errors.New("internal error")

// Database is what all sessions of one database share; of a sharded one, what they share on one shard.
type Database struct {
	Name string
	// Shard is the shard's name; nil where there are none.
	Shard func() string
	// Cluster is what the shards share, nil where nothing is sharded. Sessions look at that of the home shard.
	Cluster    atomic.Pointer[Cluster]
	Statements *backend.Statements
	Listener   Listener
	Hazards    Hazards
	Config     func() *pool.Config
	// Fleet watches the servers of a database with replicas; nil where there is a manager alone.
	Fleet atomic.Pointer[fleet.Fleet]
	// Manager is the name of the server that takes writes where Fleet is nil.
	Manager func() string
	// Bond is what answers of the shard are believed by, where there are several.
	Bond backend.Bond
	// Reads is the configuration in force for replicas.
	Reads func() *Reads
	// Attach returns role's pool on a server of that name, with the caller counted in.
	Attach func(role, server string) *pool.Pool[*backend.Conn]
	// Pipelines are those that its reads share.
	Pipelines Pipelines
	// Keeper keeps answers; nil where none are.
	Keeper atomic.Pointer[Keeper]
	// Floor is what replicas must have replayed whatever is read there; nil: nothing.
	Floor atomic.Pointer[Floor]
	// Writes remembers what was written when.
	Writes     Writes
	unwatched  atomic.Uint64 // ticket of all that was written and read while Fleet was nil
	turns      atomic.Uint64 // choices between replicas
	distrust   atomic.Int32  // size of distrustOf, about
	distrustOf sync.Map      // statements that a replica has refused as writes
	// serializable is set once a replica has refused a transaction for being serializable without having been told to.
	serializable atomic.Bool
	// SequencesRead is set once anybody asked for currval or lastval: from then on
	// sessions that may advance a sequence keep their connection.
	SequencesRead atomic.Bool
	// OnDDL is told of a committed change of the catalog.
	OnDDL func()
	// Redial opens another connection like c whose own defaults are params, as PostgreSQL makes those of a startup packet.
	Redial func(ctx context.Context, c *backend.Conn, params []wire.Param) (*backend.Conn, error)
	// Stats are those of the whole database.
	Stats *Stats
	// Notifiers maps a server process to the client process number of the session
	// that last ran NOTIFY there, so that clients recognise their own notifications.
	Notifiers sync.Map
	notifiers atomic.Int64 // their number, about
}

// maxNotifiers bounds Notifiers; forgetting them costs a client the recognition of
// its own notification, once.
const maxNotifiers = 4096

// notifier notes that the client process pid runs a NOTIFY on the server process server.
func (d *Database) notifier(server, pid uint32) {
	if _, known := d.Notifiers.Swap(server, pid); !known && d.notifiers.Add(1) > maxNotifiers {
		d.Notifiers.Clear()
		d.notifiers.Store(0)
	}
}

// Listener is the shared listening connection of a database.
type Listener interface {
	// Listen returns when channel is being listened to for s.
	Listen(ctx context.Context, s *Session, channel string) error
	// Barrier returns when every notification of transactions that have ended is with its sessions.
	Barrier(ctx context.Context) error
	// Hold has notifications of the server process pid wait until free is called.
	Hold(pid uint32) (free func())
	// Unlisten ends one channel of s; Forget ends all of them.
	Unlisten(s *Session, channel string)
	Forget(s *Session)
}

// Hazards is the router's, kept current behind it.
type Hazards interface {
	router.Hazards
	// Pending reports whether the catalog is being read again after a change;
	// Wait returns when that is done.
	Pending() bool
	Wait(ctx context.Context) error
	// Mark and Judges tell by which catalog what ran between two times can be judged afterwards.
	Mark() catalog.Mark
	Judges(from, to catalog.Mark) (s *catalog.Snapshot, known bool)
	// Snapshot is the catalog as it was last read; nil: it has not been.
	Snapshot() *catalog.Snapshot
	// Reading is what is proved of a statement; Written is what a command may change.
	Reading(st *parser.Statement) *catalog.Reading
	CommandReading(c *parser.Command) *catalog.Reading
	Written(c *parser.Command) (tables []string, all bool)
}

// Stats are the totals of one database. Safe for concurrent use.
type Stats struct {
	Queries, Transactions atomic.Uint64
	Received, Sent        atomic.Uint64
	QueryTime, TxTime     atomic.Uint64 // nanoseconds; TxTime from the first work for a server to the end of the transaction
	WaitTime              atomic.Uint64 // nanoseconds
	ClientParses          atomic.Uint64
	ServerParses          atomic.Uint64
	Binds                 atomic.Uint64
	ServerAssignments     atomic.Uint64
	Repeated              atomic.Uint64                // turns sent again after their server failed
	Fenced                atomic.Uint64                // turns sent again because the servers' fence has refused them
	Held                  HeldTimes                    // statements that waited for moves of buckets
	Unproved              atomic.Uint64                // turns whose manager was not in time known to show what the session saw on a replica: sent to it, or refused
	Routes                [router.Causes]atomic.Uint64 // turns by why they went where they went
}

// Key is a cancel key: the process number and the secret of BackendKeyData.
type Key struct {
	PID    uint32
	Secret string
}
