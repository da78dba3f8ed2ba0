package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

const (
	// catalogInterval is how often a database is asked whether its functions and
	// triggers changed behind the proxy's back; the question costs it some milliseconds.
	catalogInterval = 10 * time.Second
	// catalogKeep is how long the connection for such questions stays open after one.
	catalogKeep = 3 * time.Second
)

// catalogQuerier asks a database about its catalog over a connection of its own:
// a pool whose every connection is in a transaction must not keep the answer from
// a session that waits for it inside such a transaction.
type catalogQuerier struct {
	dial func(ctx context.Context) (*backend.Conn, error)

	asking atomic.Pointer[backend.Conn] // the connection while it waits for an answer

	mu    sync.Mutex
	conn  *backend.Conn
	close *time.Timer
}

// Query runs sql and shows visit each row's fields as text, nil for NULL.
func (q *catalogQuerier) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		c, err := q.dial(ctx)
		if err != nil {
			return err
		}
		q.conn = c
	}
	if q.close != nil {
		q.close.Stop()
	}
	var visitErr error
	q.asking.Store(q.conn)
	err := q.conn.Exec(wire.AppendQuery(nil, sql), askTimeout, func(f wire.Frame) {
		if f.Type != wire.MsgDataRow || visitErr != nil {
			return
		}
		fields, err := wire.RowFields(f.Body())
		if err == nil {
			err = visit(fields)
		}
		visitErr = err
	})
	q.asking.Store(nil)
	if q.conn.Spoiled() != "" {
		q.drop()
		return err
	}
	q.close = time.AfterFunc(catalogKeep, q.Close) // ends by itself
	return errors.Join(err, visitErr)
}

// Close ends the connection; the next Query opens another.
func (q *catalogQuerier) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop()
}

// Leave is Close for a server that may never answer the question under way.
func (q *catalogQuerier) Leave() {
	if c := q.asking.Load(); c != nil {
		c.Terminate()
	}
	q.Close()
}

func (q *catalogQuerier) drop() {
	if q.conn != nil {
		q.conn.Terminate()
		q.conn = nil
	}
}

// watchCatalog starts reading d's catalog with its first client, whose login
// gives a role to ask as.
func (p *Proxy) watchCatalog(d *database) {
	d.watching.Do(func() {
		p.running.Go(func() { d.catalog.Run(d.ctx) }) // ends when the database is closed
		d.cluster.start()
	})
}
