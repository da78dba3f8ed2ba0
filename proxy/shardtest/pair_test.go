package shardtest

import (
	"fmt"
	"strings"
	"testing"
)

// pair is one plain server and what must give the same answers, in the same state.
type pair struct {
	rig   *rig
	plain *client
	other runner
	// asTwin: other is the twin of the plain server, not the shards.
	asTwin bool
	tally  *tally
	// verdicts of the statements in all modes so far.
	verdicts map[*statement]verdict
	// refusedAny: statements with "must" may be refused too, for what stands in for pgtier.
	refusedAny bool
}

func newPair(t testing.TB, r *rig, other runner) *pair {
	t.Helper()
	plain, err := connect(r.plain.URL(database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.close)
	return &pair{rig: r, plain: plain, other: other, tally: newTally(), verdicts: map[*statement]verdict{}}
}

// timedOut is the SQLSTATE of a statement that took longer than its limit.
const timedOut = "57014"

// judge runs a statement on both sides in one mode, and says what became of it and why.
//
// The other side goes first. What it refuses outside a transaction is not asked of the plain server, so that a trace of
// it shows as a difference of the tables; inside a transaction the plain server is made to fail too.
func (p *pair) judge(s *statement, m mode) (verdict, string) {
	v := p.rig.encoder.values(s)
	inside := p.plain.conn.TxStatus() != 'I'
	got := p.other.run(s, m, v)
	var want outcome
	if p.refuses(&got) && s.fails != "0A000" {
		// A read may be asked of the plain server all the same: perhaps PostgreSQL itself does not do it.
		if inside || !s.reads() {
			return p.judgeRefusal(s, &got, inside)
		}
		if want = p.plain.run(s, m, v); !want.refused() {
			return p.judgeRefusal(s, &got, inside)
		}
	} else {
		want = p.plain.run(s, m, v)
	}
	if s.fails == "" && (want.state() == timedOut || got.state() == timedOut) {
		p.level(&want, &got)
		return slow, ""
	}
	if want.refused() && got.refused() && got.err.Hint != "" {
		got.err = want.err // in its own words, which is as good
	}
	if p.rig.moves != nil && got.err != nil { // a condition has been added to WHERE
		got.err.Message = strings.Replace(got.err.Message, "argument of AND must be", "argument of WHERE must be", 1)
	}
	d := differ(s, &want, &got)
	if want.lost != nil {
		d = fmt.Sprintf("the plain server's connection: %v", want.lost)
	}
	if d != "" {
		p.level(&want, &got)
		return wrong, d
	}
	if p.asTwin && s.fails != want.state() && !strings.HasPrefix(s.kind, "random") {
		return wrong, fmt.Sprintf("the statement is said to give %q and gives %s", s.fails, errorText(want.err))
	}
	return equal, ""
}

// refuses reports whether got is a refusal: while buckets move, also of what could be answered when they have moved.
func (p *pair) refuses(got *outcome) bool {
	return got.refused() || p.rig.moves != nil && got.state() == "55006" && strings.Contains(got.err.Hint, "move of buckets")
}

func (p *pair) judgeRefusal(s *statement, got *outcome, inside bool) (verdict, string) {
	said := got.err.Message
	if got.err.Hint == "" {
		return wrong, "refused without a hint: " + said
	}
	if s.must && !p.refusedAny {
		return wrong, "must not be refused: " + said + " (" + got.err.Hint + ")"
	}
	if inside {
		failed := p.plain.run(&statement{sql: "SELECT 1/0 AS refused"}, simpleText, &values{})
		if failed.status != got.status {
			p.level(&failed, got)
			return wrong, fmt.Sprintf("want transaction status %c after a refusal, got %c: %s", failed.status, got.status, said)
		}
	} else if got.status != 'I' {
		return wrong, fmt.Sprintf("want transaction status I after a refusal, got %c: %s", got.status, said)
	}
	return refused, said
}

// level brings both sides out of transactions that they are not both in, and connects what was lost again.
func (p *pair) level(want, got *outcome) {
	if want.lost != nil || got.lost != nil || want.status != got.status {
		_ = p.plain.again()
		_ = p.other.again()
	}
}

// run judges statements in one mode, and with states compares the tables' contents whenever no transaction is open.
func (p *pair) run(t testing.TB, file []*statement, m mode, states bool) {
	t.Helper()
	for _, s := range file {
		if !s.runs(m) {
			continue
		}
		v, why := p.judge(s, m)
		if states && v != wrong && !s.reads() && p.plain.conn.TxStatus() == 'I' {
			if d := p.rig.differences(p.asTwin, touched(s.sql)); d != "" {
				why = "after it: " + d
				if v == refused {
					why = "it was refused and left a trace: " + d
				}
				v = wrong
				p.rig.restore(t, p.asTwin)
			}
		}
		p.note(s, m, v, why)
	}
}

// note keeps the worst verdict of a statement and what is to be told of it.
func (p *pair) note(s *statement, m mode, v verdict, why string) {
	before, known := p.verdicts[s]
	if !known || v > before {
		p.verdicts[s] = v
		switch v {
		case refused:
			p.tally.refusals = append(p.tally.refusals, fmt.Sprintf("%-28s %s -- %s", s.place, strings.Join(strings.Fields(s.sql), " "), why))
		case wrong:
			p.tally.failures = append(p.tally.failures, fmt.Sprintf("%s (%s): %s", s, m, why))
		}
	}
}

// finish books the verdicts.
func (p *pair) finish() {
	for s, v := range p.verdicts {
		p.tally.book(s.kind, v)
	}
	p.verdicts = map[*statement]verdict{}
}

// runCorpus runs all of the corpus, or the kinds that keep says.
func (p *pair) runCorpus(t testing.TB, modes ...mode) {
	t.Helper()
	reads, err := readCorpus("reads")
	if err != nil {
		t.Fatal(err)
	}
	writes, err := readCorpus("writes")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range reads {
		for _, m := range modes {
			p.run(t, file, m, false)
		}
		if d := p.rig.differences(p.asTwin, tables()); d != "" {
			t.Fatalf("%s.sql, which reads only, has changed tables: %s", file[0].kind, d)
		}
	}
	for _, file := range writes {
		for _, m := range modes {
			p.rig.restore(t, p.asTwin)
			p.run(t, file, m, true)
			if status := p.plain.conn.TxStatus(); status != 'I' {
				t.Errorf("%s.sql ends inside a transaction (%c)", file[0].kind, status)
				p.level(&outcome{status: status}, &outcome{status: 'I'})
			}
			if file[0].kind == "ddl" {
				p.rig.cleanUp(t)
			}
			if d := p.rig.differences(p.asTwin, tables()); d != "" {
				p.tally.failures = append(p.tally.failures, fmt.Sprintf("%s.sql (%s): in the end %s", file[0].kind, m, d))
			}
		}
	}
	p.finish()
}
