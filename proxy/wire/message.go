package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgproto3/v2"
)

// encode adds a message that we built ourselves; its fields are in range, so an
// error is a fault of this package.
func encode(m interface {
	Encode(dst []byte) ([]byte, error)
}, dst []byte) []byte {
	out, err := m.Encode(dst)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return out
}

// Begin starts a message of type t; End closes it by setting its length.
func Begin(dst []byte, t byte) (out []byte, at int) {
	return append(dst, t, 0, 0, 0, 0), len(dst)
}

// End sets the length of the message begun at at.
func End(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-1))
	return dst
}

// AppendString adds a zero-terminated string.
func AppendString(dst []byte, s string) []byte { return append(append(dst, s...), 0) }

// AppendQuery adds a Query message.
func AppendQuery(dst []byte, sql string) []byte {
	dst, at := Begin(dst, MsgQuery)
	return End(AppendString(dst, sql), at)
}

// AppendParse adds a Parse message; types are parameter type OIDs, 0 for unknown.
func AppendParse(dst []byte, name string, sql []byte, types []uint32) []byte {
	dst, at := Begin(dst, MsgParse)
	dst = AppendString(dst, name)
	dst = append(append(dst, sql...), 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(types)))
	for _, t := range types {
		dst = binary.BigEndian.AppendUint32(dst, t)
	}
	return End(dst, at)
}

// AppendBindText adds a Bind of the unnamed portal with text parameters; a nil
// parameter is NULL. Results come as text.
func AppendBindText(dst []byte, statement string, params []*string) []byte {
	dst, at := Begin(dst, MsgBind)
	dst = append(dst, 0)
	dst = AppendString(dst, statement)
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(params)))
	for _, p := range params {
		if p == nil {
			dst = binary.BigEndian.AppendUint32(dst, ^uint32(0))
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(*p)))
		dst = append(dst, *p...)
	}
	return End(append(dst, 0, 0), at)
}

// AppendExecute adds an Execute of the unnamed portal without a row limit.
func AppendExecute(dst []byte) []byte { return append(dst, MsgExecute, 0, 0, 0, 9, 0, 0, 0, 0, 0) }

// AppendCloseStatement adds a Close of a prepared statement.
func AppendCloseStatement(dst []byte, name string) []byte { return appendClose(dst, 'S', name) }

// AppendClosePortal adds a Close of a portal.
func AppendClosePortal(dst []byte, name string) []byte { return appendClose(dst, 'P', name) }

func appendClose(dst []byte, kind byte, name string) []byte {
	dst, at := Begin(dst, MsgClose)
	return End(AppendString(append(dst, kind), name), at)
}

// AppendSync adds a Sync.
func AppendSync(dst []byte) []byte { return append(dst, MsgSync, 0, 0, 0, 4) }

// AppendTerminate adds a Terminate.
func AppendTerminate(dst []byte) []byte { return append(dst, MsgTerminate, 0, 0, 0, 4) }

// AppendPassword adds a PasswordMessage.
func AppendPassword(dst []byte, password string) []byte {
	return encode(&pgproto3.PasswordMessage{Password: password}, dst)
}

// AppendSASLInitial adds a SASLInitialResponse.
func AppendSASLInitial(dst []byte, mechanism string, data []byte) []byte {
	return encode(&pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: data}, dst)
}

// AppendSASLResponse adds a SASLResponse.
func AppendSASLResponse(dst []byte, data []byte) []byte {
	return encode(&pgproto3.SASLResponse{Data: data}, dst)
}

// AppendReady adds a ReadyForQuery in transaction state tx.
func AppendReady(dst []byte, tx byte) []byte { return append(dst, MsgReadyForQuery, 0, 0, 0, 5, tx) }

// AppendEmpty adds a message without a body, such as ParseComplete.
func AppendEmpty(dst []byte, t byte) []byte { return append(dst, t, 0, 0, 0, 4) }

// AppendCommandComplete adds a CommandComplete.
func AppendCommandComplete(dst []byte, tag string) []byte {
	dst, at := Begin(dst, MsgCommandComplete)
	return End(AppendString(dst, tag), at)
}

// AppendParameterStatus adds a ParameterStatus.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst, at := Begin(dst, MsgParameterStatus)
	return End(AppendString(AppendString(dst, name), value), at)
}

// AppendBackendKey adds a BackendKeyData; the secret has 4 bytes under protocol
// 3.0 and up to 256 under 3.2.
func AppendBackendKey(dst []byte, pid uint32, secret []byte) []byte {
	dst, at := Begin(dst, MsgBackendKeyData)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return End(append(dst, secret...), at)
}

// AppendNegotiate adds a NegotiateProtocolVersion: the newest version we speak
// and the protocol options we do not know.
func AppendNegotiate(dst []byte, version uint32, unknown []string) []byte {
	dst, at := Begin(dst, MsgNegotiateVersion)
	dst = binary.BigEndian.AppendUint32(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(unknown)))
	for _, name := range unknown {
		dst = AppendString(dst, name)
	}
	return End(dst, at)
}

// Authentication requests, by the code in the message.
const (
	AuthOK           = 0
	AuthCleartext    = 3
	AuthMD5          = 5
	AuthSASL         = 10
	AuthSASLContinue = 11
	AuthSASLFinal    = 12
)

// AppendAuth adds an Authentication message with code and its data.
func AppendAuth(dst []byte, code uint32, data []byte) []byte {
	dst, at := Begin(dst, MsgAuthentication)
	dst = binary.BigEndian.AppendUint32(dst, code)
	return End(append(dst, data...), at)
}

// AppendAuthSASL adds an AuthenticationSASL that offers mechanisms.
func AppendAuthSASL(dst []byte, mechanisms []string) []byte {
	return encode(&pgproto3.AuthenticationSASL{AuthMechanisms: mechanisms}, dst)
}

// ParseAuth splits the body of an Authentication message.
func ParseAuth(body []byte) (code uint32, data []byte, err error) {
	if len(body) < 4 {
		return 0, nil, fmt.Errorf("read authentication request: %w: too short", ErrBroken)
	}
	return binary.BigEndian.Uint32(body), body[4:], nil
}

// ParseStrings splits a body of zero-terminated strings that ends with an empty one.
func ParseStrings(body []byte) []string {
	var out []string
	for {
		s, rest, ok := cutZero(body)
		if !ok || s == "" {
			return out
		}
		out, body = append(out, s), rest
	}
}

// ParseParameterStatus reads the body of a ParameterStatus.
func ParseParameterStatus(body []byte) (Param, error) {
	name, rest, ok := cutZero(body)
	value, rest, ok2 := cutZero(rest)
	if !ok || !ok2 || len(rest) != 0 {
		return Param{}, fmt.Errorf("read ParameterStatus: %w", ErrBroken)
	}
	return Param{name, value}, nil
}

// ParseBackendKey reads the body of a BackendKeyData.
func ParseBackendKey(body []byte) (pid uint32, secret []byte, err error) {
	if len(body) < 8 || len(body) > 4+256 {
		return 0, nil, fmt.Errorf("read BackendKeyData: %w: length", ErrBroken)
	}
	return binary.BigEndian.Uint32(body), append([]byte(nil), body[4:]...), nil
}

// RowFields returns the fields of a DataRow in text; a NULL is nil. The values
// alias body.
func RowFields(body []byte) ([][]byte, error) {
	if len(body) < 2 {
		return nil, fmt.Errorf("read DataRow: %w: too short", ErrBroken)
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	fields := make([][]byte, 0, min(n, 64))
	for range n {
		if len(body) < 4 {
			return nil, fmt.Errorf("read DataRow: %w: cut short", ErrBroken)
		}
		size := int32(binary.BigEndian.Uint32(body))
		body = body[4:]
		if size == -1 {
			fields = append(fields, nil)
			continue
		}
		if size < 0 || int(size) > len(body) {
			return nil, fmt.Errorf("read DataRow: %w: field length", ErrBroken)
		}
		fields = append(fields, body[:size:size])
		body = body[size:]
	}
	return fields, nil
}
