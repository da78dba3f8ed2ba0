package session

import "testing"

func TestLinesOfACopyAreKeptAsFarBackAsTheyMayBeAskedFor(t *testing.T) {
	var l copyLines
	from := int64(0)
	for i := range int64(2 * maxCopySteps) {
		from += 1 + i%200
		l.add([]byte("x\n"), "text", from)
	}
	if len(l.steps) > maxCopySteps {
		t.Errorf("%d bytes are kept", len(l.steps))
	}
	if got, ok := l.of(2 * maxCopySteps); got != from || !ok {
		t.Errorf("the last line is %d, %v, want %d", got, ok, from)
	}
	if got, ok := l.of(2*maxCopySteps - 1); got != from-1-(2*maxCopySteps-1)%200 || !ok {
		t.Errorf("the last line but one is %d, %v", got, ok)
	}
	for _, line := range []int64{0, 1, 2*maxCopySteps + 1} {
		if got, ok := l.of(line); ok {
			t.Errorf("line %d is %d, want none", line, got)
		}
	}
	if got := l.context("SQL function\nCOPY t, line 1, column c: \"a\nb\"", nil); got != "SQL function" {
		t.Errorf("context of a line that is not known: %q", got)
	}
	if got := l.context("COPY t, Zeile 5: »a«", nil); got != "" {
		t.Errorf("context in another language: %q", got)
	}
}
