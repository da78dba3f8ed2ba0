package proxy_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgtier/proxy/wire"
)

// rawClient speaks the protocol by hand, for what drivers do not do. It reuses its buffers, so that it allocates nothing
// once they have grown.
type rawClient struct {
	nc   net.Conn
	in   []byte
	pid  uint32
	key  []byte
	have int // bytes of in that are filled
	next int // where the next message begins in in

	params     map[string]string
	negotiated uint32 // version from NegotiateProtocolVersion, 0 without
}

// rawDial logs in as the superuser, who is trusted.
func (p *running) rawDial(t testing.TB, version uint32, params ...wire.Param) *rawClient {
	t.Helper()
	nc, err := net.DialTimeout("tcp", p.address, limit)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rawLogin(nc, version, append([]wire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: p.database}}, params...))
	if err != nil {
		_ = nc.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return c
}

// rawLogin logs in over nc.
func rawLogin(nc net.Conn, version uint32, params []wire.Param) (*rawClient, error) {
	c := &rawClient{nc: nc, in: make([]byte, 1024), params: map[string]string{}}
	_ = nc.SetDeadline(time.Now().Add(limit))
	if _, err := nc.Write(wire.AppendStartup(nil, version, params)); err != nil {
		return nil, err
	}
	for {
		kind, body, err := c.message()
		if err != nil {
			return nil, err
		}
		switch kind {
		case wire.MsgNegotiateVersion:
			c.negotiated = binary.BigEndian.Uint32(body)
		case wire.MsgParameterStatus:
			param, err := wire.ParseParameterStatus(body)
			if err != nil {
				return nil, err
			}
			c.params[param.Name] = param.Value
		case wire.MsgBackendKeyData:
			c.pid, c.key = binary.BigEndian.Uint32(body), append([]byte(nil), body[4:]...)
		case wire.MsgErrorResponse:
			return nil, wire.ParseError(body)
		case wire.MsgReadyForQuery:
			_ = nc.SetDeadline(time.Time{})
			return c, nil
		}
	}
}

// message returns the next message; body is valid until the next call.
func (c *rawClient) message() (kind byte, body []byte, err error) {
	for {
		if rest := c.in[c.next:c.have]; len(rest) >= 5 {
			if size := 1 + int(binary.BigEndian.Uint32(rest[1:])); len(rest) >= size {
				c.next += size
				return rest[0], rest[5:size], nil
			}
		}
		copy(c.in, c.in[c.next:c.have])
		c.have, c.next = c.have-c.next, 0
		if c.have == len(c.in) {
			c.in = append(c.in, make([]byte, len(c.in))...)
		}
		n, err := c.nc.Read(c.in[c.have:])
		if n == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			return 0, nil, err
		}
		c.have += n
	}
}

// round sends msgs and reads to the next ReadyForQuery. It returns the first error that the answer holds.
func (c *rawClient) round(msgs []byte) error {
	if _, err := c.nc.Write(msgs); err != nil {
		return err
	}
	return c.ready()
}

// ready reads to the next ReadyForQuery. It returns the first error on the way.
func (c *rawClient) ready() error {
	var failed error
	for {
		kind, body, err := c.message()
		switch {
		case err != nil && failed != nil:
			return failed
		case err != nil:
			return err
		case kind == wire.MsgErrorResponse && failed == nil:
			failed = wire.ParseError(body)
		case kind == wire.MsgReadyForQuery:
			return failed
		}
	}
}

// farewell reads until the proxy hangs up and returns the error it gave.
func (c *rawClient) farewell() (*wire.Error, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(limit))
	var told *wire.Error
	for {
		kind, body, err := c.message()
		if errors.Is(err, io.EOF) && told != nil {
			return told, nil
		}
		if err != nil {
			return told, fmt.Errorf("wait for the end: %w", err)
		}
		if kind == wire.MsgErrorResponse {
			if told != nil {
				return told, fmt.Errorf("a second error: %w", wire.ParseError(body))
			}
			told = wire.ParseError(body)
		}
	}
}

// wantFarewell fails the test unless the proxy ends the connection with that error.
func (c *rawClient) wantFarewell(t testing.TB, state string) {
	t.Helper()
	told, err := c.farewell()
	if err != nil || told == nil || told.Code != state || told.Severity != "FATAL" {
		t.Errorf("got %+v, %v; want FATAL %s and the end of the connection", told, err, state)
	}
}

func dialTCP(address string) (net.Conn, error) { return net.DialTimeout("tcp", address, limit) }

// write sends msgs.
func (c *rawClient) write(t testing.TB, msgs []byte) {
	t.Helper()
	if _, err := c.nc.Write(msgs); err != nil {
		t.Fatal(err)
	}
}

// told is what a client reads up to the next ReadyForQuery: the types of the messages, and the first value of each row.
func (c *rawClient) told(within time.Duration) (string, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(within))
	defer func() { _ = c.nc.SetReadDeadline(time.Time{}) }()
	var out []string
	for {
		kind, body, err := c.message()
		if err != nil {
			return strings.Join(out, " "), err
		}
		switch kind {
		case wire.MsgDataRow:
			row := "D:"
			if len(body) > 6 {
				row += string(body[6:])
			}
			out = append(out, row)
		case wire.MsgErrorResponse:
			e := wire.ParseError(body)
			out = append(out, "E:"+e.Code+":"+e.Message)
		case wire.MsgParameterStatus:
			out = append(out, "S:"+string(bytes.ReplaceAll(bytes.TrimRight(body, "\x00"), []byte{0}, []byte("="))))
		default:
			out = append(out, string(kind))
		}
		if kind == wire.MsgReadyForQuery {
			return strings.Join(out, " "), nil
		}
	}
}

// wantTold fails the test unless the client hears want up to the next ReadyForQuery.
func (c *rawClient) wantTold(t testing.TB, want string) {
	t.Helper()
	if got, err := c.told(limit); got != want {
		t.Errorf("heard %q, %v; want %q", got, err, want)
	}
}
