package admin

import (
	"context"
	"time"

	"pgtier/router"
)

// View is what there is to see. Every function returns a fresh copy, ordered as
// it shall be shown.
type View struct {
	Pools     func() []Pool
	Clients   func() []Socket
	Servers   func() []Socket
	Hosts     func() []Host  // one a server of a shard
	Shards    func() []Shard // one a shard, of databases without sharding too
	Moves     func() []Move  // one a move of buckets, of each database's job under way or the last one
	Caches    func() []Cache // one a database that keeps answers
	Routes    func() []Route // one a database and cause
	Pipelines func() []Pipeline
	Databases func() []Database
	Users     func() []User
	Stats     func() []Stats // one a database
	Settings  func() []Setting
	Memory    func() []Memory
	// Counts are the lines of SHOW LISTS that the others do not tell.
	Counts func() Counts
	// Explain says where a statement for database would go; "" is the only one there is. Errors are told to the client.
	Explain func(ctx context.Context, database, sql string) ([]router.Fact, error)
	// Paused reports whether everything is paused.
	Paused func() bool
}

// Pool is the connections of one role to one database's server.
type Pool struct {
	Database, User                        string
	ClientsActive, ClientsWaiting         int // active: has a server connection, or is idle
	Active, Idle, Used, Tested, LoggingIn int // server connections
	MaxWait                               time.Duration
	Mode                                  string
}

// Socket is a client or server connection.
type Socket struct {
	ID                   uint64
	User, Database       string
	Replication          string // none, logical or physical
	State                string
	Addr, LocalAddr      string // "unix" for unix sockets
	Port, LocalPort      int
	Connected, Requested time.Time
	Wait                 time.Duration // so far, for a server connection
	CloseNeeded          bool
	Link                 uint64 // ID of the other side, 0 if there is none
	PID                  int    // of the server process
	TLS, AppName         string
	Prepared             int
	Pin                  string    // why the client keeps its server connection
	Pinned               time.Time // when that began
}

// Host is one server of a database: a shard's manager or one of its replicas.
type Host struct {
	Database, Shard, Name, Addr string
	Port                        int
	Zone                        string
	Weight                      int
	Role, State, Reason         string // Role is "manager" for the one that pgtier writes to only
	Timeline                    uint32 // 0: not known
	Replayed                    string // position in the write-ahead log, "" if not known
	ReplayedBytes               uint64 // the same as a number
	Lag                         time.Duration
	Latency                     time.Duration // moving average, 0 before the first answer
	InFlight                    int
	Reads                       uint64 // answered by it as a replica
	Warmth                      float64
	Conflict                    string // who else claims to be the manager
	Up, Manager                 bool
}

// Route is how many requests of a database went where they went for one cause.
type Route struct {
	Database, Cause string
	Count           uint64
}

// Database is one database that clients may ask for.
type Database struct {
	Name, Host                         string
	Port                               int
	Database, ForceUser                string // at the server
	PoolSize, MinPoolSize, ReserveSize int
	Lifetime                           time.Duration
	Mode                               string // its own, "" if the default holds
	MaxConnections, Connections        int    // servers
	MaxClients, Clients                int
	Paused, Disabled                   bool
}

// User is a user known beforehand, or one that has connections.
type User struct {
	Name                        string
	MaxConnections, Connections int
	MaxClients, Clients         int
}

// Setting is one key of the configuration. Values of secrets are masked.
type Setting struct {
	Key, Value, Default string
	Changeable          bool // by RELOAD
}

// Memory is one kind of memory the proxy accounts for.
type Memory struct {
	Name       string
	Size       int // of one piece, 0 if they differ
	Used, Free int // pieces
	Total      int64
}

// Counts are sizes of what the proxy holds.
type Counts struct {
	Users, Pools, Greeting int // Greeting: clients that have not logged in yet
}

// Pipeline is one database's shared pipelines: those open now, and totals since the start.
type Pipeline struct {
	Database           string
	Open               int
	UnderWay           int64  // requests
	Requests, Batches  uint64 // a batch is one write to a server
	SentAgain, Evicted uint64 // over connections of their own: after an error, from behind a slow one
}
