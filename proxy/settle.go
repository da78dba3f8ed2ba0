package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router/shard"
)

// A transaction over several shards is decided by a row that its anchor commits together with its own data (see
// session.commitSeveral). What was prepared and not carried out, because the proxy or a server went away between, is
// settled here, by any proxy: it asks the anchor for the row, and where there is none it writes one that says "abort".
// The row's primary key makes that a race which one side loses: a coordinator that is only slow then cannot commit.

const (
	// settleEvery is how often the shards are asked for transactions that are left over.
	settleEvery = 10 * time.Second
	// settleAfter is how long a transaction may be prepared before it is looked into: its coordinator needs milliseconds.
	settleAfter = 3 * time.Second
	// settleAlarm is the age from which one that cannot be settled is reported as an error: it holds locks and keeps vacuum back.
	settleAlarm = time.Minute
	// settleKeep is how long decisions to abort are kept. It is longer than any transaction that may still be decided against one.
	settleKeep = 7 * 24 * time.Hour
	// settleDone is how long decisions to commit are kept: longer than a replica is behind that becomes the manager, for it may have the
	// transaction prepared and not carried out.
	settleDone = 5 * time.Minute
	// forgetBatch is how many decisions go in one statement, forgetMost how many statements there are in a round: 10,000 decisions a second.
	forgetBatch, forgetMost = 10_000, 10
)

// prefix begins the identifiers of d's transactions.
func (d *database) prefix() string { return session.IdentifierPrefix(d.name) }

// settler settles the transactions of one database.
type settler struct {
	d *database
	// nudge wakes it up.
	nudge chan struct{}
	asker // owned by run
}

func newSettler(p *Proxy, d *database) *settler {
	return &settler{d: d, nudge: make(chan struct{}, 1), asker: asker{p: p, d: d}}
}

// Nudge tells that there may be something to settle. Safe for concurrent use.
func (t *settler) Nudge() {
	select {
	case t.nudge <- struct{}{}:
	default:
	}
}

// run settles at once, then regularly, until ctx ends.
func (t *settler) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			t.hangUp()
			return
		case <-t.nudge:
			timer.Reset(settleAfter + 100*time.Millisecond)
			continue
		case <-timer.C:
		}
		left, err := t.round(ctx)
		if err != nil && ctx.Err() == nil {
			t.d.log.Warn("transactions over several shards could not all be settled", zap.Error(err))
		}
		t.hangUp()
		timer.Reset(settleEvery)
		if left > 0 {
			timer.Reset(settleAfter)
		}
	}
}

// inDoubt is a transaction that is prepared on a shard.
type inDoubt struct {
	part  *part
	gid   string
	owner string
	age   time.Duration
}

// round settles what is old enough, and returns how many transactions are left.
func (t *settler) round(ctx context.Context) (left int, err error) {
	if state, _ := t.d.cluster.state(); state == nil {
		return 0, nil // the map's watcher says why
	}
	var all []inDoubt
	whole := true // every shard has answered
	done, err := t.clocks(ctx)
	if err != nil {
		whole = false
	}
	for _, part := range t.parts() {
		found, failed := t.list(ctx, part)
		if failed != nil {
			whole = false
			err = errors.Join(err, fmt.Errorf("shard %s: %w", part.name(), failed))
		}
		all = append(all, found...)
	}
	t.d.inDoubt.Store(int64(len(all)))
	oldest := time.Duration(0)
	for _, x := range all {
		oldest = max(oldest, x.age)
	}
	t.d.oldestInDoubt.Store(int64(oldest))
	for _, x := range all {
		if x.age < settleAfter {
			left++
			continue
		}
		if failed := t.settle(ctx, x); failed != nil {
			left++
			err = errors.Join(err, fmt.Errorf("%s on shard %s: %w", x.gid, x.part.name(), failed))
			if x.age > settleAlarm {
				t.d.log.Error("a prepared transaction cannot be settled; it holds locks and keeps vacuum back", zap.String("gid", x.gid),
					zap.String("shard", x.part.name()), zap.Duration("age", x.age), zap.Error(failed))
			}
		}
	}
	if whole {
		err = errors.Join(err, t.forget(ctx, done, all))
	}
	return left, err
}

// parts are the shards that can have something to settle: all but those that are only in the configuration, and may not be there yet.
func (t *settler) parts() []*part {
	state := t.d.cluster.watcher.Load().State()
	return slices.DeleteFunc(slices.Clone(*t.d.parts.Load()), func(p *part) bool {
		name := shard.Name(p.name())
		return state.Unprepared[name] != nil && !slices.Contains(state.Members, name)
	})
}

// list asks a shard for its prepared transactions.
func (t *settler) list(ctx context.Context, part *part) (found []inDoubt, err error) {
	sql := "SELECT gid, owner, EXTRACT(epoch FROM pg_catalog.now() - prepared)::pg_catalog.text FROM pg_catalog.pg_prepared_xacts" +
		" WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, " + literal(t.d.prefix()) + ")"
	err = t.ask(ctx, part, t.d.ownRoleOn(part), sql, func(fields [][]byte) {
		seconds, _ := strconv.ParseFloat(string(fields[2]), 64)
		found = append(found, inDoubt{part: part, gid: string(fields[0]), owner: string(fields[1]), age: time.Duration(seconds * float64(time.Second))})
	})
	return found, err
}

// settle carries one transaction out, or undoes it.
func (t *settler) settle(ctx context.Context, x inDoubt) error {
	whole := x.gid[:max(0, strings.LastIndexByte(x.gid, ':'))] // without the name of the shard that takes part
	anchor, _, _ := strings.Cut(strings.TrimPrefix(whole, t.d.prefix()), ":")
	parts := *t.d.parts.Load()
	i := slices.IndexFunc(parts, func(p *part) bool { return p.name() == anchor })
	if i < 0 {
		return fmt.Errorf("its anchor %q is not in the configuration; add the shard again, or settle it by hand", anchor)
	}
	decision, err := t.decide(ctx, parts[i], whole)
	if err != nil {
		return fmt.Errorf("ask its anchor %s: %w", anchor, err)
	}
	act := "ROLLBACK PREPARED "
	if decision == "commit" {
		act = "COMMIT PREPARED "
	}
	return t.carryOut(ctx, x, act)
}

// carryOut does what was decided, unless somebody else has.
func (t *settler) carryOut(ctx context.Context, x inDoubt, act string) error {
	own := t.d.ownRoleOn(x.part)
	err := t.ask(ctx, x.part, own, act+literal(x.gid), nil)
	var refusal *wire.Error
	if errors.As(err, &refusal) && refusal.Code == "42501" && own != x.owner { // only its owner may, and a superuser
		err = t.askAs(ctx, x, act+literal(x.gid))
	}
	if errors.As(err, &refusal) && refusal.Code == "42704" {
		return nil // somebody else was quicker
	}
	if err == nil {
		t.d.log.Info("settled a transaction over several shards", zap.String("gid", x.gid), zap.String("shard", x.part.name()), zap.String("by", strings.TrimSpace(act)))
	}
	return err
}

const (
	// insistLeast and insistMost bound the pause between two attempts to carry out a commit on a shard that was lost.
	insistLeast, insistMost = 20 * time.Millisecond, 500 * time.Millisecond
)

// insist carries a commit out that the transaction's anchor has made, for a session that waits for it: see session.Cluster.Finish.
func (t *settler) insist(ctx context.Context, name, role, gid string) error {
	parts := *t.d.parts.Load()
	i := slices.IndexFunc(parts, func(p *part) bool { return p.name() == name })
	if i < 0 {
		return fmt.Errorf("shard %q is not in the configuration any more", name)
	}
	own := settler{d: t.d, asker: asker{p: t.p, d: t.d}} // the settler's own connections are another goroutine's
	defer own.hangUp()
	x := inDoubt{part: parts[i], gid: gid, owner: role}
	for pause := insistLeast; ; pause = min(2*pause, insistMost) {
		err := own.carryOut(ctx, x, "COMMIT PREPARED ")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// askAs runs one statement as the owner of a prepared transaction: pgtier's own role may become that role, or its password
// may be known because a client has logged in as it.
func (t *settler) askAs(ctx context.Context, x inDoubt, sql string) error {
	own := t.d.ownRoleOn(x.part)
	if t.ask(ctx, x.part, own, "SET ROLE "+identifier(x.owner), nil) != nil {
		return t.ask(ctx, x.part, x.owner, sql, nil)
	}
	err := t.ask(ctx, x.part, own, sql, nil)
	return errors.Join(err, t.ask(ctx, x.part, own, "RESET ROLE", nil))
}

// decide returns what the anchor has decided, deciding itself where it has not. One that is about to commit is waited for.
func (t *settler) decide(ctx context.Context, anchor *part, gid string) (decision string, err error) {
	state, err := t.d.cluster.state()
	if err != nil {
		return "", err
	}
	err = t.ask(ctx, anchor, t.d.ownRoleOn(anchor), state.Seal.Settle(gid), func(fields [][]byte) { decision = string(fields[0]) })
	if err == nil && decision == "" {
		err = errors.New("it does not say")
	}
	return decision, err
}

// clocks asks every shard for its time, in seconds since 1970.
func (t *settler) clocks(ctx context.Context) (now map[*part]string, err error) {
	now = map[*part]string{}
	for _, part := range t.parts() {
		failed := t.ask(ctx, part, t.d.ownRoleOn(part), "SELECT EXTRACT(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.text", func(fields [][]byte) { now[part] = string(fields[0]) })
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("shard %s: %w", part.name(), failed))
		}
	}
	return now, err
}

// forget drops decisions that nobody can have to ask for any more. Those to commit go when no part is prepared, which is so once and for
// all: all parts were before the decision was made. now is from before all shards have told what is prepared there, so that
// parts of what was decided before settleDone were looked for after they were prepared.
func (t *settler) forget(ctx context.Context, now map[*part]string, all []inDoubt) (err error) {
	left := ""
	for _, x := range all {
		left += " AND NOT pg_catalog.starts_with(" + literal(x.gid) + ", gid || ':')"
	}
	for _, part := range t.parts() {
		if now[part] == "" {
			continue // it has joined since
		}
		older := func(decision string, keep time.Duration) string {
			return fmt.Sprintf("decision = '%s' AND at < pg_catalog.to_timestamp(%s) - interval '%d seconds'", decision, now[part], int(keep.Seconds()))
		}
		for _, which := range []string{older("commit", settleDone), older("abort", settleKeep)} {
			sql := fmt.Sprintf("WITH old AS (SELECT gid FROM pgtier.xact WHERE %s AND pg_catalog.starts_with(gid, %s)%s ORDER BY at LIMIT %d), gone AS (DELETE FROM pgtier.xact AS x USING old WHERE x.gid = old.gid RETURNING 1)"+
				" SELECT pg_catalog.count(*) FROM gone", which, literal(t.d.prefix()), left, forgetBatch)
			if failed := t.forgetOn(ctx, part, sql); failed != nil {
				err = errors.Join(err, fmt.Errorf("shard %s: forget old decisions: %w", part.name(), failed))
			}
		}
	}
	return err
}

// forgetOn drops decisions on one shard, batch by batch.
func (t *settler) forgetOn(ctx context.Context, part *part, sql string) error {
	for range forgetMost {
		count := 0
		err := t.ask(ctx, part, t.d.ownRoleOn(part), sql, func(fields [][]byte) { count, _ = strconv.Atoi(string(fields[0])) })
		if err != nil || count < forgetBatch {
			return err
		}
	}
	return nil
}

// identifier writes name as a quoted identifier.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal writes text as a string literal, for names that hold no backslash.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
