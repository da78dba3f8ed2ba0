package follow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/wire"
)

// course is one life of a stream. Its goroutine tells the sink, and owns everything here; one reads the stream, one asks the
// manager, and one at most mends the publication.
type course struct {
	f      *Follower
	asker  *asker
	stream *stream

	events    chan event
	ended     bool          // the stream is
	questions chan question // holds one
	answers   chan answer   // holds one
	asking    bool
	mended    chan error // holds one
	mending   bool
	done      chan struct{}
	helpers   sync.WaitGroup

	resumed bool     // the sink counts on us
	tables  *Tables  // that it counts on, once resumed
	sound   *Tables  // as of the last survey
	joining *joining // nil: nobody waits
	near    uint64   // an id given out lately
	at      LSN      // how far the stream is

	waiting      []*Commit // told if resumed, not yet visible, by commit
	waitingBytes int

	targets   []target
	nudgeAt   time.Time // not before
	lastPulse time.Time // when the last was sent
	lastProof time.Time // when the last was sent that became a target
	surveyAt  time.Time
	surveying uint64 // the calls of Refresh that the survey under way comes behind
	mendAt    time.Time
	settle    time.Duration // to the next question whether commits are visible
	mends     repeats
}

// joining are tables that become followed once all transactions have ended that were under way when they were seen to be published.
type joining struct {
	tables  *Tables
	running []uint64
}

// target is a position, and the moment that is proved when the stream has come there.
type target struct {
	at   LSN
	sent time.Time
}

const (
	// targetsMost bounds the targets that wait: with one each Ask, a stream that is further behind than these waits for the oldest.
	targetsMost = 16
	// waitingMost bounds the commits that wait for the manager's word: no more of the stream is read then. It takes a second of
	// silence at 65,000 commits a second.
	waitingMost = 1 << 16
	// surveyRest is the part of the time that may go by between surveys, in terms of what one took.
	surveyRest = 50
)

type question byte

const (
	askPulse question = iota
	askSurvey
	askNudge
)

// answer is one to a question.
type answer struct {
	question question
	pulse    pulse
	survey   *survey
	took     time.Duration
	err      error // the connection is lost, but for askNudge
}

func newCourse(f *Follower, a *asker, s *stream, near uint64) *course {
	return &course{f: f, asker: a, stream: s, near: near, events: make(chan event, 16), questions: make(chan question, 1), answers: make(chan answer, 1),
		mended: make(chan error, 1), done: make(chan struct{}), settle: f.cfg.Settle}
}

// run tells the sink until something fails or ctx ends. If the sink was told Resumed it has been told Lost when run returns.
func (c *course) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if c.resumed {
			c.f.counters.losses.Add(1)
			c.f.sink.Lost()
		}
		c.f.counters.waiting.Store(0)
		cancel()
		c.leave()
		close(c.done)
		close(c.questions)
		c.stream.close()
		c.asker.close()
		c.helpers.Wait()
	}()
	c.helpers.Go(func() { c.stream.read(c.events, c.done) }) // ends with the stream's connection
	c.helpers.Go(c.ask)                                      // ends with questions
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		events := c.events
		if len(c.waiting) >= waitingMost {
			events = nil
		}
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case why := <-c.f.reset:
			return fmt.Errorf("begin anew: %s", why)
		case e := <-events:
			err = c.take(e)
		case a := <-c.answers:
			c.asking = false
			err = c.hear(ctx, a)
		case mendErr := <-c.mended:
			c.mending = false
			c.surveyAt = time.Now()
			if mendErr != nil {
				c.mendAt = time.Now().Add(mendRest)
				c.mends.warn(c.f.log, "publication "+Publication+" is not as it should be", mendErr, false)
			}
		case <-c.f.wake:
		case <-c.f.refresh:
			c.surveyAt, c.mendAt = time.Now(), time.Time{}
		case <-timer.C:
		}
		if err != nil {
			return err
		}
		timer.Reset(c.next(time.Now()))
	}
}

// farewell is how long the server may take to hang up when it was told that we leave.
const farewell = time.Second

// leave tells the server that the stream is over and waits until it hangs up, so that the slot is gone when Run returns: as
// long as there is one the database cannot be dropped. A server that does not answer notices in its own time.
func (c *course) leave() {
	if c.ended || c.stream.write(wire.AppendTerminate(nil), farewell) != nil {
		return
	}
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	for {
		select {
		case e := <-c.events:
			if e.err != nil {
				return
			}
		case <-timer.C:
			return
		}
	}
}

// ask answers questions.
func (c *course) ask() {
	for q := range c.questions {
		a := answer{question: q}
		began := time.Now()
		switch q {
		case askPulse:
			a.pulse, a.err = c.asker.pulse()
		case askSurvey:
			a.survey, a.err = c.asker.survey(c.stream.slot)
		case askNudge:
			c.asker.limit = c.f.cfg.Stall // it waits for a disk
			if a.err = c.asker.run(nudgeQuery, nil); sqlState(a.err) != "" {
				if err := c.asker.run("ROLLBACK", nil); err != nil {
					a.err = err
				}
			}
			c.asker.limit = c.f.cfg.Silence
		}
		a.took = time.Since(began)
		c.answers <- a // has room: there is one question at a time
	}
}

// next asks what is due and returns how long nothing will be.
func (c *course) next(now time.Time) time.Duration {
	if c.asking {
		return time.Hour // the answer comes first
	}
	proof := c.f.cfg.Idle
	if c.f.used.Load() {
		proof = c.f.cfg.Ask
	}
	at := c.lastPulse.Add(proof)
	if len(c.waiting) > 0 || c.joining != nil {
		if soon := c.lastPulse.Add(c.settle); soon.Before(at) {
			at = soon
		}
	}
	q := askPulse
	if c.surveyAt.Before(at) {
		q, at = askSurvey, c.surveyAt
	}
	if wait := at.Sub(now); wait > 0 {
		return wait
	}
	if q == askPulse {
		c.lastPulse = now
	} else {
		c.surveying = c.f.wanted.Load() // first: it looks at what is there from here on
	}
	c.put(q)
	return time.Hour
}

// put has a question asked. None may be under way.
func (c *course) put(q question) {
	c.asking = true
	c.questions <- q // has room
}

// take is told by the stream.
func (c *course) take(e event) error {
	if e.err != nil {
		c.ended = true
		return e.err
	}
	// Protocol and server promise that positions grow; a commit behind its successor would break every proof.
	if e.commit != nil {
		if e.at < c.at {
			return fmt.Errorf("%w: a commit that ends at %s after the stream was at %s", errMalformed, e.at, c.at)
		}
		c.commit(e.commit)
	}
	c.at = max(c.at, e.at)
	c.prove()
	if e.reply {
		return c.stream.confirm(c.at, c.f.cfg.Silence)
	}
	return nil
}

// commit tells of a commit.
func (c *course) commit(commit *Commit) {
	commit.XID = widen(uint32(commit.XID), c.near)
	if c.waitingBytes+commit.bytes > c.f.cfg.MaxWaiting {
		commit.Whole, commit.Changes, commit.bytes = true, nil, 0
	}
	c.f.counters.transactions.Add(1)
	c.waiting = append(c.waiting, commit)
	c.waitingBytes += commit.bytes
	c.settle = c.f.cfg.Settle
	c.f.counters.waiting.Store(int64(len(c.waiting)))
	if c.resumed {
		c.f.sink.Changing(commit)
	}
}

// prove takes the targets that the stream has come to.
func (c *course) prove() {
	n := 0
	for n < len(c.targets) && c.targets[n].at <= c.at {
		n++
	}
	if n == 0 {
		return
	}
	if c.resumed {
		c.f.fresh.Store(max(c.f.fresh.Load(), int64(c.targets[n-1].sent.Sub(c.f.base))))
	}
	c.targets = append(c.targets[:0], c.targets[n:]...)
}

// hear takes an answer.
func (c *course) hear(ctx context.Context, a answer) error {
	switch a.question {
	case askNudge:
		return c.nudged(a.err)
	case askSurvey:
		if a.err != nil {
			return a.err
		}
		// A thousand proxies of large databases must not look all the time.
		c.surveyAt = time.Now().Add(max(c.f.cfg.Survey, surveyRest*a.took))
		if c.surveying != c.f.wanted.Load() { // asked for meanwhile
			c.surveyAt = time.Now()
		}
		err := c.surveyed(ctx, a.survey)
		c.f.looked.Store(c.surveying) // behind Resumed
		return err
	}
	if a.err != nil {
		return a.err
	}
	p := &a.pulse
	c.near = p.seen.xmax
	c.show(p)
	c.join(&p.seen)
	return c.aim(p)
}

// show tells of the commits that a snapshot shows.
func (c *course) show(p *pulse) {
	kept := c.waiting[:0]
	for _, commit := range c.waiting {
		if !p.seen.ended(commit.XID) {
			kept = append(kept, commit)
			continue
		}
		c.waitingBytes -= commit.bytes
		if c.resumed {
			c.f.sink.Changed(commit)
		}
	}
	if len(kept) == len(c.waiting) { // no progress: whoever waits for a standby waits for long
		c.settle = min(2*c.settle, max(c.f.cfg.Ask, c.f.cfg.Settle))
	}
	clear(c.waiting[len(kept):])
	c.waiting = kept
	c.f.counters.waiting.Store(int64(len(kept)))
}

// aim makes a pulse the next target, confirms what was told, and asks how far the stream is.
func (c *course) aim(p *pulse) error {
	if p.sent.Sub(c.lastProof) < c.f.cfg.Ask*3/4 { // it was for commits that wait
		return nil
	}
	c.lastProof = p.sent
	c.f.used.Store(false)
	if len(c.targets) < targetsMost {
		c.targets = append(c.targets, target{p.inserted, p.sent})
	}
	c.prove()
	if oldest := c.oldest(); oldest != nil && c.f.cfg.Nudge > 0 && p.flushed < oldest.at &&
		p.sent.Sub(oldest.sent) >= c.f.cfg.Nudge && p.sent.After(c.nudgeAt) {
		c.nudgeAt = p.sent.Add(c.f.cfg.Nudge)
		c.put(askNudge)
	}
	return c.stream.confirm(c.at, c.f.cfg.Silence)
}

// oldest is the first target that the stream has not come to, nil if it has come to all.
func (c *course) oldest() *target {
	if len(c.targets) == 0 {
		return nil
	}
	return &c.targets[0]
}

// nudgeRetry is the rest after the server refused to be nudged.
const nudgeRetry = time.Minute

// nudged takes the answer to a nudge.
func (c *course) nudged(err error) error {
	switch {
	case err == nil:
		c.f.counters.nudges.Add(1)
		return nil
	case sqlState(err) == "":
		return fmt.Errorf("make the manager flush its log: %w", err)
	}
	c.nudgeAt = time.Now().Add(nudgeRetry)
	c.f.log.Warn("cannot make the manager flush its log: freshness is proved late while transactions are open and nobody commits", zap.Error(err))
	return nil
}

// errElsewhere says that dial led to two servers.
var errElsewhere = errors.New("the replication slot is not on the server that answers: dial led to two servers, or it was dropped")

// surveyed takes a survey.
func (c *course) surveyed(ctx context.Context, s *survey) error {
	if !s.slot {
		return errElsewhere
	}
	if err := c.f.checkRetained(s.retained); err != nil {
		return err
	}
	if s.publication.key == "" {
		return fmt.Errorf("publication %s was dropped", Publication)
	}
	v := s.judge()
	c.sound = v.tables
	if c.resumed {
		c.publish(c.tables.keep(v.tables))
	}
	if c.joining != nil {
		c.joining.tables = c.joining.tables.keep(v.tables)
	} else if !c.resumed || v.tables.Len() > c.tables.Len() {
		c.joining = &joining{v.tables, s.running}
		c.settle = c.f.cfg.Settle
	}
	if len(v.mend) > 0 && !c.mending && time.Now().After(c.mendAt) {
		c.mending = true
		c.helpers.Go(func() { c.mended <- c.f.mend(ctx, v.mend) }) // ends with its statements, or with ctx
	}
	return nil
}

// join lets the tables in that wait, once nobody is under way who wrote to them before they were published.
func (c *course) join(seen *snapshot) {
	j := c.joining
	if j == nil {
		return
	}
	for i, xid := range j.running {
		if !seen.ended(xid) {
			j.running = j.running[i:]
			return
		}
	}
	c.joining = nil
	if c.resumed {
		joined := &Tables{followed: maps.Clone(c.tables.followed), left: c.sound.left}
		maps.Copy(joined.followed, j.tables.followed)
		c.publish(joined)
		return
	}
	c.resumed, c.tables = true, j.tables
	c.f.tables.Store(j.tables)
	c.f.trouble.Store(nil)
	c.f.sink.Resumed(j.tables)
	for _, commit := range c.waiting {
		c.f.sink.Changing(commit)
	}
	c.f.log.Info("writes that go past pgtier are followed", zap.String("slot", c.stream.slot), zap.Int("tables", j.tables.Len()),
		zap.Int("left_out", len(j.tables.left)))
}

// publish puts t in force and tells the sink if it has other tables than before.
func (c *course) publish(t *Tables) {
	same := maps.Equal(t.followed, c.tables.followed)
	c.tables = t
	c.f.tables.Store(t)
	if !same {
		c.f.sink.Resumed(t)
	}
}

// keep are those of t that have the same place in now, with what now says of others.
func (t *Tables) keep(now *Tables) *Tables {
	kept := &Tables{followed: make(map[uint32]place, len(t.followed)), left: now.left}
	for oid, at := range t.followed {
		if now.followed[oid] == at {
			kept.followed[oid] = at
		}
	}
	return kept
}
