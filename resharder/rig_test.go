package resharder

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// patience bounds every wait of these tests; the machine may be busy with others.
const patience = 3 * time.Minute

var servers = pgtest.Share(localpg.Options{Shards: 4})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

const (
	buckets  = 64
	accounts = 400
)

const schemaSQL = `
CREATE TABLE accounts (id int8 PRIMARY KEY, balance int8 NOT NULL DEFAULT 0, note text);
CREATE TABLE entries (account int8 NOT NULL REFERENCES accounts (id), id text NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (account, id)) PARTITION BY HASH (account);
CREATE TABLE entries_0 PARTITION OF entries FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE entries_1 PARTITION OF entries FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE serials (n bigserial PRIMARY KEY);
INSERT INTO countries SELECT 'c' || i, 'name ' || i FROM generate_series(1, 50) i;
SELECT nextval('serials_n_seq') FROM generate_series(1, 77);
`

// rig is one sharded database over the servers of a cluster.
type rig struct {
	t       testing.TB
	cluster *localpg.Cluster
	names   []shard.Name
	dbs     map[shard.Name]string
	server  map[shard.Name]*localpg.Server
	config  Config
	key     *shard.Key
	role    string // that pgtier logs in as; "" is the superuser
	patient bool   // the control database may be gone at any moment: questions are asked again

	mu     sync.Mutex
	point  func(ctx context.Context, name string) error // guarded by mu
	passed []string                                     // guarded by mu; the points that were passed
}

// newRig makes a database on every server; the first owners have the buckets and the schema.
func newRig(t testing.TB, cluster *localpg.Cluster, owners int) *rig {
	return newRigAs(t, cluster, owners, "")
}

// newRigAs is newRig for a role that has to own the databases, and all in them.
func newRigAs(t testing.TB, cluster *localpg.Cluster, owners int, role string) *rig {
	r := &rig{t: t, cluster: cluster, dbs: map[shard.Name]string{}, server: map[shard.Name]*localpg.Server{}, role: role}
	dials := map[shard.Name]Dial{}
	for i, s := range cluster.Shards {
		name := shard.Name(fmt.Sprintf("s%d", i))
		r.names, r.server[name], r.dbs[name] = append(r.names, name), s.Manager, pgtest.Database(t, s.Manager)
		as := ""
		if role != "" {
			r.exec(name, "ALTER DATABASE "+r.dbs[name]+" OWNER TO "+role)
			as = "SET ROLE " + role + ";"
		}
		if i < owners {
			r.exec(name, as+schemaSQL)
		}
		dials[name] = r.dial(name)
	}
	r.config = Config{Servers: Servers{Control: dials["s0"], Shards: dials}, Options: DefaultOptions(), Log: zap.NewNop(), Poll: 50 * time.Millisecond,
		Map: shardmap.Config{Database: "app", Buckets: buckets, Function: shard.Hash, Shards: r.names[:owners], Home: "s0", Lease: 2 * time.Second, Who: "test",
			Tables: []shardmap.Table{{Name: "accounts", Key: []string{"id"}}, {Name: "entries", Key: []string{"account"}}, {Name: "countries"}}},
		Libpq: func(name shard.Name) map[string]string {
			s := r.server[name]
			config, err := pgconn.ParseConfig(s.URL(r.dbs[name], r.role, r.password()))
			if err != nil {
				panic(err)
			}
			return map[string]string{"PGHOST": config.Host, "PGPORT": fmt.Sprint(config.Port), "PGUSER": config.User, "PGPASSWORD": config.Password, "PGDATABASE": config.Database}
		},
		Point: func(ctx context.Context, name string) error {
			r.mu.Lock()
			r.passed = append(r.passed, name)
			point := r.point
			r.mu.Unlock()
			if point == nil {
				return nil
			}
			return point(ctx, name)
		},
	}
	if os.Getenv("RESHARDER_LOG") != "" {
		r.config.Log = zaptest.NewLogger(t)
	}
	r.config.Options.Groups = 3
	r.config.hold = time.Second // the machine may be busy with other tests
	w := r.watcher("first")
	r.try(w.Refresh(r.ctx()))
	if s := w.State(); s.Map == nil {
		t.Fatal(s.Refusal)
	}
	r.try(w.Leave(r.ctx()))
	r.config.Map.Shards = r.names
	r.key = r.keyOf("id")
	r.seed()
	return r
}

func (r *rig) keyOf(column string) *shard.Key {
	key, err := shard.NewKey(shard.Hash, buckets, shard.Column{Name: column, Type: shard.Int8, Modifier: shard.NoModifier})
	r.try(err)
	return key
}

func (r *rig) bucket(id int) shard.Bucket {
	b, ok := r.key.Bucket(shard.Number(shard.Unknown, []byte(fmt.Sprint(id))))
	if !ok {
		r.t.Fatalf("account %d has no bucket", id)
	}
	return b
}

// seed inserts the accounts where the map has them.
func (r *rig) seed() {
	m := r.current().Map
	values := map[shard.Name][]string{}
	for id := range accounts {
		owner, _ := m.Owner(r.bucket(id))
		values[owner] = append(values[owner], fmt.Sprintf("(%d, 'account %d')", id, id))
	}
	for name, rows := range values {
		r.exec(name, "INSERT INTO accounts (id, note) VALUES "+strings.Join(rows, ", "))
	}
}

func (r *rig) dial(name shard.Name) Dial {
	return func(ctx context.Context, parameters map[string]string) (*pgconn.PgConn, error) {
		config, err := pgconn.ParseConfig(r.server[name].URL(r.dbs[name], r.role, r.password()))
		if err != nil {
			return nil, err
		}
		return stream.Connect(ctx, config, parameters)
	}
}

// password is that of the role; "" is the superuser's.
func (r *rig) password() string {
	if r.role == "" {
		return ""
	}
	return "secret"
}

func (r *rig) ctx() context.Context {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(stop)
	return ctx
}

func (r *rig) try(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) exec(name shard.Name, sql string) {
	r.t.Helper()
	pgtest.Exec(r.t, r.server[name], r.dbs[name], sql)
}

func (r *rig) value(name shard.Name, sql string) string {
	r.t.Helper()
	return pgtest.Value(r.t, r.server[name], r.dbs[name], sql)
}

// watcher is what a proxy has to know maps and motion by.
func (r *rig) watcher(who string) *shardmap.Watcher {
	config := r.config.Map
	config.Who = who
	shards := map[shard.Name]shardmap.Querier{}
	for _, name := range r.names {
		shards[name] = r.link(name)
	}
	return shardmap.New(config, r.link("s0"), shards, 30*time.Millisecond, zap.NewNop())
}

func (r *rig) link(name shard.Name) *link {
	dial := r.dial(name)
	l := &link{place: string(name), dial: func(ctx context.Context) (*pgconn.PgConn, error) { return dial(ctx, settings()) }}
	r.t.Cleanup(l.close)
	return l
}

func (r *rig) current() *shardmap.Current {
	r.t.Helper()
	cur, err := shardmap.NewMover(r.config.Map, r.link("s0"), nil).Read(r.ctx())
	r.try(err)
	return cur
}

func (r *rig) journal() *Journal { return NewJournal(r.link("s0"), "app") }

func (r *rig) job() *Job {
	r.t.Helper()
	job, err := r.journal().Latest(r.ctx())
	r.try(err)
	return job
}

// setPoint has every point of the job call f.
func (r *rig) setPoint(f func(ctx context.Context, name string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.point = f
}

// carry runs a mover until the test or the returned function ends it.
func (r *rig) carry() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { Run(ctx, r.config) })
	stop = func() {
		cancel()
		running.Wait()
	}
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) start(goal Goal) {
	r.t.Helper()
	r.again("start", func() error {
		plan, err := Start(r.ctx(), r.config, goal, false)
		if err != nil {
			err = fmt.Errorf("%w, plan %+v", err, plan)
		}
		return err
	})
}

// again does something once, or until the control database answers.
func (r *rig) again(what string, f func() error) {
	r.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if !r.patient || time.Now().After(end) || sqlState(err) != "" && !strings.HasPrefix(sqlState(err), "57P") {
			r.t.Fatalf("%s: %v", what, err)
		}
	}
}

func (r *rig) ask(wish Wish) {
	r.t.Helper()
	r.again("ask for "+string(wish), func() error {
		_, err := r.journal().Ask(r.ctx(), wish, false)
		return err
	})
}

// until waits until the job is as it should be; a job that has stopped fails the test.
func (r *rig) until(what string, is func(*Job) bool) *Job {
	r.t.Helper()
	journal, end := r.journal(), time.Now().Add(patience)
	for {
		job, err := journal.Latest(r.ctx())
		if err == nil {
			if is(job) {
				return job
			}
			if job.Error != "" {
				r.t.Fatalf("waiting until %s: the job has stopped at step %s: %s", what, job.Step, job.Error)
			}
		}
		if time.Now().After(end) {
			r.t.Fatalf("waiting until %s: the job is %+v, error of asking %v", what, job, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *rig) untilFollowing() *Job {
	r.t.Helper()
	return r.until("all follows", func(j *Job) bool { return j.Step == StepFollow })
}

// cutover asks for it and waits until all groups are cut over.
func (r *rig) cutover() *Job {
	r.t.Helper()
	r.ask(WishCutover)
	return r.until("all is cut over", func(j *Job) bool {
		return j.Step == StepFollow && j.Progress.Groups > 0 && j.Progress.GroupsDone == j.Progress.Groups
	})
}

func (r *rig) finish() {
	r.t.Helper()
	r.ask(WishFinish)
	r.until("the job is finished", func(j *Job) bool { return j.Step == StepDone })
}

// load is what clients write, and what they were told of it.
type load struct {
	r       *rig
	times   int // that clients were started
	stop    chan struct{}
	writing sync.WaitGroup

	mu      sync.Mutex
	acked   map[string]int // guarded by mu, as what follows; account by id of the entry
	unsure  map[string]int // those whose answer is missing
	refused int            // writes of stale clients that the fence refused
	longest time.Duration  // that a write of a client which obeys took
	failed  []string

	references []string // rows of the reference table that were written
}

// write starts clients: some obey the motion as proxies do, stale ones go by the map of now for ever.
func (r *rig) write(obeying, stale int) *load {
	l := &load{r: r, acked: map[string]int{}, unsure: map[string]int{}}
	l.again(obeying, stale)
	r.t.Cleanup(l.end)
	return l
}

// again has clients write, after end.
func (l *load) again(obeying, stale int) {
	l.stop = make(chan struct{})
	l.times++
	for i := range obeying {
		who := fmt.Sprintf("obeying%d.%d", l.times, i)
		l.writing.Go(func() { l.obey(who, rand.New(rand.NewPCG(uint64(i), uint64(l.times)))) })
	}
	m := l.r.current().Map
	for i := range stale {
		who := fmt.Sprintf("stale%d.%d", l.times, i)
		l.writing.Go(func() { l.goAstray(who, m, rand.New(rand.NewPCG(uint64(i+100), uint64(l.times)))) })
	}
}

// end stops the clients.
func (l *load) end() {
	l.mu.Lock()
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.mu.Unlock()
	l.writing.Wait()
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// more waits until so many more writes were acknowledged.
func (l *load) more(n int) {
	l.r.t.Helper()
	from, end := l.count(), time.Now().Add(patience)
	for l.count() < from+n {
		if time.Now().After(end) {
			l.r.t.Fatalf("%d writes of %d in %s", l.count()-from, n, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func writeSQL(account int, id string) string {
	return fmt.Sprintf("INSERT INTO public.entries (account, id) VALUES (%d, '%s'); UPDATE public.accounts SET balance = balance + 1 WHERE id = %[1]d", account, id)
}

// watching is a watcher that goes by the map and the motion until leave.
func (r *rig) watching(who string) (w *shardmap.Watcher, leave func()) {
	w = r.watcher(who)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	return w, func() {
		cancel()
		running.Wait()
		leaving, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		_ = w.Leave(leaving)
	}
}

// obey writes as a proxy does: by the newest map it knows, not to what is held, again after PT001.
func (l *load) obey(who string, random *rand.Rand) {
	w, leave := l.r.watching(who)
	defer leave()
	conns := map[shard.Name]*link{}
	for n := 0; !l.stopped(); n++ {
		account, id := random.IntN(accounts), fmt.Sprintf("%s/%d", who, n)
		began := time.Now()
		if !l.once(w, conns, account, id) {
			return
		}
		l.mu.Lock()
		l.longest = max(l.longest, time.Since(began))
		l.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond) // at full speed two cores do nothing else, and each move has more to copy
	}
}

// once writes one entry, however often it takes.
func (l *load) once(w *shardmap.Watcher, conns map[shard.Name]*link, account int, id string) bool {
	b := l.r.bucket(account)
	for !l.stopped() {
		s := w.State()
		if s.Map == nil || shard.InSpans(s.Motion.Held, b) {
			select {
			case <-s.Replaced():
			case <-l.stop:
			}
			continue
		}
		name, _ := s.Map.Owner(b)
		if !w.Leased(name) {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if conns[name] == nil {
			conns[name] = l.r.link(name)
		}
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		err := conns[name].run(ctx, writeSQL(account, id))
		stop()
		l.mu.Lock()
		switch {
		case err == nil:
			l.acked[id] = account
			l.mu.Unlock()
			return true
		case sqlState(err) == CodeFenced:
			l.refused++
			l.mu.Unlock()
			w.Touch()
			time.Sleep(time.Millisecond)
		case sqlState(err) == "" || strings.HasPrefix(sqlState(err), "57P"): // lost, or not reached
			l.unsure[id] = account
			l.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			return true
		default:
			l.failed = append(l.failed, err.Error())
			l.mu.Unlock()
			return true
		}
	}
	return false
}

// refer writes rows of the reference table on all members, as a proxy does, and notes which.
func (l *load) refer(who string) {
	w, leave := l.r.watching(who)
	defer leave()
	conns := map[shard.Name]*link{}
	for n := 0; !l.stopped(); {
		s := w.State()
		if s.Map == nil || s.Motion.HeldReferences {
			select {
			case <-s.Replaced():
			case <-l.stop:
			}
			continue
		}
		code, refused := fmt.Sprintf("%s/%d", who, n), false
		for _, name := range s.Members { // home is the first
			if conns[name] == nil {
				conns[name] = l.r.link(name)
			}
			asked := ""
			if name == l.r.config.Map.Home {
				asked = "SELECT " + shardmap.PlannedSQL(s.Motion.Number) + "; "
			}
			err := conns[name].run(context.Background(), fmt.Sprintf("%sINSERT INTO public.countries VALUES ('%s', 'written')", asked, code))
			if refused = sqlState(err) == CodeFenced; refused {
				break
			}
			if err != nil {
				l.mu.Lock()
				l.failed = append(l.failed, err.Error())
				l.mu.Unlock()
			}
		}
		if refused {
			w.Touch()
			continue
		}
		l.mu.Lock()
		l.references = append(l.references, code)
		l.mu.Unlock()
		n++
		time.Sleep(2 * time.Millisecond)
	}
}

// goAstray writes by an old map, straight to the shards.
func (l *load) goAstray(who string, m *shard.Map, random *rand.Rand) {
	conns := map[shard.Name]*link{}
	for n := 0; !l.stopped(); n++ {
		account, id := random.IntN(accounts), fmt.Sprintf("%s/%d", who, n)
		name, _ := m.Owner(l.r.bucket(account))
		if conns[name] == nil {
			conns[name] = l.r.link(name)
		}
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		err := conns[name].run(ctx, writeSQL(account, id))
		stop()
		l.mu.Lock()
		switch {
		case err == nil:
			l.acked[id] = account
		case sqlState(err) == CodeFenced:
			l.refused++
		case sqlState(err) == "" || strings.HasPrefix(sqlState(err), "57P"):
			l.unsure[id] = account
		default:
			l.failed = append(l.failed, err.Error())
		}
		l.mu.Unlock()
		time.Sleep(3 * time.Millisecond)
	}
}

// rows reads all rows of a query on a shard.
func (r *rig) rows(name shard.Name, sql string) (out [][]string) {
	r.t.Helper()
	r.try(r.link(name).Query(r.ctx(), sql, func(fields [][]byte) error {
		row := make([]string, len(fields))
		for i, f := range fields {
			row[i] = string(f)
		}
		out = append(out, row)
		return nil
	}))
	return out
}

// check ends the clients and holds what stands in the shards against what they were told. everywhere: rows that a shard does not own are wrong too.
func (l *load) check(everywhere bool) {
	r := l.r
	r.t.Helper()
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, text := range l.failed {
		if i < 5 {
			r.t.Errorf("a client heard: %s", text)
		}
	}
	m := r.current().Map
	found, total := map[string]int{}, map[int]int{}
	for _, name := range r.names {
		if r.value(name, "SELECT to_regclass('public.entries') IS NULL") == "t" {
			continue
		}
		for _, row := range r.rows(name, "SELECT account, id FROM public.entries") {
			var account int
			fmt.Sscan(row[0], &account)
			if owner, _ := m.Owner(r.bucket(account)); owner != name {
				if everywhere {
					r.t.Errorf("entry %s of account %d, which %s owns, is on %s", row[1], account, owner, name)
				}
				continue
			}
			found[row[1]]++
			total[account]++
		}
		for _, row := range r.rows(name, "SELECT id, balance FROM public.accounts") {
			var account, balance int
			fmt.Sscan(row[0], &account)
			fmt.Sscan(row[1], &balance)
			if owner, _ := m.Owner(r.bucket(account)); owner != name {
				if everywhere {
					r.t.Errorf("account %d, which %s owns, is on %s", account, owner, name)
				}
				continue
			}
			if balance != total[account] {
				r.t.Errorf("account %d on %s has balance %d and %d entries", account, name, balance, total[account])
			}
			total[account] = -1
		}
	}
	for account := range accounts {
		if total[account] != -1 {
			r.t.Errorf("account %d is not on its shard", account)
		}
	}
	for id, account := range l.acked {
		if found[id] != 1 {
			r.t.Errorf("entry %s of account %d (bucket %d) was acknowledged and is there %d times", id, account, r.bucket(account), found[id])
		}
		delete(found, id)
	}
	for id := range found {
		if _, ok := l.unsure[id]; !ok {
			r.t.Errorf("entry %s is there and was never written", id)
		}
	}
	r.t.Logf("%d writes acknowledged, %d unsure, %d refused, the longest took %s", len(l.acked), len(l.unsure), l.refused, l.longest.Round(time.Millisecond))
}

// leftovers fails the test if anything of a job is left on the servers, but guards of foreign buckets.
func (r *rig) leftovers() {
	r.t.Helper()
	m := r.current()
	for _, name := range r.names {
		for what, sql := range map[string]string{
			"slots":        "SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE database = current_database()",
			"publications": "SELECT string_agg(pubname, ', ') FROM pg_publication",
			"registers":    "SELECT string_agg(relname, ', ') FROM pg_class WHERE relname ~ '^register_'",
			"truncates":    "SELECT string_agg(tgrelid::regclass || '.' || tgname, ', ') FROM pg_trigger WHERE tgname LIKE 'zzz_pgtier_guard_truncate' OR tgname LIKE 'zzz_pgtier_guard_reference'",
		} {
			if left := r.value(name, sql); left != "" {
				r.t.Errorf("%s on %s are left: %s", what, name, left)
			}
		}
		if r.value(name, "SELECT to_regclass('pgtier.move') IS NOT NULL") == "t" {
			if left := r.value(name, "SELECT count(*) FROM pgtier.move"); left != "0" {
				r.t.Errorf("%s moves on %s are left", left, name)
			}
		}
		if len(m.Map.Buckets(name)) == buckets {
			if left := r.value(name, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zzz_pgtier_guard%'"); left != "0" {
				r.t.Errorf("%s guards on %s are left, which owns all buckets", left, name)
			}
		}
		origins := r.value(name, "SELECT count(*) FROM pg_replication_origin o WHERE roname LIKE 'pgtier_"+r.mapID()+"%'")
		if origins != "0" {
			r.t.Errorf("%s origins on %s are left", origins, name)
		}
	}
	if !m.Motion.Still() {
		r.t.Errorf("the motion is %+v", m.Motion)
	}
}

func (r *rig) mapID() string {
	m := newMover(&r.config, r.journal(), r.link("s0"), &Job{}, func() {})
	defer m.leave()
	if err := m.identify(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
	return m.mapID
}

// errKilled is what points return to end a mover.
var errKilled = errors.New("killed")
