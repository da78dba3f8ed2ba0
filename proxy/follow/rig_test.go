package follow

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
)

// patience bounds every wait of these tests; the machine may be busy with others.
const patience = 60 * time.Second

// quickConfig follows closely, so that tests need not wait, and bears a busy machine.
func quickConfig() Config {
	cfg := DefaultConfig()
	cfg.Ask = 5 * time.Millisecond
	cfg.Idle = 100 * time.Millisecond
	cfg.Survey = 100 * time.Millisecond
	cfg.Silence = 10 * time.Second
	cfg.RetryMost = 100 * time.Millisecond
	cfg.UnfitRest = 100 * time.Millisecond
	return cfg
}

// dialTo logs in to a database as user, "" the superuser, over the socket, where nobody is asked for a password.
func dialTo(server *localpg.Server, database, user string) Dial {
	if user == "" {
		user = "postgres"
	}
	return func(ctx context.Context, params []wire.Param) (*wire.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("%s/.s.PGSQL.%d", server.SocketDir, server.Port))
		if err != nil {
			return nil, err
		}
		conn := wire.NewConn(nc)
		defer context.AfterFunc(ctx, conn.Kick)()
		params = append([]wire.Param{{Name: "user", Value: user}, {Name: "database", Value: database}}, params...)
		if err = conn.Write(wire.AppendStartup(nil, wire.Protocol30, params)); err == nil {
			err = awaitReady(conn)
		}
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

// awaitReady reads the answer to a login.
func awaitReady(conn *wire.Conn) error {
	var in wire.Input
	defer in.Drop()
	for {
		f, err := in.ReadFrame(conn, wire.NewBuffers(), 1<<16)
		switch {
		case err != nil:
			return err
		case f.Type == wire.MsgErrorResponse:
			return wire.ParseError(f.Body())
		case f.Type == wire.MsgReadyForQuery:
			return nil
		}
	}
}

// told is one call of a sink.
type told struct {
	call   string // changing, changed, resumed, lost
	commit *Commit
	tables *Tables
}

// sink remembers what it is told, and checks the order that Sink promises.
type sink struct {
	t *testing.T

	mu      sync.Mutex
	all     []told
	open    map[*Commit]bool // changing, and not yet changed
	on      bool
	lastEnd LSN
	look    func(told) // nil: nobody; called inside
}

func (s *sink) note(e told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.call {
	case "changing":
		if !s.on {
			s.t.Errorf("Changing %d outside Resumed and Lost", e.commit.XID)
		}
		if s.open[e.commit] || e.commit.End <= s.lastEnd {
			s.t.Errorf("Changing %d at %s comes after %s", e.commit.XID, e.commit.End, s.lastEnd)
		}
		s.open[e.commit], s.lastEnd = true, e.commit.End
	case "changed":
		if !s.on || !s.open[e.commit] {
			s.t.Errorf("Changed %d without Changing", e.commit.XID)
		}
		delete(s.open, e.commit)
	case "resumed":
		s.on = true
	case "lost":
		if !s.on {
			s.t.Error("Lost twice")
		}
		s.on = false
		clear(s.open)
	}
	s.all = append(s.all, e)
	if s.look != nil {
		s.look(e)
	}
}

func (s *sink) Changing(c *Commit) { s.note(told{call: "changing", commit: c}) }
func (s *sink) Changed(c *Commit)  { s.note(told{call: "changed", commit: c}) }
func (s *sink) Resumed(t *Tables)  { s.note(told{call: "resumed", tables: t}) }
func (s *sink) Lost()              { s.note(told{call: "lost"}) }

// calls returns what was told so far.
func (s *sink) calls() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]told(nil), s.all...)
}

// count counts calls.
func (s *sink) count(call string) int {
	n := 0
	for _, e := range s.calls() {
		if e.call == call {
			n++
		}
	}
	return n
}

// rig is a Follower of a database.
type rig struct {
	*Follower
	*sink
	t        *testing.T
	server   *localpg.Server
	database string
	stop     func() // ends Run and waits
}

// start follows a database as user, "" the superuser, until the test ends.
func start(t *testing.T, server *localpg.Server, database, user string, cfg Config) *rig {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s := &sink{t: t, open: map[*Commit]bool{}}
	f := New(cfg, dialTo(server, database, user), s, zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ended by cancel
		f.Run(ctx)
		close(ended)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return &rig{Follower: f, sink: s, t: t, server: server, database: database, stop: stop}
}

// follow makes a database with schema and follows it, all its tables included.
func follow(t *testing.T, schema string, cfg Config) *rig {
	t.Helper()
	server := shared.Cluster(t).Shards[0].Manager
	database := pgtest.Database(t, server)
	pgtest.Exec(t, server, database, schema)
	r := start(t, server, database, "", cfg)
	r.awaitTables("SELECT count(*) FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')")
	return r
}

// awaitTables waits until as many tables are followed as the query counts.
func (r *rig) awaitTables(query string) {
	r.t.Helper()
	want := pgtest.Value(r.t, r.server, r.database, query)
	until(r.t, want+" tables are followed", func() bool {
		s := r.Stats()
		return s.Trouble == nil && fmt.Sprint(s.Tables) == want
	})
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("after %s still not: %s", patience, what)
		case <-tick.C:
		}
	}
}

// awaitFresh waits until everything that is committed now was told.
func (r *rig) awaitFresh() {
	r.t.Helper()
	now := time.Now()
	until(r.t, "fresh", func() bool { return r.Fresh().After(now) })
}

// exec runs SQL as the superuser.
func (r *rig) exec(sql string) {
	r.t.Helper()
	pgtest.Exec(r.t, r.server, r.database, sql)
}

// connect opens a session as the superuser.
func (r *rig) connect() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.server.URL(r.database, "", ""))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// must runs a statement in a session.
func must(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// changes renders what Changing told, a line a commit.
func (r *rig) changes() string {
	var b strings.Builder
	for _, e := range r.calls() {
		if e.call == "changing" {
			b.WriteString(render(e.commit) + "\n")
		}
	}
	return b.String()
}

// render writes a commit down.
func render(c *Commit) string {
	var parts []string
	if c.Whole {
		for _, t := range c.Tables {
			parts = append(parts, "whole "+t.Name)
		}
	}
	for _, change := range c.Changes {
		part := change.Kind.String() + " " + change.Table.Name
		for _, side := range []struct {
			name    string
			columns []Column
		}{{"old", change.Old}, {"new", change.New}} {
			if side.columns == nil {
				continue
			}
			part += " " + side.name
			for _, col := range side.columns {
				value := string(col.Value)
				switch col.State {
				case Null:
					value = "NULL"
				case Unchanged:
					value = "unchanged"
				case Absent:
					value = "absent"
				}
				part += " " + col.Name + "=" + value
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// expect compares what was told with what is wanted, once all is told.
func (r *rig) expect(want ...string) {
	r.t.Helper()
	r.awaitFresh()
	if got, want := r.changes(), strings.Join(want, "\n")+"\n"; got != want {
		r.t.Errorf("was told\n%swant\n%s", got, want)
	}
}
