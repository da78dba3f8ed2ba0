package resharder

import (
	"context"
	"sync"
	"testing"
	"time"
)

// cutFirst cuts one group over, and then takes away what a source loses when its replica takes its place: the slot.
func (r *rig) cutFirst() {
	r.t.Helper()
	reached := make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	r.setPoint(func(ctx context.Context, name string) error {
		if name == "group done" {
			once()
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	stop := r.carry()
	r.untilFollowing()
	r.ask(WishCutover)
	<-reached
	stop()
	r.setPoint(nil)
	for end := time.Now().Add(patience); r.value("s1", "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'pgtier%' AND database = current_database()") != "0"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal("the slot is in use still")
		}
		_ = r.server["s1"].Exec(r.ctx(), r.dbs["s1"], "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'pgtier%' AND database = current_database() AND NOT active")
	}
}

// TestMoveThatIsCutInPartGoesOnWhenItsStreamIsLost goes both ways on that there are then.
func TestMoveThatIsCutInPartGoesOnWhenItsStreamIsLost(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	clients := r.write(2, 1)
	before := r.current().Map.String()
	r.start(Goal{Drain: "s1"})
	r.cutFirst()
	stop := r.carry()
	r.untilStopped("1 of 3 groups are cut over")
	clients.more(20)
	r.ask(WishRollback)
	r.untilStopped("have to be copied anew")
	if after := r.current().Map.String(); after != before {
		t.Errorf("the map is %s, was %s", after, before)
	}
	clients.more(20)
	clients.check(false)
	stop()

	clients.again(2, 1)
	r.ask(WishStart)
	r.cutFirst()
	r.carry()
	r.untilStopped("1 of 3 groups are cut over")
	clients.more(20)
	r.finish()
	clients.more(20)
	clients.check(true)
	r.leftovers()
	cur := r.current()
	if first := r.job().Moves[0].Groups[0].Spans; len(cur.Members) != 2 || len(cur.Map.Buckets("s0")) != 32+len(bucketsOf(first)) {
		t.Errorf("the map is %s with members %v", cur.Map, cur.Members)
	}
}
