-- What the statements of keeping.golden meet, with schema.sql and reading.sql.
CREATE TYPE tenses AS (d date, note text);
CREATE DOMAIN deadline AS date;
CREATE DOMAIN hour AS time;
CREATE DOMAIN table_name AS regclass;
CREATE TYPE with_name AS (t regclass, n int);

CREATE TABLE orders_kept (id int PRIMARY KEY, made timestamptz, due date, opens time, note text, doc jsonb, made_text text, tag text[], body tsvector, price money, feels mood);
INSERT INTO orders_kept SELECT i, timestamptz '2024-01-01 00:00:00+00' + i * interval '1 day', date '2024-02-01' + i, '08:00', 'note ' || i, jsonb_build_object('d', '2024-03-01'),
  '2024-04-0' || i, ARRAY['2024-05-01'], to_tsvector('english', 'running now ' || i), 3, 'ok' FROM generate_series(1, 5) AS i;
CREATE TABLE plain_dates (id int, d date);
INSERT INTO plain_dates VALUES (1, '2024-01-01');
CREATE TABLE has_regclass (id int, t regclass);
INSERT INTO has_regclass VALUES (1, 'users');
CREATE TABLE has_regclasses (id int, t table_name[]);
CREATE TABLE has_row (id int, r with_name);
CREATE TABLE has_grants (id int, a aclitem);
CREATE TABLE has_timetz (id int, t timetz);
INSERT INTO has_timetz VALUES (1, '08:00');
CREATE TABLE has_config (id int, c regconfig);
CREATE TABLE parent_of_names (id int);
CREATE TABLE child_with_name (t regtype) INHERITS (parent_of_names);

-- views
CREATE VIEW k_now AS SELECT id, now() AS n FROM users;
CREATE VIEW k_today AS SELECT id, current_date AS d FROM users;
CREATE VIEW k_over_today AS SELECT id FROM k_today;
CREATE VIEW k_user AS SELECT id, current_user AS u, current_catalog AS c FROM users;
CREATE VIEW k_login AS SELECT id, session_user AS u FROM users;
CREATE VIEW k_schema AS SELECT id, current_schema AS s FROM users;
CREATE VIEW k_age AS SELECT id, age(born) AS a FROM users;
CREATE VIEW k_age_between AS SELECT id, age(born, '2024-01-01') AS a FROM users;
CREATE VIEW k_sample AS SELECT id FROM users TABLESAMPLE bernoulli (50);
CREATE VIEW k_text_date AS SELECT id, made_text::date AS d FROM orders_kept;
CREATE VIEW k_texts_dates AS SELECT id, tag::date[] AS d FROM orders_kept;
CREATE VIEW k_text_row AS SELECT id, ('(' || made_text || ',x)')::tenses AS d FROM orders_kept;
CREATE VIEW k_date AS SELECT id, made::date AS d, made::text AS t, due::timestamptz AS z, date_trunc('day', made) AS y FROM orders_kept;
CREATE VIEW k_frozen AS SELECT id, date 'today' AS d FROM users;
CREATE VIEW k_ctid AS SELECT ctid AS c FROM users;
CREATE VIEW k_tableoid AS SELECT tableoid AS c FROM cities;
CREATE VIEW k_xml AS SELECT x.d FROM users, XMLTABLE('/a' PASSING ('<a><d>2024-01-01</d></a>'::xml) COLUMNS d date PATH 'd') AS x;
CREATE VIEW k_json AS SELECT x.d FROM orders_kept, jsonb_to_record(doc) AS x(d date);
CREATE VIEW k_zone AS SELECT id, made AT TIME ZONE 'UTC' AS m FROM orders_kept;
CREATE VIEW k_zone_time AS SELECT id, opens AT TIME ZONE 'UTC' AS m FROM orders_kept;
CREATE VIEW k_catalog AS SELECT relname FROM pg_class;
CREATE VIEW k_schema_view AS SELECT table_name::text AS t FROM information_schema.tables;
CREATE VIEW k_regclass AS SELECT id, id::regclass AS c FROM users;
CREATE VIEW k_admin AS SELECT id FROM users WHERE current_setting('is_superuser') = 'on';
CREATE VIEW k_login_setting AS SELECT id FROM users WHERE current_setting('session_authorization') = 'x';
CREATE VIEW k_role_setting AS SELECT id FROM users WHERE current_setting('role') <> 'x';
CREATE MATERIALIZED VIEW k_stored AS SELECT id, now() AS n, current_date AS d FROM users;

-- functions
CREATE FUNCTION k_now_sql() RETURNS timestamptz STABLE LANGUAGE sql AS $$ SELECT now() $$;
CREATE FUNCTION k_now_pl() RETURNS bool STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN extract(year FROM CURRENT_TIMESTAMP) > 2000; END $$;
CREATE FUNCTION k_now_atomic() RETURNS bool STABLE LANGUAGE sql BEGIN ATOMIC SELECT extract(year FROM localtimestamp) > 2000; END;
CREATE FUNCTION k_calls_now() RETURNS timestamptz STABLE LANGUAGE sql AS $$ SELECT k_now_sql() $$;
CREATE FUNCTION k_imm_now() RETURNS bool IMMUTABLE LANGUAGE sql AS $$ SELECT true FROM (SELECT clock_timestamp()) AS x $$;
CREATE FUNCTION k_literal() RETURNS bool STABLE LANGUAGE sql AS $$ SELECT 'Yesterday'::date < '2030-01-01' $$;
CREATE FUNCTION k_joined() RETURNS bool STABLE LANGUAGE sql AS $$ SELECT 'yester'
'day'::date < '2030-01-01' $$;
CREATE FUNCTION k_word() RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'knowing' $$;
CREATE FUNCTION k_reads(a int) RETURNS text STABLE LANGUAGE sql AS $$ SELECT note FROM orders_kept WHERE id = a AND due > '2000-01-01'::date $$;
CREATE FUNCTION k_text_date(a text) RETURNS bool STABLE LANGUAGE sql AS $$ SELECT a::date < '2030-01-01' $$;
CREATE FUNCTION k_cast_date(a text) RETURNS bool STABLE LANGUAGE sql AS $$ SELECT CAST(a AS date) < '2030-01-01' $$;
CREATE FUNCTION k_dot_date(a text) RETURNS bool STABLE LANGUAGE sql AS $$ SELECT (a).date < '2030-01-01' $$;
CREATE FUNCTION k_imm_date(a text) RETURNS date IMMUTABLE LANGUAGE sql AS $$ SELECT a::date $$;
CREATE FUNCTION k_pl_date(a text) RETURNS bool STABLE LANGUAGE plpgsql AS $$ DECLARE d date; BEGIN d := a; RETURN d < '2030-01-01'; END $$;
CREATE FUNCTION k_pl_row(a text) RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE r plain_dates; BEGIN SELECT 1, a INTO r; RETURN 1; END $$;
CREATE FUNCTION k_pl_type(a text) RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE r users.born%TYPE; BEGIN r := a; RETURN 1; END $$;
CREATE FUNCTION k_pl(a int) RETURNS text STABLE LANGUAGE plpgsql AS $$ DECLARE n text; BEGIN SELECT note INTO n FROM orders_kept WHERE id = a; RETURN n; END $$;
CREATE FUNCTION k_execute() RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN EXECUTE 'SELECT count(*) FROM users WHERE born < now()' INTO n; RETURN n; END $$;
CREATE FUNCTION k_execute_word() RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN EXECUTE 'SELECT count(*) FROM users WHERE born < current_date' INTO n; RETURN n; END $$;
CREATE FUNCTION k_regclass(a oid) RETURNS regclass STABLE LANGUAGE sql AS $$ SELECT a::regclass $$;
CREATE FUNCTION k_catalog() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM pg_class $$;
CREATE FUNCTION k_default(a timestamptz DEFAULT now()) RETURNS int STABLE LANGUAGE sql AS $$ SELECT extract(year FROM a)::int $$;
CREATE FUNCTION k_login() RETURNS bool STABLE LANGUAGE sql AS $$ SELECT session_user = 'x' $$;
CREATE FUNCTION k_login_setting() RETURNS bool STABLE LANGUAGE sql AS $$ SELECT current_setting('session_authorization') = 'x' $$;
CREATE FUNCTION k_sampled() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM users TABLESAMPLE bernoulli (10) $$;
CREATE FUNCTION k_zone(a int) RETURNS timestamp STABLE LANGUAGE sql AS $$ SELECT made AT TIME ZONE 'UTC' FROM sales.invoices WHERE id = a $$;
CREATE FUNCTION k_zone_time() RETURNS bool STABLE LANGUAGE sql AS $$ SELECT opens AT TIME ZONE 'UTC' IS NULL FROM orders_kept $$;
CREATE FUNCTION k_step(s int, v int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT s + v $$;
CREATE AGGREGATE k_sum(int) (SFUNC = k_step, STYPE = int, INITCOND = 0);
CREATE FUNCTION k_step_now(s int, v int) RETURNS int STABLE LANGUAGE sql AS $$ SELECT extract(epoch FROM now())::int $$;
CREATE AGGREGATE k_sum_now(int) (SFUNC = k_step_now, STYPE = int, INITCOND = 0);
CREATE FUNCTION k_later(d date, v date) RETURNS date IMMUTABLE LANGUAGE sql AS $$ SELECT greatest(d, v) $$;
CREATE AGGREGATE k_latest(date) (SFUNC = k_later, STYPE = date, INITCOND = 'today');
CREATE FUNCTION k_older(timestamptz, int) RETURNS bool STABLE LANGUAGE sql AS $$ SELECT $1 < now() - $2 * interval '1 day' $$;
CREATE OPERATOR <~!> (LEFTARG = timestamptz, RIGHTARG = int, FUNCTION = k_older);
CREATE FUNCTION k_of_user(u users) RETURNS int STABLE LANGUAGE sql AS $$ SELECT extract(year FROM age(u.born))::int $$;
CREATE FUNCTION date_bin(mood) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'no' || 'w' $$;
CREATE FUNCTION op_text(mood, mood) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'no' || 'w' $$;
CREATE OPERATOR * (LEFTARG = mood, RIGHTARG = mood, FUNCTION = op_text);

-- policies
CREATE TABLE rls_user (owner text, v int);
INSERT INTO rls_user VALUES (current_user, 1);
ALTER TABLE rls_user ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_user USING (owner = current_user);
CREATE TABLE rls_login (owner text, v int);
ALTER TABLE rls_login ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_login USING (owner = session_user);
CREATE TABLE rls_now (until timestamptz, v int);
ALTER TABLE rls_now ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_now USING (until > now());

-- what only writers or the planner evaluate
CREATE TABLE k_checked (id int, made timestamptz DEFAULT now() CHECK (made <= now()));
INSERT INTO k_checked VALUES (1, '2024-01-01');
CREATE TABLE k_indexed (id int, at date);
CREATE INDEX ON k_indexed (at) WHERE at > '2024-01-01';
INSERT INTO k_indexed VALUES (1, '2024-02-02');
