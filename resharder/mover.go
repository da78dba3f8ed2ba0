package resharder

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

const (
	// pulse is how often the mover asks whether it still has its lock, and says how far it is.
	pulse = time.Second
	// retryLeast and retryMost bound the pause after an error that may pass; it doubles.
	retryLeast = 50 * time.Millisecond
	retryMost  = 3 * time.Second
	// awaitLimit bounds one wait for proxies outside of a cut: longer than what a lost proxy's lease takes to run out twice.
	awaitLimit = 30 * time.Second
)

// Run carries on the jobs of one database until ctx ends. Every serving process runs it; whichever takes the mover's lock first is the mover.
func Run(ctx context.Context, c Config) {
	control := c.controlLink("pgtier reshard")
	defer control.close()
	failed := false
	for {
		err := once(ctx, &c, control)
		switch {
		case ended(ctx):
			return
		case err != nil && !failed:
			c.Log.Warn("jobs that move buckets cannot be carried on, it is tried again", zap.Error(err))
		case err == nil && failed:
			c.Log.Info("jobs that move buckets can be carried on again")
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.poll()):
		}
	}
}

// once looks for a job, and carries it on as long as it can.
func once(ctx context.Context, c *Config, control *link) error {
	journal := NewJournal(control, c.Map.Database)
	job, err := journal.Latest(ctx)
	if errors.Is(err, ErrNoJob) {
		return nil
	}
	if err != nil {
		return err
	}
	if job.Step.over() {
		if unclean, err := journal.unclean(ctx); err != nil || len(unclean) == 0 {
			return err
		}
	}
	return locked(ctx, c, control, func(ctx context.Context, stop func()) error {
		// What was read before the lock may be of another mover's time.
		job, err := journal.Latest(ctx)
		if err != nil {
			return err
		}
		if job.Step.over() {
			return sweep(ctx, c, journal, control, stop)
		}
		var sweeping sync.WaitGroup
		defer sweeping.Wait()
		defer stop()
		sweeping.Go(func() { sweepMeanwhile(ctx, c, stop) }) // ends with ctx
		return newMover(c, journal, control, job, stop).carry(ctx)
	})
}

// locked does something with the mover's lock, in a context that ends when the lock is lost; nothing, if another process has it.
func locked(ctx context.Context, c *Config, control *link, do func(ctx context.Context, stop func()) error) error {
	lock, err := c.Servers.Control(ctx, named("pgtier mover", nil))
	if err != nil {
		return fmt.Errorf("the control database: %w", err)
	}
	defer hangUp(lock)
	if took, err := tryLock(ctx, lock, c.Map.Database); err != nil || !took {
		return err // another process is the mover
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var holding sync.WaitGroup
	defer holding.Wait()
	defer stop()
	holding.Go(func() { // ends with ctx, which it ends when the lock is lost
		defer stop()
		keepLock(ctx, lock)
	})
	return do(ctx, stop)
}

// lockNumber is the advisory lock of a database's mover in the control database.
func lockNumber(database string) int64 {
	sum := sha256.Sum256([]byte("pgtier mover of " + database))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits will do
}

func tryLock(ctx context.Context, conn *pgconn.PgConn, database string) (took bool, err error) {
	ctx, stop := context.WithTimeout(ctx, askLimit)
	defer stop()
	err = query(ctx, conn, fmt.Sprintf("SELECT pg_catalog.pg_try_advisory_lock(%d)", lockNumber(database)), func(fields [][]byte) error {
		took = string(fields[0]) == "t"
		return nil
	})
	return took, err
}

// keepLock returns when ctx ends or the session that has the lock is lost.
func keepLock(ctx context.Context, conn *pgconn.PgConn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pulse):
		}
		asking, stop := context.WithTimeout(ctx, askLimit)
		err := query(asking, conn, "SELECT", func([][]byte) error { return nil })
		stop()
		if err != nil {
			return
		}
	}
}

// mover carries one job on while it has the lock.
type mover struct {
	// fixed after newMover
	c       *Config
	log     *zap.Logger
	journal *Journal
	control *link
	motion  *shardmap.Mover
	links   map[shard.Name]*link
	end     func() // ends everything, as a kill would

	// of the carrying goroutine
	job   *Job
	cur   *shardmap.Current // what proxies go by; nil when in doubt
	mapID string            // of the database's maps, short
	led   bool              // all shards of the job listen to this mover
	fresh bool              // the generation is new
	dirty bool              // what is in force may not be what the journal says
	flows map[int]*flow     // by move
	asked map[string]string // when older began to wait, by shard and number of the motion
	// Targets that a cancel goes on without, and why; and since when each shard has not been reached.
	lost   map[shard.Name]error
	silent map[shard.Name]time.Time

	mu       sync.Mutex
	copying  map[int]*stream.Copy // guarded by mu; by move
	began    map[int]time.Time    // guarded by mu; when each copy began
	streams  map[int]*flow        // guarded by mu; flows once more, for who reports
	warnings map[string]string    // guarded by mu; by subject
	note     Progress             // guarded by mu; what is written into the journal
}

func newMover(c *Config, journal *Journal, control *link, job *Job, end func()) *mover {
	m := &mover{c: c, journal: journal, control: control, job: job, end: end, fresh: true, dirty: true, links: map[shard.Name]*link{}, flows: map[int]*flow{}, asked: map[string]string{},
		lost: map[shard.Name]error{}, silent: map[shard.Name]time.Time{},
		copying: map[int]*stream.Copy{}, began: map[int]time.Time{}, streams: map[int]*flow{}, warnings: map[string]string{}, note: job.Progress}
	m.log = c.Log.With(zap.String("database", c.Map.Database), zap.Int64("job", job.Number))
	for _, name := range append(sortedNames(c.Servers.Shards), m.involved()...) {
		dial := m.dial(name)
		m.links[name] = &link{place: "shard " + string(name), dial: func(ctx context.Context) (*pgconn.PgConn, error) { return dial(ctx, settings()) }}
	}
	m.motion = shardmap.NewMover(c.Map, control, queriers(m.links))
	return m
}

// application is how the sessions of this mover are named in shards.
func (m *mover) application() string {
	sum := sha256.Sum256([]byte(m.c.Map.Database))
	return fmt.Sprintf("pgtier move %s %d %d", hex.EncodeToString(sum[:4]), m.job.Number, m.job.generation)
}

// moverLock is the advisory lock that all sessions of movers have shared, until they end: by it they are told from strangers that are named alike. "pgtmover" in ASCII.
const moverLock = 0x7067746d6f766572

// dial logs in to a shard as a session of this mover. Once shards listen to it, a session begins by asking whether they still do.
func (m *mover) dial(name shard.Name) Dial {
	return func(ctx context.Context, parameters map[string]string) (*pgconn.PgConn, error) {
		dial := m.c.Servers.Shards[name]
		if dial == nil {
			return nil, errors.New("it is not in the configuration any more")
		}
		parameters = maps.Clone(parameters)
		parameters["application_name"] = m.application()
		conn, err := dial(ctx, parameters)
		if err != nil || !m.involves(name) {
			return conn, err
		}
		if err := query(ctx, conn, fmt.Sprintf("SELECT pg_catalog.pg_advisory_lock_shared(%d); %s", moverLock, m.lead()), func([][]byte) error { return nil }); err != nil && !absent(err) {
			hangUp(conn)
			return nil, err
		}
		return conn, nil
	}
}

// absent reports whether the shard does not have our objects yet: nobody can have moved anything there.
func absent(err error) bool {
	code := sqlState(err)
	return code == "3F000" || code == "42883" || code == "42P01"
}

// lead is the SQL by which a session is this mover's, or fails.
func (m *mover) lead() string { return fmt.Sprintf("SELECT pgtier.lead(%d)", m.job.generation) }

// server is a shard as package stream takes it.
func (m *mover) server(name shard.Name) stream.Server {
	return stream.Server{Name: "shard " + string(name), Dial: m.dial(name)}
}

// involved are the shards that the job moves buckets from or to.
func (m *mover) involved() []shard.Name {
	set := map[shard.Name]bool{}
	for _, move := range m.job.Moves {
		set[move.Source], set[move.Target] = true, true
	}
	if len(m.job.Joins) > 0 {
		set[m.c.Map.Home] = true // where reference tables come from
	}
	return sortedNames(set)
}

func (m *mover) involves(name shard.Name) bool { return slices.Contains(m.involved(), name) }

// spans are the buckets of the whole job.
func (m *mover) spans() []shard.Span {
	var buckets []shard.Bucket
	for i := range m.job.Moves {
		buckets = append(buckets, bucketsOf(m.job.Moves[i].Spans())...)
	}
	return shard.SpansOf(buckets...)
}

// announced are the groups of all moves.
func (m *mover) announced() (groups []shardmap.Group) {
	for i := range m.job.Moves {
		for _, g := range m.job.Moves[i].Groups {
			groups = append(groups, shardmap.Group{Number: g.Number, Spans: g.Spans})
		}
	}
	return groups
}

// at is a named point of the job, where tests stop or end it.
func (m *mover) at(ctx context.Context, name string) error {
	if m.c.Point == nil {
		return nil
	}
	if err := m.c.Point(ctx, name); err != nil {
		m.end()
		return err
	}
	return nil
}

// carry does one thing after another until the job is over, ctx ends or another mover takes over.
func (m *mover) carry(ctx context.Context) error {
	if err := m.renew(ctx); err != nil {
		return err
	}
	m.log.Info("carries a job on that moves buckets", zap.Stringer("goal", m.job.Goal), zap.String("step", string(m.job.Step)))
	defer m.leave()
	ctx, stop := context.WithCancel(ctx)
	var saying sync.WaitGroup
	defer saying.Wait()
	defer stop()
	saying.Go(func() { m.say(ctx) }) // ends with ctx
	pause := retryLeast
	for {
		rest, err := m.turn(ctx)
		if over := (*overflown)(nil); errors.As(err, &over) {
			err = m.giveBack(ctx, over)
		}
		switch {
		case ended(ctx):
			return ctx.Err()
		case superseded(err):
			m.log.Info("another mover carries the job on")
			return nil
		case err == nil && m.job.Step.over():
			m.store(ctx)
			m.log.Info("the job is over", zap.String("step", string(m.job.Step)))
			return nil
		case err == nil:
			pause = retryLeast
			if m.job.Error == "" {
				m.trouble("")
			}
		case errors.Is(err, errUnwanted): // no trouble: the next turn does what people want
			m.doubt()
			m.trouble("")
			rest = retryLeast
		case hopeless(err):
			m.doubt()
			m.log.Error("the job has stopped", zap.Error(err), zap.String("step", string(m.job.Step)))
			m.store(ctx) // what may be asked for next depends on it
			if err := m.journal.stop(ctx, m.job, err); err != nil && !superseded(err) {
				m.trouble(err.Error())
			}
			rest = retryLeast
		default:
			m.doubt()
			m.trouble(err.Error())
			m.log.Warn("the job waits, and tries again", zap.Error(err), zap.String("step", string(m.job.Step)))
			rest, pause = pause, min(2*pause, retryMost)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rest):
		}
	}
}

// doubt is for after an error: what was under way may be so still, in sessions whose answers are missing. So the next turn ends all of them, as a new mover
// does, and looks at where everything stands.
func (m *mover) doubt() {
	m.dirty, m.led, m.cur = true, false, nil
	m.stopFlows()
	for _, l := range m.links {
		l.close()
	}
}

// renew makes this process the mover anew, with a generation that no session of before has.
func (m *mover) renew(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.journal.lead(ctx, m.job, m.c.Map.Who)
}

// leave ends what goes on beside. It undoes nothing.
func (m *mover) leave() {
	for _, f := range m.flows {
		f.stop()
	}
	for _, l := range m.links {
		l.close()
	}
}

// turn does the next thing, and returns how long to rest after it.
func (m *mover) turn(ctx context.Context) (rest time.Duration, err error) {
	if err := m.look(ctx); err != nil {
		return 0, err
	}
	if err := m.release(ctx); err != nil {
		return 0, err
	}
	if err := m.takeOver(ctx); err != nil {
		return 0, m.hoarded(ctx, err)
	}
	if m.dirty {
		if err := m.settle(ctx); err != nil {
			return 0, err
		}
		m.dirty = false
	}
	if len(m.lost) == 0 {
		if err := m.follow(ctx); err != nil && m.job.Error == "" && m.job.Step != StepCancel && m.job.Wish != WishCancel {
			return 0, err
		}
	}
	if m.job.Error != "" { // it is people's turn; the log is bounded still
		if err := m.boundedAll(ctx); err != nil {
			var over *overflown
			if errors.As(err, &over) {
				return 0, err
			}
			m.trouble(err.Error())
		}
		return m.c.poll() / 2, nil
	}
	return m.next(ctx)
}

// look reads what people want by now.
func (m *mover) look(ctx context.Context) error {
	now, err := m.journal.Latest(ctx)
	if err != nil {
		return err
	}
	if now.Number != m.job.Number || now.generation != m.job.generation {
		return errSuperseded
	}
	if m.job.Error != "" && now.Error == "" { // people have asked again: what could not go on may be able to now
		m.doubt()
	}
	m.job.Wish, m.job.Auto, m.job.Error, m.job.asked, m.job.Step = now.Wish, now.Auto, now.Error, now.asked, now.Step
	return nil
}

// advance writes the next step down.
func (m *mover) advance(ctx context.Context, step Step) error {
	before := m.job.Step
	m.job.Step = step
	m.doing("")
	m.store(ctx) // or what the last step did would be shown with the next one
	if err := m.journal.step(ctx, m.job); err != nil {
		m.job.Step = before
		return err
	}
	m.store(ctx)
	m.log.Info("step of the job", zap.String("step", string(step)))
	return m.at(ctx, "step "+string(step))
}

// takeOver makes all shards of the job listen to this mover alone: sessions of others have ended when it returns nil, and can begin none. Only of lost targets that is not so.
func (m *mover) takeOver(ctx context.Context) error {
	if m.led {
		return nil
	}
	if m.fresh {
		m.fresh = false
	} else if err := m.renew(ctx); err != nil {
		return err
	}
	if err := m.identify(ctx); err != nil {
		return err
	}
	clear(m.lost)
	for _, name := range m.involved() {
		if err := m.leadShard(ctx, name); err != nil {
			if m.lose(name, err) {
				continue
			}
			return err
		}
		delete(m.silent, name)
	}
	m.led = true
	return m.at(ctx, "taken over")
}

// leadShard makes one shard listen to this mover alone.
func (m *mover) leadShard(ctx context.Context, name shard.Name) error {
	l := m.links[name]
	if err := l.run(ctx, fmt.Sprintf("SELECT pg_catalog.pg_advisory_xact_lock(%d); %s", creating, shardSQL)); err != nil {
		return fmt.Errorf("create what moves need: %w", err)
	}
	if err := l.run(ctx, m.lead()); err != nil {
		return err
	}
	return m.evict(ctx, l)
}

// identify reads what tells the database's maps from those of others.
func (m *mover) identify(ctx context.Context) error {
	if m.mapID != "" {
		return nil
	}
	id, err := m.control.value(ctx, "SELECT id FROM pgtier.sharding WHERE database = "+literal(m.c.Map.Database))
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(id))
	m.mapID = hex.EncodeToString(sum[:4])
	return nil
}

// evict ends the sessions of earlier movers on a shard: those that have the lock of movers, and the name of another.
func (m *mover) evict(ctx context.Context, l *link) error {
	others := fmt.Sprintf(`FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = pg_catalog.current_database() AND a.application_name LIKE 'pgtier move %%' AND a.application_name <> %s
AND EXISTS (SELECT FROM pg_catalog.pg_locks AS k WHERE k.pid = a.pid AND k.locktype = 'advisory' AND k.objsubid = 1 AND k.classid = %d AND k.objid = %d
	AND k.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))`, literal(m.application()), uint64(moverLock)>>32, uint64(moverLock)&0xFFFFFFFF)
	for {
		left := ""
		if err := l.Query(ctx, "SELECT a.pid, pg_catalog.pg_terminate_backend(a.pid) "+others, func(fields [][]byte) error {
			left = string(fields[0])
			return nil
		}); err != nil {
			return fmt.Errorf("end the sessions of an earlier mover: %w", err)
		}
		if left == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryLeast):
		}
	}
}
