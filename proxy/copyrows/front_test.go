package copyrows

import (
	"bytes"
	"fmt"
	"testing"
)

// TestFieldsInFrontAreReadBack puts fields in front of a stream's rows, and cuts what comes out: the fields are there, and the rows' own behind them.
func TestFieldsInFrontAreReadBack(t *testing.T) {
	tuple := func(fields ...string) string {
		b := []byte{0, byte(len(fields))}
		for _, field := range fields {
			b = append(append(b, 0, 0, 0, byte(len(field))), field...)
		}
		return string(b)
	}
	const head = signature + "\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, tc := range map[string]struct {
		format Format
		stream string
		heads  int
	}{
		"text":                         {Format{Delimiter: '\t', Null: `\N`}, "a\tb\nc\td\n\\.\n", 0},
		"text with another delimiter":  {Format{Delimiter: ':', Null: `\N`}, "a:b\nc:d", 0},
		"text that a letter parts":     {Format{Delimiter: 'T', Null: ``}, "aTb\ncTd\n", 0},
		"text with names that count":   {Format{Delimiter: ' ', Null: `\N`, Header: true, Match: true}, "x y\na b\nc d\n", 1},
		"csv":                          {Format{Kind: CSV, Delimiter: ',', Quote: '"', Escape: '"'}, "a,\"b\"\nc,d\n", 0},
		"csv with quotes of the value": {Format{Kind: CSV, Delimiter: '1', Quote: '0', Escape: '-', Null: "2024"}, "a1b\nc1d", 0},
		"csv with names":               {Format{Kind: CSV, Delimiter: ';', Quote: '"', Escape: '\\', Header: true}, "x;y\na;b\r\nc;d\r\n", 0},
		"csv with names that count":    {Format{Kind: CSV, Delimiter: ';', Quote: '"', Escape: '\\', Header: true, Match: true}, "x;y\na;b\nc;d\n", 1},
		"binary":                       {Format{Kind: Binary}, head + tuple("a", "b") + tuple("c", "d") + "\xff\xff", 0},
	} {
		names, values := []string{`a "b`, `c\d: ;`}, [][]byte{[]byte(`2024-01-31T10:00:00.5+00:00`), []byte("0\"1\\2\n3")}
		f, err := NewFront(tc.format, names, values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, out, rows := New(tc.format, []int{0}), []byte(nil), 0
		c.Add([]byte(tc.stream))
		for piece, part, err := c.Next(); piece != nil || err != nil; piece, part, err = c.Next() {
			if err != nil {
				t.Fatal(err)
			}
			out = f.Append(out, piece, part)
		}
		if piece, part := c.Rest(); len(piece) > 0 {
			out = f.Append(out, piece, part)
		}
		format := tc.format
		if tc.heads > 0 {
			format.Header = false
		}
		c = New(format, []int{0, 1, 2, 3, 4})
		c.Add(append(bytes.Clone(out), '\n'))
		for {
			piece, part, err := c.Next()
			if piece == nil || err != nil || part == End {
				break
			}
			if part == Head {
				continue
			}
			want := [][]string{{string(values[0]), string(values[1]), "a", "b"}, {string(values[0]), string(values[1]), "c", "d"}}
			if tc.heads > 0 {
				want = append([][]string{{names[0], names[1], "x", "y"}}, want...)
			}
			var got []string
			for i, field := range c.Fields() {
				if field.Null || field.Given != (i < 4) {
					t.Errorf("%s: field %d is NULL %v, given %v in %q", name, i, field.Null, field.Given, piece)
				}
				if field.Given {
					got = append(got, string(field.Value))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want[rows]) {
				t.Errorf("%s: got %q, want %q", name, got, want[rows])
			}
			if rows++; rows == len(want) {
				break
			}
		}
		if rows != 2+tc.heads {
			t.Errorf("%s: %d rows in %q", name, rows, out)
		}
	}
	if _, err := NewFront(Format{Delimiter: '\t', Null: "2024-01-31"}, []string{"day"}, [][]byte{[]byte("2024-01-31")}); err == nil {
		t.Error("a value that is read as NULL is taken")
	}
	f, _ := NewFront(Format{Delimiter: '\t'}, []string{"day"}, [][]byte{[]byte("2024-01-31")})
	if got := f.Cut(": \"2024-01-31\t7\""); got != ": \"7\"" {
		t.Errorf("what is shown is %q", got)
	}
	if got := f.Cut(`: "2024-01..."`); got != "" {
		t.Errorf("what is shown of less than the fields is %q", got)
	}
}
