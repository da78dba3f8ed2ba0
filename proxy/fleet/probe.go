package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
)

// Names of the statements prepared on a monitor's connection.
const (
	positionStatement = "pgtier_position"
	runningStatement  = "pgtier_running"
	knownStatement    = "pgtier_known"
)

// setup makes a monitor's connection independent of what its role and database have configured. The second statement of
// knownStatement's round must see a newer snapshot than the first, hence read committed.
const setup = "SET search_path = pg_catalog; SET default_transaction_isolation = 'read committed';" +
	" SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET application_name = 'pgtier monitor'; SHOW server_version_num"

// OldestVersion is the least server_version_num of the servers that a Fleet can watch: xid8 and pg_current_snapshot came
// with PostgreSQL 13.
const OldestVersion = 130000

// checkVersion refuses a server that is too old to be watched.
func checkVersion(number uint64) error {
	if number >= OldestVersion {
		return nil
	}
	return fmt.Errorf("is PostgreSQL %d, and a database with replicas needs version %d or newer on every server", number/10000, OldestVersion/10000)
}

// positionQuery is the quick question. CASE keeps the function of the other role from running, which would fail.
const positionQuery = "SELECT pg_is_in_recovery()," +
	" CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END"

// runningQuery lists the transactions that have an id and have not ended for everybody: each holds the lock on its own id,
// also one that waits for a synchronous standby, and one that is prepared. Anybody may read it.
// pg_current_snapshot does not do: ids above its xmax are left out, among them the newest transaction that waits.
const runningQuery = "SELECT transactionid::text, pg_snapshot_xmax(pg_current_snapshot())::text FROM pg_locks" +
	" WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted"

// knownQuery returns those of $1 that a replica does not know as committed. CASE keeps pg_xact_status from an id that the
// replica has not heard of, which is an error.
const knownQuery = "SELECT x::text FROM unnest($1::xid8[]) x WHERE CASE WHEN x >= pg_snapshot_xmax(pg_current_snapshot())" +
	" THEN true ELSE coalesce(pg_xact_status(x) = 'in progress', false) END"

// flushQuery has the manager write and flush a commit record, and with it all that is in its log before. A transaction that
// has an id and has written nothing would not flush (RecordTransactionCommit), hence the message; it is rolled back, so that
// nobody who decodes the log hears of it. Anybody may. A commit that is local waits for no standby.
const flushQuery = "BEGIN; SET LOCAL synchronous_commit = 'local'; SAVEPOINT message; SELECT pg_logical_emit_message(true, 'pgtier', '');" +
	" ROLLBACK TO SAVEPOINT message; COMMIT; SELECT pg_current_wal_flush_lsn()"

// statusQuery is the full question. %s is what the control file tells.
const statusQuery = "SELECT pg_is_in_recovery()," +
	" CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END," +
	" CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END," +
	" pg_last_wal_receive_lsn()," +
	// Without pg_monitor only the pid can be seen: a receiver that runs counts as streaming.
	" (SELECT count(pid) FROM pg_stat_wal_receiver WHERE coalesce(status, 'streaming') = 'streaming')," +
	" (SELECT received_tli FROM pg_stat_wal_receiver)," +
	" current_setting('wal_block_size'), pg_size_bytes(current_setting('wal_segment_size')), current_setting('synchronous_standby_names') <> ''," +
	" %s"

// controls are the forms of the full question, the fullest first; the next is for a role that may not run the functions.
func controls() [2]string {
	return [2]string{
		"c.timeline_id, r.min_recovery_end_timeline, s.system_identifier" +
			" FROM pg_control_checkpoint() c, pg_control_recovery() r, pg_control_system() s",
		"NULL, NULL, NULL",
	}
}

// status is a server's full answer.
type status struct {
	role      Role
	timeline  uint32
	system    uint64
	position  balance.LSN // replayed, or the manager's own
	received  balance.LSN // a replica's, on its disk; 0 if it never streamed
	streaming bool        // a replica's receiver runs
	pages     pages
	// synchronous: its commits may wait for standbys (synchronous_standby_names is not empty).
	synchronous bool
}

// probe is a monitor's connection with what was prepared on it.
type probe struct {
	conn  *backend.Conn
	limit time.Duration
	form  int // of controls
	pages pages
	msgs  []byte
}

// prepare readies a new connection.
func (p *probe) prepare() error {
	var version uint64
	p.msgs = wire.AppendQuery(p.msgs[:0], setup)
	err := p.run(func(_ int, fields [][]byte) (err error) {
		version, err = number(fields, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare connection: %w", err)
	}
	if err := checkVersion(version); err != nil {
		return err
	}
	var msgs []byte
	for _, s := range [][2]string{{positionStatement, positionQuery}, {runningStatement, runningQuery}, {knownStatement, knownQuery}} {
		msgs = wire.AppendParse(msgs, s[0], []byte(s[1]), nil)
	}
	if err := p.conn.Exec(wire.AppendSync(msgs), p.limit, nil); err != nil {
		return fmt.Errorf("prepare connection: %w", err)
	}
	return nil
}

// run sends p.msgs and calls visit for each row with the number of the statement it belongs to, from 0. visit must copy
// what it keeps. Its first error is returned.
func (p *probe) run(visit func(statement int, fields [][]byte) error) error {
	statement := 0
	var failed error
	err := p.conn.Exec(p.msgs, p.limit, func(f wire.Frame) {
		switch f.Type {
		case wire.MsgCommandComplete:
			statement++
		case wire.MsgDataRow:
			fields, err := wire.RowFields(f.Body())
			if err == nil {
				err = visit(statement, fields)
			}
			failed = errors.Join(failed, err)
		}
	})
	if err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("read answer: %w", failed)
	}
	return nil
}

// status asks the full question.
func (p *probe) status() (s status, err error) {
	forms := controls()
	for {
		p.msgs = wire.AppendQuery(p.msgs[:0], fmt.Sprintf(statusQuery, forms[p.form]))
		rows := 0
		err = p.run(func(_ int, fields [][]byte) error {
			rows++
			s, err = parseStatus(fields)
			return err
		})
		if sqlState(err) == insufficientRight && p.form+1 < len(forms) {
			p.form++
			continue
		}
		if err == nil && rows != 1 {
			err = fmt.Errorf("read answer: %d rows instead of one", rows)
		}
		p.pages = s.pages
		return s, err
	}
}

// quick asks for role and position only.
func (p *probe) quick() (role Role, at balance.LSN, err error) {
	p.msgs = wire.AppendSync(p.execute(p.msgs[:0], positionStatement, nil))
	err = p.run(func(_ int, fields [][]byte) error {
		role, at, err = p.parsePosition(fields)
		return err
	})
	return role, at, err
}

// sample asks a manager for its position and then for the transactions that run.
func (p *probe) sample() (role Role, at balance.LSN, running []uint64, err error) {
	p.msgs = p.execute(p.msgs[:0], positionStatement, nil)
	p.msgs = wire.AppendSync(p.execute(p.msgs, runningStatement, nil))
	err = p.run(func(statement int, fields [][]byte) error {
		if statement == 0 {
			role, at, err = p.parsePosition(fields)
			return err
		}
		id, err := parseRunning(fields)
		running = append(running, id)
		return err
	})
	slices.Sort(running)
	return role, at, running, err
}

// known asks a replica for its position and then which of ids it does not know as committed.
func (p *probe) known(ids []uint64) (role Role, at balance.LSN, not []uint64, err error) {
	list := make([]byte, 0, 16*len(ids))
	for i, id := range ids {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		list = strconv.AppendUint(append(list, separator), id, 10)
	}
	text := string(append(list, '}'))
	p.msgs = p.execute(p.msgs[:0], positionStatement, nil)
	p.msgs = wire.AppendSync(p.execute(p.msgs, knownStatement, []*string{&text}))
	err = p.run(func(statement int, fields [][]byte) error {
		if statement == 0 {
			role, at, err = p.parsePosition(fields)
			return err
		}
		id, err := number(fields, 0)
		not = append(not, id)
		return err
	})
	return role, at, not, err
}

// flush makes a manager flush its log and returns how far it is flushed. refused is the server's error, after which the
// connection is as before.
func (p *probe) flush() (at balance.LSN, refused, err error) {
	last := strings.Count(flushQuery, ";") // flushQuery's last statement, from 0
	p.msgs = wire.AppendQuery(p.msgs[:0], flushQuery)
	err = p.run(func(statement int, fields [][]byte) (err error) {
		if statement == last {
			at, err = position(fields, 0)
		}
		return err
	})
	if sqlState(err) != "" {
		p.msgs = wire.AppendQuery(p.msgs[:0], "ROLLBACK")
		return 0, err, p.run(nil)
	}
	return at, nil, err
}

func (p *probe) execute(dst []byte, statement string, params []*string) []byte {
	return wire.AppendExecute(wire.AppendBindText(dst, statement, params))
}

func (p *probe) parsePosition(fields [][]byte) (Role, balance.LSN, error) {
	role, at, err := parsePosition(fields)
	return role, p.pages.end(at), err
}

func parsePosition(fields [][]byte) (Role, balance.LSN, error) {
	if len(fields) < 2 {
		return Unknown, 0, fmt.Errorf("%d columns instead of two", len(fields))
	}
	role := Replica
	if string(fields[0]) == "f" {
		role = Manager
	}
	at, err := position(fields, 1)
	return role, at, err
}

func parseStatus(fields [][]byte) (s status, err error) {
	if len(fields) != 12 {
		return s, fmt.Errorf("%d columns instead of 12", len(fields))
	}
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	s.role, s.position, err = parsePosition(fields)
	keep(err)
	s.received, err = position(fields, 3)
	keep(err)
	streams, err := number(fields, 4)
	keep(err)
	s.streaming = streams > 0
	block, err := number(fields, 6)
	keep(err)
	segment, err := number(fields, 7)
	keep(err)
	s.pages = pages{block: block, segment: segment}
	s.synchronous = string(fields[8]) == "t"
	s.system, err = number(fields, 11)
	keep(err)
	if s.role == Manager {
		// The control file still has the old timeline until the checkpoint after a promotion.
		if name := fields[2]; len(name) >= 8 {
			timeline, err := strconv.ParseUint(string(name[:8]), 16, 32)
			keep(err)
			s.timeline = uint32(timeline)
		}
	} else {
		// The receiver knows first, the control file by the next restart point; none of them is ahead of the truth.
		for _, i := range []int{5, 9, 10} {
			timeline, err := number(fields, i)
			keep(err)
			s.timeline = max(s.timeline, uint32(timeline))
		}
	}
	s.position = s.pages.end(s.position)
	return s, errors.Join(errs...)
}

// number reads a column; NULL is 0.
func number(fields [][]byte, i int) (uint64, error) {
	if i >= len(fields) || fields[i] == nil {
		return 0, nil
	}
	return strconv.ParseUint(strings.TrimSpace(string(fields[i])), 10, 64)
}

// position reads a column; NULL is 0.
func position(fields [][]byte, i int) (balance.LSN, error) {
	if fields[i] == nil {
		return 0, nil
	}
	return balance.ParseLSN(string(fields[i]))
}

// parseRunning widens a 32-bit transaction id by the epoch of a snapshot taken beside it: the two are within 2³¹.
func parseRunning(fields [][]byte) (uint64, error) {
	if len(fields) < 2 {
		return 0, fmt.Errorf("%d columns instead of two", len(fields))
	}
	short, err := strconv.ParseUint(string(fields[0]), 10, 32)
	if err != nil {
		return 0, err
	}
	near, err := number(fields, 1)
	if err != nil {
		return 0, err
	}
	return near + uint64(int64(int32(uint32(short)-uint32(near)))), nil
}

// pages is the layout of a server's log, in bytes.
type pages struct{ block, segment uint64 }

// Sizes of page headers (xlog_internal.h, SizeOfXLogShortPHD and SizeOfXLogLongPHD), aligned to 8 bytes.
const (
	shortHeader = 24
	longHeader  = 40 // of the first page of a segment
)

// end turns a position where the next record would begin into the one where the last ended. They differ where a record
// ends with its page: pg_current_wal_insert_lsn has stepped over the next page's header (XLogBytePosToRecPtr), a replica's
// pg_last_wal_replay_lsn has not, and no record ends inside a header. Without this a replica that has everything would
// seem behind for as long as nobody writes, for example after every pg_switch_wal.
func (p pages) end(at balance.LSN) balance.LSN {
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
