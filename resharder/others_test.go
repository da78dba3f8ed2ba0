package resharder

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestMoverEndsNoSessionOfStrangers has somebody else's session named as a mover's are, and an earlier mover's still there.
func TestMoverEndsNoSessionOfStrangers(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	stranger := r.pgx("stranger", 1)
	run := func(conn *pgx.Conn, sql string) error {
		_, err := conn.Exec(context.Background(), sql)
		return err
	}
	r.try(run(stranger, "SET application_name = 'pgtier move of furniture'"))
	earlier := newMover(&r.config, r.journal(), r.link("s0"), &Job{Number: 1, Moves: []Move{{Source: "s1", Target: "s0"}}}, func() {})
	t.Cleanup(earlier.leave)
	left, err := earlier.dial("s1")(r.ctx(), settings())
	r.try(err)
	t.Cleanup(func() { hangUp(left) })
	r.start(Goal{Drain: "s1"})
	r.carry()
	r.untilFollowing()
	if err := run(stranger, "SELECT 1"); err != nil {
		t.Errorf("a stranger's session: %v", err)
	}
	if err := query(r.ctx(), left, "SELECT 1", func([][]byte) error { return nil }); sqlState(err) != "57P01" {
		t.Errorf("the session of an earlier mover has heard %v", err)
	}
	r.cancel()
}

// TestStartDoesNotEndWhatOthersWaitFor asks for start while groups are cut over.
func TestStartDoesNotEndWhatOthersWaitFor(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	reached := r.hold("held")
	r.start(Goal{Drain: "s1"})
	stop := r.carry()
	r.untilFollowing()
	r.ask(WishCutover)
	<-reached
	if _, err := r.journal().Ask(r.ctx(), WishStart, false); err == nil || !strings.Contains(err.Error(), "cutover is under way") {
		t.Errorf("start during a cutover: %v", err)
	}
	stop()
	r.setPoint(nil)
	r.carry()
	r.cutover()
	r.ask(WishStart) // it is through
	r.ask(WishRollback)
	r.until("all is rolled back", func(j *Job) bool { return j.Wish == WishStart && j.Progress.GroupsDone == 0 })
	r.cancel()
	r.leftovers()
}

// TestNewShardIsGuardedFromItsFirstMoment has somebody write past pgtier as soon as the new shard has tables.
func TestNewShardIsGuardedFromItsFirstMoment(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	var refused []error
	r.setPoint(func(ctx context.Context, name string) error {
		if name == "schema" && refused == nil {
			for _, sql := range []string{"INSERT INTO accounts (id) VALUES (1)", "INSERT INTO entries (account, id) VALUES (1, 'astray')", "INSERT INTO entries_1 (account, id) VALUES (1, 'astray')"} {
				refused = append(refused, r.server["s1"].Exec(ctx, r.dbs["s1"], sql))
			}
		}
		return nil
	})
	r.carry()
	r.start(Goal{Add: "s1"})
	r.untilFollowing()
	for _, err := range refused[:2] {
		if sqlState(err) != CodeFenced {
			t.Errorf("got %v, want %s", err, CodeFenced)
		}
	}
	if err := refused[2]; err == nil {
		t.Error("a partition takes rows")
	}
	r.cancel()
	r.leftovers()
	if rows := r.value("s1", "SELECT count(*) FROM entries"); rows != "0" {
		t.Errorf("%s rows are there", rows)
	}
}
