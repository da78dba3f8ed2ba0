package proxy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestRowsOfOneStatementHaveOneTime: a default such as now() is one value for all rows of a statement, wherever they go.
func TestRowsOfOneStatementHaveOneTime(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	mustExec(t, c, "DROP TABLE cards")
	mustExec(t, c, `CREATE TABLE cards (id bigint PRIMARY KEY, made timestamptz(3) DEFAULT now(), wall timestamp DEFAULT CURRENT_TIMESTAMP, day date DEFAULT CURRENT_DATE,
		"at What" time DEFAULT LOCALTIME, own uuid DEFAULT gen_random_uuid(), n serial)`)
	mustExec(t, c, "SET DateStyle = 'SQL, DMY'")
	mustExec(t, c, "SET TimeZone = 'Asia/Tokyo'")
	const rows = 12
	values, numbers := "(0)", ""
	for id := range rows - 1 {
		values += fmt.Sprintf(", (%d)", id+1)
	}
	mustExec(t, c, "BEGIN")
	began := mustValue(t, c, "/* pgtier: shard=s0 */ SELECT to_json(now()::timestamptz(3)) #>> '{}' || to_json(now()::timestamp) || to_json(current_date) || localtime::text")
	if tag := mustExec(t, c, "INSERT INTO cards (id) VALUES "+values); tag != fmt.Sprint("INSERT 0 ", rows) {
		t.Errorf("tag %q", tag)
	}
	mustExec(t, c, "COMMIT")
	n := 0
	for i := range s.cluster.Shards {
		on := 0
		_, _ = fmt.Sscan(s.on(t, i, "SELECT count(*) FROM cards"), &on)
		if n += on; on == 0 {
			t.Errorf("shard %d has no row", i)
		}
		got := s.on(t, i, `SELECT string_agg(DISTINCT to_json(made AT TIME ZONE 'Asia/Tokyo') #>> '{}' || '+09:00' || to_json(wall) || to_json(day) || "at What"::text, ' ') FROM cards`)
		if got != began {
			t.Errorf("shard %d has %s, the transaction began at %s", i, got, began)
		}
		if got := s.on(t, i, "SELECT count(DISTINCT own) - count(*) FROM cards"); got != "0" {
			t.Errorf("shard %d has rows with one uuid", i)
		}
		numbers += s.on(t, i, "SELECT string_agg(n::text, ' ') FROM cards") + " "
	}
	if n != rows {
		t.Errorf("%d rows, want %d; numbers %s", n, rows, numbers)
	}
	for sql, words := range map[string]string{
		"INSERT INTO cards VALUES (100), (101), (102), (103), (104), (105)": "gets a default that is one value for all of them",
		"UPDATE cards SET made = DEFAULT":                                   "column made that gets its default",
		"COPY cards (id) FROM STDIN WITH (FORMAT csv, FORCE_NULL (made))":   "whose column made gets a default that is one value for all rows",
	} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "0A000", words)
	}
	mustExec(t, c, "UPDATE cards SET own = DEFAULT, n = DEFAULT")
}

// TestRowsOfOneCopyHaveOneTime: COPY gives a default such as now() to all rows as INSERT does, in every format, and takes from the client what one server
// takes from it.
func TestRowsOfOneCopyHaveOneTime(t *testing.T) {
	t.Parallel()
	s, p, whole := newTalk(t, nil)
	c, plain := p.client(t), whole.client(t)
	for _, c := range []*pgx.Conn{c, plain} {
		mustExec(t, c, "DROP TABLE cards")
		mustExec(t, c, `CREATE TABLE cards (id bigint PRIMARY KEY, pin text, made timestamptz(3) DEFAULT now(), wall timestamp DEFAULT CURRENT_TIMESTAMP, day date DEFAULT CURRENT_DATE,
			"at ""What" time DEFAULT LOCALTIME, zoned timetz DEFAULT CURRENT_TIME, own uuid DEFAULT gen_random_uuid(), late timestamptz DEFAULT now() + interval '1 day')`)
		mustExec(t, c, "SET DateStyle = 'SQL, DMY'")
		mustExec(t, c, "SET TimeZone = 'Asia/Tokyo'")
	}
	const times = `to_json(%s::timestamptz(3))::text || to_json(%s::timestamp) || to_json(%s::date) || %s::text || %s::text || to_json(%s)`
	began := fmt.Sprintf(times, "now()", "now()", "current_date", "localtime", "current_time", "now() + interval '1 day'")
	stored := fmt.Sprintf(times, "made", "wall", "day", `"at ""What"`, "zoned", "late")
	copyIn := func(c *pgx.Conn, sql, rows string) (tag string, err error) {
		got, err := c.PgConn().CopyFrom(bounded(t), strings.NewReader(rows), sql)
		return got.String(), err
	}
	lines := func(format string) (out string) {
		for id := range 12 {
			out += fmt.Sprintf(format, id)
		}
		return out
	}
	binary := "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for id := range 12 {
		binary += "\x00\x02\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00" + string(rune(id)) + "\xff\xff\xff\xff"
	}
	for _, tc := range []struct{ sql, rows string }{
		{"COPY cards (id) FROM STDIN", lines("%d\n")},
		{"COPY cards (pin, id) FROM STDIN WITH (DELIMITER 'T', NULL '', HEADER match)", "pinTid\n" + lines("xT%d\n")},
		{"COPY cards (pin, id) FROM STDIN WITH (DELIMITER ':', HEADER)", "whatever\n" + lines("\\N:%d\n") + "\\.\n"},
		{"COPY cards (pin, id) FROM STDIN CSV", lines("\"a\nb\",%d\r\n")},
		{"COPY cards (pin, id) FROM STDIN WITH (FORMAT csv, DELIMITER '-', QUOTE ':', ESCAPE '0', HEADER match, FORCE_NOT_NULL (pin))", "pin-:id:\n" + lines("-%d\n")},
		{"COPY cards (id, pin) FROM STDIN BINARY", binary + "\xff\xff"},
		{"COPY cards (id) FROM STDIN WHERE day < '2000-01-01' OR id >= 0", lines("%d\n")},
	} {
		mustExec(t, c, "BEGIN")
		mustExec(t, plain, "BEGIN")
		mustExec(t, c, "DELETE FROM cards")
		mustExec(t, plain, "DELETE FROM cards")
		if tag, err := copyIn(plain, tc.sql, tc.rows); err != nil || tag != "COPY 12" {
			t.Fatalf("%s directly: %q, %v", tc.sql, tag, err)
		}
		want := mustValue(t, c, "/* pgtier: shard=s0 */ SELECT "+began)
		if tag, err := copyIn(c, tc.sql, tc.rows); err != nil || tag != "COPY 12" {
			t.Errorf("%s: %q, %v", tc.sql, tag, err)
		}
		mustExec(t, c, "COMMIT")
		mustExec(t, plain, "COMMIT")
		for i := range s.cluster.Shards {
			if got := s.on(t, i, "SET TimeZone = 'Asia/Tokyo'; SELECT string_agg(DISTINCT "+stored+", ' ') FROM cards"); got != want {
				t.Errorf("%s: shard %d has %s, the transaction began at %s", tc.sql, i, got, want)
			}
			if got := s.on(t, i, "SELECT count(DISTINCT own) - count(*) FROM cards"); got != "0" {
				t.Errorf("%s: shard %d has rows with one uuid", tc.sql, i)
			}
		}
		if got, want := mustValue(t, c, "SELECT sum(id), min(pin COLLATE \"C\") FROM cards"), mustValue(t, plain, "SELECT sum(id), min(pin) FROM cards"); got != want {
			t.Errorf("%s: sum %s, want %s", tc.sql, got, want)
		}
		wantValue(t, c, "SELECT count(*) FROM cards WHERE pin IS NULL", mustValue(t, plain, "SELECT count(*) FROM cards WHERE pin IS NULL"))
	}
	for _, c := range []*pgx.Conn{c, plain} {
		mustExec(t, c, `ALTER TABLE cards DROP COLUMN wall, DROP COLUMN day, DROP COLUMN "at ""What", DROP COLUMN zoned, ADD COLUMN n int CHECK (n > 0)`)
	}
	for _, tc := range []struct{ sql, rows string }{
		{"COPY cards (id, pin) FROM STDIN", "100\tx\n101\n"},
		{"COPY cards (id, pin) FROM STDIN", "100\tx\n101\tx\ty\n"},
		{"COPY cards (id, n) FROM STDIN", "100\t1\n101\tmany\n"},
		{"COPY cards (id, n) FROM STDIN CSV", "100,1\n101,0\n"},
		{"COPY cards (id) FROM STDIN", "\\N\n"},
		{"COPY cards (id, pin) FROM STDIN CSV", "100,x\n101\n"},
		{"COPY cards (id, pin) FROM STDIN WITH (FORMAT csv, HEADER match)", "id,pen\n101,x\n"},
		{"COPY cards (id, pin) FROM STDIN WITH (HEADER match)", "id\tpin\tmore\n101\tx\n"},
		{"COPY cards (id, pin) FROM STDIN BINARY", strings.Replace(binary[:len(binary)-18], "\x00\x02\x00", "\x00\x01\x00", 1) + "\xff\xff"},
		{"COPY cards (id, id) FROM STDIN", ""},
		{"COPY cards (id) FROM STDIN WHERE nothing", ""},
	} {
		var want, got *pgconn.PgError
		_, err := copyIn(plain, tc.sql, tc.rows)
		if !errors.As(err, &want) {
			t.Fatalf("%s directly: %v", tc.sql, err)
		}
		_, err = copyIn(c, tc.sql, tc.rows)
		if !errors.As(err, &got) || got.Code != want.Code || got.Message != want.Message || got.Where != want.Where {
			t.Errorf("%s of %q:\n got %+v\nwant %+v", tc.sql, tc.rows, got, want)
		}
	}
	s.same(t, p, whole, []talk{{name: "the client is told of its own columns", lines: []string{`Q COPY cards (id, pin) FROM STDIN ; d 1000\tx ; d 1001\tx ; d 1002\tx ; c`, "Q SELECT count(*) FROM cards"}}})
}
