package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// trafficClients is how many connections share the work; more than the server connections that they need.
	trafficClients = 8
	// firstDelay and longestDelay bound the pause before another attempt to connect; it doubles in between.
	firstDelay   = 100 * time.Millisecond
	longestDelay = 5 * time.Second
	// requestLimit is how long one request may take before its connection is given up.
	requestLimit = 30 * time.Second
	// tries40001 is how often a transaction is made that ends with 40001.
	tries40001 = 5
	// goodbyeLimit bounds the polite end of a connection.
	goodbyeLimit = time.Second
)

// Counts says what traffic has done since it started.
type Counts struct {
	Reads, Writes, Failures, Notifications uint64
	// Repeated transactions had been told to come again, by 40001: a move of buckets may do that to one of several statements.
	Repeated  uint64
	LastError string // of the last failure; "" when there was none
}

// Traffic is a light load as an application makes it: prepared and simple statements, pipelines, transactions,
// functions and LISTEN, reads more often than writes, over a handful of connections that come back when they break.
type Traffic struct {
	config    *pgx.ConnConfig
	perSecond float64
	sharded   bool

	reads, writes, failures, notifications, repeated atomic.Uint64
	lastError                                        atomic.Pointer[string]
}

// NewTraffic prepares traffic of so many requests a second against a database that Load has filled. sharded: on several managers,
// so that no request calls a function or reads a view over rows of all shards. A bad URL or a rate that is not positive is an error.
func NewTraffic(url string, perSecond float64, sharded bool) (*Traffic, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("demo traffic: %w", err)
	}
	if !(perSecond > 0) {
		return nil, fmt.Errorf("demo traffic: %v requests a second: must be above 0", perSecond)
	}
	return &Traffic{config: config, perSecond: perSecond, sharded: sharded}, nil
}

// Run makes traffic until ctx ends, and returns when every connection is closed. Failures are counted, not returned:
// the point of the demo is to see the clients come through. Call it once.
func (t *Traffic) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for range trafficClients {
		wg.Go(func() { t.keepConnected(ctx, t.work) }) // ends with ctx
	}
	wg.Go(func() { t.keepConnected(ctx, t.listen) }) // ends with ctx
	wg.Wait()
}

// Counts returns the numbers so far. Safe for concurrent use.
func (t *Traffic) Counts() Counts {
	c := Counts{Reads: t.reads.Load(), Writes: t.writes.Load(), Failures: t.failures.Load(), Notifications: t.notifications.Load(), Repeated: t.repeated.Load()}
	if text := t.lastError.Load(); text != nil {
		c.LastError = *text
	}
	return c
}

// keepConnected runs use on a connection again and again, with a growing pause while it cannot connect.
func (t *Traffic) keepConnected(ctx context.Context, use func(context.Context, *pgx.Conn) error) {
	delay := firstDelay
	for ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(ctx, t.config)
		if err == nil {
			delay = firstDelay
			err = use(ctx, conn)
			goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeLimit)
			_ = conn.Close(goodbye) // nothing depends on it
			cancel()
		}
		if ctx.Err() != nil {
			return
		}
		t.fail(err)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, longestDelay)
	}
}

func (t *Traffic) fail(err error) {
	text := err.Error()
	t.lastError.Store(&text)
	t.failures.Add(1)
}

// work makes one client's share of the requests until its connection breaks or ctx ends.
func (t *Traffic) work(ctx context.Context, conn *pgx.Conn) error {
	ticker := time.NewTicker(time.Duration(float64(time.Second) * trafficClients / t.perSecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		r := drawRequest()
		limited, cancel := context.WithTimeout(ctx, requestLimit)
		run := r.run
		if t.sharded && r.sharded != nil {
			run = r.sharded
		}
		err := run(limited, conn)
		for tries := 1; tries < tries40001 && mayComeAgain(err); tries++ {
			t.repeated.Add(1)
			err = run(limited, conn)
		}
		cancel()
		switch {
		case err == nil && r.writes:
			t.writes.Add(1)
		case err == nil:
			t.reads.Add(1)
		case conn.IsClosed():
			return fmt.Errorf("%s: %w", r.name, err)
		case ctx.Err() == nil:
			t.fail(fmt.Errorf("%s: %w", r.name, err))
		}
	}
}

// mayComeAgain says whether the transaction has done nothing and is to be made again (serialization_failure).
func mayComeAgain(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "40001"
}

// listen counts the notifications that other clients' orders cause.
func (t *Traffic) listen(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "LISTEN orders"); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("wait for notification: %w", err)
		}
		t.notifications.Add(1)
	}
}

// drawRequest draws a request by weight.
func drawRequest() request {
	total := 0
	for _, r := range requests {
		total += r.weight
	}
	n := rand.IntN(total)
	for _, r := range requests {
		if n < r.weight {
			return r
		}
		n -= r.weight
	}
	panic("unreachable: n is below the sum of the weights")
}
