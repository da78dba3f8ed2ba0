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

const (
	// killsLeast is how many kills there are in any case.
	killsLeast = 5
	// mercy is how many kills a job has to bear in one place: on a busy machine a step that takes longer than the time between two would never come to its end.
	mercy = 2
	// standstill is how long a job may stay in one place while nobody is killed, and how long any other wait may take: a busy machine needs some 20 s for a step, and a killed proxy's
	// lease is waited for as long.
	standstill = 90 * time.Second
	// killMore is how long a job that is under way may be disturbed at the end of the time that is asked for; wholeLimit bounds all that comes besides it.
	killMore   = 2 * time.Minute
	wholeLimit = 5 * time.Minute
)

// killer kills proxies and servers one after another, and starts each again after a moment.
type killer struct {
	r      *rig
	random *rand.Rand
	stop   chan struct{}
	work   sync.WaitGroup
	starts func(*daemon, *rand.Rand) // is told of a proxy that runs again

	// Of the killing goroutine: where the job stood at the last kill, and how many there were since it has come there.
	place string
	borne int

	mu    sync.Mutex
	kills map[string]int // guarded by mu; by who was killed
	last  []string       // guarded by mu; the last kills, for who looks into a failure
	ended time.Time      // guarded by mu; when whoever was killed last ran again
}

// kill starts to kill, for so long at most; pause is the mean time between two. starts is told of proxies that run again.
func (r *rig) kill(random *rand.Rand, pause, most time.Duration, starts func(*daemon, *rand.Rand)) *killer {
	k := &killer{r: r, random: random, stop: make(chan struct{}), kills: map[string]int{}, starts: starts}
	k.work.Go(func() { // ends with stop, or by itself
		for end := time.Now().Add(most); time.Now().Before(end) || k.sum() < killsLeast; {
			select {
			case <-k.stop:
				return
			case <-time.After(pause/4 + time.Duration(random.Int64N(int64(pause+pause/2)))):
			}
			if k.spares() {
				continue
			}
			if err := k.one(); err != nil {
				r.t.Error(err)
				return
			}
			k.mu.Lock()
			k.ended = time.Now()
			k.mu.Unlock()
		}
	})
	r.t.also(k.say)
	r.t.Cleanup(k.end)
	return k
}

// spares reports whether the job has to get on before anybody else is killed.
func (k *killer) spares() bool {
	if place := k.r.standing(); place != k.place && place != "" {
		k.place, k.borne = place, 0
	}
	k.borne++
	return k.borne > mercy
}

// say tells who was killed.
func (k *killer) say() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fmt.Sprintf("kills: %v; the last: %s", k.kills, strings.Join(k.last[max(0, len(k.last)-10):], "; "))
}

// calm is since when nobody is killed.
func (k *killer) calm() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

// one kills somebody.
func (k *killer) one() error {
	ctx, stop := context.WithTimeout(context.Background(), k.r.patience)
	defer stop()
	down := time.Duration(k.random.IntN(700)) * time.Millisecond
	proxies := k.r.proxies
	if k.r.keeps && !k.r.apart {
		proxies = proxies[1:]
	}
	n := k.random.IntN(len(proxies) + len(k.r.cluster.Shards))
	if n < len(proxies) {
		d := proxies[n]
		k.note(d.name)
		k.r.countAnswers(d)
		d.kill()
		time.Sleep(down)
		if err := d.start(ctx); err != nil {
			return err
		}
		k.starts(d, k.random)
		return nil
	}
	s := k.r.cluster.Shards[n-len(proxies)].Manager
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
// one of the texts has been said, which say that there is nothing to do any more, and where the test has failed.
func (k *killer) insist(enough []string, args ...string) bool {
	r := k.r
	r.t.Helper()
	what := "pgtier reshard " + strings.Join(args, " ")
	last, place, since := "", r.standing(), time.Now()
	for ; ; time.Sleep(300 * time.Millisecond) {
		ctx, stop := context.WithTimeout(context.Background(), standstill/2) // one that waits in vain is said again too
		status, out := r.command(ctx, append([]string{"reshard"}, args...)...)
		stop()
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
			r.t.Logf("%s %s: %s", time.Now().UTC().Format("15:04:05.000"), what, said)
		}
		if now := r.standing(); now != place && now != "" {
			place, since = now, time.Now()
		}
		if calm := k.calm(); calm.After(since) {
			since = calm
		}
		switch {
		case r.t.Failed():
			return false
		case time.Since(since) > standstill:
			r.t.Errorf("%s: nothing has got on for %.0f s, and nobody was killed: %s", what, time.Since(since).Seconds(), last)
			return false
		case time.Now().After(r.end):
			r.t.Errorf("%s has not come to its end, and the whole took too long: %s", what, last)
			return false
		}
	}
}

// job moves buckets in a random way: straight, back and forth, or not at all in the end.
func (k *killer) job(random *rand.Rand) {
	r := k.r
	names := []string{"s0", "s1", "s2", "s3"}
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:1+random.IntN(len(names))]
	slices.Sort(names)
	goal := []string{"--to", strings.Join(names, ",")}
	way := random.IntN(6)
	r.t.Logf("%s job %v, way %d", time.Now().UTC().Format("15:04:05.000"), names, way)
	if way == 0 {
		k.insist(nil, append([]string{"start", "--auto"}, goal...)...)
		k.insist(over, "finish")
		return
	}
	k.insist(nil, append([]string{"start"}, goal...)...)
	switch way {
	case 1:
		k.insist(over, "cancel")
		return
	case 2: // back from wherever it is
		ctx, stop := context.WithTimeout(r.ctx(), time.Duration(random.IntN(3000))*time.Millisecond)
		r.command(ctx, "reshard", "cutover")
		stop()
		if k.insist(over, "rollback") {
			k.insist(over, "cancel")
		}
		return
	case 3:
		if !k.insist(over, "cutover") || !k.insist(over, "rollback") {
			return
		}
	}
	if k.insist(over, "cutover") {
		k.insist(over, "finish")
	}
}

// over are the words of errors that say that there is nothing to do any more.
var over = []string{"start another one", "there is no job", "the job is done", "the job is cancelled", "has never had a job"}

// TestMovesSurviveKills moves buckets to and fro while proxies and servers are killed, the mover, source, target and control among them.
func TestMovesSurviveKills(t *testing.T) {
	t.Parallel()
	long := time.Duration(number(t, "PGTIER_MOVES_SECONDS", 15)) * time.Second
	r := newRandomRig(t)
	r.patience, r.end = standstill, time.Now().Add(long+wholeLimit)
	streams := r.randomly()
	l := newLoad(r, true)
	driving, killing := streams(), streams()
	l.start(streams, 4, 4)
	l.more(100)
	r.widen()
	r.untilPossible("--to", "s0,s1,s2,s3")
	k := r.kill(killing, 5*time.Second, long+killMore, l.rush)
	jobs := 0
	for end := time.Now().Add(long); (time.Now().Before(end) || k.sum() < killsLeast) && !t.Failed(); jobs++ {
		k.job(driving)
	}
	k.end()
	t.Logf("%d kills %v in %d jobs", k.sum(), k.kills, jobs)
	if t.Failed() {
		t.Fatalf("the last kills: %s", strings.Join(k.last, "; "))
	}
	k.insist(nil, "start", "--auto", "--to", "s0,s1,s2")
	k.insist(over, "finish")
	if t.Failed() {
		t.FailNow()
	}
	l.more(100)
	r.spreads("s0", "s1", "s2")
	l.check()
	l.linearizable()
	r.leftovers()
	r.sane()
	for _, row := range r.rows(r.controlURL(), "SELECT step, count(*), sum(jsonb_array_length(coalesce(progress::jsonb->'cuts', '[]'))), sum((progress::jsonb->>'misses')::int) FROM pgtier.job GROUP BY step") {
		t.Logf("jobs that are %s: %s, with %s cuts, %s attempts taken back", row[0], row[1], row[2], row[3])
	}
}
