// Package shardmap answers: which shard owns which bucket now, and how does every proxy learn it?
//
// The maps of a sharded database stand in the control database, in schema pgtier, one row a version, and beside them the motion: what moves of buckets ask of
// proxies now. Both are changed by Mover.Change alone, one transaction that succeeds only behind what it was made from. What is fixed for the life of the data
// (number of buckets, function, home, keys) stands there too, so that a proxy with another configuration refuses instead of looking for rows where
// they are not. Each shard carries a mark that says which map it belongs to and by what name: swapped URLs and a forgotten control database are noticed.
//
// A Watcher asks once a second, and every few milliseconds while the motion says so. It does not LISTEN: that would need a connection held open and polls
// for when it breaks. What it acts by it says in the control database, which Mover.Await waits for; without an answer for Lease it may send nothing to a
// shard, but for those whose own managers know of no newer motion (Watcher.Leased).
//
// DESIGN.md has the objects, the argument for leases, and for who may write a transaction's decision.
package shardmap

import (
	"context"
	"errors"
	"strings"
	"time"

	"pgtier/router/shard"
)

// Querier runs SQL, one statement or several as one simple query, and gives visit each row's values as text, nil for NULL. The fields are valid only
// during the call. An error of visit ends the query and is returned. Errors of the server tell their SQLSTATE by a method SQLState. No
// transaction may be open on the connection.
type Querier interface {
	Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error
}

// Config is what the configuration says of one sharded database. Do not change it once it is given away.
type Config struct {
	// Database is the name that clients know.
	Database string
	Buckets  int
	Function shard.Function
	// Shards are the names of all shards, in order: the first map spreads the buckets over them.
	Shards []shard.Name
	// Home is the shard of undeclared tables.
	Home shard.Name
	// Tables are the declared tables.
	Tables []Table
	// Who names this proxy in the maps that it makes, and where it says what it acts by; it may be "".
	Who string
	// Lease is how long a proxy that does not hear of the control database goes on; 0 is DefaultLease. It is the same for all proxies and movers.
	Lease time.Duration
}

// DefaultLease is long enough for a control database to fail over, and short enough to wait twice for a proxy that is gone.
const DefaultLease = 10 * time.Second

func (c *Config) lease() time.Duration {
	if c.Lease > 0 {
		return c.Lease
	}
	return DefaultLease
}

// Table is a declared table.
type Table struct {
	Schema string // "" where the configuration has none
	Name   string
	// Key are the key's columns; none for a reference table.
	Key []string
}

// String returns the table's name.
func (t Table) String() string {
	if t.Schema == "" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// placement says how the rows are placed.
func (t Table) placement() string {
	if len(t.Key) == 0 {
		return "a reference table"
	}
	return "sharded by " + strings.Join(t.Key, ", ")
}

// key is the stored form of the key's columns: names quoted as in SQL.
func (t Table) key() string {
	quoted := make([]string, len(t.Key))
	for i, column := range t.Key {
		quoted[i] = `"` + strings.ReplaceAll(column, `"`, `""`) + `"`
	}
	return strings.Join(quoted, ",")
}

// SQLSTATEs that are looked for (src/backend/utils/errcodes.txt).
const (
	codeNoSchema = "3F000"
	codeNoTable  = "42P01"
	codeNoRight  = "42501"
)

// sqlState is the SQLSTATE of a server's error, "" of any other.
func sqlState(err error) string {
	var known interface{ SQLState() string }
	if errors.As(err, &known) {
		return known.SQLState()
	}
	return ""
}

// literal quotes text for SQL, whatever standard_conforming_strings says.
func literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
