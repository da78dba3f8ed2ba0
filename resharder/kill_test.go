package resharder

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// everyPoint are the points that a job passes which joins two shards, is rolled back once and finished.
var everyPoint = []string{"taken over", "step announce", "announced", "known", "schema outdated", "step schema", "schema", "step guard", "guarded", "step copy", "slot", "copying", "copy ends", "copied",
	"way back", "step index", "indexed", "step join", "references copied", "foreign keys", "references fenced", "references drained", "admitted", "step follow", "verified", "held", "fenced", "drained", "committed", "granted",
	"group done", "cut over", "rolled back", "step finish", "streams dropped", "guarded for good", "deleting", "registers dropped", "calm", "step done"}

// killer kills the mover at points.
type killer struct {
	mu    sync.Mutex
	seen  map[string]int // guarded by mu; how often each point was passed
	kills int            // guarded by mu
}

func (k *killer) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kills
}

// whole goes through a job: start, cutover, rollback, cutover, finish, with clients that write all the time.
func (r *rig) whole(goal Goal, clients *load) {
	r.start(goal)
	r.untilFollowing()
	clients.more(20)
	r.cutover()
	clients.more(20)
	r.ask(WishRollback)
	r.until("all is rolled back", func(j *Job) bool { return j.Step == StepFollow && j.Wish == WishStart && j.Progress.GroupsDone == 0 })
	clients.more(20)
	r.cutover()
	clients.more(20)
	r.finish()
}

func TestMoverIsKilledAtEveryPoint(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	k := &killer{seen: map[string]int{}}
	r.setPoint(func(_ context.Context, name string) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.seen[name]++
		if n := k.seen[name]; n == 1 || n == 3 {
			k.kills++
			return errKilled
		}
		return nil
	})
	clients := r.write(3, 1)
	clients.more(20)
	r.carry()
	r.whole(Goal{To: r.names[:3]}, clients)
	clients.more(20)
	clients.check(true)
	r.leftovers()
	for _, name := range everyPoint {
		if k.seen[name] == 0 {
			t.Errorf("point %q was never passed", name)
		}
	}
	for name := range k.seen {
		if !slices.Contains(everyPoint, name) {
			t.Errorf("point %q is new", name)
		}
	}
	t.Logf("%d kills", k.count())
}

// TestServersAndMoversAreKilledAtRandom has a server killed every now and then, control and home among them, and the mover at random points. PGTIER_SEED repeats one run.
func TestServersAndMoversAreKilledAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some minutes")
	}
	seed := rand.Uint64()
	if text := os.Getenv("PGTIER_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("PGTIER_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	// What was acknowledged must survive the kill of a server's processes, which it does without fsync.
	r := newRig(t, pgtest.Start(t, localpg.Options{Shards: 3}), 1)
	k := &killer{seen: map[string]int{}}
	pick := rand.New(rand.NewPCG(seed, 1))
	r.setPoint(func(_ context.Context, name string) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if pick.IntN(40) == 0 {
			k.kills++
			return errKilled
		}
		return nil
	})
	clients := r.write(3, 1)
	clients.more(20)
	r.carry()
	done := make(chan struct{})
	var killing sync.WaitGroup
	crashes := 0
	killing.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(1500+random.IntN(6000)) * time.Millisecond):
			}
			s := r.cluster.Shards[random.IntN(len(r.cluster.Shards))].Manager
			if err := s.Kill(); err != nil {
				t.Error(err)
				return
			}
			crashes++
			time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
			ctx, stop := context.WithTimeout(context.Background(), patience)
			err := s.Start(ctx)
			stop()
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	end := sync.OnceFunc(func() {
		close(done)
		killing.Wait()
	})
	defer end()
	r.calmly(func() { r.whole(Goal{To: r.names[:3]}, clients) })
	end()
	clients.more(20)
	clients.check(true)
	r.leftovers()
	t.Logf("%d kills of movers, %d of servers", k.count(), crashes)
}

// calmly runs a part of a test in which the control database may be gone at any moment.
func (r *rig) calmly(f func()) {
	r.patient = true
	defer func() { r.patient = false }()
	f()
}
