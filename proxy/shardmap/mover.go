package shardmap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pgtier/router/shard"
)

// awaitPause is the time between two looks at what proxies say. They ask every few milliseconds when it matters.
const awaitPause = 3 * time.Millisecond

// Mover is how one process changes what all proxies go by. It has no state, and its methods are safe for concurrent use.
type Mover struct {
	config  Config
	control Querier
	shards  map[shard.Name]Querier
}

// NewMover makes one. shards has a Querier to the manager of every shard that config names; control may be one of them.
func NewMover(config Config, control Querier, shards map[shard.Name]Querier) *Mover {
	return &Mover{config, control, maps.Clone(shards)}
}

// Current is what proxies go by. Do not change what Read and Change have returned.
type Current struct {
	Map *shard.Map
	// Members are the shards that statements may go to: all owners and home, and others that have joined.
	Members []shard.Name
	Motion  Motion
}

// ProxyState is what a proxy last said of itself.
type ProxyState struct {
	// Name is the proxy's own, another after each start.
	Name string
	// Number is that of the motion that it acts by, Version that of the map.
	Number  int64
	Version shard.Version
	// Shards are those of its configuration.
	Shards []shard.Name
	// Age is how long ago it said so, by the clock of the control database.
	Age time.Duration
}

// Read reads what is in force.
func (m *Mover) Read(ctx context.Context) (*Current, error) {
	r, err := read(ctx, m.control, m.config.Database, 0)
	if err == nil && r == nil {
		err = errors.New("the control database has none")
	}
	if err == nil {
		err = r.agree(&m.config)
	}
	if err != nil {
		return nil, fmt.Errorf("read the map of database %s: %w", m.config.Database, err)
	}
	found, err := r.parse(&m.config)
	if err != nil {
		return nil, err
	}
	members, err := r.named(&m.config, found)
	if err != nil {
		return nil, err
	}
	return &Current{found, members, r.motion}, nil
}

// Change puts next in force behind from, in one transaction: its motion always, whose number is assigned, its map and members where they are others; the map is then
// of the next version, even if only the members differ (shard.Map.Moved without buckets). It returns what is in force. ErrMoved (wrapped) says that something else came first, and
// nothing has changed. An error of the connection leaves open whether next is in force: Read tells. Where next begins to move buckets, or nothing was in
// motion before, pgtier.motion_seen of all members is raised first, and nothing changes unless every one of them could be; where nothing is any more, that of those that can be asked.
func (m *Mover) Change(ctx context.Context, from, next *Current) (*Current, error) {
	made := &Current{next.Map, slices.Clone(next.Members), next.Motion}
	made.Motion.Number = from.Motion.Number + 1
	made.Motion.Moving, made.Motion.Held = tidy(next.Motion.Moving), tidy(next.Motion.Held)
	if err := m.check(from, made); err != nil {
		return nil, fmt.Errorf("change map: %w", err)
	}
	raised := from.Motion.Still() || made.Motion.movesMore(&from.Motion)
	if raised {
		if err := m.raise(ctx, from, made); err != nil {
			return nil, err
		}
	} else if made.Motion.Still() {
		m.recall(ctx, from, made)
	}
	done := false
	if err := m.control.Query(ctx, m.changing(from, made, raised), func(fields [][]byte) error {
		done = done || string(fields[0]) == strconv.FormatInt(made.Motion.Number, 10)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("change map: %w", err)
	}
	if !done {
		return nil, fmt.Errorf("change map %d at motion %d: %w", from.Map.Version(), from.Motion.Number, ErrMoved)
	}
	return made, nil
}

// tidy puts spans into their one form.
func tidy(spans []shard.Span) []shard.Span {
	var buckets []shard.Bucket
	for _, s := range spans {
		for b := int(s.First); b <= int(s.Last); b++ {
			buckets = append(buckets, shard.Bucket(b))
		}
	}
	return shard.SpansOf(buckets...)
}

// check returns why next cannot come behind from.
func (m *Mover) check(from, next *Current) error {
	same := next.Map.Version() == from.Map.Version() && next.Map.String() == from.Map.String() && slices.Equal(from.Members, next.Members)
	if follows := from.Map.Version() + 1; !same && next.Map.Version() != follows {
		return fmt.Errorf("version %d does not follow %d, %d does", next.Map.Version(), from.Map.Version(), follows)
	}
	if next.Map.Len() != m.config.Buckets {
		return fmt.Errorf("%d buckets, the database has %d", next.Map.Len(), m.config.Buckets)
	}
	for i, name := range next.Members {
		if !slices.Contains(m.config.Shards, name) {
			return fmt.Errorf("shard %q is not in the configuration", name)
		}
		if slices.Contains(next.Members[:i], name) {
			return fmt.Errorf("shard %q is a member twice", name)
		}
	}
	for _, name := range append(next.Map.Shards(), m.config.Home) {
		if !slices.Contains(next.Members, name) {
			return fmt.Errorf("shard %q has buckets or is home, and is no member", name)
		}
	}
	for _, s := range append(slices.Clone(next.Motion.Moving), next.Motion.Held...) {
		if int(s.Last) >= m.config.Buckets || s.First > s.Last {
			return fmt.Errorf("buckets %s of %d", s, m.config.Buckets)
		}
	}
	return nil
}

// raise tells all members, one after another, that something newer than the motion before is in force. What has been raised stays so: it does no harm.
func (m *Mover) raise(ctx context.Context, from, next *Current) error {
	for _, name := range m.config.Shards {
		if !slices.Contains(from.Members, name) && !slices.Contains(next.Members, name) {
			continue
		}
		place, q := "shard "+string(name), m.shards[name]
		if q == nil {
			return fmt.Errorf("raise the number of motion on %s: it cannot be asked", place)
		}
		if err := ensure(ctx, q, place, shardThere, ShardSQL); err != nil {
			return err
		}
		if err := q.Query(ctx, raising(next.Motion.Number), nothing); err != nil {
			return fmt.Errorf("raise the number of motion on %s: %w", place, err)
		}
	}
	return nil
}

// raising is the SQL for one member. The lock keeps two movers from lowering the number; setval is not undone, but its record is flushed by the commit.
func raising(number int64) string {
	return fmt.Sprintf("SELECT pg_catalog.pg_advisory_xact_lock(%d); %s", creating, SeenSQL(number))
}

// recallLimit bounds how long the end of a motion waits for shards.
const recallLimit = 2 * time.Second

// recall has all members that can be asked remember that a motion is over, so that a control database which does not know of that is noticed. Nothing depends on it.
func (m *Mover) recall(ctx context.Context, from, next *Current) {
	ctx, stop := context.WithTimeout(ctx, recallLimit)
	defer stop()
	var asking sync.WaitGroup
	for _, name := range m.config.Shards {
		q := m.shards[name]
		if q != nil && (slices.Contains(from.Members, name) || slices.Contains(next.Members, name)) {
			asking.Go(func() { _ = q.Query(ctx, raising(next.Motion.Number), nothing) }) // ends with ctx
		}
	}
	asking.Wait()
}

// changing is the SQL that puts next in force, one transaction. Its last statement yields the number, if from was in force.
func (m *Mover) changing(from, next *Current, raised bool) string {
	database, who, n := literal(m.config.Database), literal(m.config.Who), &next.Motion
	raisedAt := "o.raised_at"
	if raised {
		raisedAt = "EXCLUDED.raised_at"
	}
	sql := fmt.Sprintf(`SELECT '' FROM pgtier.sharding WHERE database = %s FOR UPDATE;
WITH old AS (SELECT m.version, coalesce(n.number, 0) AS number FROM pgtier.map AS m LEFT JOIN pgtier.motion AS n ON n.database = m.database
	WHERE m.database = %[1]s ORDER BY m.version DESC LIMIT 1),
made AS (INSERT INTO pgtier.motion AS o (database, number, moving, held, held_references, frozen, near, groups, raised_at, made_at, made_by)
	SELECT %[1]s, %[2]d, %[3]s, %[4]s, %[5]t, %[6]t, %[7]t, %[12]s, clock_timestamp(), clock_timestamp(), %[8]s FROM old WHERE old.version = %[9]d AND old.number = %[10]d
	ON CONFLICT (database) DO UPDATE SET number = EXCLUDED.number, moving = EXCLUDED.moving, held = EXCLUDED.held, held_references = EXCLUDED.held_references,
		frozen = EXCLUDED.frozen, near = EXCLUDED.near, groups = EXCLUDED.groups, made_at = EXCLUDED.made_at, made_by = EXCLUDED.made_by, raised_at = %[11]s
	RETURNING number)`,
		database, n.Number, literal(shard.SpansText(n.Moving)), literal(shard.SpansText(n.Held)), n.HeldReferences, n.Frozen, n.Near, who,
		from.Map.Version(), from.Motion.Number, raisedAt, literal(groupsText(n.Groups)))
	if next.Map.Version() == from.Map.Version() {
		return sql + "\nSELECT number FROM made"
	}
	return sql + fmt.Sprintf(`
INSERT INTO pgtier.map (database, version, owners, members, made_by) SELECT %s, %d, %s, %s, %s FROM made RETURNING (SELECT number FROM made)`,
		database, next.Map.Version(), literal(next.Map.String()), literal(namesText(next.Members)), who)
}

// Proxies are all that have said something of themselves and have not left, by name.
func (m *Mover) Proxies(ctx context.Context) ([]ProxyState, error) {
	var found []ProxyState
	err := m.control.Query(ctx, `SELECT name, number, version, shards, extract(epoch FROM clock_timestamp() - at) FROM pgtier.proxy WHERE database = `+
		literal(m.config.Database)+` ORDER BY name`, func(fields [][]byte) error {
		number, err := strconv.ParseInt(string(fields[1]), 10, 64)
		version, errVersion := strconv.ParseUint(string(fields[2]), 10, 64)
		age, errAge := strconv.ParseFloat(string(fields[4]), 64)
		if err := errors.Join(err, errVersion, errAge); err != nil {
			return err
		}
		found = append(found, ProxyState{Name: string(fields[0]), Number: number, Version: shard.Version(version), Shards: parseNames(string(fields[3])),
			Age: time.Duration(age * float64(time.Second))})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read proxies: %w", err)
	}
	return found, nil
}

// Await returns nil when every proxy acts by the number or a later one, or has lost its lease: twice its length has gone by since its last word, and since
// pgtier.motion_seen was raised. Else it returns an error when ctx ends, which names the proxies waited for, or when the control database fails.
func (m *Mover) Await(ctx context.Context, number int64) error {
	return m.await(ctx, fmt.Sprintf("wait for motion %d", number), "have not said that they act by it", fmt.Sprintf("p.number < %d", number))
}

// AwaitAnswers is Await that waits besides until the servers of these shards have answered all that was planned by motions before the number. What a server owes to a
// proxy that has lost its lease, that proxy gives to nobody.
func (m *Mover) AwaitAnswers(ctx context.Context, number int64, shards ...shard.Name) error {
	names := namesText(shards)
	return m.await(ctx, fmt.Sprintf("wait for answers of shard %s to what was planned before motion %d", names, number), "still wait for some",
		fmt.Sprintf("(p.number < %d OR string_to_array(p.underway, ',') && string_to_array(%s, ','))", number, literal(names+","+anyShard)))
}

// await waits until no proxy with a lease is so any more. what and who are for its error.
func (m *Mover) await(ctx context.Context, what, who, so string) error {
	sql := fmt.Sprintf(`SELECT p.name FROM pgtier.proxy AS p LEFT JOIN pgtier.motion AS n ON n.database = p.database WHERE p.database = %s AND %s
AND (n.raised_at IS NULL OR greatest(p.at, n.raised_at) > clock_timestamp() - interval '1 second' * %g) ORDER BY p.name`, literal(m.config.Database), so, 2*m.config.lease().Seconds())
	var names []string
	for {
		var now []string
		if err := m.control.Query(ctx, sql, func(fields [][]byte) error {
			now = append(now, string(fields[0]))
			return nil
		}); err == nil {
			names = now
		} else if ctx.Err() == nil {
			return fmt.Errorf("wait for proxies: %w", err)
		}
		if len(names) == 0 && ctx.Err() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if len(names) == 0 {
				return fmt.Errorf("%s: %w", what, ctx.Err())
			}
			return fmt.Errorf("%s: these proxies %s: %s: %w", what, who, strings.Join(names, ", "), ctx.Err())
		case <-time.After(awaitPause):
		}
	}
}
