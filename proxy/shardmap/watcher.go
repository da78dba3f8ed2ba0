package shardmap

import (
	"context"
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
	// retryMost bounds the pause after a question that ended in an error, which doubles.
	retryMost = 10 * time.Second
	// prepareLimit bounds how long shards that do not answer hold up a round.
	prepareLimit = 3 * time.Second
)

// State is what is known of one database's map. It is immutable; a new one is published when something but the time of the last answer changes.
type State struct {
	// Map is the map in force, nil while none is.
	Map *shard.Map
	// Seal proves decisions to the shards.
	Seal Seal
	// Refusal says why nothing can be sent to the shards: no map has been read yet, or what was read does not fit the configuration. nil where Map
	// holds. Its text names what to change.
	Refusal error
	// Unprepared are the shards that could not be asked yet whether they belong to the map, and why; they are asked again each interval. Nothing
	// should be sent there: the server may be another shard, or lack what decides transactions.
	Unprepared map[shard.Name]error
}

// errNotRead is the Refusal before the first answer.
var errNotRead = errors.New("the map of buckets to shards has not been read yet")

// ErrMoved is the error of Advance where another map came first.
var ErrMoved = errors.New("the map has moved on meanwhile")

// Watcher keeps one database's State current. All methods are safe for concurrent use.
type Watcher struct {
	// fixed after New
	interval time.Duration
	log      *zap.Logger
	now      func() time.Time
	wake     chan struct{}

	setup  atomic.Pointer[setup]
	state  atomic.Pointer[State]
	answer atomic.Pointer[time.Time] // when the control database answered last; nil never

	mu       sync.Mutex          // held while the control database and shards are asked
	asked    *setup              // guarded by mu; the setup that prepared and declared hold for
	prepared map[shard.Name]bool // guarded by mu
	declared bool                // guarded by mu
	id       string              // guarded by mu; of the maps that were in force, "" before the first
	newest   shard.Version       // guarded by mu; of those

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
	w := &Watcher{interval: interval, log: log, now: time.Now, wake: make(chan struct{}, 1), settled: make(chan struct{})}
	w.setup.Store(&setup{config, control, maps.Clone(shards)})
	w.state.Store(&State{Refusal: errNotRead})
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

// Age is how long ago the control database answered: what State says held then. It is negative if it never has.
func (w *Watcher) Age() time.Duration {
	at := w.answer.Load()
	if at == nil {
		return -1
	}
	return w.now().Sub(*at)
}

// Run asks at once, then every interval and after Touch, until ctx ends. Call it once.
func (w *Watcher) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry, failed := w.interval, false
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
			retry = min(2*retry, max(retryMost, w.interval))
			continue
		case failed:
			w.log.Info("the map of buckets to shards is read again")
		}
		retry, failed = w.interval, false
		timer.Reset(w.interval)
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
			w.id, w.newest = "", 0
		}
		w.asked, w.prepared, w.declared = s, map[shard.Name]bool{}, false
	}
	next, err := w.ask(ctx, s)
	switch {
	case err == nil:
		now := w.now()
		w.answer.Store(&now)
		w.publish(next)
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
	if old.Map == next.Map && old.Seal == next.Seal && text(old.Refusal) == text(next.Refusal) && maps.EqualFunc(old.Unprepared, next.Unprepared, func(a, b error) bool { return text(a) == text(b) }) {
		return
	}
	w.state.Store(next)
	switch {
	case next.Refusal != nil && !errors.Is(next.Refusal, errNotRead) && text(next.Refusal) != text(old.Refusal):
		w.log.Error("nothing can be sent to the shards", zap.Error(next.Refusal))
	case next.Map != nil && next.Map != old.Map:
		w.log.Info("map of buckets to shards", zap.Uint64("version", uint64(next.Map.Version())), zap.Int("shards", len(next.Map.Shards())))
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
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errors.New("the first map is not there")
	}
	return w.judge(ctx, s, r, old)
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
	err = ensure(ctx, s.control, "the control database", controlThere, ControlSQL)
	if missing := (*Missing)(nil); errors.As(err, &missing) {
		return missing, nil
	}
	if err == nil {
		err = create(ctx, s.control, &s.config)
	}
	return nil, err
}

func refuse(why error) *State { return &State{Refusal: why} }

// judge makes a state of a record that was read.
func (w *Watcher) judge(ctx context.Context, s *setup, r *record, old *State) (*State, error) {
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
	next := &State{Map: old.Map, Seal: Seal{r.secret}, Unprepared: map[shard.Name]error{}}
	if old.Map == nil || r.version != old.Map.Version() || r.owners != "" {
		m, err := r.parse(&s.config)
		if err != nil {
			return refuse(err), nil
		}
		next.Map = m
	}
	for _, name := range next.Map.Shards() { // the configuration may have lost one
		if !slices.Contains(s.config.Shards, name) {
			return refuse(fmt.Errorf("map %d of database %s has buckets on shard %q, which the configuration does not name; add the shard with its manager's URL", r.version, s.config.Database, name)), nil
		}
	}
	if err := w.compare(ctx, s, r, next); err != nil {
		return nil, err
	}
	if next.Refusal == nil {
		w.id, w.newest = r.id, r.version
	}
	return next, nil
}

// compare asks what is not asked with every round: the declared tables, and shards that are not known to belong here.
func (w *Watcher) compare(ctx context.Context, s *setup, r *record, next *State) error {
	for name, err := range w.prepare(ctx, s, r) {
		if errors.Is(err, errMisplaced) {
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
			err := prepare(ctx, s.shards[name], &s.config, r, name)
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

// Advance puts next in force behind the map of version from; its version is from + 1. ErrMoved (wrapped) says that the map in force is another
// one by now, and nothing has changed. An error of the connection leaves open whether next is in force: Refresh and look. Once Advance has returned nil
// this watcher has asked for the map, if the control database still answers; others learn of it within their interval.
func (w *Watcher) Advance(ctx context.Context, from shard.Version, next *shard.Map) error {
	s := w.setup.Load()
	if next.Version() != from+1 {
		return fmt.Errorf("advance map: version %d does not follow %d", next.Version(), from)
	}
	if next.Len() != s.config.Buckets {
		return fmt.Errorf("advance map: %d buckets, the database has %d", next.Len(), s.config.Buckets)
	}
	for _, name := range next.Shards() {
		if !slices.Contains(s.config.Shards, name) {
			return fmt.Errorf("advance map: shard %q is not in the configuration", name)
		}
	}
	made := false
	// The primary key lets one of several come next; no version can be left out, because the one before must be there.
	err := s.control.Query(ctx, fmt.Sprintf(`INSERT INTO pgtier.map (database, version, owners, made_by)
SELECT database, %d, %s, %s FROM pgtier.map WHERE database = %s AND version = %d ON CONFLICT DO NOTHING RETURNING version`,
		next.Version(), literal(next.String()), literal(s.config.Who), literal(s.config.Database), from), func([][]byte) error {
		made = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("advance map: %w", err)
	}
	if !made {
		return fmt.Errorf("advance map from version %d: %w", from, ErrMoved)
	}
	if err := w.Refresh(ctx); err != nil {
		w.Touch()
	}
	return nil
}
