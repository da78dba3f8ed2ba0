package session

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/parser"
)

// TestNamesOfAKeptConnectionAreBounded parses many names, long ones, and long texts.
func TestNamesOfAKeptConnectionAreBounded(t *testing.T) {
	env := &Env{}
	env.Limits.Store(&Limits{SessionMemory: 1 << 20})
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT 1"))
	for _, parse := range []struct {
		name  string
		size  int
		known int // of the names at most
	}{
		{"%d", 8, 1000}, {strings.Repeat("n", 63) + "%d", 8, 0}, {"é%d", 8, 0}, {"%d", 100 << 10, 10},
	} {
		s := &Session{env: env, raw: true}
		for i := range 10_000 {
			s.rawParsed(fmt.Appendf(nil, parse.name, i), st, parse.size)
		}
		known, bytes := 0, 0
		for name, st := range s.rawNames.known {
			bytes += len(name)
			if st != nil {
				known++
			}
		}
		if len(s.rawNames.known) > 1000 || bytes > 62*1000 || known > parse.known {
			t.Errorf("%s with a text of %d bytes: %d names of %d bytes, %d of them known", parse.name, parse.size, len(s.rawNames.known), bytes, known)
		}
		if s.rawStatement(fmt.Appendf(nil, parse.name, 9_999)) != nil {
			t.Errorf("%s with a text of %d bytes: the last is known", parse.name, parse.size)
		}
	}
}
