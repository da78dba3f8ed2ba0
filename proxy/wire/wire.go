// Package wire carries PostgreSQL protocol messages over sockets: frames,
// startup packets, errors, TLS and the raw connection under them.
//
// Bytes from the network are framed and length-checked by this package's own
// bounded readers; pgproto3 only builds messages, because it panics on some
// malformed input and knows no length limit.
package wire

import "encoding/binary"

// Message types of the frontend (client to server).
const (
	MsgBind        = 'B'
	MsgClose       = 'C'
	MsgDescribe    = 'D'
	MsgExecute     = 'E'
	MsgFunction    = 'F'
	MsgFlush       = 'H'
	MsgParse       = 'P'
	MsgQuery       = 'Q'
	MsgSync        = 'S'
	MsgTerminate   = 'X'
	MsgCopyData    = 'd'
	MsgCopyDone    = 'c'
	MsgCopyFail    = 'f'
	MsgPassword    = 'p' // also SASLInitialResponse and SASLResponse
	msgHeaderBytes = 5
)

// Message types of the backend (server to client).
const (
	MsgAuthentication       = 'R'
	MsgBackendKeyData       = 'K'
	MsgBindComplete         = '2'
	MsgCloseComplete        = '3'
	MsgCommandComplete      = 'C'
	MsgCopyInResponse       = 'G'
	MsgCopyOutResponse      = 'H'
	MsgCopyBothResponse     = 'W'
	MsgDataRow              = 'D'
	MsgEmptyQueryResponse   = 'I'
	MsgErrorResponse        = 'E'
	MsgFunctionCallResponse = 'V'
	MsgNegotiateVersion     = 'v'
	MsgNoData               = 'n'
	MsgNoticeResponse       = 'N'
	MsgNotification         = 'A'
	MsgParameterDescription = 't'
	MsgParameterStatus      = 'S'
	MsgParseComplete        = '1'
	MsgPortalSuspended      = 's'
	MsgReadyForQuery        = 'Z'
	MsgRowDescription       = 'T'
)

// Transaction states as ReadyForQuery reports them.
const (
	TxIdle   = 'I'
	TxActive = 'T'
	TxFailed = 'E'
)

// HeaderBytes is the size of a message's type and length.
const HeaderBytes = msgHeaderBytes

// MaxStartupBytes bounds a startup packet (PostgreSQL's MAX_STARTUP_PACKET_LENGTH).
const MaxStartupBytes = 10000

// Frame is one whole message. Raw aliases the buffer it was read into and is
// valid until that buffer is filled again.
type Frame struct {
	Type byte
	Raw  []byte // with its header
}

// Body returns the message without type and length.
func (f Frame) Body() []byte { return f.Raw[HeaderBytes:] }

// FrameSize returns the whole size of the message that starts at b, header
// included. ok is false while fewer than HeaderBytes bytes are there. A length
// field below 4 gives size 0: the stream is broken.
func FrameSize(b []byte) (size int, ok bool) {
	if len(b) < HeaderBytes {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b[1:5])
	if n < 4 || n > 1<<31-2 {
		return 0, true
	}
	return int(n) + 1, true
}

// FrontendType reports whether t is a message that a client may send after login.
func FrontendType(t byte) bool { return frontendTypes[t] }

var frontendTypes = [256]bool{
	MsgBind: true, MsgClose: true, MsgDescribe: true, MsgExecute: true, MsgFunction: true, MsgFlush: true, MsgParse: true, MsgQuery: true,
	MsgSync: true, MsgTerminate: true, MsgCopyData: true, MsgCopyDone: true, MsgCopyFail: true,
}

// BackendType reports whether t is a message that a server may send after login.
func BackendType(t byte) bool {
	switch t {
	case MsgBindComplete, MsgCloseComplete, MsgCommandComplete, MsgCopyInResponse, MsgCopyOutResponse,
		MsgCopyBothResponse, MsgDataRow, MsgEmptyQueryResponse, MsgErrorResponse, MsgFunctionCallResponse,
		MsgNoData, MsgNoticeResponse, MsgNotification, MsgParameterDescription, MsgParameterStatus,
		MsgParseComplete, MsgPortalSuspended, MsgReadyForQuery, MsgRowDescription,
		MsgCopyData, MsgCopyDone, MsgBackendKeyData:
		return true
	}
	return false
}
