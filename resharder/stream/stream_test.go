package stream

import (
	"fmt"
	"testing"
	"time"

	"pgtier/router/shard"
)

func TestRowsOfAllKindsAreCopiedAndFollowed(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	if problems := Problems(p.layout, p.tables(p.source), p.tables(p.target)); problems != nil {
		t.Fatalf("problems: %v", problems)
	}
	p.fill(300)
	p.target.exec("CREATE TRIGGER no BEFORE INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION refuse()")
	slot := p.prepare(p.forward())
	p.source.exec("UPDATE users SET name = 'after the snapshot' WHERE id % 5 = 0; DELETE FROM countries WHERE code = 'fr'")
	p.copy(slot)
	if got := p.target.value("SELECT count(*) > 50 AND count(*) < 150 AND count(*) FILTER (WHERE name LIKE 'after%') = 0 FROM users"); got != "t" {
		t.Errorf("the copy has not what the snapshot showed: %s", p.target.value("SELECT count(*) FROM users"))
	}
	a, _, hopeless := run(t, p.forward())
	for _, sql := range []string{
		"UPDATE users SET name = name || '!' WHERE id % 3 = 0", // big is not sent
		"UPDATE users SET big = 'short', n = NULL WHERE id % 6 = 0",
		"UPDATE users SET n = 1.50 WHERE id % 7 = 0; UPDATE users SET name = NULL, big = '' WHERE id % 11 = 0",
		"UPDATE users SET id = id + 1000 WHERE id NOT IN (SELECT user_id FROM orders) AND big IS NULL",
		"INSERT INTO users SELECT i, 'new ' || i FROM generate_series(5000, 5200) i",
		"UPDATE users SET id = id + 10000 WHERE id > 5100", // some come into the buckets, some go
		"UPDATE orders SET item = 'changed', mood = 'sad', r = 'pg_type', f = 1e300, b = '\\x00ff', m = -5 WHERE id % 2 = 0",
		"UPDATE orders SET user_id = 1 + user_id % 279 WHERE id % 9 = 0",
		"UPDATE orders SET id = DEFAULT WHERE id % 10 = 0",
		"DELETE FROM orders WHERE id % 8 = 0",
		"UPDATE serials SET id = DEFAULT, note = note || '+' WHERE user_id % 3 = 0; UPDATE serials SET user_id = user_id + 1000",
		"UPDATE log SET line = 'other' WHERE user_id % 3 = 0; DELETE FROM log WHERE ctid IN (SELECT min(ctid) FROM log GROUP BY user_id)",
		"UPDATE log SET n = 1.00 WHERE ctid IN (SELECT min(ctid) FROM log GROUP BY user_id); UPDATE log SET j = '{ }' WHERE user_id IS NULL",
		"UPDATE events SET day = day + 365 WHERE day < '2021-01-01' AND user_id % 3 = 0; DELETE FROM events WHERE user_id % 4 = 0; UPDATE events SET user_id = user_id + 1 WHERE user_id % 4 = 3",
		"INSERT INTO countries VALUES ('it', 'Italy'); UPDATE countries SET name = 'D' WHERE code = 'de'; UPDATE countries SET code = 'IT' WHERE code = 'it'",
		"BEGIN; INSERT INTO users VALUES (90000, 'rolled back'); ROLLBACK; BEGIN; INSERT INTO users VALUES (90001, 'a'); SAVEPOINT s; INSERT INTO users VALUES (90002, 'b'); ROLLBACK TO s; COMMIT",
	} {
		p.source.exec(sql)
	}
	must(t, a.Barrier(contextFor(t)))
	select {
	case h := <-hopeless:
		t.Fatal(h)
	default:
	}
	p.same()
	if s := a.Status(); !s.Attached || s.Rows == 0 || s.Applied == 0 {
		t.Errorf("status: %+v", s)
	}
}

func TestRowsAreFoundByTheIndexOfAnExtensionsType(t *testing.T) {
	layout := Layout{Function: shard.Hash, Buckets: 64, Tables: []Wanted{{"", "t", []string{"id"}}}}
	p := newPair(t, "CREATE EXTENSION citext; CREATE TABLE t (id int8, email citext PRIMARY KEY, moods text[]); ALTER TABLE t REPLICA IDENTITY FULL", layout)
	p.source.exec("INSERT INTO t SELECT i, 'User' || i, ARRAY['a', i::text] FROM generate_series(1, 2000) i")
	p.copy(p.prepare(p.forward()))
	p.source.exec("UPDATE t SET email = upper(email::text)::citext, moods = '{}' WHERE id % 2 = 0; DELETE FROM t WHERE id % 3 = 0")
	a, stop, hopeless := run(t, p.forward())
	settled(t, a, hopeless)
	p.same()
	stop() // the server counts what a session has done when it ends
	for ctx := contextFor(t); p.target.value("SELECT n_tup_upd > 100 FROM pg_stat_user_tables") != "t"; {
		if ctx.Err() != nil {
			t.Fatal("the server does not count")
		}
	}
	if got := p.target.value("SELECT idx_scan > 300 AND seq_tup_read < 50000 FROM pg_stat_user_tables"); got != "t" {
		t.Errorf("rows are not found by the index: %s", p.target.value("SELECT s::text FROM pg_stat_user_tables s"))
	}
}

// TestLargeRowsAndTransactionsPass has a value that is longer than what waits between source and target, and more rows in one transaction than one of the target takes.
func TestLargeRowsAndTransactionsPass(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.copy(p.prepare(p.forward()))
	a, _, hopeless := run(t, p.forward())
	p.source.exec(fmt.Sprintf("INSERT INTO countries VALUES ('big', repeat('0123456789abcdef', %d)); UPDATE countries SET name = name || 'x'", (inboxMost+1<<20)/16))
	p.source.exec(fmt.Sprintf("INSERT INTO users SELECT i, 'name ' || i FROM generate_series(1, %d) i; UPDATE users SET name = NULL WHERE id %% 2 = 0; DELETE FROM users WHERE id %% 5 = 0", 8*batchRows))
	settled(t, a, hopeless)
	p.same()
	if n, err := Count(contextFor(t), p.target.Server, p.tables(p.target)[0], p.spans); err != nil || n < 2*batchRows {
		t.Errorf("%d rows at the target, %v", n, err)
	}
}

// TestSourceKeepsItsLogNoLongerThanNeeded writes only what the stream does not carry, and then holds the target up.
func TestSourceKeepsItsLogNoLongerThanNeeded(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.copy(p.prepare(p.forward()))
	a, _, hopeless := run(t, p.forward())
	settled(t, a, hopeless)
	p.source.exec("CREATE TABLE other (i int); INSERT INTO other SELECT generate_series(1, 100000)")
	end := p.source.value("SELECT pg_current_wal_flush_lsn()")
	confirmed := func() bool {
		return p.source.value("SELECT confirmed_flush_lsn >= '"+end+"' FROM pg_replication_slots WHERE slot_name = '"+p.forward().Slot+"'") == "t"
	}
	for ctx := contextFor(t); !confirmed(); {
		if ctx.Err() != nil {
			t.Fatalf("the slot stays behind: %+v", a.Status())
		}
	}
	// What is not applied is not confirmed.
	conn, err := p.target.connect(contextFor(t))
	must(t, err)
	defer hangUp(conn)
	_, err = query(contextFor(t), conn, "BEGIN; LOCK TABLE public.countries IN EXCLUSIVE MODE")
	must(t, err)
	p.source.exec("INSERT INTO countries VALUES ('xx', 'held up')")
	end = p.source.value("SELECT pg_current_wal_flush_lsn()")
	time.Sleep(300 * time.Millisecond)
	if confirmed() || a.Status().Applied >= lsn(t, end) {
		t.Errorf("confirmed what waits for a lock: %+v", a.Status())
	}
	_, err = query(contextFor(t), conn, "COMMIT")
	must(t, err)
	settled(t, a, hopeless)
	p.same()
}

func lsn(t *testing.T, text string) LSN {
	l, err := ParseLSN(text)
	must(t, err)
	if l.String() != text {
		t.Errorf("%s is written %s", text, l)
	}
	return l
}
