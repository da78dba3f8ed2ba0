package proxy_test

import (
	"fmt"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
)

// TestChangesOfOneShardByNames makes a trigger on one shard alone, by a name or in messages without their Sync, which nobody plans: nothing is kept any more. What changes
// no schema leaves answers as they are.
func TestChangesOfOneShardByNames(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, withConsole)
	reader, boss, caches := s.p.client(t), s.p.console(t, "boss"), s.p.CachesOf(s.database)
	id := s.key(t, 1, 0)
	read := fmt.Sprintf("SELECT v FROM side WHERE id = %d", id)
	const trigger = "CREATE TRIGGER note AFTER UPDATE ON regs FOR EACH ROW EXECUTE FUNCTION note()"
	var m msgs
	at, keeps := m.query("SET pgtier.shard = 's1'"), m.query("SELECT pg_advisory_lock_shared(1)")
	here := m.query(fmt.Sprintf("UPDATE regs SET v = 0 WHERE id = %d", id))
	for i, tc := range []struct {
		name  string
		msgs  []msgs
		apart bool
	}{
		{"a name of a kept connection", []msgs{at, keeps, m.parse("f", trigger).sync(), m.run("f").sync()}, true},
		{"its unnamed statement", []msgs{at, keeps, m.parse("", trigger).sync(), m.run("").sync()}, true},
		{"a name that may mean anything", []msgs{at, keeps, m.parse("f", "SELECT 1").close("f").parse("f", trigger).sync(), m.run("f").sync()}, true},
		{"a name ahead of its Sync", []msgs{at, keeps, m.parse("f", trigger).sync(), m.query("BEGIN"), m.run("f").flush().sync(), m.query("COMMIT")}, true},
		{"a text ahead of its Sync", []msgs{at, keeps, m.query("BEGIN"), m.parse("", trigger).run("").flush().sync(), m.query("COMMIT")}, true},
		{"a hint ahead of its Sync", []msgs{m.query("BEGIN"), here, m.parse("", "/* pgtier: shard=s1 */ "+trigger).run("").flush().sync(), m.query("COMMIT")}, true},
		{"a name that only writes", []msgs{at, keeps, m.parse("f", "SELECT 1").close("f").parse("f", "UPDATE regs SET v = v").sync(), m.run("f").sync(), m.run("f").flush().sync()}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.primed(t, reader, read)
			c := s.p.rawDial(t, wire.Protocol30)
			defer func() { _ = c.nc.Close() }()
			for _, m := range tc.msgs {
				c.send(t, m)
			}
			if got := s.on(t, 1, "SELECT count(*) FROM pg_trigger WHERE tgname = 'note'") == "1"; got != tc.apart {
				t.Fatalf("there is a trigger: %v", got)
			}
			if got := caches[1].Away() != 0; got != tc.apart {
				t.Errorf("stands aside: %v", got)
				s.primed(t, reader, read) // and the read below is wrong
			}
			mustExec(t, reader, fmt.Sprintf("UPDATE regs SET v = %d WHERE id = %d", i+1, id))
			if got, want := mustValue(t, reader, read), s.on(t, 1, read); got != want {
				t.Errorf("read %s, the server says %s", got, want)
			}
			pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, "DROP TRIGGER IF EXISTS note ON regs")
			mustExec(t, boss, "RESET CACHE "+s.database)
		})
	}
}

// TestBackslashesThatAShardReadsOtherwise has code switch off standard_conforming_strings on one shard of a transaction over several, which the client does not hear of:
// a text that hides a write from the proxy then is refused as anywhere, and ends no answer because it writes nothing.
func TestBackslashesThatAShardReadsOtherwise(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	for _, m := range managers(s.cluster) {
		pgtest.Exec(t, m, s.database, `CREATE FUNCTION bump(k bigint) RETURNS int LANGUAGE plpgsql AS $$BEGIN UPDATE alone SET v = v + 1 WHERE id = k; RETURN 1; END$$;
			CREATE FUNCTION sets_off() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('standard_conforming_strings', 'off', true); RETURN 1; END$$`)
	}
	reader := s.p.client(t)
	mustExec(t, reader, "CREATE TABLE other (id int)") // so that the catalog is read again
	const read, hidden = "SELECT v FROM alone WHERE id = 1", "SELECT 'x\\'', bump(1) --'\nFROM alone"
	elsewhere := fmt.Sprintf("UPDATE regs SET v = 1 WHERE id = %d", s.key(t, 1, 0)) // joins first: it is the one whose parameters are told
	var m msgs
	for name, send := range map[string][]msgs{
		"behind a request": {m.query("SELECT sets_off()"), m.query(hidden)},
		"behind a Flush":   {m.parse("", "SELECT sets_off()").run("").flush().parse("", hidden).run("").sync()},
	} {
		t.Run(name, func(t *testing.T) {
			s.primed(t, reader, read)
			c := s.p.rawDial(t, wire.Protocol30)
			c.send(t, m.query("BEGIN"))
			c.send(t, m.query(elsewhere))
			c.send(t, m.query(read))
			for _, m := range send {
				c.send(t, m)
			}
			c.send(t, m.query("COMMIT"))
			if got, want := mustValue(t, reader, read), s.on(t, 0, read); got != want {
				t.Errorf("read %s, the server says %s", got, want)
			}
		})
	}
}
