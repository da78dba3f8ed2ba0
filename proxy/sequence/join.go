package sequence

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// joinWait is how long a sequence that is in use is waited for: whoever wants a number meanwhile waits as long.
	joinWait = 100 * time.Millisecond
	// joinPause is the time from one attempt to the next, in which they go on.
	joinPause = 200 * time.Millisecond
)

// lockNotAvailable is the SQLSTATE of a lock that was not to be had in time.
const lockNotAvailable = "55P03"

// Join has the sequences of a shard that nobody writes to yet give other numbers than those of n's shards do, which are in use: where these do not step
// yet, because there was one shard only, they do from then on. It waits for moments in which nobody who has taken a number is inside a transaction, until ctx ends.
func (n *Numberer) Join(ctx context.Context, newcomer Querier, names []string) error {
	for _, name := range names {
		if err := n.join(ctx, newcomer, name); err != nil {
			return fmt.Errorf("sequence %s: %w", name, err)
		}
	}
	return nil
}

func (n *Numberer) join(ctx context.Context, newcomer Querier, name string) error {
	old, err := n.step(ctx, name)
	if err != nil {
		return err
	}
	fresh := &Numberer{Shards: []Querier{newcomer}, Names: []string{"that joins"}}
	found, err := fresh.Read(ctx, []string{name})
	if err != nil || Apart(append(old[:len(old):len(old)], found[name]...)) {
		return err
	}
	step := old[0].increment
	taken, start := map[int64]bool{}, int64(1)
	for i := range old {
		taken[(old[i].next()%step+step)%step] = true
		start = max(start, old[i].next(), found[name][0].next())
	}
	start = (start + step - 1) / step * step
	for place := int64(1); place <= step; place++ {
		if taken[place%step] {
			continue
		}
		return newcomer.Query(ctx, fmt.Sprintf("ALTER SEQUENCE %s INCREMENT BY %d NO CYCLE RESTART WITH %d", quoteName(name), step, start+place), func([][]byte) error { return nil })
	}
	return fmt.Errorf("%d shards are as many as a sequence of its type can number for; make it bigint", step)
}

// step has the shards' sequences step, if they do not, and returns how they stand.
func (n *Numberer) step(ctx context.Context, name string) ([]State, error) {
	for {
		found, err := n.Read(ctx, []string{name})
		if err != nil {
			return nil, err
		}
		if step := strideOf(found[name]); Apart(found[name]) && (len(found[name]) > 1 || found[name][0].increment == step) {
			return found[name], nil
		}
		err = n.each(ctx, func(int) string { return fmt.Sprintf("SET lock_timeout = %d", joinWait.Milliseconds()) })
		if err == nil {
			err = n.all(ctx, name)
		}
		var refused interface{ SQLState() string }
		switch {
		case err == nil:
			continue // and look
		case !errors.As(err, &refused) || refused.SQLState() != lockNotAvailable:
			return nil, err
		}
		if err := n.each(ctx, func(int) string { return "ROLLBACK" }); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("transactions that have taken numbers of it do not end: %w", err)
		case <-time.After(joinPause):
		}
	}
}
