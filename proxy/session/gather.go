package session

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// item is one message of the requests under way.
type item struct {
	typ   byte
	end   bool // ReadyForQuery answers it
	off   int  // in the unread input
	size  int
	named bool               // Parse of a named statement
	names int                // Bind: where its names end, in the message; 0: not known
	name  int                // Bind: length of its statement's name
	st    *parser.Statement  // Query and Parse: what the text does
	own   *backend.Statement // Bind and Describe: the client's statement; Parse: the one that it makes unnamed, if that is at hand
}

// facts is what the message's statement does, nil if it has none.
func (it *item) facts() *parser.Statement {
	if it.st == nil && it.own != nil {
		return it.own.Runs
	}
	return it.st
}

// requests serves every complete request in the input, in order. It leaves
// what is incomplete. false ends the session.
func (s *Session) requests() bool {
	for s.in.Len() > 0 {
		if s.copiesWide() {
			if !s.copyMore() {
				return false
			}
			if s.copiesWide() {
				return true
			}
			continue
		}
		if s.lift != nil && s.tx == wire.TxIdle {
			s.lifts()
		}
		n, next := s.gather()
		switch next {
		case gatherFail:
			return false
		case gatherMore:
			return true
		case gatherDuplex:
			return s.startDuplex()
		case gatherDrop:
			s.in.Skip(n)
			continue
		case gatherQuit:
			return false
		}
		ok := s.serve(s.in.Bytes()[:n])
		if ok || s.in.Len() >= n {
			s.in.Skip(n)
		}
		if !ok {
			return false
		}
		if s.dx != nil {
			s.pump() // COPY data may have come along with its query
			return !s.leaving
		}
	}
	return true
}

// gathered says what to do with the input.
type gathered int

const (
	gatherServe  gathered = iota // whole requests: serve them
	gatherMore                   // wait for the rest
	gatherDuplex                 // what is there must go out before the request is complete
	gatherDrop                   // nothing to do for this message
	gatherQuit                   // the client says goodbye
	gatherFail                   // broken; the client has been told
	gatherHeld                   // wait for a move of buckets
)

// maxBatch bounds the bytes of requests that are sent before their answers are
// read, unless one request alone is longer.
const maxBatch = 64 << 10

// gather walks the complete messages at the head of the input and notes them in
// s.items. It stops behind the last complete request, before a statement that
// must be served alone, or where the input ends.
func (s *Session) gather() (n int, next gathered) {
	s.items = s.items[:0]
	b := s.in.Bytes()
	limit := s.env.limit()
	off, whole, wholeItems, flush, undone := 0, 0, 0, false, false
	for {
		rest := b[off:]
		if len(rest) == 0 {
			break
		}
		typ := rest[0]
		if !wire.FrontendType(typ) {
			return 0, s.refuse(fmt.Sprintf("invalid frontend message type %d", typ))
		}
		size, ok := wire.FrameSize(rest)
		if ok && (size == 0 || size > limit.MaxMessage) {
			return 0, s.refuse("invalid message length")
		}
		if ok && (typ == wire.MsgQuery || typ == wire.MsgParse) && size > limit.MaxQuery {
			return 0, s.tooLong(size)
		}
		if !ok || len(rest) < size {
			return s.partial(whole, wholeItems, typ, size, ok)
		}
		if off == 0 && len(s.items) == 0 {
			switch typ {
			case wire.MsgTerminate:
				return 0, gatherQuit
			case wire.MsgCopyData, wire.MsgCopyDone, wire.MsgCopyFail:
				return size, gatherDrop // left over from a COPY that failed, as PostgreSQL takes it
			}
		}
		if typ == wire.MsgTerminate {
			if whole == 0 {
				return 0, gatherQuit // what was begun would be rolled back
			}
			break
		}
		it := item{typ: typ, off: off, size: size}
		switch typ {
		case wire.MsgQuery, wire.MsgFunction, wire.MsgSync:
			it.end = true
		case wire.MsgFlush:
			flush = true
		}
		if typ == wire.MsgQuery {
			text, _ := queryText(rest[:size]) // a broken one does nothing, the server says so
			it.st = s.facts(text)
			if !it.st.Plain && s.alone(it.st) {
				if whole > 0 {
					break
				}
				if off == 0 {
					s.items = append(s.items, it)
					return size, gatherServe
				}
			}
		}
		undone = undone || !s.raw && mayBeUndone(rest[:size], len(s.items) == wholeItems)
		s.items = append(s.items, it)
		off += size
		if it.end {
			whole, wholeItems, flush = off, len(s.items), false
			// What follows the end of a transaction that a replica serves may be for the manager.
			if undone && typ == wire.MsgSync || off >= maxBatch || s.server != nil && s.replica != "" && !s.raw {
				break
			}
		}
	}
	if whole > 0 {
		s.items = s.items[:wholeItems]
		return whole, gatherServe
	}
	if flush || off >= s.mostAhead() {
		return 0, gatherDuplex
	}
	return 0, gatherMore
}

// mostAhead is how many bytes of a request wait for the rest of it before they are sent ahead.
func (s *Session) mostAhead() int {
	if s.server != nil && !s.raw && s.db.Cluster.Load() != nil { // what goes out ahead cannot be for another shard
		return s.env.limit().SessionMemory
	}
	return maxBatch
}

// mayBeUndone reports whether what names mean behind a message is known only when its request is answered: a server on
// which it fails, or that skips it behind one that failed, leaves them as they were. first tells that none comes before it.
func mayBeUndone(frame []byte, first bool) bool {
	switch frame[0] {
	case wire.MsgParse:
		return !first || len(frame) > wire.HeaderBytes && frame[wire.HeaderBytes] != 0
	case wire.MsgClose, wire.MsgQuery:
		return !first
	}
	return false
}

// partial decides when the input ends inside a message.
func (s *Session) partial(whole, wholeItems int, typ byte, size int, sized bool) (int, gathered) {
	limit := s.env.limit()
	if whole > 0 {
		s.items = s.items[:wholeItems]
		return whole, gatherServe
	}
	if len(s.items) == 0 && sized {
		switch typ {
		case wire.MsgCopyData, wire.MsgCopyDone, wire.MsgCopyFail:
			if s.in.Len() >= maxBatch {
				return 0, gatherDuplex
			}
		}
	}
	if s.db.Cluster.Load() != nil && (s.server == nil || !s.raw) { // it must be whole to be understood
		switch {
		case sized && size > limit.SessionMemory:
			return 0, s.tooLong(size)
		case s.server != nil && s.in.Len() >= limit.SessionMemory:
			return 0, gatherDuplex
		}
		return 0, gatherMore
	}
	long := sized && size > maxBatch && typ != wire.MsgQuery && typ != wire.MsgParse
	if long || s.in.Len() >= maxBatch && typ != wire.MsgQuery && typ != wire.MsgParse {
		return 0, gatherDuplex
	}
	return 0, gatherMore
}

// alone reports whether a simple query is served by itself, because it is
// renamed, answered here, or needs its outcome known before the next.
func (s *Session) alone(st *parser.Statement) bool {
	if st.Effects&(parser.Listens|parser.Unlistens) != 0 {
		return true
	}
	if st.Effects&(parser.DiscardsAll|parser.ResetsAll) != 0 || !s.raw && st.Effects&(parser.SQLPrepare|parser.SQLExecute|parser.SQLDeallocate) != 0 {
		return true
	}
	return len(st.Commands) == 1 && len(st.Commands[0].Restores) > 0 && mends(&st.Commands[0])
}

// refuse ends the session with a protocol violation.
func (s *Session) refuse(message string) gathered {
	s.fatal(wire.Fatal(wire.CodeProtocolViolation, message))
	return gatherFail
}

func (s *Session) tooLong(size int) gathered {
	s.fatal(&wire.Error{Code: wire.CodeLimitExceeded,
		Message: fmt.Sprintf("query of %d bytes is longer than this proxy takes", size),
		Hint:    "Raise limits.max_query, or use parameters or COPY for long values."})
	return gatherFail
}

// queryText returns the text of a Query message: up to its first zero byte,
// which must be its last, as PostgreSQL checks.
func queryText(frame []byte) ([]byte, bool) {
	body := frame[wire.HeaderBytes:]
	if len(body) == 0 || body[len(body)-1] != 0 {
		return nil, false
	}
	text := body[:len(body)-1]
	return text, bytes.IndexByte(text, 0) < 0
}

// parseFields splits a Parse message.
type parseFields struct {
	name, text, types []byte // types: the OIDs, 4 bytes each
}

func splitParse(frame []byte) (p parseFields, ok bool) {
	body := frame[wire.HeaderBytes:]
	if p.name, body, ok = cutZero(body); !ok {
		return p, false
	}
	if p.text, body, ok = cutZero(body); !ok || len(body) < 2 {
		return p, false
	}
	n := int(binary.BigEndian.Uint16(body))
	if len(body) != 2+4*n {
		return p, false
	}
	p.types = body[2:]
	return p, true
}

// splitBind returns the portal and statement names at the head of a Bind and
// the offset of what follows them.
func splitBind(frame []byte) (portal, name []byte, rest int, ok bool) {
	body := frame[wire.HeaderBytes:]
	if len(body) > 1 && body[0] == 0 && body[1] == 0 { // both unnamed, as most are
		return nil, nil, wire.HeaderBytes + 2, true
	}
	if portal, body, ok = cutZero(body); !ok {
		return nil, nil, 0, false
	}
	if name, _, ok = cutZero(body); !ok {
		return nil, nil, 0, false
	}
	return portal, name, wire.HeaderBytes + len(portal) + 1 + len(name) + 1, true
}

// splitTarget returns the kind ('S' or 'P') and name of a Describe or Close.
func splitTarget(frame []byte) (kind byte, name []byte, ok bool) {
	body := frame[wire.HeaderBytes:]
	if len(body) < 2 {
		return 0, nil, false
	}
	name, rest, ok := cutZero(body[1:])
	return body[0], name, ok && len(rest) == 0
}

func cutZero(b []byte) (head, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}
