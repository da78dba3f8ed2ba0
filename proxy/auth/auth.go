// Package auth answers who a client is and how the proxy proves itself to a
// server: secrets, SCRAM on both sides, md5, client certificates, host based
// rules, and the list of known users. It does no network I/O and reads files
// only while a configuration is loaded; the session and the backend carry its
// messages. Every value is immutable once built unless its comment says
// otherwise, so one Authenticator serves all sessions.
package auth

import (
	"errors"
	"fmt"
)

// SQLSTATEs that a failed login ends in (PostgreSQL, errcodes.txt).
const (
	codeInvalidAuthorization = "28000"
	codeInvalidPassword      = "28P01"
	codeProtocolViolation    = "08P01"
	codeNotSupported         = "0A000"
)

// ErrWrongPassword says that a proof or password did not match. It is the same
// error for an unknown user, a user without a password and a wrong password.
// The session answers it with PasswordFailed.
var ErrWrongPassword = errors.New("wrong password")

// Error is a refusal in the words of PostgreSQL, fit to be sent to the client.
// No field ever holds a secret.
type Error struct {
	Code    string // SQLSTATE
	Message string
	Detail  string // may be empty
	Hint    string // may be empty
}

// Error returns message and detail in one line.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Message
	}
	return e.Message + ": " + e.Detail
}

// SQLState returns the five letter code.
func (e *Error) SQLState() string { return e.Code }

// PasswordFailed is the one answer to every failed password, md5 or SCRAM
// login of user, whether the user exists or not.
func PasswordFailed(user string) *Error {
	return &Error{Code: codeInvalidPassword, Message: fmt.Sprintf(`password authentication failed for user "%s"`, user)}
}

// malformed is a SCRAM message that breaks the grammar.
func malformed(format string, args ...any) *Error {
	return &Error{Code: codeProtocolViolation, Message: "malformed SCRAM message", Detail: fmt.Sprintf(format, args...)}
}
