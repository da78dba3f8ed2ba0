package copyrows

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// cut gives the stream to a cutter in pieces of n bytes and describes what comes out.
func cut(t *testing.T, f Format, wanted []int, stream string, n int) (out []string) {
	t.Helper()
	c := New(f, wanted)
	whole := ""
	note := func(piece []byte, part Part) {
		whole += string(piece)
		text := [...]string{"row", "head", "end"}[part]
		if part == Row {
			for _, field := range c.Fields() {
				switch {
				case !field.Given:
					text += " -"
				case field.Null:
					text += " NULL"
				default:
					text += fmt.Sprintf(" %q", field.Value)
				}
			}
		}
		out = append(out, text)
	}
	for at := 0; at < len(stream); at += n {
		c.Add([]byte(stream[at:min(at+n, len(stream))]))
		for {
			piece, part, err := c.Next()
			if err != nil {
				return append(out, err.Error())
			}
			if piece == nil {
				break
			}
			note(piece, part)
		}
	}
	if piece, part := c.Rest(); len(piece) > 0 {
		note(piece, part)
	}
	if whole != stream {
		t.Errorf("pieces are %q, want %q", whole, stream)
	}
	return out
}

func TestRowsAreCutWhereTheServerCutsThem(t *testing.T) {
	text := Format{Delimiter: '\t', Null: `\N`}
	csv := Format{Kind: CSV, Delimiter: ',', Quote: '"', Escape: '"'}
	other := Format{Kind: CSV, Delimiter: ';', Quote: '\'', Escape: '\\', Null: "none", Header: true}
	tuple := func(fields ...string) string {
		b := binary.BigEndian.AppendUint16(nil, uint16(len(fields)))
		for _, field := range fields {
			if field == "NULL" {
				b = binary.BigEndian.AppendUint32(b, 1<<32-1)
				continue
			}
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
		}
		return string(b)
	}
	for _, tc := range []struct {
		name   string
		format Format
		stream string
		want   []string
	}{
		{"text", text, "1\tone\n2\t\\N\n3\t", []string{`row "1" "one"`, `row "2" NULL`, `row "3" ""`}},
		{"text escapes", text, "a\\tb\tx\\\\y\n\\x41\\101\\.\tz\\\nz\n", []string{`row "a\tb" "x\\y"`, `row "AA." "z\nz"`}},
		{"text, carriage returns", text, "1\ta\r\n2\tb\r\n", []string{`row "1" "a"`, `row "2" "b"`}},
		{"text end marker", text, "1\ta\n\\.\nrest\n", []string{`row "1" "a"`, "end", `row "rest" -`}},
		{"too few fields", text, "1\n", []string{`row "1" -`}},
		{"csv", csv, "1,one\n2,\n3,\"\"\n", []string{`row "1" "one"`, `row "2" NULL`, `row "3" ""`}},
		{"csv, whole fields quoted", csv, "\"a\",\"b\"\n\"c\"\"\",d\ne,\"f\"\n", []string{`row "a" "b"`, `row "c\"" "d"`, `row "e" "f"`}},
		{"csv quotes", csv, "\"a,\"\"b\"\"\nc\",x\"y\"z\n", []string{`row "a,\"b\"\nc" "xyz"`}},
		{"csv of another kind, with names", other, "id;name\n'it\\'s\n';none\nnone;'none'\n", []string{"head", `row "it's\n" NULL`, `row NULL "none"`}},
		{"binary", Format{Kind: Binary}, signature + "\x00\x00\x00\x00\x00\x00\x00\x02ab" + tuple("1", "one") + tuple("2", "NULL") + "\xff\xff", []string{"head", `row "1" "one"`, `row "2" NULL`, "end"}},
		{"binary nonsense", Format{Kind: Binary}, strings.Repeat("x", 40), []string{errBinary.Error()}},
	} {
		for _, n := range []int{1, 2, 3, 7, 1000} {
			if got := cut(t, tc.format, []int{0, 1}, tc.stream, n); fmt.Sprint(got) != fmt.Sprint(tc.want) && (tc.name != "binary nonsense" || got[len(got)-1] != tc.want[0]) {
				t.Errorf("%s, %d bytes at a time:\n got %q\nwant %q", tc.name, n, got, tc.want)
			}
		}
	}
}

func FuzzCutter(f *testing.F) {
	f.Add([]byte("1\ta\\\n\n"), uint8(0), uint8(1))
	f.Add([]byte("\"a\"\"\n\",b\n"), uint8(1), uint8(3))
	f.Add([]byte(signature+"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01x\xff\xff"), uint8(2), uint8(5))
	f.Fuzz(func(t *testing.T, stream []byte, kind, n uint8) {
		format := Format{Kind: Kind(kind % 3), Delimiter: ',', Quote: '"', Escape: '"', Null: `\N`}
		c, total := New(format, []int{1, 0}), 0
		for at := 0; at < len(stream); at += int(n) + 1 {
			c.Add(stream[at:min(at+int(n)+1, len(stream))])
			for {
				piece, _, err := c.Next()
				if err != nil {
					return
				}
				if piece == nil {
					break
				}
				total += len(piece)
			}
		}
		piece, _ := c.Rest()
		if total += len(piece); total != len(stream) {
			t.Errorf("%d bytes came out of %d", total, len(stream))
		}
	})
}
