package resharder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// names are what a move's two streams leave at the servers.
type names struct {
	// forward is the publication and slot at the source and the origin at the target, back the other way round.
	forward, back string
}

// names derives them, so that whoever goes on finds what another has made. They are unique in a server that holds several databases.
func (m *mover) names(move int) names {
	base := fmt.Sprintf("pgtier_%s_%d_%d", m.mapID, m.job.Number, move)
	return names{base + "_f", base + "_b"}
}

// flow is the two streams of a move while they run.
type flow struct {
	forward, back *stream.Applier // forward never runs where its slot is lost
	cancel        context.CancelFunc
	running       sync.WaitGroup

	mu   sync.Mutex
	dead error // guarded by mu; why a stream cannot go on
	weak error // guarded by mu; why a stream does not go on at the moment
}

// startFlow carries both streams of a move on until stop, or only that of the way back.
func (m *mover) startFlow(ctx context.Context, move *Move, both bool) *flow {
	n := m.names(move.Number)
	source, target, layout := m.server(move.Source), m.server(move.Target), m.c.shardedLayout()
	f := &flow{
		forward: stream.NewApplier(stream.ApplyConfig{Source: source, Target: target, Slot: n.forward, Publication: n.forward, Origin: n.forward, Ignore: []string{n.back}, Layout: layout}),
		back:    stream.NewApplier(stream.ApplyConfig{Source: target, Target: source, Slot: n.back, Publication: n.back, Origin: n.back, Ignore: []string{n.forward}, Layout: layout}),
	}
	ctx, f.cancel = context.WithCancel(ctx)
	f.running.Go(func() { f.run(ctx, f.back) }) // ends with ctx, and stop waits
	if both {
		f.running.Go(func() { f.run(ctx, f.forward) }) // the same
	}
	return f
}

// run carries one stream on, as often as it breaks.
func (f *flow) run(ctx context.Context, a *stream.Applier) {
	pause := retryLeast
	for {
		began := time.Now()
		err := a.Run(ctx)
		if ended(ctx) {
			return
		}
		var lost *stream.Hopeless
		f.mu.Lock()
		f.weak = err
		if errors.As(err, &lost) || superseded(err) {
			f.dead = err
		}
		stop := f.dead != nil
		f.mu.Unlock()
		if stop {
			return
		}
		if time.Since(began) > retryMost {
			pause = retryLeast
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMost)
	}
}

// stop ends both streams.
func (f *flow) stop() {
	f.cancel()
	f.running.Wait()
}

// fault is why a stream cannot go on, nil while both can.
func (f *flow) fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// follow starts the streams of all moves whose rows are copied, and returns why one cannot go on.
func (m *mover) follow(ctx context.Context) error {
	switch m.job.Step {
	case StepJoin, StepFollow: // before, a new shard has no indexes to find rows by
	default:
		return nil
	}
	if p := m.progress(); m.job.Wish == WishFinish && (p.GroupsDone == m.job.groups() || p.GroupsDone > 0 && p.crippled() != "") { // what cannot go on, and a way back that is lost, are given up
		return nil
	}
	s := &standing{state: map[int]string{}, granted: map[int]bool{}}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if f := m.flows[move.Number]; f != nil {
			err := f.fault()
			if err == nil {
				continue
			}
			f.stop()
			m.setFlow(move.Number, nil)
			if !slotLost(err) { // of a slot that is lost, more is known below
				return fmt.Errorf("move %d from %s to %s: %w", move.Number, move.Source, move.Target, err)
			}
		}
		if err := m.readMoves(ctx, move.Target, s); err != nil {
			return err
		}
		if s.state[move.Number] != "stream" {
			continue
		}
		forth, err := m.alive(ctx, move.Source, m.names(move.Number).forward)
		if err != nil {
			return err
		}
		granted := grantedOf(move, s)
		if !forth && granted == 0 {
			return m.copyAnew(ctx, move, fmt.Errorf("slot %s of shard %s is lost: another server has become its manager, or it was dropped", m.names(move.Number).forward, move.Source))
		}
		why := ""
		if !forth {
			why = forthLost(move, granted)
		}
		m.cripple(move.Number, why)
		if err := m.wayBack(ctx, move, s); err != nil {
			return err
		}
		m.setFlow(move.Number, m.startFlow(ctx, move, forth))
	}
	return nil
}

// slotLost reports whether it is its slot that a stream cannot go on without.
func slotLost(err error) bool {
	var lost *stream.Hopeless
	return errors.As(err, &lost) && lost.Kind == stream.SlotLost
}

// broken is why the stream of a move cannot go on, nil while all can. It may be asked beside a step.
func (m *mover) broken() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		f := m.streams[move.Number]
		if f == nil {
			continue
		}
		err := f.fault()
		switch {
		case err == nil:
		case slotLost(err): // follow knows what becomes of the job
			return fmt.Errorf("a slot of the move from %s to %s is lost", move.Source, move.Target)
		default:
			return fmt.Errorf("move %d from %s to %s: %w", move.Number, move.Source, move.Target, err)
		}
	}
	return nil
}

// alive reports whether a slot is there and has its log.
func (m *mover) alive(ctx context.Context, name shard.Name, slot string) (bool, error) {
	there, err := m.links[name].value(ctx, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = "+literal(slot)+" AND wal_status IS DISTINCT FROM 'lost'")
	return there == "1", err
}

// forthLost says what is left of a move of which groups are cut over, and whose stream to the target is lost.
func forthLost(move *Move, granted int) string {
	others := ", so the others cannot be"
	if granted == len(move.Groups) {
		others = ""
	}
	return fmt.Sprintf("the stream from %s to %s is lost (another server has become %[1]s's manager, or it kept too much log), and %[3]d of %[4]d groups are cut over%[5]s: pgtier reshard finish keeps what is cut over and takes the rest back, pgtier reshard rollback compares and gives back what is cut over",
		move.Source, move.Target, granted, len(move.Groups), others)
}

// backLost says the same where it is the way back that is lost.
func backLost(move *Move, slot string) string {
	return fmt.Sprintf("the way back from %s to %s is lost: slot %s is gone, and clients have written at %[1]s since; nothing can be rolled back: pgtier reshard finish keeps what is cut over, and takes the rest back where there is some",
		move.Target, move.Source, slot)
}

// stopFlows ends all streams.
func (m *mover) stopFlows() {
	for number, f := range m.flows {
		f.stop()
		m.setFlow(number, nil)
	}
}

// setFlow keeps the streams of a move, nil for none.
func (m *mover) setFlow(move int, f *flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f == nil {
		delete(m.flows, move)
		delete(m.streams, move)
		return
	}
	m.flows[move], m.streams[move] = f, f
}

// wayBack makes what the stream from target to source needs, while no client has written to a bucket of the move at the target.
func (m *mover) wayBack(ctx context.Context, move *Move, s *standing) error {
	n := m.names(move.Number)
	there, err := m.alive(ctx, move.Target, n.back)
	if err != nil || there {
		return err
	}
	if grantedOf(move, s) > 0 {
		why := backLost(move, n.back)
		m.cripple(move.Number, why)
		return &fatal{errors.New(why)}
	}
	if err := m.drop(ctx, []shard.Name{move.Target}, dropped{move.Target, stream.Objects{Slot: n.back}}); err != nil { // one that has lost its log
		return err
	}
	tables, err := m.tables(ctx, move.Target)
	if err != nil {
		return err
	}
	if err := stream.CreatePublication(ctx, m.server(move.Target), stream.Publication{Name: n.back, Tables: tables, Spans: move.Spans()}); err != nil {
		return err
	}
	if err := stream.CreateOrigin(ctx, m.server(move.Source), n.back); err != nil {
		return err
	}
	if err := m.watched(func(ctx context.Context) error {
		slot, err := m.slot(ctx, move.Target, n.back)
		if err != nil {
			return err
		}
		slot.Close()
		return nil
	})(ctx); err != nil {
		return err
	}
	m.verified(nil) // where there has been one, another server has become the target's manager, and may lack what the last one had
	return m.at(ctx, "way back")
}

// slot makes a slot. It waits for all transactions that write, as long as ctx lets it, and status says for which.
func (m *mover) slot(ctx context.Context, name shard.Name, slot string) (*stream.Slot, error) {
	what := fmt.Sprintf("makes slot %s on shard %s", slot, name)
	m.doing("%s", what)
	waiting, stop := context.WithCancel(ctx)
	var saying sync.WaitGroup
	saying.Go(func() { m.sayHolders(waiting, name, what) }) // ends with waiting
	defer saying.Wait()
	defer stop()
	return stream.CreateSlot(ctx, m.server(name), slot)
}

// sayHolders says every second for whom a slot waits.
func (m *mover) sayHolders(ctx context.Context, name shard.Name, what string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pulse):
		}
		holders, err := stream.Holders(ctx, m.server(name))
		if err != nil || len(holders) == 0 {
			continue
		}
		who := make([]string, len(holders))
		for i, h := range holders {
			who[i] = h.String()
		}
		m.doing("%s, which waits for transactions that write, until they end: %s", what, strings.Join(who, "; "))
	}
}

// tables are the sharded tables as a shard describes them.
func (m *mover) tables(ctx context.Context, name shard.Name) ([]*stream.Table, error) {
	return stream.Describe(ctx, m.server(name), m.c.shardedLayout())
}
