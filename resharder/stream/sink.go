package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// Statements and bytes that are sent before their answers are read: enough that a round trip for all of them costs little.
	sentMost      = 512
	sentBytesMost = 1 << 20
	flushBytes    = 64 << 10
	// preparedMost is how many statements are prepared: one for each set of columns that change together. Others are planned each time.
	preparedMost = 1000
)

// sink is a connection that writes to the target, as the only one with its origin. Statements go in a pipeline; their answers are read by settle.
type sink struct {
	server Server
	conn   *pgconn.PgConn
	pipe   *pgconn.Pipeline
	origin LSN // how far the origin was when the sink was opened

	names   map[string]string // of prepared statements, by text
	open    bool              // a transaction is
	sent    []sent
	bytes   int // of sent
	flushed int // of them
}

// sent is a request whose answer was not read yet.
type sent struct {
	table string // "" for what is no change of a row
	kind  byte
}

// openSink takes the origin.
func openSink(ctx context.Context, server Server, origin string) (*sink, error) {
	conn, err := server.connectWriter(ctx)
	if err != nil {
		return nil, err
	}
	// Rows are found by an index where there is one, whatever the size of the table was when a statement was planned.
	rows, err := query(ctx, conn, "SET enable_seqscan = off; SET jit = off; SELECT pg_replication_origin_session_setup("+literal(origin)+
		"); SELECT pg_replication_origin_session_progress(false)")
	s := &sink{server: server, conn: conn, names: map[string]string{}}
	if err == nil && rows[0][0] != nil {
		s.origin, err = ParseLSN(string(rows[0][0]))
	}
	if err != nil {
		hangUp(conn)
		if sqlState(err) == codeInUse {
			err = fmt.Errorf("%w: %w", ErrBusy, err)
		}
		return nil, fmt.Errorf("%s: take replication origin %s: %w", server.Name, origin,
			mayNot(err, "let a superuser GRANT EXECUTE on the functions pg_replication_origin_… to the role"))
	}
	s.pipe = conn.StartPipeline(ctx)
	return s, nil
}

// close rolls back what is open.
func (s *sink) close() {
	hangUp(s.conn)
	_ = s.pipe.Close()
}

// send queues a statement, and settles when much is under way.
func (s *sink) send(sql string, values [][]byte, what sent) error {
	name, prepared := s.names[sql]
	if !prepared && len(s.names) < preparedMost {
		name = "s" + strconv.Itoa(len(s.names))
		s.names[sql] = name
		s.pipe.SendPrepare(name, sql, nil)
		s.sent = append(s.sent, sent{table: what.table})
		prepared = true
	}
	if prepared {
		s.pipe.SendQueryPrepared(name, values, nil, nil)
	} else {
		s.pipe.SendQueryParams(sql, values, nil, nil, nil)
	}
	s.sent = append(s.sent, what)
	s.bytes += len(sql)
	for _, v := range values {
		s.bytes += len(v)
	}
	if len(s.sent) >= sentMost || s.bytes >= sentBytesMost {
		return s.settle()
	}
	if s.bytes-s.flushed >= flushBytes {
		s.flushed = s.bytes
		if err := s.pipe.Flush(); err != nil {
			return fmt.Errorf("%s: apply: %w", s.server.Name, err)
		}
	}
	return nil
}

// settle waits for the answers to all that was sent.
func (s *sink) settle() error {
	if err := s.pipe.Sync(); err != nil {
		return fmt.Errorf("%s: apply: %w", s.server.Name, err)
	}
	for _, what := range s.sent {
		if err := s.answer(what); err != nil {
			return fmt.Errorf("%s: apply: %w", s.server.Name, err)
		}
	}
	s.sent, s.bytes, s.flushed = s.sent[:0], 0, 0
	switch result, err := s.pipe.GetResults(); result.(type) {
	case *pgconn.PipelineSync:
		return nil
	default:
		return fmt.Errorf("%s: apply: %w", s.server.Name, errors.Join(errors.New("no end of the answers"), err))
	}
}

// answer reads one.
func (s *sink) answer(what sent) error {
	result, err := s.pipe.GetResults()
	if err != nil {
		return refusal(what.table, err)
	}
	switch r := result.(type) {
	case *pgconn.StatementDescription:
		return nil
	case *pgconn.ResultReader:
		tag, err := r.Close()
		if err != nil {
			return refusal(what.table, err)
		}
		if what.kind != 0 && tag.RowsAffected() != 1 {
			return &Hopeless{RowMissing, what.table, fmt.Errorf("a change (%c) that concerns one row at the source concerns %d at the target", what.kind, tag.RowsAffected())}
		}
		return nil
	}
	return fmt.Errorf("an answer that is a %T", result)
}

// change queues a change of a row, in the open transaction or in a new one.
func (s *sink) change(t *target, st *statement, kind byte) error {
	if !s.open {
		s.open = true
		if err := s.send("BEGIN", nil, sent{}); err != nil {
			return err
		}
	}
	return s.send(st.sql, st.values, sent{t.table.String(), kind})
}

// commit commits what is open, with the position and time of the last transaction of the source that is in it. sync: it waits for the disk (and for synchronous
// standbys), and so does all before it.
func (s *sink) commit(at LSN, when time.Time, sync bool) error {
	err := s.send("SELECT pg_replication_origin_xact_setup($1::pg_lsn, $2::timestamptz)",
		[][]byte{[]byte(at.String()), []byte(when.UTC().Format("2006-01-02 15:04:05.999999Z07:00"))}, sent{})
	if err == nil && sync {
		err = s.send("SET LOCAL synchronous_commit = on", nil, sent{})
	}
	if err == nil {
		err = s.send("COMMIT", nil, sent{})
	}
	if err == nil && len(s.sent) > 0 {
		err = s.settle()
	}
	s.open = false
	return err
}

// harden makes durable what was committed. There must be no open transaction.
func (s *sink) harden() error {
	for _, sql := range []string{"BEGIN", "SET LOCAL synchronous_commit = on", emitLocal, "COMMIT"} {
		if err := s.send(sql, nil, sent{}); err != nil {
			return err
		}
	}
	if len(s.sent) > 0 {
		return s.settle()
	}
	return nil
}
