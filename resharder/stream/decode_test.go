package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// message builds one: bytes, texts, numbers of their width.
func message(parts ...any) []byte {
	var b []byte
	for _, part := range parts {
		switch p := part.(type) {
		case rune:
			b = append(b, byte(p))
		case string:
			b = append(append(b, p...), 0)
		case []byte:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		}
	}
	return b
}

func text(s string) value { return value{valueText, []byte(s)} }

func decodeCases() map[string]struct {
	b    []byte
	want any
} {
	return map[string]struct {
		b    []byte
		want any
	}{
		"begin":   {message('B', uint64(1<<40), uint64(0), uint32(7)), beginMessage{1 << 40}},
		"commit":  {message('C', rune(0), uint64(1), uint64(2), uint64(1_000_000)), commitMessage{2, epoch.Add(1e9)}},
		"origin":  {message('O', uint64(1), "there"), originMessage{"there"}},
		"marker":  {message('M', rune(1), uint64(1), "pgtier", []byte("marker x")), logicalMessage{"pgtier", "marker x"}},
		"outside": {message('M', rune(0), uint64(1), "pgtier", []byte("marker x")), nil},
		"type":    {message('Y', uint32(1), "a", "b"), nil},
		"relation": {message('R', uint32(9), "public", "t", 'd', uint16(2), rune(1), "id", uint32(20), uint32(0xffffffff), rune(0), "v", uint32(1043), uint32(14)),
			relationMessage{9, "public", "t", []relationColumn{{"id", true, 20, -1}, {"v", false, 1043, 14}}}},
		"insert":      {message('I', uint32(9), 'N', uint16(3), 't', []byte("1"), 'n', 't', []byte("")), rowMessage{'I', 9, nil, []value{text("1"), {valueNull, nil}, text("")}, false}},
		"update":      {message('U', uint32(9), 'N', uint16(2), 't', []byte("1"), 'u'), rowMessage{'U', 9, nil, []value{text("1"), {valueUnchanged, nil}}, false}},
		"update key":  {message('U', uint32(9), 'K', uint16(1), 't', []byte("1"), 'N', uint16(1), 'n'), rowMessage{'U', 9, []value{text("1")}, []value{{valueNull, nil}}, true}},
		"update full": {message('U', uint32(9), 'O', uint16(1), 't', []byte("1"), 'N', uint16(1), 'n'), rowMessage{'U', 9, []value{text("1")}, []value{{valueNull, nil}}, false}},
		"delete":      {message('D', uint32(9), 'K', uint16(1), 't', []byte("1")), rowMessage{'D', 9, []value{text("1")}, nil, true}},
		"truncate":    {message('T', uint32(2), rune(0), uint32(9), uint32(10)), truncateMessage{[]uint32{9, 10}}},
	}
}

func TestMessagesAreReadWholeOrRefused(t *testing.T) {
	for name, tc := range decodeCases() {
		got, err := decode(tc.b)
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tc.want)
		}
		if name == "type" { // is not looked at
			continue
		}
		for cut := range tc.b {
			if got, err := decode(tc.b[:cut]); !errors.Is(err, errMalformed) {
				t.Errorf("%s cut to %d bytes: %+v, %v", name, cut, got, err)
			}
		}
		if got, err := decode(append(bytes.Clone(tc.b), 0)); !errors.Is(err, errMalformed) {
			t.Errorf("%s with a byte more: %+v, %v", name, got, err)
		}
	}
	for name, b := range map[string][]byte{
		"nothing":              {},
		"unknown type":         message('S', uint32(1), rune(1)),
		"binary value":         message('I', uint32(9), 'N', uint16(1), 'b', []byte("1")),
		"old row of an INSERT": message('I', uint32(9), 'K', uint16(1), 'n', 'N', uint16(1), 'n'),
		"new row of a DELETE":  message('D', uint32(9), 'N', uint16(1), 'n'),
		"endless value":        message('I', uint32(9), 'N', uint16(1), 't', uint32(0xffffffff)),
		"endless row":          message('I', uint32(9), 'N', uint16(0xffff), 'n'),
		"endless relation":     message('R', uint32(9), "a", "b", 'd', uint16(0xffff)),
		"endless truncate":     message('T', uint32(0xffffffff), rune(0), uint32(1)),
		"endless message":      message('M', rune(1), uint64(1), "pgtier", uint32(0xffffffff)),
	} {
		if got, err := decode(b); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestFramesAreReadWholeOrRefused(t *testing.T) {
	alive := message('k', uint64(5), uint64(0), rune(1))
	if f, err := unframe(alive); err != nil || f.message != nil || f.end != 5 || !f.reply {
		t.Errorf("keepalive: %+v, %v", f, err)
	}
	data := append(message('w', uint64(1), uint64(2), uint64(3)), "Bx"...)
	if f, err := unframe(data); err != nil || string(f.message) != "Bx" {
		t.Errorf("data: %+v, %v", f, err)
	}
	for _, whole := range [][]byte{alive, data[:len(data)-1]} {
		for cut := range whole {
			if f, err := unframe(whole[:cut]); !errors.Is(err, errMalformed) {
				t.Errorf("%q: %+v, %v", whole[:cut], f, err)
			}
		}
	}
}

// TestCorpusHasEveryMessage keeps the committed corpus complete: run with UPDATE=1 to write what is missing.
func TestCorpusHasEveryMessage(t *testing.T) {
	for name, tc := range decodeCases() {
		path := filepath.Join("testdata", "fuzz", "FuzzDecode", "message_"+strings.ReplaceAll(name, " ", "_"))
		want := "go test fuzz v1\n[]byte(" + strconv.Quote(string(tc.b)) + ")\n"
		if os.Getenv("UPDATE") != "" {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(want), 0o644))
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

// FuzzDecode feeds a decoder, and what makes statements of rows, with whatever a server might send.
func FuzzDecode(f *testing.F) {
	table := &Table{Schema: "public", Name: "t", Identity: IdentityFull, Columns: []Column{{Name: "id", Type: "bigint", InIdentity: true}, {Name: "v", Type: "text", InIdentity: true, Always: true}}}
	tables := []*Table{table, {Schema: "public", Name: "t", Columns: []Column{{Name: "id", Type: "bigint", InIdentity: true, InPrimary: true}, {Name: "v", Type: "text"}}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = unframe(b) // must not panic
		m, err := decode(b)
		if (err != nil) != errors.Is(err, errMalformed) {
			t.Errorf("error %v is of another kind", err)
		}
		row, ok := m.(rowMessage)
		if !ok {
			return
		}
		size := 0
		for _, v := range append(row.old, row.new...) {
			size += len(v.text)
		}
		if size > len(b) {
			t.Errorf("values of %d bytes in a message of %d", size, len(b))
		}
		at := &attachment{inside: true, relations: map[uint32]*target{}}
		for _, table := range tables {
			relation := relationMessage{columns: []relationColumn{{name: "id", key: true}, {name: "v", key: table.Identity == IdentityFull}}}
			at.relations[row.id] = newTarget(table, &relation)
			if len(row.old) == 2 || len(row.new) == 2 {
				if err := at.check(&row); err == nil {
					_, _ = at.relations[row.id].statement(&row) // must not panic
				}
			}
		}
	})
}
