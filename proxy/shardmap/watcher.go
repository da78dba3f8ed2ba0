package shardmap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/router/shard"
)

const (
	// DefaultInterval is how often the control database is asked. A question is one row by its primary key.
	DefaultInterval = time.Second
	// DefaultNear is how often while the motion says near: a third of what a cut takes.
	DefaultNear = 5 * time.Millisecond
	// retryMost bounds the pause after a question that ended in an error, which doubles: a fraction of the lease.
	retryMost = 2 * time.Second
	// prepareLimit bounds how long shards that do not answer hold up a round.
	prepareLimit = 3 * time.Second
)

// State is what is known of one database's map. It is immutable; a new one is published when something but the time of the last answer changes.
type State struct {
	// Map is the map in force, nil while none is.
	Map *shard.Map
	// Members are the shards that statements may go to, in an order that all proxies have; none without a Map. Where the map's version names none they
	// are the owners and home.
	Members []shard.Name
	// Motion is what moves of buckets ask now.
	Motion Motion
	// Seal proves decisions to the shards.
	Seal Seal
	// Refusal says why nothing can be sent to the shards: no map has been read yet, or what was read does not fit the configuration. nil where Map
	// holds. Its text names what to change.
	Refusal error
	// Unprepared are the shards that could not be asked yet whether they belong to the map, and why; they are asked again each interval. Nothing
	// should be sent there: the server may be another shard, or lack what decides transactions.
	Unprepared map[shard.Name]error

	replaced chan struct{} // closed when another is in force
}

// Replaced is closed once another State is in force.
func (s *State) Replaced() <-chan struct{} { return s.replaced }

// errNotRead is the Refusal before the first answer.
var errNotRead = errors.New("the map of buckets to shards has not been read yet")

// ErrMoved is the error of Mover.Change where another change came first.
var ErrMoved = errors.New("the map has moved on meanwhile")

// Watcher keeps one database's State current. All methods are safe for concurrent use.
type Watcher struct {
	// Underway tells the shards to which something is under way that may have been planned by a motion before that of the number: the server's answer to it has
	// not come. ok is false where it may be any. nil: nothing ever is. Set it before Run.
	Underway func(number int64) (names []shard.Name, ok bool)
	// Begins is told before groups of buckets begin to move, or others than before, by the State that comes. nil: nobody has to know. Set it before Run.
	Begins func()

	// fixed after New
	interval time.Duration
	log      *zap.Logger
	now      func() time.Time
	wake     chan struct{}
	instance string // tells this watcher from others of the same name

	setup  atomic.Pointer[setup]
	state  atomic.Pointer[State]
	answer atomic.Pointer[time.Time] // when the control database answered last; nil never
	heard  atomic.Pointer[time.Time] // when it was asked what it answered last: the lease begins here; nil never

	managers managers     // what shards themselves say
	bonds    sync.Map     // shard.Name → *Bond
	proxies  atomic.Int64 // see Proxies
	number   atomic.Int64 // see Number
	settling atomic.Int64 // the pause to the next look at what is under way, nanoseconds; 0: nothing is that was planned before

	mu       sync.Mutex          // held while the control database and shards are asked
	asked    *setup              // guarded by mu; the setup that prepared, declared and whole hold for
	prepared map[shard.Name]bool // guarded by mu
	declared bool                // guarded by mu
	whole    bool                // guarded by mu; the control database has all objects
	said     word                // guarded by mu; what the control database knows of this proxy
	id       string              // guarded by mu; of the maps that were in force, "" before the first
	newest   shard.Version       // guarded by mu; of those
	last     int64               // guarded by mu; the number of the last motion

	waiting sync.Mutex
	settled chan struct{} // guarded by waiting; closed and replaced after each round
}

// setup is what can be changed by Configure.
type setup struct {
	config  Config
	control Querier
	shards  map[shard.Name]Querier
}

// New makes a watcher that asks every interval (DefaultInterval) once it runs. shards has a Querier to the manager of every shard that config names;
// control may be one of them.
func New(config Config, control Querier, shards map[shard.Name]Querier, interval time.Duration, log *zap.Logger) *Watcher {
	w := &Watcher{interval: interval, log: log, now: time.Now, wake: make(chan struct{}, 1), instance: rand.Text()[:8], settled: make(chan struct{})}
	w.setup.Store(&setup{config, control, maps.Clone(shards)})
	w.state.Store(&State{Refusal: errNotRead, replaced: make(chan struct{})})
	return w
}

// Configure puts another configuration in force, with the next answer.
func (w *Watcher) Configure(config Config, control Querier, shards map[shard.Name]Querier) {
	w.setup.Store(&setup{config, control, maps.Clone(shards)})
	w.Touch()
}

// Touch has the control database asked at once. It does not block.
func (w *Watcher) Touch() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// State returns the one in force. It is never nil.
func (w *Watcher) State() *State { return w.state.Load() }

// Number is that of the motion in force, or of an older one: a State of a motion before it has been Replaced by then.
func (w *Watcher) Number() int64 { return w.number.Load() }

// Age is how long ago the control database answered: what State says held then. It is negative if it never has.
func (w *Watcher) Age() time.Duration {
	at := w.answer.Load()
	if at == nil {
		return -1
	}
	return w.now().Sub(*at)
}

// pause is the time to the next question.
func (w *Watcher) pause() time.Duration {
	if w.State().Motion.Near {
		return min(DefaultNear, w.interval)
	}
	if rest := time.Duration(w.settling.Load()); rest > 0 {
		return min(rest, w.calm())
	}
	return w.calm()
}

// calm is the time between questions while nothing is near: a fraction of the lease at most.
func (w *Watcher) calm() time.Duration { return min(w.interval, w.setup.Load().config.lease()/5) }

// Run asks at once, then every interval, every DefaultNear where the motion says near, and after Touch, until ctx ends. Call it once.
func (w *Watcher) Run(ctx context.Context) {
	var asking sync.WaitGroup
	asking.Go(func() { w.askManagers(ctx) }) // ends with ctx, and Run waits
	defer asking.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry, failed := w.calm(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.wake:
		}
		err := w.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failed {
				w.log.Warn("the map of buckets to shards is not read, the last known one stays in force", zap.Error(err), zap.Duration("age", w.Age()))
			}
			failed = true
			timer.Reset(retry)
			retry = min(2*retry, max(retryMost, w.interval), w.setup.Load().config.lease()/5)
			continue
		case failed:
			w.log.Info("the map of buckets to shards is read again")
		}
		retry, failed = w.calm(), false
		timer.Reset(w.pause())
	}
}

// Wait returns the State once it has a map or a Refusal that only people can mend, or ctx's error.
func (w *Watcher) Wait(ctx context.Context) (*State, error) {
	for {
		w.waiting.Lock()
		settled := w.settled
		w.waiting.Unlock()
		if s := w.State(); s.Refusal == nil || !errors.Is(s.Refusal, errNotRead) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-settled:
		}
	}
}

// Refresh asks now, and returns when the answer is in force. The error is that of a control database that did not answer; what it answered, fitting or
// not, is in the State.
func (w *Watcher) Refresh(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.setup.Load()
	if w.asked != s {
		if w.asked == nil || w.asked.config.Database != s.config.Database {
			w.id, w.newest, w.last = "", 0, 0
		}
		w.asked, w.prepared, w.declared, w.whole = s, map[shard.Name]bool{}, false, false
	}
	began := w.now()
	next, err := w.ask(ctx, s)
	switch {
	case err == nil:
		now := w.now()
		w.answer.Store(&now)
		w.publish(next)
		w.heard.Store(&began) // it acts by what was true then or later
		for _, name := range s.config.Shards {
			w.Bond(name).prove(began) // behind the publication: who plans by another State has it replaced
		}
		if next.Map != nil || next.Motion.Number > 0 {
			err = w.say(ctx, s, next)
		}
	case errors.Is(w.State().Refusal, errNotRead):
		w.publish(refuse(fmt.Errorf("%w: %w", errNotRead, err)))
	}
	w.waiting.Lock()
	defer w.waiting.Unlock()
	close(w.settled)
	w.settled = make(chan struct{})
	return err
}

// publish puts a state in force, unless it says what the last one said.
func (w *Watcher) publish(next *State) {
	old := w.state.Load()
	if old.Map == next.Map && slices.Equal(old.Members, next.Members) && old.Motion.equal(&next.Motion) && old.Seal == next.Seal && text(old.Refusal) == text(next.Refusal) && maps.EqualFunc(old.Unprepared, next.Unprepared, func(a, b error) bool { return text(a) == text(b) }) {
		return
	}
	next.replaced = make(chan struct{})
	if w.Begins != nil && len(next.Motion.Groups) > 0 && !slices.EqualFunc(next.Motion.Groups, old.Motion.Groups, Group.equal) {
		w.Begins()
	}
	w.state.Store(next)
	close(old.replaced)
	w.number.Store(next.Motion.Number) // who reads it finds the last one replaced
	switch {
	case next.Refusal != nil && !errors.Is(next.Refusal, errNotRead) && text(next.Refusal) != text(old.Refusal):
		w.log.Error("nothing can be sent to the shards", zap.Error(next.Refusal))
	case next.Map != nil && next.Map != old.Map:
		w.log.Info("map of buckets to shards", zap.Uint64("version", uint64(next.Map.Version())), zap.Int("shards", len(next.Map.Shards())), zap.Any("members", next.Members))
	}
	if !next.Motion.equal(&old.Motion) {
		w.log.Info("motion of buckets", zap.Int64("number", next.Motion.Number), zap.String("moving", shard.SpansText(next.Motion.Moving)), zap.String("held", shard.SpansText(next.Motion.Held)),
			zap.Bool("held_references", next.Motion.HeldReferences), zap.Bool("frozen", next.Motion.Frozen), zap.Bool("near", next.Motion.Near))
	}
	for _, name := range slices.Sorted(maps.Keys(next.Unprepared)) {
		if _, known := old.Unprepared[name]; !known {
			w.log.Warn("a shard could not be prepared yet", zap.String("shard", string(name)), zap.Error(next.Unprepared[name]))
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// ask reads the record and makes a state of it. The error is that of a control database which does not answer.
func (w *Watcher) ask(ctx context.Context, s *setup) (*State, error) {
	old := w.state.Load()
	known := shard.Version(0)
	if old.Map != nil {
		known = old.Map.Version()
	}
	if err := w.complete(ctx, s); err != nil {
		if missing := (*Missing)(nil); errors.As(err, &missing) {
			return refuse(missing), nil
		}
		return nil, err
	}
	if err := w.remind(ctx, s); err != nil {
		return nil, err
	}
	r, err := read(ctx, s.control, s.config.Database, known)
	if err == nil && r == nil {
		if w.id != "" {
			return refuse(fmt.Errorf("the map of database %s is gone from the control database; put it back from a backup, or look at the key control", s.config.Database)), nil
		}
		var refusal error
		if refusal, err = w.first(ctx, s); refusal != nil {
			return refuse(refusal), nil
		}
		if err == nil {
			r, err = read(ctx, s.control, s.config.Database, 0)
		}
	}
	if err == nil && r != nil && w.said.setup != s { // the map has come between: nothing is acted by that was read before this proxy was known
		if err = w.register(ctx, s, w.State()); err == nil {
			r, err = read(ctx, s.control, s.config.Database, known)
		}
	}
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errors.New("the first map is not there")
	}
	return w.judge(ctx, s, r, old)
}

// complete has a control database whose objects are an earlier version's made whole. It makes none where there are none.
func (w *Watcher) complete(ctx context.Context, s *setup) error {
	if w.whole {
		return nil
	}
	there, err := isTrue(ctx, s.control, controlThere)
	if err == nil && there {
		if err = ensure(ctx, s.control, "the control database", controlWhole, ControlSQL); err == nil {
			w.whole = true
		}
	}
	return err
}

// first makes the objects of the control database and the first map. A refusal is an error that only people can mend.
func (w *Watcher) first(ctx context.Context, s *setup) (refusal, err error) {
	// Rows may be placed already, by a map that is kept elsewhere: a shard that is marked tells. So all of them are asked first.
	for _, name := range s.config.Shards {
		found, err := readMark(ctx, s.shards[name])
		if err != nil {
			return nil, fmt.Errorf("shard %s, which has to be asked before the first map is made: %w", name, err)
		}
		if found != nil {
			return homeless(&s.config, name, found), nil
		}
	}
	err = ensure(ctx, s.control, "the control database", controlWhole, ControlSQL)
	if missing := (*Missing)(nil); errors.As(err, &missing) {
		return missing, nil
	}
	if err == nil {
		err = create(ctx, s.control, &s.config)
	}
	return nil, err
}

func refuse(why error) *State { return &State{Refusal: why} }

// judge makes a state of a record that was read. One that refuses has the motion all the same: who sends nothing need not be waited for.
func (w *Watcher) judge(ctx context.Context, s *setup, r *record, old *State) (*State, error) {
	next, err := w.weigh(ctx, s, r, old)
	if err == nil && next.Refusal != nil {
		next.Motion = r.motion
	}
	return next, err
}

// weigh is judge but for that.
func (w *Watcher) weigh(ctx context.Context, s *setup, r *record, old *State) (*State, error) {
	if err := r.agree(&s.config); err != nil {
		return refuse(err), nil
	}
	if w.id != "" && w.id != r.id {
		return refuse(fmt.Errorf("the map of database %s was made anew: rows that are there would be looked for on other shards; restart once you have looked into it", s.config.Database)), nil
	}
	if w.id != "" && r.version < w.newest {
		return refuse(fmt.Errorf("the map of database %s went back from version %d to %d, as if the control database came from a backup; rows of buckets that moved would be looked for where they were",
			s.config.Database, w.newest, r.version)), nil
	}
	if w.id != "" && r.motion.Number < w.last {
		return refuse(fmt.Errorf("the motion of buckets of database %s went back from number %d to %d, as if the control database came from a backup; restart once you have looked into it",
			s.config.Database, w.last, r.motion.Number)), nil
	}
	next := &State{Map: old.Map, Motion: r.motion, Seal: Seal{r.secret}, Unprepared: map[shard.Name]error{}}
	if old.Map == nil || r.version != old.Map.Version() || r.owners != "" {
		m, err := r.parse(&s.config)
		if err != nil {
			return refuse(err), nil
		}
		next.Map = m
	}
	members, err := r.named(&s.config, next.Map) // the configuration may have lost one
	if err != nil {
		return refuse(err), nil
	}
	next.Members = members
	if err := w.compare(ctx, s, r, next); err != nil {
		return nil, err
	}
	if next.Refusal == nil {
		w.id, w.newest, w.last = r.id, r.version, r.motion.Number
	}
	return next, nil
}

// compare asks what is not asked with every round: the declared tables, and shards that are not known to belong here.
func (w *Watcher) compare(ctx context.Context, s *setup, r *record, next *State) error {
	for name, err := range w.prepare(ctx, s, r) {
		if errors.Is(err, errMisplaced) && slices.Contains(next.Members, name) { // one that is none takes no statements
			*next = State{Refusal: err}
			return nil
		}
		next.Unprepared[name] = err
	}
	if w.declared {
		return nil
	}
	wrong, err := declare(ctx, s.control, &s.config)
	if wrong != nil {
		*next = State{Refusal: wrong}
	}
	w.declared = wrong == nil && err == nil
	return err
}

// prepare prepares the shards that are not prepared, all at once, and returns what went wrong.
func (w *Watcher) prepare(ctx context.Context, s *setup, r *record) map[shard.Name]error {
	ctx, stop := context.WithTimeout(ctx, prepareLimit)
	defer stop()
	var (
		asking sync.WaitGroup
		mu     sync.Mutex
		failed = map[shard.Name]error{}
	)
	missing := slices.DeleteFunc(slices.Clone(s.config.Shards), func(name shard.Name) bool { return w.prepared[name] })
	for _, name := range missing {
		asking.Go(func() { // ends by itself, soon after ctx
			err := prepare(ctx, s.control, s.shards[name], &s.config, r, name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[name] = err
			} else {
				w.prepared[name] = true
			}
		})
	}
	asking.Wait()
	return failed
}
