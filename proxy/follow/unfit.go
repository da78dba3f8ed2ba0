package follow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pgtier/proxy/wire"
)

// Unfit is why a manager cannot be followed as it is configured: somebody has to change something there.
type Unfit struct {
	Message string
	Hint    string // what to change
	Cause   error  // the server's own refusal; nil where we asked first
}

// Error is the message with its hint.
func (u *Unfit) Error() string {
	text := u.Message + "; " + u.Hint
	if u.Cause != nil {
		text += ": " + u.Cause.Error()
	}
	return text
}

// Unwrap is the server's refusal.
func (u *Unfit) Unwrap() error { return u.Cause }

// oldestVersion is the least server_version_num: xid8 and pg_current_snapshot came with PostgreSQL 13.
const oldestVersion = 130000

// SQLSTATEs that say what a refusal means (errcodes.txt).
const (
	codeInsufficientRight = "42501"
	codeDuplicateObject   = "42710"
	codeLimitExceeded     = "53400" // all replication slots are in use
	codeTooManyClients    = "53300" // also all walsenders
	codeNotInState        = "55000" // wal_level too low
)

// fitnessQuery asks for everything that stands in the way of a slot.
const fitnessQuery = "SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_setting('wal_level')," +
	" (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user), current_user," +
	" current_setting('max_replication_slots'), (SELECT count(*) FROM pg_replication_slots)," +
	" current_setting('max_wal_senders'), (SELECT count(*) FROM pg_stat_replication)"

// checkFitness returns an *Unfit if the server cannot be followed.
func (a *asker) checkFitness() error {
	var version, slots, slotsUsed, senders, sendersUsed uint64
	var recovering, mayReplicate bool
	var level, role string
	err := a.run(fitnessQuery, func(_ int, fields [][]byte) error {
		return row(fields, &version, &recovering, &level, &mayReplicate, &role, &slots, &slotsUsed, &senders, &sendersUsed)
	})
	switch {
	case err != nil:
		return fmt.Errorf("ask for the server's settings: %w", err)
	case version < oldestVersion:
		return &Unfit{Message: fmt.Sprintf("the server is PostgreSQL %d", version/10000), Hint: "following writes needs version 13 or newer"}
	case recovering:
		return &Unfit{Message: "the server is in recovery", Hint: "writes are followed on the manager; a standby does not decode its log before PostgreSQL 16"}
	case level != "logical":
		return &Unfit{Message: fmt.Sprintf("wal_level is %s, and writes are followed by logical decoding", level),
			Hint: "set wal_level = logical in postgresql.conf and restart the server"}
	case !mayReplicate:
		return &Unfit{Message: fmt.Sprintf("role %q may not replicate", role), Hint: "let a superuser run ALTER ROLE " + quote(role) + " REPLICATION"}
	case slotsUsed >= slots:
		return noSlot(fmt.Sprintf("all %d replication slots of the server are taken", slots), nil)
	case sendersUsed >= senders:
		return noSender(fmt.Sprintf("all %d walsenders of the server are taken", senders), nil)
	}
	return nil
}

func noSlot(message string, cause error) *Unfit {
	return &Unfit{Message: message, Cause: cause,
		Hint: "raise max_replication_slots and restart the server, or drop slots in pg_replication_slots that nobody needs"}
}

func noSender(message string, cause error) *Unfit {
	return &Unfit{Message: message, Cause: cause, Hint: "raise max_wal_senders and restart the server"}
}

// refused makes an *Unfit of a refusal that came although checkFitness found nothing, where it is one.
func refused(err error) error {
	switch sqlState(err) {
	case codeLimitExceeded:
		return noSlot("all replication slots of the server are taken", err)
	case codeTooManyClients:
		return noSender("the server takes no further walsender", err)
	case codeInsufficientRight:
		return &Unfit{Message: "the role may not replicate", Hint: "let a superuser run ALTER ROLE … REPLICATION", Cause: err}
	case codeNotInState:
		return &Unfit{Message: "the server does not decode its log", Hint: "set wal_level = logical and restart the server", Cause: err}
	}
	return err
}

// Check logs in to the manager and returns an *Unfit if it cannot be followed as it is configured, another error if it does
// not answer, and nil if it can be followed. It changes nothing there.
func Check(ctx context.Context, dial Dial, cfg Config) error {
	a, err := openAsker(ctx, dial, &cfg)
	if err != nil {
		return err
	}
	defer a.close()
	defer context.AfterFunc(ctx, a.close)()
	if err := a.checkFitness(); err != nil {
		return err
	}
	repl, err := dialLink(ctx, dial, replicationParams(), cfg.Silence)
	if err != nil {
		return refused(err)
	}
	repl.close()
	return nil
}

// openAsker logs in for questions.
func openAsker(ctx context.Context, dial Dial, cfg *Config) (*asker, error) {
	l, err := dialLink(ctx, dial, []wire.Param{{Name: "application_name", Value: applicationName}}, cfg.Silence)
	if err != nil {
		return nil, err
	}
	a := &asker{link: l}
	stop := context.AfterFunc(ctx, l.close)
	err = a.prepare()
	if !stop() || err != nil {
		l.close()
		return nil, errors.Join(context.Cause(ctx), err)
	}
	return a, nil
}

// applicationName is what our connections are called in pg_stat_activity and pg_stat_replication.
const applicationName = "pgtier cache"

// replicationParams make a connection one that streams the log of the database that it logs in to, whatever its role has
// configured: no time limit may end the creation of a slot, and values are written in one way.
func replicationParams() []wire.Param {
	return []wire.Param{{Name: "replication", Value: "database"}, {Name: "application_name", Value: applicationName},
		{Name: "lock_timeout", Value: "0"}, {Name: "statement_timeout", Value: "0"}, {Name: "search_path", Value: "pg_catalog"},
		{Name: "client_encoding", Value: "UTF8"}, {Name: "datestyle", Value: "ISO, YMD"}, {Name: "intervalstyle", Value: "postgres"},
		{Name: "timezone", Value: "UTC"}, {Name: "extra_float_digits", Value: "3"}, {Name: "bytea_output", Value: "hex"}}
}

// quote makes a name an identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
