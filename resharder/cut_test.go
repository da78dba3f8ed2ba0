package resharder

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"pgtier/router/shard"
)

func (r *rig) pgx(name string, server int) *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.ctx(), r.cluster.Shards[server].Manager.URL(r.dbs[r.names[server]], "", ""))
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	r.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// TestNothingIsGrantedBeforeTheTargetHasEveryWrite holds up the stream while a write that obeys nobody comes in the last moment before the fence.
func TestNothingIsGrantedBeforeTheTargetHasEveryWrite(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	account := 0
	for r.bucket(account) < 32 {
		account++
	}
	note := fmt.Sprintf("SELECT note FROM accounts WHERE id = %d", account)
	holder, writer := r.pgx("holder", 0), r.pgx("writer", 1)
	exec := func(conn *pgx.Conn, sql string) {
		if _, err := conn.Exec(r.ctx(), sql); err != nil {
			t.Error(err)
		}
	}
	granted := false
	seen := ""
	core, logs := observer.New(zap.InfoLevel)
	r.config.Log = zap.New(core)
	misses := func() int { return logs.FilterMessage("a group of buckets could not be cut over yet").Len() }
	var held atomic.Int64         // misses when an attempt has held for the first time, and 1
	looked := make(chan struct{}) // at what that one has left; the next one waits for that
	r.setPoint(func(ctx context.Context, name string) error {
		switch {
		case name == "held" && held.Load() > 0:
			select {
			case <-looked:
			case <-ctx.Done():
			}
		case name == "held":
			held.Store(int64(misses()) + 1)
			exec(holder, fmt.Sprintf("BEGIN; SELECT FROM accounts WHERE id = %d FOR UPDATE", account))
			exec(writer, fmt.Sprintf("UPDATE accounts SET note = 'the last' WHERE id = %d", account))
		case name == "granted" && !granted:
			granted = true
			if err := r.server["s0"].Exec(r.ctx(), r.dbs["s0"], "SELECT 1"); err != nil {
				t.Error(err)
			}
			seen, _ = r.server["s0"].Value(r.ctx(), r.dbs["s0"], note)
		}
		return nil
	})
	r.config.Options.Groups = 1
	r.start(Goal{Drain: "s1"})
	r.carry()
	r.untilFollowing()
	r.ask(WishCutover)
	r.until("an attempt has come too late, or all is cut over", func(j *Job) bool {
		before := int(held.Load())
		return before > 0 && misses() >= before || j.Progress.GroupsDone > 0
	})
	if got := r.value("s1", "SELECT last_value & 3 FROM pgtier.register_1"); r.job().Progress.GroupsDone == 0 && got != fmt.Sprint(stateOwned) {
		t.Errorf("the register of the source is %s after an attempt that was given up", got)
	}
	if r.job().Progress.GroupsDone == 0 {
		exec(writer, fmt.Sprintf("UPDATE accounts SET balance = balance WHERE id = %d", account)) // the source takes writes again
	}
	close(looked)
	exec(holder, "ROLLBACK")
	r.until("all is cut over", func(j *Job) bool { return j.Progress.GroupsDone == j.Progress.Groups })
	if seen != "the last" {
		t.Errorf("the target had note %q when it was granted", seen)
	}
	r.finish()
	r.leftovers()
}

func TestReferenceTablesAreFencedWhileAShardJoins(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	var mu sync.Mutex
	states := map[string]string{}
	r.setPoint(func(_ context.Context, name string) error {
		if name == "references drained" { // what is written from now on is not the stream's business: it would bring it once more
			slot := "SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database() AND slot_name ~ '_j0$'"
			for end := time.Now().Add(patience); r.value("s0", slot) != "0"; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Error("the stream of reference tables goes on behind the fence")
					break
				}
			}
		}
		if name != "references copied" && name != "references fenced" && name != "admitted" && name != "step follow" {
			return nil
		}
		err := r.server["s0"].Exec(r.ctx(), r.dbs["s0"], fmt.Sprintf("INSERT INTO countries VALUES ('%s', 'stray')", name))
		mu.Lock()
		defer mu.Unlock()
		states[name] = sqlState(err)
		return nil
	})
	r.start(Goal{Add: "s1"})
	r.carry()
	r.untilFollowing()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // the step is written down before its point
		mu.Lock()
		_, ok := states["step follow"]
		mu.Unlock()
		if ok || time.Now().After(end) {
			break
		}
	}
	for name, want := range map[string]string{"references copied": "", "references fenced": CodeFenced, "admitted": CodeFenced, "step follow": ""} {
		mu.Lock()
		if got, ok := states[name]; !ok || got != want {
			t.Errorf("a write that obeys nobody at point %q heard %q (%v), want %q", name, got, ok, want)
		}
		mu.Unlock()
	}
	if got := r.value("s1", "SELECT count(*) FROM countries WHERE code = 'references copied'"); got != "1" {
		t.Error("a write before the fence is not on the new shard")
	}
	r.cancel()
	r.leftovers()
}

// TestWritesThatWaitForAReferenceTableAreNotLost has a write wait for the table's lock, behind which it would come to the guard: a shard does not join before
// it is through.
func TestWritesThatWaitForAReferenceTableAreNotLost(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	holder, writer := r.link("s0"), r.link("s0")
	const fence = "query ~ 'IN SHARE ROW EXCLUSIVE MODE; SELECT pgtier.turn'"
	waits := func(condition string) bool {
		return r.value("s0", "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock' AND "+condition) != "0"
	}
	var once sync.Once
	begun, written, admitted := make(chan struct{}), make(chan error, 1), make(chan struct{}, 1)
	r.setPoint(func(_ context.Context, name string) error {
		switch name {
		case "foreign keys": // the guard is there, and nothing is fenced yet
			once.Do(func() {
				r.try(holder.run(r.ctx(), "BEGIN"))
				r.try(holder.run(r.ctx(), "LOCK TABLE public.countries IN SHARE MODE"))
				go func() { written <- writer.run(r.ctx(), "UPDATE public.countries SET name = 'late' WHERE code = 'c7'") }() // ends behind holder
				for !waits("query ~ '^UPDATE public.countries'") {
					time.Sleep(time.Millisecond)
				}
				close(begun)
			})
		case "admitted":
			admitted <- struct{}{}
		}
		return nil
	})
	r.start(Goal{Add: "s1"})
	r.carry()
	<-begun
	for waited := false; !waited; {
		select {
		case <-admitted: // and the write is still to come
			waited = true
		case <-time.After(time.Millisecond):
			waited = waits(fence)
		}
	}
	r.try(holder.run(r.ctx(), "COMMIT"))
	if err := <-written; err != nil && sqlState(err) != CodeFenced { // which a proxy sends again, for both shards
		t.Error(err)
	} else if err == nil {
		r.untilFollowing()
		if got := r.value("s1", "SELECT name FROM countries WHERE code = 'c7'"); got != "late" {
			t.Errorf("the new shard has %q, and the write was acknowledged", got)
		}
	}
	r.cancel()
	r.leftovers()
}

// TestAWishDuringARollbackComesBehindIt has people want something else while a rollback cannot come through.
func TestAWishDuringARollbackComesBehindIt(t *testing.T) {
	for _, c := range []struct {
		wish Wish
		back bool // all is rolled back in the end
	}{{WishVerify, true}, {WishCutover, false}} {
		t.Run(string(c.wish), func(t *testing.T) {
			r := newRig(t, servers.Cluster(t), 1)
			r.start(Goal{Add: "s1"})
			r.carry()
			r.untilFollowing()
			before := r.cutover()
			first := before.Moves[0].Groups[0].Spans
			id := 0
			for ; !slices.ContainsFunc(first, func(s shard.Span) bool { return s.First <= r.bucket(id) && r.bucket(id) <= s.Last }); id++ {
			}
			writer := r.link("s1")
			r.try(writer.run(r.ctx(), "BEGIN"))
			r.try(writer.run(r.ctx(), fmt.Sprintf("UPDATE public.accounts SET note = 'open' WHERE id = %d", id)))
			r.ask(WishRollback)
			misses := func(more int) {
				t.Helper()
				from := r.job().Progress.Misses
				r.until("attempts are taken back", func(j *Job) bool { return j.Progress.Misses >= from+more })
			}
			misses(1)
			r.ask(c.wish)
			misses(2) // so that the mover has heard of it
			r.try(writer.run(r.ctx(), "COMMIT"))
			after := r.until("both wishes have come true", func(j *Job) bool {
				return j.Answered() && j.Progress.Doing == "" && (j.Wish == WishStart && j.Progress.GroupsDone == 0 || j.Wish == WishCutover && j.Progress.GroupsDone == j.Progress.Groups)
			})
			if (after.Progress.GroupsDone == 0) != c.back {
				t.Errorf("%d of %d groups are cut over", after.Progress.GroupsDone, after.Progress.Groups)
			}
			if c.wish == WishVerify && !after.Progress.Verified.After(*before.Progress.Verified) {
				t.Error("rows were not compared")
			}
			if after.Wish == WishCutover {
				r.ask(WishRollback)
				r.until("all is rolled back", func(j *Job) bool { return j.Wish == WishStart && j.Progress.GroupsDone == 0 })
			}
			r.cancel()
			r.leftovers()
		})
	}
}

// TestSlowLoginsAreNoLag has every login take longer than a stream may be behind when a group is cut over.
func TestSlowLoginsAreNoLag(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	for name, dial := range r.config.Servers.Shards {
		r.config.Servers.Shards[name] = func(ctx context.Context, parameters map[string]string) (*pgconn.PgConn, error) {
			time.Sleep(r.config.lagLimit() + 50*time.Millisecond)
			return dial(ctx, parameters)
		}
	}
	r.start(Goal{Add: "s1"})
	r.carry()
	r.untilFollowing()
	r.cutover()
	r.finish()
	r.leftovers()
}
