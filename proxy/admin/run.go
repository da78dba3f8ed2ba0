package admin

import (
	"context"
	"fmt"
	"strconv"

	"pgtier/proxy/wire"
)

// ShutdownMode says what a SHUTDOWN waits for.
type ShutdownMode int

// The modes of SHUTDOWN.
const (
	ShutdownNow            ShutdownMode = iota
	ShutdownWaitForServers              // until transactions have ended; clients are told to go
	ShutdownWaitForClients              // until clients have left by themselves
)

// Actions is what can be done. database is a name that clients use, "" for all.
// Errors are told to the client.
type Actions struct {
	// Pause returns when no server connection is left, or ctx ends.
	Pause      func(ctx context.Context, database string) error
	Resume     func(database string) error
	Kill       func(database string) error
	KillClient func(id uint64) error
	Disable    func(database string) error
	Enable     func(database string) error
	Reconnect  func(database string) error
	// ResetCache gives up answers, and returns how many.
	ResetCache func(Answers) (int, error)
	// Reshard writes down what is wanted of a database's job that moves buckets.
	Reshard func(ctx context.Context, wish, database string) error
	// WaitClose returns when no server connection waits to be replaced, or ctx ends.
	WaitClose func(ctx context.Context, database string) error
	// Reload returns what changed.
	Reload   func() ([]string, error)
	Shutdown func(ShutdownMode) error
}

func pause(k *call) error     { return k.actions.Pause(k.ctx, k.arg) }
func resume(k *call) error    { return k.actions.Resume(k.arg) }
func kill(k *call) error      { return k.actions.Kill(k.arg) }
func disable(k *call) error   { return k.actions.Disable(k.arg) }
func enable(k *call) error    { return k.actions.Enable(k.arg) }
func reconnect(k *call) error { return k.actions.Reconnect(k.arg) }
func waitClose(k *call) error { return k.actions.WaitClose(k.ctx, k.arg) }

func killClient(k *call) error {
	id, err := strconv.ParseUint(k.arg, 10, 64)
	if err != nil {
		return wire.NewError(wire.CodeInvalidParameter, fmt.Sprintf("invalid client id %q", shorten(k.arg)), "SHOW CLIENTS has it in column id.")
	}
	return k.actions.KillClient(id)
}

// reload tells in notices what changed.
func reload(k *call) error {
	changes, err := k.actions.Reload()
	if err != nil {
		e := wire.NewError(codeConfigFile, "RELOAD failed, the old configuration stays in force", "")
		e.Detail = err.Error()
		return e
	}
	if len(changes) == 0 {
		k.notice("nothing changed")
	}
	for _, change := range changes {
		k.notice(change)
	}
	return nil
}

// codeConfigFile is PostgreSQL's config_file_error, which PgBouncer uses too.
const codeConfigFile = "F0000"

func shutdown(k *call) error {
	mode := ShutdownNow
	switch k.arg {
	case "WAIT_FOR_SERVERS":
		mode = ShutdownWaitForServers
	case "WAIT_FOR_CLIENTS":
		mode = ShutdownWaitForClients
	}
	return k.actions.Shutdown(mode)
}

func suspend(*call) error {
	return unsupported("SUSPEND", "PAUSE holds clients without closing them; a new process may share the port meanwhile.")
}

func unsupported(what, hint string) *wire.Error {
	return wire.NewError(wire.CodeFeatureNotSupported, what+" is not supported", hint)
}

// later is for commands of the contract that come with what they show.
func later(what string) func(*call) error {
	return func(*call) error {
		return wire.NewError(wire.CodeFeatureNotSupported, what+" is not served by this version", "SHOW HELP lists the commands.")
	}
}
