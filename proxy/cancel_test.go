package proxy_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// cancelWith sends a CancelRequest with that key and waits until the proxy has closed the connection.
func (p *running) cancelWith(pid uint32, key []byte) error {
	nc, err := dialTCP(p.address)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(limit))
	if _, err := nc.Write(wire.AppendCancelRequest(nil, pid, key)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, nc)
	return err
}

func (r *rig) sleeping(t testing.TB, n string) {
	t.Helper()
	eventually(t, n+" statements sleep on the server", func() bool {
		return r.connections(t, "state = 'active' AND wait_event = 'PgSleep'") == n
	})
}

func TestCancelReachesTheServer(t *testing.T) {
	r := newRig(t)
	for name, edit := range map[string]func(*proxy.Config){
		"plain": nil,
		"TLS on both sides": func(cfg *proxy.Config) {
			cfg.TLS.Client = r.clientTLS("require")
			r.setURL(cfg, r.url(t, "postgres", r.cluster.Password, "sslmode=verify-full&sslrootcert="+r.cluster.Certificates.CAFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.serve(t, edit)
			params := []string{"sslmode=prefer"}
			for _, version := range []string{"3.0", "3.2"} {
				c := p.client(t, append(params, "min_protocol_version="+version, "max_protocol_version="+version)...)
				done := later(c, "SELECT pg_sleep(30)")
				r.sleeping(t, "1")
				if err := c.PgConn().CancelRequest(bounded(t)); err != nil {
					t.Errorf("protocol %s: %v", version, err)
				}
				wantError(t, <-done, "57014", "canceling statement due to user request")
				wantValue(t, c, "SELECT 1", "1")
			}
		})
	}
}

func TestCancelWhileWaitingForAServer(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	waiter := p.client(t)
	end := hold(t, p.client(t))
	done := later(waiter, "SELECT 1")
	p.waiting(t, 1)
	if err := waiter.PgConn().CancelRequest(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-done, "57014", "canceling statement due to user request")
	end()
	wantValue(t, waiter, "SELECT 1", "1")
}

func TestCancelByPgxContext(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	c := p.client(t)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { // ends with ctx
		_, err := c.Exec(ctx, "SELECT pg_sleep(30)")
		done <- err
	}()
	r.sleeping(t, "1")
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.sleeping(t, "0")
}

func TestCancelWithTheWrongKeyDoesNothing(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	c := p.rawDial(t, wire.Protocol30)
	done := make(chan error, 1)
	go func() { done <- c.round(wire.AppendQuery(nil, "SELECT pg_sleep(0.5)")) }() // ends with the statement
	r.sleeping(t, "1")
	wrong := append([]byte(nil), c.key...)
	wrong[3] ^= 1
	for _, key := range [][]byte{wrong, nil, append(append([]byte(nil), c.key...), 0), c.key[:3]} {
		if err := p.cancelWith(c.pid, key); err != nil {
			t.Logf("key of %d bytes: %v", len(key), err)
		}
	}
	if err := p.cancelWith(c.pid+1000, c.key); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the statement ended with %v", err)
	}
}

// TestCancelNeverHitsTheNeighbour: on one server connection, a client cancels as often as it can while another runs
// statements that nobody may cancel.
func TestCancelNeverHitsTheNeighbour(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	const rounds = 100
	target, neighbour := p.rawDial(t, wire.Protocol30), p.client(t)
	var over atomic.Bool
	var all sync.WaitGroup
	all.Go(func() { // ends when the rounds are over
		for !over.Load() {
			if _, err := value(neighbour, "SELECT pg_sleep(0.001)"); err != nil {
				t.Errorf("the neighbour: %v", err)
				return
			}
		}
	})
	cancelled := 0
	for i := range rounds {
		if _, err := target.nc.Write(wire.AppendQuery(nil, "SELECT pg_sleep(0.002)")); err != nil {
			t.Fatal(err)
		}
		var cancels sync.WaitGroup
		for range 1 + i%3 {
			cancels.Go(func() {
				if err := p.cancelWith(target.pid, target.key); err != nil {
					t.Error(err)
				}
			})
		}
		var told *wire.Error
		err := target.ready()
		switch {
		case errors.As(err, &told) && told.Code == "57014":
			cancelled++
		case err != nil:
			t.Fatalf("round %d: %v", i, err)
		}
		if i%2 == 0 {
			cancels.Wait()
		}
		t.Cleanup(cancels.Wait)
	}
	over.Store(true)
	all.Wait()
	t.Logf("%d of %d statements were cancelled", cancelled, rounds)
	if cancelled == 0 {
		t.Error("no cancel arrived")
	}
}
