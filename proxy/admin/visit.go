package admin

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"pgtier/proxy/wire"
)

const (
	// maxMessage bounds what a client of the console may send at once: commands are short.
	maxMessage = 64 << 10
	// flushAt is the size from which an answer is sent before it is complete.
	flushAt = 64 << 10
	// writeTimeout bounds one write to a client that does not read.
	writeTimeout = 30 * time.Second
)

// Visit is one client of the console.
type Visit struct {
	// Set by the caller of Serve.
	Conn   *wire.Conn
	Input  *wire.Input // what was read beyond the login
	User   string
	Admin  bool // may run everything; else only what looks
	PID    uint32
	Secret string

	// Owned by Serve.
	out        []byte
	statements map[string]plan
	portals    map[string]*portal
	skipping   bool // after an error, until Sync

	mu      sync.Mutex
	running context.CancelFunc // ends the command under way; nil: none
	ending  *wire.Error
}

// Cancel ends the command under way. Safe for concurrent use.
func (v *Visit) Cancel() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.running != nil {
		v.running()
	}
}

// End tells the client e as soon as its command is over, which it cancels, and
// hangs up. Safe for concurrent use.
func (v *Visit) End(e *wire.Error) {
	v.mu.Lock()
	if v.ending == nil {
		v.ending = e
	}
	if v.running != nil {
		v.running()
	}
	v.mu.Unlock()
	v.Conn.SetReadDeadline(time.Unix(1, 0))
}

// Serve answers the client until it leaves or ctx ends, and closes the
// connection. nil is a plain goodbye.
func (c *Console) Serve(ctx context.Context, v *Visit) error {
	v.statements, v.portals = make(map[string]plan), make(map[string]*portal)
	defer func() {
		v.Input.Drop()
		_ = v.Conn.Close()
	}()
	stop := context.AfterFunc(ctx, func() {
		v.End(wire.Fatal(wire.CodeAdminShutdown, "terminating connection due to administrator command"))
	})
	defer stop()
	c.welcome(v)
	for {
		if v.Input.Len() == 0 || len(v.out) >= flushAt {
			if err := v.flush(); err != nil {
				return err
			}
		}
		f, err := v.Input.ReadFrame(v.Conn, c.bufs, maxMessage)
		if err != nil {
			return v.leave(err)
		}
		done, err := c.answer(ctx, v, f)
		v.Input.Release()
		if err != nil {
			return v.leave(err)
		}
		if done {
			return nil
		}
	}
}

// leave ends the visit because of err and tells the client why, if it can still be told.
func (v *Visit) leave(err error) error {
	v.mu.Lock()
	e := v.ending
	v.mu.Unlock()
	switch {
	case e != nil:
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, wire.ErrTooLong):
		e = wire.Fatal(wire.CodeLimitExceeded, "message too long for the admin console")
	case errors.Is(err, wire.ErrBroken):
		e = wire.Fatal(wire.CodeProtocolViolation, "invalid message")
	default:
		return err
	}
	v.out = e.Append(v.out)
	_ = v.flush()
	return err
}

func (v *Visit) flush() error {
	if len(v.out) == 0 {
		return nil
	}
	_ = v.Conn.NetConn().SetWriteDeadline(time.Now().Add(writeTimeout))
	err := v.Conn.Write(v.out)
	if cap(v.out) > flushAt {
		v.out = nil
	}
	v.out = v.out[:0]
	return err
}

// welcome tells what servers tell after login.
func (c *Console) welcome(v *Visit) {
	superuser := "off"
	if v.Admin {
		superuser = "on"
	}
	out := wire.AppendAuth(v.out, wire.AuthOK, nil)
	for _, p := range []wire.Param{
		{Name: "server_version", Value: bouncerVersion + "/bouncer"},
		{Name: "client_encoding", Value: "UTF8"},
		{Name: "server_encoding", Value: "UTF8"},
		{Name: "DateStyle", Value: "ISO"},
		{Name: "TimeZone", Value: "GMT"},
		{Name: "standard_conforming_strings", Value: "on"},
		{Name: "integer_datetimes", Value: "on"},
		{Name: "is_superuser", Value: superuser},
		{Name: "session_authorization", Value: v.User},
	} {
		out = wire.AppendParameterStatus(out, p.Name, p.Value)
	}
	out = wire.AppendBackendKey(out, v.PID, []byte(v.Secret))
	v.out = wire.AppendReady(out, wire.TxIdle)
}

// answer serves one message. done: the client said goodbye.
func (c *Console) answer(ctx context.Context, v *Visit, f wire.Frame) (done bool, err error) {
	switch f.Type {
	case wire.MsgTerminate:
		return true, nil
	case wire.MsgQuery:
		text, ok := queryText(f.Body())
		if !ok {
			return false, wire.ErrBroken
		}
		v.skipping = false
		return false, c.query(ctx, v, text)
	case wire.MsgFunction:
		v.out = wire.NewError(wire.CodeFeatureNotSupported, "the admin console has no functions", "").Append(v.out)
		v.out = wire.AppendReady(v.out, wire.TxIdle)
		return false, nil
	case wire.MsgSync:
		v.skipping = false
		clear(v.portals)
		v.out = wire.AppendReady(v.out, wire.TxIdle)
		return false, v.flush()
	case wire.MsgCopyData, wire.MsgCopyDone, wire.MsgCopyFail:
		return false, nil // as PostgreSQL ignores them outside of COPY
	case wire.MsgFlush:
		return false, v.flush()
	}
	if v.skipping {
		return false, nil
	}
	e, err := c.extended(ctx, v, f)
	if e != nil {
		v.skipping = true
		v.out = e.Append(v.out)
	}
	return false, err
}

func queryText(body []byte) (string, bool) {
	if len(body) == 0 || body[len(body)-1] != 0 {
		return "", false
	}
	text := string(body[:len(body)-1])
	for i := range len(text) {
		if text[i] == 0 {
			return "", false
		}
	}
	return text, true
}

// query serves a Query: its statements one by one, up to the first that fails.
func (c *Console) query(ctx context.Context, v *Visit, text string) error {
	statements := split(text)
	if len(statements) == 0 {
		v.out = wire.AppendEmpty(v.out, wire.MsgEmptyQueryResponse)
	}
	for _, st := range statements {
		p, e := c.prepare(st, v.Admin)
		var k *call
		if e == nil {
			k, e = c.perform(ctx, v, p)
		}
		if k != nil {
			v.notices(k)
		}
		if e != nil {
			v.out = e.Append(v.out)
			break
		}
		if p.cmd.columns != nil {
			v.out = appendRowDescription(v.out, p.cmd.columns, nil)
		}
		for _, row := range k.rows {
			v.out = appendRow(v.out, p.cmd.columns, nil, row)
			if len(v.out) >= flushAt {
				if err := v.flush(); err != nil {
					return err
				}
			}
		}
		v.out = wire.AppendCommandComplete(v.out, p.cmd.tag)
	}
	v.out = wire.AppendReady(v.out, wire.TxIdle)
	return v.flush()
}

func (v *Visit) notices(k *call) {
	for i := range k.notices {
		v.out = appendNotice(v.out, &k.notices[i])
	}
}

// perform runs a command where Cancel and End can reach it.
func (c *Console) perform(ctx context.Context, v *Visit, p plan) (*call, *wire.Error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v.mu.Lock()
	v.running = cancel
	ending := v.ending
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		v.running = nil
		v.mu.Unlock()
	}()
	if ending != nil {
		return nil, ending
	}
	return c.run(ctx, p, v.User)
}
