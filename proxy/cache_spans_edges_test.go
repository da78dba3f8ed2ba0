package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgtier/proxy"
	"pgtier/proxy/wire"
)

// bytesTold are the bytes that a client reads up to the next ReadyForQuery.
func (c *rawClient) bytesTold(t testing.TB) []byte {
	t.Helper()
	var out []byte
	_ = c.nc.SetReadDeadline(time.Now().Add(limit))
	for {
		kind, body, err := c.message()
		if err != nil {
			t.Fatalf("behind %q: %v", out, err)
		}
		out = append(append(out, kind), body...)
		if kind == wire.MsgReadyForQuery {
			return out
		}
	}
}

// spanRequests are requests that run a read of all shards to its end, each with what has to come before it, if anything.
func spanRequests(sql string) map[string]struct{ before, msgs []byte } {
	parse := func(name string) []byte { return wire.AppendParse(nil, name, []byte(sql), nil) }
	bind := func(dst []byte, name string) []byte { return wire.AppendBindText(dst, name, nil) }
	portal := func(dst []byte) []byte { return append(dst, wire.MsgDescribe, 0, 0, 0, 6, 'P', 0) }
	end := func(dst []byte) []byte { return wire.AppendSync(wire.AppendExecute(dst)) }
	return map[string]struct{ before, msgs []byte }{
		"simple":           {nil, wire.AppendQuery(nil, sql)},
		"unnamed":          {nil, end(bind(parse(""), ""))},
		"described":        {nil, end(portal(bind(parse(""), "")))},
		"bound again":      {wire.AppendSync(parse("")), end(portal(bind(nil, "")))},
		"named":            {wire.AppendSync(parse("mine")), end(bind(nil, "mine"))},
		"named, described": {wire.AppendSync(parse("mine")), end(portal(bind(nil, "mine")))},
		"not executed":     {nil, wire.AppendSync(portal(bind(parse(""), "")))},
	}
}

// TestHitsOfSpansAreWhatShardsSay compares every byte of an answer from memory with that of the shards, and what the unnamed statement is behind it.
func TestHitsOfSpansAreWhatShardsSay(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	long := "SELECT id, repeat('x', 3000) || v FROM regs ORDER BY id" // sent in several pieces
	after := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "", nil)))
	for _, sql := range []string{"SELECT id, v FROM regs ORDER BY id", "SELECT sum(v) FROM regs", "SELECT id FROM regs WHERE v > 1000", long} {
		for name, x := range spanRequests(sql) {
			asked := s.p.rawDial(t, wire.Protocol30)
			if err := asked.round(wire.AppendQuery(nil, "SET pgtier.cache = off")); err != nil {
				t.Fatal(err)
			}
			kept := s.p.rawDial(t, wire.Protocol30)
			for _, c := range []*rawClient{asked, kept} {
				if x.before != nil {
					if err := c.round(x.before); err != nil {
						t.Fatal(err)
					}
				}
			}
			asked.write(t, x.msgs)
			want := string(asked.bytesTold(t))
			asked.write(t, after)
			wantAfter := string(asked.bytesTold(t))
			hit := false
			eventually(t, name+" hit: "+sql, func() bool {
				hits := s.hits()
				kept.write(t, x.msgs)
				if got := string(kept.bytesTold(t)); got != want {
					t.Fatalf("%s: %s: heard %q, want %q", name, sql, got, want)
				}
				hit = s.hits() > hits
				return hit || name == "not executed"
			})
			kept.write(t, after)
			if got := string(kept.bytesTold(t)); got != wantAfter {
				t.Errorf("%s: %s: behind it heard %q, want %q", name, sql, got, wantAfter)
			}
			// In one write with others, in front and behind.
			kept.write(t, append(append(wire.AppendQuery(nil, "SELECT 1"), x.msgs...), wire.AppendQuery(nil, "SELECT 2")...))
			for i := range 3 {
				got := string(kept.bytesTold(t))
				if i == 1 && name != "bound again" && got != want {
					t.Errorf("%s between others: %s: heard %q, want %q", name, sql, got, want)
				}
			}
		}
	}
}

// TestErrorsThatShardsSayAreNotThatNoneIsThere has a function raise an error of the class of lost connections: the last answer must not take its place.
func TestErrorsThatShardsSayAreNotThatNoneIsThere(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, onDatabase(func(d *proxy.Database) { d.Cache.StaleOnError = time.Hour }))
	c := s.p.client(t)
	mustExec(t, c, `CREATE FUNCTION checked(bigint) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
		$$BEGIN IF $1 = 7 THEN RAISE EXCEPTION 'seven' USING ERRCODE = '08006'; END IF; RETURN true; END$$`)
	const sql = "SELECT count(*) FROM regs WHERE checked(v)"
	s.primed(t, c, sql)
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = 7 WHERE id = %d", s.key(t, 1, 0)))
	got, err := value(c, sql)
	if err == nil || !strings.Contains(err.Error(), "seven") {
		t.Errorf("got %s, %v; want what the shard says", got, err)
	}
}

// TestSpansWithNoticesAreNotKept has a function send a notice on one of the shards: each client hears of it, from there.
func TestSpansWithNoticesAreNotKept(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	c := s.p.client(t)
	mustExec(t, c, `CREATE FUNCTION told(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
		$$BEGIN IF $1 = 7 THEN RAISE NOTICE 'seven'; END IF; RETURN $1; END$$`)
	const sql = "SELECT sum(v) FROM regs WHERE told(v) >= 0"
	s.primed(t, c, sql)
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = 7 WHERE id = %d", s.key(t, 2, 0)))
	for name, x := range spanRequests(sql) {
		raw := s.p.rawDial(t, wire.Protocol30)
		if x.before != nil {
			if err := raw.round(x.before); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			hits := s.hits()
			raw.write(t, x.msgs)
			got := raw.bytesTold(t)
			if name == "not executed" {
				continue
			}
			if !strings.Contains(string(got), "seven") || s.hits() != hits {
				t.Errorf("%s: heard %q, %d of it from memory", name, got, s.hits()-hits)
			}
		}
	}
}

// TestACacheThatIsSwitchedOffHasNoAnswers switches it off.
func TestACacheThatIsSwitchedOffHasNoAnswers(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	s.primed(t, s.p.client(t), sumOfRegs)
	caches := s.p.CachesOf(s.database)
	size := func() (n int) {
		for _, c := range caches {
			answers, _ := c.Size()
			n += answers
		}
		return n
	}
	if size() == 0 {
		t.Fatal("nothing is kept")
	}
	off := s.cfg
	off.Databases = map[string]proxy.Database{}
	for name, d := range s.cfg.Databases {
		d.Cache.Enabled = false
		off.Databases[name] = d
	}
	if err := s.p.Reload(off); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is kept", func() bool { return size() == 0 })
}
