package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Request codes that may stand in place of a protocol version.
const (
	codeCancel  = 80877102
	codeSSL     = 80877103
	codeGSS     = 80877104
	protoMajor3 = 3
)

// Protocol versions.
const (
	Protocol30 = 3 << 16
	Protocol32 = 3<<16 | 2
)

// StartupKind says which of the packets that may open a connection this is.
type StartupKind int

// The packets that open a connection.
const (
	StartupSession StartupKind = iota
	StartupSSL
	StartupGSS
	StartupCancel
)

// Param is one name and value of a startup packet or ParameterStatus.
type Param struct{ Name, Value string }

// Startup is a decoded startup packet.
type Startup struct {
	Kind    StartupKind
	Version uint32  // as requested; StartupSession only
	Params  []Param // in the client's order; StartupSession only
	PID     uint32  // StartupCancel only
	Secret  []byte  // StartupCancel only
}

// Value returns the parameter called name, "" when absent.
func (s *Startup) Value(name string) string {
	for _, p := range slices.Backward(s.Params) {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Reader is what a startup packet is read from.
type Reader interface{ Read(p []byte) (int, error) }

// ReadStartup reads one startup packet: at most MaxStartupBytes, exactly that
// packet's bytes are consumed from in.
func (in *Input) ReadStartup(r Reader, bufs *Buffers) (Startup, error) {
	for {
		b := in.Bytes()
		if len(b) >= 4 {
			n := int(binary.BigEndian.Uint32(b))
			if n < 8 || n > MaxStartupBytes {
				return Startup{}, fmt.Errorf("read startup packet: %w: length of startup packet", ErrBroken)
			}
			if len(b) >= n {
				in.Skip(n)
				return parseStartup(b[4:n])
			}
		}
		n, err := r.Read(in.Space(bufs, max(TinyBuffer, in.Len()*2)))
		in.Added(n)
		if n == 0 && err != nil {
			return Startup{}, err
		}
	}
}

func parseStartup(b []byte) (Startup, error) {
	code := binary.BigEndian.Uint32(b)
	b = b[4:]
	switch code {
	case codeSSL:
		return Startup{Kind: StartupSSL}, nil
	case codeGSS:
		return Startup{Kind: StartupGSS}, nil
	case codeCancel:
		// A 3.2 secret has up to 256 bytes.
		if len(b) < 8 || len(b) > 4+256 {
			return Startup{}, fmt.Errorf("read cancel request: %w: length", ErrBroken)
		}
		return Startup{Kind: StartupCancel, PID: binary.BigEndian.Uint32(b), Secret: append([]byte(nil), b[4:]...)}, nil
	}
	if code>>16 != protoMajor3 {
		return Startup{}, &Error{Severity: "FATAL", Code: CodeFeatureNotSupported,
			Message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", code>>16, code&0xffff)}
	}
	s := Startup{Kind: StartupSession, Version: code}
	for {
		name, rest, ok := cutZero(b)
		if !ok {
			return Startup{}, fmt.Errorf("read startup packet: %w: expected terminator as last byte", ErrBroken)
		}
		if name == "" {
			if len(rest) != 0 {
				return Startup{}, fmt.Errorf("read startup packet: %w: bytes after the terminator", ErrBroken)
			}
			return s, nil
		}
		value, rest, ok := cutZero(rest)
		if !ok {
			return Startup{}, fmt.Errorf("read startup packet: %w: a name without a value", ErrBroken)
		}
		s.Params = append(s.Params, Param{name, value})
		b = rest
	}
}

// ProtocolOptions returns the names of the packet's protocol extensions ("_pq_.…").
func (s *Startup) ProtocolOptions() []string {
	var names []string
	for _, p := range s.Params {
		if strings.HasPrefix(p.Name, "_pq_.") {
			names = append(names, p.Name)
		}
	}
	return names
}

// AppendStartup builds the packet that opens a session at a server.
func AppendStartup(dst []byte, version uint32, params []Param) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, version)
	for _, p := range params {
		dst = append(append(dst, p.Name...), 0)
		dst = append(append(dst, p.Value...), 0)
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// AppendSSLRequest builds the question whether the server speaks TLS.
func AppendSSLRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 8), codeSSL)
}

// AppendCancelRequest builds the packet that cancels pid's statement.
func AppendCancelRequest(dst []byte, pid uint32, secret []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(secret)))
	dst = binary.BigEndian.AppendUint32(dst, codeCancel)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, secret...)
}

func cutZero(b []byte) (s string, rest []byte, ok bool) {
	i := indexZero(b)
	if i < 0 {
		return "", nil, false
	}
	return string(b[:i]), b[i+1:], true
}
