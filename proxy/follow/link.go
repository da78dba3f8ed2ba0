package follow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"pgtier/proxy/wire"
)

// Dial logs in to the manager, with params among the startup parameters. The caller decides with it which server is the
// manager, as whom and how securely; a Follower dials its connections one after the other and checks that they lead to the
// same server. An error with an SQLState method is taken for the server's refusal. Safe for concurrent use.
type Dial func(ctx context.Context, params []wire.Param) (*wire.Conn, error)

const (
	// readBuffer takes some hundred changes a system call.
	readBuffer = 64 << 10
	// answerMost bounds a message of an answer to our own questions: a snapshot lists at most some ten thousand ids.
	answerMost = 1 << 20
	// errorMost bounds an ErrorResponse.
	errorMost = 64 << 10
)

// link is one connection. Reading belongs to one goroutine, and so does writing; close may be called by any.
type link struct {
	conn  *wire.Conn
	in    *bufio.Reader
	limit time.Duration // that a read may wait; 0 is for ever
	buf   []byte        // of the last message
}

// dialLink logs in within the limit, which then holds for each read.
func dialLink(ctx context.Context, dial Dial, params []wire.Param, limit time.Duration) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := dial(ctx, params)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, limit: limit}
	l.in = bufio.NewReaderSize(patient{l}, readBuffer)
	return l, nil
}

// patient reads a link's connection, each time within the limit.
type patient struct{ l *link }

// Read waits for the limit.
func (r patient) Read(p []byte) (int, error) {
	var deadline time.Time
	if r.l.limit > 0 {
		deadline = time.Now().Add(r.l.limit)
	}
	r.l.conn.SetReadDeadline(deadline)
	return r.l.conn.Read(p)
}

// close hangs up; a read or write under way fails.
func (l *link) close() { _ = l.conn.Close() }

// write sends msgs within the limit.
func (l *link) write(msgs []byte, limit time.Duration) error {
	if err := l.conn.NetConn().SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if err := l.conn.Write(msgs); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// header reads the beginning of the next message. Its body of size bytes must then be read by body or skip.
func (l *link) header() (kind byte, size int, err error) {
	head, err := l.in.Peek(wire.HeaderBytes)
	if err != nil {
		return 0, 0, fmt.Errorf("read message: %w", err)
	}
	whole, ok := wire.FrameSize(head)
	if !ok || whole == 0 {
		return 0, 0, fmt.Errorf("read message: %w: length", wire.ErrBroken)
	}
	kind = head[0]
	return kind, whole - wire.HeaderBytes, l.skip(wire.HeaderBytes)
}

// body reads size bytes; they are valid until the next call. More than most is an error.
func (l *link) body(size, most int) ([]byte, error) {
	if size > most {
		return nil, fmt.Errorf("read message of %d bytes: %w: the limit is %d", size, wire.ErrTooLong, most)
	}
	if cap(l.buf) < size {
		l.buf = make([]byte, max(size, min(2*cap(l.buf), most)))
	}
	b := l.buf[:size]
	for read := 0; read < size; {
		n, err := l.in.Read(b[read:])
		read += n
		if n == 0 && err != nil {
			return nil, fmt.Errorf("read message: %w", err)
		}
	}
	return b, nil
}

// skip reads size bytes that nobody needs.
func (l *link) skip(size int) error {
	if _, err := l.in.Discard(size); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}

// query sends msgs, which must end in one Query or Sync, and reads up to its ReadyForQuery. visit (may be nil) gets each row
// with the number of the statement it belongs to, from 0, and must copy what it keeps; its first error is returned. A server's
// error is a *wire.Error and leaves the connection usable, unless it is FATAL.
func (l *link) query(msgs []byte, visit func(statement int, fields [][]byte) error) error {
	if err := l.write(msgs, max(l.limit, time.Second)); err != nil {
		return err
	}
	var failed error
	statement := 0
	for {
		kind, size, err := l.header()
		if err != nil {
			return err
		}
		b, err := l.body(size, answerMost)
		if err != nil {
			return err
		}
		switch kind {
		case wire.MsgReadyForQuery:
			return failed
		case wire.MsgErrorResponse:
			e := wire.ParseError(b)
			if failed == nil {
				failed = e
			}
			if e.Severity == "FATAL" || e.Severity == "PANIC" {
				return failed
			}
		case wire.MsgCommandComplete:
			statement++
		case wire.MsgDataRow:
			if visit == nil || failed != nil {
				continue
			}
			fields, err := wire.RowFields(b)
			if err == nil {
				err = visit(statement, fields)
			}
			if err != nil {
				failed = fmt.Errorf("read answer: %w", err)
			}
		case wire.MsgRowDescription, wire.MsgNoticeResponse, wire.MsgParameterStatus, wire.MsgEmptyQueryResponse, wire.MsgNotification,
			wire.MsgParseComplete, wire.MsgBindComplete, wire.MsgNoData:
		default:
			return fmt.Errorf("read answer: %w: type %q", wire.ErrBroken, kind)
		}
	}
}

// run is query of an SQL text.
func (l *link) run(sql string, visit func(statement int, fields [][]byte) error) error {
	return l.query(wire.AppendQuery(nil, sql), visit)
}

// sqlState is the code of a server's error, "" if err is none.
func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}

// row says where a row's values go, and is an error if there are not as many. NULL is 0, false or "".
func row(fields [][]byte, into ...any) error {
	if len(fields) != len(into) {
		return fmt.Errorf("%d columns instead of %d", len(fields), len(into))
	}
	for i, field := range fields {
		if err := value(string(field), into[i]); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// value reads one value.
func value(text string, into any) (err error) {
	switch to := into.(type) {
	case *string:
		*to = text
	case *bool:
		*to = text == "t"
	case *uint32:
		var n uint64
		if text != "" {
			n, err = strconv.ParseUint(text, 10, 32)
		}
		*to = uint32(n)
	case *uint64:
		*to = 0
		if text != "" {
			*to, err = strconv.ParseUint(text, 10, 64)
		}
	case *int64:
		*to = 0
		if text != "" {
			*to, err = strconv.ParseInt(text, 10, 64)
		}
	case *LSN:
		*to, err = parseLSN(text)
	default:
		err = fmt.Errorf("a %T takes no value", into)
	}
	return err
}
