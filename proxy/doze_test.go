package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// dozes is a proxy whose clients doze as soon as the sweeper comes by.
func (r *rig) dozes(t testing.TB, edit func(*proxy.Config)) *running {
	t.Helper()
	return r.start(t, r.config(t, func(c *proxy.Config) {
		c.HTTP = "127.0.0.1:0"
		if edit != nil {
			edit(c)
		}
	}), proxy.WithRest(0))
}

// dozing waits until that many clients doze.
func (p *running) dozing(t testing.TB, n int) {
	t.Helper()
	eventually(t, strconv.Itoa(n)+" clients doze", func() bool { return sample(t, scrape(t, p), "pgtier_dozing_clients") == float64(n) })
}

// TestClientsThatDozeAreServedAsOthers has clients pause for as long as it takes to doze, or a little less or more, between
// what depends on their session's state.
func TestClientsThatDozeAreServedAsOthers(t *testing.T) {
	r := newRig(t)
	p := r.dozes(t, pools(func(c *pool.Config) { c.Size = 3 }))
	dozed := false
	var clients sync.WaitGroup
	for i := range 24 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			ctx, stop := context.WithTimeout(context.Background(), limit)
			defer stop()
			c, err := p.dial(t, p.dsn("postgres", ""))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close(context.Background()) }()
			name := fmt.Sprintf("client %d", i)
			if _, err := c.Exec(ctx, "SET application_name = '"+name+"'"); err != nil {
				t.Error(err)
				return
			}
			for n := range 12 {
				time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
				var got string
				switch random.IntN(3) {
				case 0: // prepared by name when it came first
					err = c.QueryRow(ctx, "SELECT current_setting('application_name') || $1::text", strconv.Itoa(n)).Scan(&got)
				case 1:
					tx, failed := c.Begin(ctx)
					if failed != nil {
						t.Error(failed)
						return
					}
					time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
					err = tx.QueryRow(ctx, "SELECT current_setting('application_name') || $1::text", strconv.Itoa(n)).Scan(&got)
					if failed := tx.Commit(ctx); failed != nil {
						t.Error(failed)
					}
				case 2:
					got, err = value(c, "SELECT current_setting('application_name') || "+strconv.Itoa(n))
				}
				if want := name + strconv.Itoa(n); err != nil || got != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }() // ends with the clients
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-time.After(20 * time.Millisecond):
			dozed = dozed || sample(t, scrape(t, p), "pgtier_dozing_clients") > 0
		}
	}
	if !dozed {
		t.Error("nobody dozed")
	}
}

func TestWhatWakesADozingClient(t *testing.T) {
	r := newRig(t)
	t.Run("a notification", func(t *testing.T) {
		p := r.dozes(t, nil)
		listener, other := p.client(t), p.client(t)
		mustValue(t, listener, "LISTEN news")
		p.dozing(t, 2)
		mustValue(t, other, "NOTIFY news, 'hear'")
		ctx, stop := context.WithTimeout(t.Context(), limit)
		defer stop()
		if n, err := listener.WaitForNotification(ctx); err != nil || n.Payload != "hear" {
			t.Errorf("got %v, %v", n, err)
		}
		p.dozing(t, 2)
	})
	t.Run("its end", func(t *testing.T) {
		p := r.dozes(t, nil)
		c := p.rawDial(t, wire.Protocol30)
		p.dozing(t, 1)
		_ = c.nc.Close()
		p.dozing(t, 0)
		eventually(t, "it is gone", func() bool { return len(p.Sessions()) == 0 })
	})
	t.Run("a time limit", func(t *testing.T) {
		p := r.dozes(t, pools(func(c *pool.Config) { c.ClientIdleTimeout = 4 * short }))
		c := p.rawDial(t, wire.Protocol30)
		p.dozing(t, 1)
		c.wantFarewell(t, "57P05")
		eventually(t, "it is gone", func() bool { return len(p.Sessions()) == 0 })
	})
	t.Run("a shutdown", func(t *testing.T) {
		p := r.dozes(t, nil)
		c := p.rawDial(t, wire.Protocol30)
		p.dozing(t, 1)
		ctx, stop := context.WithTimeout(t.Context(), limit)
		defer stop()
		if err := p.Drain(ctx); err != nil {
			t.Error(err)
		}
		c.wantFarewell(t, "57P01")
	})
	t.Run("half a message", func(t *testing.T) {
		p := r.dozes(t, nil)
		c := p.rawDial(t, wire.Protocol30)
		p.dozing(t, 1)
		query := wire.AppendQuery(nil, "SELECT 1")
		c.write(t, query[:3])
		p.dozing(t, 0)
		c.write(t, query[3:])
		if err := c.ready(); err != nil {
			t.Error(err)
		}
		p.dozing(t, 1)
	})
}

// TestWhoHasMoreToDoDoesNotDoze keeps the goroutine of those who are inside a transaction, or keep their server connection.
func TestWhoHasMoreToDoDoesNotDoze(t *testing.T) {
	r := newRig(t)
	p := r.dozes(t, nil)
	resting, begun, pinned := p.client(t), p.client(t), p.client(t)
	mustValue(t, begun, "BEGIN; SELECT 1")
	mustValue(t, pinned, "CREATE TEMPORARY TABLE mine ()")
	mustValue(t, resting, "SELECT 1")
	p.dozing(t, 1)
	time.Sleep(3 * short) // the sweeper has looked after all
	p.dozing(t, 1)
	mustValue(t, begun, "ROLLBACK")
	p.dozing(t, 2)
}
