package proxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
)

// msgs builds messages.
type msgs []byte

func (m msgs) parse(name, sql string) msgs { return wire.AppendParse(m, name, []byte(sql), nil) }

func (m msgs) query(sql string) msgs { return wire.AppendQuery(m, sql) }

func (m msgs) run(name string, params ...string) msgs {
	var list []*string
	for i := range params {
		list = append(list, &params[i])
	}
	return wire.AppendExecute(wire.AppendBindText(m, name, list))
}

// portal binds a statement to a portal, with a parameter.
func (m msgs) portal(portal, name, param string) msgs {
	out, at := wire.Begin(m, wire.MsgBind)
	out = wire.AppendString(wire.AppendString(out, portal), name)
	out = append(out, 0, 0, 0, 1)
	out = append(binary.BigEndian.AppendUint32(out, uint32(len(param))), param...)
	return wire.End(append(out, 0, 0), at)
}

// execute runs a portal to its end.
func (m msgs) execute(portal string) msgs {
	out, at := wire.Begin(m, wire.MsgExecute)
	return wire.End(append(wire.AppendString(out, portal), 0, 0, 0, 0), at)
}

func (m msgs) close(name string) msgs { return wire.AppendCloseStatement(m, name) }

func (m msgs) closePortal(name string) msgs {
	out, at := wire.Begin(m, wire.MsgClose)
	return wire.End(wire.AppendString(append(out, 'P'), name), at)
}

func (m msgs) sync() msgs { return wire.AppendSync(m) }

func (m msgs) flush() msgs { return wire.AppendEmpty(m, wire.MsgFlush) }

// call is a FunctionCall without arguments.
func (m msgs) call(oid uint32) msgs {
	out, at := wire.Begin(m, wire.MsgFunction)
	out = binary.BigEndian.AppendUint32(out, oid)
	return wire.End(append(out, 0, 0, 0, 0, 0, 0), at)
}

// nameSQL makes functions that prepare a name anew.
const nameSQL = `CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept SELECT i, 0 FROM generate_series(1, 99) i;
CREATE TABLE side (id int);
CREATE FUNCTION anew_dynamic() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE 'DEALLOCATE a'; EXECUTE 'PREPARE a(int) AS UPDATE kept SET v = v + 1 WHERE id = $1'; RETURN 1; END$$;
CREATE FUNCTION anew_static() RETURNS int LANGUAGE plpgsql AS $$BEGIN DEALLOCATE a; PREPARE a(int) AS UPDATE kept SET v = v + 1 WHERE id = $1; RETURN 1; END$$;
CREATE FUNCTION anew_sql() RETURNS int LANGUAGE sql AS $$DEALLOCATE a; PREPARE a(int) AS UPDATE kept SET v = v + 1 WHERE id = $1; SELECT 1$$;
CREATE FUNCTION anew_later() RETURNS int LANGUAGE sql AS $$SELECT 1$$;
CREATE FUNCTION anew_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE 'DEALLOCATE a'; EXECUTE 'PREPARE a(int) AS UPDATE kept SET v = v + 1 WHERE id = $1'; RETURN NULL; END$$;
CREATE TRIGGER anew AFTER INSERT ON side FOR EACH ROW EXECUTE FUNCTION anew_trigger();
CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS $m$BEGIN CREATE OR REPLACE FUNCTION anew_later() RETURNS int LANGUAGE plpgsql AS $$BEGIN DEALLOCATE a; PREPARE a(int) AS UPDATE kept SET v = v + 1 WHERE id = $1; RETURN 1; END$$; RETURN 1; END$m$;
CREATE PROCEDURE makes_too() LANGUAGE plpgsql AS 'BEGIN PERFORM makes(); END';
CREATE FUNCTION sets_off() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('standard_conforming_strings', 'off', true); RETURN 1; END$$`

// TestWritesByNamesThatMeantReads writes by prepared statements on connections that sessions keep, whose names have meant, or may seem to mean, a read: the answer ends.
func TestWritesByNamesThatMeantReads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, nameSQL)
	p, hits := r.keepsTables(t, nil)
	reader := p.client(t)
	oid := func(function string) (n uint32) {
		_, err := fmt.Sscan(pgtest.Value(t, r.manager, r.database, "SELECT '"+function+"'::regproc::oid"), &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const (
		selects, updates = "SELECT v FROM kept WHERE id = $1", "UPDATE kept SET v = v + 1 WHERE id = $1"
		anew             = "DEALLOCATE a; PREPARE a(int) AS " + updates
		later            = "CREATE OR REPLACE FUNCTION anew_later() RETURNS int LANGUAGE plpgsql AS $$BEGIN " + anew + "; RETURN 1; END$$"
		quoted           = `SELECT 'x\''; ` + anew + `; --'`
	)
	long := strings.Repeat("n", 63)
	var m msgs // none
	keeps, reads := m.query("SELECT pg_advisory_lock_shared(1)"), m.parse("a", selects).sync()
	off := m.query("SET standard_conforming_strings = off")
	hidden := func(id string) msgs {
		return m.query(`SELECT 'x\''; UPDATE kept SET v = v + 1 WHERE id = ` + id + `; --'`)
	}
	within := func(character string) func(id string) msgs {
		return func(id string) msgs {
			return m.query("SELECT E'" + character + "\\'; UPDATE kept SET v = v + 1 WHERE id = " + id + "; --'")
		}
	}
	named := func(name string) func(id string) msgs { return func(id string) msgs { return m.run(name, id).sync() } }
	a, unnamed := named("a"), named("")
	for i, attack := range []struct {
		name   string
		before []msgs
		other  string // another session does that
		then   []msgs
		write  func(id string) msgs
	}{
		{"a function call prepares anew", []msgs{keeps, reads, m.call(oid("anew_dynamic"))}, "", nil, a},
		{"a function call that pins", []msgs{reads, m.call(oid("anew_dynamic"))}, "", nil, a},
		{"EXECUTE in a function", []msgs{keeps, reads, m.query("SELECT anew_dynamic()")}, "", nil, a},
		{"PREPARE in a function", []msgs{keeps, reads, m.query("SELECT anew_static()")}, "", nil, a},
		{"PREPARE in a function that pins", []msgs{reads, m.query("SELECT anew_static()")}, "", nil, a},
		{"PREPARE in a function in SQL", []msgs{keeps, reads, m.query("SELECT anew_sql()")}, "", nil, a},
		{"a trigger", []msgs{keeps, reads, m.query("INSERT INTO side VALUES (1)")}, "", nil, a},
		{"a trigger that pins", []msgs{reads, m.query("INSERT INTO side VALUES (1)")}, "", nil, a},
		{"DO", []msgs{keeps, reads, m.query("DO $$BEGIN " + anew + "; END$$")}, "", nil, a},
		{"code that the text makes", []msgs{keeps, reads, m.query(later + "; SELECT anew_later()")}, "", nil, a},
		{"code that the transaction makes", []msgs{keeps, reads, m.query("BEGIN"), m.query(later), m.query("SELECT anew_later()"), m.query("COMMIT")}, "", nil, a},
		{"code that a function makes in the transaction", []msgs{keeps, reads, m.query("BEGIN"), m.query("SELECT makes()"), m.query("SELECT anew_later()"), m.query("COMMIT")}, "", nil, a},
		{"code that a procedure makes in the same write", []msgs{keeps, reads, m.query("CALL makes_too()").query("SELECT anew_later()")}, "", nil, a},
		{"code that DO makes and runs", []msgs{keeps, reads, m.query("DO $d$BEGIN " + later + "; PERFORM anew_later(); END$d$")}, "", nil, a},
		{"code that the pipeline makes", []msgs{keeps, reads, m.query(later).query("SELECT anew_later()")}, "", nil, a},
		{"code made anew, run by a known name", []msgs{keeps, reads, m.parse("f", "SELECT anew_later()").sync()}, later, []msgs{m.run("f").sync()}, a},
		{"code made anew, run by the unnamed statement", []msgs{keeps, reads, m.parse("", "SELECT anew_later()").sync()}, later, []msgs{m.run("").sync()}, a},
		{"code made anew, run by EXECUTE", []msgs{keeps, reads, m.query("PREPARE f AS SELECT anew_later()")}, later, []msgs{m.query("EXECUTE f")}, a},
		{"code made anew, run by what SQL prepared", []msgs{keeps, reads, m.query("PREPARE f AS SELECT anew_later()")}, later, []msgs{m.run("f").sync()}, a},
		{"code made anew before the pin, run by EXECUTE", []msgs{m.parse("f", "SELECT anew_later()").sync()}, later, []msgs{keeps, reads, m.query("EXECUTE f")}, a},
		{"code made anew before the pin, run by what SQL prepared", []msgs{m.query("PREPARE f AS SELECT anew_later()")}, later, []msgs{keeps, reads, m.run("f").sync()}, a},
		{"code that the transaction makes, run by what SQL prepared", []msgs{keeps, reads, m.query("PREPARE f AS SELECT anew_later()"), m.query("BEGIN"), m.query(later), m.run("f").sync(), m.query("COMMIT")}, "", nil, a},
		{"a function that SQL prepared", []msgs{keeps, reads, m.query("PREPARE f AS SELECT anew_dynamic()"), m.query("EXECUTE f")}, "", nil, a},
		{"a function that SQL prepared before the pin", []msgs{m.query("PREPARE f AS SELECT anew_dynamic()"), keeps, reads, m.query("EXECUTE f")}, "", nil, a},
		{"code behind a Flush", []msgs{m.run("none").sync(), m.parse("", "DO $$BEGIN PREPARE a(int) AS "+updates+"; END$$").run("").flush().sync(), reads}, "", nil, a},
		{"SQL behind backslashes", []msgs{keeps, off, reads, m.query(quoted)}, "", nil, a},
		{"SQL behind backslashes that pin", []msgs{off, reads, m.query(quoted)}, "", nil, a},
		{"SQL behind backslashes, in one write", []msgs{keeps, reads, append(off, m.query(quoted)...)}, "", nil, a},
		{"a write behind backslashes", []msgs{keeps, off}, "", nil, hidden},
		{"a write behind backslashes that pin", []msgs{off}, "", nil, hidden},
		{"a write behind backslashes, in one write", nil, "", nil, func(id string) msgs { return append(off, hidden(id)...) }},
		{"a write behind backslashes for the transaction, in one write on a kept connection", []msgs{keeps}, "", nil,
			func(id string) msgs {
				return append(m.query("BEGIN").query("SET LOCAL standard_conforming_strings = off"), hidden(id).query("COMMIT")...)
			}},
		{"a write behind a backslash that is part of a character", []msgs{m.query("SET client_encoding = 'SJIS'")}, "", nil, within("\x95")},
		{"a write behind a backslash that is part of a character of two", []msgs{m.query("SET client_encoding = 'SJIS'")}, "", nil, within("\xe3\x81\x83")},
		{"a write behind a backslash that is part of a character, in one write", nil, "", nil,
			func(id string) msgs { return append(m.query("SET client_encoding = 'SJIS'"), within("\x95")(id)...) }},
		{"a write behind backslashes that code in the same write has made so", nil, "", nil,
			func(id string) msgs {
				return append(m.query("BEGIN").query("SELECT sets_off()"), hidden(id).query("COMMIT")...)
			}},
		{"a write behind backslashes that code in the same write has made so, on a kept connection", []msgs{keeps}, "", nil,
			func(id string) msgs {
				return append(m.query("BEGIN").query("SELECT sets_off()"), hidden(id).query("COMMIT")...)
			}},
		{"a write behind backslashes that code ahead of a Flush has made so", nil, "", nil,
			func(id string) msgs { return append(m.parse("", "SELECT sets_off()").run("").flush(), hidden(id)...) }},
		{"a write behind backslashes that a name has made so, on a kept connection", []msgs{keeps, m.parse("s", "SELECT sets_off()").sync()}, "", nil,
			func(id string) msgs { return append(m.query("BEGIN").run("s").sync(), hidden(id).query("COMMIT")...) }},
		{"a write behind backslashes, in one write on a kept connection", []msgs{keeps}, "", nil, func(id string) msgs { return append(off, hidden(id)...) }},
		{"the unnamed statement whose Parse is skipped", []msgs{keeps, m.parse("", updates).sync()}, "", nil,
			func(id string) msgs {
				return m.parse("bad", "SELECT nope").parse("", selects).sync().run("", id).sync()
			}},
		{"the unnamed statement whose Parse was skipped", []msgs{keeps, m.parse("", updates).sync(), m.parse("bad", "SELECT nope").parse("", selects).sync()}, "", nil, unnamed},
		{"the unnamed statement whose Parse was refused", []msgs{keeps, m.parse("", updates).sync(),
			m.parse("", selects).parse("bad", "SET pgtier.consistency = 'nonsense'").sync(), m.sync()}, "", nil, unnamed},
		{"the unnamed statement that is another now", []msgs{m.parse("", selects).sync(), keeps, m.parse("", updates).sync()}, "", nil, unnamed},
		{"the unnamed statement that is another now, behind a Flush", []msgs{m.parse("", selects).sync(), m.parse("", "SELECT pg_advisory_lock_shared(1)").run("").sync(), m.parse("", updates).sync()}, "", nil,
			func(id string) msgs { return m.run("", id).flush().sync() }},
		{"the unnamed statement as it was", []msgs{keeps, m.parse("", updates).sync(), m.sync()}, "", nil, unnamed},
		{"a COMMIT by its name, before what fails", []msgs{keeps, m.parse("u", updates).sync(), m.parse("c", "COMMIT").sync()}, "", nil, func(id string) msgs { return m.run("u", id).run("c").run("u", "x").sync() }},
		{"a COMMIT without a name, before what fails", []msgs{keeps, m.parse("u", updates).sync(), m.parse("", "COMMIT").sync()}, "", nil, func(id string) msgs { return m.run("u", id).run("").run("u", "x").sync() }},
		{"several statements of a text", []msgs{keeps, reads, m.query(anew)}, "", nil, a},
		{"EXECUTE in EXPLAIN", []msgs{keeps, m.parse("a", updates).sync()}, "", nil, func(id string) msgs { return m.query("EXPLAIN ANALYZE EXECUTE a(" + id + ")") }},
		{"a portal whose statement is another now", []msgs{keeps, m.parse("a", updates).sync(), m.query("BEGIN")}, "", nil, func(id string) msgs {
			return append(m.portal("p", "a", id).close("a").parse("a", selects).sync().execute("p").sync(), m.query("COMMIT")...)
		}},
		{"a name closed and prepared anew where that is skipped", []msgs{keeps, m.parse("a", updates).sync(), m.parse("bad", "SELECT nope").close("a").parse("a", selects).sync()}, "", nil, a},
		{"a name whose Parse is skipped", []msgs{keeps, m.parse("a", updates).sync()}, "", nil,
			func(id string) msgs {
				return m.parse("bad", "SELECT nope").parse("a", selects).sync().run("a", id).sync()
			}},
		{"what SQL prepared, behind a Flush", []msgs{m.query("PREPARE a(int) AS " + updates)}, "", nil, func(id string) msgs { return m.run("a", id).flush().sync() }},
		{"what SQL prepared, behind a Flush on a kept connection", []msgs{m.query("PREPARE a(int) AS " + updates), keeps}, "", nil, func(id string) msgs { return m.run("a", id).flush().sync() }},
		{"names that are too long", []msgs{keeps, m.parse(long+"1", updates).sync(), m.parse(long+"2", selects).sync()}, "", nil, named(long + "2")},
		{"names that are too long in SQL", []msgs{keeps, m.parse(long+"1", selects).sync(), m.query("DEALLOCATE " + long), m.query("PREPARE " + long + "1(int) AS " + updates)}, "", nil, named(long + "1")},
		{"names in another encoding", []msgs{keeps, m.query("SET client_encoding = 'LATIN1'"), m.parse("\xe9", updates).sync(), m.query("SET client_encoding = 'UTF8'"), m.parse("é", selects).sync()}, "", nil, named("é")},
		{"what sessions share", []msgs{m.parse("mine", updates).run("mine", "0").sync().close("mine").sync()}, "", nil, shared},
		{"what sessions share, on a kept connection", []msgs{m.parse("mine", updates).run("mine", "0").sync().close("mine").sync(), keeps}, "", nil, shared},
	} {
		t.Run(attack.name, func(t *testing.T) {
			id := fmt.Sprint(i + 1)
			read := "SELECT v AS v" + id + " FROM kept WHERE id = " + id // no other has its record: one that is asked for in vain 1,000 times rests (cache.Record)
			c := p.rawDial(t, wire.Protocol30)
			defer func() { _ = c.nc.Close() }()
			rounds := func(list []msgs) {
				t.Helper()
				for _, m := range list {
					c.send(t, m)
				}
			}
			if strings.HasPrefix(attack.name, "code") {
				mustExec(t, reader, "CREATE OR REPLACE FUNCTION anew_later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
				p.readsCatalog(t)
			}
			rounds(attack.before)
			if attack.other != "" {
				mustExec(t, reader, attack.other)
				if strings.Contains(attack.name, "before the pin") {
					p.readsCatalog(t)
				}
			}
			rounds(attack.then)
			eventually(t, "hit", func() bool {
				before := hits()
				wantValue(t, reader, read, "0")
				return hits() > before
			})
			rounds([]msgs{attack.write(id)})
			got, want := mustValue(t, reader, read), pgtest.Value(t, r.manager, r.database, read)
			if got != want {
				t.Errorf("served %s, the server has %s", got, want)
			}
			if written := want != "0"; written == strings.HasPrefix(attack.name, "what sessions share") {
				t.Errorf("the server has %s", want)
			}
		})
	}
}

// shared runs whatever servers may have by the names of statements that sessions share.
func shared(id string) (m msgs) {
	for i := range 50 {
		m = m.run(fmt.Sprintf("pgtier_%d", i), id).sync()
	}
	return m
}

// send sends messages and reads their answers, whatever they say: of what stands before a Flush before the rest is sent.
func (c *rawClient) send(t testing.TB, m msgs) {
	t.Helper()
	if ahead := m.ahead(); len(ahead) > 0 {
		c.write(t, ahead)
		for answered := false; !answered; {
			kind, body, err := c.message()
			if err != nil {
				t.Fatal(err)
			}
			if kind == wire.MsgErrorResponse {
				t.Logf("refused: %v", wire.ParseError(body))
			}
			answered = kind == wire.MsgCommandComplete || kind == wire.MsgErrorResponse
		}
		m = m[len(ahead):]
	}
	c.write(t, m)
	for range m.ends() {
		if err := c.ready(); err != nil {
			var refusal *wire.Error
			if !errors.As(err, &refusal) {
				t.Fatal(err)
			}
			t.Logf("refused: %v", refusal)
		}
	}
}

// ahead are the messages up to a Flush.
func (m msgs) ahead() msgs {
	for i := 0; i < len(m); {
		size, _ := wire.FrameSize(m[i:])
		if i += size; m[i-size] == wire.MsgFlush {
			return m[:i]
		}
	}
	return nil
}

// ends is how many ReadyForQuery the messages bring.
func (m msgs) ends() (n int) {
	for len(m) > 0 {
		size, _ := wire.FrameSize(m)
		if m[0] == wire.MsgSync || m[0] == wire.MsgQuery || m[0] == wire.MsgFunction {
			n++
		}
		m = m[size:]
	}
	return n
}

// TestCodeMadeAnewWhileItRuns has code that reads made anew, so that it writes, while a statement runs it or is about to.
func TestCodeMadeAnewWhileItRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, nameSQL+"; CREATE FUNCTION looks() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM side; RETURN 1; END'")
	p, hits := r.keepsTables(t, nil)
	reader := p.client(t)
	var m msgs
	const looks = "SELECT 1 FROM side" // so that the server hears of the change
	keeps := m.query("SELECT pg_advisory_lock_shared(1)")
	for i, tc := range []struct {
		name    string
		before  []msgs
		behind  []msgs // it has been made anew
		waiting msgs   // meanwhile
	}{
		{"a cursor", []msgs{m.query("BEGIN").query("DECLARE c CURSOR FOR SELECT reads()")}, []msgs{m.query(looks), m.query("FETCH c"), m.query("COMMIT")}, nil},
		{"a cursor on a kept connection", []msgs{keeps, m.query("BEGIN").query("DECLARE c CURSOR FOR SELECT reads()")}, []msgs{m.query(looks), m.query("FETCH c"), m.query("COMMIT")}, nil},
		{"a portal on a kept connection", []msgs{keeps, m.parse("f", "SELECT reads() + $1::int").sync(), m.query("BEGIN"), m.portal("p", "f", "1").sync()}, []msgs{m.query(looks), m.execute("p").sync(), m.query("COMMIT")}, nil},
		{"a statement that waits", nil, nil, m.query("SELECT looks() + reads()")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := fmt.Sprint(i + 1)
			read := "SELECT v AS v" + id + " FROM kept WHERE id = " + id // no other has its record: one that is asked for in vain 1,000 times rests (cache.Record)
			mustExec(t, reader, "CREATE OR REPLACE FUNCTION reads() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'")
			p.readsCatalog(t)
			c := p.rawDial(t, wire.Protocol30)
			for _, m := range tc.before {
				c.send(t, m)
			}
			locker := r.direct(t)
			if tc.waiting != nil {
				mustExec(t, locker, "BEGIN; LOCK TABLE side")
				c.write(t, tc.waiting)
				eventually(t, "waits", func() bool {
					return pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT looks%'") == "1"
				})
			}
			mustExec(t, reader, "CREATE OR REPLACE FUNCTION reads() RETURNS int LANGUAGE plpgsql AS $$BEGIN UPDATE kept SET v = v + 1 WHERE id = "+id+"; RETURN 1; END$$")
			p.readsCatalog(t)
			for before, tries := hits(), 0; hits() == before && tries < 10; tries++ { // unless everything is under way
				wantValue(t, reader, read, "0")
			}
			mustExec(t, locker, "COMMIT")
			for _, m := range tc.behind {
				c.send(t, m)
			}
			if tc.waiting != nil {
				if err := c.ready(); err != nil {
					t.Fatal(err)
				}
			}
			got, want := mustValue(t, reader, read), pgtest.Value(t, r.manager, r.database, read)
			if got != want || want != "1" {
				t.Errorf("served %s, the server has %s", got, want)
			}
		})
	}
}

// TestReadsOnKeptConnectionsLeaveAnswers reads by statements that are bound without their Parse, closed and prepared again.
func TestReadsOnKeptConnectionsLeaveAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, nameSQL)
	p, hits := r.keepsTables(t, nil)
	reader, c := p.client(t), p.rawDial(t, wire.Protocol30)
	const read, selects = "SELECT v FROM kept WHERE id = 1", "SELECT v FROM kept WHERE id = $1"
	var m msgs
	rounds := func(list ...msgs) {
		t.Helper()
		for _, m := range list {
			if err := c.round(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	rounds(m.query("CREATE TEMP TABLE own (id int)"), m.parse("a", selects).sync(), m.parse("", selects).sync())
	eventually(t, "hit", func() bool {
		before := hits()
		wantValue(t, reader, read, "0")
		return hits() > before
	})
	order, before := p.cache(t).Order(), hits()
	for range 3 {
		rounds(m.run("", "2").sync(), m.close("a").sync(), m.parse("a", selects).sync(), m.run("a", "2").sync(), m.run("", "2").sync())
	}
	wantValue(t, reader, read, "0")
	if hits() != before+1 || p.cache(t).Order() != order {
		t.Error("reads of a session that keeps its connection have ended answers")
	}
}

// TestBrokenBindOnAKeptConnection sends a Bind whose names have no end.
func TestBrokenBindOnAKeptConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, _ := r.keepsTables(t, nil)
	c := p.rawDial(t, wire.Protocol30)
	var m msgs
	broken, at := wire.Begin(nil, wire.MsgBind)
	broken = wire.End(append(broken, "name"...), at)
	for _, step := range []struct {
		send  msgs
		fails bool
	}{
		{m.query("SELECT pg_advisory_lock_shared(1)"), false}, {msgs(broken).sync(), true}, {m.query("SELECT 1"), false},
	} {
		if err := c.round(step.send); (err != nil) != step.fails {
			t.Errorf("got %v", err)
		}
	}
}

// TestNamesThatComeInPieces binds what another session has prepared, by the name that it has on their connection, behind a portal's name that is too long to have
// come whole when the head of the message goes on: it is no name of the client's.
func TestNamesThatComeInPieces(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, nameSQL)
	p, hits := r.keepsTables(t, one)
	reader, writer := p.client(t), p.rawDial(t, wire.Protocol30)
	const read = "SELECT v FROM kept WHERE id = 5"
	portal, param := strings.Repeat("p", 9000), strings.Repeat("x", 100<<10)
	var m msgs
	writer.send(t, m.parse("mine", "UPDATE kept SET v = v + length($1) WHERE id = 5").sync())
	for i := range 5 {
		writer.send(t, m.run("mine", "x").sync())
		eventually(t, "hit", func() bool {
			before := hits()
			mustValue(t, reader, read)
			return hits() > before
		})
		c := p.rawDial(t, wire.Protocol30)
		bind := m.portal(portal, fmt.Sprintf("pgtier_%d", i), param)
		c.write(t, bind[:8500])
		eventually(t, "its head is there", func() bool { return p.Lent() == 1 })
		c.write(t, bind[8500:].execute(portal).sync())
		if got, err := c.told(limit); err != nil || !strings.HasPrefix(got, "E:26000:") {
			t.Errorf("pgtier_%d: heard %q, %v; want that there is no such statement", i, got, err)
		}
		if got, want := mustValue(t, reader, read), pgtest.Value(t, r.manager, r.database, read); got != want {
			t.Errorf("pgtier_%d: served %s, the server has %s", i, got, want)
		}
	}
}

// TestLocksOfStatementsBoundByNamesOfSQL takes a lock by a statement that PREPARE has made and the protocol runs: it stays with its session.
func TestLocksOfStatementsBoundByNamesOfSQL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.serve(t, withConsole)
	c := p.rawDial(t, wire.Protocol30)
	var m msgs
	for _, step := range []msgs{m.query("PREPARE a AS SELECT pg_advisory_lock(1)"), m.run("a").sync()} {
		if err := c.round(step); err != nil {
			t.Fatal(err)
		}
	}
	if _, pins := table(t, p.console(t, "boss"), "SHOW PINS"); len(pins) != 1 {
		t.Errorf("pinned: %v", pins)
	}
}

// TestLocksBehindBackslashes takes a lock in what is a literal unless standard_conforming_strings is off, which the same write has it be.
func TestLocksBehindBackslashes(t *testing.T) {
	t.Parallel()
	var m msgs
	const lock = `SELECT 'x\''; SELECT pg_advisory_lock(1); --'`
	for name, send := range map[string]msgs{
		"SET":       m.query("SET standard_conforming_strings = off").query(lock),
		"character": m.query("SET client_encoding = 'SJIS'").query("SELECT E'\xe3\x81\x83\\'; SELECT pg_advisory_lock(1); --'"),
		"code":      m.query("BEGIN").query("SELECT sets_off()").query(lock).query("COMMIT"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			pgtest.Exec(t, r.manager, r.database, nameSQL)
			p := r.serve(t, withConsole)
			c := p.rawDial(t, wire.Protocol30)
			c.send(t, send)
			if _, pins := table(t, p.console(t, "boss"), "SHOW PINS"); len(pins) != 1 {
				t.Errorf("pinned: %v", pins)
			}
		})
	}
}

// TestFunctionCallBehindDiscardAll takes a lock in the same write as DISCARD ALL, behind it.
func TestFunctionCallBehindDiscardAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE FUNCTION locks() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_advisory_lock(1)'")
	p := r.serve(t, withConsole)
	var oid uint32
	if _, err := fmt.Sscan(pgtest.Value(t, r.manager, r.database, "SELECT 'locks'::regproc::oid"), &oid); err != nil {
		t.Fatal(err)
	}
	c := p.rawDial(t, wire.Protocol30)
	var m msgs
	c.write(t, m.parse("", "DISCARD ALL").run("").sync().call(oid))
	for range 2 {
		if err := c.ready(); err != nil {
			t.Fatal(err)
		}
	}
	if _, pins := table(t, p.console(t, "boss"), "SHOW PINS"); len(pins) != 1 {
		t.Errorf("pinned: %v", pins)
	}
}

// TestNamesThatCodeHasPreparedChangeTheSchema runs by such a name what makes a trigger, on a connection that a session keeps: what the trigger writes ends answers.
func TestNamesThatCodeHasPreparedChangeTheSchema(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, `CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept VALUES (1, 0); CREATE TABLE side (id int);
CREATE FUNCTION writes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE kept SET v = v + 1; RETURN NULL; END';
CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS 'BEGIN CREATE TRIGGER made AFTER INSERT ON side FOR EACH ROW EXECUTE FUNCTION writes(); RETURN 1; END';
CREATE FUNCTION prepares() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE 'PREPARE f AS SELECT makes()'; RETURN 1; END$$`)
	p, hits := r.keepsTables(t, nil)
	reader, c := p.client(t), p.rawDial(t, wire.Protocol30)
	var m msgs
	for _, m := range []msgs{m.query("SELECT pg_advisory_lock_shared(1)"), m.query("SELECT prepares()")} {
		c.send(t, m)
	}
	p.readsCatalog(t)
	c.send(t, m.run("f").sync())
	const read = "SELECT v FROM kept WHERE id = 1"
	eventually(t, "hit", func() bool {
		before := hits()
		wantValue(t, reader, read, "0")
		return hits() > before
	})
	mustExec(t, reader, "INSERT INTO side VALUES (1)")
	wantValue(t, reader, read, "1")
}
