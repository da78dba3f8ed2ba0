package pool

import (
	"sync"
	"sync/atomic"
)

// Limits holds the totals that pools share: server connections and clients of each database and each role. Make one
// for the proxy with NewLimits. All methods may be called by any goroutine and never block.
type Limits struct {
	mu       sync.Mutex
	servers  tally
	clients  tally
	refused  []*claim     // pools that were refused a connection and still want it, oldest first
	waiting  atomic.Int32 // len(refused), for contended
	onChange func()       // called when claims should be looked at; set by New, must not block
}

// NewLimits returns totals of zero.
func NewLimits() *Limits {
	return &Limits{servers: newTally(), clients: newTally(), onChange: func() {}}
}

// tally counts by database and by role. Entries of zero are deleted: role names come from clients.
type tally struct {
	total    int
	database map[string]int
	role     map[string]int
}

func newTally() tally { return tally{database: map[string]int{}, role: map[string]int{}} }

func (t *tally) add(database, role string, n int) {
	t.total += n
	if t.database[database] += n; t.database[database] == 0 {
		delete(t.database, database)
	}
	if t.role[role] += n; t.role[role] == 0 {
		delete(t.role, role)
	}
}

// Admit counts a client in, or returns an *Error with 53300 that says which limit of cfg it would exceed. A client is
// admitted once, after its login, however many pools it uses; Leave takes it out.
func (l *Limits) Admit(database, role string, cfg *Config) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case full(l.clients.total, cfg.MaxClients):
		return errTooManyClients("The proxy", cfg.MaxClients)
	case full(l.clients.database[database], cfg.MaxDatabaseClients):
		return errTooManyClients("Database \""+database+"\"", cfg.MaxDatabaseClients)
	case full(l.clients.role[role], cfg.MaxUserClients):
		return errTooManyClients("Role \""+role+"\"", cfg.MaxUserClients)
	}
	l.clients.add(database, role, 1)
	return nil
}

// Leave counts out a client that Admit let in.
func (l *Limits) Leave(database, role string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients.add(database, role, -1)
}

// Clients is the number of admitted clients.
func (l *Limits) Clients() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clients.total
}

// Servers is the number of server connections of a database and of a role, over all pools.
func (l *Limits) Servers(database, role string) (ofDatabase, ofRole int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.servers.database[database], l.servers.role[role]
}

func full(n, limit int) bool { return limit > 0 && n >= limit }

// claim is a pool's wish for one more server connection than the shared limits allow. Its fields are guarded by
// Limits.mu.
type claim struct {
	key        Key
	waiting    bool
	byDatabase bool // refused by max_database_connections
	byRole     bool // refused by max_user_connections
}

// competes reports whether c, which was refused earlier, has a better right than a new wish for key.
func (c *claim) competes(key Key) bool {
	return c.byDatabase && c.key.Database == key.Database || c.byRole && c.key.Role == key.Role
}

// take counts a server connection in and reports true, or false when a limit forbids it; with insist it then notes the
// claim. Claims on the same total are granted in the order in which they were refused.
func (l *Limits) take(c *claim, cfg *Config, insist bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	byDatabase := full(l.servers.database[c.key.Database], cfg.MaxDatabaseConnections)
	byRole := full(l.servers.role[c.key.Role], cfg.MaxUserConnections)
	limited := cfg.MaxDatabaseConnections > 0 || cfg.MaxUserConnections > 0
	if !byDatabase && !byRole && limited {
		for _, other := range l.refused {
			if other == c {
				break
			}
			if other.competes(c.key) {
				byDatabase = byDatabase || other.byDatabase && other.key.Database == c.key.Database
				byRole = byRole || other.byRole && other.key.Role == c.key.Role
			}
		}
	}
	if byDatabase || byRole {
		if !insist {
			return false
		}
		c.byDatabase, c.byRole = byDatabase, byRole
		if !c.waiting {
			c.waiting = true
			l.refused = append(l.refused, c)
			l.waiting.Store(int32(len(l.refused)))
			l.onChange() // a rich pool may give something up
		}
		return false
	}
	granted := l.forget(c)
	l.servers.add(c.key.Database, c.key.Role, 1)
	if granted && len(l.refused) > 0 {
		l.onChange() // the next in line may fit too
	}
	return true
}

// withdraw drops the claim of a pool that no longer wants a connection.
func (l *Limits) withdraw(c *claim) {
	l.mu.Lock()
	relief := l.forget(c) && len(l.refused) > 0
	l.mu.Unlock()
	if relief {
		l.onChange()
	}
}

func (l *Limits) forget(c *claim) bool {
	if !c.waiting {
		return false
	}
	c.waiting, c.byDatabase, c.byRole = false, false, false
	for i, other := range l.refused {
		if other == c {
			l.refused = append(l.refused[:i], l.refused[i+1:]...)
			break
		}
	}
	l.waiting.Store(int32(len(l.refused)))
	return true
}

// contended reports, for the price of one load, whether any pool waits for a shared limit.
func (l *Limits) contended() bool { return l.waiting.Load() > 0 }

// free counts a server connection out.
func (l *Limits) free(key Key) {
	l.mu.Lock()
	l.servers.add(key.Database, key.Role, -1)
	relief := len(l.refused) > 0
	l.mu.Unlock()
	if relief {
		l.onChange()
	}
}

// claims copies the refused claims, oldest first.
func (l *Limits) claims() []claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.refused) == 0 {
		return nil
	}
	out := make([]claim, 0, len(l.refused))
	for _, c := range l.refused {
		out = append(out, *c)
	}
	return out
}
