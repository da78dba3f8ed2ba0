package pool

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// SQLSTATEs of the pool's own errors.
//
// A wait that took too long is 57P03, not 57014: 57014 tells the client that its statement was stopped, while here no
// server has seen it. Drivers and applications that retry 57P03 are right to do so. PgBouncer's 08P01 for
// query_wait_timeout would claim that somebody broke the protocol.
const (
	stateNoServer       = "57P03" // cannot_connect_now
	stateShutdown       = "57P01" // admin_shutdown
	stateNoDatabase     = "3D000" // invalid_catalog_name
	stateTooManyClients = "53300" // too_many_connections
)

// Error is a refusal by the pool, in words a client may see. Nothing was sent to a server when it is returned.
type Error struct {
	state   string
	message string
	detail  string
	hint    string
	cause   error
	away    bool
}

// Away reports whether the server is not there, or not in use any more: another one may serve.
func (e *Error) Away() bool { return e.away }

// Error is the primary message, without SQLSTATE, detail and cause.
func (e *Error) Error() string { return e.message }

// SQLState is the five-character code.
func (e *Error) SQLState() string { return e.state }

// Detail is the DETAIL field; "" when there is none.
func (e *Error) Detail() string { return e.detail }

// Hint is the HINT field; "" when there is none.
func (e *Error) Hint() string { return e.hint }

// Unwrap is the last error of the server's side, if one explains the refusal.
func (e *Error) Unwrap() error { return e.cause }

// SafeToRetry is true: no server has seen the statement.
func (e *Error) SafeToRetry() bool { return true }

func errShutdown() *Error {
	return &Error{state: stateShutdown, message: "the proxy is shutting down"}
}

func errRetired(key Key) *Error {
	return &Error{
		state:   stateNoServer,
		message: fmt.Sprintf("server %q of database %q is no longer in use", key.Server, key.Database),
		hint:    "The configuration has changed; try again.",
		away:    true,
	}
}

// errMoved ends waits for a server that is not the one to wait for any more.
func errMoved(key Key) *Error {
	return &Error{
		state:   stateNoServer,
		message: fmt.Sprintf("server %q of database %q is no longer its manager", key.Server, key.Database),
		hint:    "Try again.",
		away:    true,
	}
}

func errKilled(key Key) *Error {
	return &Error{state: stateShutdown, message: fmt.Sprintf("connections to database %q were ended by the administrator", key.Database)}
}

// errSaturated ends a wait with servers at hand but all of them taken.
func errSaturated(key Key, waited time.Duration, detail string, cause error) *Error {
	return &Error{
		state:   stateNoServer,
		message: fmt.Sprintf("no connection to server %q became free in %s", key.Server, waited.Round(100*time.Millisecond)),
		detail:  detail,
		hint:    "Raise pool.size, or shorten the transactions that hold the connections.",
		cause:   cause,
	}
}

// errDown ends a wait during which no server connection could be opened.
func errDown(key Key, cause error) *Error {
	return &Error{
		state:   stateNoServer,
		message: fmt.Sprintf("cannot connect to server %q of database %q", key.Server, key.Database),
		detail:  "The last attempt ended with: " + cause.Error(),
		hint:    "The proxy keeps trying; try again later.",
		cause:   cause,
		away:    true,
	}
}

// errRefused passes on that the server does not let this role or database in; waiting would not help.
func errRefused(key Key, state string, cause error) *Error {
	said := cause.Error()
	var server interface{ ServerMessage() string }
	if errors.As(cause, &server) {
		said = server.ServerMessage()
	}
	if state == stateNoDatabase {
		return &Error{state: state, message: said, cause: cause} // what tools look for
	}
	return &Error{
		state:   state,
		message: fmt.Sprintf("server %q refused the login of role %q to database %q", key.Server, key.Role, key.Database),
		detail:  said,
		hint:    "The proxy tries again after a pause.",
		cause:   cause,
	}
}

func errTooManyClients(of string, limit int) *Error {
	return &Error{
		state:   stateTooManyClients,
		message: "too many clients already",
		detail:  fmt.Sprintf("%s may have %d clients.", of, limit),
	}
}

// refusal returns the SQLSTATE when err says that the server understood the login and declined it: class 28 (role,
// password) and 3D000 (database). Full servers (53300) and starting ones (57P03) are not refusals: they pass.
func refusal(err error) (state string, refused bool) {
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return "", false
	}
	state = coded.SQLState()
	return state, strings.HasPrefix(state, "28") || strings.HasPrefix(state, "3D")
}

// errPaused ends a wait that PAUSE outlasted.
func errPaused(key Key) *Error {
	return &Error{state: stateNoServer, message: fmt.Sprintf("database %q is paused", key.Database), hint: "Try again later."}
}
