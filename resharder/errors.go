package resharder

import (
	"context"
	"errors"
	"strings"

	"pgtier/resharder/stream"
)

// fatal is an error that people have to do something about: the job stops with it.
type fatal struct{ cause error }

// Error is the cause's text.
func (f *fatal) Error() string { return f.cause.Error() }

// Unwrap returns the cause.
func (f *fatal) Unwrap() error { return f.cause }

// miss is an attempt that ended before its grant, and is tried again.
type miss struct{ cause error }

// Error is the cause's text.
func (m *miss) Error() string { return m.cause.Error() }

// Unwrap returns the cause.
func (m *miss) Unwrap() error { return m.cause }

// hopeless reports whether trying again would not help.
func hopeless(err error) bool {
	var stopped *fatal
	var stream1 *stream.Hopeless
	var refused *stream.Refused
	if errors.As(err, &stopped) || errors.As(err, &stream1) || errors.As(err, &refused) {
		return true
	}
	// What the server says of our statements or of the data; not of its own state, of locks, conflicts and limits.
	switch code := sqlState(err); {
	case code == "":
		return false
	case code == codeOtherState, code == codeSuperseded: // looked into anew
		return false
	case strings.HasPrefix(code, "42"), strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"), strings.HasPrefix(code, "0A"), strings.HasPrefix(code, "28"):
		return true
	}
	return false
}

// superseded reports whether another mover has taken over.
func superseded(err error) bool {
	return errors.Is(err, errSuperseded) || sqlState(err) == codeSuperseded
}

// ended reports whether a context's end is why.
func ended(ctx context.Context) bool { return ctx.Err() != nil }
