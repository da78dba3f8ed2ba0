package movetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// killer kills proxies and servers one after another, and starts each again after a moment.
type killer struct {
	r      *rig
	random *rand.Rand
	stop   chan struct{}
	work   sync.WaitGroup

	mu    sync.Mutex
	kills map[string]int // guarded by mu; by who was killed
	last  []string       // guarded by mu; the last kills, for who looks into a failure
}

// kill starts to kill; pause is the mean time between two.
func (r *rig) kill(random *rand.Rand, pause time.Duration) *killer {
	k := &killer{r: r, random: random, stop: make(chan struct{}), kills: map[string]int{}}
	k.work.Go(func() { // ends with stop
		for {
			select {
			case <-k.stop:
				return
			case <-time.After(pause/4 + time.Duration(random.Int64N(int64(pause+pause/2)))):
			}
			if err := k.one(); err != nil {
				r.t.Error(err)
				return
			}
		}
	})
	r.t.Cleanup(k.end)
	return k
}

// one kills somebody.
func (k *killer) one() error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	down := time.Duration(k.random.IntN(700)) * time.Millisecond
	n := k.random.IntN(len(k.r.proxies) + len(k.r.cluster.Shards))
	if n < len(k.r.proxies) {
		d := k.r.proxies[n]
		k.note(d.name)
		d.kill()
		time.Sleep(down)
		return d.start(ctx)
	}
	s := k.r.cluster.Shards[n-len(k.r.proxies)].Manager
	k.note(s.Name)
	if err := s.Kill(); err != nil {
		return err
	}
	time.Sleep(down)
	return s.Start(ctx)
}

func (k *killer) note(who string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kills[who]++
	k.last = append(k.last, fmt.Sprintf("%s %s", time.Now().UTC().Format("15:04:05.000"), who))
	k.last = k.last[max(0, len(k.last)-40):]
}

// end stops killing; everybody runs then.
func (k *killer) end() {
	k.mu.Lock()
	select {
	case <-k.stop:
	default:
		close(k.stop)
	}
	k.mu.Unlock()
	k.work.Wait()
}

// sum is how many there were.
func (k *killer) sum() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, times := range k.kills {
		n += times
	}
	return n
}

// insist runs a reshard command until it has done what it is for: every one can be repeated. Servers and proxies are killed meanwhile. It returns false where
// one of the texts has been said, which say that there is nothing to do any more.
func (r *rig) insist(enough []string, args ...string) bool {
	r.t.Helper()
	last := ""
	for end := time.Now().Add(2 * patience); ; time.Sleep(300 * time.Millisecond) {
		status, out := r.command(r.ctx(), append([]string{"reshard"}, args...)...)
		if status == 0 {
			return true
		}
		for _, text := range enough {
			if strings.Contains(out, text) {
				return false
			}
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if said := lines[len(lines)-1]; said != last {
			last = said
			r.t.Logf("%s pgtier reshard %s: %s", time.Now().UTC().Format("15:04:05.000"), strings.Join(args, " "), said)
		}
		if r.t.Failed() {
			return false
		}
		if time.Now().After(end) {
			r.t.Errorf("pgtier reshard %s has not come to its end: %s", strings.Join(args, " "), out)
			return false
		}
	}
}

// job moves buckets in a random way: straight, back and forth, or not at all in the end.
func (r *rig) job(random *rand.Rand) {
	names := []string{"s0", "s1", "s2", "s3"}
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:1+random.IntN(len(names))]
	slices.Sort(names)
	goal := []string{"--to", strings.Join(names, ",")}
	way := random.IntN(6)
	r.t.Logf("%s job %v, way %d", time.Now().UTC().Format("15:04:05.000"), names, way)
	if way == 0 {
		r.insist(nil, append([]string{"start", "--auto"}, goal...)...)
		r.insist(over, "finish")
		return
	}
	r.insist(nil, append([]string{"start"}, goal...)...)
	switch way {
	case 1:
		r.insist(over, "cancel")
		return
	case 2: // back from wherever it is
		ctx, stop := context.WithTimeout(r.ctx(), time.Duration(random.IntN(3000))*time.Millisecond)
		r.command(ctx, "reshard", "cutover")
		stop()
		if r.insist(over, "rollback") {
			r.insist(over, "cancel")
		}
		return
	case 3:
		if !r.insist(over, "cutover") || !r.insist(over, "rollback") {
			return
		}
	}
	if r.insist(over, "cutover") {
		r.insist(over, "finish")
	}
}

// over are the words of errors that say that there is nothing to do any more.
var over = []string{"start another one", "there is no job", "the job is done", "the job is cancelled", "has never had a job"}

// TestMovesSurviveKills moves buckets to and fro while proxies and servers are killed, the mover, source, target and control among them.
func TestMovesSurviveKills(t *testing.T) {
	t.Parallel()
	long := time.Duration(number(t, "PGTIER_MOVES_SECONDS", 15)) * time.Second
	streams := randomly(t)
	r := newRig(t)
	l := newLoad(r, true)
	driving, killing := streams(), streams()
	l.start(streams, 4, 4)
	l.more(100)
	r.widen()
	r.untilPossible("--to", "s0,s1,s2,s3")
	k := r.kill(killing, 5*time.Second)
	jobs := 0
	for end := time.Now().Add(long); (time.Now().Before(end) || k.sum() < 5) && !t.Failed(); jobs++ {
		r.job(driving)
	}
	k.end()
	t.Logf("%d kills %v in %d jobs", k.sum(), k.kills, jobs)
	if t.Failed() {
		t.Logf("the last kills: %s", strings.Join(k.last, "; "))
	}
	r.insist(nil, "start", "--auto", "--to", "s0,s1,s2")
	r.insist(over, "finish")
	l.more(100)
	r.spreads("s0", "s1", "s2")
	l.check()
	l.linearizable()
	r.leftovers()
	r.sane()
	for _, row := range r.rows(r.cluster.Shards[3].Manager.URL(r.control, "", ""), "SELECT step, count(*), sum(jsonb_array_length(coalesce(progress::jsonb->'cuts', '[]'))), sum((progress::jsonb->>'misses')::int) FROM pgtier.job GROUP BY step") {
		t.Logf("jobs that are %s: %s, with %s cuts, %s attempts taken back", row[0], row[1], row[2], row[3])
	}
}
