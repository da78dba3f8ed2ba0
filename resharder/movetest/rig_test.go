package movetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/follow"
)

const (
	accounts = 120 // of the bank
	owners   = 40  // of purses
	keys     = 24  // with one value each
	buckets  = 64
)

// schemaSQL is what the one server has in the beginning. Purses of an owner add up to nothing at any moment, the balance of an account is the sum of its entries.
const schemaSQL = `
CREATE TABLE accounts (id int8 PRIMARY KEY, balance int8 NOT NULL DEFAULT 0, n int8 NOT NULL DEFAULT 0, note text);
CREATE TABLE entries (account int8 NOT NULL REFERENCES accounts (id), id text NOT NULL, amount int8 NOT NULL, seq int8 GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (account, id));
CREATE INDEX entries_seq ON entries (seq);
CREATE TABLE purses (owner int8 NOT NULL, kind int4 NOT NULL, amount int8 NOT NULL DEFAULT 0, PRIMARY KEY (owner, kind));
CREATE TABLE regs (k int8 PRIMARY KEY, v int8 NOT NULL);
CREATE TABLE events (id bigserial PRIMARY KEY, body text NOT NULL);
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE notes (id bigserial PRIMARY KEY, body text NOT NULL);
INSERT INTO accounts (id, note) SELECT i, 'account ' || i FROM generate_series(0, 119) i;
INSERT INTO purses SELECT i, k FROM generate_series(0, 39) i, generate_series(0, 1) k;
INSERT INTO regs SELECT i, 0 FROM generate_series(0, 23) i;
INSERT INTO countries SELECT 'c' || i, 'name ' || i FROM generate_series(1, 20) i`

// rig is a database that has one shard and three more servers, and two proxies.
type rig struct {
	t       *witness
	cluster *localpg.Cluster
	names   []string // of the shards' databases
	control string   // the control database, on the last server
	file    string
	proxies []*daemon
	// patience bounds every wait for something that nobody breaks.
	patience time.Duration
	end      time.Time // of the test of kills at the latest
	seed     int64     // of random choices
	// keeps: the proxies keep answers. Those are linearizable through one of them, while it lives: all clients go through the first, and nobody kills it.
	keeps bool
	// apart: so they do, but clients go through both, and both are killed. What is read through one may be older than what was written through the other, by maxDelay.
	apart bool
	// asked and found count the answers that proxies have looked for, and those that were kept.
	asked, found atomic.Int64
}

// maxDelay is the proxies' cache.max_delay: short, so that what is too old is not written anew before anybody reads it.
const maxDelay = 300 * time.Millisecond

// newRig makes one whose proxies keep no answers.
func newRig(t testing.TB) *rig { return newRigThat(t, false, false) }

// newRandomRig makes one for random choices, which PGTIER_MOVES_SEED repeats. Every other seed has the proxies keep answers, every fourth those of clients of both.
func newRandomRig(t testing.TB) *rig {
	seed := number(t, "PGTIER_MOVES_SEED", time.Now().UnixNano()%1_000_000_000)
	r := newRigThat(t, seed%2 == 1, seed%4 == 3)
	r.seed = seed
	said := fmt.Sprintf("PGTIER_MOVES_SEED=%d, answers are kept: %t, by both proxies: %t", seed, r.keeps, r.apart)
	r.t.Log(said)
	r.t.also(func() string { return said })
	return r
}

func newRigThat(t testing.TB, keeps, apart bool) *rig {
	r := &rig{t: &witness{TB: t, began: time.Now()}, patience: patience, keeps: keeps, apart: apart}
	build(t)
	r.cluster = pgtest.Start(r.t, localpg.Options{Shards: 4, Auth: "trust"})
	for _, s := range r.cluster.Shards {
		r.names = append(r.names, pgtest.Database(t, s.Manager))
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, s := range r.cluster.Servers() {
			lines := strings.Split(s.LogTail(1_000_000), "\n")
			for i, line := range lines {
				if strings.Contains(line, "deadlock") || strings.Contains(line, "PANIC") {
					t.Logf("%s's log: %s", s.Name, strings.Join(lines[i:min(i+9, len(lines))], "\n"))
				}
			}
		}
	})
	r.control = pgtest.Database(t, r.controlServer())
	pgtest.Exec(t, r.cluster.Shards[0].Manager, r.names[0], schemaSQL)
	r.file = filepath.Join(t.TempDir(), "pgtier.yaml")
	addresses := []string{pgtest.FreeAddress(t), pgtest.FreeAddress(t)}
	for addresses[1] == addresses[0] {
		addresses[1] = pgtest.FreeAddress(t)
	}
	r.configure(1)
	for i, address := range addresses {
		r.proxies = append(r.proxies, newDaemon(r.t, fmt.Sprintf("proxy %d", i), address, r.file))
	}
	for _, d := range r.proxies {
		r.try(d.start(r.ctx()))
		conn := r.connect(d.url("app"))
		eventually(r.t, r.patience, func() string { // the map is there, and the catalog, which a statement waits for no longer than five seconds
			if _, err := conn.Exec(r.ctx(), "SELECT"); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	r.t.also(r.report)
	return r
}

// configure writes the configuration of the first shards. Where a proxy listens is in its environment.
func (r *rig) configure(shards int) {
	r.t.Helper()
	var list []string
	for i, s := range r.cluster.Shards[:shards] {
		list = append(list, fmt.Sprintf("{name: s%d, manager: %q}", i, s.Manager.URL(r.names[i], "", "")))
	}
	const text = `listen: ['127.0.0.1:0']
http: ''
control: %q
log: {level: info}
auth: {method: trust, admins: [postgres]}
databases:
  app:
    shards: [%s]
    failover: {wait: 30s}
    cache: {enabled: %t, max_delay: %s}
    sharding:
      buckets: %d
      tables: {accounts: {key: id}, entries: {key: account}, purses: {key: owner}, regs: {key: k}, events: {key: id}}
      reference: [countries]
      reshard: {groups: 2}
`
	r.try(os.WriteFile(r.file, fmt.Appendf(nil, text, r.controlURL(), strings.Join(list, ", "), r.keeps, maxDelay, buckets), 0o600))
}

// widen tells the proxies of all servers.
func (r *rig) widen() {
	r.t.Helper()
	r.configure(len(r.cluster.Shards))
	for _, d := range r.proxies {
		r.try(d.reload())
	}
}

func (r *rig) ctx() context.Context {
	ctx, stop := context.WithTimeout(context.Background(), r.patience)
	r.t.Cleanup(stop)
	return ctx
}

func (r *rig) try(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// connect connects for as long as the test.
func (r *rig) connect(url string) *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.ctx(), url)
	r.try(err)
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// command runs a pgtier command and returns its status and what it printed.
func (r *rig) command(ctx context.Context, args ...string) (status int, out string) {
	cmd := exec.CommandContext(ctx, build(r.t), append(args, "--config", r.file)...)
	cmd.Env = environment()
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return -1, err.Error()
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// reshard runs a command that must succeed.
func (r *rig) reshard(args ...string) string {
	r.t.Helper()
	began := time.Now()
	status, out := r.command(r.ctx(), append([]string{"reshard"}, args...)...)
	r.t.Logf("pgtier reshard %s took %s\n%s", strings.Join(args, " "), time.Since(began).Round(time.Millisecond), out)
	if status != 0 {
		r.t.Fatalf("pgtier reshard %s: status %d\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

// untilPossible waits until nothing is in the way of a goal.
func (r *rig) untilPossible(goal ...string) {
	r.t.Helper()
	eventually(r.t, r.patience, func() string {
		status, out := r.command(r.ctx(), append([]string{"reshard", "plan"}, goal...)...)
		if status == 0 {
			return ""
		}
		return "pgtier reshard plan " + strings.Join(goal, " ") + ": " + out
	})
}

// value asks a server directly.
func (r *rig) value(i int, sql string) string {
	r.t.Helper()
	return pgtest.Value(r.t, r.cluster.Shards[i].Manager, r.names[i], sql)
}

// rows asks a server directly for rows of text.
func (r *rig) rows(url, sql string) (out [][]string) {
	r.t.Helper()
	conn, err := pgx.Connect(r.ctx(), url)
	r.try(err)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(r.ctx(), sql, pgx.QueryExecModeSimpleProtocol)
	r.try(err)
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		row := make([]string, len(raw))
		for i, v := range raw {
			row[i] = string(v)
		}
		out = append(out, row)
	}
	r.try(rows.Err())
	return out
}

// direct is the URL of a shard's database.
func (r *rig) direct(i int) string { return r.cluster.Shards[i].Manager.URL(r.names[i], "", "") }

// shards is what a proxy says of the shards: buckets by name of the members, and what is odd.
func (r *rig) shards(d *daemon) (owned map[string]string, odd string) {
	r.t.Helper()
	owned = map[string]string{}
	for _, row := range r.rows(d.url("pgtier"), "SHOW SHARDS") {
		// database, shard, manager, home, buckets, ranges, map_version, map_age_ms, in_doubt, fault, member, moving, held, motion
		member := row[10] == "yes"
		if member {
			owned[row[1]] = row[4]
		}
		if row[8] != "0" || member && row[9] != "" || !member && !strings.HasPrefix(row[9], "not joined") || row[11] != "" || row[12] != "" {
			odd = fmt.Sprintf("%s shows %q", d.name, row)
		}
	}
	return owned, odd
}

// countAnswers adds up how often a proxy has looked for an answer and found it kept, as far as it says so. It is asked before it is killed, and in the end.
func (r *rig) countAnswers(d *daemon) {
	ctx, stop := context.WithTimeout(context.Background(), askLimit)
	defer stop()
	conn, err := pgx.Connect(ctx, d.url("pgtier"))
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SHOW CACHE", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return
	}
	defer rows.Close()
	for rows.Next() {
		var asked, found int64
		if row := rows.RawValues(); len(row[1]) == 0 { // of the database
			_, _ = fmt.Sscan(string(row[3]), &asked)
			_, _ = fmt.Sscan(string(row[4]), &found)
		}
		r.asked.Add(asked)
		r.found.Add(found)
	}
}

// leftovers fails the test if anything of a job is left on the servers, but guards of foreign buckets.
func (r *rig) leftovers() {
	r.t.Helper()
	for i := range r.cluster.Shards {
		for what, sql := range map[string]string{
			"slots":        "SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE NOT temporary",
			"publications": "SELECT string_agg(pubname, ', ') FROM pg_publication WHERE pubname <> '" + follow.Publication + "'",
			"origins":      "SELECT string_agg(roname, ', ') FROM pg_replication_origin",
			"registers":    "SELECT string_agg(relname, ', ') FROM pg_class WHERE relname ~ '^register_'",
			"triggers":     "SELECT string_agg(tgrelid::regclass || '.' || tgname, ', ') FROM pg_trigger WHERE tgname LIKE 'zzz_pgtier_guard_truncate' OR tgname LIKE 'zzz_pgtier_guard_reference'",
		} {
			if left := r.value(i, sql); left != "" {
				r.t.Errorf("%s on s%d are left: %s", what, i, left)
			}
		}
		if r.value(i, "SELECT to_regclass('pgtier.move') IS NOT NULL") == "t" {
			if left := r.value(i, "SELECT count(*) FROM pgtier.move"); left != "0" {
				r.t.Errorf("%s moves on s%d are left", left, i)
			}
		}
		eventually(r.t, time.Minute, func() string {
			if left := r.value(i, "SELECT string_agg(gid, ', ') FROM pg_prepared_xacts"); left != "" {
				return fmt.Sprintf("prepared transactions on s%d are left: %s", i, left)
			}
			return ""
		})
	}
	for _, d := range r.proxies {
		eventually(r.t, time.Minute, func() string {
			_, odd := r.shards(d)
			return odd
		})
	}
}

// sane fails the test unless rows are where the map says and nothing else is wrong.
func (r *rig) sane() {
	r.t.Helper()
	if status, out := r.command(r.ctx(), "check"); status != 0 {
		r.t.Errorf("pgtier check: status %d\n%s", status, out)
	}
}
