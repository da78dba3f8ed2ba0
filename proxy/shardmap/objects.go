package shardmap

import (
	"context"
	"fmt"
	"strconv"
)

// creating is the advisory lock that makes proxies create objects one after another: IF NOT EXISTS alone fails when two do it at once. The number is
// "pgtier" in ASCII.
const creating = 0x706774696572

// ControlSQL creates the objects of a control database. It can be run by hand, by any role that may create a schema, and again.
//
//   - pgtier.sharding: what is fixed for the life of a database. id tells one database's maps from those made anew, secret proves decisions (see Seal).
//   - pgtier.map: all maps that were in force; the highest version is. No row is ever changed.
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
REVOKE ALL ON pgtier.sharding, pgtier.map, pgtier.sharded FROM PUBLIC;
`

// ShardSQL creates the objects of a shard. It can be run by hand, by any role that may create a schema, and again.
//
//   - pgtier.shard: one row, the mark that says which map this database belongs to.
//   - pgtier.xact: the decisions of transactions over several shards whose anchor this shard is (see Seal).
//   - pgtier.decide, pgtier.settle: the only way for other roles than the owner to write one.
//   - pgtier.next_id: a number that no shard gives twice, and no two shards give: the proxy has pgtier.ids step by shard.
const ShardSQL = `CREATE SCHEMA IF NOT EXISTS pgtier;
CREATE TABLE IF NOT EXISTS pgtier.shard (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), database text NOT NULL, id text NOT NULL, name text NOT NULL, secret text NOT NULL,
	made_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS pgtier.xact (
	gid text PRIMARY KEY, decision text NOT NULL CHECK (decision IN ('commit', 'abort')), at timestamptz NOT NULL DEFAULT now());
CREATE OR REPLACE FUNCTION pgtier.decide(gid text, proof text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
BEGIN
	PERFORM FROM pgtier.shard AS s WHERE encode(sha256(convert_to(s.secret || encode(sha256(convert_to(s.secret || decide.gid, 'UTF8')), 'hex'), 'UTF8')), 'hex') = decide.proof;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'only pgtier decides transactions' USING ERRCODE = 'insufficient_privilege';
	END IF;
	INSERT INTO pgtier.xact (gid, decision) VALUES (decide.gid, 'commit');
END $pgtier$;
CREATE OR REPLACE FUNCTION pgtier.settle(gid text, proof text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
DECLARE
	stands text;
BEGIN
	PERFORM FROM pgtier.shard AS s WHERE encode(sha256(convert_to(s.secret || encode(sha256(convert_to(s.secret || settle.gid, 'UTF8')), 'hex'), 'UTF8')), 'hex') = settle.proof;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'only pgtier decides transactions' USING ERRCODE = 'insufficient_privilege';
	END IF;
	INSERT INTO pgtier.xact AS x (gid, decision) VALUES (settle.gid, 'abort') ON CONFLICT ON CONSTRAINT xact_pkey DO NOTHING;
	SELECT x.decision INTO STRICT stands FROM pgtier.xact AS x WHERE x.gid = settle.gid;
	RETURN stands;
END $pgtier$;
CREATE SEQUENCE IF NOT EXISTS pgtier.ids;
CREATE OR REPLACE FUNCTION pgtier.next_id() RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgtier$
	SELECT nextval('pgtier.ids')
$pgtier$;
REVOKE ALL ON pgtier.shard, pgtier.xact, pgtier.ids FROM PUBLIC;
GRANT USAGE ON SCHEMA pgtier TO PUBLIC;
GRANT EXECUTE ON FUNCTION pgtier.decide(text, text), pgtier.settle(text, text), pgtier.next_id() TO PUBLIC;
`

// Whether the objects are there; the one made last is asked for.
const (
	controlThere = `SELECT pg_catalog.to_regclass('pgtier.sharded') IS NOT NULL`
	shardThere   = `SELECT pg_catalog.to_regprocedure('pgtier.next_id()') IS NOT NULL`
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

// grants lets a role that does not own the objects work with them.
func grants(role string) string {
	return "GRANT USAGE ON SCHEMA pgtier TO " + role + ";\nGRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA pgtier TO " + role + ";\n"
}

func nothing([][]byte) error { return nil }

func isTrue(ctx context.Context, q Querier, sql string) (is bool, err error) {
	err = q.Query(ctx, sql, func(fields [][]byte) error {
		is = string(fields[0]) == "t"
		return nil
	})
	return is, err
}
