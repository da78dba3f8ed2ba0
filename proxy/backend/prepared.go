package backend

import "pgtier/proxy/wire"

// preparedSet is the set of shared statements present on one connection, oldest
// use first when the limit asks for an eviction. The zero value is empty.
type preparedSet struct {
	byID  map[uint64]*preparedEntry
	near  [8]*preparedEntry // those of byID that were asked for last, by the lower bits of their ID; nil where there is none
	tick  uint64
	bytes int64
}

type preparedEntry struct {
	st   *Statement
	used uint64
}

// maxPreparedBytes bounds the statement texts prepared on one server
// connection; a server's own plan for one is some tens of times its text.
const maxPreparedBytes = 256 << 10

// maxPrepared bounds their number (PgBouncer's max_prepared_statements is 200).
const maxPrepared = 500

func (p *preparedSet) clear() { *p = preparedSet{} }

// PreparedCount is the number of shared statements on this connection. Safe for
// concurrent use.
func (c *Conn) PreparedCount() int { return int(c.preparedCount.Load()) }

// HasPrepared reports whether st is prepared on this connection and notes its use.
func (c *Conn) HasPrepared(st *Statement) bool {
	near := &c.prepared.near[st.ID%uint64(len(c.prepared.near))]
	e := *near
	if e == nil || e.st.ID != st.ID {
		if e = c.prepared.byID[st.ID]; e == nil {
			return false
		}
		*near = e
	}
	c.prepared.tick++
	e.used = c.prepared.tick
	return true
}

// AddPrepared records that st has been sent for preparation, and returns the
// statement that should be closed to make room, nil if none.
func (c *Conn) AddPrepared(st *Statement) (evict *Statement) {
	p := &c.prepared
	if p.byID == nil {
		p.byID = make(map[uint64]*preparedEntry)
	}
	if len(p.byID) >= maxPrepared || p.bytes+int64(len(st.Text)) > maxPreparedBytes {
		evict = p.oldest()
	}
	if evict != nil {
		c.DropPrepared(evict)
	}
	p.tick++
	e := &preparedEntry{st: st, used: p.tick}
	p.byID[st.ID], p.near[st.ID%uint64(len(p.near))] = e, e
	p.bytes += int64(len(st.Text))
	c.preparedCount.Store(int32(len(p.byID)))
	return evict
}

// DropPrepared records that st is not, or no longer, prepared here.
func (c *Conn) DropPrepared(st *Statement) {
	if e, ok := c.prepared.byID[st.ID]; ok {
		delete(c.prepared.byID, st.ID)
		if near := &c.prepared.near[st.ID%uint64(len(c.prepared.near))]; *near == e {
			*near = nil
		}
		c.prepared.bytes -= int64(len(st.Text))
		c.preparedCount.Store(int32(len(c.prepared.byID)))
	}
}

// ForgetPrepared records that every prepared statement is gone (DEALLOCATE ALL, DISCARD).
func (c *Conn) ForgetPrepared() {
	c.prepared.clear()
	c.preparedCount.Store(0)
	c.unnamed = nil
	c.Made = nil
}

// oldest is the statement used longest ago: a walk over at most maxPrepared entries,
// made only when a connection is full.
func (p *preparedSet) oldest() *Statement {
	var found *preparedEntry
	for _, e := range p.byID {
		if found == nil || e.used < found.used {
			found = e
		}
	}
	if found == nil {
		return nil
	}
	return found.st
}

// AppendPrepare adds the message that prepares st under its shared name.
func AppendPrepare(dst []byte, st *Statement) []byte {
	return wire.AppendParse(dst, st.Name, st.Text, st.Types)
}

// AppendSQLPrepare adds a Query with st's PREPARE, under name.
func AppendSQLPrepare(dst []byte, st *Statement, name string) []byte {
	dst, at := wire.Begin(dst, wire.MsgQuery)
	cmd := st.Facts.Commands[0]
	dst = append(append(append(dst, st.Text[:cmd.NameStart]...), name...), st.Text[cmd.NameEnd:]...)
	return wire.End(append(dst, 0), at)
}
