package follow

import (
	"errors"
	"fmt"
	"time"
)

// Config says how closely a manager is followed, and how much may be spent on it. It is a plain value; DefaultConfig has
// the defaults and their reasons.
type Config struct {
	// Ask is the time between two proofs of freshness while somebody reads Fresh.
	Ask time.Duration
	// Idle is the same while nobody does.
	Idle time.Duration
	// Settle is the shortest time between two questions whether commits are visible.
	Settle time.Duration
	// Nudge is how long a position may stay unflushed before the manager is made to flush its log; 0 is never.
	Nudge time.Duration
	// Survey is the time between two looks at the tables, the publication and the log that the slot retains.
	Survey time.Duration
	// Silence is how long an answer or a login may take before the manager counts as lost.
	Silence time.Duration
	// Stall is how long the stream may be silent while the manager answers.
	Stall time.Duration
	// RetryMost is the longest pause between two attempts; pauses double up to it.
	RetryMost time.Duration
	// UnfitRest is the pause after an attempt that showed an *Unfit server.
	UnfitRest time.Duration
	// MaxRows and MaxBytes bound what is kept of one transaction's rows, MaxBytes also one row; beyond them a Commit is Whole.
	MaxRows, MaxBytes int
	// MaxWaiting bounds the bytes of rows of all commits that are not visible yet; beyond it new Commits are Whole.
	MaxWaiting int
	// MaxRetained bounds the write-ahead log that the slot retains on the manager, in bytes: beyond it the slot is dropped,
	// and what is cached with it. 0 is no bound.
	MaxRetained int64
}

// DefaultConfig is what holds where the configuration says nothing.
func DefaultConfig() Config {
	return Config{
		// A question and a keepalive cost the manager some 20 µs: 0.1 % of a core at this pace. What is proved fresh is at
		// most two of these old.
		Ask:  20 * time.Millisecond,
		Idle: time.Second,
		// A commit is visible some ten µs after it is flushed, so the first question nearly always settles it. Under load
		// one question serves all commits of this time.
		Settle: time.Millisecond,
		// Longer than any flush under way, and than the log writer's cycle for pages that are full (wal_writer_delay is 200 ms, but
		// then others commit).
		Nudge: 100 * time.Millisecond,
		// The list of tables costs some ms for a thousand of them.
		Survey: 2 * time.Second,
		// As in package fleet: longer than a checkpoint's stall, shorter than clients' patience.
		Silence: 2 * time.Second,
		// Nothing is answered over the stream while a large transaction of other tables is decoded, until half of
		// wal_sender_timeout (60 s) has gone by. Fresh stands still meanwhile, so waiting is safe.
		Stall:     45 * time.Second,
		RetryMost: time.Second,
		UnfitRest: 10 * time.Second,
		// Dropping what belongs to a table costs a cache less than looking for a thousand keys.
		MaxRows: 1000, MaxBytes: 1 << 20,
		// Thirty-two of the largest: those who wait for a standby are at most as many as connections.
		MaxWaiting: 32 << 20,
		// A quarter of an hour of a busy server (4 MB/s), and small beside the disks of such. An open transaction retains
		// the log as well, from its beginning on.
		MaxRetained: 4 << 30,
	}
}

// Validate returns everything that is wrong as one joined error, or nil. Each part begins with the key.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		key          string
		value, least time.Duration
	}{
		{"nudge", c.Nudge, 0},
		// Shorter pauses than a round trip would only burn processor time.
		{"ask", c.Ask, time.Millisecond}, {"idle", c.Idle, c.Ask}, {"settle", c.Settle, 100 * time.Microsecond},
		{"survey", c.Survey, 10 * time.Millisecond}, {"silence", c.Silence, 10 * time.Millisecond},
		// The stream speaks as often as it is asked to.
		{"stall", c.Stall, 2 * c.Idle},
		{"retry", c.RetryMost, time.Millisecond}, {"unfit_rest", c.UnfitRest, time.Millisecond},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: %s is too short; use %s or more", d.key, d.value, d.least))
		}
	}
	for _, n := range []struct {
		key          string
		value, least int64
	}{
		{"max_rows", int64(c.MaxRows), 0}, {"max_bytes", int64(c.MaxBytes), 0}, {"max_waiting", int64(c.MaxWaiting), 0},
	} {
		if n.value < n.least {
			errs = append(errs, fmt.Errorf("%s: %d is too small; use %d or more", n.key, n.value, n.least))
		}
	}
	// A segment is retained in any case, and a checkpoint apart another.
	if c.MaxRetained != 0 && c.MaxRetained < 64<<20 {
		errs = append(errs, fmt.Errorf("max_retained: %d bytes is too small; use %d or more, or 0 for no bound", c.MaxRetained, 64<<20))
	}
	return errors.Join(errs...)
}
