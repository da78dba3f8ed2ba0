package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgtier/proxy/wire"
)

// advisoryKey is that of the advisory lock under which publications are changed: the bytes of "pgtfollo".
const advisoryKey = "8099570438153989231"

// ensurePublication makes the publication, empty, unless it is there.
func (a *asker) ensurePublication() error {
	there := false
	if err := a.run(publicationQuery, func(int, [][]byte) error { there = true; return nil }); err != nil {
		return fmt.Errorf("look for publication %s: %w", Publication, err)
	}
	if there {
		return nil
	}
	err := a.run("CREATE PUBLICATION "+Publication+" WITH ("+publishes+")", nil)
	switch sqlState(err) {
	case codeDuplicateObject: // another proxy was faster
		return nil
	case codeInsufficientRight:
		return &Unfit{Message: "the role may not create publication " + Publication, Cause: err,
			Hint: "let the database's owner run GRANT CREATE ON DATABASE, or a superuser CREATE PUBLICATION " + Publication + " FOR TABLE with the tables to be cached"}
	}
	if err != nil {
		return fmt.Errorf("create publication %s: %w", Publication, err)
	}
	return nil
}

// mendLock is how long a table's lock may be waited for before it is left for the next time. Writers are not held up by
// waiting for it, only what takes a stronger lock, and VACUUM.
const mendLock = "500ms"

// mend runs statements of a verdict over a connection of its own, each a transaction, so that locks of two tables are never
// held together. It returns those that failed as one error.
func (f *Follower) mend(ctx context.Context, statements []string) error {
	l, err := dialLink(ctx, f.dial, []wire.Param{{Name: "application_name", Value: applicationName}}, f.cfg.Silence)
	if err != nil {
		return err
	}
	defer l.close()
	defer context.AfterFunc(ctx, l.close)()
	mine := false
	err = l.run(setup+"; SET lock_timeout = '"+mendLock+"'; SELECT pg_try_advisory_lock("+advisoryKey+")", func(_ int, fields [][]byte) error {
		return row(fields, &mine)
	})
	if err != nil || !mine { // another proxy is at it, for the same end
		return err
	}
	var errs []error
	for _, statement := range statements {
		err := l.run(statement, nil)
		switch {
		case err == nil:
		case sqlState(err) == "": // the connection is lost
			return err
		case sqlState(err) != codeDuplicateObject && len(errs) < mendErrorsMost:
			errs = append(errs, fmt.Errorf("%s: %w", statement, err))
		}
	}
	return errors.Join(errs...)
}

// mendErrorsMost bounds what one round reports.
const mendErrorsMost = 3

// mendRest is the time after a round of mending that failed in which no other begins.
const mendRest = 5 * time.Second

// Drop removes the publication, unless some proxy follows with it; dropped tells which. Call it when following is given up
// for good, after Run has ended: a publication that nobody reads costs nothing but the rule that its tables need a replica
// identity.
func (f *Follower) Drop(ctx context.Context) (dropped bool, err error) {
	a, err := openAsker(ctx, f.dial, &f.cfg)
	if err != nil {
		return false, fmt.Errorf("log in: %w", err)
	}
	defer a.close()
	defer context.AfterFunc(ctx, a.close)()
	// Our own slot ends with its connection, but not in the same moment.
	for deadline := time.Now().Add(f.cfg.Silence); ; {
		used := ""
		err := a.run("SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE database = current_database() AND slot_name ~ '^"+SlotPrefix+"'",
			func(_ int, fields [][]byte) error { return row(fields, &used) })
		if err != nil {
			return false, fmt.Errorf("look for followers: %w", err)
		}
		if used == "" {
			break
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(firstPause):
		}
	}
	// A proxy that comes in between finds its tables unpublished at its next survey, tells its sink, and makes the
	// publication anew.
	if err := a.run("DROP PUBLICATION IF EXISTS "+Publication, nil); err != nil {
		return false, fmt.Errorf("drop publication %s: %w", Publication, err)
	}
	return true, nil
}
