package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/auth"
	"pgtier/proxy/wire"
)

// Hello is a client that has said who it wants to be.
type Hello struct {
	Conn     *wire.Conn
	Startup  wire.Startup
	User     string
	Database string
	Version  uint32 // protocol spoken from here on
	in       wire.Input
	secret   auth.Credential // what the client proved to know; zero if nothing reusable
}

// Door is how clients come in: what the handshake needs of the proxy. Fixed
// after New; the functions are safe for concurrent use.
type Door struct {
	Env  *Env
	Auth func() *auth.Authenticator
	// TLS returns what clients are met with; nil when TLS is off.
	TLS func() *tls.Config
	// TLSMode is the mode of tls.client.
	TLSMode func() string
	// Query asks a server for the secret of a user that is not known beforehand.
	Query func(ctx context.Context, database, user string) (auth.Secret, bool, error)
	// Cancel carries out a CancelRequest.
	Cancel func(Key)
}

// errDone ends a connection that asked for nothing more: a cancel request, or
// a probe that said nothing.
var errDone = errors.New("done")

// Greet runs the handshake up to authentication. It returns nil, nil for a
// connection that is over without an error (a cancel, a port check). An error
// has been told to the client.
func (d *Door) Greet(nc net.Conn, timeout time.Duration) (*Hello, error) {
	h := &Hello{Conn: wire.NewConn(nc)}
	if timeout > 0 {
		_ = h.Conn.SetDeadline(time.Now().Add(timeout))
	}
	err := d.greet(h)
	if err == nil {
		err = d.authenticate(h)
	}
	if err == nil {
		_ = h.Conn.SetDeadline(time.Time{})
		return h, nil
	}
	h.in.Drop()
	if errors.Is(err, errDone) {
		_ = h.Conn.Close()
		return nil, nil
	}
	h.Refuse(d.asRefusal(err))
	return nil, err
}

// asRefusal words an error of the handshake for the client.
func (d *Door) asRefusal(err error) *wire.Error {
	var ne net.Error
	switch {
	case errors.Is(err, wire.ErrBroken), errors.Is(err, wire.ErrTooLong):
		return wire.Fatal(wire.CodeProtocolViolation, "invalid startup or authentication message")
	case errors.As(err, &ne) && ne.Timeout():
		return wire.Fatal(wire.CodeQueryCanceled, "canceling authentication due to timeout")
	}
	var refusal *auth.Error
	if errors.As(err, &refusal) {
		return &wire.Error{Code: refusal.Code, Message: refusal.Message, Detail: refusal.Detail, Hint: refusal.Hint}
	}
	return asError(err)
}

// Refuse tells the client why it cannot come in, and hangs up.
func (h *Hello) Refuse(e *wire.Error) {
	fe := *e
	fe.Severity = "FATAL"
	_ = h.Conn.SetDeadline(time.Now().Add(killWriteTimeout))
	_ = h.Conn.Write(fe.Append(nil))
	_ = h.Conn.Close()
}

// greet reads packets until the startup packet of a session.
func (d *Door) greet(h *Hello) error {
	if err := d.directTLS(h); err != nil {
		return err
	}
	for {
		s, err := h.in.ReadStartup(h.Conn, d.Env.Bufs)
		if err != nil {
			if h.in.Len() == 0 && !errors.Is(err, wire.ErrBroken) && !isTimeout(err) && !isError(err) {
				return errDone
			}
			return err
		}
		switch s.Kind {
		case wire.StartupCancel:
			d.Cancel(Key{PID: s.PID, Secret: string(s.Secret)})
			return errDone
		case wire.StartupGSS:
			err = h.Conn.Write([]byte{'N'})
		case wire.StartupSSL:
			err = d.startTLS(h)
		default:
			h.Startup = s
			return d.begin(h)
		}
		if err != nil {
			return err
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func isError(err error) bool {
	var we *wire.Error
	return errors.As(err, &we)
}

// directTLS starts TLS at once for a client whose first byte is a TLS
// handshake record (PostgreSQL 17's sslnegotiation=direct).
func (d *Door) directTLS(h *Hello) error {
	n, err := h.Conn.Read(h.in.Space(d.Env.Bufs, wire.TinyBuffer))
	h.in.Added(n)
	if n == 0 {
		if isTimeout(err) {
			return err
		}
		return errDone
	}
	if h.in.Bytes()[0] != 0x16 {
		return nil
	}
	conf := d.TLS()
	if conf == nil {
		return fmt.Errorf("direct TLS, which is off: %w", wire.ErrBroken)
	}
	head := append([]byte(nil), h.in.Bytes()...)
	h.in.Drop()
	if err := h.Conn.AcceptTLS(conf, head); err != nil {
		return err
	}
	if state, _ := h.Conn.TLS(); state.NegotiatedProtocol != wire.ALPN {
		return wire.Fatal(wire.CodeProtocolViolation, "received direct SSL connection request without ALPN protocol negotiation extension")
	}
	return nil
}

func (d *Door) startTLS(h *Hello) error {
	conf := d.TLS()
	if _, already := h.Conn.TLS(); conf == nil || already {
		return h.Conn.Write([]byte{'N'})
	}
	if h.in.Len() > 0 {
		// Somebody in the middle may have put it there (CVE-2021-23214).
		return wire.Fatal(wire.CodeProtocolViolation, "received unencrypted data after SSL request")
	}
	h.in.Release()
	if err := h.Conn.Write([]byte{'S'}); err != nil {
		return err
	}
	return h.Conn.AcceptTLS(conf, nil)
}

// begin checks the startup packet and settles the protocol version.
func (d *Door) begin(h *Hello) error {
	h.User, h.Database = h.Startup.Value("user"), h.Startup.Value("database")
	if h.User == "" {
		return wire.Fatal(wire.CodeInvalidAuth, "no PostgreSQL user name specified in startup packet")
	}
	if h.Database == "" {
		h.Database = h.User
	}
	if err := d.checkTLS(h); err != nil {
		return err
	}
	h.Version = min(h.Startup.Version, wire.Protocol32)
	if options := h.Startup.ProtocolOptions(); len(options) > 0 || h.Version != h.Startup.Version || h.Startup.Version == 3<<16|1 {
		if h.Startup.Version == 3<<16|1 {
			h.Version = wire.Protocol30 // 3.1 was never released
		}
		return h.Conn.Write(wire.AppendNegotiate(nil, h.Version, options))
	}
	return nil
}

// checkTLS holds the client to the mode of tls.client. Unix sockets need no TLS.
func (d *Door) checkTLS(h *Hello) error {
	mode := d.TLSMode()
	if h.Conn.LocalAddr().Network() == "unix" || mode != wire.TLSRequire && mode != wire.TLSVerifyCA && mode != wire.TLSVerifyFull {
		return nil
	}
	if _, secured := h.Conn.TLS(); !secured {
		return wire.Fatal(wire.CodeInvalidAuth, "this server accepts only connections with TLS")
	}
	if c := h.connection(); mode == wire.TLSVerifyFull && (!c.CertVerified || c.CertName != h.User) {
		return wire.Fatal(wire.CodeInvalidAuth, fmt.Sprintf("the client certificate is not that of user %q", h.User))
	}
	return nil
}

// authenticate has the client prove who it is.
func (d *Door) authenticate(h *Hello) error {
	conn := h.connection()
	a := d.Auth()
	decision, err := a.Method(conn)
	if err != nil {
		return err
	}
	if decision.Query {
		ctx, stop := context.WithTimeout(context.Background(), adoptTimeout)
		secret, found, err := d.Query(ctx, h.Database, h.User)
		stop()
		if err != nil {
			d.Env.Log.Warn("auth_query failed", zap.String("user", h.User), zap.Error(err))
		}
		if decision, err = a.MethodFor(conn, secret, found && err == nil); err != nil {
			return err
		}
	}
	x := exchangeAuth{d: d, h: h, decision: decision}
	return x.run()
}

// connection is what the rules may ask about a client.
func (h *Hello) connection() auth.Connection {
	replication := strings.ToLower(h.Startup.Value("replication"))
	c := auth.Connection{
		Local: h.Conn.LocalAddr().Network() == "unix", Database: h.Database, User: h.User,
		Replication: replication != "" && replication != "database" && replication != "false" && replication != "off" && replication != "0",
	}
	if a, ok := h.Conn.RemoteAddr().(*net.TCPAddr); ok {
		addr, _ := netip.AddrFromSlice(a.IP)
		c.Addr = addr.Unmap()
	}
	if state, ok := h.Conn.TLS(); ok {
		c.TLS = true
		if len(state.VerifiedChains) > 0 {
			c.CertVerified = true
			c.CertName = auth.CertificateName(state.PeerCertificates[0])
		}
	}
	return c
}
