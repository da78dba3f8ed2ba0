package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/proxy/wire"
)

// TestWritesOfAllKindsEndAnswersOfShards writes to one shard and to several in ways other than plain UPDATEs: by themselves, in messages that a Flush parts, and in a transaction block
// that has begun on another shard. What is served of one shard and of several is what the servers have.
func TestWritesOfAllKindsEndAnswersOfShards(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	reader := s.p.client(t)
	one, other := s.key(t, 1, 0), s.key(t, 2, 0)
	reads := []string{readReg(one), readReg(other), sumOfRegs, fmt.Sprintf("SELECT coalesce(sum(v), 0) FROM hist WHERE id = %d", one), "SELECT coalesce(sum(v), 0) FROM hist",
		"SELECT count(*) FROM hist h JOIN regs r USING (id)", "SELECT v FROM copies WHERE id = 1", "SELECT sum(r.v * c.v) FROM regs r, copies c WHERE c.id = 1"}
	number := func(sql string) (n int) {
		for i := range s.cluster.Shards {
			v := 0
			_, _ = fmt.Sscan(s.on(t, i, sql), &v)
			n += v
		}
		return n
	}
	has := func(sql string) string {
		if sql == "SELECT v FROM copies WHERE id = 1" {
			return s.on(t, 2, sql)
		}
		return fmt.Sprint(number(sql))
	}
	var m msgs
	ext := func(sql string) msgs { return m.parse("", sql).run("") }
	query := func(sql string) msgs {
		if !strings.HasPrefix(sql, "COPY") {
			return m.query(sql)
		}
		return append(m.query(sql), messages(t, fmt.Sprintf(`d %d\t1 ; d %d\t2 ; c`, one, other))...)
	}
	ways := []func(sql string) []msgs{
		func(sql string) []msgs { return []msgs{query(sql)} },
		func(sql string) []msgs {
			return []msgs{m.query("BEGIN"), m.query(readReg(s.key(t, 0, 0))), ext("SAVEPOINT a").flush().sync(), query(sql), ext("COMMIT").flush().sync()}
		},
		func(sql string) []msgs { return []msgs{ext(sql).flush().parse("", "SELECT 1").run("").sync()} },
	}
	for i, sql := range []string{
		"COPY hist FROM STDIN", "COPY hist FROM STDIN",
		fmt.Sprintf("MERGE INTO regs USING (SELECT 1) AS x ON regs.id = %d WHEN MATCHED THEN UPDATE SET v = v + 1", one),
		fmt.Sprintf("INSERT INTO regs VALUES (%d, 1), (%d, 1) ON CONFLICT (id) DO UPDATE SET v = regs.v + excluded.v", one, other),
		fmt.Sprintf("WITH w AS (UPDATE regs SET v = v + 1 WHERE id = %d RETURNING v) SELECT v FROM w", other),
		"INSERT INTO hist SELECT id, v FROM regs",
		"UPDATE regs SET v = regs.v + side.v + 1 FROM side WHERE side.id = regs.id",
		"INSERT INTO copies VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET v = copies.v + 1",
		fmt.Sprintf("DELETE FROM hist WHERE id = %d", one),
		"TRUNCATE hist",
	} {
		before := ""
		for _, read := range reads {
			before += s.primed(t, reader, read) + " "
		}
		c := s.p.rawDial(t, wire.Protocol30)
		for _, m := range ways[i%len(ways)](sql) {
			c.send(t, m)
		}
		after := ""
		for _, read := range reads {
			got, want := mustValue(t, reader, read), has(read)
			if got != want {
				t.Errorf("%s: %s: served %s, the servers have %s", sql, read, got, want)
			}
			after += want + " "
		}
		if before == after {
			t.Errorf("%s has changed nothing", sql)
		}
	}
}
