package parser

import (
	"fmt"
	"strings"
	"testing"
)

func TestShapeIsTheTextButForItsIntegers(t *testing.T) {
	const text = "UPDATE t SET a = a + 17, b1 = 'x1' WHERE id = 12345;"
	s := shapeOf(text)
	for other, want := range map[string]bool{
		text: true,
		"UPDATE t SET a = a + 8, b1 = 'x1' WHERE id = 999999999;":   true,
		"UPDATE t SET a = a + 0, b1 = 'x1' WHERE id = 1;":           true,
		"UPDATE t SET a = a + 17, b1 = 'x1' WHERE id = 1234567890;": false, // may be numeric
		"UPDATE t SET a = a + 17, b1 = 'x1' WHERE id = ;":           false,
		"UPDATE t SET a = a + , b1 = 'x1' WHERE id = 1;":            false,
		"UPDATE t SET a = a + 17, b1 = 'x2' WHERE id = 12345;":      false,
		"UPDATE t SET a = a + 17, b2 = 'x1' WHERE id = 12345;":      false,
		"UPDATE t SET a = a + 17.0, b1 = 'x1' WHERE id = 12345;":    false,
		"UPDATE t SET a = a + 17, b1 = 'x1' WHERE id = 12345e1;":    false,
		"UPDATE t SET a = a + -17, b1 = 'x1' WHERE id = 12345;":     false,
		"UPDATE t SET a = a + 17, b1 = 'x1' WHERE id = 12345":       false,
		"UPDATE t SET a = a + 17, b1 = 'x1' WHERE id = 12345;;":     false,
		"UPDATE t SET a = a + 17":                                   false,
		"":                                                          false,
	} {
		if got := s.matches([]byte(other)); got != want {
			t.Errorf("%q: matches %v, want %v", other, got, want)
		}
	}
}

func TestTextWithoutIntegersIsItsOwnShape(t *testing.T) {
	for _, text := range []string{
		"", "BEGIN", "SELECT a, b, c, d, e, f FROM t", "SELECT a, b, c, d, e, f FROM t1", "SELECT '1', '2', '3', '4', '5'",
		"SELECT 1.5, 2.5, 3.5, 4.5, 5.5", "UPDATE accounts SET balance = balance + $1 WHERE id = $2",
	} {
		s := shapeOf(text)
		if s == nil || len(s.spans) > 0 || !s.matches([]byte(text)) || s.matches([]byte(text+" ")) || s.matches([]byte("x"+text)) {
			t.Errorf("%q: has the shape %+v", text, s)
		}
	}
	if s := shapeOf("SELECT " + strings.Repeat("1, ", maxShape) + "1"); s != nil {
		t.Errorf("a text of more than %d bytes has a shape", maxShape)
	}
}

func TestStatementIsFoundByShape(t *testing.T) {
	c := NewCache(1 << 20)
	first := c.Statement([]byte("SELECT abalance FROM accounts WHERE aid = 1"))
	for i := range 100 {
		if got := c.Statement(fmt.Appendf(nil, "SELECT abalance FROM accounts WHERE aid = %d", i*i)); got != first {
			t.Fatalf("%d: another statement", i)
		}
	}
	// What decides the facts is never taken for another value of the same.
	for _, text := range []string{"SELECT a::float(24), b, c FROM accounts", "SELECT a::float(25), b, c FROM accounts"} {
		if got := c.Statement([]byte(text)); got.Template != text {
			t.Errorf("%s: got the statement of %q", text, got.Template)
		}
	}
	if stats := c.Stats(); stats.Hits != 100 || stats.Misses != 3 {
		t.Errorf("%d hits and %d misses, want 100 and 3", stats.Hits, stats.Misses)
	}
}

// Texts that begin alike take turns without pushing each other out.
func TestShapesOfTextsThatBeginAlike(t *testing.T) {
	c := NewCache(1 << 20)
	texts := [][]byte{
		[]byte("UPDATE pgbench_accounts SET abalance = abalance + 17 WHERE aid = 1"),
		[]byte("UPDATE pgbench_accounts SET abalance = abalance + -17 WHERE aid = 1"),
		[]byte("UPDATE pgbench_accounts SET bid = 1 WHERE aid = 1"),
		[]byte("UPDATE pgbench_accounts SET bid = 1 WHERE bid = 1 AND aid = 1"),
	}
	for range 2 { // the first time is the analysis, the second a search by template, which remembers the shape
		for _, text := range texts {
			c.Statement(text)
		}
	}
	for _, text := range texts {
		if c.byShape(text) == nil {
			t.Errorf("%q is not found by its shape", text)
		}
	}
	for i := range 2 * shapeWays { // a full place takes newcomers
		text := []byte("UPDATE pgbench_accounts SET " + strings.Repeat("x", i+1) + " = 1")
		c.Statement(text)
		if c.Statement(text); c.byShape(text) == nil {
			t.Errorf("%q is not found by its shape", text)
		}
	}
}

// checkShape fails if b is taken for a text with a's template and has another.
func checkShape(t *testing.T, a, b string) {
	t.Helper()
	room := make([]byte, 0, 3*maxShape)
	key, verbatim, ok := template(room, []byte(a))
	if !ok || verbatim {
		return
	}
	want := string(key)
	s := shapeOf(a)
	if s == nil || !s.matches([]byte(b)) {
		return
	}
	if got, verbatim, ok := template(room, []byte(b)); !ok || verbatim || string(got) != want {
		t.Errorf("%q has the shape of %q, and the templates %q (verbatim %v) and %q", b, a, got, verbatim, want)
	}
}

// renumber gives a text other digits, now and then more or fewer of them.
func renumber(text string, choice byte) string {
	var out []byte
	for i := range len(text) {
		c := text[i]
		if c >= '0' && c <= '9' {
			c = '0' + (c-'0'+choice+byte(i))%10
			if (choice+byte(i))%7 == 0 {
				out = append(out, c)
			}
		}
		out = append(out, c)
	}
	return string(out)
}

func FuzzShape(f *testing.F) {
	for i, s := range seeds() {
		f.Add(s, renumber(s, byte(i)), byte(i))
	}
	f.Fuzz(func(t *testing.T, a, b string, choice byte) {
		if len(a) > maxShape || len(b) > maxShape {
			return
		}
		checkShape(t, a, a)
		checkShape(t, a, b)
		checkShape(t, a, renumber(a, choice))
	})
}
