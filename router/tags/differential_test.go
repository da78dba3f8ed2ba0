package tags

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/catalog"
)

// number reads a number from the environment.
func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// asked is a read with its answer and tags before a write.
type asked struct {
	*statement
	keyed  bool
	answer string
	rows   int
	tags   []Tag
}

// ask carries out reads as a role that row security holds for; those that the server refuses are left out. The transaction is undone.
func ask(t testing.TB, conn *pgconn.PgConn, x *Index, reads []*statement) (list []asked) {
	t.Helper()
	exec(t, conn, "BEGIN; SET LOCAL ROLE tags_reader; SAVEPOINT s")
	for _, s := range reads {
		rows, err := s.run(t.Context(), conn)
		if err != nil {
			exec(t, conn, "ROLLBACK TO s")
			continue
		}
		set := x.Read(s.st)
		if set == nil {
			t.Errorf("%s: no read: %s", s, x.snapshot.Reading(s.st).Reason)
			continue
		}
		a := asked{statement: s, answer: strings.Join(rows, "\n"), rows: len(rows)}
		if a.rows > 0 {
			a.tags = set.AppendFound(nil, s.values())
		} else {
			a.tags = set.Append(nil, s.values())
		}
		a.keyed = len(set.reads) > 0 && len(set.fixed) == 1
		list = append(list, a)
	}
	exec(t, conn, "ROLLBACK")
	return list
}

func meet(a, b []Tag) bool {
	return slices.ContainsFunc(a, func(t Tag) bool { return slices.Contains(b, t) })
}

// tally counts pairs of reads and writes: those whose answers changed, whose tags met, and met for nothing; keyed are those of reads that depend on no whole
// table, of which keyedIdle met for nothing.
type tally struct{ pairs, changed, met, idle, keyed, keyedIdle, rejected int }

// TestChangedAnswersHaveATagOfTheWrite runs reads before and after writes on a server: where an answer differs, the tags must meet. PGTIER_TAGS_ROUNDS asks for
// more, PGTIER_TAGS_SEED plays the same again.
func TestChangedAnswersHaveATagOfTheWrite(t *testing.T) {
	conn := testDatabase(t)
	seed := uint64(number(t, "PGTIER_TAGS_SEED", int(rand.Uint32())))
	t.Logf("PGTIER_TAGS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for name, extras := range map[string][]catalog.Extra{"keys": {catalog.Relations}, "tables": nil} {
		rounds := number(t, "PGTIER_TAGS_ROUNDS", 3)
		if extras == nil {
			rounds = 1
		}
		x := testIndex(t, conn, extras...)
		var sum tally
		for range rounds {
			round(t, random, conn, x, &sum)
		}
		t.Logf("%s: %d pairs, %d answers changed; tags met in %d pairs, in %d of them for nothing; of %d pairs with a read by keys in %d; %d writes refused",
			name, sum.pairs, sum.changed, sum.met, sum.idle, sum.keyed, sum.keyedIdle, sum.rejected)
		if sum.changed < 100*rounds || extras != nil && sum.met > sum.pairs/2 {
			t.Errorf("%s: the test says nothing: %+v", name, sum)
		}
	}
}

// round makes each template one statement and runs every write before all reads.
func round(t *testing.T, random *rand.Rand, conn *pgconn.PgConn, x *Index, sum *tally) {
	cache := newCache()
	var reads []*statement
	for i, template := range mixed(t, random) {
		s := fill(random, cache, template, random.IntN(2) == 0 || strings.Contains(template, ";"))
		if s.prepare(t.Context(), random, conn, "r"+strconv.Itoa(i)) {
			reads = append(reads, s)
		}
	}
	before := ask(t, conn, x, reads)
	for i, template := range lines(t, "testdata/writes.sql") {
		w := fill(random, cache, template, random.IntN(2) == 0 || strings.Contains(template, ";"))
		if !w.prepare(t.Context(), random, conn, "w"+strconv.Itoa(i)) {
			sum.rejected++
			continue
		}
		exec(t, conn, "SELECT setval('orders_id_seq', 2), setval('numbered_id_seq', 4)")
		exec(t, conn, "BEGIN")
		_, err := w.run(t.Context(), conn)
		if err == nil {
			_, err = conn.Exec(t.Context(), "SET CONSTRAINTS ALL IMMEDIATE").ReadAll()
		}
		if err != nil {
			sum.rejected++
		} else {
			compare(t, conn, before, w, x.Write(w.st).Append(nil, w.values()), sum)
		}
		exec(t, conn, "ROLLBACK")
	}
	exec(t, conn, "DEALLOCATE ALL")
}

// compare asks again, inside the transaction of a write.
func compare(t *testing.T, conn *pgconn.PgConn, before []asked, w *statement, touched []Tag, sum *tally) {
	t.Helper()
	exec(t, conn, "SET LOCAL ROLE tags_reader; SAVEPOINT s")
	for _, r := range before {
		rows, err := r.run(t.Context(), conn)
		answer := strings.Join(rows, "\n")
		if err != nil {
			answer = err.Error()
			exec(t, conn, "ROLLBACK TO s")
		}
		sum.pairs++
		if r.keyed {
			sum.keyed++
		}
		met := meet(r.tags, touched)
		changed := answer != r.answer
		if met {
			sum.met++
			if !changed {
				sum.idle++
				if r.keyed {
					sum.keyedIdle++
				}
			}
		}
		if changed {
			sum.changed++
			if !met {
				t.Errorf("%s\nread  %s\nwrite %s\nbefore:\n%s\nafter:\n%s", r.template, r.statement, w, r.answer, answer)
			}
		}
	}
}
