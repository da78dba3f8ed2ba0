package shardmap

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"pgtier/router/shard"
)

const (
	// wordEvery is how often a proxy says that it is there, though nothing has changed.
	wordEvery = 2 * time.Second
	// forgetAfter is the age of a word after which the proxy is taken for gone for good, and its row is dropped by the next one that starts.
	forgetAfter = "1 day"
)

// word is what a proxy has said of itself.
type word struct {
	setup    *setup
	number   int64
	version  shard.Version
	underway string    // see underway
	at       time.Time // before it was said
}

// Name is this proxy's name in pgtier.proxy: what the configuration says, and what tells it from others of the same name.
func (w *Watcher) Name() string {
	return w.setup.Load().config.Who + "/" + w.instance
}

// version is the map's, 0 without one.
func (s *State) version() shard.Version {
	if s.Map == nil {
		return 0
	}
	return s.Map.Version()
}

// remind says that this proxy is there, before it asks for anything: what it hears then it may act by for a whole lease, and nobody may take it for gone
// within that time.
func (w *Watcher) remind(ctx context.Context, s *setup) error {
	if !w.whole || w.said.setup == s && w.now().Sub(w.said.at) < min(wordEvery, s.config.lease()/5) {
		return nil
	}
	return w.register(ctx, s, w.State())
}

// say says what this proxy acts by, if it has not yet.
func (w *Watcher) say(ctx context.Context, s *setup, now *State) error {
	if w.said.setup == s && w.said.number == now.Motion.Number && w.said.version == now.version() {
		if w.said.underway == "" || now.Motion.Near {
			return nil
		}
		if w.underway(now) == w.said.underway {
			w.settling.Store(min(2*w.settling.Load(), int64(w.calm())))
			return nil
		}
	}
	return w.register(ctx, s, now)
}

// anyShard stands for all shards in pgtier.proxy.underway.
const anyShard = "*"

// settlePause is after how long a proxy looks again whether what was under way is answered. It doubles.
const settlePause = 5 * time.Millisecond

// underway is what the control database is told of Underway: names, anyShard, or "" for none. Nobody waits for it while cuts are near.
func (w *Watcher) underway(now *State) string {
	if w.Underway == nil {
		return ""
	}
	if now.Motion.Near {
		return anyShard
	}
	names, ok := w.Underway(now.Motion.Number)
	if !ok {
		return anyShard
	}
	return namesText(names)
}

// register writes this proxy's row: it acts by now, which has no map where nothing is in force yet.
func (w *Watcher) register(ctx context.Context, s *setup, now *State) (err error) {
	said := word{setup: s, number: now.Motion.Number, version: now.version(), underway: w.underway(now), at: w.now()}
	forget := ""
	if w.said.setup == nil {
		forget = fmt.Sprintf("DELETE FROM pgtier.proxy WHERE database = %s AND at < clock_timestamp() - interval '%s';\n", literal(s.config.Database), forgetAfter)
	}
	others := int64(-1) // nothing was written: the database has no row in pgtier.sharding before its first map
	if err := s.control.Query(ctx, forget+fmt.Sprintf(`INSERT INTO pgtier.proxy (database, name, number, version, shards, underway, at) SELECT database, %[2]s, %[3]d, %[4]d, %[5]s, %[7]s, clock_timestamp() FROM pgtier.sharding
WHERE database = %[1]s ON CONFLICT (database, name) DO UPDATE SET number = EXCLUDED.number, version = EXCLUDED.version, shards = EXCLUDED.shards, underway = EXCLUDED.underway, at = EXCLUDED.at
RETURNING (SELECT count(*) FROM pgtier.proxy AS p WHERE p.database = %[1]s AND p.name <> %[2]s AND p.at > clock_timestamp() - interval '1 second' * %[6]g)`,
		literal(s.config.Database), literal(w.Name()), said.number, said.version, literal(namesText(s.config.Shards)), s.config.lease().Seconds(), literal(said.underway)), func(fields [][]byte) error {
		others, err = strconv.ParseInt(string(fields[0]), 10, 64)
		return err
	}); err != nil {
		return fmt.Errorf("say what this proxy acts by: %w", err)
	}
	if others >= 0 {
		w.proxies.Store(others + 1)
		w.said = said
		w.settling.Store(0)
		if said.underway != "" {
			w.settling.Store(int64(settlePause))
		}
	}
	return nil
}

// Proxies is how many proxies serve the database and have said so within their lease, this one among them; 0 before it has said so itself.
func (w *Watcher) Proxies() int64 { return w.proxies.Load() }

// Leave takes this proxy's row away: nothing is sent by its maps any more, and nobody need wait for it. Run has ended.
func (w *Watcher) Leave(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.said.setup
	if s == nil {
		return nil
	}
	w.said, w.asked = word{}, nil
	return s.control.Query(ctx, fmt.Sprintf("DELETE FROM pgtier.proxy WHERE database = %s AND name = %s", literal(s.config.Database), literal(w.Name())), nothing)
}

// Leased reports whether statements may be sent to a shard now: the control database was asked within the lease, or the shard's own manager was and knows of no newer
// motion, while nothing is in motion as far as this proxy knows. It allocates nothing.
func (w *Watcher) Leased(name shard.Name) bool {
	heard := w.heard.Load()
	if heard == nil {
		return false
	}
	now, limit := w.now(), w.setup.Load().config.lease()
	if within(*heard, now, limit) {
		return true
	}
	told := w.managers.of(name)
	s := w.state.Load()
	return told != nil && within(told.asked, now, limit) && told.seen <= s.Motion.Number && s.Motion.Still()
}

// within reports whether less than limit has gone by, by the monotonic clock and by the wall's: the former stands still while a machine sleeps.
func within(from, now time.Time, limit time.Duration) bool {
	return now.Sub(from) < limit && now.Round(0).Sub(from.Round(0)) < limit
}

// managers is what the managers of shards said of pgtier.motion_seen while the control database could not be asked. Safe for concurrent use.
type managers struct {
	told sync.Map // shard.Name → *told
}

// told is what a manager said.
type told struct {
	asked time.Time // before the question
	seen  int64
}

func (m *managers) of(name shard.Name) *told {
	if v, ok := m.told.Load(name); ok {
		return v.(*told)
	}
	return nil
}

// askManagers asks the managers of all shards for pgtier.motion_seen every interval, while the control database has not answered for a quarter of the lease,
// until ctx ends. One that does not answer holds up no other.
func (w *Watcher) askManagers(ctx context.Context) {
	var (
		asking sync.WaitGroup
		mu     sync.Mutex
		busy   = map[shard.Name]bool{} // guarded by mu; a question is under way
	)
	defer asking.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(w.calm())
		s := w.setup.Load()
		if heard := w.heard.Load(); heard == nil || within(*heard, w.now(), s.config.lease()/4) {
			continue
		}
		for name, q := range s.shards {
			mu.Lock()
			under := busy[name]
			busy[name] = true
			mu.Unlock()
			if under {
				continue
			}
			asking.Go(func() { // ends with its question
				w.askManager(ctx, name, q)
				mu.Lock()
				defer mu.Unlock()
				busy[name] = false
			})
		}
	}
}

// askManager asks one.
func (w *Watcher) askManager(ctx context.Context, name shard.Name, q Querier) {
	answer := told{asked: w.now(), seen: -1}
	// Another server may stand at the shard's URL: only one that is marked counts.
	err := q.Query(ctx, "SELECT q.last_value FROM pgtier.motion_seen AS q, pgtier.shard AS s WHERE s.name = "+literal(string(name))+" AND NOT pg_catalog.pg_is_in_recovery()", func(fields [][]byte) (err error) {
		answer.seen, err = strconv.ParseInt(string(fields[0]), 10, 64)
		return err
	})
	if err == nil && answer.seen >= 0 {
		w.managers.told.Store(name, &answer)
		if s := w.state.Load(); answer.seen <= s.Motion.Number && s.Motion.Still() {
			w.Bond(name).prove(answer.asked)
		}
	}
}
