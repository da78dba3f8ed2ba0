-- What the statements of reading.golden meet, with schema.sql. Everything here has rows, and writes nothing when it is read.
SET check_function_bodies = off; -- some name what comes later
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION tablefunc;
CREATE EXTENSION "uuid-ossp";
CREATE EXTENSION pg_buffercache;
CREATE EXTENSION unaccent;
CREATE EXTENSION dblink;
CREATE EXTENSION moddatetime;
CREATE EXTENSION lo;

-- tables
CREATE SCHEMA sales;
CREATE SCHEMA archive;
CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, born date, age int, version int DEFAULT 1, manager int REFERENCES users);
INSERT INTO users SELECT i, 'user ' || i, 'u' || i || '@example.org', date '1980-01-01' + i, 20 + i, 1, nullif(i / 3, 0) FROM generate_series(1, 20) AS i;
CREATE TABLE sales.invoices (id serial PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, total numeric(10, 2), made timestamptz DEFAULT now(), tags text[], doc jsonb);
INSERT INTO sales.invoices (user_id, total, made, tags, doc) SELECT i % 20 + 1, i * 1.5, timestamptz '2024-01-01 00:00:00+00' + i * interval '1 hour',
  ARRAY['t' || i % 3], jsonb_build_object('n', i) FROM generate_series(1, 40) AS i;
CREATE TABLE sales.items (invoice_id int REFERENCES sales.invoices ON DELETE CASCADE ON UPDATE CASCADE, no int, sku text, PRIMARY KEY (invoice_id, no));
INSERT INTO sales.items SELECT i, 1, 'sku' || i % 5 FROM generate_series(1, 40) AS i;
CREATE TABLE archive.invoices (id int, total numeric(10, 2));
INSERT INTO archive.invoices VALUES (1, 10), (2, 20);
CREATE TABLE settings_of (key text PRIMARY KEY, value text);
INSERT INTO settings_of VALUES ('a', '1'), ('b', '2');
CREATE TABLE audit (at timestamptz DEFAULT now(), what text);
CREATE TABLE counters (n bigint);
INSERT INTO counters VALUES (1);
CREATE TABLE "Odd Name" ("Select" int);
INSERT INTO "Odd Name" VALUES (7);
CREATE UNLOGGED TABLE unlogged (id int);
CREATE SEQUENCE seq;
CREATE UNLOGGED TABLE heir_unlogged (id int);

-- partitions and inheritance
CREATE TABLE events (id int, at date, kind text) PARTITION BY RANGE (at);
CREATE TABLE events_2023 PARTITION OF events FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE events_2024_a PARTITION OF events_2024 FOR VALUES IN ('a');
CREATE TABLE events_2024_rest PARTITION OF events_2024 DEFAULT;
INSERT INTO events VALUES (1, '2023-05-05', 'a'), (2, '2024-05-05', 'a'), (3, '2024-06-06', 'b');
CREATE TABLE cities (name text, people int);
CREATE TABLE capitals (country text) INHERITS (cities);
INSERT INTO cities VALUES ('Bern', 1);
INSERT INTO capitals VALUES ('Rome', 2, 'Italy');
CREATE TABLE mixed (id int);
CREATE UNLOGGED TABLE mixed_unlogged () INHERITS (mixed);
CREATE TABLE part_far (id int) PARTITION BY LIST (id);

-- foreign tables
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'nowhere');
CREATE FOREIGN TABLE far (id int) SERVER elsewhere;
CREATE FOREIGN TABLE part_far_1 PARTITION OF part_far FOR VALUES IN (1) SERVER elsewhere;
CREATE VIEW v_far AS SELECT * FROM far;

-- functions by volatility and language
CREATE FUNCTION imm(int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT $1 + 1 $$;
CREATE FUNCTION sta(int) RETURNS text STABLE LANGUAGE sql AS $$ SELECT name FROM users WHERE id = $1 $$;
CREATE FUNCTION vol(int) RETURNS int LANGUAGE sql AS $$ SELECT $1 $$;
CREATE FUNCTION imm_pl(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN a * 2; END $$;
CREATE FUNCTION sta_pl(a int) RETURNS numeric STABLE LANGUAGE plpgsql AS $$ DECLARE s numeric; BEGIN SELECT sum(total) INTO s FROM sales.invoices WHERE user_id = a; RETURN s; END $$;
CREATE FUNCTION vol_pl(a int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN a; END $$;
CREATE FUNCTION writes(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES (what); END $$;
CREATE FUNCTION writes_sql() RETURNS bigint LANGUAGE sql AS $$ UPDATE counters SET n = n + 1 RETURNING n $$;
CREATE FUNCTION sta_writes(a text) RETURNS int STABLE LANGUAGE sql AS $$ SELECT 1 FROM (SELECT writes(a)) AS x $$;
CREATE FUNCTION sta_nextval() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT nextval('seq') $$;
CREATE FUNCTION sta_recovery() RETURNS bool STABLE LANGUAGE sql AS $$ SELECT pg_is_in_recovery() $$;
CREATE FUNCTION sta_recovery2() RETURNS bool STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN sta_recovery(); END $$;
CREATE FUNCTION sta_recovery3() RETURNS bool STABLE LANGUAGE sql BEGIN ATOMIC SELECT pg_is_in_recovery(); END;
CREATE FUNCTION vol_recovery() RETURNS bool LANGUAGE sql AS $$ SELECT pg_is_in_recovery() $$;
CREATE FUNCTION imm_says_version() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN pg_catalog . version(); END $$;
CREATE FUNCTION imm_version_column() RETURNS int STABLE LANGUAGE sql AS $$ SELECT version FROM users WHERE id = 1 $$;
CREATE FUNCTION sta_activity() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM pg_stat_activity $$;
CREATE FUNCTION sta_tenant() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('app.tenant', true) $$;
CREATE FUNCTION sta_work_mem() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('work_mem') $$;
CREATE FUNCTION sta_any_setting(name text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting(name) $$;
CREATE FUNCTION sta_unlogged() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM unlogged $$;
CREATE FUNCTION sta_far() RETURNS bigint STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM v_far); END $$;
CREATE FUNCTION sta_dynamic(t text) RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN EXECUTE 'SELECT count(*) FROM ' || t INTO n; RETURN n; END $$;
CREATE FUNCTION sta_dynamic_literal() RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN EXECUTE 'SELECT count(*) FROM users' INTO n; RETURN n; END $$;
CREATE FUNCTION sta_dynamic_local() RETURNS text STABLE LANGUAGE plpgsql AS $$ DECLARE n text; BEGIN EXECUTE 'SELECT pg_postmaster_start_time()' INTO n; RETURN n; END $$;
CREATE FUNCTION sta_lock() RETURNS void STABLE LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(1) $$;
CREATE FUNCTION sta_view() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM v_both $$;
CREATE FUNCTION sta_random() RETURNS float8 STABLE LANGUAGE sql AS $$ SELECT random() $$;
CREATE FUNCTION sta_comment() RETURNS bigint STABLE LANGUAGE plpgsql AS $$ DECLARE comment bigint; BEGIN comment := (SELECT count(*) FROM ok_orders); RETURN comment; END $$;
CREATE FUNCTION sta_cursor() RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE r record; n int := 0; BEGIN FOR r IN SELECT id FROM users LOOP n := n + r.id; END LOOP; RETURN n; END $$;
CREATE FUNCTION sta_default(a int DEFAULT 3, b int DEFAULT 4) RETURNS int STABLE LANGUAGE sql AS $$ SELECT a + b $$;
CREATE FUNCTION sta_default_local(a int DEFAULT pg_backend_pid()) RETURNS int STABLE LANGUAGE sql AS $$ SELECT a $$;
CREATE FUNCTION sta_default_volatile(a bigint DEFAULT nextval('seq')) RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT a $$;
CREATE FUNCTION sta_atomic(a int) RETURNS bigint STABLE LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM sales.items WHERE no = a; END;
CREATE FUNCTION rows_of(lowest int) RETURNS SETOF users STABLE LANGUAGE sql AS $$ SELECT * FROM users WHERE id >= lowest $$;
CREATE FUNCTION table_of(OUT a int, OUT b text) RETURNS SETOF record STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT id, name FROM users; END $$;
CREATE FUNCTION varia(VARIADIC v int[]) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT v[1] $$;
CREATE FUNCTION definer() RETURNS bigint STABLE SECURITY DEFINER SET search_path = sales LANGUAGE sql AS $$ SELECT count(*) FROM items $$;
CREATE FUNCTION alias_recovery() RETURNS bool STABLE LANGUAGE internal AS 'pg_is_in_recovery';
CREATE FUNCTION alias_lower(text) RETURNS text IMMUTABLE STRICT LANGUAGE internal AS 'lower';
CREATE FUNCTION recursive(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF n <= 1 THEN RETURN 1; END IF; RETURN n * recursive(n - 1); END $$;
CREATE FUNCTION of_user(u users) RETURNS text STABLE LANGUAGE sql AS $$ SELECT u.name || ' of ' || (SELECT count(*) FROM settings_of) $$;
CREATE FUNCTION vol_of_user(u users) RETURNS text LANGUAGE sql AS $$ SELECT u.name $$;
CREATE PROCEDURE proc_writes() LANGUAGE sql AS $$ UPDATE counters SET n = n + 1 $$;

-- overloads
CREATE FUNCTION over_all(int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION over_all(text) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT 2 $$;
CREATE FUNCTION over_one(int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION over_one(text) RETURNS int VOLATILE LANGUAGE sql AS $$ SELECT 2 $$;
CREATE FUNCTION sales.over_schema(int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION archive.over_schema(int) RETURNS int VOLATILE LANGUAGE sql AS $$ SELECT 2 $$;
CREATE FUNCTION archive.md5(text) RETURNS text VOLATILE LANGUAGE sql AS $$ SELECT 'x' $$;

-- aggregates and windows
CREATE FUNCTION add_step(s int, v int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT coalesce(s, 0) + v $$;
CREATE AGGREGATE add_all(int) (SFUNC = add_step, STYPE = int);
CREATE FUNCTION vol_step(s int, v int) RETURNS int VOLATILE LANGUAGE sql AS $$ SELECT v $$;
CREATE AGGREGATE vol_all(int) (SFUNC = vol_step, STYPE = int);
CREATE FUNCTION local_step(s int, v int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT pg_backend_pid() $$;
CREATE AGGREGATE local_all(int) (SFUNC = local_step, STYPE = int);
CREATE AGGREGATE first_of(int) (SFUNC = int4larger, STYPE = int);

-- operators, casts, types
CREATE FUNCTION op_imm(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT $1 * 10 + $2 $$;
CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = op_imm);
CREATE FUNCTION op_vol(int, int) RETURNS int VOLATILE LANGUAGE sql AS $$ SELECT $1 - $2 $$;
CREATE OPERATOR <-!> (LEFTARG = int, RIGHTARG = int, FUNCTION = op_vol);
CREATE FUNCTION op_local(int, int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT pg_backend_pid() $$;
CREATE OPERATOR sales.<@!> (LEFTARG = int, RIGHTARG = int, FUNCTION = op_local);
CREATE FUNCTION op_reads(int, int) RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM settings_of $$;
CREATE OPERATOR <#!> (LEFTARG = int, RIGHTARG = int, FUNCTION = op_reads);
CREATE VIEW v_operator AS SELECT id <-!> 1 AS x FROM users;
CREATE VIEW v_operator_ok AS SELECT id <+> 1 AS x FROM users;
CREATE FUNCTION sta_operator() RETURNS int STABLE LANGUAGE sql AS $$ SELECT 3 <-!> 1 $$;
CREATE TYPE money_pair AS (amount int, unit text);
CREATE FUNCTION pair_text(money_pair) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT ($1).amount || ' ' || ($1).unit $$;
CREATE CAST (money_pair AS text) WITH FUNCTION pair_text(money_pair);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE FUNCTION is_short(text) RETURNS bool IMMUTABLE LANGUAGE sql AS $$ SELECT length($1) < 10 $$;
CREATE DOMAIN short AS text CHECK (is_short(VALUE));
CREATE DOMAIN numbered AS bigint DEFAULT nextval('seq');
CREATE TYPE spans AS RANGE (subtype = int);
CREATE TABLE people (name short, feels mood, paid money_pair, no numbered);
INSERT INTO people VALUES ('Ann', 'happy', ROW(3, 'EUR'), 1), ('Bob', 'sad', ROW(5, 'CHF'), 2);

-- checks and indexes: not evaluated by readers unless immutable
CREATE FUNCTION vol_check(int) RETURNS bool VOLATILE LANGUAGE sql AS $$ SELECT $1 > 0 $$;
CREATE TABLE checked (id int CHECK (vol_check(id)));
INSERT INTO checked VALUES (1);
CREATE FUNCTION imm_liar(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1 + pg_backend_pid() * 0; END $$;
CREATE TABLE indexed (id int);
CREATE INDEX ON indexed (imm_liar(id));
INSERT INTO indexed VALUES (1);
CREATE TABLE generated (id int, twice int GENERATED ALWAYS AS (imm(id)) STORED);
INSERT INTO generated (id) VALUES (1), (2);
CREATE TABLE with_defaults (id bigint DEFAULT nextval('seq'), pid int DEFAULT pg_backend_pid());
INSERT INTO with_defaults VALUES (1, 2);

-- views
CREATE VIEW v_users AS SELECT id, name FROM users;
CREATE VIEW v_both AS SELECT u.id, u.name, i.total FROM v_users u JOIN sales.invoices i ON i.user_id = u.id;
CREATE VIEW v_three AS SELECT * FROM v_both WHERE total > 10;
CREATE VIEW v_volatile AS SELECT vol(id) AS v FROM users;
CREATE VIEW v_volatile2 AS SELECT * FROM v_volatile;
CREATE VIEW v_recovery AS SELECT pg_is_in_recovery() AS r;
CREATE VIEW v_recovery2 AS SELECT u.id, r.r FROM users u, v_recovery r;
CREATE VIEW v_activity AS SELECT pid FROM pg_stat_activity;
CREATE VIEW v_locks AS SELECT * FROM pg_locks;
CREATE VIEW v_settings AS SELECT name, setting FROM pg_settings;
CREATE VIEW v_tenant AS SELECT * FROM settings_of WHERE value <> coalesce(current_setting('app.tenant', true), '');
CREATE VIEW v_work_mem AS SELECT current_setting('work_mem') AS w;
CREATE VIEW v_setting_computed AS SELECT key, current_setting('app.' || key, true) AS s FROM settings_of;
CREATE VIEW v_settings_mixed AS SELECT current_setting('app.tenant', true) AS a, current_setting('port') AS b;
CREATE VIEW v_seq AS SELECT last_value FROM seq;
CREATE VIEW v_unlogged AS SELECT * FROM unlogged;
CREATE VIEW v_nextval AS SELECT nextval('seq') AS n;
CREATE VIEW v_random AS SELECT id, random() AS r FROM users;
CREATE VIEW v_now AS SELECT id, now() AS n, current_date AS d FROM users;
CREATE VIEW v_lock AS SELECT * FROM users FOR UPDATE;
CREATE VIEW v_lock2 AS SELECT * FROM v_lock;
CREATE VIEW v_function AS SELECT * FROM rows_of(3);
CREATE VIEW v_catalog AS SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace;
CREATE VIEW v_size AS SELECT pg_relation_size('users') AS s;
CREATE VIEW v_events AS SELECT * FROM events;
CREATE VIEW v_recursive AS WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT n FROM t;
CREATE VIEW sales.summary AS SELECT user_id, sum(total) AS total FROM sales.invoices GROUP BY user_id;
CREATE MATERIALIZED VIEW m_users AS SELECT id, upper(name) AS name FROM users;
CREATE MATERIALIZED VIEW m_volatile AS SELECT vol(1) AS v, pg_is_in_recovery() AS r;
CREATE MATERIALIZED VIEW m_of_view AS SELECT * FROM v_both;

-- policies
CREATE TABLE tenants (tenant text, v int);
INSERT INTO tenants VALUES ('a', 1), ('b', 2);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON tenants USING (tenant = current_setting('app.tenant', true));
CREATE TABLE rls_lookup (owner text, v int);
INSERT INTO rls_lookup VALUES ('a', 1);
ALTER TABLE rls_lookup ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_lookup USING (owner IN (SELECT key FROM settings_of));
CREATE TABLE rls_volatile (v int);
ALTER TABLE rls_volatile ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_volatile USING (vol(v) > 0);
CREATE TABLE rls_local (v int);
ALTER TABLE rls_local ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_local USING (pg_is_in_recovery());
CREATE TABLE rls_setting (v text);
ALTER TABLE rls_setting ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_setting USING (v = current_setting('cluster_name'));

-- triggers and rules: no concern of readers
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON settings_of FOR EACH ROW EXECUTE FUNCTION audit_row();
CREATE FUNCTION emptied() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE counters SET n = 0; RETURN NULL; END $$;
CREATE TRIGGER emptied AFTER TRUNCATE ON settings_of FOR EACH STATEMENT EXECUTE FUNCTION emptied();
CREATE TABLE ruled_both (id int);
INSERT INTO ruled_both VALUES (1);
CREATE RULE r AS ON INSERT TO ruled_both DO ALSO INSERT INTO audit (what) VALUES ('ruled');
CREATE TABLE stamped (id int, moddate timestamp);
INSERT INTO stamped VALUES (1, NULL);
CREATE TRIGGER stamp BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION moddatetime('moddate');
CREATE TABLE with_large (id int, object lo);
CREATE TRIGGER manage BEFORE UPDATE OR DELETE ON with_large FOR EACH ROW EXECUTE FUNCTION lo_manage(object);
CREATE TABLE logs (id int, part int) PARTITION BY LIST (part);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES IN (1);
CREATE TRIGGER audit AFTER INSERT ON logs FOR EACH ROW EXECUTE FUNCTION audit_row();
CREATE FUNCTION empties() RETURNS void LANGUAGE plpgsql AS $$ BEGIN TRUNCATE settings_of; END $$;
CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE made (id int); END $$;
CREATE FUNCTION sets_comment() RETURNS void LANGUAGE plpgsql AS $$ DECLARE comment int; BEGIN comment := 1; INSERT INTO counters VALUES (comment); END $$;
CREATE FUNCTION atomic_writes() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM sales.invoices WHERE id < 3; END;
CREATE VIEW v_instead AS SELECT id FROM counters, users;
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE counters SET n = 1; RETURN NULL; END $$;
CREATE TRIGGER instead INSTEAD OF INSERT ON v_instead FOR EACH ROW EXECUTE FUNCTION instead();
