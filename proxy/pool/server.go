package pool

import (
	"context"
	"fmt"
	"time"
)

// Server is one server connection as the pool sees it. S is meant to be a pointer type: its identity is the connection.
// The pool calls these methods only while nobody holds the connection, except CreatedAt.
type Server interface {
	comparable
	// Fingerprint identifies the session settings in force. It must not change while the connection is idle.
	Fingerprint() uint64
	// Stale reports, without blocking, whether the peer closed the connection or sent something nobody asked for.
	Stale() bool
	// Check makes one round trip and fails when it takes longer than timeout.
	Check(timeout time.Duration) error
	// Close says goodbye and closes the socket. It must not block for more than a moment; it is called once.
	Close(reason string)
	// CreatedAt is when the connection was opened; max_lifetime counts from there.
	CreatedAt() time.Time
}

// Key names a pool. Server is the host's name in the topology, not its address.
type Key struct {
	Database string
	Role     string
	Server   string
}

// String is for messages: role@server/database.
func (k Key) String() string { return fmt.Sprintf("%s@%s/%s", k.Role, k.Server, k.Database) }

// Scope selects pools for a command: an empty field matches everything, the zero Scope matches every pool.
type Scope struct {
	Database string
	Role     string
	Server   string
}

// Match reports whether key lies in the scope.
func (s Scope) Match(key Key) bool {
	return (s.Database == "" || s.Database == key.Database) &&
		(s.Role == "" || s.Role == key.Role) &&
		(s.Server == "" || s.Server == key.Server)
}

// Dial opens and logs in one connection. ctx carries connect_timeout and ends with the pool. An error that has the
// method SQLState tells a refused login from a server that is away.
type Dial[S Server] func(ctx context.Context, key Key) (S, error)

// Want says which idle connection suits the caller best. It is a wish: any connection of the pool may come.
type Want[S Server] struct {
	// Prefer is the connection the session had last; the zero value means none.
	Prefer S
	// Fingerprint is the state in which the session would need no replay of settings.
	Fingerprint uint64
	// Limit bounds the wait if it is shorter than the pool's wait_timeout; 0 does not.
	Limit time.Duration
	// Hasty does not wait for a server that is away: it is for whoever has something else to give meanwhile.
	Hasty bool
}
