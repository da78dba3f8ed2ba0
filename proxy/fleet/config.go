package fleet

import (
	"errors"
	"fmt"
	"time"

	"pgtier/router/balance"
)

// Config says how closely a shard is watched. It is a plain value; DefaultConfig has the defaults and their reasons.
type Config struct {
	// MaxLag is the lag from which a replica is shown as lagging; 0 is never.
	MaxLag time.Duration
	// Slow is the time between two questions to a server about which nobody asks, up to a tenth more or less.
	Slow time.Duration
	// Quick is the shortest time between two questions to a replica while somebody waits for its position.
	Quick time.Duration
	// Sample is the shortest time between two questions to the manager while tickets are outstanding.
	Sample time.Duration
	// Hunt is the time between two questions to each server while there is no manager.
	Hunt time.Duration
	// Silence is how long an answer or a login may take before the server counts as silent.
	Silence time.Duration
	// RetryMost is the longest pause between two attempts to connect; pauses double up to it.
	RetryMost time.Duration
	// SlowStart is the time in which a replica that came back reaches its full share; 0 gives it at once.
	SlowStart time.Duration
	// Ejection rests replicas that sessions keep losing, for EjectFor; its counters begin anew every EjectWindow.
	Ejection              balance.Ejection
	EjectFor, EjectWindow time.Duration
	// FailoverWait is how long a statement may wait for a manager. The fleet does not use it; who waits bounds its context.
	FailoverWait time.Duration
	// Promote lets pgtier itself promote a replica once there has been no manager for PromoteAfter. See DESIGN.md first.
	Promote      bool
	PromoteAfter time.Duration
}

// DefaultConfig is what holds where the configuration says nothing.
func DefaultConfig() Config {
	return Config{
		MaxLag: 10 * time.Second,
		// One question a second and server costs it about 0.02 % of a core, and is the error of lag while nobody asks.
		Slow: time.Second,
		// Streaming and replay take 1 to 3 ms on a local network, so asking more often would mostly hear the same.
		Quick: 5 * time.Millisecond,
		// A session that has written reads from the manager until a sample covers it: 3 ms and a round trip.
		Sample: 3 * time.Millisecond,
		// The part of a failover that is ours to shorten; a promotion itself takes 100 ms and more.
		Hunt: 50 * time.Millisecond,
		// Longer than a checkpoint's stall or a full garbage collection here, shorter than clients' patience.
		Silence:   2 * time.Second,
		RetryMost: time.Second,
		// Caches of some GiB are read from disk in about this time.
		SlowStart: 10 * time.Second,
		Ejection:  balance.DefaultEjection(),
		// Envoy's base ejection time is 30 s, for fleets with more to spare; the window is its interval.
		EjectFor: 10 * time.Second, EjectWindow: 10 * time.Second,
		FailoverWait: 30 * time.Second,
		// Patroni's default lease (ttl) is 30 s: whoever has Patroni, or a person watching, comes first.
		PromoteAfter: 30 * time.Second,
	}
}

// Validate returns everything that is wrong as one joined error, or nil. Each part begins with the key.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		key   string
		value time.Duration
		least time.Duration
	}{
		{"max_lag", c.MaxLag, 0}, {"slow_start", c.SlowStart, 0}, {"wait", c.FailoverWait, 0}, {"promote_after", c.PromoteAfter, 0},
		{"eject_for", c.EjectFor, 0}, {"eject_window", c.EjectWindow, time.Millisecond},
		// Shorter pauses than a round trip would only burn processor time.
		{"poll", c.Slow, time.Millisecond}, {"poll_quick", c.Quick, time.Millisecond}, {"sample", c.Sample, time.Millisecond},
		{"poll_lost", c.Hunt, time.Millisecond}, {"silence", c.Silence, 10 * time.Millisecond}, {"retry", c.RetryMost, time.Millisecond},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: %s is too short; use %s or more", d.key, d.value, d.least))
		}
	}
	return errors.Join(errs...)
}
