package parser

import (
	"errors"
	"testing"
)

func TestSplice(t *testing.T) {
	for _, c := range []struct {
		sql   string
		edits []Edit
		want  string
	}{
		{"SELECT avg(x) FROM t", []Edit{{Span{1, 5}, "sum(x), count(x)"}}, "SELECT sum(x), count(x) FROM t"},
		{"SELECT a FROM t -- end", []Edit{{Span{4, 4}, "ORDER BY a"}}, "SELECT a FROM t ORDER BY a -- end"},
		{"SELECT a FROM t LIMIT 5 ;", []Edit{{Span{4, 4}, "ORDER BY a"}, {Span{5, 6}, "7"}}, "SELECT a FROM t ORDER BY a LIMIT 7 ;"},
		{"SELECT 1+2", []Edit{{Span{2, 3}, ""}}, "SELECT 1 2"},
		{"SELECT (a)", []Edit{{Span{2, 3}, "b"}, {Span{3, 3}, "+ 1"}}, "SELECT ( b + 1 )"},
		{"SELECT /* a */ a /* b */, /* c */ b", []Edit{{Span{1, 4}, "c"}}, "SELECT /* a */ c"},
		{"a", []Edit{{Span{1, 1}, "b"}, {Span{1, 1}, "c"}}, "a b c"},
		{"SELECT a", nil, "SELECT a"},
	} {
		got, err := Splice([]byte(c.sql), c.edits)
		if err != nil || string(got) != c.want {
			t.Errorf("%q with %v is %q, %v, want %q", c.sql, c.edits, got, err, c.want)
		}
	}
}

func TestSpliceRefuses(t *testing.T) {
	for _, c := range []struct {
		edits []Edit
		want  error
	}{
		{[]Edit{{Span{}, "x"}}, errEditPlace},
		{[]Edit{{Span{2, 1}, "x"}}, errEditOrder},
		{[]Edit{{Span{-1, 1}, "x"}}, errEditOrder},
		{[]Edit{{Span{1, 3}, "x"}, {Span{2, 4}, "y"}}, errEditOrder},
		{[]Edit{{Span{2, 3}, "x"}, {Span{1, 2}, "y"}}, errEditOrder},
		{[]Edit{{Span{4, 6}, "x"}}, errEditRange},
		{[]Edit{{Span{1, 2}, "'x"}}, errEditText},
		{[]Edit{{Span{1, 2}, "x --"}}, errEditText},
		{[]Edit{{Span{1, 2}, "x /*"}}, errEditText},
		{[]Edit{{Span{1, 2}, "E'\\"}}, errEditText},
	} {
		if got, err := Splice([]byte("SELECT a FROM t"), c.edits); !errors.Is(err, c.want) {
			t.Errorf("%v gives %q, %v, want %v", c.edits, got, err, c.want)
		}
	}
}

func FuzzSplice(f *testing.F) {
	for i, s := range seeds() {
		f.Add(s, "a + 'b'", uint8(i), uint8(3), uint8(2))
	}
	f.Fuzz(func(t *testing.T, sql, text string, skip, width, second uint8) {
		if len(sql) > 4096 || len(text) > 4096 {
			return
		}
		tokens := Tokens([]byte(sql), nil)
		from := min(int(skip), len(tokens))
		to := min(from+int(width), len(tokens))
		edits := []Edit{{Span{from, to}, text}, {Span{min(to+int(second), len(tokens)), len(tokens)}, text}}
		got, err := Splice([]byte(sql), edits)
		if err != nil {
			return
		}
		var want []string
		add := func(sql string, list []Token) {
			for _, k := range list {
				want = append(want, sql[k.Start:k.End])
			}
		}
		inserted := Tokens([]byte(text), nil)
		add(sql, tokens[:from])
		add(text, inserted)
		add(sql, tokens[to:edits[1].From])
		add(text, inserted)
		after := Tokens(got, nil)
		if len(after) != len(want) {
			t.Fatalf("%d tokens, want %d: %q with %v is %q", len(after), len(want), sql, edits, got)
		}
		for i, k := range after {
			if text := string(got[k.Start:k.End]); text != want[i] {
				t.Fatalf("token %d is %q, want %q: %q with %v is %q", i, text, want[i], sql, edits, got)
			}
		}
	})
}
