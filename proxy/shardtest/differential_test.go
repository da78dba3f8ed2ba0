package shardtest

import "testing"

// TestShardsAnswerAsOneServer runs the corpus on one server and on the shards behind pgtier.
func TestShardsAnswerAsOneServer(t *testing.T) {
	r := newRig(t)
	sharded, err := connect(r.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer sharded.close()
	p := newPair(t, r, sharded)
	p.runCorpus(t, simpleText, unnamed, prepared)
	p.tally.report(t)
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
