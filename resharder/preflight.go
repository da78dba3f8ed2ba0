package resharder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// Gravity is how much a finding matters.
type Gravity uint8

// The gravities.
const (
	Note     Gravity = iota // worth knowing
	Warning                 // may make the job slow, or wait
	Obstacle                // the job cannot be done
)

// String returns the word that leads a finding's line.
func (g Gravity) String() string { return [...]string{"note", "warn", "FAIL"}[g] }

// Finding is something that a plan has found.
type Finding struct {
	Gravity Gravity
	// Where is a shard, a table or a proxy.
	Where string
	// What is found, and Remedy what to do about it, "" where nothing need be done.
	What, Remedy string
}

// String is one line.
func (f Finding) String() string {
	text := fmt.Sprintf("%-4s  %s: %s", f.Gravity, f.Where, f.What)
	if f.Remedy != "" {
		text += "; " + f.Remedy
	}
	return text
}

// Plan is what a goal comes to.
type Plan struct {
	Goal     Goal
	Moves    []Move
	Joins    []shard.Name
	Leaves   []shard.Name
	Findings []Finding
	// Rows and Bytes are estimates of what is copied, Time of how long the copy takes at CopyRate.
	Rows, Bytes int64
	Time        time.Duration
	// Uncounted tables of sources have rows that are not in Rows, because their planners do not know how many.
	Uncounted int
}

// CopyRate is the bytes a second that a plan reckons with: a third of what one processor a side copies (1 million rows of 100 bytes in three seconds), because servers have other work too.
const CopyRate = 10 << 20

// Possible reports whether there is no obstacle.
func (p *Plan) Possible() bool {
	return !slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Gravity == Obstacle })
}

// Moved is how many buckets change hands.
func (p *Plan) Moved() (n int) {
	for i := range p.Moves {
		n += len(bucketsOf(p.Moves[i].Spans()))
	}
	return n
}

// planner looks at everything that a job depends on.
type planner struct {
	c       *Config
	control *link
	links   map[shard.Name]*link
	plan    *Plan
	before  *shard.Map
}

// MakePlan looks at control and shards, and changes nothing. The error is one of asking, or of a goal that makes no sense.
func MakePlan(ctx context.Context, c Config, goal Goal) (*Plan, error) {
	if err := goal.check(c.Map.Shards); err != nil {
		return nil, err
	}
	p := &planner{c: &c, control: c.controlLink("pgtier reshard"), links: c.shardLinks("pgtier reshard"), plan: &Plan{Goal: goal}}
	defer p.close()
	mover := shardmap.NewMover(c.Map, p.control, queriers(p.links))
	cur, err := mover.Read(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.choose(cur); err != nil {
		return nil, err
	}
	if len(p.plan.Moves) == 0 {
		p.add(Note, "map", "", "the buckets are spread like this already, nothing moves")
		return p.plan, nil
	}
	for _, look := range []func(context.Context) error{p.journal, p.servers, p.tables, func(ctx context.Context) error { return p.proxies(ctx, mover) }} {
		if err := look(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(p.plan.Findings, func(a, b Finding) int { return int(b.Gravity) - int(a.Gravity) })
	return p.plan, nil
}

func (p *planner) close() {
	p.control.close()
	for _, l := range p.links {
		l.close()
	}
}

func (p *planner) add(g Gravity, where, remedy, what string, args ...any) {
	p.plan.Findings = append(p.plan.Findings, Finding{g, where, fmt.Sprintf(what, args...), remedy})
}

// choose finds the moves, and who joins and leaves.
func (p *planner) choose(cur *shardmap.Current) error {
	moves, err := p.plan.Goal.moves(cur.Map, p.c.Options.Groups)
	if err != nil {
		return err
	}
	p.plan.Moves, p.before = moves, cur.Map
	owners := map[shard.Bucket]shard.Name{}
	for i := range moves {
		for _, b := range bucketsOf(moves[i].Spans()) {
			owners[b] = moves[i].Target
		}
		if !slices.Contains(cur.Members, moves[i].Target) && !slices.Contains(p.plan.Joins, moves[i].Target) {
			p.plan.Joins = append(p.plan.Joins, moves[i].Target)
		}
	}
	after, err := mapOf(cur.Map, owners)
	if err != nil {
		return err
	}
	for _, name := range cur.Map.Shards() {
		if len(after.Buckets(name)) > 0 {
			continue
		}
		if name == p.c.Map.Home {
			p.add(Note, "shard "+string(name), "", "will have no buckets, and stays a member as the home of undeclared tables")
			continue
		}
		p.plan.Leaves = append(p.plan.Leaves, name)
	}
	return nil
}

// journal looks for another job.
func (p *planner) journal(ctx context.Context) error {
	job, err := NewJournal(p.control, p.c.Map.Database).Latest(ctx)
	if errors.Is(err, ErrNoJob) {
		return nil
	}
	if err != nil {
		return err
	}
	unclean, err := NewJournal(p.control, p.c.Map.Database).unclean(ctx)
	if err != nil {
		return err
	}
	for _, old := range unclean {
		for _, left := range old.Progress.Left {
			if slices.ContainsFunc(p.plan.Moves, func(m Move) bool { return m.Source == left.Shard || m.Target == left.Shard }) {
				p.add(Obstacle, "shard "+string(left.Shard), "pgtier serve takes that away by itself once it reaches it, and so does pgtier reshard cancel", "has what job %d, which was cancelled without it, has left there", old.Number)
			}
		}
	}
	if !job.Step.over() {
		p.add(Obstacle, "job", "look at it by pgtier reshard status, and finish or cancel it first", "another one is under way: %s, at step %s", job.Goal, job.Step)
	}
	return nil
}

// servers looks at the settings, rights and transactions of all shards of the plan.
func (p *planner) servers(ctx context.Context) error {
	type load struct{ slots, senders int }
	loads := map[shard.Name]*load{}
	for i := range p.plan.Moves {
		for _, name := range []shard.Name{p.plan.Moves[i].Source, p.plan.Moves[i].Target} {
			if loads[name] == nil {
				loads[name] = &load{}
			}
			loads[name].slots++ // one each way
			loads[name].senders++
		}
	}
	for range p.plan.Joins { // one at a time, of the reference tables
		if loads[p.c.Map.Home] == nil {
			loads[p.c.Map.Home] = &load{}
		}
		loads[p.c.Map.Home].slots++
		loads[p.c.Map.Home].senders++
	}
	for _, name := range sortedNames(loads) {
		if err := p.server(ctx, name, loads[name].slots, loads[name].senders); err != nil {
			return err
		}
	}
	return nil
}

// serverQuery asks for everything about a server that needs no table.
const serverQuery = `SELECT current_setting('server_version_num'), current_setting('wal_level'),
current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication),
(SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
has_database_privilege(current_database(), 'CREATE'),
(SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR has_parameter_privilege('session_replication_role', 'SET'),
(SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN
	('pg_replication_origin_create', 'pg_replication_origin_drop', 'pg_replication_origin_session_setup', 'pg_replication_origin_xact_setup', 'pg_replication_origin_session_progress')),
(SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database() AND prepared < clock_timestamp() - interval '10 s'),
coalesce((SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::int FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()), 0),
(SELECT count(*) FROM pg_largeobject_metadata), pg_is_in_recovery(),
current_setting('max_replication_slots'), current_setting('max_wal_senders'),
pg_has_role('pg_read_all_stats', 'USAGE'),
coalesce((SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'pgtier'), true),
coalesce((SELECT string_agg(DISTINCT owner, ', ') FROM (SELECT relowner::regrole::text AS owner FROM pg_class WHERE relnamespace = to_regnamespace('pgtier') AND (relname IN ('mover', 'move') OR relname LIKE 'register\_%') AND NOT pg_has_role(relowner, 'USAGE')
	UNION ALL SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = to_regnamespace('pgtier') AND (proname IN ('lead', 'turn') OR proname LIKE 'guard\_%') AND NOT pg_has_role(proowner, 'USAGE')) AS others), '')`

func (p *planner) server(ctx context.Context, name shard.Name, slots, senders int) error {
	where := "shard " + string(name)
	l := p.links[name]
	if l == nil {
		p.add(Obstacle, where, "add it to the database's shards", "is not in the configuration")
		return nil
	}
	err := l.Query(ctx, serverQuery, func(f [][]byte) error {
		number := func(i int) int { n, _ := strconv.Atoi(string(f[i])); return n }
		no := func(i int) bool { return string(f[i]) != "t" }
		if number(0) < stream.Oldest {
			p.add(Obstacle, where, "upgrade it", "is PostgreSQL %d; rows can be moved from and to %d or newer, which has row filters of publications", number(0)/10000, stream.Oldest/10000)
		}
		if string(f[11]) == "t" {
			p.add(Obstacle, where, "look at the shard's manager URL", "is a replica")
		}
		if level := string(f[1]); level != "logical" {
			p.add(Obstacle, where, "ALTER SYSTEM SET wal_level = logical, and restart it", "has wal_level %s", level)
		}
		if free := number(2); free < slots {
			p.add(Obstacle, where, "raise max_replication_slots and restart it, or drop slots that nobody uses", "has %d of %s replication slots free, the job needs %d", max(0, free), f[12], slots)
		}
		if free := number(3); free < senders {
			p.add(Obstacle, where, "raise max_wal_senders and restart it", "has %d of %s WAL senders free, the job needs %d", max(0, free), f[13], senders)
		}
		if no(4) {
			p.add(Obstacle, where, "ALTER ROLE … REPLICATION", "the role may not replicate")
		}
		if no(5) {
			p.add(Obstacle, where, "GRANT CREATE ON DATABASE … TO the role", "the role may not create publications and schemas")
		}
		if no(6) {
			p.add(Obstacle, where, "let a superuser run GRANT SET ON PARAMETER session_replication_role TO the role", "the role may not write past triggers and foreign keys")
		}
		if no(7) {
			p.add(Obstacle, where, "let a superuser GRANT EXECUTE on the functions pg_replication_origin_… to the role", "the role may not keep positions of streams")
		}
		if no(14) {
			p.add(Obstacle, where, "let a superuser GRANT pg_read_all_stats TO the role", "the role does not see what other roles' transactions do, which the job waits for")
		}
		if no(15) {
			p.add(Obstacle, where, "GRANT CREATE, USAGE ON SCHEMA pgtier TO the role", "schema pgtier is there already, and the role may create nothing in it")
		}
		if owners := string(f[16]); owners != "" {
			p.add(Obstacle, where, "GRANT "+owners+" TO the role", "what moves need in schema pgtier belongs to %s", owners)
		}
		if n := number(8); n > 0 {
			p.add(Warning, where, "look at pg_prepared_xacts; pgtier settles its own", "has %d prepared transactions older than 10 s, which slots and guards wait for", n)
		}
		if n := number(9); n > 60 {
			p.add(Warning, where, "let it end", "has a transaction that writes and is %d s old, which slots wait for", n)
		}
		if n := number(10); n > 0 {
			p.add(Note, where, "", "has %d large objects, which are not moved", n)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at the server: %w", err)
	}
	return nil
}

// tables compares the tables of each pair, and estimates sizes.
func (p *planner) tables(ctx context.Context) error {
	layout := p.c.layout()
	described := map[shard.Name][]*stream.Table{}
	describe := func(name shard.Name) ([]*stream.Table, error) {
		if described[name] == nil {
			tables, err := stream.Describe(ctx, p.c.server(name), layout)
			if err != nil {
				return nil, err
			}
			described[name] = tables
		}
		return described[name], nil
	}
	for _, name := range p.plan.Joins {
		p.add(Note, "shard "+string(name), "", "is no member yet: it gets the schema of %s by pg_dump, and the reference tables", p.c.Map.Home)
	}
	seen := map[string]bool{}
	problems := func(where string, source, target []*stream.Table) {
		for _, problem := range stream.Problems(layout, source, target) {
			if text := problem.String(); !seen[text] {
				seen[text] = true
				p.add(Obstacle, where+", table "+problem.Table, problem.Hint, "%s", problem.Message)
			}
		}
	}
	for i := range p.plan.Moves {
		move := &p.plan.Moves[i]
		source, err := describe(move.Source)
		if err != nil {
			return err
		}
		target, err := describe(move.Target)
		if err != nil {
			return err
		}
		where := string(move.Source) + " to " + string(move.Target)
		if slices.Contains(p.plan.Joins, move.Target) {
			if err := p.newcomer(ctx, move.Target, target); err != nil {
				return err
			}
			target = source // the schema will be made the same
		}
		problems(where, source, target)
		if err := p.estimate(ctx, move, source); err != nil {
			return err
		}
		if err := p.uncounted(ctx, move.Source, source); err != nil {
			return err
		}
	}
	if err := p.actions(ctx, described); err != nil {
		return err
	}
	return p.triggers(ctx, described)
}

// newcomer looks at a shard that is to join: what stands in its tables would be taken for moved rows.
func (p *planner) newcomer(ctx context.Context, name shard.Name, tables []*stream.Table) error {
	for _, t := range tables {
		any, err := p.links[name].value(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s)", sqlName(t)))
		if err != nil {
			return err
		}
		if any == "t" && t.Key != nil {
			p.add(Obstacle, "shard "+string(name)+", table "+t.String(), "delete them, or take the shard's database anew", "has rows, and a shard that joins must have none")
		}
	}
	return nil
}

// estimate adds what a move copies, and what it takes on disks.
func (p *planner) estimate(ctx context.Context, move *Move, tables []*stream.Table) error {
	var rows, bytes, indexes int64
	for _, t := range tables {
		if t.Key == nil {
			continue
		}
		rows, bytes = rows+t.Rows, bytes+t.Bytes
		for _, leaf := range t.Leaves {
			text, err := p.links[move.Source].value(ctx, "SELECT pg_indexes_size("+literal(leaf)+"::regclass)")
			if err != nil {
				return err
			}
			n, _ := strconv.ParseInt(text, 10, 64) // a bigint of the server
			indexes += n
		}
	}
	part := float64(len(bucketsOf(move.Spans()))) / float64(max(1, len(p.before.Buckets(move.Source))))
	p.plan.Rows += int64(float64(rows) * part)
	p.plan.Bytes += int64(float64(bytes) * part)
	p.plan.Time = max(time.Duration(float64(p.plan.Bytes)/CopyRate*float64(time.Second)), time.Second).Round(time.Second)
	// How much of a disk is free no server tells.
	p.add(Note, "shard "+string(move.Target), "see that its disk has that much free", "gets about %s from %s, indexes among them, and keeps at most %s of write-ahead log for the way back",
		size(int64(float64(bytes+indexes)*part)), move.Source, size(p.c.Options.MaxWAL))
	p.add(Note, "shard "+string(move.Source), "see that the disk of its log has that much free, or lower reshard.max_wal", "keeps at most %s of write-ahead log for what goes to %s, until that has it", size(p.c.Options.MaxWAL), move.Target)
	return nil
}

// uncounted counts the tables whose rows an estimate lacks: never analysed, and not empty.
func (p *planner) uncounted(ctx context.Context, name shard.Name, tables []*stream.Table) error {
	for _, t := range tables {
		if t.Key == nil || t.Rows > 0 {
			continue
		}
		any, err := p.links[name].value(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s)", sqlName(t)))
		if err != nil {
			return err
		}
		if any == "t" {
			p.plan.Uncounted++
		}
	}
	return nil
}

// actionsQuery lists foreign keys of a table that change its rows when rows of a reference table are deleted or their keys changed.
const actionsQuery = `SELECT k.conname, k.confrelid::regclass FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid = to_regclass(%s)
AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r')) AND k.confrelid IN (%s) ORDER BY k.conname`

// actions looks for foreign keys by which writes of reference tables change rows of tables that move: at shards that do not own those, guards refuse them.
func (p *planner) actions(ctx context.Context, described map[shard.Name][]*stream.Table) error {
	seen := map[string]bool{}
	for _, name := range sortedNames(described) {
		var references []string
		for _, t := range described[name] {
			if t.Key == nil {
				references = append(references, "to_regclass("+literal(sqlName(t))+")")
			}
		}
		for _, t := range described[name] {
			if t.Key == nil || len(references) == 0 {
				continue
			}
			if err := p.links[name].Query(ctx, fmt.Sprintf(actionsQuery, literal(sqlName(t)), strings.Join(references, ", ")), func(f [][]byte) error {
				if key := t.String() + " " + string(f[0]); !seen[key] {
					seen[key] = true
					p.add(Warning, "table "+t.String(), "write the table's own rows first, or wait for the job", "foreign key %s changes its rows with those of reference table %s: where that comes to rows that are moved it is refused until the job is finished", f[0], f[1])
				}
				return nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// triggersQuery lists BEFORE triggers of a table and of its partitions that fire after a guard would: they may change the key that it has looked at. Those that partitions have from the table are its own.
const triggersQuery = `SELECT t.tgname, t.tgrelid::regclass FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgtype & 3 = 3 AND t.tgname > 'zzz_pgtier_guard_v'
AND t.tgrelid IN (SELECT to_regclass(%[1]s) UNION SELECT relid FROM pg_partition_tree(to_regclass(%[1]s))) ORDER BY 2, 1`

// triggers looks for triggers behind the guard, and for tables that are another role's.
func (p *planner) triggers(ctx context.Context, described map[shard.Name][]*stream.Table) error {
	for _, name := range sortedNames(described) {
		for _, t := range described[name] {
			owner, err := p.links[name].value(ctx, fmt.Sprintf("SELECT relowner::regrole FROM pg_class WHERE oid = to_regclass(%s) AND NOT pg_has_role(relowner, 'USAGE')", literal(sqlName(t))))
			if err != nil {
				return err
			}
			if owner != "" {
				p.add(Obstacle, "shard "+string(name)+", table "+t.String(), "GRANT "+owner+" TO the role of the shard's URL", "belongs to %s, and only its owner can publish and guard it", owner)
			}
			err = p.links[name].Query(ctx, fmt.Sprintf(triggersQuery, literal(sqlName(t))), func(f [][]byte) error {
				p.add(Obstacle, "shard "+string(name)+", table "+t.String(), "rename it", "trigger %s of %s would fire after the guard of moving buckets, and might change the key that it has looked at", f[0], f[1])
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// proxies looks whether all proxies know the shards of the plan.
func (p *planner) proxies(ctx context.Context, mover *shardmap.Mover) error {
	proxies, err := mover.Proxies(ctx)
	if err != nil {
		return err
	}
	alive := 0
	for _, proxy := range proxies {
		if proxy.Age > aliveFor {
			continue
		}
		alive++
		for i := range p.plan.Moves {
			if target := p.plan.Moves[i].Target; !slices.Contains(proxy.Shards, target) {
				p.add(Obstacle, "proxy "+proxy.Name, "reload it (SIGHUP, or RELOAD in its admin database)", "does not know shard %s", target)
			}
		}
	}
	if alive == 0 {
		p.add(Warning, "proxies", "run pgtier serve with this configuration", "none is running: nobody carries the job on")
	}
	return nil
}

// aliveFor is the age of a proxy's last word up to which it is taken for running.
const aliveFor = 2 * shardmap.DefaultLease

// Start writes a job for the goal down, if its plan has no obstacle. A process that runs Run carries it on. The plan is returned in any case.
func Start(ctx context.Context, c Config, goal Goal, auto bool) (*Plan, error) {
	p, err := MakePlan(ctx, c, goal)
	if err != nil {
		return nil, err
	}
	if !p.Possible() {
		var first []string
		for _, f := range p.Findings {
			if f.Gravity == Obstacle {
				first = append(first, strings.TrimSpace(f.String()))
			}
		}
		return p, fmt.Errorf("the job cannot be done: %s", strings.Join(first, "\n"))
	}
	if len(p.Moves) == 0 {
		return p, nil
	}
	control := c.controlLink("pgtier reshard")
	defer control.close()
	journal := NewJournal(control, c.Map.Database)
	if err := journal.prepare(ctx); err != nil {
		return p, err
	}
	_, err = journal.create(ctx, plan{Goal: goal, Moves: p.Moves, Joins: p.Joins, Leaves: p.Leaves}, auto)
	return p, err
}

// ReadStatus reads the job under way or the last one; ErrNoJob if there was none.
func ReadStatus(ctx context.Context, control shardmap.Querier, database string) (*Status, error) {
	job, err := NewJournal(control, database).Latest(ctx)
	if err != nil {
		return nil, err
	}
	s := &Status{Job: job}
	number := uint64(lockNumber(database)) //nolint:gosec // its bits
	err = control.Query(ctx, fmt.Sprintf("SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = %d AND objid = %d AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
		number>>32, number&0xFFFFFFFF), func(fields [][]byte) error {
		s.Carried = string(fields[0]) != "0"
		return nil
	})
	return s, err
}
