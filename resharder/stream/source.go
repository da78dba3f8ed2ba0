package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// silenceMost is how long the source may say nothing; it is asked for a sign of life every ApplyConfig.Durable. PostgreSQL's
	// own wal_receiver_timeout is as long.
	silenceMost = time.Minute
	// statusLimit is how long a status may take to be written.
	statusLimit = 10 * time.Second
)

// source is a connection that streams. One goroutine reads it into the inbox, another writes statuses.
type source struct {
	conn  net.Conn
	front *pgproto3.Frontend
	in    *inbox
	done  sync.WaitGroup
	buf   []byte // of the last status
}

// openSource starts to stream from a position, or from the slot's if that is later.
func openSource(ctx context.Context, server Server, slot, publication string, from LSN) (*source, error) {
	params := sessionParams()
	params["replication"] = "database"
	conn, err := server.Dial(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("%s: log in for replication: %w", server.Name, err)
	}
	// Protocol 1 tells a transaction when it has committed.
	command := fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (proto_version '1', publication_names %s, messages 'true')",
		identifier(slot), from, quoted(identifier(publication)))
	err = start(ctx, conn, command)
	var hijacked *pgconn.HijackedConn
	if err == nil {
		hijacked, err = conn.Hijack()
	}
	if err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("%s: stream from slot %s: %w", server.Name, slot, streamRefusal(err))
	}
	s := &source{conn: hijacked.Conn, front: hijacked.Frontend, in: newInbox()}
	s.done.Go(s.read) // ends with the connection or the inbox; close waits for it
	return s, nil
}

// quoted is a string of the replication protocol's grammar, which knows no escapes but doubled quotes.
func quoted(text string) string {
	b := []byte{'\''}
	for i := range len(text) {
		if text[i] == '\'' {
			b = append(b, '\'')
		}
		b = append(b, text[i])
	}
	return string(append(b, '\''))
}

// start sends the command and waits until the server streams.
func start(ctx context.Context, conn *pgconn.PgConn, command string) error {
	conn.Frontend().SendQuery(&pgproto3.Query{String: command})
	if err := conn.Frontend().Flush(); err != nil {
		return err
	}
	for {
		m, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return fmt.Errorf("the server answers START_REPLICATION by a %T", m)
		}
	}
}

// read fills the inbox until the stream's end.
func (s *source) read() {
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(silenceMost)) // a connection that is closed says so in the next line
		m, err := s.front.Receive()
		if err != nil {
			s.in.end(fmt.Errorf("read stream: %w", err))
			return
		}
		switch m := m.(type) {
		case *pgproto3.CopyData:
			if !s.in.put(slices.Clone(m.Data)) {
				return
			}
		case *pgproto3.ErrorResponse:
			s.in.end(fmt.Errorf("read stream: %w", streamRefusal(pgconn.ErrorResponseToPgError(m))))
			return
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		case *pgproto3.CopyDone:
			s.in.end(errors.New("read stream: the server has ended it"))
			return
		default:
			s.in.end(fmt.Errorf("read stream: %w: a %T", errMalformed, m))
			return
		}
	}
}

// confirm tells the source that all up to a position is durable at the target, and asks for a sign of life.
func (s *source) confirm(at LSN) error {
	var err error
	if s.buf, err = (&pgproto3.CopyData{Data: appendStatus(nil, at)}).Encode(s.buf[:0]); err == nil {
		err = s.conn.SetWriteDeadline(time.Now().Add(statusLimit))
	}
	if err == nil {
		_, err = s.conn.Write(s.buf)
	}
	if err != nil {
		return fmt.Errorf("confirm to source: %w", err)
	}
	return nil
}

// close hangs up and waits for the reader.
func (s *source) close() {
	s.in.close()
	_ = s.conn.Close()
	s.done.Wait()
}
