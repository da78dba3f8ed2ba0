package follow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgtier/proxy/wire"
)

// setup makes a connection of ours independent of what its role and database have configured. What we commit, the publication,
// is made anew where it is lost, so it waits for no standby.
const setup = "SET search_path = pg_catalog; SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;" +
	" SET statement_timeout = 0; SET synchronous_commit = local; SET idle_in_transaction_session_timeout = 0"

// pulseStatement is the name of pulseQuery's prepared statement.
const pulseStatement = "pgtier_pulse"

// pulseQuery asks what is visible, and how far the log goes. It consumes no transaction id.
const pulseQuery = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()"

// pulse is an answer to pulseQuery.
type pulse struct {
	sent     time.Time // before the question was
	seen     snapshot
	inserted LSN // where the last record ends that was written before or while the question was answered, or beyond
	flushed  LSN
}

// snapshot is which transactions a moment on the manager shows: an xid8 snapshot (pg_snapshot).
type snapshot struct {
	xmin, xmax uint64
	running    []uint64 // between the two, sorted
}

// ended reports whether a transaction has ended for every snapshot from this one on. Of one that has committed this means that
// it is visible. Ids that have not been given out yet have not ended.
func (s *snapshot) ended(xid uint64) bool {
	if xid < s.xmin {
		return true
	}
	_, found := slices.BinarySearch(s.running, xid)
	return xid < s.xmax && !found
}

// parseSnapshot reads xmin:xmax:id,id,…
func parseSnapshot(text string) (s snapshot, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("%q is no snapshot", text)
	}
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return s, err
	}
	if s.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return s, err
	}
	if parts[2] != "" {
		for _, id := range strings.Split(parts[2], ",") {
			xid, err := strconv.ParseUint(id, 10, 64)
			if err != nil {
				return s, err
			}
			s.running = append(s.running, xid)
		}
	}
	if s.xmin > s.xmax || !slices.IsSorted(s.running) {
		return s, fmt.Errorf("%q is no snapshot", text)
	}
	return s, nil
}

// widen gives a 32-bit id the epoch that brings it closest to near: ids in use lie within 2³¹ of each other.
func widen(short uint32, near uint64) uint64 {
	return near + uint64(int64(int32(short-uint32(near))))
}

// parseLSN reads PostgreSQL's way to write a position; "" is 0.
func parseLSN(text string) (LSN, error) {
	if text == "" {
		return 0, nil
	}
	high, low, ok := strings.Cut(text, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err != nil || err2 != nil {
		return 0, fmt.Errorf("%q is no position", text)
	}
	return LSN(h<<32 | l), nil
}

// pages is the layout of a server's log, in bytes.
type pages struct{ block, segment uint64 }

// Sizes of page headers (xlog_internal.h, SizeOfXLogShortPHD and SizeOfXLogLongPHD), aligned to 8 bytes.
const (
	shortHeader = 24
	longHeader  = 40 // of the first page of a segment
)

// end turns a position where the next record would begin into one where the last has ended. They differ where a record ends with
// its page: pg_current_wal_insert_lsn has stepped over the next page's header, and the stream, which tells where records end,
// would not come as far until somebody writes again. No record ends inside a header.
func (p pages) end(at LSN) LSN {
	switch {
	case p.block == 0 || p.segment == 0:
		return at
	case uint64(at)%p.segment == longHeader:
		return at - longHeader
	case uint64(at)%p.block == shortHeader && uint64(at)%p.segment != shortHeader:
		return at - shortHeader
	}
	return at
}

// nudgeQuery has the manager write and flush a commit record, and with it all that is in its log before. A transaction that
// has an id and has written nothing would not flush (RecordTransactionCommit), hence the message; it is rolled back, so that
// nobody who decodes the log hears of it. It waits for no standby (setup).
const nudgeQuery = "BEGIN; SAVEPOINT message; SELECT pg_logical_emit_message(true, 'pgtier', '');" +
	" ROLLBACK TO SAVEPOINT message; COMMIT"

// runningQuery lists the transactions that have an id and have not ended for everybody: each holds the lock on its own id, also
// one that waits for a synchronous standby, and one that is prepared. A snapshot does not do: it leaves out ids above its xmax.
const runningQuery = "SELECT transactionid::text, pg_snapshot_xmax(pg_current_snapshot())::text FROM pg_locks" +
	" WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted"

// asker asks the manager over one connection, one question at a time.
type asker struct {
	*link
	pages pages
}

// prepare readies a new connection.
func (a *asker) prepare() error {
	err := a.run(setup+"; SELECT current_setting('wal_block_size'), pg_size_bytes(current_setting('wal_segment_size'))", func(_ int, fields [][]byte) error {
		return row(fields, &a.pages.block, &a.pages.segment)
	})
	if err == nil {
		err = a.query(wire.AppendSync(wire.AppendParse(nil, pulseStatement, []byte(pulseQuery), nil)), nil)
	}
	if err != nil {
		return fmt.Errorf("prepare connection: %w", err)
	}
	return nil
}

// pulse asks pulseQuery.
func (a *asker) pulse() (p pulse, err error) {
	p.sent = time.Now()
	msgs := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, pulseStatement, nil)))
	answered := false
	err = a.query(msgs, func(_ int, fields [][]byte) (err error) {
		var seen string
		if err = row(fields, &seen, &p.inserted, &p.flushed); err == nil {
			p.seen, err = parseSnapshot(seen)
		}
		p.inserted, answered = a.pages.end(p.inserted), true
		return err
	})
	if err == nil && !answered {
		err = fmt.Errorf("%w: no row", wire.ErrBroken)
	}
	if err != nil {
		return p, fmt.Errorf("ask for the snapshot: %w", err)
	}
	return p, nil
}

// parseRunning reads a row of runningQuery.
func parseRunning(fields [][]byte) (uint64, error) {
	var short uint32
	var near uint64
	if err := row(fields, &short, &near); err != nil {
		return 0, err
	}
	return widen(short, near), nil
}
