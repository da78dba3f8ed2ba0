package wire

import (
	"bytes"

	"github.com/jackc/pgproto3/v2"
)

// SQLSTATEs that pgtier itself raises.
const (
	CodeProtocolViolation   = "08P01"
	CodeConnectionFailure   = "08006"
	CodeConnectionRefused   = "08001"
	CodeFeatureNotSupported = "0A000"
	CodeInvalidParameter    = "22023"
	CodeActiveTransaction   = "25001"
	CodeIdleInTransaction   = "25P03"
	CodeInvalidAuth         = "28000"
	CodeInvalidPassword     = "28P01"
	CodeInvalidStatement    = "26000"
	CodeSyntaxError         = "42601"
	CodeInvalidDatabase     = "3D000"
	CodeTooManyConnections  = "53300"
	CodeOutOfMemory         = "53200"
	CodeLimitExceeded       = "54000"
	CodeNotInState          = "55000"
	CodeQueryCanceled       = "57014"
	CodeAdminShutdown       = "57P01"
	CodeCrashShutdown       = "57P02"
	CodeCannotConnectNow    = "57P03"
	CodeIdleSession         = "57P05"
	CodeInternal            = "XX000"
)

// Error is what a client is told, in PostgreSQL's fields. The zero Severity is
// ERROR. It implements error for use inside the proxy; Cause is for the log only.
type Error struct {
	Severity string // ERROR, FATAL or a notice level
	Code     string
	Message  string
	Detail   string
	Hint     string
	Cause    error
	// Sent is the body of the ErrorResponse as a server sent it, with all its fields: Append then repeats that, whatever the others
	// say. nil for errors of our own.
	Sent []byte
}

// WithoutPosition is the error without the place in a text that the client does not know.
func (e *Error) WithoutPosition() *Error {
	out := *e
	if e.Sent == nil {
		return &out
	}
	out.Sent = nil
	ErrorFields(e.Sent, func(field byte, v string) {
		if field != 'P' {
			out.Sent = AppendString(append(out.Sent, field), v)
		}
	})
	out.Sent = append(out.Sent, 0)
	return &out
}

// Fatal returns an error that ends the session.
func Fatal(code, message string) *Error {
	return &Error{Severity: "FATAL", Code: code, Message: message}
}

// NewError returns a plain ERROR; hint may be empty.
func NewError(code, message, hint string) *Error {
	return &Error{Severity: "ERROR", Code: code, Message: message, Hint: hint}
}

// Error returns the message, followed by the cause if there is one.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// SQLState returns the five-character code.
func (e *Error) SQLState() string { return e.Code }

// Append adds the ErrorResponse to dst.
func (e *Error) Append(dst []byte) []byte {
	if e.Sent != nil {
		dst, at := Begin(dst, MsgErrorResponse)
		return End(append(dst, e.Sent...), at)
	}
	sev := e.Severity
	if sev == "" {
		sev = "ERROR"
	}
	m := pgproto3.ErrorResponse{Severity: sev, SeverityUnlocalized: sev, Code: e.Code,
		Message: e.Message, Detail: e.Detail, Hint: e.Hint}
	return encode(&m, dst)
}

// AppendNotice adds a NoticeResponse of the severity to dst.
func (e *Error) AppendNotice(dst []byte) []byte {
	m := pgproto3.NoticeResponse{Severity: e.Severity, SeverityUnlocalized: e.Severity, Code: e.Code,
		Message: e.Message, Detail: e.Detail, Hint: e.Hint}
	return encode(&m, dst)
}

// ErrorFields reads the fields of an ErrorResponse or NoticeResponse body by
// their one-letter codes. Malformed input ends the walk early; it never fails.
func ErrorFields(body []byte, visit func(field byte, value string)) {
	for len(body) > 1 && body[0] != 0 {
		field := body[0]
		end := indexZero(body[1:])
		if end < 0 {
			return
		}
		visit(field, string(body[1:1+end]))
		body = body[2+end:]
	}
}

// ParseError reads an ErrorResponse body.
func ParseError(body []byte) *Error {
	e := &Error{}
	ErrorFields(body, func(field byte, v string) {
		switch field {
		case 'S':
			e.Severity = v
		case 'V':
			e.Severity = v
		case 'C':
			e.Code = v
		case 'M':
			e.Message = v
		case 'D':
			e.Detail = v
		case 'H':
			e.Hint = v
		}
	})
	return e
}

func indexZero(b []byte) int { return bytes.IndexByte(b, 0) }
