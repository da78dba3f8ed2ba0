package backend

import (
	"encoding/binary"
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"pgtier/parser"
	"pgtier/proxy/wire"
)

// Statement is one prepared statement that any number of sessions share. Its
// name on every server connection is Name. Immutable but for the store's own
// bookkeeping.
type Statement struct {
	ID    uint64
	Name  string
	Text  []byte
	Types []uint32
	SQL   bool   // made by PREPARE: Text is the whole PREPARE statement under Name
	Under string // Settings.Reading it was prepared under
	Owner uint64 // the only session that runs it; 0: any
	Facts *parser.Statement
	// Runs are the facts of what EXECUTE runs: Facts, unless PREPARE made it.
	Runs *parser.Statement

	refs   int // guarded by Statements.mu
	bytes  int64
	hash   uint64
	epoch  uint64
	prev   *Statement // list of statements that no session holds, oldest first
	next   *Statement
	inIdle bool
}

// Statements is the store of shared prepared statements of one database, bounded
// in bytes. What a session holds is never dropped; what no session holds any
// more stays for the next one, oldest dropped first. Safe for concurrent use.
type Statements struct {
	max  int64
	seed maphash.Seed

	mu     sync.Mutex
	byHash map[uint64][]*Statement
	idle   Statement // list head
	bytes  int64
	lastID uint64
	epoch  atomic.Uint64 // changed under mu
}

// NewStatements returns a store for about maxBytes bytes of unused statements.
func NewStatements(maxBytes int64) *Statements {
	s := &Statements{max: maxBytes, seed: maphash.MakeSeed(), byHash: make(map[uint64][]*Statement)}
	s.idle.prev, s.idle.next = &s.idle, &s.idle
	return s
}

// StatementKey identifies a shared statement.
type StatementKey struct {
	Text  []byte
	Types []byte // parameter type OIDs as they stand in a Parse message
	Under string // Settings.Reading: equal texts mean the same only under equal settings
	SQL   bool
	Owner uint64 // the session that shares it with nobody; 0: none
}

// Acquire returns the shared statement of key, making it if it is new, and
// counts one more holder. facts is what the text does.
func (s *Statements) Acquire(key StatementKey, facts *parser.Statement) *Statement {
	h := s.hash(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.byHash[h] {
		if st.matches(key, s.epoch.Load()) {
			s.hold(st)
			return st
		}
	}
	s.lastID++
	st := &Statement{
		ID: s.lastID, Name: "pgtier_" + strconv.FormatUint(s.lastID, 10),
		Text: append([]byte(nil), key.Text...), Types: DecodeOIDs(key.Types), SQL: key.SQL, Under: key.Under, Owner: key.Owner,
		Facts: facts, Runs: runs(key, facts), hash: h, epoch: s.epoch.Load(), refs: 1,
	}
	st.bytes = int64(len(st.Text)+4*len(st.Types)+len(st.Name)+len(st.Under)) + int64(unsafe.Sizeof(*st)) + 64
	s.byHash[h] = append(s.byHash[h], st)
	s.bytes += st.bytes
	s.evict()
	return st
}

// runs are the facts of what is executed under the statement's name.
func runs(key StatementKey, facts *parser.Statement) *parser.Statement {
	if !key.SQL || len(facts.Commands) != 1 || facts.Commands[0].Prepared == nil {
		return facts
	}
	cmd := &facts.Commands[0]
	inner := &parser.Statement{Commands: []parser.Command{*cmd.Prepared}, Effects: cmd.Prepared.Effects, Pin: cmd.Prepared.Pin, Literals: facts.Literals}
	if cmd.BodyStart >= 0 && cmd.BodyStart < cmd.BodyEnd && cmd.BodyEnd <= len(key.Text) {
		inner.Template = string(key.Text[cmd.BodyStart:cmd.BodyEnd])
	}
	return inner
}

// Fresh reports whether Acquire of st's own text and types would return st under
// the settings named by under (Settings.Reading). It takes no lock.
func (s *Statements) Fresh(st *Statement, under string) bool {
	return st.epoch == s.epoch.Load() && st.Under == under
}

// IsParse reports whether frame is a Parse of the unnamed statement with st's text and types.
func (st *Statement) IsParse(frame []byte) bool {
	const nameEnd = wire.HeaderBytes + 1 // of the empty name
	textEnd := nameEnd + len(st.Text)
	if len(frame) != textEnd+1+2+4*len(st.Types) || frame[nameEnd-1] != 0 || frame[textEnd] != 0 ||
		string(frame[nameEnd:textEnd]) != string(st.Text) || int(binary.BigEndian.Uint16(frame[textEnd+1:])) != len(st.Types) {
		return false
	}
	for i, oid := range st.Types {
		if oidAt(frame[textEnd+3:], i) != oid {
			return false
		}
	}
	return true
}

// Release counts one holder less.
func (s *Statements) Release(st *Statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.refs--
	if st.refs > 0 {
		return
	}
	st.prev, st.next = s.idle.prev, &s.idle
	st.prev.next, s.idle.prev = st, st
	st.inIdle = true
	s.evict()
}

// Expire makes later Acquires return new statements: the catalog changed, and a
// server refuses a prepared plan whose result type has changed.
func (s *Statements) Expire() {
	s.mu.Lock()
	s.epoch.Add(1)
	s.mu.Unlock()
}

// Bytes is the memory held, used and unused.
func (s *Statements) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

func (s *Statements) hold(st *Statement) {
	if st.inIdle {
		st.prev.next, st.next.prev = st.next, st.prev
		st.prev, st.next, st.inIdle = nil, nil, false
	}
	st.refs++
}

func (s *Statements) evict() {
	for s.bytes > s.max && s.idle.next != &s.idle {
		st := s.idle.next
		st.prev.next, st.next.prev = st.next, st.prev
		st.inIdle = false
		s.bytes -= st.bytes
		bucket := s.byHash[st.hash]
		for i, o := range bucket {
			if o == st {
				bucket = append(bucket[:i], bucket[i+1:]...)
				break
			}
		}
		if len(bucket) == 0 {
			delete(s.byHash, st.hash)
		} else {
			s.byHash[st.hash] = bucket
		}
	}
}

func (s *Statements) hash(key StatementKey) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	_, _ = h.Write(key.Text)
	_ = h.WriteByte(0)
	_, _ = h.Write(key.Types)
	_, _ = h.WriteString(key.Under)
	return h.Sum64()
}

func (st *Statement) matches(key StatementKey, epoch uint64) bool {
	if st.epoch != epoch || st.SQL != key.SQL || st.Owner != key.Owner || st.Under != key.Under || len(key.Types) != 4*len(st.Types) ||
		string(st.Text) != string(key.Text) {
		return false
	}
	for i, oid := range st.Types {
		if oidAt(key.Types, i) != oid {
			return false
		}
	}
	return true
}

// OIDs are the parameter types as they stand in a Parse message.
func (st *Statement) OIDs() []byte {
	var out []byte
	for _, oid := range st.Types {
		out = binary.BigEndian.AppendUint32(out, oid)
	}
	return out
}

func DecodeOIDs(b []byte) []uint32 {
	var out []uint32
	for i := range len(b) / 4 {
		out = append(out, oidAt(b, i))
	}
	return out
}

func oidAt(b []byte, i int) uint32 {
	b = b[4*i:]
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
