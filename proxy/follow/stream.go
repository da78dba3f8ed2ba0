package follow

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"go.uber.org/zap"

	"pgtier/proxy/wire"
)

// stream is a slot and the connection that it lives as long as.
type stream struct {
	*link
	slot    string
	decoder *decoder
}

// event is what the stream tells: how far it is, and a commit on the way there.
type event struct {
	commit *Commit // nil: none with changes
	at     LSN     // every commit whose record ends up to here has been an event
	reply  bool    // the server wants to hear from us
	err    error   // the stream is at its end; nothing else is set
}

// openStream makes a slot of its own name and starts to stream from it. The slot is temporary: it ends with the connection,
// however that ends.
func (f *Follower) openStream(ctx context.Context, a *asker) (*stream, error) {
	l, err := dialLink(ctx, f.dial, replicationParams(), f.cfg.Silence)
	if err != nil {
		return nil, fmt.Errorf("log in for replication: %w", refused(err))
	}
	var random [8]byte
	rand.Read(random[:])
	s := &stream{link: l, slot: SlotPrefix + hex.EncodeToString(random[:]), decoder: newDecoder(&f.cfg, &f.counters)}
	if err := f.createSlot(ctx, a, s); err != nil {
		l.close()
		return nil, fmt.Errorf("create replication slot: %w", refused(err))
	}
	l.limit = f.cfg.Stall
	stop := context.AfterFunc(ctx, l.close)
	err = s.start()
	if !stop() || err != nil {
		l.close()
		return nil, fmt.Errorf("start replication: %w", refused(err))
	}
	return s, nil
}

// slotPatience is how long the creation of a slot may take before the log tells what it waits for, and how often again.
const slotPatience = 10 * time.Second

// createSlot makes the slot, which waits for all transactions that have an id to end, so it takes as long as it takes. The
// manager is asked meanwhile whether it is alive, and how much of its log the slot retains.
func (f *Follower) createSlot(ctx context.Context, a *asker, s *stream) error {
	s.limit = 0
	var outcome error // written before made is closed
	made := make(chan struct{})
	go func() { // ends with the answer or with the connection; it is waited for below
		defer close(made)
		outcome = s.run("CREATE_REPLICATION_SLOT "+s.slot+" TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT", nil)
	}()
	defer context.AfterFunc(ctx, a.close)()
	tick := time.NewTicker(f.cfg.Idle)
	defer tick.Stop()
	began, told := time.Now(), time.Now()
	giveUp := func(err error) error {
		s.close()
		<-made
		return err
	}
	for {
		select {
		case <-made:
			return outcome
		case <-ctx.Done():
			return giveUp(context.Cause(ctx))
		case why := <-f.reset:
			return giveUp(fmt.Errorf("begin anew: %s", why))
		case <-tick.C:
		}
		seen, err := a.survey(s.slot)
		if err != nil {
			return giveUp(err)
		}
		if err := f.checkRetained(seen.retained); err != nil {
			return giveUp(err)
		}
		if time.Since(told) >= slotPatience {
			told = time.Now()
			f.log.Warn("the replication slot waits for transactions that have written to end", zap.Duration("for", time.Since(began)),
				zap.Int("running", len(seen.running)))
		}
	}
}

// checkRetained notes how much of the log the slot retains, in bytes, and is an error if it is too much.
func (f *Follower) checkRetained(n int64) error {
	f.counters.retained.Store(n)
	if f.cfg.MaxRetained == 0 || n <= f.cfg.MaxRetained {
		return nil
	}
	f.log.Error("the slot retains too much of the write-ahead log and is dropped", zap.Int64("bytes", n), zap.Int64("bound", f.cfg.MaxRetained))
	return fmt.Errorf("the slot retained %d bytes of the write-ahead log, and the bound is %d", n, f.cfg.MaxRetained)
}

// start starts to stream.
func (s *stream) start() error {
	// Protocol 1 tells a transaction when it has committed; the others differ in what we do not ask for.
	command := "START_REPLICATION SLOT " + s.slot + " LOGICAL 0/0 (proto_version '1', publication_names '" + Publication + "')"
	if err := s.write(wire.AppendQuery(nil, command), s.limit); err != nil {
		return err
	}
	for {
		kind, size, err := s.header()
		if err != nil {
			return err
		}
		if kind == wire.MsgCopyBothResponse {
			return s.skip(size)
		}
		if err := s.aside(kind, size); err != nil {
			return err
		}
	}
}

// aside takes a message that is no part of the stream.
func (s *stream) aside(kind byte, size int) error {
	b, err := s.body(size, errorMost)
	if err != nil {
		return err
	}
	switch kind {
	case wire.MsgNoticeResponse, wire.MsgParameterStatus:
		return nil
	case wire.MsgErrorResponse:
		return wire.ParseError(b)
	case wire.MsgCopyDone, wire.MsgCommandComplete:
		return fmt.Errorf("the server ended the stream")
	}
	return fmt.Errorf("read stream: %w: type %q", wire.ErrBroken, kind)
}

// Heads of messages inside CopyData.
const (
	dataHead      = 1 + 24 // 'w', positions, time
	keepaliveSize = 1 + 17 // 'k', position, time, whether to reply
)

// next reads up to the next event.
func (s *stream) next() (event, error) {
	for {
		kind, size, err := s.header()
		if err != nil {
			return event{}, err
		}
		if kind != wire.MsgCopyData {
			if err := s.aside(kind, size); err != nil {
				return event{}, err
			}
			continue
		}
		head, err := s.in.Peek(1)
		switch {
		case err != nil:
			return event{}, fmt.Errorf("read message: %w", err)
		case size == keepaliveSize && head[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
			b, err := s.body(size, size)
			if err != nil {
				return event{}, err
			}
			k, err := pglogrepl.ParsePrimaryKeepaliveMessage(b[1:])
			if err != nil {
				return event{}, err
			}
			return event{at: LSN(k.ServerWALEnd), reply: k.ReplyRequested}, nil
		case size > dataHead && head[0] == pglogrepl.XLogDataByteID:
			c, err := s.data(size)
			if err != nil {
				return event{}, err
			}
			if c == nil {
				continue
			}
			e := event{at: c.End}
			if len(c.Tables) > 0 {
				e.commit = c
			}
			return e, nil
		default:
			return event{}, fmt.Errorf("read stream: %w: %d bytes that begin with %q", wire.ErrBroken, size, head[0])
		}
	}
}

// data takes an XLogData of size bytes. Its positions are not of interest: a commit has its own.
func (s *stream) data(size int) (*Commit, error) {
	if err := s.skip(dataHead); err != nil {
		return nil, err
	}
	size -= dataHead
	head, err := s.in.Peek(min(size, headMost))
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	most := s.decoder.most(head[0])
	if size > most {
		if err := s.decoder.oversized(head, size); err != nil {
			return nil, err
		}
		return nil, s.skip(size)
	}
	b, err := s.body(size, most)
	if err != nil {
		return nil, err
	}
	return s.decoder.message(b)
}

// read sends the stream's events until its end, which is an event too, or until done is closed.
func (s *stream) read(events chan<- event, done <-chan struct{}) {
	for {
		e, err := s.next()
		if err != nil {
			e = event{err: fmt.Errorf("read stream: %w", err)}
		}
		select {
		case events <- e:
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}

// confirm tells the server that it need not keep its log up to at, and asks it to tell how far the stream is.
func (s *stream) confirm(at LSN, limit time.Duration) error {
	msg, begin := wire.Begin(nil, wire.MsgCopyData)
	msg = append(msg, pglogrepl.StandbyStatusUpdateByteID)
	for range 3 { // written, flushed, applied
		msg = binary.BigEndian.AppendUint64(msg, uint64(at))
	}
	msg = binary.BigEndian.AppendUint64(msg, 0) // our clock is nobody's business
	msg = append(msg, 1)
	return s.write(wire.End(msg, begin), limit)
}
