package shardtest

import (
	"testing"
	"time"
)

// TestShardsAnswerAsOneServer runs the corpus on one server and on the shards behind pgtier.
func TestShardsAnswerAsOneServer(t *testing.T) {
	r := newRig(t)
	sharded, err := connect(r.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer sharded.close()
	p := newPair(t, r, sharded)
	defer p.tally.report(t)
	p.runCorpus(t, simpleText, unnamed, prepared, described)
}

// TestOneServerAnswersAsAnother runs the corpus on two databases of one server: whatever differs there is a mistake of
// the corpus or of the comparison. It also holds the statements to the errors that they are said to give.
func TestOneServerAnswersAsAnother(t *testing.T) {
	r := newRig(t)
	other, err := connect(r.plain.URL(twin, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	p := newPair(t, r, other)
	p.asTwin = true
	p.runCorpus(t, simpleText, prepared)
	p.tally.report(t)
}

// TestShardsAnswerGeneratedStatements runs generated reads, then writes, on one server and on the shards behind pgtier,
// for PGTIER_SHARD_SECONDS.
func TestShardsAnswerGeneratedStatements(t *testing.T) {
	r, seed := newRig(t), seedOf(t)
	sharded, err := connect(r.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer sharded.close()
	p := newPair(t, r, sharded)
	limit := secondsOf(t, 10)
	began := time.Now()
	p.runRandom(t, seed, began.Add(limit/2), (*generator).read, false)
	p.runRandom(t, seed, began.Add(limit), (*generator).write, true)
	p.tally.report(t)
}

// TestOneServerAnswersGeneratedStatements runs them on two databases of one server: what differs is a mistake of the
// generator, which then asks what PostgreSQL answers in more ways than one.
func TestOneServerAnswersGeneratedStatements(t *testing.T) {
	r, seed := newRig(t), seedOf(t)
	other, err := connect(r.plain.URL(twin, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	p := newPair(t, r, other)
	p.asTwin = true
	limit := secondsOf(t, 4)
	began := time.Now()
	p.runRandom(t, seed, began.Add(limit/2), (*generator).read, false)
	p.runRandom(t, seed, began.Add(limit), (*generator).write, true)
	p.tally.report(t)
}
