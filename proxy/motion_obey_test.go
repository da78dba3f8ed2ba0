package proxy_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgtier/proxy/session"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/shard"
)

// TestHeldSessionsObey has sessions wait for a move, each in another way, and asks of them what any waiting session has to obey: a cancel, a time limit,
// the end of its client, KILL, PAUSE and the drain. The held statement of none is carried out before the release.
func TestHeldSessionsObey(t *testing.T) {
	t.Parallel()
	s, p := newSpreadWith(t, withConsole)
	hasty := s.config(t)
	d := hasty.Databases[s.database]
	d.Pool.QueryTimeout = time.Second
	hasty.Databases[s.database] = d
	limited := s.start(t, hasty)
	m := s.moving(t, hasty, 0)
	a, b := s.apart(t)
	span := []shard.Span{{First: m.bucket(a), Last: m.bucket(a)}}
	boss := p.console(t, "boss")
	write, wide := fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", a), "UPDATE accounts SET balance = balance + 1"
	inside := []string{"BEGIN", fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b)}
	ways := []struct {
		name   string
		before []string
		sent   []byte
	}{
		{"simple", nil, wire.AppendQuery(nil, write)},
		{"extended", nil, wire.AppendSync(unsynced("", write))},
		{"over shards", nil, wire.AppendQuery(nil, wide)},
		{"over shards, extended", nil, wire.AppendSync(unsynced("", wide))},
		{"in a transaction", inside, wire.AppendQuery(nil, write)},
		{"in a transaction over shards", append(inside, "SELECT count(*) FROM accounts"), wire.AppendQuery(nil, write)},
		{"behind BEGIN", []string{"BEGIN"}, wire.AppendQuery(nil, write)},
	}
	hold := func() { m.change(shardmap.Motion{Moving: span, Held: span, Near: true}) }
	release := func() { m.change(shardmap.Motion{}) }
	// waiting are clients of a proxy that wait in each way.
	waiting := func(t *testing.T, p *running) (clients []*rawClient) {
		t.Helper()
		for _, way := range ways {
			c := p.rawDial(t, wire.Protocol30)
			for _, sql := range way.before {
				if err := c.round(wire.AppendQuery(nil, sql)); err != nil {
					t.Fatal(err)
				}
			}
			clients = append(clients, c)
		}
		hold()
		for i, c := range clients {
			c.write(t, ways[i].sent)
		}
		p.held(t, int64(len(ways)))
		return clients
	}
	// goesOn checks that a session is not in a transaction that works, and serves what is not held.
	goesOn := func(t *testing.T, way string, c *rawClient) {
		t.Helper()
		for _, sql := range []string{"ROLLBACK", fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b)} {
			if err := c.round(wire.AppendQuery(nil, sql)); err != nil {
				t.Errorf("%s: afterwards %s: %v", way, sql, err)
			}
		}
	}
	told := func(t *testing.T, way string, c *rawClient, code string) {
		t.Helper()
		err := c.ready()
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s: heard %v, want %s", way, err, code)
		}
	}
	unchanged := func(t *testing.T) {
		t.Helper()
		if got := s.on(t, 0, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a)); got != "100" {
			t.Errorf("the balance is %s, want 100: a held statement was carried out", got)
		}
	}
	t.Run("cancel", func(t *testing.T) {
		clients := waiting(t, p)
		for i, c := range clients {
			if err := p.cancelWith(c.pid, c.key); err != nil {
				t.Fatal(err)
			}
			told(t, ways[i].name, c, "57014")
			goesOn(t, ways[i].name, c)
		}
		p.held(t, 0)
		release()
		unchanged(t)
	})
	t.Run("query_timeout", func(t *testing.T) {
		clients := make([]*rawClient, len(ways))
		for i := range ways {
			clients[i] = limited.rawDial(t, wire.Protocol30)
			for _, sql := range ways[i].before {
				if err := clients[i].round(wire.AppendQuery(nil, sql)); err != nil {
					t.Fatal(err)
				}
			}
		}
		hold()
		for i, c := range clients {
			c.write(t, ways[i].sent)
			told(t, ways[i].name, c, "57014")
			goesOn(t, ways[i].name, c)
		}
		limited.held(t, 0)
		release()
		unchanged(t)
	})
	t.Run("the client leaves", func(t *testing.T) {
		before := len(p.Sessions())
		for _, c := range waiting(t, p) {
			_ = c.nc.Close()
		}
		p.held(t, 0)
		eventually(t, "their sessions are over", func() bool { return len(p.Sessions()) <= before })
		eventually(t, "no connection is lent", func() bool { return p.Lent() == 0 })
		release()
		unchanged(t)
	})
	t.Run("KILL_CLIENT", func(t *testing.T) {
		clients := waiting(t, p)
		for _, at := range p.Sessions() {
			if at.Info().State == session.StateWaiting {
				mustValue(t, boss, fmt.Sprintf("KILL_CLIENT %d", at.Info().ID))
			}
		}
		for i, c := range clients {
			told(t, ways[i].name, c, "57P01")
		}
		p.held(t, 0)
		eventually(t, "no connection is lent", func() bool { return p.Lent() == 0 })
		release()
		unchanged(t)
	})
	t.Run("KILL", func(t *testing.T) {
		clients := waiting(t, p)
		mustValue(t, boss, "KILL "+s.database)
		for i, c := range clients {
			told(t, ways[i].name, c, "57P01")
		}
		p.held(t, 0)
		mustValue(t, boss, "RESUME "+s.database)
		release()
		unchanged(t)
	})
	t.Run("PAUSE", func(t *testing.T) {
		c := p.client(t)
		hold()
		done := later(c, write)
		p.held(t, 1)
		mustValue(t, boss, "PAUSE "+s.database) // it has no connection
		release()
		p.held(t, 0)
		p.waiting(t, 1)
		unchanged(t)
		mustValue(t, boss, "RESUME "+s.database)
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "101")
	})
	t.Run("drain", func(t *testing.T) {
		c := p.client(t)
		hold()
		done := later(c, write)
		p.held(t, 1)
		drained := make(chan error, 1)
		go func() { drained <- p.Drain(bounded(t)) }() // ends with the clients
		eventually(t, "idle clients have gone", func() bool { return p.Draining() && len(p.Sessions()) == 1 })
		release()
		if err := <-done; err != nil {
			t.Errorf("what waits is carried out: %v", err)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if got := s.on(t, 0, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a)); got != "102" {
			t.Errorf("the balance is %s, want 102", got)
		}
	})
	t.Run("the end", func(t *testing.T) {
		other := s.start(t, s.config(t))
		c := other.client(t)
		hold()
		done := later(c, write)
		other.held(t, 1)
		other.Close()
		if code := sqlstate(<-done); code != "57P01" {
			t.Errorf("heard %q, want 57P01", code)
		}
		release()
	})
}
