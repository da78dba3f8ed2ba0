package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"pgtier/proxy/auth"
	"pgtier/proxy/wire"
)

// Target is where and as whom to log in. Immutable.
type Target struct {
	Name       string // for logs and SHOW SERVERS
	Network    string // "tcp" or "unix"
	Address    string
	Host       string // for TLS
	Database   string
	User       string
	Credential auth.Credential
	Binding    auth.ChannelBinding
	TLS        wire.TLSConfig
	Params     []wire.Param // further startup parameters
	Protocol   uint32       // the newest version to ask for; 0 is 3.0
	// Together: it is one of several servers of a database, which is no standby though some of them are. in_hot_standby is off then, whatever it reports.
	Together bool
}

// Dialer opens server connections. Safe for concurrent use.
type Dialer struct {
	Bufs *wire.Buffers
	ids  atomic.Uint64
}

// loginFrame bounds a message of the login phase.
const loginFrame = 64 << 10

// LoginError is a server's refusal to let us in, or a proof that we cannot give
// with what we know. It is not worth retrying with the same credential.
type LoginError struct{ Refusal *wire.Error }

// Error names the refusal.
func (e *LoginError) Error() string { return "log in: " + e.Refusal.Message }

// ServerMessage is the refusal in the server's own words.
func (e *LoginError) ServerMessage() string { return e.Refusal.Message }

// SQLState is the refusal's code.
func (e *LoginError) SQLState() string { return e.Refusal.Code }

// Unwrap returns the server's error.
func (e *LoginError) Unwrap() error { return e.Refusal }

// Dial connects and logs in within ctx's deadline. A refusal by the server is a
// *LoginError.
func (d *Dialer) Dial(ctx context.Context, t Target) (*Conn, error) {
	nc, err := t.dialSocket(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.Name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := d.login(ctx, nc, t)
	if err != nil {
		_ = nc.Close()
		if ctx.Err() != nil && !errors.As(err, new(*LoginError)) {
			err = fmt.Errorf("log in to %s: %w", t.Name, context.Cause(ctx))
		}
		return nil, err
	}
	if !stop() {
		_ = nc.Close()
		return nil, fmt.Errorf("log in to %s: %w", t.Name, context.Cause(ctx))
	}
	return c, nil
}

func (t *Target) dialSocket(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 10 * time.Second, Count: 6}
	return d.DialContext(ctx, t.Network, t.Address)
}

func (d *Dialer) login(ctx context.Context, nc net.Conn, t Target) (*Conn, error) {
	c := &Conn{Conn: wire.NewConn(nc), id: d.ids.Add(1), target: t, bufs: d.Bufs}
	c.WatchEnd(true)
	mode := t.TLS.EffectiveMode()
	if t.Network == "tcp" && mode != wire.TLSAllow {
		secured, err := t.startTLS(ctx, c.Conn, false)
		if err != nil {
			if mode == wire.TLSPrefer && errors.As(err, new(*handshakeError)) {
				return d.again(ctx, c, t, wire.TLSDisable)
			}
			return nil, fmt.Errorf("start TLS with %s: %w", t.Name, err)
		}
		if !secured && mode == wire.TLSPrefer {
			mode = wire.TLSDisable // there is no other way to try
		}
	}
	err := c.authenticate()
	if err == nil || t.Network != "tcp" || !errors.As(err, new(*LoginError)) {
		return c, err
	}
	// As in libpq, the modes that leave TLS open try the other way once refused.
	var other *Conn
	var otherErr error
	switch mode {
	case wire.TLSAllow:
		other, otherErr = d.again(ctx, c, t, wire.TLSRequire)
	case wire.TLSPrefer:
		other, otherErr = d.again(ctx, c, t, wire.TLSDisable)
	default:
		return nil, err
	}
	if otherErr != nil {
		return nil, err // what the first choice was told
	}
	return other, nil
}

// again logs in once more, in another mode.
func (d *Dialer) again(ctx context.Context, first *Conn, t Target, mode string) (*Conn, error) {
	_ = first.Conn.Close()
	t.TLS.Mode = mode
	nc, err := t.dialSocket(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.Name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	c, err := d.login(ctx, nc, t)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

// handshakeError is TLS that was begun and failed.
type handshakeError struct{ err error }

// Error is the handshake's own.
func (e *handshakeError) Error() string { return e.err.Error() }

// Unwrap is the handshake's own.
func (e *handshakeError) Unwrap() error { return e.err }

// startTLS asks for TLS as the mode says. must makes a refusal an error whatever the mode.
func (t *Target) startTLS(ctx context.Context, c *wire.Conn, must bool) (bool, error) {
	conf, err := t.TLS.ServerTLS(t.Host)
	if err != nil || conf == nil {
		return false, err
	}
	if err := c.Write(wire.AppendSSLRequest(nil)); err != nil {
		return false, err
	}
	var answer [1]byte
	if _, err := c.Read(answer[:]); err != nil {
		return false, err
	}
	switch answer[0] {
	case 'S':
		tc := tls.Client(c.NetConn(), conf)
		if err := tc.HandshakeContext(ctx); err != nil {
			return false, &handshakeError{err}
		}
		c.StartTLS(tc)
		return true, nil
	case 'N':
		mode := t.TLS.EffectiveMode()
		if must || mode != wire.TLSPrefer && mode != wire.TLSAllow {
			return false, fmt.Errorf("the server does not support TLS, but sslmode is %s", mode)
		}
		return false, nil
	}
	return false, fmt.Errorf("answer to SSLRequest: %w", wire.ErrBroken)
}

// authenticate sends the startup packet and reads up to the first ReadyForQuery.
func (c *Conn) authenticate() error {
	t := &c.target
	params := append([]wire.Param{{Name: "user", Value: t.User}, {Name: "database", Value: t.Database}}, t.Params...)
	if err := c.Write(wire.AppendStartup(nil, max(t.Protocol, wire.Protocol30), params)); err != nil {
		return fmt.Errorf("send startup packet to %s: %w", t.Name, err)
	}
	l := login{c: c}
	defer l.in.Drop()
	for {
		f, err := l.in.ReadFrame(c, c.bufs, loginFrame)
		if err != nil {
			return fmt.Errorf("log in to %s: %w", t.Name, err)
		}
		done, err := l.frame(f)
		if err != nil {
			return err
		}
		if done {
			c.created = time.Now()
			return nil
		}
	}
}

// unable says that the credential does not do for what the server asks.
func unable(format string, args ...any) error {
	return &LoginError{Refusal: wire.Fatal(wire.CodeInvalidPassword, fmt.Sprintf(format, args...))}
}

// login drives one login exchange.
type login struct {
	c        *Conn
	in       wire.Input
	scram    *auth.ScramClient
	verified bool // the server proved that it knows the password
	ok       bool
}

func (l *login) frame(f wire.Frame) (done bool, err error) {
	c, body := l.c, f.Body()
	switch f.Type {
	case wire.MsgAuthentication:
		return false, l.answer(body)
	case wire.MsgErrorResponse:
		e := wire.ParseError(body)
		return false, &LoginError{Refusal: e}
	case wire.MsgParameterStatus:
		p, err := wire.ParseParameterStatus(body)
		if err != nil {
			return false, err
		}
		c.SetParam(p)
	case wire.MsgBackendKeyData:
		c.pid, c.secret, err = wire.ParseBackendKey(body)
		return false, err
	case wire.MsgNoticeResponse, wire.MsgNegotiateVersion:
	case wire.MsgReadyForQuery:
		if !l.ok {
			return false, fmt.Errorf("log in to %s: %w: ReadyForQuery before authentication", c.target.Name, wire.ErrBroken)
		}
		if l.in.Len() != 0 {
			return false, fmt.Errorf("log in to %s: %w: bytes after ReadyForQuery", c.target.Name, wire.ErrBroken)
		}
		return true, nil
	default:
		return false, fmt.Errorf("log in to %s: %w: message %q", c.target.Name, wire.ErrBroken, f.Type)
	}
	return false, nil
}

func (l *login) answer(body []byte) error {
	code, data, err := wire.ParseAuth(body)
	if err != nil {
		return err
	}
	c := l.c
	switch code {
	case wire.AuthOK:
		if l.scram != nil && !l.verified {
			return errors.New("log in: the server ended SCRAM without proving that it knows the password")
		}
		l.ok = true
		return nil
	case wire.AuthCleartext:
		password, ok := c.target.Credential.Password()
		if !ok {
			return unable("the server asks for a clear-text password and none is known for this role")
		}
		return c.Write(wire.AppendPassword(nil, password))
	case wire.AuthMD5:
		if len(data) != 4 {
			return fmt.Errorf("log in to %s: %w: md5 salt", c.target.Name, wire.ErrBroken)
		}
		response, err := auth.MD5Response(c.target.Credential, c.target.User, [4]byte(data))
		if err != nil {
			return unable("%s", err)
		}
		return c.Write(wire.AppendPassword(nil, response))
	case wire.AuthSASL, wire.AuthSASLContinue, wire.AuthSASLFinal:
		return l.sasl(code, data)
	}
	return fmt.Errorf("log in to %s: authentication method %d is not supported; use scram-sha-256, md5, password or cert", c.target.Name, code)
}

func (l *login) sasl(code uint32, data []byte) (err error) {
	c := l.c
	if code == wire.AuthSASL {
		var binding []byte
		if state, ok := c.TLS(); ok && len(state.PeerCertificates) > 0 {
			binding = auth.TLSServerEndPoint(state.PeerCertificates[0])
		}
		l.scram, err = auth.NewScramClientBinding(c.target.Credential, wire.ParseStrings(data), binding, c.target.Binding)
		if err != nil {
			return unable("%s", err)
		}
		return c.Write(wire.AppendSASLInitial(nil, l.scram.Mechanism(), l.scram.First()))
	}
	if l.scram == nil {
		return fmt.Errorf("log in to %s: %w: SASL message out of order", c.target.Name, wire.ErrBroken)
	}
	if code == wire.AuthSASLFinal {
		if err := l.scram.Verify(data); err != nil {
			return fmt.Errorf("log in to %s: %w", c.target.Name, err)
		}
		l.verified = true
		return nil
	}
	final, err := l.scram.Next(data)
	if err != nil {
		return unable("%s", err)
	}
	return c.Write(wire.AppendSASLResponse(nil, final))
}

// PeerCertificate is the server's certificate, nil without TLS.
func (c *Conn) PeerCertificate() *x509.Certificate {
	state, ok := c.TLS()
	if !ok || len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}
