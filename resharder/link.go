package resharder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/shard"
)

// Dial logs in to a server, with these settings among the startup parameters, and replication=database where it shall replicate. It asks for the shard's manager
// anew each time, because another server may have become it. Safe for concurrent use.
type Dial func(ctx context.Context, parameters map[string]string) (*pgconn.PgConn, error)

// askLimit bounds a question that waits for nobody. A server that does not answer for so long counts as lost.
const askLimit = 10 * time.Second

// settings are those of every connection. Expressions that become part of triggers are read where nothing stands before pg_catalog, and no limit of the
// role's own may end what takes long.
func settings() map[string]string {
	return map[string]string{
		"search_path": "pg_catalog", "client_encoding": "UTF8", "DateStyle": "ISO", "standard_conforming_strings": "on",
		"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0", "row_security": "on",
	}
}

// link is a connection to a server that is made anew when it is lost. It asks one question at a time and is safe for concurrent use.
type link struct {
	place string // "shard s0" or "the control database"
	dial  func(ctx context.Context) (*pgconn.PgConn, error)

	mu   sync.Mutex
	conn *pgconn.PgConn // guarded by mu; nil while there is none
}

// Query implements shardmap.Querier. An error that left the connection in doubt ends it.
func (l *link) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	ctx, stop := context.WithTimeout(ctx, askLimit)
	defer stop()
	return l.long(ctx, sql, visit)
}

// long is Query without a limit of its own.
func (l *link) long(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && l.conn.IsClosed() {
		l.conn = nil
	}
	if l.conn == nil {
		conn, err := l.dial(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", l.place, err)
		}
		l.conn = conn
	}
	err := query(ctx, l.conn, sql, visit)
	if err == nil {
		return nil
	}
	if l.conn.IsClosed() || l.conn.TxStatus() != 'I' {
		hangUp(l.conn)
		l.conn = nil
	}
	return fmt.Errorf("%s: %w", l.place, err)
}

// value asks for one value, "" where there is no row.
func (l *link) value(ctx context.Context, sql string) (text string, err error) {
	err = l.Query(ctx, sql, func(fields [][]byte) error {
		text = string(fields[0])
		return nil
	})
	return text, err
}

// run runs SQL and looks at no row.
func (l *link) run(ctx context.Context, sql string) error {
	return l.Query(ctx, sql, func([][]byte) error { return nil })
}

// close ends the connection.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		hangUp(l.conn)
		l.conn = nil
	}
}

// hangUp ends a connection, politely where it can be.
func hangUp(conn *pgconn.PgConn) {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_ = conn.Close(ctx) // it is given up in any case
}

// query runs one statement or several as one simple query.
func query(ctx context.Context, conn *pgconn.PgConn, sql string, visit func(fields [][]byte) error) error {
	results := conn.Exec(ctx, sql)
	var refused error
	for results.NextResult() {
		for rows := results.ResultReader(); rows.NextRow(); {
			if refused == nil {
				refused = visit(rows.Values())
			}
		}
	}
	return errors.Join(results.Close(), refused)
}

// named are the settings of connections with this application_name and these besides.
func named(name string, more map[string]string) map[string]string {
	all := settings()
	all["application_name"] = name
	maps.Copy(all, more)
	return all
}

// sqlState is the SQLSTATE of a server's error, "" of any other.
func sqlState(err error) string {
	var known interface{ SQLState() string }
	if errors.As(err, &known) {
		return known.SQLState()
	}
	return ""
}

// Servers say how a database's servers are logged in to.
type Servers struct {
	Control Dial
	// Shards has every shard of the configuration.
	Shards map[shard.Name]Dial
}
