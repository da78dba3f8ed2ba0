package shardmap

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"pgtier/router/shard"
)

// creating is the advisory lock that makes proxies create objects one after another: IF NOT EXISTS alone fails when two do it at once. The number is
// "pgtier" in ASCII.
const creating = 0x706774696572

// GuardClass is the first number of the advisory locks that writes share and moves take alone, "pgtg" in ASCII. The second is the group of buckets that is
// written to, 0 for the reference tables, SchemaGroup for the schema.
const GuardClass = 0x70677467

// SchemaGroup is the second number of the lock that changes of the schema share: the number of no group of buckets.
const SchemaGroup = -1

// The locks of reference tables and of the schema, in SQL.
const (
	guardClass    = "1885828199"
	referenceLock = guardClass + ", 0"
	schemaLock    = guardClass + ", -1"
)

// PlannedSQL is an expression that a transaction evaluates at home before it writes reference tables there: it has planned the write by the motion of that number.
// The server raises PT001 where a shard has joined since, or is about to. Until the transaction ends none joins.
func PlannedSQL(number int64) string { return "pgtier.planned(" + strconv.FormatInt(number, 10) + ")" }

// OutdateSQL has home refuse writes of reference tables that were planned by motions before that of the number. Whoever runs it has the lock of GuardClass and 0
// alone, which waits for those that home has let through before. What is refused once stays so, be the transaction undone.
func OutdateSQL(number int64) string {
	return fmt.Sprintf("SELECT pg_catalog.setval('pgtier.references_since', %d) FROM pgtier.references_since WHERE last_value < %[1]d", number)
}

// SchemaPlannedSQL is PlannedSQL for a change of the schema, or TRUNCATE: the server raises PT001 where buckets have begun to move since, and until the transaction
// ends none begin to.
func SchemaPlannedSQL(number int64) string {
	return "pgtier.schema_planned(" + strconv.FormatInt(number, 10) + ")"
}

// StaySQL is an expression that a transaction evaluates before it locks rows of these groups of buckets, or whole tables, without writing: the groups change hands only when
// it has ended. The server raises PT001 where it does not own one. Writers need not: the fence sees them.
func StaySQL(groups ...int) string {
	return "pgtier.stay(" + literal("{"+numbers("", groups, ",", "")+"}") + ")"
}

// HoldSQL is an expression that takes locks of GuardClass, by their second numbers, for the session: for what no transaction block may have, and where there is none. It is evaluated
// behind SchemaPlannedSQL or StaySQL, which has them first and may refuse. FreeSQL is one that lets them go, and KeepSQL hands them to the transaction that is under way, which
// keeps them when it is prepared.
func HoldSQL(locks ...int) string {
	return numbers(lockSQL("pg_advisory_lock_shared"), locks, ", ", ")")
}

// FreeSQL lets go of what HoldSQL has taken.
func FreeSQL(locks ...int) string {
	return numbers(lockSQL("pg_advisory_unlock_shared"), locks, ", ", ")")
}

// KeepSQL has the transaction keep what HoldSQL has taken.
func KeepSQL(locks ...int) string {
	return numbers(lockSQL("pg_advisory_xact_lock_shared"), locks, ", ", ")") + ", " + FreeSQL(locks...)
}

// lockSQL begins the call of a function for a lock of GuardClass.
func lockSQL(function string) string { return fmt.Sprintf("pg_catalog.%s(%d, ", function, GuardClass) }

// numbers writes each of them between two texts.
func numbers(before string, all []int, between, after string) string {
	list := make([]string, len(all))
	for i, n := range all {
		list[i] = before + strconv.Itoa(n) + after
	}
	return strings.Join(list, between)
}

// OutdateSchemaSQL is OutdateSQL for changes of the schema, on the shard where it is run, and takes their lock.
func OutdateSchemaSQL(number int64) string {
	return fmt.Sprintf("SELECT pg_catalog.pg_advisory_xact_lock(%s); SELECT pg_catalog.setval('pgtier.schema_since', %d) FROM pgtier.schema_since WHERE last_value < %[2]d", schemaLock, number)
}

// SeenSQL has the shard where it is run remember that it has heard of a motion.
func SeenSQL(number int64) string {
	return fmt.Sprintf("SELECT pg_catalog.setval('pgtier.motion_seen', %d) FROM pgtier.motion_seen WHERE last_value < %[1]d", number)
}

// ControlSQL creates the objects of a control database. It can be run by hand, by any role that may create a schema, and again.
//
//   - pgtier.sharding: what is fixed for the life of a database. id tells one database's maps from those made anew, secret proves decisions (see Seal).
//   - pgtier.map: all maps that were in force; the highest version is. No row is ever changed. members are the shards that statements may go to, ""
//     where the owners and home are all of them.
//   - pgtier.motion: what moves of buckets ask of proxies now (see Motion), one row a database at most; number is that of the last change, raised_at is when
//     pgtier.motion_seen was last raised on the shards.
//   - pgtier.proxy: the proxies that serve a database, with what each acts by, and when it last said so. underway are the shards to which something is under
//     way that was planned by an earlier number, '*' for any of them.
//   - pgtier.sharded: the tables that have been declared, by the key that their rows were placed by; "" for a reference table.
const ControlSQL = `CREATE SCHEMA IF NOT EXISTS pgtier;
CREATE TABLE IF NOT EXISTS pgtier.sharding (
	database text PRIMARY KEY, id text NOT NULL, secret text NOT NULL, buckets int NOT NULL, function text NOT NULL, home text NOT NULL,
	made_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS pgtier.map (
	database text NOT NULL REFERENCES pgtier.sharding, version bigint NOT NULL CHECK (version > 0), owners text NOT NULL,
	made_at timestamptz NOT NULL DEFAULT now(), made_by text NOT NULL, PRIMARY KEY (database, version));
CREATE TABLE IF NOT EXISTS pgtier.sharded (
	database text NOT NULL REFERENCES pgtier.sharding, schema text NOT NULL, name text NOT NULL, key text NOT NULL,
	made_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (database, schema, name));
ALTER TABLE pgtier.map ADD COLUMN IF NOT EXISTS members text NOT NULL DEFAULT '';
CREATE TABLE IF NOT EXISTS pgtier.motion (
	database text PRIMARY KEY REFERENCES pgtier.sharding, number bigint NOT NULL CHECK (number > 0), moving text NOT NULL, held text NOT NULL,
	held_references boolean NOT NULL, frozen boolean NOT NULL, near boolean NOT NULL, raised_at timestamptz NOT NULL,
	made_at timestamptz NOT NULL, made_by text NOT NULL);
CREATE TABLE IF NOT EXISTS pgtier.proxy (
	database text NOT NULL REFERENCES pgtier.sharding, name text NOT NULL, number bigint NOT NULL, version bigint NOT NULL, shards text NOT NULL,
	at timestamptz NOT NULL, PRIMARY KEY (database, name));
ALTER TABLE pgtier.proxy ADD COLUMN IF NOT EXISTS underway text NOT NULL DEFAULT '*';
ALTER TABLE pgtier.motion ADD COLUMN IF NOT EXISTS groups text NOT NULL DEFAULT '';
REVOKE ALL ON pgtier.sharding, pgtier.map, pgtier.sharded, pgtier.motion, pgtier.proxy FROM PUBLIC;
`

// ShardSQL creates the objects of a shard. It can be run by hand, by any role that may create a schema, and again.
//
//   - pgtier.shard: one row, the mark that says which map this database belongs to.
//   - pgtier.xact: the decisions of transactions over several shards whose anchor this shard is (see Seal). at is when each was made, be the transaction
//     as old as it may.
//   - pgtier.decide, pgtier.settle: the only way for other roles than the owner to write one.
//   - pgtier.motion_seen: the number of the last motion that the shard has heard of: of all that began with nothing in motion, of those by which it has won or lost
//     buckets, and of the end. A proxy that cannot ask the control database learns here that it has to, and one that starts, that the control database
//     has gone back in time. A sequence, because no snapshot is in its way.
//   - pgtier.references_since, pgtier.planned: see PlannedSQL and OutdateSQL. A sequence for the same reason.
//   - pgtier.schema_since, pgtier.schema_planned: see SchemaPlannedSQL and OutdateSchemaSQL.
//   - pgtier.stay: see StaySQL. 2 is a register's state of a group that the shard owns.
//   - pgtier.next_id: a number that no shard gives twice, and no two shards give: the proxy has pgtier.ids step by shard.
const ShardSQL = `CREATE SCHEMA IF NOT EXISTS pgtier;
CREATE TABLE IF NOT EXISTS pgtier.shard (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), database text NOT NULL, id text NOT NULL, name text NOT NULL, secret text NOT NULL,
	made_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS pgtier.xact (
	gid text PRIMARY KEY, decision text NOT NULL CHECK (decision IN ('commit', 'abort')), at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS xact_at ON pgtier.xact (at);
CREATE OR REPLACE FUNCTION pgtier.decide(gid text, proof text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
BEGIN
	PERFORM FROM pgtier.shard AS s WHERE encode(sha256(convert_to(s.secret || encode(sha256(convert_to(s.secret || decide.gid, 'UTF8')), 'hex'), 'UTF8')), 'hex') = decide.proof;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'only pgtier decides transactions' USING ERRCODE = 'insufficient_privilege';
	END IF;
	INSERT INTO pgtier.xact (gid, decision, at) VALUES (decide.gid, 'commit', clock_timestamp());
END $pgtier$;
CREATE OR REPLACE FUNCTION pgtier.settle(gid text, proof text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
DECLARE
	stands text;
BEGIN
	PERFORM FROM pgtier.shard AS s WHERE encode(sha256(convert_to(s.secret || encode(sha256(convert_to(s.secret || settle.gid, 'UTF8')), 'hex'), 'UTF8')), 'hex') = settle.proof;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'only pgtier decides transactions' USING ERRCODE = 'insufficient_privilege';
	END IF;
	INSERT INTO pgtier.xact AS x (gid, decision, at) VALUES (settle.gid, 'abort', clock_timestamp()) ON CONFLICT ON CONSTRAINT xact_pkey DO NOTHING;
	SELECT x.decision INTO STRICT stands FROM pgtier.xact AS x WHERE x.gid = settle.gid;
	RETURN stands;
END $pgtier$;
CREATE SEQUENCE IF NOT EXISTS pgtier.ids;
CREATE OR REPLACE FUNCTION pgtier.next_id() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
	SELECT nextval('pgtier.ids')
$pgtier$;
CREATE SEQUENCE IF NOT EXISTS pgtier.motion_seen MINVALUE 0 START 0;
CREATE SEQUENCE IF NOT EXISTS pgtier.references_since MINVALUE 0 START 0;
CREATE OR REPLACE FUNCTION pgtier.planned(motion bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(` + referenceLock + `);
	IF planned.motion < pg_sequence_last_value('pgtier.references_since') THEN
		RAISE EXCEPTION 'a shard has joined since this write of reference tables was planned' USING ERRCODE = 'PT001',
			DETAIL = 'motion ' || planned.motion, HINT = 'Write through pgtier, which plans it again.';
	END IF;
END $pgtier$;
CREATE SEQUENCE IF NOT EXISTS pgtier.schema_since MINVALUE 0 START 0;
CREATE OR REPLACE FUNCTION pgtier.schema_planned(motion bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(` + schemaLock + `);
	IF schema_planned.motion < pg_sequence_last_value('pgtier.schema_since') THEN
		RAISE EXCEPTION 'a move of buckets has begun since this change of the schema was planned' USING ERRCODE = 'PT001',
			DETAIL = 'motion ' || schema_planned.motion, HINT = 'Change it through pgtier, which plans it again.';
	END IF;
END $pgtier$;
CREATE OR REPLACE FUNCTION pgtier.stay(groups int[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
DECLARE
	grp int;
	register regclass;
BEGIN
	FOREACH grp IN ARRAY stay.groups LOOP
		PERFORM pg_advisory_xact_lock_shared(` + guardClass + `, grp);
		register := to_regclass('pgtier.register_' || grp);
		IF register IS NOT NULL AND pg_sequence_last_value(register) & 3 <> 2 THEN
			RAISE EXCEPTION 'rows of these buckets are not owned by this shard' USING ERRCODE = 'PT001', DETAIL = 'group ' || grp,
				HINT = 'Lock them through pgtier, which knows where they are now.';
		END IF;
	END LOOP;
END $pgtier$;
REVOKE ALL ON pgtier.shard, pgtier.xact, pgtier.ids, pgtier.motion_seen, pgtier.references_since, pgtier.schema_since FROM PUBLIC;
GRANT USAGE ON SCHEMA pgtier TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgtier.decide(text, text), pgtier.settle(text, text), pgtier.next_id(), pgtier.planned(bigint), pgtier.schema_planned(bigint), pgtier.stay(int[]) TO PUBLIC;
`

// Whether the objects are there. Those made by an earlier version lack the ones that came later, and are made whole.
const (
	controlThere = `SELECT pg_catalog.to_regclass('pgtier.sharded') IS NOT NULL`
	controlWhole = `SELECT count(*) = 2 FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass('pgtier.proxy') AND attname = 'underway'
OR attrelid = pg_catalog.to_regclass('pgtier.motion') AND attname = 'groups'`
	shardThere = `SELECT pg_catalog.to_regprocedure('pgtier.next_id()') IS NOT NULL AND pg_catalog.to_regclass('pgtier.xact_at') IS NOT NULL
AND pg_catalog.to_regclass('pgtier.motion_seen') IS NOT NULL AND pg_catalog.to_regprocedure('pgtier.planned(bigint)') IS NOT NULL
AND pg_catalog.to_regprocedure('pgtier.schema_planned(bigint)') IS NOT NULL AND pg_catalog.to_regprocedure('pgtier.stay(int[])') IS NOT NULL`
	markThere = `SELECT pg_catalog.to_regclass('pgtier.shard') IS NOT NULL`
)

// Missing is the error of a role that may not create what pgtier needs.
type Missing struct {
	Place string // "the control database" or "shard s0"
	SQL   string // what creates it
	Cause error
}

// Error says what to do, with the statements in full.
func (m *Missing) Error() string {
	return fmt.Sprintf("create schema pgtier in %s: %v; let a role that may run this:\n%s", m.Place, m.Cause, m.SQL)
}

// Unwrap returns the server's error.
func (m *Missing) Unwrap() error { return m.Cause }

// ensure creates what sql creates, unless it is there.
func ensure(ctx context.Context, q Querier, place, there, sql string) error {
	found, err := isTrue(ctx, q, there)
	if err != nil {
		return fmt.Errorf("look for schema pgtier in %s: %w", place, err)
	}
	if found {
		return nil
	}
	// One simple query is one transaction: all of it is there for others, or nothing.
	err = q.Query(ctx, "SELECT pg_catalog.pg_advisory_xact_lock("+strconv.Itoa(creating)+"); "+sql, nothing)
	if sqlState(err) == codeNoRight {
		role := ""
		if err := q.Query(ctx, "SELECT pg_catalog.quote_ident(CURRENT_USER)", func(fields [][]byte) error {
			role = string(fields[0])
			return nil
		}); err != nil {
			return fmt.Errorf("ask for the role in %s: %w", place, err)
		}
		return &Missing{Place: place, SQL: sql + grants(role), Cause: err}
	}
	if err != nil {
		return fmt.Errorf("create schema pgtier in %s: %w", place, err)
	}
	return nil
}

// EnsureShard creates what ShardSQL does on a shard, unless it is there. A role that may not is told so by a Missing.
func EnsureShard(ctx context.Context, q Querier, name shard.Name) error {
	return ensure(ctx, q, "shard "+string(name), shardThere, ShardSQL)
}

// grants lets a role that does not own the objects work with them.
func grants(role string) string {
	return "GRANT USAGE ON SCHEMA pgtier TO " + role + ";\nGRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgtier TO " + role +
		";\nGRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA pgtier TO " + role + ";\n"
}

func nothing([][]byte) error { return nil }

func isTrue(ctx context.Context, q Querier, sql string) (is bool, err error) {
	err = q.Query(ctx, sql, func(fields [][]byte) error {
		is = string(fields[0]) == "t"
		return nil
	})
	return is, err
}
