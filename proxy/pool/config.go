package pool

import (
	"errors"
	"fmt"
	"time"
)

// Mode says when a session gives its server connection back.
type Mode string

// The modes, by PgBouncer's names.
const (
	ModeTransaction Mode = "transaction" // at the end of each transaction
	ModeSession     Mode = "session"     // when the client leaves
	ModeStatement   Mode = "statement"   // after each statement; transaction blocks are refused
)

// Config is the part of the configuration named pool. Durations of 0 switch their limit off unless said otherwise;
// counts of 0 mean no limit for the names that begin with max.
type Config struct {
	Mode Mode `mapstructure:"mode"`
	// Size is the number of server connections of one pool.
	Size int `mapstructure:"size"`
	// MinIdle connections are kept open and unused, within Size, from the start and while the pool is in use.
	MinIdle int `mapstructure:"min_idle"`
	// Reserve more connections may open once somebody has waited for ReserveTimeout.
	Reserve        int           `mapstructure:"reserve"`
	ReserveTimeout time.Duration `mapstructure:"reserve_timeout"`

	// Clients that may be logged in: of this proxy, of one role, of one database.
	MaxClients         int `mapstructure:"max_clients"`
	MaxUserClients     int `mapstructure:"max_user_clients"`
	MaxDatabaseClients int `mapstructure:"max_database_clients"`
	// Server connections summed over all pools of a database or of a role.
	MaxDatabaseConnections int `mapstructure:"max_database_connections"`
	MaxUserConnections     int `mapstructure:"max_user_connections"`

	// WaitTimeout is how long a statement may wait for a server connection.
	WaitTimeout time.Duration `mapstructure:"wait_timeout"`
	// ServerDownWait replaces WaitTimeout, where shorter, while the pool has no connection and cannot open one: long
	// enough to sit out a restart or a failover, short enough that clients learn of an outage.
	ServerDownWait time.Duration `mapstructure:"server_down_wait"`
	// IdleTimeout closes connections unused for so long, down to MinIdle.
	IdleTimeout time.Duration `mapstructure:"idle_timeout"`
	// MaxLifetime closes connections of that age when they are not in use. Up to a tenth is taken off at random, so
	// that connections opened together do not close together.
	MaxLifetime time.Duration `mapstructure:"max_lifetime"`
	// ConnectTimeout limits one attempt to open and log in a connection.
	ConnectTimeout time.Duration `mapstructure:"connect_timeout"`
	// LoginRetry is the longest pause between two attempts while they fail; pauses double up to it.
	LoginRetry time.Duration `mapstructure:"login_retry"`
	// CheckDelay is the time unused after which a connection makes a round trip before it is lent; 0 never does.
	CheckDelay   time.Duration `mapstructure:"check_delay"`
	CheckTimeout time.Duration `mapstructure:"check_timeout"`

	// Pipeline lets small reads of several clients share a server connection.
	Pipeline Pipeline `mapstructure:"pipeline"`

	// Time limits that sessions keep, not the pool.
	QueryTimeout           time.Duration `mapstructure:"query_timeout"`
	IdleTransactionTimeout time.Duration `mapstructure:"idle_transaction_timeout"`
	TransactionTimeout     time.Duration `mapstructure:"transaction_timeout"`
	ClientIdleTimeout      time.Duration `mapstructure:"client_idle_timeout"`
	ClientLoginTimeout     time.Duration `mapstructure:"client_login_timeout"`
	CancelWaitTimeout      time.Duration `mapstructure:"cancel_wait_timeout"`
}

// Pipeline says which reads travel together over one server connection, and how many.
type Pipeline struct {
	Enabled bool `mapstructure:"enabled"`
	// Depth is how many requests one pipeline may have under way.
	Depth int `mapstructure:"depth"`
	// Lanes is how many pipelines a pool may have, within a quarter of its size.
	Lanes int `mapstructure:"lanes"`
	// Slow is the time from which a statement has connections of its own, by the average of its answers, and from which one
	// that is late sends those behind it elsewhere.
	Slow time.Duration `mapstructure:"slow"`
	// MaxResult is the longest answer a statement may have had.
	MaxResult Size `mapstructure:"max_result"`
}

// DefaultConfig is what holds where the file says nothing. Times follow PgBouncer's defaults where it has the limit.
func DefaultConfig() Config {
	return Config{
		Mode:               ModeTransaction,
		Size:               20,
		ReserveTimeout:     5 * time.Second,
		MaxClients:         10000,
		WaitTimeout:        120 * time.Second,
		ServerDownWait:     15 * time.Second,
		IdleTimeout:        10 * time.Minute,
		MaxLifetime:        time.Hour,
		ConnectTimeout:     15 * time.Second,
		LoginRetry:         15 * time.Second,
		CheckDelay:         30 * time.Second,
		CheckTimeout:       5 * time.Second,
		ClientLoginTimeout: 60 * time.Second,
		CancelWaitTimeout:  10 * time.Second,
		// 32 deep a server answers reads of one row in about a millisecond, which nobody waits for in vain.
		Pipeline: Pipeline{Enabled: true, Depth: 32, Lanes: 2, Slow: 5 * time.Millisecond, MaxResult: 16 << 10},
	}
}

// Validate returns every fault joined, each beginning with the key below pool; nil when the configuration can be used.
func (c *Config) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	switch c.Mode {
	case ModeTransaction, ModeSession, ModeStatement:
	default:
		fault("mode", "%q is no mode; use transaction, session or statement", c.Mode)
	}
	if c.Size < 1 {
		fault("size", "%d is below 1; give the pool at least one connection", c.Size)
	}
	if c.MinIdle > c.Size {
		fault("min_idle", "%d is above size (%d); lower it or raise size", c.MinIdle, c.Size)
	}
	if c.Pipeline.Depth < 1 {
		fault("pipeline.depth", "%d is below 1; set pipeline.enabled to false to have none", c.Pipeline.Depth)
	}
	if c.Pipeline.Lanes < 1 {
		fault("pipeline.lanes", "%d is below 1; set pipeline.enabled to false to have none", c.Pipeline.Lanes)
	}
	if c.Pipeline.MaxResult < 0 {
		fault("pipeline.max_result", "%s is negative; use 0 or more", c.Pipeline.MaxResult)
	}
	for _, n := range c.counts() {
		if n.value < 0 {
			fault(n.key, "%d is negative; use 0 or more", n.value)
		}
	}
	for _, d := range c.durations() {
		switch {
		case d.value < 0:
			fault(d.key, "%s is negative; use 0 or more", d.value)
		case d.value == 0 && d.required:
			fault(d.key, "0 would never end; use a time above 0")
		}
	}
	return errors.Join(faults...)
}

type configCount struct {
	key   string
	value int
}

func (c *Config) counts() []configCount {
	return []configCount{
		{"min_idle", c.MinIdle},
		{"reserve", c.Reserve},
		{"max_clients", c.MaxClients},
		{"max_user_clients", c.MaxUserClients},
		{"max_database_clients", c.MaxDatabaseClients},
		{"max_database_connections", c.MaxDatabaseConnections},
		{"max_user_connections", c.MaxUserConnections},
	}
}

type configDuration struct {
	key      string
	value    time.Duration
	required bool // 0 would mean a busy loop or a wait without end
}

func (c *Config) durations() []configDuration {
	return []configDuration{
		{"reserve_timeout", c.ReserveTimeout, false},
		{"wait_timeout", c.WaitTimeout, false},
		{"server_down_wait", c.ServerDownWait, false},
		{"idle_timeout", c.IdleTimeout, false},
		{"max_lifetime", c.MaxLifetime, false},
		{"connect_timeout", c.ConnectTimeout, true},
		{"login_retry", c.LoginRetry, true},
		{"check_delay", c.CheckDelay, false},
		{"check_timeout", c.CheckTimeout, true},
		{"pipeline.slow", c.Pipeline.Slow, true},
		{"query_timeout", c.QueryTimeout, false},
		{"idle_transaction_timeout", c.IdleTransactionTimeout, false},
		{"transaction_timeout", c.TransactionTimeout, false},
		{"client_idle_timeout", c.ClientIdleTimeout, false},
		{"client_login_timeout", c.ClientLoginTimeout, false},
		{"cancel_wait_timeout", c.CancelWaitTimeout, false},
	}
}
