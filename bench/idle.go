package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// idleResult is what clients that do nothing cost a proxy.
type idleResult struct {
	Target         string  `json:"target"`
	Clients        int     `json:"clients"`
	Problem        string  `json:"problem,omitempty"`
	Before         int64   `json:"before_bytes"` // PSS
	After          int64   `json:"after_bytes"`
	BytesPerClient float64 `json:"bytes_per_client"`
	Seconds        float64 `json:"seconds_to_connect"`
}

// connectors is how many clients log in at the same time.
const connectors = 16

// settle is how long memory is left alone before it is looked at: clients are idle when they have done nothing for some seconds.
const settle = 8 * time.Second

// idleClients measures what clients that do nothing cost each proxy. The proxies must be fresh: one that has worked has memory to
// spare, which would hide what they need.
func (s *series) idleClients(ctx context.Context, clients int) []idleResult {
	var all []idleResult
	for _, t := range s.targets {
		if t.pid == 0 || t.routes != nil {
			continue // the server itself, and a twin of another target
		}
		s.say("connecting %d idle clients to %s", clients, t.name)
		one, err := idle(ctx, t, clients)
		if err != nil {
			one.Problem = err.Error()
		}
		s.say("%d idle clients of %s: %.1f kB each %s", clients, t.name, one.BytesPerClient/1000, one.Problem)
		all = append(all, one)
	}
	return all
}

// idle connects clients to a freshly started proxy, lets each run one query, and compares the proxy's memory.
func idle(ctx context.Context, t *target, clients int) (idleResult, error) {
	r := idleResult{Target: t.name, Clients: clients}
	if reason := t.full(clients); reason != "" {
		return r, errors.New(reason)
	}
	var err error
	if r.Before, err = treeMemory(t.pid, proportionalMemory); err != nil {
		return r, err
	}
	start := time.Now()
	conns, err := t.connectMany(ctx, clients)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close(ctx) // what we came for has been measured
		}
	}()
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(start).Seconds()
	select {
	case <-ctx.Done():
		return r, context.Cause(ctx)
	case <-time.After(settle):
	}
	if r.After, err = treeMemory(t.pid, proportionalMemory); err != nil {
		return r, err
	}
	r.BytesPerClient = float64(r.After-r.Before) / float64(clients)
	return r, nil
}

// connectMany opens connections that have each run one query. Those that are open are returned with an error, too.
func (t *target) connectMany(ctx context.Context, clients int) ([]*pgconn.PgConn, error) {
	var mu sync.Mutex // guards open, failure and left
	var open []*pgconn.PgConn
	var failure error
	left := clients
	take := func() bool {
		mu.Lock()
		defer mu.Unlock()
		left--
		return left >= 0 && failure == nil
	}
	var wg sync.WaitGroup
	for range connectors {
		wg.Go(func() { // ends when none is left to open
			for take() {
				conn, err := t.connect(ctx)
				if err == nil {
					_, err = conn.Exec(ctx, "SELECT 1").ReadAll()
				}
				mu.Lock()
				if conn != nil {
					open = append(open, conn)
				}
				if err != nil && failure == nil {
					failure = fmt.Errorf("open client %d of %d: %w", len(open)+1, clients, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return open, failure
}
