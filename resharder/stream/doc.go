// Package stream answers: how do the rows of buckets get from one shard to another, and stay equal there while clients write?
//
// It is the data plane of moves, each part by itself: what the catalogs say of the tables and what makes a move impossible (Describe,
// Problems), publication and slot (CreatePublication, CreateSlot), the copy under the slot's snapshot (Copy), the changes since then (Applier),
// markers in the stream (Emit, Applier.Await), the comparison of both sides (Verify), rows that are to go (DeleteBuckets), and the schema of a new shard (Schema).
// Package resharder says when each of them runs.
//
// Nothing here has state of its own that outlives a connection: how far a stream has come stands in the target's replication origin, and is
// committed with the rows. So any process may go on where another was killed.
//
// All connections are made by a Server's Dial. Sessions that write run with session_replication_role = replica, which takes a superuser, or
// GRANT SET ON PARAMETER session_replication_role and EXECUTE on the functions of replication origins. PostgreSQL 15 is the oldest that can be moved from or to.
//
// The transactions in which rows are copied and deleted here say so by a logical message (prefix MessagePrefix, content "local"), and an Applier passes
// over transactions that do: the stream of the other direction must not bring them back. Those of an Applier carry its origin, and the Applier of
// the other direction has that among the origins that it ignores.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Oldest is the oldest version of PostgreSQL that rows can be moved from or to, as server_version_num has it: row filters came with it.
const Oldest = 150000

// Server is one side of a move. Its zero value cannot be used.
type Server struct {
	// Name is the shard's, for errors.
	Name string
	// Dial logs in to the shard's manager, with params among the startup parameters; Connect does that for one configuration. It is
	// called again after each lost connection, from several goroutines, so it may find another manager then.
	Dial func(ctx context.Context, params map[string]string) (*pgconn.PgConn, error)
}

// LSN is a position in a server's write-ahead log. 0 is none.
type LSN uint64

// String is the position as PostgreSQL writes it: "16/B374D848".
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// ParseLSN reads what String returns.
func ParseLSN(text string) (LSN, error) {
	high, low, found := strings.Cut(text, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !found || err != nil || err2 != nil {
		return 0, fmt.Errorf("%q is not a position in the write-ahead log", text)
	}
	return LSN(h<<32 | l), nil
}

// messageMost bounds a message of a server: the most that PostgreSQL itself allocates for one value (memutils.h, MaxAllocSize).
const messageMost = 1<<30 - 1

// Connect logs in as config says, with params among the startup parameters. config is not changed. Messages are bounded by what a server can send.
func Connect(ctx context.Context, config *pgconn.Config, params map[string]string) (*pgconn.PgConn, error) {
	config = config.Copy()
	if config.RuntimeParams == nil {
		config.RuntimeParams = map[string]string{}
	}
	maps.Copy(config.RuntimeParams, params)
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := pgproto3.NewFrontend(r, w)
		f.SetMaxBodyLen(messageMost)
		return f
	}
	return pgconn.ConnectConfig(ctx, config)
}

// applicationName is what sessions are called in pg_stat_activity.
const applicationName = "pgtier move"

// sessionParams are the startup parameters of all sessions: every value has one form as text, on both sides; operators are PostgreSQL's own; no limit of
// the role ends what takes long; and a server notices within half a minute that a session is gone with its network, so that its slot or origin is free
// for the next.
func sessionParams() map[string]string {
	return map[string]string{
		"application_name":   applicationName,
		"client_encoding":    "UTF8",
		"datestyle":          "ISO, YMD",
		"intervalstyle":      "postgres",
		"timezone":           "UTC",
		"extra_float_digits": "3",
		"bytea_output":       "hex",
		"lc_monetary":        "C",
		"array_nulls":        "on",
		"xmloption":          "content",
		"search_path":        "pg_catalog",
		// Our own SQL is written for these.
		"standard_conforming_strings": "on",
		"quote_all_identifiers":       "off",
		// A policy that hides rows from the role is an error, not rows left behind.
		"row_security":                        "off",
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"default_transaction_isolation":       "read committed",
		"default_transaction_read_only":       "off",
		"tcp_keepalives_idle":                 "10",
		"tcp_keepalives_interval":             "5",
		"tcp_keepalives_count":                "4",
		"tcp_user_timeout":                    "30000",
	}
}

// connect logs in for SQL.
func (s Server) connect(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := s.Dial(ctx, sessionParams())
	if err != nil {
		return nil, fmt.Errorf("%s: log in: %w", s.Name, err)
	}
	return conn, nil
}

// connectWriter logs in for writes past triggers, foreign keys and guards. Its commits do not wait for the disk.
func (s Server) connectWriter(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := query(ctx, conn, "SET session_replication_role = replica; SET synchronous_commit = off"); err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("%s: %w", s.Name, mayNot(err, "let a superuser run GRANT SET ON PARAMETER session_replication_role TO the role"))
	}
	return conn, nil
}

// hangUpLimit is how long a goodbye may take.
const hangUpLimit = time.Second

// hangUp ends a connection, whatever is under way on it.
func hangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), hangUpLimit)
	defer cancel()
	_ = conn.Close(ctx)
}

// query runs SQL, one statement or several, and returns the rows of the last as text, nil for NULL.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][][]byte, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, nil
	}
	return results[len(results)-1].Rows, nil
}

// ask runs SQL on a connection of its own.
func (s Server) ask(ctx context.Context, sql string) ([][][]byte, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	rows, err := query(ctx, conn, sql)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return rows, nil
}

// sqlState is the code of a server's error, "" if err is none.
func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}

// Codes of errors (errcodes.txt).
const (
	codeInUse             = "55006"
	codeUndefinedObject   = "42704"
	codeDuplicateObject   = "42710"
	codeInsufficientRight = "42501"
)

// Refused is a server's error that people can do something about.
type Refused struct {
	Hint  string
	Cause error
}

// Error says both.
func (e *Refused) Error() string { return e.Cause.Error() + "; " + e.Hint }

// Unwrap returns the server's error.
func (e *Refused) Unwrap() error { return e.Cause }

// mayNot adds a hint to an error that says that the role may not do something.
func mayNot(err error, hint string) error {
	if sqlState(err) != codeInsufficientRight {
		return err
	}
	return &Refused{Hint: hint, Cause: err}
}

// identifier quotes a name so that it is no keyword and is not folded.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal quotes a text. Standard strings are always on in PostgreSQL's default, and E” does not depend on the setting.
func literal(text string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}
