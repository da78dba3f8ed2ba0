package resharder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// next does what comes next. Every step can be done again from its beginning.
func (m *mover) next(ctx context.Context) (rest time.Duration, err error) {
	if m.job.Wish == WishCancel && m.job.Step != StepCancel {
		return 0, m.beginCancel(ctx)
	}
	switch m.job.Step {
	case StepPlanned:
		return 0, m.advance(ctx, StepAnnounce)
	case StepAnnounce:
		return 0, m.then(ctx, m.announce, StepSchema)
	case StepSchema:
		return 0, m.then(ctx, m.schemas, StepGuard)
	case StepGuard:
		return 0, m.then(ctx, m.guard, StepCopy)
	case StepCopy:
		return 0, m.then(ctx, m.copy, StepIndex)
	case StepIndex:
		return 0, m.then(ctx, m.watched(m.index), StepJoin)
	case StepJoin:
		return 0, m.then(ctx, m.watched(m.join), StepFollow)
	case StepFollow:
		return m.serve(ctx)
	case StepFinish:
		return 0, m.then(ctx, m.finish, StepDone)
	case StepCancel:
		return 0, m.then(ctx, m.cancel, StepCancelled)
	}
	return 0, &fatal{fmt.Errorf("the job is at step %q, which this version does not know; let a newer pgtier carry it on", m.job.Step)}
}

// then does a step and writes down the one after it.
func (m *mover) then(ctx context.Context, do func(context.Context) error, step Step) error {
	if err := do(ctx); err != nil {
		return err
	}
	return m.advance(ctx, step)
}

// announce has all proxies refuse changes of the schema, and know which buckets will stand on two shards, before a row of them does. They read then once more what code
// there is: so the schema comes first.
func (m *mover) announce(ctx context.Context) error {
	m.doing("waits until all proxies know what moves")
	if err := m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Frozen = true
		return nil
	}); err != nil {
		return err
	}
	if err := m.at(ctx, "announced"); err != nil {
		return err
	}
	if err := m.await(ctx); err != nil {
		return err
	}
	if err := m.at(ctx, "known"); err != nil {
		return err
	}
	targets := map[shard.Name]bool{}
	for i := range m.job.Moves {
		targets[m.job.Moves[i].Target] = true
	}
	if err := m.outdateSchema(ctx); err != nil {
		return err
	}
	if err := m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Moving, next.Motion.Groups = m.spans(), m.announced()
		return nil
	}); err != nil {
		return err
	}
	if err := m.await(ctx); err != nil {
		return err
	}
	if err := m.answered(ctx, m.involved()...); err != nil { // they would see rows twice, or have locked some that do not stay for that
		return err
	}
	for _, name := range m.involved() {
		if err := m.older(ctx, name, targets[name]); err != nil {
			return err
		}
	}
	return nil
}

// schemas gives new shards what rows need.
func (m *mover) schemas(ctx context.Context) error {
	for _, name := range m.job.Joins {
		m.doing("creates the schema of shard %s", name)
		schema := m.schema(name)
		var err error
		if schema.Also, err = m.closed(ctx); err != nil {
			return err
		}
		if err := schema.Before(ctx); err != nil {
			return fmt.Errorf("create the schema of shard %s: %w", name, err)
		}
		if err := m.at(ctx, "schema"); err != nil {
			return err
		}
	}
	return nil
}

// closed is SQL that guards all tables of a new shard against all clients: nobody writes there before the job's own guards are in their place.
func (m *mover) closed(ctx context.Context) (string, error) {
	cur, err := m.current(ctx)
	if err != nil {
		return "", err
	}
	tables, err := m.tables(ctx, m.c.Map.Home)
	if err != nil {
		return "", err
	}
	g := Guard{Epoch: cur.Map.Version(), Foreign: []shard.Span{{First: 0, Last: shard.Bucket(cur.Map.Len() - 1)}}} //nolint:gosec // at most 65536
	var sql strings.Builder
	for _, t := range tables {
		sql.WriteString(g.install(t))
	}
	return sql.String(), nil
}

// schema is that of home, for a new shard.
func (m *mover) schema(target shard.Name) *stream.Schema {
	return &stream.Schema{Source: m.server(m.c.Map.Home), Target: m.server(target), Libpq: m.c.Libpq(m.c.Map.Home)}
}

// guard makes registers and guards: at targets so that no client writes before the grant, at sources so that none does after the fence.
func (m *mover) guard(ctx context.Context) error {
	epoch, err := m.epoch(ctx)
	if err != nil {
		return err
	}
	for _, name := range m.involved() {
		m.doing("installs the guards of shard %s", name)
		for i := range m.job.Moves {
			move := &m.job.Moves[i]
			state := stateOwned
			switch name {
			case move.Source:
			case move.Target:
				state = stateImporting
			default:
				continue
			}
			for _, group := range move.Groups {
				create := fmt.Sprintf("CREATE SEQUENCE IF NOT EXISTS pgtier.register_%d MINVALUE 0 START 0; REVOKE ALL ON pgtier.register_%[1]d FROM PUBLIC; ", group.Number)
				if err := m.links[name].run(ctx, create+m.turnSQL(group.Number, epoch*4+int64(state), stateForeign, stateImporting, stateOwned, stateFenced)); err != nil {
					return err
				}
			}
		}
		if err := m.reguard(ctx, name, true); err != nil {
			return err
		}
		if err := m.at(ctx, "guarded"); err != nil {
			return err
		}
	}
	return nil
}

// reguard gives the tables of a shard the guards that they should have: of the job's groups where live, and of all other buckets that the shard does not own.
func (m *mover) reguard(ctx context.Context, name shard.Name, live bool) error {
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	g := Guard{Epoch: cur.Map.Version()}
	moving := map[shard.Bucket]bool{}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if live && (move.Source == name || move.Target == name) {
			g.Live = append(g.Live, move.Groups...)
			for _, b := range bucketsOf(move.Spans()) {
				moving[b] = true
			}
		}
	}
	var foreign []shard.Bucket
	for b := range cur.Map.Len() {
		owner, _ := cur.Map.Owner(shard.Bucket(b))
		if owner != name && !moving[shard.Bucket(b)] {
			foreign = append(foreign, shard.Bucket(b))
		}
	}
	g.Foreign = shard.SpansOf(foreign...)
	tables, err := m.tables(ctx, name)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := m.guardTable(ctx, name, t, &g); err != nil {
			return err
		}
	}
	return nil
}

// guardTable installs or removes the guard of one table, unless it is as it should be. It waits for writers in short turns.
func (m *mover) guardTable(ctx context.Context, name shard.Name, t *stream.Table, g *Guard) error {
	l := m.links[name]
	there, err := l.value(ctx, fmt.Sprintf("SELECT coalesce(obj_description(to_regprocedure('pgtier.%s()'), 'pg_proc'), '') || ' ' || (SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass AND starts_with(tgname, '%s'))",
		function(t), literal(sqlName(t)), guardPrefix))
	if err != nil {
		return err
	}
	triggers := 3
	if len(g.Live) > 0 {
		triggers = 4
	}
	if len(g.spans()) == 0 {
		if there == " 0" {
			return nil
		}
		if err := m.dropTriggers(ctx, name, t, "insert", "delete", "update", "truncate"); err != nil {
			return err
		}
		return l.run(ctx, fmt.Sprintf("DROP FUNCTION IF EXISTS pgtier.%s()", function(t)))
	}
	if there == fmt.Sprintf("%s %d", g.signature(t), triggers) {
		return nil
	}
	if err := m.lockedTurns(ctx, name, t, g.install(t)); err != nil || len(g.Live) > 0 {
		return err
	}
	return m.dropTriggers(ctx, name, t, "truncate")
}

// dropTriggers takes triggers of these events off a table.
func (m *mover) dropTriggers(ctx context.Context, name shard.Name, t *stream.Table, events ...string) error {
	for _, sql := range drops(t, events...) {
		if err := m.lockedTurns(ctx, name, t, sql); err != nil {
			return err
		}
	}
	return nil
}

// inTurns tries something that locks until it need not wait long. who says what it waits for.
func (m *mover) inTurns(ctx context.Context, what string, who func() string, try func() error) error {
	for pause := retryLeast; ; pause = min(2*pause, retryMost) {
		err := try()
		if err == nil || sqlState(err) != codeLockTimeout && sqlState(err) != codeDeadlock {
			return err
		}
		m.doing("%s, and waits for %s", what, who())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if err := m.unwanted(ctx); err != nil {
			return err
		}
	}
}

// SQLSTATEs of waits that ended (errcodes.txt).
const (
	codeLockTimeout = "55P03"
	codeDeadlock    = "40P01"
)

// holders says who has locks on a table that a guard has to wait for.
func (m *mover) holders(ctx context.Context, name shard.Name, t *stream.Table) string {
	var who []string
	err := m.links[name].Query(ctx, `SELECT DISTINCT coalesce('process ' || l.pid || coalesce(' (' || nullif(a.application_name, '') || ')', ''), 'a prepared transaction')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'relation' AND l.granted AND l.relation = `+literal(sqlName(t))+`::regclass
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (a.xact_start IS NULL OR a.xact_start < clock_timestamp() - interval '20 ms') LIMIT 5`, func(fields [][]byte) error {
		who = append(who, string(fields[0]))
		return nil
	})
	if err != nil || len(who) == 0 {
		return "short transactions that come one after another"
	}
	return strings.Join(who, ", ")
}

// copy copies the rows of all moves that are not copied yet, all at once.
func (m *mover) copy(ctx context.Context) error {
	s, err := m.stand(ctx)
	if err != nil {
		return err
	}
	m.count(s)
	copied := map[int]bool{} // and current
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if s.state[move.Number] != "stream" {
			continue
		}
		if copied[move.Number], err = m.alive(ctx, move.Source, m.names(move.Number).forward); err != nil {
			return err
		}
		copied[move.Number] = copied[move.Number] || grantedOf(move, s) > 0
	}
	var targets []shard.Name
	for i := range m.job.Moves {
		if move := &m.job.Moves[i]; !copied[move.Number] {
			targets = append(targets, move.Target)
		}
	}
	if len(targets) > 0 { // they may have owned what is deleted there first, and given it back
		if err := m.answered(ctx, targets...); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		copying sync.WaitGroup
		mu      sync.Mutex
		failed  []error
	)
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if copied[move.Number] {
			continue
		}
		copying.Go(func() { // ends with ctx, or by itself
			if err := m.copyMove(ctx, move); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("copy from %s to %s: %w", move.Source, move.Target, err))
				if hopeless(err) || ended(ctx) {
					stop() // the others would be copied in vain
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { // ends with the copies
		copying.Wait()
		close(done)
	}()
	err = m.watchStep(ctx, done)
	if err != nil {
		stop()
	}
	<-done
	// What people can mend comes first.
	slices.SortStableFunc(failed, func(a, b error) int {
		switch {
		case hopeless(a) && !hopeless(b):
			return -1
		case hopeless(b) && !hopeless(a):
			return 1
		}
		return 0
	})
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		return failed[0]
	}
	return m.at(ctx, "copied")
}

// errUnwanted ends what people do not want any more.
var errUnwanted = errors.New("it ends because the job is to be cancelled")

// unwanted looks inside a step that waits whether people want something else.
func (m *mover) unwanted(ctx context.Context) error {
	if err := m.look(ctx); err != nil {
		return err
	}
	if m.job.Wish == WishCancel && m.job.Step != StepCancel {
		return errUnwanted
	}
	return nil
}

// watchStep looks until a step is done whether people want something else, and whether a stream cannot go on, whose markers the step may wait for, and bounds the log that servers keep. A server that it
// cannot ask for half a minute ends the step.
func (m *mover) watchStep(ctx context.Context, done <-chan struct{}) error {
	for asked := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return nil
		case <-time.After(pulse):
		}
		if err := m.broken(); err != nil {
			return err
		}
		now, err := m.journal.Latest(ctx)
		if err != nil {
			continue // the lock tells whether control is lost
		}
		if now.generation != m.job.generation {
			return errSuperseded
		}
		if now.Wish == WishCancel {
			return errUnwanted
		}
		var over *overflown
		switch err := m.boundedAll(ctx); {
		case err == nil:
			asked = time.Now()
		case errors.As(err, &over) || time.Since(asked) > awaitLimit:
			return err
		}
	}
}

// copyMove copies one move from the beginning.
func (m *mover) copyMove(ctx context.Context, move *Move) error {
	n, source, target, spans := m.names(move.Number), m.server(move.Source), m.server(move.Target), move.Spans()
	if err := m.dropStreams(ctx, move, m.involved()...); err != nil {
		return err
	}
	tables, err := m.tables(ctx, move.Source)
	if err != nil {
		return err
	}
	there, err := m.tables(ctx, move.Target)
	if err != nil {
		return err
	}
	if err := m.links[move.Target].run(ctx, fmt.Sprintf("%s; INSERT INTO pgtier.move (job, move, source, state) VALUES (%d, %d, %s, 'new') ON CONFLICT (job, move) DO UPDATE SET state = 'new'",
		m.lead(), m.job.Number, move.Number, literal(string(move.Source)))); err != nil {
		return err
	}
	m.doing("deletes at %s what an earlier attempt has left", move.Target)
	if _, err := stream.DeleteBuckets(ctx, target, there, spans, nil); err != nil {
		return err
	}
	if err := stream.CreatePublication(ctx, source, stream.Publication{Name: n.forward, Tables: tables, Spans: spans}); err != nil {
		return err
	}
	if err := stream.CreateOrigin(ctx, target, n.forward); err != nil {
		return err
	}
	slot, err := m.slot(ctx, move.Source, n.forward)
	if err != nil {
		return err
	}
	defer slot.Close()
	if err := m.at(ctx, "slot"); err != nil {
		return err
	}
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	replicas, letGo := m.brakes(ctx, move.Number, move.Source, move.Target)
	defer letGo()
	c := &stream.Copy{Owned: len(cur.Map.Buckets(move.Source)), Source: source, Target: target, Tables: tables, Spans: spans, Snapshot: slot.Snapshot, Streams: m.c.Options.Streams,
		Throttle: func(ctx context.Context, _ int) error {
			if err := m.at(ctx, "copying"); err != nil {
				return err
			}
			return replicas.wait(ctx)
		},
		Finish: func(ctx context.Context, conn *pgconn.PgConn) error {
			if err := m.at(ctx, "copy ends"); err != nil {
				return err
			}
			return query(ctx, conn, fmt.Sprintf("%s; UPDATE pgtier.move SET state = 'stream', at = clock_timestamp() WHERE job = %d AND move = %d", m.lead(), m.job.Number, move.Number),
				func([][]byte) error { return nil })
		}}
	m.doing("copies rows")
	m.mu.Lock()
	m.copying[move.Number], m.began[move.Number] = c, time.Now()
	m.mu.Unlock()
	if err := c.Run(ctx); err != nil {
		return err
	}
	m.copied(move.Number)
	return nil
}

// dropStreams removes both streams of a move from some servers. Origins go last: until then they tell what has come from the other side.
func (m *mover) dropStreams(ctx context.Context, move *Move, names ...shard.Name) error {
	n := m.names(move.Number)
	return m.drop(ctx, names, dropped{move.Source, stream.Objects{Slot: n.forward, Publication: n.forward}}, dropped{move.Target, stream.Objects{Slot: n.back, Publication: n.back}},
		dropped{move.Target, stream.Objects{Origin: n.forward}}, dropped{move.Source, stream.Objects{Origin: n.back}})
}

// dropped is what is to be removed from a server.
type dropped struct {
	shard   shard.Name
	objects stream.Objects
}

// drop removes things from those servers that are among the names, in order.
func (m *mover) drop(ctx context.Context, names []shard.Name, all ...dropped) error {
	ctx, stop := context.WithTimeout(ctx, awaitLimit)
	defer stop()
	for _, d := range all {
		if !slices.Contains(names, d.shard) {
			continue
		}
		if err := stream.Drop(ctx, m.server(d.shard), d.objects); err != nil {
			return err
		}
	}
	return nil
}

// index gives new shards what was left out of the schema for the copy.
func (m *mover) index(ctx context.Context) error {
	for _, name := range m.job.Joins {
		m.doing("builds the indexes and constraints of shard %s", name)
		if err := m.schema(name).After(ctx); err != nil {
			return fmt.Errorf("build the indexes and constraints of shard %s: %w", name, err)
		}
		if err := m.reguard(ctx, name, true); err != nil {
			return err
		}
		if err := m.at(ctx, "indexed"); err != nil {
			return err
		}
	}
	return nil
}
