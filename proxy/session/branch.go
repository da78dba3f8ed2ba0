package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// branch is one shard's part of what a session does on several. It holds a server connection that no other part of the
// session knows of.
type branch struct {
	of      *Session
	index   int // of the shard
	db      *Database
	c       *backend.Conn
	pool    *pool.Pool[*backend.Conn]
	replica string
	fleet   *fleet.Fleet
	inside  router.Level
	lentAt  time.Time
	writing writing // what it may change, until it is the session's again

	in     wire.Input
	tx     byte        // as of the last ReadyForQuery
	wrote  bool        // it may have changed rows
	level  string      // isolation level of the transaction, as SHOW has it; "" is not known
	tells  bool        // it was asked for the level
	alone  bool        // its connection has left the session's role, see leaveRole
	busy   bool        // an answer is under way
	failed *wire.Error // what the server refused in the answer under way
	fields []field     // of the answer under way
	tag    string      // what completed it
	loud   *wide       // whose client gets the server's notices; nil: nobody does
	stream *streaming  // a write under way while next reads
	// described is the RowDescription of the answer under way.
	described []byte
	kept      wire.Frame // what look has read ahead, valid until next reads on; its Type is 0 if there is none

	asked  atomic.Int64 // when the answer under way was asked for, nanoseconds of env clock; 0: none is. Written under the session's mu
	struck atomic.Int64 // the asked of the statement that was ended because it waits for others for ever
}

// field is a column of a RowDescription.
type field struct {
	oid    uint32
	typmod int32
	format int16
}

// suspend takes the session's server connection over into a branch.
func (s *Session) suspend(index int) *branch {
	b := &branch{of: s, index: index, db: s.at, pool: s.pool, replica: s.replica, fleet: s.fleet, inside: s.inside, lentAt: s.lentAt, tx: s.tx, writing: s.keep.writing}
	s.keep.writing = writing{}
	s.mu.Lock()
	b.c, s.server = s.server, nil
	s.branches = append(s.branches, b)
	s.mu.Unlock()
	s.replica = ""
	return b
}

// resume gives a branch's connection back to the session, for all that works on the one that it has leased.
func (s *Session) resume(b *branch) {
	s.moveTo(b.db)
	s.pool, s.replica, s.fleet, s.inside, s.lentAt, s.tx = b.pool, b.replica, b.fleet, b.inside, b.lentAt, b.tx
	s.keep.forget()
	s.keep.writing, b.writing = b.writing, writing{}
	s.mu.Lock()
	s.server, s.lentBy = b.c, b.pool
	for i, other := range s.branches {
		if other == b {
			s.branches = append(s.branches[:i:i], s.branches[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
}

// errSessionEnds ends what a session does on several shards because it was killed or taken away from a server.
var errSessionEnds = errors.New("the session is to end")

// maxBranchFrame bounds one message of an answer that is put together here, in bytes: it is held whole, once for each
// shard.
const maxBranchFrame = 64 << 20

// send sends messages that end in one Sync or Query.
func (b *branch) send(msgs []byte) error {
	b.busy, b.failed, b.fields, b.tag, b.kept = true, nil, nil, "", wire.Frame{}
	b.asks()
	b.c.SetUnnamed(nil)
	b.c.Resume(&b.in)
	if err := b.c.Write(msgs); err != nil {
		b.c.Spoil("lost: " + err.Error())
		return fmt.Errorf("send to server: %w", err)
	}
	return nil
}

// next reads the next message of the answer under way that is not for the connection alone; done with the
// ReadyForQuery that ends it. A refusal is kept in b.failed.
func (b *branch) next(s *Session) (f wire.Frame, done bool, err error) {
	if b.kept.Type != 0 {
		f, b.kept = b.kept, wire.Frame{}
		return f, false, nil
	}
	for {
		f, err := b.in.ReadFrame(b.c, s.env.Bufs, maxBranchFrame)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.isKilled() {
				return f, false, errSessionEnds
			}
			b.c.Unkick()
			if b.stream != nil && b.stream.over.Load() {
				return f, false, errWritten
			}
			continue
		case errors.Is(err, wire.ErrTooLong):
			b.c.Spoil("a message is too long")
			return f, false, &wire.Error{Code: wire.CodeLimitExceeded, Message: "a row is too long to be put together from several shards",
				Detail: err.Error(), Hint: "Ask for it by the key of its table, so that one shard answers."}
		case err != nil:
			b.c.Spoil("lost: " + err.Error())
			return f, false, fmt.Errorf("read from server: %w", err)
		case !wire.BackendType(f.Type):
			b.c.Spoil("invalid message")
			return f, false, errGarbage
		}
		switch f.Type {
		case wire.MsgParameterStatus:
			if p, err := wire.ParseParameterStatus(f.Body()); err == nil {
				b.c.SetParam(p)
			}
		case wire.MsgNotification:
		case wire.MsgNoticeResponse:
			if b.loud != nil {
				b.loud.out = append(b.loud.out, f.Raw...)
			}
		case wire.MsgErrorResponse:
			if b.failed == nil {
				b.failed = wire.ParseError(f.Body())
				b.failed.Sent = bytes.Clone(f.Body())
				b.endsStandstill()
				if b.failed.Code == codeFenced {
					b.failed = movedAway()
				}
			}
			if b.failed.Severity == "FATAL" || b.failed.Severity == "PANIC" {
				b.c.Spoil("the server ended the session")
				return f, false, b.failed
			}
		case wire.MsgReadyForQuery:
			if len(f.Body()) != 1 {
				b.c.Spoil("invalid message")
				return f, false, errGarbage
			}
			b.tx, b.busy, b.loud = f.Body()[0], false, nil
			b.asked.Store(0)
			b.c.Afterwards(b.in.Bytes())
			b.in.Drop()
			return f, true, nil
		case wire.MsgCommandComplete:
			b.tag = string(f.Body()[:max(0, len(f.Body())-1)])
			return f, false, nil
		case wire.MsgRowDescription:
			if b.fields, err = describedFields(f.Body()); err != nil {
				b.c.Spoil("invalid message")
				return f, false, errGarbage
			}
			return f, false, nil
		default:
			return f, false, nil
		}
	}
}

// look waits until the server has something to say behind the head of its answer, and keeps that for next: a statement that
// changes rows has then been carried out, its rows included (PORTAL_ONE_RETURNING in src/backend/tcop/pquery.c).
func (b *branch) look(s *Session) error {
	if !b.busy {
		return nil
	}
	f, done, err := b.next(s)
	if err == nil && !done {
		b.kept = f
	}
	return err
}

// streaming is a write that goes on beside reads.
type streaming struct {
	over atomic.Bool   // it has returned
	done chan struct{} // closed when it no longer touches the connection
	err  error         // read after done
}

// errWritten ends a read beside a write because that is over.
var errWritten = errors.New("written")

// write sends data, and takes what the server says meanwhile: one that is not listened to does not listen either.
func (b *branch) write(s *Session, data []byte) error {
	w := &streaming{done: make(chan struct{})}
	go func() { // ends with the write, for which the caller waits
		w.err = b.c.Write(data)
		w.over.Store(true)
		b.c.Kick()
		close(w.done)
	}()
	b.stream = w
	var err error
	for b.busy && err == nil {
		if _, _, err = b.next(s); err == nil && b.loud != nil {
			err = b.loud.flush()
		}
	}
	<-w.done
	b.stream = nil
	if err != nil && !errors.Is(err, errWritten) {
		return err
	}
	b.c.Unkick()
	if w.err != nil {
		b.c.Spoil("lost: " + w.err.Error())
		return fmt.Errorf("send to server: %w", w.err)
	}
	return nil
}

// drain reads the answer under way to its end.
func (b *branch) drain(s *Session) error {
	for b.busy {
		if _, _, err := b.next(s); err != nil {
			return err
		}
	}
	return nil
}

// exec sends messages and reads their whole answer. A refusal of the server is returned as *wire.Error, and is in
// b.failed too.
func (b *branch) exec(s *Session, msgs []byte) error {
	if err := b.send(msgs); err != nil {
		return err
	}
	if err := b.drain(s); err != nil {
		return err
	}
	if b.failed != nil {
		return b.failed
	}
	return nil
}

// query runs a query of pgtier's own and gives visit its rows, in text, whose values are valid until it returns. A refusal of
// the server is returned as *wire.Error, and is in b.failed too.
func (b *branch) query(s *Session, sql string, visit func(fields [][]byte) error) error {
	if err := b.send(wire.AppendQuery(nil, sql)); err != nil {
		return err
	}
	return b.rows(s, visit)
}

// rows reads the answer to such a query.
func (b *branch) rows(s *Session, visit func(fields [][]byte) error) error {
	var failed error
	for b.busy {
		f, _, err := b.next(s)
		if err != nil {
			return err
		}
		if f.Type != wire.MsgDataRow || failed != nil {
			continue
		}
		var fields [][]byte
		if fields, failed = wire.RowFields(f.Body()); failed == nil {
			failed = visit(fields)
		}
	}
	if b.failed != nil {
		return b.failed
	}
	return failed
}

// describedFields reads a RowDescription.
func describedFields(body []byte) ([]field, error) {
	if len(body) < 2 {
		return nil, errGarbage
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	if len(body) < 19*n {
		return nil, errGarbage
	}
	out := make([]field, n)
	for i := range out {
		_, rest, ok := cutZero(body)
		if !ok || len(rest) < 18 {
			return nil, errGarbage
		}
		out[i] = field{oid: binary.BigEndian.Uint32(rest[6:]), typmod: int32(binary.BigEndian.Uint32(rest[12:])), format: int16(binary.BigEndian.Uint16(rest[16:]))}
		body = rest[18:]
	}
	return out, nil
}
