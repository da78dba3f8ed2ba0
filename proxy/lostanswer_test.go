package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// shears are TCP forwarders that cut connections. The next that brings a word is cut, before the server has it or when the server has answered.
type shears struct {
	mu       sync.Mutex
	word     string
	answered bool
	stalls   bool // the connection stays, and nothing more is heard over it
	cuts     int
}

// next has the next connection that brings word cut: with answered, what the server says to that is lost.
func (s *shears) next(word string, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.word, s.answered, s.cuts = word, answered, 0
}

// meets reports whether what a client sends is to be cut off, or the answer to it.
func (s *shears) meets(sent []byte) (cut, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.word == "" || !bytes.Contains(sent, []byte(s.word)) {
		return false, false
	}
	s.word = ""
	s.cuts++
	return true, s.answered
}

// cut fails the test where no connection was cut since next.
func (s *shears) cut(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cuts == 0 {
		t.Fatalf("no connection was cut: the test proves nothing")
	}
	s.word = ""
}

// port forwards to a server.
func (s *shears) port(t testing.TB, to string) uint16 {
	t.Helper()
	return forward(t, to, func() bool { return true }, func(in, out net.Conn) {
		var mu sync.Mutex
		deaf := false
		end := func() {
			_ = in.Close()
			_ = out.Close()
		}
		go func() { // ends with either side
			defer end()
			buf := make([]byte, 64<<10)
			for {
				n, err := out.Read(buf)
				mu.Lock()
				lost := deaf
				mu.Unlock()
				if lost && s.stalls && err == nil {
					continue
				}
				if err != nil || lost {
					return
				}
				if _, err := in.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
		go func() { // ends with either side
			defer end()
			buf := make([]byte, 64<<10)
			for {
				n, err := in.Read(buf)
				if err != nil {
					return
				}
				cut, answered := s.meets(buf[:n])
				if cut && !answered {
					return
				}
				mu.Lock()
				deaf = deaf || cut
				mu.Unlock()
				if _, err := out.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	})
}

// cutRig is a database of one server behind shears.
func cutRig(t testing.TB, sql string, edit func(*proxy.Config)) (*rig, *running, *shears) {
	t.Helper()
	r, s := newRig(t), &shears{}
	pgtest.Exec(t, r.manager, r.database, sql)
	port := s.port(t, r.manager.Address())
	p := r.serve(t, func(cfg *proxy.Config) {
		r.standsBehind(t, cfg, port)
		if edit != nil {
			edit(cfg)
		}
	})
	return r, p, s
}

// TestFateOfWhatANameRuns: the connection is lost behind what a statement has committed that the session's own connection knows by name.
func TestFateOfWhatANameRuns(t *testing.T) {
	r, p, s := cutRig(t, "CREATE TABLE t (v int)", nil)
	for name, send := range map[string][]byte{
		"with Sync":  wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "ins", nil))),
		"with Flush": append(wire.AppendExecute(wire.AppendBindText(nil, "ins", nil)), wire.MsgFlush, 0, 0, 0, 4),
	} {
		t.Run(name, func(t *testing.T) {
			raw := p.rawDial(t, wire.Protocol30)
			for _, msgs := range [][]byte{wire.AppendQuery(nil, "CREATE TEMP TABLE mine ()"), wire.AppendSync(wire.AppendParse(nil, "ins", []byte("INSERT INTO t VALUES (1) RETURNING 'a mark'"), nil))} {
				if err := raw.round(msgs); err != nil {
					t.Fatal(err)
				}
			}
			s.next("ins\x00", true)
			raw.write(t, send)
			told, err := raw.farewell()
			s.cut(t)
			n := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM t")
			if err != nil || told.Code != "08007" {
				t.Errorf("got %+v, %v, and %s rows are there", told, err, n)
			}
		})
	}
}

// TestFateOfWhatCannotBeReadBack: a transaction is committed, and the connection is lost where what it has changed of the session is asked for. The client must not
// take it for undone, and must not go on with what was before.
func TestFateOfWhatCannotBeReadBack(t *testing.T) {
	_, p, s := cutRig(t, "CREATE TABLE t (v int)", nil)
	flushed := append(wire.AppendExecute(wire.AppendBindText(wire.AppendParse(nil, "", []byte("SET work_mem = '7MB'"), nil), "", nil)), wire.MsgFlush, 0, 0, 0, 4)
	for name, tc := range map[string]struct {
		word string
		msgs [][]byte
	}{
		"a setting in one text":      {readsBack, [][]byte{wire.AppendQuery(nil, "INSERT INTO t VALUES (1); SET work_mem = '7MB'")}},
		"a setting in a transaction": {readsBack, [][]byte{wire.AppendQuery(nil, "BEGIN"), wire.AppendQuery(nil, "INSERT INTO t VALUES (1); SET work_mem = '7MB'"), wire.AppendQuery(nil, "COMMIT")}},
		"a setting behind a Flush":   {readsBack, [][]byte{wire.AppendSync(flushed)}},
		"LISTEN":                     {"pg_listening_channels", [][]byte{wire.AppendQuery(nil, "BEGIN"), wire.AppendQuery(nil, "INSERT INTO t VALUES (1); LISTEN news"), wire.AppendQuery(nil, "COMMIT")}},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, wire.Protocol30)
			last := len(tc.msgs) - 1
			for _, msgs := range tc.msgs[:last] {
				if err := c.round(msgs); err != nil {
					t.Fatal(err)
				}
			}
			s.next(tc.word, false)
			c.write(t, tc.msgs[last])
			told, err := c.farewell()
			s.cut(t)
			if err != nil || told.Code != "08007" {
				t.Errorf("got %+v, %v", told, err)
			}
		})
	}
}

// readsBack is a part of the question for settings that a transaction may have changed.
const readsBack = "SELECT pg_catalog.current_setting($1"

// TestSettingsBesideWhatMayBeCommitted loses the answer to one text that writes and sets. Its client may find what it wrote, and must not go on as if it knew the setting.
func TestSettingsBesideWhatMayBeCommitted(t *testing.T) {
	_, p, s := cutRig(t, "CREATE TABLE t (v int)", nil)
	for sql, ends := range map[string]bool{
		"INSERT INTO t VALUES (1); SET work_mem = '7MB'": true,
		"SET work_mem = '7MB'":                           false,
		"INSERT INTO t VALUES (1)":                       false,
	} {
		c := p.client(t)
		s.next(sql, true)
		_, err := value(c, sql)
		s.cut(t)
		if sqlstate(err) != "08007" || c.IsClosed() != ends {
			t.Errorf("%s: %v, and the session is over: %t", sql, err, c.IsClosed())
		}
	}
}

// TestStrongReadsSeeWhatCouldNotBeReadBack has a client hear of a write, and lose the connection where its settings are asked for.
func TestStrongReadsSeeWhatCouldNotBeReadBack(t *testing.T) {
	s := &shears{}
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int)", func(d *proxy.Database) {
		_, to := d.Shards[0].Manager.Address()
		d.Shards[0].Manager.Port = s.port(t, to)
	})
	probe, reader, writer := p.client(t), p.client(t), p.client(t)
	for _, r := range []*pgx.Conn{probe, reader} {
		mustExec(t, r, "SET pgtier.consistency = 'strong'")
	}
	eventually(t, "strong reads go to the replica", func() bool {
		mustValue(t, probe, "SELECT count(*) FROM t")
		return strings.HasPrefix(mustValue(t, probe, "SHOW pgtier.last_route"), "replica")
	})
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	s.next(readsBack, false)
	_, err := value(writer, "INSERT INTO t VALUES (1); SET work_mem = '7MB'")
	got := mustValue(t, reader, "SELECT count(*) FROM t")
	s.cut(t)
	if sqlstate(err) != "08007" || got != "1" {
		t.Errorf("%v, and %s rows are read", err, got)
	}
}

// TestCodeThatMayHaveChanged loses the answer to a change of what a function does.
func TestCodeThatMayHaveChanged(t *testing.T) {
	_, p, s := cutRig(t, "CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'", nil)
	c, other := p.client(t), p.client(t)
	p.readsCatalog(t)
	mustExec(t, other, "SELECT later()")
	s.next("pg_advisory_lock", true)
	_, err := value(c, "CREATE OR REPLACE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_advisory_lock(4)'")
	s.cut(t)
	if sqlstate(err) != "08007" {
		t.Error(err)
	}
	mustExec(t, other, "SELECT later()")
	if !slices.ContainsFunc(p.Sessions(), func(s *session.Session) bool { return s.Info().Pin != "" }) {
		t.Error("the lock that it takes is on a connection that others are given")
	}
}

// TestLostInACommitOfSeveralShards loses connections around the commit of what has written on two shards.
func TestLostInACommitOfSeveralShards(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, localpg.Options{Shards: 2, Replicas: 1, Settings: map[string]string{"max_prepared_transactions": "20"}})
	for _, m := range managers(cluster) {
		pgtest.Exec(t, m, "postgres", "CREATE DATABASE bank")
	}
	var cuts [2]*shears
	s, p := spreadOver(t, cluster, "bank", onDatabase(func(d *proxy.Database) {
		for i, shard := range cluster.Shards {
			at := d.Shards[i].Manager
			at.Port = uint16(shard.Replicas[0].Port)
			d.Shards[i].Replicas = []proxy.Replica{{URL: at, Weight: 1}}
			cuts[i] = &shears{}
			d.Shards[i].Manager.Port = cuts[i].port(t, shard.Manager.Address())
		}
	}))
	rows := 0
	// begins has c write a row of each shard that nobody has written before: a transaction in doubt keeps its locks for a while.
	begins := func(t *testing.T, c *pgx.Conn, more ...string) (first string) {
		t.Helper()
		mustExec(t, c, "BEGIN")
		for i := range cuts {
			id := s.on(t, i, fmt.Sprintf("SELECT id FROM accounts ORDER BY id OFFSET %d LIMIT 1", rows))
			mustExec(t, c, "UPDATE accounts SET balance = 7 WHERE id = "+id)
			if i == 0 {
				first = id
			}
		}
		rows++
		for _, sql := range more {
			mustExec(t, c, sql)
		}
		return first
	}
	ends := func(t *testing.T, c *pgx.Conn, over bool) {
		t.Helper()
		if _, err := value(c, "COMMIT"); sqlstate(err) != "08007" || c.IsClosed() != over {
			t.Errorf("%v, and the session is over: %t", err, c.IsClosed())
		}
	}
	t.Run("where the home shard tells to what it listens", func(t *testing.T) {
		c := p.client(t)
		begins(t, c, "LISTEN news")
		cuts[0].next("pg_listening_channels", false)
		ends(t, c, true)
		cuts[0].cut(t)
	})
	t.Run("where both tell what was set", func(t *testing.T) {
		c := p.client(t)
		begins(t, c, "SET work_mem = '7MB'")
		cuts[0].next(readsBack, false)
		cuts[1].next(readsBack, false)
		ends(t, c, true)
		cuts[0].cut(t)
		cuts[1].cut(t)
	})
	t.Run("where one tells what was set", func(t *testing.T) {
		c := p.client(t)
		begins(t, c, "SET work_mem = '7MB'")
		cuts[0].next(readsBack, false)
		mustValue(t, c, "COMMIT")
		cuts[0].cut(t)
		wantValue(t, c, "SHOW work_mem", "7MB")
	})
	t.Run("outside of a transaction", func(t *testing.T) {
		c := p.client(t)
		cuts[1].next("CONCURRENTLY", true)
		if _, err := value(c, "CREATE INDEX CONCURRENTLY by_owner ON accounts (owner)"); sqlstate(err) != "08007" {
			t.Errorf("%v, and the first shard has %q", err, s.on(t, 0, "SELECT to_regclass('by_owner')"))
		}
		cuts[1].cut(t)
	})
	t.Run("where the session is ended while it is decided", func(t *testing.T) {
		stall := &shears{stalls: true}
		cfg := s.config(t)
		d := cfg.Databases[s.database]
		d.Shards[0].Manager.Port = stall.port(t, cluster.Shards[0].Manager.Address())
		cfg.Databases[s.database] = d
		c := s.start(t, cfg).client(t)
		mustExec(t, c, "LISTEN ends")
		begins(t, c)
		stall.next("; COMMIT", true)
		done := later(c, "COMMIT")
		eventually(t, "it is decided", func() bool {
			stall.mu.Lock()
			defer stall.mu.Unlock()
			return stall.cuts > 0
		})
		s.on(t, 0, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN "ends"' AND datname = current_database()`)
		if err := <-done; sqlstate(err) != "08007" {
			t.Error(err)
		}
	})
	t.Run("where it is decided, with settings", func(t *testing.T) {
		c := p.client(t)
		begins(t, c, "SET work_mem = '7MB'")
		cuts[0].next("; COMMIT", true)
		ends(t, c, true)
		cuts[0].cut(t)
	})
	t.Run("where it is decided, before a read", func(t *testing.T) {
		c := p.client(t)
		if err := s.cluster.Shards[0].CatchUp(bounded(t)); err != nil {
			t.Fatal(err)
		}
		s.replays(t, 0, false)
		defer s.replays(t, 0, true)
		eventually(t, "reads go to the replica", func() bool {
			mustValue(t, c, "SELECT count(*) FROM accounts WHERE id = "+s.on(t, 0, "SELECT min(id) FROM accounts"))
			return strings.Contains(mustValue(t, c, "SHOW pgtier.last_route"), "replica s0-r1")
		})
		id := begins(t, c)
		cuts[0].next("; COMMIT", true)
		ends(t, c, false)
		cuts[0].cut(t)
		read := "SELECT balance FROM accounts WHERE id = " + id
		wantValue(t, c, read, s.on(t, 0, read))
	})
}

// TestEveryRequestHearsOfALoss loses the connection that brings two requests: neither is answered as if there had been nothing to do.
func TestEveryRequestHearsOfALoss(t *testing.T) {
	_, p, s := cutRig(t, "CREATE TABLE t (v int)", nil)
	c := p.rawDial(t, wire.Protocol30)
	for _, requests := range [][]byte{
		append(wire.AppendQuery(nil, "INSERT INTO t VALUES (1)"), wire.AppendQuery(nil, "INSERT INTO t VALUES (2)")...),
		append(inOneTurn("INSERT INTO t VALUES (1)"), inOneTurn("INSERT INTO t VALUES (2)")...),
	} {
		s.next("VALUES (1)", false)
		if got := c.kinds(t, requests, len("EZIEZI"), "08007"); got != "EZIEZI" {
			t.Errorf("got %q", got)
		}
		s.cut(t)
	}
}

// TestNobodyIsGivenAnotherRole loses one of three shards while they prepare: those that have prepared undo it as the role of their login, which whoever is given their connections
// next must not be.
func TestNobodyIsGivenAnotherRole(t *testing.T) {
	t.Parallel()
	s := &shears{}
	b, p := newSpreadOf(t, spreadOptions, onDatabase(func(d *proxy.Database) {
		d.Pool.Size = 1
		d.Shards[2].Manager.Port = s.port(t, fmt.Sprintf("127.0.0.1:%d", d.Shards[2].Manager.Port))
	}))
	for i, m := range managers(b.cluster) {
		pgtest.Exec(t, m, "postgres", "CREATE ROLE clerk")
		pgtest.Exec(t, m, b.database, "GRANT ALL ON accounts TO clerk")
		if ids := b.on(t, i, "SELECT count(*) FROM accounts"); ids == "0" {
			t.Fatal("a shard has no row")
		}
	}
	c := p.client(t)
	mustExec(t, c, "SET ROLE clerk")
	s.next("PREPARE TRANSACTION", false)
	if _, err := value(c, "UPDATE accounts SET balance = 7"); sqlstate(err) != "08006" {
		t.Error(err)
	}
	s.cut(t)
	for i := range managers(b.cluster) {
		wantValue(t, c, "SELECT current_user FROM accounts WHERE id = "+b.on(t, i, "SELECT min(id) FROM accounts"), "clerk")
	}
}
