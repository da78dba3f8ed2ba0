package shardtest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// slowest bounds a generated statement: joins without a key multiply.
const slowest = "1s"

// bound sets the limit of statements on both sides.
func (p *pair) bound() {
	limit := &statement{sql: "SET statement_timeout = '" + slowest + "'"}
	p.plain.run(limit, simpleText, &values{})
	p.other.run(limit, simpleText, &values{})
}

// runRandom judges generated statements until the time is over or a few were wrong, and shrinks those.
func (p *pair) runRandom(t testing.TB, seed int64, end time.Time, generate func(*generator) *statement, writes bool) {
	t.Helper()
	const enough = 5 // wrong answers: more of them would be the same mistakes again
	p.bound()
	for n := 0; time.Now().Before(end) && len(p.tally.failures) < enough; n++ {
		c := &choices{rng: rand.New(rand.NewPCG(uint64(seed), uint64(n)))}
		m := mode(c.below(int(modes)))
		s := generate(newGenerator(c))
		s.place = fmt.Sprintf("seed %d number %d", seed, n)
		v, why := p.judgeRandom(t, s, m, writes)
		if v == wrong {
			small, smallWhy := p.shrunk(t, c.made, generate, writes)
			why += fmt.Sprintf("\n-- shrunk to (%s): %s\n%s", small.place, small, smallWhy)
		}
		p.note(s, m, v, why)
		p.tally.book(s.kind, v)
	}
	p.tally.refusals = nil // too many to be read
	p.verdicts = map[*statement]verdict{}
}

// judgeRandom judges one generated statement. One that takes too long on either side says nothing.
func (p *pair) judgeRandom(t testing.TB, s *statement, m mode, writes bool) (verdict, string) {
	v, why := p.judge(s, m)
	if !writes {
		return v, why
	}
	if v != wrong {
		if d := p.rig.differences(p.asTwin, touched(s.sql)); d != "" {
			v, why = wrong, "after it: "+d
		}
	}
	if v == wrong {
		p.rig.restore(t, p.asTwin)
	}
	return v, why
}

// shrunk makes a smaller statement that is wrong too.
func (p *pair) shrunk(t testing.TB, made []int, generate func(*generator) *statement, writes bool) (*statement, string) {
	again := func(made []int) (*statement, verdict, string) {
		c := &choices{made: append([]int(nil), made...)}
		m := mode(c.below(int(modes)))
		s := generate(newGenerator(c))
		s.place = m.String()
		v, why := p.judgeRandom(t, s, m, writes)
		return s, v, why
	}
	small := shrink(made, func(with []int) bool {
		_, v, _ := again(with)
		return v == wrong
	}, time.Now().Add(15*time.Second)) // a smaller statement is a help, not the purpose
	s, v, why := again(small)
	if v != wrong {
		return s, "which is right now: it depends on what came before"
	}
	return s, why
}

// TestGeneratedStatementsAreGood runs generated statements on one server and its twin, and says how many of them fail,
// give nothing, or tell a union of shards from one server.
func TestGeneratedStatementsAreGood(t *testing.T) {
	r, seed := newRig(t), seedOf(t)
	other, err := connect(r.plain.URL(twin, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	p := newPair(t, r, other)
	joined := newUnion(t, r)
	p.bound()
	const statements = 400
	errors, empty, caught := map[string]int{}, 0, 0
	for n := range statements {
		s := newGenerator(&choices{rng: rand.New(rand.NewPCG(uint64(seed), uint64(n)))}).read()
		if v, why := p.judge(s, prepared); v == wrong {
			t.Errorf("seed %d number %d: %s: %s", seed, n, s, why)
		}
		v := r.encoder.values(s)
		want := p.plain.run(s, prepared, v)
		if want.err != nil {
			errors[want.err.Code+" "+want.err.Message]++
			continue
		}
		if len(want.results[0].rows) == 0 {
			empty++
		}
		if differ(s, &want, ptr(joined.run(s, prepared, v))) != "" {
			caught++
		}
	}
	failed := 0
	for what, n := range errors {
		failed += n
		t.Logf("%d: %s", n, what)
	}
	t.Logf("of %d statements: %d failed, %d gave no rows, %d tell a union from one server", statements, failed, empty, caught)
	if failed > statements/10 || empty > statements/2 || caught < statements/3 {
		t.Error("the generator has become dull")
	}
}

func ptr[T any](v T) *T { return &v }
