package session

import (
	"bytes"
	"strings"
	"testing"

	"pgtier/proxy/wire"
)

// FuzzSplit holds that what is split out of a client's message is what stands
// in it, and that a renamed Bind differs by its name only.
func FuzzSplit(f *testing.F) {
	f.Add(wire.AppendParse(nil, "s", []byte("SELECT $1"), []uint32{23, 25})[wire.HeaderBytes:])
	f.Add(wire.AppendBindText(nil, "s", []*string{nil})[wire.HeaderBytes:])
	f.Add(wire.AppendCloseStatement(nil, "s")[wire.HeaderBytes:])
	f.Add([]byte("no end"))
	f.Add([]byte{0, 0, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		frame, at := wire.Begin(nil, 'x')
		frame = wire.End(append(frame, body...), at)
		if p, ok := splitParse(frame); ok {
			again := append(append(append(append([]byte(nil), p.name...), 0), p.text...), 0)
			if !bytes.HasPrefix(body, again) || len(body) != len(again)+2+len(p.types) || len(p.types)%4 != 0 {
				t.Fatalf("Parse %q was split into %q", body, p)
			}
		}
		if portal, name, rest, ok := splitBind(frame); ok {
			again := appendBindHead(nil, frame[:rest], len(frame), len(name), "another")
			again = append(again, frame[rest:]...)
			if size, ok := wire.FrameSize(again); !ok || size != len(again) {
				t.Fatalf("renamed Bind says %d bytes and has %d", size, len(again))
			}
			if same, renamed, _, ok := splitBind(again); !ok || string(renamed) != "another" || string(same) != string(portal) {
				t.Fatalf("renamed Bind of portal %q names %q and %q", portal, same, renamed)
			}
		}
		if kind, name, ok := splitTarget(frame); ok && (kind != body[0] || len(name) != len(body)-2) {
			t.Fatalf("target %q was split into %q %q", body, kind, name)
		}
		if text, ok := queryText(frame); ok && (len(text) != len(body)-1 || bytes.IndexByte(text, 0) >= 0) {
			t.Fatalf("query %q was split into %q", body, text)
		}
	})
}

// FuzzOptions holds that options in a startup packet give settings with names
// in lower case, or an error, and that quoting brings a value through whole.
func FuzzOptions(f *testing.F) {
	f.Add("-c search_path=a -c work_mem=1MB")
	f.Add(`-c a=b\ c --lock-timeout=3`)
	f.Add("-c")
	f.Add("--")
	f.Fuzz(func(t *testing.T, options string) {
		settings, err := parseOptions(options)
		for _, p := range settings {
			if err == nil && p.Name != strings.ToLower(p.Name) {
				t.Fatalf("%q sets %q", options, p.Name)
			}
		}
		if strings.ContainsAny(options, "\x00\v\f") {
			return // no startup packet can hold the first, and PostgreSQL's isspace takes the others
		}
		quoted := strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", "\n", "\\\n", "\r", "\\\r").Replace(options)
		settings, err = parseOptions("-c my.own=" + quoted)
		if err != nil || len(settings) != 1 || settings[0].Value != options {
			t.Fatalf("value %q came through as %q, %v", options, settings, err)
		}
	})
}
