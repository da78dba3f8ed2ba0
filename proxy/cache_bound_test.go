package proxy_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/cache"
	"pgtier/router/topology"
)

// boundSQL makes registers, each of which counts its writes: v is the number of the last. op is who wrote it, and told has it of all.
const boundSQL = `CREATE TABLE regs (k int PRIMARY KEY, v bigint NOT NULL, op bigint NOT NULL);
CREATE TABLE names (k int PRIMARY KEY, name text);
CREATE TABLE told (k int REFERENCES regs, v bigint, op bigint NOT NULL, PRIMARY KEY (k, v));
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO told VALUES (NEW.k, NEW.v, NEW.op); RETURN NULL; END$$;
CREATE TRIGGER tell AFTER UPDATE ON regs FOR EACH ROW EXECUTE FUNCTION tell();
CREATE FUNCTION reg_of(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT v FROM regs WHERE k = $1';
CREATE FUNCTION raise_reg(int, bigint) RETURNS bigint LANGUAGE plpgsql AS $$DECLARE n bigint; BEGIN UPDATE regs SET v = v + 1, op = $2 WHERE k = $1 RETURNING v INTO n; RETURN n; END$$`

const boundRowsSQL = "INSERT INTO regs VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0), (6, 0, 0), (7, 0, 0);" +
	" INSERT INTO names VALUES (0, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (4, 'e'), (5, 'f'), (6, 'g'), (7, 'h')"

// boundKeys are so many that some are written in one way alone: who writes a register ends what is kept of it, and hides what else would.
const boundKeys = 8

// boundShardsSQL is that for shards, where no trigger writes another table: ops has all op, in order. Of copies each has a copy: it is not noted who wrote
// that, and one copy shows a write before another does.
const boundShardsSQL = `CREATE TABLE regs (k int PRIMARY KEY, v bigint NOT NULL, op bigint NOT NULL, ops bigint[] NOT NULL DEFAULT '{}');
CREATE TABLE names (k int PRIMARY KEY, name text);
CREATE TABLE copies (k int PRIMARY KEY, v bigint NOT NULL, op bigint NOT NULL);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.ops := OLD.ops || NEW.op; RETURN NEW; END$$;
CREATE TRIGGER tell BEFORE UPDATE ON regs FOR EACH ROW EXECUTE FUNCTION tell()`

const copied = boundKeys

// writtenBy are the keys that are written through a proxy, or past both.
var writtenBy = [...][]int{{0, 1, 2, 3}, {0, 1, 4, 5}, {0, 1, 6, 7}}

// boundReads are the reads of a key ($1). They all answer its version.
var boundReads = []string{
	"SELECT v FROM regs WHERE k = $1",
	"SELECT v FROM regs WHERE k = $1",
	"SELECT r.v FROM regs r JOIN names n USING (k) WHERE r.k = $1",
	"SELECT coalesce(max(v), 0) FROM told WHERE k = $1", // not over shards, nor the next
	"SELECT reg_of($1::int)",
}

// copiedReads are the reads of the register that is copied.
var copiedReads = []string{
	"SELECT v FROM copies WHERE k = $1",
	"SELECT c.v FROM regs r, copies c WHERE r.k = 3 AND c.k = $1",
	"SELECT max(c.v) FROM regs r, copies c WHERE c.k = $1",
}

// version is a register as a write left it.
type version struct {
	key int
	v   int64
}

// deed is what one request, or transaction, did.
type deed struct {
	through int // which proxy; past: neither
	client  int
	write   bool
	id      int64 // of a write
	as      string
	shows   []version     // that a read showed, or that an acknowledged write made
	began   time.Duration // before it was sent
	ended   time.Duration // when the client had heard how it went; 0: it never has
	undone  bool          // the server has said that it had no effect
	due     []version     // of a read: what it must show because its session was given a token
}

// past is a deed's way that leads through no proxy.
const past = 2

func (d *deed) String() string {
	how := "read"
	if d.write {
		how = fmt.Sprintf("write %d", d.id)
	}
	return fmt.Sprintf("%s (%s) by client %d through %s, %v, from %s to %s", how, d.as, d.client, [...]string{"proxy 0", "proxy 1", "neither"}[d.through], d.shows, d.began, d.ended)
}

// duty is that reads which begin later must show at least a version.
type duty struct {
	after time.Duration
	v     int64
	by    *deed
}

// staleReads returns what the histories of two proxies have that the cache rules out. made is who made each version; bounds are the proxies' max_delay.
// A read through a proxy is not older than
//   - a write through the same proxy that was acknowledged before it began;
//   - such a write that a read through the same proxy had shown before it began, acknowledged or not;
//   - any write that was acknowledged max_delay before it began;
//   - what its token stands for.
//
// The first two are all that linearizability asks of registers whose versions have an order (a read of a version that did not exist yet is looked for as
// well), if others' writes are taken for parts of those that they come behind.
func staleReads(deeds []*deed, made map[version]*deed, bounds [2]time.Duration) (found []string) {
	for v, by := range made {
		if by.undone {
			found = append(found, fmt.Sprintf("%v was refused, and has made %v", by, v))
		}
	}
	for _, d := range deeds {
		for _, v := range d.shows {
			switch by := made[v]; {
			case v.v == 0 && !d.write, v.key == copied:
			case by == nil || d.write && by != d:
				found = append(found, fmt.Sprintf("%v: %v was made by %v", d, v, by))
			case d.ended < by.began:
				found = append(found, fmt.Sprintf("%v shows %v before it was made by %v", d, v, by))
			}
		}
	}
	for through := range bounds {
		duties := dutiesOf(deeds, made, through, bounds[through])
		for _, d := range deeds {
			if d.write || d.through != through {
				continue
			}
			for _, v := range d.shows {
				of := duties[v.key]
				if n, _ := slices.BinarySearchFunc(of, d.began, func(x duty, at time.Duration) int { return cmp.Compare(x.after, at) }); n > 0 && v.v < of[n-1].v {
					found = append(found, fmt.Sprintf("%v: version %d of register %d must be shown after %s, because of %v", d, of[n-1].v, v.key, of[n-1].after, of[n-1].by))
				}
				for _, due := range d.due {
					if due.key == v.key && v.v < due.v {
						found = append(found, fmt.Sprintf("%v: its token stands for %v", d, due))
					}
				}
			}
		}
	}
	return found
}

// dutiesOf are those of reads through a proxy, by register: in order, each more than the one before.
func dutiesOf(deeds []*deed, made map[version]*deed, through int, bound time.Duration) map[int][]duty {
	own := map[int][]int64{} // versions made through the proxy, by register
	for v, by := range made {
		if by.through == through {
			own[v.key] = append(own[v.key], v.v)
		}
	}
	for _, of := range own {
		slices.Sort(of)
	}
	all := map[int][]duty{}
	for _, d := range deeds {
		if d.ended == 0 || !d.write && d.through != through {
			continue
		}
		for _, v := range d.shows {
			x := duty{d.ended, v.v, d}
			switch {
			case !d.write:
				n, same := slices.BinarySearch(own[v.key], v.v)
				if same {
					n++
				}
				if n == 0 {
					continue
				}
				x.v = own[v.key][n-1]
			case d.through != through:
				x.after += bound
			}
			all[v.key] = append(all[v.key], x)
		}
	}
	for key, of := range all {
		slices.SortFunc(of, func(a, b duty) int { return cmp.Compare(a.after, b.after) })
		rising := of[:0]
		for _, x := range of {
			if len(rising) == 0 || x.v > rising[len(rising)-1].v {
				rising = append(rising, x)
			}
		}
		all[key] = rising
	}
	return all
}

// oldest is how long ago what a read through a proxy showed had been overwritten, at most.
func oldest(deeds []*deed, made map[version]*deed, through int) (age time.Duration) {
	newer := dutiesOf(deeds, made, through, 0)
	for _, d := range deeds {
		if d.write || d.through != through {
			continue
		}
		for _, v := range d.shows {
			of := newer[v.key]
			if n, _ := slices.BinarySearchFunc(of, v.v+1, func(x duty, least int64) int { return cmp.Compare(x.v, least) }); n < len(of) {
				age = max(age, d.began-of[n].after)
			}
		}
	}
	return age
}

// TestStaleReadsAreFound holds the checker to histories with and without a fault.
func TestStaleReadsAreFound(t *testing.T) {
	write := func(through int, id, v int64, began, ended time.Duration) *deed {
		d := &deed{through: through, write: true, id: id, began: began, ended: ended}
		if ended > 0 {
			d.shows = []version{{1, v}}
		}
		return d
	}
	read := func(through int, v int64, began, ended time.Duration) *deed {
		return &deed{through: through, shows: []version{{1, v}}, began: began, ended: ended}
	}
	with := func(d *deed, due int64) *deed { d.due = []version{{1, due}}; return d }
	refused := func(d *deed) *deed { d.undone = true; return d }
	for name, tc := range map[string]struct {
		deeds []*deed // writes make versions 1, 2, …
		want  int
	}{
		"nothing":                          {nil, 0},
		"own write":                        {[]*deed{write(0, 1, 1, 1, 2), read(0, 1, 3, 4)}, 0},
		"own write missed":                 {[]*deed{write(0, 1, 1, 1, 2), read(0, 0, 3, 4)}, 1},
		"a write under way":                {[]*deed{write(0, 1, 1, 1, 5), read(0, 0, 3, 4)}, 0},
		"another's write missed":           {[]*deed{write(1, 1, 1, 1, 2), read(0, 0, 11, 14)}, 0},
		"too late":                         {[]*deed{write(1, 1, 1, 1, 2), read(0, 0, 13, 14)}, 1},
		"too late for the other":           {[]*deed{write(past, 1, 1, 1, 2), read(0, 0, 11, 14), read(1, 0, 13, 14), read(1, 0, 23, 24)}, 1},
		"back, of an own write":            {[]*deed{write(0, 1, 1, 1, 9), read(0, 1, 3, 4), read(0, 0, 5, 6)}, 1},
		"back, of one that nobody heard":   {[]*deed{write(0, 1, 1, 1, 0), read(0, 1, 3, 4), read(0, 0, 5, 6)}, 1},
		"back, of another's write":         {[]*deed{write(1, 1, 1, 1, 9), read(0, 1, 3, 4), read(0, 0, 5, 6)}, 0},
		"back, behind an own write":        {[]*deed{write(0, 1, 1, 1, 0), write(1, 2, 2, 1, 9), read(0, 2, 3, 4), read(0, 1, 5, 6)}, 0},
		"back before it":                   {[]*deed{write(0, 1, 1, 1, 0), write(1, 2, 2, 1, 9), read(0, 2, 3, 4), read(0, 0, 5, 6)}, 1},
		"read through the other meanwhile": {[]*deed{write(0, 1, 1, 1, 9), read(0, 1, 3, 4), read(1, 0, 5, 6)}, 0},
		"from nowhere":                     {[]*deed{read(0, 1, 3, 4)}, 1},
		"from the future":                  {[]*deed{read(0, 1, 1, 2), write(1, 1, 1, 3, 4)}, 1},
		"another has made it":              {[]*deed{write(0, 1, 2, 1, 2), write(0, 2, 1, 3, 4)}, 2},
		"refused and done":                 {[]*deed{refused(write(0, 1, 1, 1, 0))}, 1},
		"a token":                          {[]*deed{write(1, 1, 1, 1, 2), with(read(0, 1, 3, 4), 1)}, 0},
		"a token, missed":                  {[]*deed{write(1, 1, 1, 1, 2), with(read(0, 0, 3, 4), 1)}, 1},
	} {
		made := map[version]*deed{}
		for _, d := range tc.deeds {
			if d.write {
				made[version{1, d.id}] = d
			}
		}
		if got := staleReads(tc.deeds, made, [2]time.Duration{10, 20}); len(got) != tc.want {
			t.Errorf("%s: got %d faults, want %d: %q", name, len(got), tc.want, got)
		}
	}
}

// boundLoad is a run: clients that read and write the same rows through two proxies and past them, and what they saw.
type boundLoad struct {
	*rig
	t       *testing.T
	at      [boundKeys]int // the shard of each key
	over    bool           // there are several
	proxies [2]*running
	lines   [2][]*lines // by shard
	bounds  [2]time.Duration
	began   time.Time
	last    atomic.Int64 // the id given last
	reads   [2]atomic.Int64
	behind  [2]atomic.Int64 // reads that showed less than what had been acknowledged
	acked   [boundKeys + 1]atomic.Int64
	tokens  atomic.Int64 // reads of sessions that were given one

	mu    sync.Mutex
	deeds []*deed
	fates map[string]int
}

func (l *boundLoad) now() time.Duration { return time.Since(l.began) }

func (l *boundLoad) failed(what string, err error) {
	code := codeOf(err)
	l.mu.Lock()
	l.fates[what+" "+code]++
	l.mu.Unlock()
	if code == "42601" || code == "42P01" || code == "42883" || code == "XX000" || code == "0A000" || code == "23505" {
		l.t.Errorf("%s: %v", what, err)
	}
}

func (l *boundLoad) add(d *deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deeds = append(l.deeds, d)
}

// boundClient is one client.
type boundClient struct {
	*boundLoad
	loadClient
	through int
	shard   int // that it is connected to, past both
}

// connected makes a connection if there is none.
func (c *boundClient) connected(ctx context.Context) bool {
	if c.through != past {
		return c.connect(ctx, c.t, c.proxies[c.through], "")
	}
	if c.conn != nil && !c.conn.IsClosed() && !c.broken {
		return true
	}
	c.close()
	c.shard = c.at[writtenBy[past][c.random.IntN(len(writtenBy[past]))]]
	conn, err := pgx.Connect(ctx, c.cluster.Shards[c.shard].Manager.URL(c.database, "postgres", c.cluster.Password))
	if err != nil {
		time.Sleep(5 * time.Millisecond) // the server is away
		return false
	}
	c.conn = conn
	return true
}

func (c *boundClient) close() {
	if c.conn != nil {
		_ = c.conn.Close(context.Background())
	}
	c.conn, c.broken = nil, false
}

func (c *boundClient) gaveUp(what string, err error) {
	c.failed(what, err)
	c.broken = true
}

// reading works through a proxy until stop.
func (c *boundClient) reading(stop <-chan struct{}) {
	c.loadClient.run(stop, c.connected, func(ctx context.Context) {
		if c.random.IntN(4) == 0 {
			c.write(ctx)
		} else {
			c.read(ctx)
		}
	}, c.read)
}

// writing writes now and then, until stop.
func (c *boundClient) writing(stop <-chan struct{}) {
	defer c.close()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(c.random.IntN(30)) * time.Millisecond):
		}
		ctx, done := context.WithTimeout(context.Background(), limit)
		if c.connected(ctx) {
			c.write(ctx)
		}
		if c.random.IntN(8) == 0 {
			c.close() // and goes on with another shard
		}
		done()
	}
}

// read asks the same a few times.
func (c *boundClient) read(ctx context.Context) {
	if c.random.IntN(8) == 0 {
		c.readAll(ctx)
		return
	}
	sql, key, mode := c.readOf(), c.random.IntN(boundKeys), c.mode()
	if c.over && c.random.IntN(6) == 0 {
		sql, key = copiedReads[c.random.IntN(len(copiedReads))], copied
	}
	for range 1 + c.random.IntN(6) {
		if c.readKey(ctx, sql, key, mode, nil) != nil {
			return
		}
	}
}

// readOf is a read of a key.
func (c *boundClient) readOf() string {
	if c.over {
		return boundReads[c.random.IntN(len(boundReads)-2)]
	}
	return boundReads[c.random.IntN(len(boundReads))]
}

func (c *boundClient) readKey(ctx context.Context, sql string, key int, mode pgx.QueryExecMode, due []version) error {
	v, acked := version{key: key}, c.acked[key].Load()
	began := c.now()
	if err := c.conn.QueryRow(ctx, sql, mode, key).Scan(&v.v); err != nil {
		c.gaveUp("read", err)
		return err
	}
	c.reads[c.through].Add(1)
	if v.v < acked {
		c.behind[c.through].Add(1)
	}
	c.add(&deed{through: c.through, client: c.id, as: mode.String() + ": " + sql, shows: []version{v}, began: began, ended: c.now(), due: due})
	return nil
}

func (c *boundClient) readAll(ctx context.Context) {
	const sql = "SELECT k, v FROM regs"
	began := c.now()
	rows, err := c.conn.Query(ctx, sql, c.mode())
	if err != nil {
		c.gaveUp("read all", err)
		return
	}
	var shows []version
	var v version
	_, err = pgx.ForEachRow(rows, []any{&v.key, &v.v}, func() error { shows = append(shows, v); return nil })
	if err != nil {
		c.gaveUp("read all", err)
		return
	}
	if len(shows) != boundKeys {
		c.t.Errorf("%d registers of %d: %v", len(shows), boundKeys, shows)
	}
	c.reads[c.through].Add(1)
	c.add(&deed{through: c.through, client: c.id, as: sql, shows: shows, began: began, ended: c.now()})
}

// write raises one register or several in one of many ways, and returns what was acknowledged.
func (c *boundClient) write(ctx context.Context) []version {
	d := &deed{through: c.through, client: c.id, write: true, id: c.last.Add(1), began: c.now()}
	var keys []int
	for _, key := range writtenBy[c.through] {
		if c.through != past || c.at[key] == c.shard {
			keys = append(keys, key)
		}
	}
	one := c.random.IntN(len(keys)) // the same order for all: no deadlocks
	shows, err := c.raise(ctx, d, keys[one], keys[one+c.random.IntN(len(keys)-one)])
	if err != nil {
		d.undone = d.undone || unchanged(err)
		c.gaveUp(d.as, err)
		c.add(d)
		return d.shows
	}
	d.shows, d.ended = shows, c.now()
	for _, v := range shows {
		for old := c.acked[v.key].Load(); old < v.v && !c.acked[v.key].CompareAndSwap(old, v.v); {
			old = c.acked[v.key].Load()
		}
	}
	c.add(d)
	return d.shows
}

// raise carries d out.
func (c *boundClient) raise(ctx context.Context, d *deed, one, other int) (shows []version, err error) {
	mode := c.mode()
	ask := func(key int, sql string, args ...any) error {
		v := version{key: key}
		err := c.conn.QueryRow(ctx, sql, append([]any{mode}, args...)...).Scan(&v.v)
		if err == nil {
			shows = append(shows, v)
		}
		return err
	}
	const update = "UPDATE regs SET v = v + 1, op = $2 WHERE k = $1 RETURNING v"
	switch n := c.random.IntN(200); {
	case c.over && c.through != past && n < 12:
		d.as = "reference"
		err = ask(copied, "UPDATE copies SET v = v + 1, op = $2 WHERE k = $1 RETURNING v", copied, d.id)
	case n == 0 && !c.over && c.through == past: // who calls a function while the catalog is read again has to keep its connection, and is served nothing
		d.as = "function"
		err = ask(one, "SELECT raise_reg($1, $2)", one, d.id)
	case n == 1: // this and the next end all that is kept of the table
		d.as = "WITH"
		err = ask(one, "WITH u AS ("+update+") SELECT v FROM u", one, d.id)
	case n == 2:
		d.as = "upsert"
		err = ask(one, "INSERT INTO regs VALUES ($1, 0, $2) ON CONFLICT (k) DO UPDATE SET v = regs.v + 1, op = EXCLUDED.op RETURNING v", one, d.id)
	case n < 40:
		d.as = "script"
		if c.over {
			other = one // a text goes to one shard
		}
		var results []*pgconn.Result
		results, err = c.conn.PgConn().Exec(ctx, fmt.Sprintf("UPDATE regs SET v = v + 1, op = %d WHERE k = %d RETURNING v; UPDATE regs SET v = v + 1, op = %[1]d WHERE k = %[3]d RETURNING v", d.id, one, other)).ReadAll()
		for i, result := range results {
			if err == nil && len(result.Rows) == 1 {
				n, bad := strconv.ParseInt(string(result.Rows[0][0]), 10, 64)
				shows, err = append(shows, version{[]int{one, other}[i], n}), bad
			}
		}
	case n < 90:
		d.as = "transaction"
		end := "COMMIT"
		if c.random.IntN(4) == 0 {
			end = "ROLLBACK"
		}
		if _, err = c.conn.Exec(ctx, "BEGIN", mode); err == nil {
			err = ask(one, update, one, d.id)
		}
		if err == nil {
			err = ask(other, update, other, d.id)
		}
		if err == nil {
			_, err = c.conn.Exec(ctx, end, mode)
		}
		if end == "ROLLBACK" {
			shows, d.undone = nil, true
		}
	default:
		d.as = "update " + mode.String()
		err = ask(one, update, one, d.id)
	}
	return shows, err
}

// carrying writes one way, and reads through another with the token that stands for it, until stop.
func (c *boundClient) carrying(stop <-chan struct{}) {
	reader := &boundClient{boundLoad: c.boundLoad, loadClient: loadClient{id: c.id, random: c.random}}
	defer c.close()
	defer reader.close()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(c.random.IntN(20)) * time.Millisecond):
		}
		if to := c.random.IntN(3); to != c.through {
			c.close()
			c.through = to
		}
		reader.close() // a token is the session's for good
		if reader.through = 1 - c.through; c.through == past {
			reader.through = c.random.IntN(past)
		}
		ctx, done := context.WithTimeout(context.Background(), limit)
		c.carry(ctx, reader)
		done()
	}
}

func (c *boundClient) carry(ctx context.Context, reader *boundClient) {
	if !c.connected(ctx) || !reader.connected(ctx) {
		return
	}
	due := c.write(ctx)
	if len(due) == 0 || c.broken {
		return
	}
	sql := "SHOW pgtier.lsn"
	if c.through == past {
		sql = "SELECT pg_current_wal_insert_lsn()::text"
	}
	var token string
	if err := c.conn.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol).Scan(&token); err != nil {
		c.gaveUp("SHOW", err)
		return
	}
	if _, err := reader.conn.Exec(ctx, "SET pgtier.lsn = '"+token+"'", pgx.QueryExecModeSimpleProtocol); err != nil {
		reader.gaveUp("SET", err)
		return
	}
	for _, v := range due {
		if v.key == copied {
			continue
		}
		if reader.readKey(ctx, reader.readOf(), v.key, c.mode(), due) == nil {
			c.tokens.Add(1)
		}
	}
}

// trouble cuts connections and holds them up, ends servers' processes, and freezes and kills the server, until stop.
func (l *boundLoad) trouble(random *rand.Rand, stop <-chan struct{}) {
	rest := func(least, most time.Duration) bool {
		select {
		case <-stop:
			return false
		case <-time.After(least + time.Duration(random.Int64N(int64(most-least)))):
			return true
		}
	}
	served := func() bool { // since: a machine that is busy takes long to follow again
		before := [2]int64{l.served(0), l.served(1)}
		for l.served(0) == before[0] || l.served(1) == before[1] {
			if !rest(time.Millisecond, 10*time.Millisecond) {
				return false
			}
		}
		return true
	}
	for rest(40*time.Millisecond, 240*time.Millisecond) {
		if random.IntN(2) == 0 && !served() {
			return
		}
		ctx, done := context.WithTimeout(context.Background(), limit)
		at := random.IntN(2)
		shard := random.IntN(len(l.cluster.Shards))
		manager, over := l.cluster.Shards[shard].Manager, l.lines[at][shard]
		terminate := func(condition string) {
			_ = manager.Exec(ctx, l.database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND "+condition)
		}
		switch random.IntN(22) {
		case 0, 1, 2, 3:
			over.cut(0.5, serving)
		case 4, 5, 6, 7:
			terminate("state <> 'idle' AND backend_type = 'client backend' AND application_name <> 'pgtier cache'")
		case 8: // one of the two connections that it takes, or both
			over.cut(0.7, following)
		case 9:
			terminate("backend_type = 'walsender'") // and their slots
		case 10, 11, 12, 13: // the proxy does not hear what is written past it, and whoever asks the server does
			of := following
			if random.IntN(3) == 0 {
				of = streaming // it is asked how far the log goes, and answers
			}
			var letGo []func()
			for _, over := range l.lines[at] {
				letGo = append(letGo, over.hold(1, of))
			}
			rest(l.bounds[at]/2, 2*l.bounds[at])
			for _, let := range letGo {
				let()
			}
		case 14, 15, 16:
			letGo := over.hold(0.5, serving)
			rest(0, l.bounds[at])
			letGo()
		case 17:
			if err := manager.Pause(); err != nil {
				l.t.Error(err)
			}
			rest(0, 2*l.bounds[at])
			if err := manager.Continue(); err != nil {
				l.t.Error(err)
			}
		case 18: // whoever asks a server meanwhile waits, and others for them
			letGo := over.hold(1, nil)
			rest(l.bounds[at]/2, 2*l.bounds[at])
			letGo()
		case 19:
			if err := manager.Kill(); err != nil {
				l.t.Error(err)
			}
			if err := manager.Start(ctx); err != nil {
				l.t.Error(err)
			}
		}
		done()
	}
}

// total is the sum of a counter of a proxy's caches.
func (l *boundLoad) total(through int, counter func(*cache.Cache) uint64) (n int64) {
	for _, kept := range l.proxies[through].CachesOf(l.database) {
		n += int64(counter(kept))
	}
	return n
}

// served is how many reads through a proxy were.
func (l *boundLoad) served(through int) int64 {
	return l.total(through, func(kept *cache.Cache) uint64 { return kept.Hits.Load() + kept.Shared.Load() })
}

// lacks says why the run proves nothing yet, "" if it does.
func (l *boundLoad) lacks() string {
	for i := range l.proxies {
		if served, reads := l.served(i), l.reads[i].Load(); served*20 < reads {
			return fmt.Sprintf("%d of %d reads through proxy %d were served", served, reads, i)
		}
		if l.behind[i].Load() == 0 {
			return fmt.Sprintf("no read through proxy %d was behind what was written past it", i)
		}
	}
	if l.tokens.Load() == 0 {
		return "no token was carried"
	}
	return ""
}

// truth is who made each version.
func (l *boundLoad) truth() map[version]*deed {
	l.t.Helper()
	by := map[int64]*deed{}
	for _, d := range l.deeds {
		if d.write {
			by[d.id] = d
		}
	}
	made := map[version]*deed{}
	sql := "SELECT k, v, op FROM told"
	if l.over {
		sql = "SELECT k, x.v, x.op FROM regs, unnest(ops) WITH ORDINALITY AS x (op, v)"
	}
	for i, shard := range l.cluster.Shards {
		c := (&rig{cluster: l.cluster, manager: shard.Manager, database: l.database}).quiet(l.t)
		rows, err := c.Query(bounded(l.t), sql)
		if err != nil {
			l.t.Fatal(err)
		}
		var v version
		var op int64
		_, err = pgx.ForEachRow(rows, []any{&v.key, &v.v, &op}, func() error {
			if l.at[v.key] != i {
				l.t.Errorf("%v is told on shard %d", v, i)
			}
			made[v] = by[op]
			return nil
		})
		if err != nil {
			l.t.Fatal(err)
		}
		_ = c.Close(context.Background())
	}
	return made
}

// TestNothingOlderThanTheBoundIsServed lets clients of two proxies that keep answers read and write the same rows, and others write them past both, while
// connections are cut and held up, those by which the log is followed too, and servers' processes and the server are frozen and killed. What is served is
// not older than a write through the same proxy, whoever had it done, and not older than max_delay of all others. The bound has no slack: a request
// is read after its client has sent it, and compared with a position of the log that was asked for max_delay before at the earliest.
func TestNothingOlderThanTheBoundIsServed(t *testing.T) {
	t.Parallel()
	seconds := number(t, "PGTIER_CACHE_SECONDS", 3)
	seed := number(t, "PGTIER_CACHE_SEED", time.Now().UnixNano())
	t.Logf("PGTIER_CACHE_SEED=%d PGTIER_CACHE_SECONDS=%d", seed, seconds)
	cluster := pgtest.Start(t, localpg.Options{})
	l := newBoundLoad(t, cluster)
	l.database = pgtest.Database(t, l.manager)
	pgtest.Exec(t, l.manager, l.database, boundSQL)
	pgtest.Exec(t, l.manager, l.database, boundRowsSQL)
	for i := range l.proxies {
		l.lines[i] = []*lines{newLines(t, l.manager.Address())}
		l.serves(i, l.config(t, l.keepsOver(t, l.lines[i][0], l.bounds[i])))
	}
	l.run(time.Duration(seconds)*time.Second, rand.New(rand.NewPCG(uint64(seed), 0)))
}

// TestNothingOlderThanTheBoundIsServedOfShards does so over shards, whose logs are followed each by itself.
func TestNothingOlderThanTheBoundIsServedOfShards(t *testing.T) {
	t.Parallel()
	seconds, seed := number(t, "PGTIER_CACHE_SECONDS", 3), number(t, "PGTIER_CACHE_SEED", time.Now().UnixNano())
	t.Logf("PGTIER_CACHE_SEED=%d PGTIER_CACHE_SECONDS=%d", seed, seconds)
	options := spreadOptions
	options.Shards = 2
	l := newBoundLoad(t, pgtest.Start(t, options))
	l.database, l.over = "bank", true
	for _, m := range managers(l.cluster) {
		pgtest.Exec(t, m, "postgres", "CREATE DATABASE bank")
		pgtest.Exec(t, m, l.database, boundShardsSQL)
	}
	over := &spread{l.rig}
	for i := range l.proxies {
		cfg := over.config(t)
		d := cfg.Databases[l.database]
		for shard, m := range managers(l.cluster) {
			l.lines[i] = append(l.lines[i], newLines(t, m.Address()))
			d.Shards[shard].Manager = addressed(d.Shards[shard].Manager, l.lines[i][shard].listener.Addr().String())
		}
		d.Sharding.Tables = map[string]proxy.Table{"regs": {Key: []string{"k"}}}
		d.Sharding.Reference = []string{"names", "copies"}
		d.Cache.Enabled, d.Cache.MaxDelay = true, l.bounds[i]
		cfg.Databases[l.database] = d
		l.serves(i, cfg)
	}
	c := l.proxies[0].client(t)
	for _, sql := range strings.Split(boundRowsSQL, "; ") {
		mustExec(t, c, sql)
	}
	mustExec(t, c, fmt.Sprintf("INSERT INTO copies VALUES (%d, 0, 0)", copied))
	for key := range boundKeys {
		for shard := range l.cluster.Shards {
			if over.on(t, shard, fmt.Sprintf("SELECT count(*) FROM regs WHERE k = %d", key)) == "1" {
				l.at[key] = shard
			}
		}
	}
	l.run(time.Duration(seconds)*time.Second, rand.New(rand.NewPCG(uint64(seed), 0)))
}

func newBoundLoad(t *testing.T, cluster *localpg.Cluster) *boundLoad {
	l := &boundLoad{rig: &rig{cluster: cluster, manager: cluster.Shards[0].Manager}, t: t, bounds: [2]time.Duration{250 * time.Millisecond, time.Second}, fates: map[string]int{}}
	for _, m := range managers(cluster) {
		pgtest.Exec(t, m, "postgres", "ALTER SYSTEM SET deadlock_timeout = '20ms'")
		pgtest.Exec(t, m, "postgres", "SELECT pg_reload_conf()")
	}
	return l
}

// serves starts a proxy, and waits until it keeps answers.
func (l *boundLoad) serves(i int, cfg proxy.Config) {
	l.t.Helper()
	l.proxies[i] = l.start(l.t, cfg)
	c := l.proxies[i].client(l.t)
	eventually(l.t, "the catalog is read", func() bool {
		_, err := value(c, "SELECT count(*) FROM regs")
		return err == nil
	})
	l.follows(i)
}

// follows waits until a proxy follows the logs.
func (l *boundLoad) follows(i int) {
	l.t.Helper()
	for _, kept := range l.proxies[i].CachesOf(l.database) {
		eventually(l.t, "nothing stands aside", func() bool { return kept.Away() == 0 })
	}
}

// keepsOver has a configuration reach the server by lines, and keep answers within a max_delay.
func (r *rig) keepsOver(t testing.TB, over *lines, delay time.Duration) func(*proxy.Config) {
	return func(cfg *proxy.Config) {
		server, err := topology.ParseURL(fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=disable", r.cluster.Password, over.listener.Addr(), r.database))
		if err != nil {
			t.Fatal(err)
		}
		r.setURL(cfg, server)
		d := cfg.Databases[r.database]
		d.Cache.Enabled, d.Cache.MaxDelay = true, delay
		cfg.Databases[r.database] = d
	}
}

func (l *boundLoad) run(long time.Duration, random *rand.Rand) {
	t := l.t
	t.Helper()
	l.began = time.Now()
	stop := make(chan struct{})
	var work sync.WaitGroup
	id := 0
	client := func(through int, run func(*boundClient, <-chan struct{})) {
		c := &boundClient{l, loadClient{id: id, random: rand.New(rand.NewPCG(random.Uint64(), uint64(id)))}, through, 0}
		id++
		work.Go(func() { run(c, stop) }) // ends with stop
	}
	for i := range l.proxies {
		for range 4 {
			client(i, (*boundClient).reading)
		}
	}
	client(past, (*boundClient).writing)
	client(past, (*boundClient).writing)
	client(past, (*boundClient).carrying)
	work.Go(func() { l.trouble(random, stop) }) // ends with stop
	for time.Since(l.began) < long || l.lacks() != "" && time.Since(l.began) < long+time.Minute {
		time.Sleep(100 * time.Millisecond) // the length of the run
	}
	close(stop)
	work.Wait()
	eventually(t, "nothing is prepared", func() bool {
		for _, m := range managers(l.cluster) {
			n, err := m.Value(bounded(t), l.database, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
			if err != nil || n != "0" {
				return false
			}
		}
		return true
	})
	made := l.truth()
	faults := staleReads(l.deeds, made, l.bounds)
	for i, fault := range faults {
		if i == 10 {
			break
		}
		t.Error(fault)
	}
	for i := range l.proxies {
		t.Logf("proxy %d: %d reads, %d served (%d shared), %d behind what was acknowledged by %s at most, %d passed by, %d answers kept, %d flushes",
			i, l.reads[i].Load(), l.served(i), l.total(i, func(k *cache.Cache) uint64 { return k.Shared.Load() }), l.behind[i].Load(), oldest(l.deeds, made, i),
			l.total(i, func(k *cache.Cache) uint64 { return k.Passed.Load() }), l.total(i, func(k *cache.Cache) uint64 { return k.Kept.Load() }),
			l.total(i, func(k *cache.Cache) uint64 { return k.Flushes.Load() }))
		l.comesBack(i)
	}
	t.Logf("%d versions, %d deeds, %d reads with a token, %d faults; fates %v", len(made), len(l.deeds), l.tokens.Load(), len(faults), l.fates)
	if why := l.lacks(); why != "" {
		t.Errorf("%s: the run proves nothing", why)
	}
}

// comesBack waits until a proxy knows what has become of all, and serves what is there now.
func (l *boundLoad) comesBack(through int) {
	l.t.Helper()
	l.follows(through)
	for _, kept := range l.proxies[through].CachesOf(l.database) {
		eventually(l.t, "the fate of all transactions is known", func() bool { return kept.Unknown.Load() == 0 })
	}
	reader := l.proxies[through].client(l.t)
	for key, at := range l.at {
		sql := strings.Replace(boundReads[0], "$1", strconv.Itoa(key), 1)
		want := pgtest.Value(l.t, l.cluster.Shards[at].Manager, l.database, sql)
		eventually(l.t, "what is there is served", func() bool {
			hits := l.served(through)
			got, err := value(reader, sql)
			return err == nil && got == want && l.served(through) > hits
		})
	}
}

// TestNobodyWaitsForAnAnswerBehindTheBound: the log is not heard of any more, and a question is under way from before a write past the proxy. Whoever
// asks the same when max_delay has gone by since the write asks the server.
func TestNobodyWaitsForAnAnswerBehindTheBound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, `CREATE TABLE watched (id int PRIMARY KEY, n bigint); INSERT INTO watched VALUES (1, 0);
CREATE TABLE gate (n int PRIMARY KEY);
CREATE FUNCTION hold() RETURNS bigint STABLE LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT count(*) FROM gate); END$$;`)
	const bound = 300 * time.Millisecond
	over := newLines(t, r.manager.Address())
	p := r.start(t, r.config(t, r.keepsOver(t, over, bound)))
	p.readsCatalog(t)
	kept := p.cache(t)
	one, two, to := p.client(t), p.client(t), r.direct(t)
	eventually(t, "something is served", func() bool {
		before := kept.Hits.Load()
		wantValue(t, one, "SELECT n FROM watched", "0")
		return kept.Hits.Load() > before
	})
	mustValue(t, to, "BEGIN; LOCK TABLE gate")
	held := answer(one, readHeld)
	eventually(t, "the question is under way", func() bool { return r.connections(t, "wait_event_type = 'Lock'") == "1" })
	letGo := over.hold(1, following)
	defer letGo()
	pgtest.Exec(t, r.manager, r.database, "UPDATE watched SET n = 1")
	written := time.Now()
	eventually(t, "the bound has gone by", func() bool { return time.Since(written) > bound })
	late := answer(two, readHeld)
	eventually(t, "the other asks, or waits", func() bool {
		for _, s := range p.Sessions() {
			if s.Info().State.String() == "waiting" {
				return true
			}
		}
		return r.connections(t, "wait_event_type = 'Lock'") == "2"
	})
	mustValue(t, to, "ROLLBACK")
	if got := <-held; got != "0" {
		t.Fatalf("the read saw %s: it was not held, and the test proves nothing", got)
	}
	if got := <-late; got != "1" {
		t.Errorf("got %s behind the bound, want 1", got)
	}
}
