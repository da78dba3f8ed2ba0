package shardmap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/shard"
)

// mover makes one with connections of its own.
func (r *rig) mover(change ...func(*Config)) *Mover {
	r.t.Helper()
	return NewMover(config(change...), r.connect(0, r.control, "", ""), map[shard.Name]Querier{"s0": r.connect(0, r.names[0], "", ""), "s1": r.connect(1, r.names[1], "", "")})
}

func (r *rig) read(m *Mover) *Current {
	r.t.Helper()
	now, err := m.Read(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return now
}

// change puts a motion in force behind from.
func (r *rig) change(m *Mover, from *Current, motion Motion) *Current {
	r.t.Helper()
	now, err := m.Change(r.t.Context(), from, &Current{from.Map, from.Members, motion})
	if err != nil {
		r.t.Fatal(err)
	}
	return now
}

// moved is what comes behind from where buckets are moved.
func (r *rig) moved(from *Current, to shard.Name, buckets ...shard.Bucket) *Current {
	r.t.Helper()
	next, err := from.Map.Moved(from.Map.Version()+1, to, buckets...)
	if err != nil {
		r.t.Fatal(err)
	}
	return &Current{next, from.Members, from.Motion}
}

// seen is what a shard knows of motion.
func (r *rig) seen(server int) string {
	r.t.Helper()
	return pgtest.Value(r.t, r.servers[server], r.names[server], "SELECT last_value FROM pgtier.motion_seen")
}

func spans(buckets ...shard.Bucket) []shard.Span { return shard.SpansOf(buckets...) }

func shortLease(c *Config) { c.Lease = 300 * time.Millisecond }

func TestMotionReachesProxiesAndTheySaySo(t *testing.T) {
	r := newRig(t)
	one, other := r.watcher(), r.watcher()
	r.holds(one)
	r.holds(other)
	r.run(one)
	m := r.mover()
	now := r.read(m)
	if now.Motion.Number != 0 || !now.Motion.Still() || namesText(now.Members) != "s0,s1" {
		t.Errorf("before any motion: %+v", now)
	}
	before := one.State()
	want := Motion{Moving: spans(1, 2, 3, 9), Held: spans(2), HeldReferences: true, Frozen: true, Near: true}
	now = r.change(m, now, want)
	until(t, "the motion is in force", func() bool { return one.State().Motion.Number == 1 })
	want.Number = 1
	if got := one.State().Motion; !got.equal(&want) || got.Still() || !got.Holds() {
		t.Errorf("got %+v, want %+v", got, want)
	}
	select {
	case <-before.Replaced():
	default:
		t.Error("the state before is not marked as replaced")
	}
	impatient := r.mover()
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := impatient.Await(short, 1); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), other.Name()) {
		t.Errorf("a proxy has not heard yet: got %v, want that it names %s", err, other.Name())
	}
	if other.Name() == one.Name() {
		t.Error("two proxies have one name")
	}
	r.holds(other)
	if err := m.Await(t.Context(), 1); err != nil {
		t.Error(err)
	}
	proxies, err := m.Proxies(t.Context())
	if err != nil || len(proxies) != 2 {
		t.Fatalf("got %+v, %v", proxies, err)
	}
	for _, p := range proxies {
		if p.Number != 1 || p.Version != 1 || namesText(p.Shards) != "s0,s1" || p.Age < 0 || p.Age > deadline {
			t.Errorf("got %+v", p)
		}
	}
	if err := other.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = r.change(m, now, Motion{})
	if err := m.Await(t.Context(), 2); err != nil {
		t.Errorf("a proxy that has left is waited for: %v", err)
	}
	if r.read(m).Motion.Number != 2 || now.Motion.Number != 2 {
		t.Error("the number is another")
	}
}

// TestShardsHearBeforeProxiesDo checks that nothing moves unless every member's manager knows that something does.
func TestShardsHearBeforeProxiesDo(t *testing.T) {
	r := newRig(t)
	r.holds(r.watcher())
	m := r.mover()
	first := r.read(m)
	m.shards["s1"].(*connQuerier).set(true)
	if _, err := m.Change(t.Context(), first, &Current{first.Map, first.Members, Motion{Moving: spans(1)}}); !errors.Is(err, errShut) {
		t.Errorf("with a shard that is away: %v", err)
	}
	if now := r.read(m); now.Motion.Number != 0 {
		t.Errorf("it is in force all the same: %+v", now)
	}
	m.shards["s1"].(*connQuerier).set(false)
	now := r.change(m, first, Motion{Moving: spans(1)})
	if r.seen(0) != "1" || r.seen(1) != "1" {
		t.Errorf("shards know of %s and %s", r.seen(0), r.seen(1))
	}
	now = r.change(m, now, Motion{Moving: spans(1), Held: spans(1)}) // no more moves
	if r.seen(0) != "1" {
		t.Errorf("shards know of %s", r.seen(0))
	}
	now = r.change(m, now, Motion{Moving: spans(1, 2)})
	if r.seen(0) != "3" || r.seen(1) != "3" {
		t.Errorf("shards know of %s and %s", r.seen(0), r.seen(1))
	}
	m.shards["s1"].(*connQuerier).set(true)
	now = r.change(m, now, Motion{}) // which needs nobody
	m.shards["s1"].(*connQuerier).set(false)
	if r.seen(0) != "4" || r.seen(1) != "3" {
		t.Errorf("shards know of %s and %s", r.seen(0), r.seen(1))
	}
	r.change(m, now, Motion{Frozen: true})
	if r.seen(0) != "5" || r.seen(1) != "5" {
		t.Errorf("shards know of %s and %s", r.seen(0), r.seen(1))
	}
}

// TestSilentProxyIsWaitedForTwiceItsLease cuts a proxy off from the control database: it knows that it may send nothing before anybody goes on without it.
func TestSilentProxyIsWaitedForTwiceItsLease(t *testing.T) {
	r := newRig(t)
	w := r.watcher(shortLease)
	r.holds(w)
	r.run(w)
	if !w.Leased("s0") {
		t.Error("no lease with a control database")
	}
	w.control.set(true)
	m := r.mover(shortLease)
	now := r.change(m, r.read(m), Motion{Moving: spans(1)})
	if err := m.Await(t.Context(), now.Motion.Number); err != nil {
		t.Fatal(err)
	}
	if w.Leased("s0") || w.Leased("s1") {
		t.Error("the proxy still holds its lease")
	}
	if w.State().Motion.Number != 0 {
		t.Error("it has heard of the motion")
	}
	w.control.set(false)
	until(t, "it acts by the motion and has its lease", func() bool { return w.State().Motion.Number == 1 && w.Leased("s0") })
}

// TestManagersLetAProxyGoOn has the control database away while nothing moves: shards that answer are used, until one says that something moves.
// TestABondBreaksWhereTheLeaseWasLost has a proxy stand still, and go on with a lease that is good again: what it has not read before it must not believe.
func TestABondBreaksWhereTheLeaseWasLost(t *testing.T) {
	r := newRig(t)
	var skipped time.Duration
	w := r.watcher()
	w.now = func() time.Time { return time.Now().Add(skipped) }
	if !w.Bond("s0").Unbroken(w.Bond("s0").Breaks()) {
		t.Error("nothing has been planned, and is not believed")
	}
	r.holds(w)
	before := w.Bond("s0").Breaks()
	skipped += DefaultLease * 5 / 4 // no statement is sent any more, and answers are believed
	if w.Leased("s0") || !w.Bond("s0").Unbroken(before) {
		t.Errorf("leased: %t, unbroken: %t, behind the lease", w.Leased("s0"), w.Bond("s0").Unbroken(before))
	}
	r.refresh(w)
	if !w.Leased("s0") || !w.Bond("s0").Unbroken(before) {
		t.Errorf("leased: %t, unbroken: %t, with another lease in time", w.Leased("s0"), w.Bond("s0").Unbroken(before))
	}
	skipped += DefaultLease * 7 / 4
	if w.Bond("s0").Unbroken(before) {
		t.Error("an answer of long behind the lease is believed")
	}
	r.refresh(w)
	if !w.Leased("s0") || w.Bond("s0").Unbroken(before) || w.Bond("s1").Unbroken(before) {
		t.Errorf("leased: %t, unbroken: %t, with a lease that came too late", w.Leased("s0"), w.Bond("s0").Unbroken(before))
	}
	if !w.Bond("s0").Unbroken(w.Bond("s0").Breaks()) {
		t.Error("what goes over a new connection is not believed")
	}
}

// TestAnswersAreWaitedFor has a proxy owe nothing to what it planned before a motion, one shard after the other.
func TestAnswersAreWaitedFor(t *testing.T) {
	r := newRig(t)
	m := r.mover()
	w := r.watcher()
	var mu sync.Mutex
	under, known := []shard.Name{"s0", "s1"}, false
	set := func(names []shard.Name, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		under, known = names, ok
	}
	w.Underway = func(int64) ([]shard.Name, bool) {
		mu.Lock()
		defer mu.Unlock()
		return under, known
	}
	r.holds(r.run(w))
	cur := r.change(m, r.read(m), Motion{Moving: spans(1)})
	waits := func(name shard.Name) bool {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer stop()
		err := r.mover().AwaitAnswers(ctx, cur.Motion.Number, name) // whose connection is lost where it waits in vain
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return err != nil
	}
	until(t, "the proxy acts by the motion", func() bool { return w.State().Motion.Number == cur.Motion.Number })
	if !waits("s0") || !waits("s1") {
		t.Error("something is under way to any shard, and nobody waits")
	}
	set([]shard.Name{"s1"}, true)
	until(t, "s0 has answered", func() bool { return !waits("s0") })
	if !waits("s1") {
		t.Error("s1 has not answered, and nobody waits")
	}
	set(nil, true)
	until(t, "both have answered", func() bool { return !waits("s0") && !waits("s1") })
}

func TestManagersLetAProxyGoOn(t *testing.T) {
	r := newRig(t)
	w := r.watcher(shortLease)
	r.holds(w)
	r.run(w)
	w.control.set(true)
	w.shards["s1"].(*connQuerier).set(true)
	until(t, "the shard that is away has no lease", func() bool { return !w.Leased("s1") })
	for end := time.Now().Add(2 * 300 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !w.Leased("s0") && w.Age() > 0 {
			until(t, "the shard that answers has its lease again", func() bool { return w.Leased("s0") }) // a busy machine
		}
	}
	w.shards["s1"].(*connQuerier).set(false)
	until(t, "both have a lease", func() bool { return w.Leased("s0") && w.Leased("s1") })
	r.sql(0, r.names[0], "SELECT setval('pgtier.motion_seen', 1)")
	until(t, "the shard that knows of a motion has none", func() bool { return !w.Leased("s0") })
	until(t, "the other one has", func() bool { return w.Leased("s1") })
}

func TestMotionUnderWayNeedsControl(t *testing.T) {
	r := newRig(t)
	w := r.watcher(shortLease)
	r.holds(w)
	m := r.mover(shortLease)
	r.change(m, r.read(m), Motion{Moving: spans(1)})
	r.holds(w)
	r.run(w)
	w.control.set(true)
	until(t, "the managers have answered", func() bool { return w.managers.of("s0") != nil && w.managers.of("s1") != nil })
	until(t, "the lease has ended", func() bool { return !w.Leased("s0") })
	asked := w.managers.of("s0").asked
	until(t, "the manager has answered again", func() bool { return w.managers.of("s0").asked.After(asked) })
	if w.Leased("s0") || w.Leased("s1") {
		t.Error("a motion is under way, and the managers' word counts")
	}
}

func TestMembers(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	r.holds(w)
	m := r.mover()
	first := r.read(m)
	// s1 gives up all it has, stays a member, and leaves.
	next := r.moved(first, "s0", first.Map.Buckets("s1")...)
	now, err := m.Change(t.Context(), first, next)
	if err != nil {
		t.Fatal(err)
	}
	if s := r.holds(w); namesText(s.Members) != "s0,s1" || s.Map.String() != "0-63:s0" {
		t.Errorf("got %v, %s", s.Members, s.Map)
	}
	same, err := now.Map.Moved(3, "s0")
	if err != nil {
		t.Fatal(err)
	}
	now, err = m.Change(t.Context(), now, &Current{same, []shard.Name{"s0"}, now.Motion})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.holds(w); namesText(s.Members) != "s0" || s.Map.Version() != 3 {
		t.Errorf("got %v", s.Members)
	}
	// Misplaced and away, it is of no matter.
	r.sql(1, r.names[1], "UPDATE pgtier.shard SET name = 's7'")
	stranger := r.watcher()
	if s := r.refresh(stranger); s.Refusal != nil || s.Unprepared["s1"] == nil || s.Unprepared["s0"] != nil {
		t.Errorf("got %v, %v", s.Refusal, s.Unprepared)
	}
	r.sql(1, r.names[1], "UPDATE pgtier.shard SET name = 's1'")
	// An owner or home that is none, and one that is not in the configuration.
	for want, members := range map[string][]shard.Name{"is no member": {"s1"}, `"s2" is not in the configuration`: {"s0", "s2"}, "twice": {"s0", "s0"}} {
		next, err := now.Map.Moved(4, "s0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Change(t.Context(), now, &Current{next, members, Motion{}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("members %v: got %v, want %q", members, err, want)
		}
	}
	r.sql(0, r.control, "INSERT INTO pgtier.map (database, version, owners, members, made_by) VALUES ('app', 4, '0-63:s0', 's0,s9', 'somebody')")
	r.refuses(w, `has shard "s9" as a member, which the configuration does not name`)
	r.sql(0, r.control, "UPDATE pgtier.map SET members = 's1' WHERE version = 4")
	r.refuses(w, `shard "s0" is none of its members s1`)
	r.sql(0, r.control, "UPDATE pgtier.map SET members = '' WHERE version = 4")
	if s := r.holds(w); namesText(s.Members) != "s0" {
		t.Errorf("got %v", s.Members)
	}
}

// TestObjectsOfAnEarlierVersionAreMadeWhole takes away what has been added.
func TestObjectsOfAnEarlierVersionAreMadeWhole(t *testing.T) {
	r := newRig(t)
	r.holds(r.watcher())
	r.sql(0, r.control, "DROP TABLE pgtier.motion, pgtier.proxy; ALTER TABLE pgtier.map DROP COLUMN members")
	for i, name := range r.names {
		r.sql(i, name, "DROP SEQUENCE pgtier.motion_seen, pgtier.references_since, pgtier.schema_since; DROP FUNCTION pgtier.planned, pgtier.schema_planned")
	}
	w := r.watcher()
	if m, found, err := Inspect(t.Context(), config(), w.control, w.shards); err != nil || len(found) > 0 || m.Map.Version() != 1 {
		t.Errorf("Inspect: %v, %v, %v", m, found, err)
	}
	if s := r.holds(w); namesText(s.Members) != "s0,s1" {
		t.Errorf("got %v", s.Members)
	}
	m := r.mover()
	r.change(m, r.read(m), Motion{Moving: spans(1)})
	if s := r.holds(w); s.Motion.Number != 1 || r.seen(1) != "1" {
		t.Errorf("got %+v, seen %s", s.Motion, r.seen(1))
	}
}

// TestShardsRefuseWhatWasPlannedBefore: for whoever has asked already the outdating waits, who asks afterwards is refused, by whatever snapshot.
func TestShardsRefuseWhatWasPlannedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		planned  func(number int64) string
		outdated func(number int64) string
	}{
		"writes of reference tables": {PlannedSQL, func(number int64) string {
			return fmt.Sprintf("SELECT pg_advisory_xact_lock(%d, 0); %s", GuardClass, OutdateSQL(number))
		}},
		"changes of the schema": {SchemaPlannedSQL, OutdateSchemaSQL},
	} {
		t.Run(name, func(t *testing.T) { refusesWhatWasPlannedBefore(t, c.planned, c.outdated) })
	}
}

func refusesWhatWasPlannedBefore(t *testing.T, plannedSQL, outdateSQL func(number int64) string) {
	r := newRig(t)
	r.holds(r.watcher())
	mover, first, late := r.connect(0, r.names[0], "", ""), r.connect(0, r.names[0], "", ""), r.connect(0, r.names[0], "", "")
	run := func(q Querier, sql string) error { return q.Query(t.Context(), sql, nothing) }
	must := func(q Querier, sql string) {
		t.Helper()
		if err := run(q, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	planned := func(q Querier, number int64) error { return run(q, "SELECT "+plannedSQL(number)) }
	outdate := func(number int64) error {
		return run(mover, "SET LOCAL lock_timeout = 50; "+outdateSQL(number))
	}
	must(first, "SET ROLE pg_monitor; BEGIN") // that has no right on anything of ours
	if err := planned(first, 0); err != nil {
		t.Fatal(err)
	}
	must(late, "SET ROLE pg_monitor; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
	if err := outdate(5); sqlState(err) != "55P03" {
		t.Errorf("the outdating has not waited: %v", err)
	}
	if err := planned(first, 0); err != nil {
		t.Errorf("a second time, and others wait: %v", err)
	}
	must(first, "COMMIT")
	if err := outdate(5); err != nil {
		t.Fatal(err)
	}
	if err := planned(late, 4); sqlState(err) != "PT001" {
		t.Errorf("planned before, got %v", err)
	}
	must(late, "ROLLBACK")
	if err := outdate(3); err != nil { // what is refused once stays so
		t.Fatal(err)
	}
	for number, want := range map[int64]string{0: "PT001", 3: "PT001", 4: "PT001", 5: "", 6: ""} {
		if err := planned(late, number); sqlState(err) != want {
			t.Errorf("planned by motion %d: %v", number, err)
		}
	}
}

// TestMotionFromABackupIsRefused: what was held may be held no more, or the other way round.
func TestMotionFromABackupIsRefused(t *testing.T) {
	r := newRig(t)
	w := r.watcher()
	r.holds(w)
	m := r.mover()
	r.change(m, r.change(m, r.read(m), Motion{Moving: spans(1)}), Motion{})
	r.holds(w)
	r.sql(0, r.control, "UPDATE pgtier.motion SET number = 1, moving = '1'")
	r.refuses(w, "went back from number 2 to 1")
	if got := pgtest.Value(t, r.servers[0], r.control, "SELECT number FROM pgtier.proxy"); got != "1" {
		t.Errorf("a proxy that sends nothing says that it acts by %s", got)
	}
}

// TestControlFromABackupIsRefusedAtTheStart: nothing but the shards remembers what has moved since.
func TestControlFromABackupIsRefusedAtTheStart(t *testing.T) {
	r := newRig(t)
	r.holds(r.watcher())
	m := r.mover()
	backups := map[string]int64{}
	backup := func(what string, now *Current) {
		r.sql(0, r.control, "CREATE SCHEMA "+what+"; CREATE TABLE "+what+".motion AS TABLE pgtier.motion; CREATE TABLE "+what+".map AS TABLE pgtier.map")
		backups[what] = now.Motion.Number
	}
	restore := func(what string) {
		r.sql(0, r.control, "DELETE FROM pgtier.motion; INSERT INTO pgtier.motion TABLE "+what+".motion; DELETE FROM pgtier.map; INSERT INTO pgtier.map TABLE "+what+".map")
	}
	now := r.read(m)
	backup("before", now)
	now = r.change(m, now, Motion{Moving: spans(0), Frozen: true})
	backup("began", now)
	now = r.change(m, now, Motion{Moving: spans(0), Held: spans(0), Frozen: true})
	r.holds(r.watcher()) // a proxy that starts meanwhile
	next := r.moved(now, "s1", 0)
	next.Motion = Motion{Moving: spans(0), Frozen: true}
	now, err := m.Change(t.Context(), now, next)
	if err != nil {
		t.Fatal(err)
	}
	backup("moved", now)
	now = r.change(m, now, Motion{Frozen: true})
	now = r.change(m, now, Motion{})
	backup("over", now)
	for what, number := range backups {
		restore(what)
		w := r.watcher()
		if what == "over" {
			r.holds(w)
			continue
		}
		r.refuses(w, fmt.Sprintf("the control database knows of motion %d of buckets of database app, and shard s", number))
		r.refuses(w, fmt.Sprintf("has heard of %d, as if the control database came from a backup", now.Motion.Number))
		_, found, err := Inspect(t.Context(), config(), w.control, w.shards)
		if err != nil {
			t.Fatal(err)
		}
		if said := text(errors.Join(found...)); !strings.Contains(said, "as if the control database came from a backup") {
			t.Errorf("%s: Inspect finds %q", what, said)
		}
		r.sql(0, r.control, forgetSQL("app", now.Motion.Number)) // as the refusal says
		r.holds(r.watcher())
	}
}
