package stream

import (
	"errors"
	"fmt"
)

// Errors of Applier, wrapped.
var (
	// ErrBusy is of Run: another process applies to this origin or reads from this slot. Try again, or leave it to the other.
	ErrBusy = errors.New("another process carries this stream")
	// ErrDetached is of Await: the stream broke while a marker was awaited. Emit a fresh one.
	ErrDetached = errors.New("the stream has broken; emit a fresh marker")
)

// Hopeless is an error of Applier.Run that another Run will meet again: the move cannot go on.
type Hopeless struct {
	Kind  HopelessKind
	Table string // "" if none
	Cause error
}

// HopelessKind is why a stream cannot go on.
type HopelessKind string

// The kinds.
const (
	Truncated     HopelessKind = "truncated"      // TRUNCATE of a table that is moved
	SchemaChanged HopelessKind = "schema changed" // a table is not any more what it was
	RowMissing    HopelessKind = "row missing"    // an UPDATE or DELETE of a row that the target does not have
	RowRefused    HopelessKind = "row refused"    // the target does not take a row: a key that is there already, a constraint
	SlotLost      HopelessKind = "slot lost"      // the slot or the publication is gone, or the slot has lost its log
	Unsendable    HopelessKind = "unsendable"     // the source did not send a value that is needed
)

// Error says which table, and why.
func (e *Hopeless) Error() string {
	if e.Table == "" {
		return fmt.Sprintf("%s: %v", e.Kind, e.Cause)
	}
	return fmt.Sprintf("%s: table %s: %v", e.Kind, e.Table, e.Cause)
}

// Unwrap returns the cause.
func (e *Hopeless) Unwrap() error { return e.Cause }

// refusal sorts an error of a statement at the target. Classes are those of errcodes.txt.
func refusal(table string, err error) error {
	code := sqlState(err)
	if len(code) < 2 {
		return err
	}
	switch code[:2] {
	case "22", "23": // data exception, integrity constraint violation
		return &Hopeless{RowRefused, table, err}
	case "42": // undefined, or not allowed
		if code == codeInsufficientRight {
			return err
		}
		return &Hopeless{SchemaChanged, table, err}
	}
	return err
}

// streamRefusal sorts an error of the source's stream.
func streamRefusal(err error) error {
	switch sqlState(err) {
	case codeInUse:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case codeUndefinedObject, "55000": // object_not_in_prerequisite_state: the log is gone, or it is no logical slot
		return &Hopeless{Kind: SlotLost, Cause: err}
	}
	return err
}
