package resharder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"pgtier/proxy/sequence"
	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// referenceGroup is the group of the reference tables, at home: its register says whether they may be written to.
const referenceGroup = 0

// join makes members of the targets that are none: reference tables are copied and followed, and while their writes wait the new shard becomes one.
func (m *mover) join(ctx context.Context) error {
	for _, name := range m.job.Joins {
		cur, err := m.current(ctx)
		if err != nil {
			return err
		}
		if slices.Contains(cur.Members, name) {
			continue
		}
		if err := m.joinShard(ctx, name); err != nil {
			return fmt.Errorf("join shard %s: %w", name, err)
		}
	}
	return m.dropReferences(ctx, m.involved()...)
}

// joinShard makes a member of one shard.
func (m *mover) joinShard(ctx context.Context, name shard.Name) error {
	if err := m.raiseSequences(ctx, name); err != nil {
		return err
	}
	if err := m.numberSequences(ctx, name); err != nil {
		return fmt.Errorf("number the sequences: %w", err)
	}
	home := m.c.Map.Home
	tables, err := stream.Describe(ctx, m.server(home), m.c.referenceLayout())
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		if err := m.foreignKeys(ctx, name, nil); err != nil {
			return err
		}
		return m.admit(ctx, name)
	}
	m.doing("copies the reference tables to shard %s", name)
	if err := m.guardReferences(ctx, tables); err != nil {
		return err
	}
	applier, stop, err := m.followReferences(ctx, name, tables)
	if err != nil {
		return err
	}
	defer stop()
	if err := m.foreignKeys(ctx, name, applier); err != nil {
		return err
	}
	if err := m.far(ctx, true); err != nil {
		return err
	}
	if err := m.await(ctx); err != nil {
		return err
	}
	for pause := retryLeast; ; pause = min(2*pause, retryMost) {
		err := m.admitFenced(ctx, name, applier, stop, tables)
		var missed *miss
		if !errors.As(err, &missed) {
			m.trouble("")
			return err
		}
		m.missed(err)
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

// foreignTries is how often foreign keys are made whose rows come by another stream than those that they lead to.
const foreignTries = 20

// foreignKeys makes those of a new shard, when its reference tables are there. A moved row may come before the reference row that it leads to, by another stream: that one is waited for.
func (m *mover) foreignKeys(ctx context.Context, name shard.Name, references *stream.Applier) error {
	m.doing("makes the foreign keys of shard %s", name)
	for try := 1; ; try++ {
		err := m.schema(name).ForeignKeys(ctx)
		if err == nil {
			return m.at(ctx, "foreign keys")
		}
		if references == nil || sqlState(err) != codeForeignKey || try == foreignTries {
			return err
		}
		if err := references.Barrier(ctx); err != nil {
			return err
		}
	}
}

// codeForeignKey is foreign_key_violation (errcodes.txt).
const codeForeignKey = "23503"

// admit puts the shard among the members, and waits until all proxies know.
func (m *mover) admit(ctx context.Context, name shard.Name) error {
	if err := m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Members = m.ordered(append(next.Members, name))
		return nil
	}); err != nil {
		return err
	}
	if err := m.at(ctx, "admitted"); err != nil {
		return err
	}
	return m.await(ctx)
}

// referenceNames is what the stream of reference tables to a shard leaves at the servers.
func (m *mover) referenceNames(name shard.Name) string {
	return fmt.Sprintf("pgtier_%s_%d_j%d", m.mapID, m.job.Number, slices.Index(m.job.Joins, name))
}

// followReferences copies the reference tables and follows their changes until stop, which drops what that has left at the servers.
func (m *mover) followReferences(ctx context.Context, name shard.Name, tables []*stream.Table) (applier *stream.Applier, stop func(), err error) {
	object, home, target := m.referenceNames(name), m.server(m.c.Map.Home), m.server(name)
	if err := m.dropReferenceStream(ctx, name, m.involved()...); err != nil {
		return nil, nil, err
	}
	there, err := stream.Describe(ctx, target, m.c.referenceLayout())
	if err != nil {
		return nil, nil, err
	}
	if _, err := stream.DeleteBuckets(ctx, target, there, nil, nil); err != nil {
		return nil, nil, err
	}
	if err := stream.CreatePublication(ctx, home, stream.Publication{Name: object, Tables: tables}); err != nil {
		return nil, nil, err
	}
	if err := stream.CreateOrigin(ctx, target, object); err != nil {
		return nil, nil, err
	}
	slot, err := m.slot(ctx, m.c.Map.Home, object)
	if err != nil {
		return nil, nil, err
	}
	defer slot.Close()
	c := &stream.Copy{Source: home, Target: target, Tables: tables, Snapshot: slot.Snapshot, Streams: m.c.Options.Streams}
	if err := c.Run(ctx); err != nil {
		return nil, nil, err
	}
	if err := m.at(ctx, "references copied"); err != nil {
		return nil, nil, err
	}
	f := &flow{forward: stream.NewApplier(stream.ApplyConfig{Source: home, Target: target, Slot: object, Publication: object, Origin: object, Layout: m.c.referenceLayout()})}
	following, cancel := context.WithCancel(ctx)
	f.cancel = cancel
	var running sync.WaitGroup
	running.Go(func() { f.run(following, f.forward) }) // ends with following
	stop = func() {
		cancel()
		running.Wait()
	}
	// A stream that cannot go on would be waited for in vain.
	limited, done := context.WithTimeout(ctx, catchUpLimit)
	defer done()
	if err := f.forward.Barrier(limited); err != nil {
		stop()
		if fault := f.fault(); fault != nil {
			err = fault
		}
		return nil, nil, err
	}
	return f.forward, stop, nil
}

// catchUpLimit bounds the wait for the changes that were made to reference tables while they were copied.
const catchUpLimit = 10 * time.Minute

// guardReferences installs what keeps writes off the reference tables for a moment: all of them are written at home too.
func (m *mover) guardReferences(ctx context.Context, tables []*stream.Table) error {
	home := m.c.Map.Home
	epoch, err := m.epoch(ctx)
	if err != nil {
		return err
	}
	create := fmt.Sprintf(`CREATE SEQUENCE IF NOT EXISTS pgtier.register_%d MINVALUE 0 START 0; REVOKE ALL ON pgtier.register_%[1]d FROM PUBLIC;
CREATE OR REPLACE FUNCTION pgtier.guard_reference() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
DECLARE
	register bigint;
BEGIN
	PERFORM pg_advisory_xact_lock_shared(%[2]d, %[1]d);
	register := pg_sequence_last_value('pgtier.register_%[1]d');
	IF register IS NULL OR register & 3 <> %[3]d THEN
		RAISE EXCEPTION 'reference table "%%" is about to be on another shard too', TG_TABLE_NAME USING ERRCODE = '%[4]s',
			DETAIL = 'epoch ' || coalesce(register, 0) / 4, HINT = 'Write through pgtier, which knows all shards.';
	END IF;
	RETURN NULL;
END $pgtier$;`, referenceGroup, guardClass, stateOwned, CodeFenced)
	if err := m.links[home].run(ctx, create+m.turnSQL(referenceGroup, epoch*4+stateOwned, stateForeign, stateOwned, stateFenced)); err != nil {
		return err
	}
	for _, t := range tables {
		var sql strings.Builder
		for _, part := range truncated(t) {
			fmt.Fprintf(&sql, "CREATE OR REPLACE TRIGGER %sreference BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH STATEMENT EXECUTE FUNCTION pgtier.guard_reference();\n", guardPrefix, part)
			fmt.Fprintf(&sql, "CREATE OR REPLACE TRIGGER %struncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION pgtier.guard_truncate();\n", guardPrefix, part)
		}
		if err := m.lockedTurns(ctx, home, t, sql.String()); err != nil {
			return err
		}
	}
	return nil
}

// dropReferences removes what joins have left at some shards.
func (m *mover) dropReferences(ctx context.Context, names ...shard.Name) error {
	if len(m.job.Joins) == 0 {
		return nil
	}
	for _, name := range m.job.Joins {
		if err := m.dropReferenceStream(ctx, name, names...); err != nil {
			return err
		}
	}
	home := m.c.Map.Home
	if !slices.Contains(names, home) {
		return nil
	}
	tables, err := stream.Describe(ctx, m.server(home), m.c.referenceLayout())
	if err != nil {
		return err
	}
	for _, t := range tables {
		there, err := m.links[home].value(ctx, fmt.Sprintf("SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass AND starts_with(tgname, '%s')", literal(sqlName(t)), guardPrefix))
		if err != nil {
			return err
		}
		if there == "0" {
			continue
		}
		if err := m.dropTriggers(ctx, home, t, "reference", "truncate"); err != nil {
			return err
		}
	}
	return m.links[home].run(ctx, fmt.Sprintf("DROP FUNCTION IF EXISTS pgtier.guard_reference(); DROP SEQUENCE IF EXISTS pgtier.register_%d", referenceGroup))
}

// dropReferenceStream removes the stream of reference tables to a shard, from some servers.
func (m *mover) dropReferenceStream(ctx context.Context, name shard.Name, names ...shard.Name) error {
	object := m.referenceNames(name)
	return m.drop(ctx, names, dropped{m.c.Map.Home, stream.Objects{Slot: object, Publication: object}}, dropped{name, stream.Objects{Origin: object}})
}

// admitFenced makes a member of the shard while nobody writes to reference tables, or returns a *miss. stop ends the applier.
func (m *mover) admitFenced(ctx context.Context, name shard.Name, applier *stream.Applier, stop func(), tables []*stream.Table) error {
	home := m.c.Map.Home
	epoch, err := m.epoch(ctx)
	if err != nil {
		return err
	}
	epoch++
	limited, done := context.WithTimeout(ctx, awaitLimit)
	defer done()
	if err := applier.Barrier(limited); err != nil {
		if !applier.Status().Attached { // it may never come back: it is made anew
			return fmt.Errorf("the stream of reference tables: %w", err)
		}
		return &miss{err}
	}
	if err := m.oldWriter(ctx, home, referenceGroup); err != nil {
		return err
	}
	holding, over := context.WithTimeout(ctx, m.c.holdLimit())
	defer over()
	held := func(is bool) error {
		return m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
			next.Motion.HeldReferences = is
			return nil
		})
	}
	giveUp := func(why error) error {
		if sqlState(why) == "" { // the fence's session may be under way still
			return errors.Join(why, held(false))
		}
		if err := m.turnRegister(ctx, home, referenceGroup, epoch*4+stateOwned, stateOwned, stateFenced); err != nil {
			return errors.Join(why, err)
		}
		if err := held(false); err != nil {
			return errors.Join(why, err)
		}
		return &miss{why}
	}
	if err := held(true); err != nil {
		return err
	}
	if err := m.motion.Await(holding, m.cur.Motion.Number); err != nil {
		return errors.Join(held(false), &miss{err})
	}
	marker := stream.NewMarker()
	// Whatever the outcome, the next motion is the one behind the hold, and nobody writes by the hold any more.
	outdate := shardmap.OutdateSQL(m.cur.Motion.Number + 1)
	if err := m.links[home].run(holding, fmt.Sprintf("SET LOCAL lock_timeout = %d; SET LOCAL synchronous_commit = on; SELECT pg_advisory_xact_lock(%d, %d); %s; %s; %s; %s",
		fenceLimit.Milliseconds(), guardClass, referenceGroup, m.lockSQL(tables), m.turnSQL(referenceGroup, epoch*4+stateFenced, stateOwned, stateFenced), outdate, stream.EmitSQL(marker))); err != nil {
		return giveUp(fmt.Errorf("fence the reference tables: %w%s", err, m.writers(ctx, home, referenceGroup)))
	}
	if err := m.at(ctx, "references fenced"); err != nil {
		return err
	}
	if err := applier.Await(holding, marker); err != nil {
		if err := m.turnRegister(ctx, home, referenceGroup, epoch*4+stateOwned, stateOwned, stateFenced); err != nil {
			return err
		}
		return errors.Join(held(false), &miss{fmt.Errorf("drain the reference tables to %s: %w", name, err)})
	}
	stop() // first: what members are told to write, the stream would bring once more, and bring back what they have deleted since
	if err := m.at(ctx, "references drained"); err != nil {
		return err
	}
	// Whoever writes from now on knows the new shard: the fence stands until all do.
	if err := m.admit(ctx, name); err != nil {
		return err
	}
	if err := m.turnRegister(ctx, home, referenceGroup, epoch*4+stateOwned, stateFenced); err != nil {
		return err
	}
	return held(false)
}

// lockSQL waits for those who write to tables past pgtier, or wait to. A write that waits for a table's lock has not come to the guard yet, and would come there
// when the fence is lifted again. Those of pgtier have the group's lock already (shardmap.PlannedSQL), so it is taken first: none of them waits for this one.
func (m *mover) lockSQL(tables []*stream.Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = sqlName(t)
	}
	slices.Sort(names)
	return "LOCK TABLE " + strings.Join(names, ", ") + " IN SHARE ROW EXCLUSIVE MODE"
}

// numberSequences has the sequences of a new shard give other numbers than those of the members do, before anybody writes there.
func (m *mover) numberSequences(ctx context.Context, name shard.Name) error {
	m.doing("numbers the sequences of shard %s", name)
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	if err := shardmap.EnsureShard(ctx, m.links[name], name); err != nil { // pgtier.ids is one of them
		return err
	}
	names, err := m.sequences(ctx)
	if err != nil {
		return fmt.Errorf("read the sequences of home: %w", err)
	}
	links := m.c.shardLinks("numbers") // of our own: their transactions are
	defer func() {
		for _, l := range links {
			l.close()
		}
	}()
	n := &sequence.Numberer{}
	for _, member := range cur.Members {
		n.Shards, n.Names = append(n.Shards, links[member]), append(n.Names, string(member))
	}
	ctx, stop := context.WithTimeout(ctx, numberLimit)
	defer stop()
	return n.Join(ctx, links[name], names)
}

// numberLimit bounds how long one attempt waits for sequences that are in use.
const numberLimit = 30 * time.Second

// sequences are those of sharded tables' columns, and that of pgtier.next_id(), by catalog.QualifiedName.
func (m *mover) sequences(ctx context.Context) ([]string, error) {
	tables, err := stream.Describe(ctx, m.server(m.c.Map.Home), m.c.shardedLayout())
	if err != nil {
		return nil, err
	}
	names, oids := []string{sequence.OwnIDs}, make([]string, 0, len(tables))
	for _, t := range tables {
		oids = append(oids, literal(quoted(t.Schema)+"."+quoted(t.Name))+"::regclass")
	}
	if len(oids) == 0 {
		return names, nil
	}
	// By columns that own them, and by defaults that take numbers from them.
	err = m.links[m.c.Map.Home].Query(ctx, fmt.Sprintf(`WITH tables AS (SELECT unnest(ARRAY[%s]) AS oid)
SELECT DISTINCT n.nspname, s.relname FROM pg_class AS s JOIN pg_namespace AS n ON n.oid = s.relnamespace
WHERE s.relkind = 'S' AND (EXISTS (SELECT FROM pg_depend AS d JOIN tables AS t ON d.refobjid = t.oid WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid
	AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
OR EXISTS (SELECT FROM pg_attrdef AS f JOIN tables AS t ON f.adrelid = t.oid JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
	WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid))
ORDER BY 1, 2`, strings.Join(oids, ", ")), func(fields [][]byte) error {
		names = append(names, catalog.QualifiedName(string(fields[0]), string(fields[1])))
		return nil
	})
	return names, err
}

// quoted is a name as an identifier.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// raiseSequences puts the sequences of a new shard above those of home.
func (m *mover) raiseSequences(ctx context.Context, name shard.Name) error {
	var sql strings.Builder
	err := m.links[m.c.Map.Home].Query(ctx, `SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename), last_value FROM pg_sequences
WHERE schemaname <> 'pgtier' AND last_value IS NOT NULL ORDER BY 1`, func(fields [][]byte) error {
		fmt.Fprintf(&sql, "SELECT setval(s.seqrelid::regclass, %s) FROM pg_sequence s WHERE s.seqrelid = to_regclass(%s) AND coalesce(pg_sequence_last_value(s.seqrelid::regclass) < %[1]s, true);\n",
			fields[1], literal(string(fields[0])))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the sequences of home: %w", err)
	}
	if err := m.links[name].run(ctx, sql.String()); err != nil {
		return fmt.Errorf("raise the sequences: %w", err)
	}
	return nil
}
