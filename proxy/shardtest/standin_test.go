package shardtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg/pgtest"
)

// union stands in for a proxy that is wrong: it asks every shard the client's own statement and puts the rows one behind
// the other. The comparison must catch it wherever that is not the answer.
type union struct{ shards []*client }

func newUnion(t testing.TB, r *rig) *union {
	t.Helper()
	u := &union{}
	for _, s := range r.shards {
		c, err := connect(s.URL(database, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		u.shards = append(u.shards, c)
	}
	t.Cleanup(u.close)
	return u
}

func (u *union) run(s *statement, m mode, v *values) outcome {
	all := make([]outcome, len(u.shards))
	for i, c := range u.shards {
		all[i] = c.run(s, m, v)
		if all[i].err != nil || all[i].lost != nil {
			return all[i]
		}
	}
	sum := all[0]
	for _, one := range all[1:] {
		for i := range one.results {
			sum.results[i].rows = slices.Concat(sum.results[i].rows, one.results[i].rows)
			if word, _, ok := strings.Cut(sum.results[i].tag, " "); ok {
				sum.results[i].tag = fmt.Sprint(word, " ", len(sum.results[i].rows))
			}
		}
	}
	return sum
}

func (u *union) again() error {
	for _, c := range u.shards {
		if err := c.again(); err != nil {
			return err
		}
	}
	return nil
}

func (u *union) close() {
	for _, c := range u.shards {
		c.close()
	}
}

// TestComparisonCatchesAPlainUnion runs the corpus of reads against a plain union of three servers' answers. How many
// statements of each kind catch it is how sharp the corpus is: those with less than the number below have lost it.
func TestComparisonCatchesAPlainUnion(t *testing.T) {
	r := newRig(t)
	p := newPair(t, r, newUnion(t, r))
	reads, err := readCorpus("reads")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range reads {
		p.run(t, file, simpleText, false)
	}
	right := map[string]bool{}
	for s, v := range p.verdicts {
		right[s.literal()] = v == equal
	}
	p.finish()
	t.Log(p.tally)
	for kind, least := range map[string]int{
		"aggregates": 100, "copy_to": 5, "ctes": 15, "distinct": 25, "grouping": 60, "joins": 30, "lists": 1, "order_limit": 70, "points": 3,
		"sets": 25, "subqueries": 35, "windows": 12,
	} {
		if got := p.tally.kinds[kind][wrong]; got < least {
			t.Errorf("%s: %d statements catch a union, want %d at least", kind, got, least)
		}
	}
	for _, sql := range []string{
		"SELECT * FROM users WHERE id = 7",
		"SELECT id, name FROM users",
		"SELECT u.id, u.name, o.id, o.total FROM users u JOIN orders o ON o.user_id = u.id",
		"SELECT id, name FROM users u WHERE NOT EXISTS (SELECT FROM orders o WHERE o.user_id = u.id)",
		"SELECT user_id, count(*), sum(total) FROM orders GROUP BY user_id",
	} {
		if !right[sql] {
			t.Errorf("a union answers %s, and the comparison says otherwise", sql)
		}
	}
}

// scripted stands in with one answer.
type scripted struct {
	answer outcome
	does   func()
}

func (s *scripted) run(*statement, mode, *values) outcome {
	if s.does != nil {
		s.does()
	}
	return s.answer
}
func (s *scripted) again() error { return nil }
func (s *scripted) close()       {}

// TestRefusalsAreLookedInto holds judge to what a refusal must be.
func TestRefusalsAreLookedInto(t *testing.T) {
	r := newRig(t)
	refusal := func(hint string, status byte) outcome {
		return outcome{err: &pgconn.PgError{Severity: "ERROR", Code: "0A000", Message: "window functions across shards", Hint: hint}, status: status}
	}
	trace := func() {
		pgtest.Exec(t, r.shards[1], database, "DELETE FROM users WHERE id = (SELECT min(id) FROM users WHERE id NOT IN (SELECT user_id FROM orders))")
	}
	for name, tc := range map[string]struct {
		statement statement
		other     scripted
		want      verdict
		says      string
	}{
		"a refusal":                              {statement{sql: "UPDATE users SET age = 1"}, scripted{answer: refusal("do otherwise", 'I')}, refused, ""},
		"without a hint":                         {statement{sql: "UPDATE users SET age = 1"}, scripted{answer: refusal("", 'I')}, wrong, "without a hint"},
		"of what must be done":                   {statement{sql: "UPDATE users SET age = 1", must: true}, scripted{answer: refusal("do otherwise", 'I')}, wrong, "must not be refused"},
		"that has done it":                       {statement{sql: "UPDATE users SET age = 1"}, scripted{answer: refusal("do otherwise", 'I'), does: trace}, wrong, "left a trace"},
		"inside a transaction that nobody began": {statement{sql: "SELECT 1"}, scripted{answer: refusal("do otherwise", 'E')}, wrong, "transaction status"},
	} {
		t.Run(name, func(t *testing.T) {
			r.restore(t, false)
			p := newPair(t, r, &tc.other)
			p.run(t, []*statement{&tc.statement}, simpleText, true)
			if got := p.verdicts[&tc.statement]; got != tc.want {
				t.Errorf("got verdict %d, want %d: %q %q", got, tc.want, p.tally.refusals, p.tally.failures)
			}
			if told := strings.Join(p.tally.failures, "\n"); !strings.Contains(told, tc.says) {
				t.Errorf("got %q, want words %q", told, tc.says)
			}
		})
	}
}

// TestTablesAreLookedInto breaks the tables of shards in ways that a wrong proxy would.
func TestTablesAreLookedInto(t *testing.T) {
	r := newRig(t)
	replica := "SET session_replication_role = replica; "
	for name, tc := range map[string]struct {
		shard     int
		sql, says string
	}{
		"a lost row":                     {1, "DELETE FROM zoo WHERE id = (SELECT min(id) FROM zoo)", "zoo differs"},
		"a row twice":                    {1, "INSERT INTO bank SELECT -1, 0", "bank"},
		"a changed value":                {2, "UPDATE meters SET label = 'changed' WHERE (tenant, id) = (SELECT tenant, id FROM meters LIMIT 1)", "meters differs"},
		"a numeric of another scale":     {0, "UPDATE zoo SET n = n + 0.00000 WHERE id = (SELECT min(id) FROM zoo WHERE n <> 'NaN')", "zoo differs"},
		"a row on the wrong shard":       {0, "INSERT INTO users (id, name) SELECT g, 'x' FROM generate_series(90000, 90009) g", "belong to other shards"},
		"a reference table behind":       {2, "UPDATE currencies SET rate = 2 WHERE code = 'EUR'", "currencies differs on s2"},
		"a home table elsewhere":         {1, "INSERT INTO settings VALUES ('x')", "is not its home"},
		"another home":                   {0, "DELETE FROM audit WHERE id = 1", "audit differs"},
		"an order that went alone":       {1, "DELETE FROM orders WHERE user_id = (SELECT min(user_id) FROM orders)", "orders differs"},
		"a generated id is not compared": {1, "UPDATE tickets SET id = id", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r.restore(t, false)
			pgtest.Exec(t, r.shards[tc.shard], database, replica+tc.sql)
			got := r.differences(false, tables())
			if !strings.Contains(got, tc.says) || (tc.says == "") != (got == "") {
				t.Errorf("got %q, want words %q", got, tc.says)
			}
		})
	}
	r.restore(t, false)
	if got := r.differences(false, tables()); got != "" {
		t.Errorf("after the data was restored: %s", got)
	}
}
