package resharder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// Register states, the two lowest bits of a register.
const (
	stateForeign   = 0
	stateImporting = 1
	stateOwned     = 2
	stateFenced    = 3
)

const (
	// guardClass is the first number of the advisory locks of groups; the second is the group.
	guardClass = shardmap.GuardClass
	// turnLock is the lock under which registers change: its class is the one behind guardClass.
	turnLock = "1885828200, 0"
	// guardPrefix is that of triggers: BEFORE triggers fire by name, and the guard has to see the row as it will be stored.
	guardPrefix = "zzz_pgtier_guard_"
)

// CodeFenced is the SQLSTATE of a write to a bucket that the shard does not own. DETAIL says "epoch N": the map to go by is N or a later one.
const CodeFenced = "PT001"

// Guard is what the fence of a shard's tables has to do.
type Guard struct {
	// Epoch is the map's version for the buckets in Foreign.
	Epoch shard.Version
	// Foreign are buckets that the shard does not own: every write of them is refused.
	Foreign []shard.Span
	// Live are groups that move, here or from here: their registers say whether they may be written to.
	Live []Group
}

// shardSQL creates what the fence needs on a shard, tables and groups apart. It can be run again.
//
//   - pgtier.mover: the generation of the mover that may change anything here. Sequences, because no snapshot is in the way of reading them.
//   - pgtier.lead: makes the session one of a mover of a generation, unless a later one has been here.
//   - pgtier.turn: changes a group's register, which must be in one of the expected states, as part of what that mover does. It returns what it was.
//   - pgtier.move: how far each move to this shard is, and which of its groups the shard owns, so that it is committed with the rows.
const shardSQL = `CREATE SCHEMA IF NOT EXISTS pgtier;
CREATE SEQUENCE IF NOT EXISTS pgtier.mover MINVALUE 0 START 0;
CREATE TABLE IF NOT EXISTS pgtier.move (
	job bigint NOT NULL, move int NOT NULL, source text NOT NULL, state text NOT NULL CHECK (state IN ('new', 'stream')), granted int[] NOT NULL DEFAULT '{}',
	at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (job, move));
CREATE OR REPLACE FUNCTION pgtier.lead(generation bigint) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgtier$
BEGIN
	PERFORM pg_advisory_xact_lock(` + turnLock + `);
	IF coalesce(pg_sequence_last_value('pgtier.mover'), 0) > lead.generation THEN
		RAISE EXCEPTION 'another mover has taken over' USING ERRCODE = '` + codeSuperseded + `';
	END IF;
	IF coalesce(pg_sequence_last_value('pgtier.mover'), 0) < lead.generation THEN
		PERFORM setval('pgtier.mover', lead.generation);
	END IF;
END $pgtier$;
CREATE OR REPLACE FUNCTION pgtier.turn(generation bigint, grp int, expected int[], value bigint) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgtier$
DECLARE
	register regclass := 'pgtier.register_' || turn.grp;
	was bigint;
BEGIN
	PERFORM pgtier.lead(turn.generation);
	was := coalesce(pg_sequence_last_value(register), 0);
	IF NOT was & 3 = ANY (turn.expected) THEN
		RAISE EXCEPTION 'register % is in state %, expected was %', turn.grp, was & 3, turn.expected USING ERRCODE = '` + codeOtherState + `';
	END IF;
	PERFORM setval(register, turn.value);
	RETURN was;
END $pgtier$;
CREATE OR REPLACE FUNCTION pgtier.guard_truncate() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgtier$
BEGIN
	RAISE EXCEPTION 'cannot truncate "%" while its buckets move between shards', TG_TABLE_NAME
		USING ERRCODE = 'object_in_use', HINT = 'Use DELETE, or wait until the move is finished or cancelled.';
END $pgtier$;
REVOKE ALL ON pgtier.mover, pgtier.move FROM PUBLIC;
REVOKE ALL ON FUNCTION pgtier.lead(bigint), pgtier.turn(bigint, int, int[], bigint) FROM PUBLIC;
`

const (
	// codeSuperseded and codeOtherState are ours, of the class of CodeFenced.
	codeSuperseded = "PT002"
	codeOtherState = "PT003"
)

// within is the condition that a row's bucket is in spans. relation is as shard.Key.Expression has it. The bucket is computed once, and
// the operator is a built-in one, which looks it up by halves.
func within(t *stream.Table, relation string, spans []shard.Span) string {
	ranges := make([]string, len(spans))
	for i, s := range spans {
		ranges[i] = fmt.Sprintf("[%d,%d]", s.First, s.Last)
	}
	return "(" + t.Key.Expression(relation) + ") OPERATOR(pg_catalog.<@) '{" + strings.Join(ranges, ",") + "}'::pg_catalog.int8multirange"
}

// spans are all that the guard looks at.
func (g *Guard) spans() []shard.Span {
	buckets := bucketsOf(g.Foreign)
	for _, live := range g.Live {
		buckets = append(buckets, bucketsOf(live.Spans)...)
	}
	return shard.SpansOf(buckets...)
}

// function is the name of the table's guard.
func function(t *stream.Table) string {
	sum := sha256.Sum256([]byte(t.Schema + "\x00" + t.Name))
	return "guard_" + hex.EncodeToString(sum[:8])
}

// body is the function of the table's guard: it computes the buckets of the row before and after, and looks each one up.
func (g *Guard) body(t *stream.Table) string {
	var cases strings.Builder
	for _, live := range g.Live {
		for _, s := range live.Spans {
			fmt.Fprintf(&cases, " WHEN bucket BETWEEN %d AND %d THEN %d", s.First, s.Last, live.Number)
		}
	}
	for _, s := range g.Foreign {
		fmt.Fprintf(&cases, " WHEN bucket BETWEEN %d AND %d THEN 0", s.First, s.Last)
	}
	return `
DECLARE
	bucket bigint;
	grp int;
	register bigint;
BEGIN
	FOR side IN 1..2 LOOP
		IF side = 1 THEN
			CONTINUE WHEN TG_OP = 'INSERT';
			bucket := ` + t.Key.Expression("old") + `;
		ELSE
			EXIT WHEN TG_OP = 'DELETE';
			bucket := ` + t.Key.Expression("new") + `;
		END IF;
		grp := CASE` + cases.String() + ` END;
		CONTINUE WHEN grp IS NULL;
		register := ` + strconv.FormatUint(uint64(g.Epoch), 10) + ` * 4;
		IF grp > 0 THEN
			PERFORM pg_advisory_xact_lock_shared(` + strconv.Itoa(guardClass) + `, grp);
			register := pg_sequence_last_value(('pgtier.register_' || grp)::regclass);
		END IF;
		IF register IS NULL OR register & 3 <> ` + strconv.Itoa(stateOwned) + ` THEN
			RAISE EXCEPTION 'bucket % of table "%" is not owned by this shard', bucket, TG_TABLE_NAME USING ERRCODE = '` + CodeFenced + `',
				DETAIL = 'epoch ' || coalesce(register, 0) / 4, HINT = 'Write through pgtier, which knows where the bucket is now.';
		END IF;
	END LOOP;
	IF TG_OP = 'DELETE' THEN
		RETURN old;
	END IF;
	RETURN new;
END `
}

// install is the SQL that gives a table the guard, in place of the one it has, in the transaction that is open. It waits for who writes to the table.
func (g *Guard) install(t *stream.Table) string {
	var b strings.Builder
	spans := g.spans()
	name, on, body := "pgtier."+function(t), sqlName(t), g.body(t)
	fmt.Fprintf(&b, "LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE;\n", on)
	// Whoever writes to the table need have no right on anything of ours.
	fmt.Fprintf(&b, "CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$%s$pgtier$;\n", name, body)
	fmt.Fprintf(&b, "COMMENT ON FUNCTION %s() IS %s;\n", name, literal(g.signature(t)))
	before, after := within(t, "old", spans), within(t, "new", spans)
	for _, trigger := range []struct{ event, when string }{{"INSERT", after}, {"DELETE", before}, {"UPDATE", "(" + before + ") OR (" + after + ")"}} {
		fmt.Fprintf(&b, "CREATE OR REPLACE TRIGGER %s BEFORE %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION %s();\n",
			guardPrefix+strings.ToLower(trigger.event), trigger.event, on, trigger.when, name)
	}
	if len(g.Live) > 0 {
		for _, part := range truncated(t) {
			fmt.Fprintf(&b, "CREATE OR REPLACE TRIGGER %struncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION pgtier.guard_truncate();\n", guardPrefix, part)
		}
	}
	return b.String()
}

// drops are the SQL that takes triggers off a table, each to be run in a transaction of its own: DROP TRIGGER takes ACCESS EXCLUSIVE, and a transaction that has a weaker lock on the
// table already would be in a deadlock with who reads it and is about to write. The table itself comes last, so that none is left where it has none.
func drops(t *stream.Table, events ...string) (all []string) {
	parts := truncated(t)
	for i := len(parts) - 1; i >= 0; i-- {
		sql := ""
		for _, event := range events {
			if i == 0 || event == "truncate" || event == "reference" { // row triggers are gone with the table's
				sql += fmt.Sprintf("DROP TRIGGER IF EXISTS %s%s ON %s;\n", guardPrefix, event, parts[i])
			}
		}
		all = append(all, sql)
	}
	return all
}

// truncated are the relations that need a trigger of their own against TRUNCATE, quoted: the table, and partitions, which do not inherit it.
func truncated(t *stream.Table) []string {
	parts := []string{sqlName(t)}
	for _, leaf := range t.Leaves {
		if leaf != parts[0] {
			parts = append(parts, leaf)
		}
	}
	return parts
}

// signature tells a guard that is in force already from one that has to be installed.
func (g *Guard) signature(t *stream.Table) string {
	sum := sha256.Sum256([]byte(g.body(t) + within(t, "new", g.spans()) + strings.Join(truncated(t), ",")))
	return "pgtier guard " + hex.EncodeToString(sum[:])
}

// sqlName is the table's name in SQL.
func sqlName(t *stream.Table) string { return quote(t.Schema) + "." + quote(t.Name) }

// quote quotes an identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal quotes text, under standard_conforming_strings.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
