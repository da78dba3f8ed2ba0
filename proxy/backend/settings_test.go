package backend

import (
	"testing"

	"pgtier/parser"
	"pgtier/proxy/wire"
)

func TestSettingsAreEqualWhateverTheOrder(t *testing.T) {
	a := NewSettings([]wire.Param{{Name: "work_mem", Value: "1MB"}, {Name: "timezone", Value: "UTC"}})
	b := NewSettings([]wire.Param{{Name: "timezone", Value: "CET"}, {Name: "work_mem", Value: "1MB"}, {Name: "timezone", Value: "UTC"}})
	if !a.Equal(b) || a.Fingerprint() != b.Fingerprint() {
		t.Errorf("%v and %v differ", a.All(), b.All())
	}
	if c := a.With("timezone", "CET"); c.Equal(a) || a.Without("timezone").Equal(a) {
		t.Error("a changed set is equal to the old one")
	}
	if empty := a.Without("timezone").Without("work_mem"); empty != nil || empty.Fingerprint() != 0 {
		t.Errorf("a set emptied by hand is %v", empty.All())
	}
	if v, ok := a.Value("timezone"); !ok || v != "UTC" {
		t.Errorf("timezone is %q, %v", v, ok)
	}
}

func TestParamsTellOnlyChanges(t *testing.T) {
	var p *Params
	p = p.With("TimeZone", "UTC").With("DateStyle", "ISO")
	if q := p.With("TimeZone", "UTC"); q != p {
		t.Error("setting the same value makes a new set")
	}
	got := p.With("TimeZone", "CET").AppendChanges(nil, p)
	if want := wire.AppendParameterStatus(nil, "TimeZone", "CET"); string(got) != string(want) {
		t.Errorf("changes: %q, want %q", got, want)
	}
}

func TestStatementsAreSharedByTextTypesAndSettings(t *testing.T) {
	s := NewStatements(1 << 20)
	facts := &parser.Statement{}
	key := StatementKey{Text: []byte("SELECT $1"), Types: []byte{0, 0, 0, 23}}
	first := s.Acquire(key, facts)
	if again := s.Acquire(key, facts); again != first {
		t.Error("the same text and types make two statements")
	}
	for name, other := range map[string]StatementKey{
		"types": {Text: key.Text, Types: []byte{0, 0, 0, 20}},
		"under": {Text: key.Text, Types: key.Types, Under: "search_path\x00tenant"},
		"text":  {Text: []byte("SELECT $1 "), Types: key.Types},
		"SQL":   {Text: key.Text, Types: key.Types, SQL: true},
	} {
		if s.Acquire(other, facts) == first {
			t.Errorf("another %s shares the statement", name)
		}
	}
	s.Expire()
	if s.Acquire(key, facts) == first || s.Fresh(first, key.Under) {
		t.Error("a statement from before DDL is handed out")
	}
}

func TestRepeatedParseIsRecognised(t *testing.T) {
	s := NewStatements(1 << 20)
	text := []byte("SELECT $1")
	st := s.Acquire(StatementKey{Text: text, Types: []byte{0, 0, 0, 23}}, &parser.Statement{})
	parse := func(name string, text []byte, types ...uint32) []byte {
		return wire.AppendParse(nil, name, text, types)
	}
	if !st.IsParse(parse("", text, 23)) {
		t.Error("its own Parse is not recognised")
	}
	own := parse("", text, 23)
	for name, frame := range map[string][]byte{
		"another type":       parse("", text, 20),
		"one type more":      parse("", text, 23, 23),
		"no type":            parse("", text),
		"another text":       parse("", []byte("SELECT $2"), 23),
		"a longer text":      parse("", []byte("SELECT $1 "), 23),
		"a name":             parse("a", text, 23),
		"a name and less":    parse("a", text[:len(text)-1], 23),
		"a cut message":      own[:len(own)-1],
		"an empty message":   own[:wire.HeaderBytes],
		"text beyond a zero": append(append([]byte(nil), own[:len(own)-7]...), 'x', 0, 1, 0, 0, 0, 23),
	} {
		if st.IsParse(frame) {
			t.Errorf("%s: %q is taken for a Parse of %q", name, frame, text)
		}
	}
}

func TestStatementsAreBoundedInBytesButKeepWhatIsHeld(t *testing.T) {
	s := NewStatements(4 << 10)
	held := s.Acquire(StatementKey{Text: []byte("SELECT 'held'")}, &parser.Statement{})
	for i := range 1000 {
		st := s.Acquire(StatementKey{Text: append([]byte("SELECT "), byte('a'+i%26), byte('a'+i/26%26), byte('a'+i/676))}, &parser.Statement{})
		s.Release(st)
	}
	if b := s.Bytes(); b > 4<<10 {
		t.Errorf("%d bytes are kept of 4096", b)
	}
	if s.Acquire(StatementKey{Text: []byte("SELECT 'held'")}, &parser.Statement{}) != held {
		t.Error("a held statement was dropped")
	}
}

func TestPreparedSetEvictsTheOldest(t *testing.T) {
	c := &Conn{}
	var first *Statement
	for i := range maxPrepared {
		st := &Statement{ID: uint64(i + 1), Text: []byte("x")}
		if i == 0 {
			first = st
		}
		if evicted := c.AddPrepared(st); evicted != nil {
			t.Fatalf("statement %d evicts %d", st.ID, evicted.ID)
		}
	}
	c.HasPrepared(first) // used again: the second is the oldest now
	evicted := c.AddPrepared(&Statement{ID: maxPrepared + 1, Text: []byte("x")})
	if evicted == nil || evicted.ID != 2 || c.HasPrepared(evicted) || !c.HasPrepared(first) {
		t.Errorf("evicted %v, want statement 2", evicted)
	}
}
