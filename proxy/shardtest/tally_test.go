package shardtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// verdict is what became of one statement.
type verdict int

const (
	equal verdict = iota
	slow          // took too long on one side: it says nothing
	refused
	wrong
)

// tally counts verdicts by kind of statement and keeps what was refused or wrong.
type tally struct {
	kinds    map[string]*[wrong + 1]int
	refusals []string // of the corpus, with pgtier's words
	failures []string
}

func newTally() *tally { return &tally{kinds: map[string]*[wrong + 1]int{}} }

// book takes down the worst verdict of one statement over all modes.
func (t *tally) book(kind string, v verdict) {
	if t.kinds[kind] == nil {
		t.kinds[kind] = &[wrong + 1]int{}
	}
	t.kinds[kind][v]++
}

// total is how many statements there were of each verdict.
func (t *tally) total() (sum [wrong + 1]int) {
	for _, counts := range t.kinds {
		for v, n := range counts {
			sum[v] += n
		}
	}
	return sum
}

// String is the table of refusal rates.
func (t *tally) String() string {
	var text strings.Builder
	line := func(name string, counts [wrong + 1]int) {
		all := counts[equal] + counts[slow] + counts[refused] + counts[wrong]
		fmt.Fprintf(&text, "%-22s %6d %6d %6d %6d %6d %7.1f %%\n", name, all, counts[equal], counts[slow], counts[refused], counts[wrong], 100*float64(counts[refused])/float64(cmp.Or(all, 1)))
	}
	fmt.Fprintf(&text, "\n%-22s %6s %6s %6s %6s %6s %9s\n", "kind", "all", "equal", "slow", "0A000", "wrong", "refused")
	for _, kind := range slices.Sorted(maps.Keys(t.kinds)) {
		line(kind, *t.kinds[kind])
	}
	line("all", t.total())
	return text.String()
}

// report logs the table and the refusals, and fails the test for each wrong answer.
func (t *tally) report(tb testing.TB) {
	tb.Helper()
	tb.Log(t.String())
	if len(t.refusals) > 0 {
		tb.Logf("refused:\n%s", strings.Join(t.refusals, "\n"))
	}
	for _, failure := range t.failures {
		tb.Error(failure)
	}
}
