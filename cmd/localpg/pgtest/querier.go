package pgtest

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Querier runs SQL over one connection, one query at a time, as packages ask servers who leave it to others how to connect. Make it by NewQuerier.
// Safe for concurrent use.
type Querier struct {
	// Conn is for other uses while no query runs; fixed.
	Conn *pgconn.PgConn

	mu sync.Mutex
}

// NewQuerier asks over conn, which stays the caller's to close.
func NewQuerier(conn *pgconn.PgConn) *Querier { return &Querier{Conn: conn} }

// Query gives visit each row's values as text, which are valid only during the call. The first error of visit is returned when the query has ended.
func (q *Querier) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	reader := q.Conn.Exec(ctx, sql)
	var err error
	for reader.NextResult() {
		rows := reader.ResultReader()
		for rows.NextRow() {
			if err == nil {
				err = visit(rows.Values())
			}
		}
	}
	if closed := reader.Close(); closed != nil {
		return closed
	}
	return err
}
