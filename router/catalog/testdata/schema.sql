-- What the statements of TestPins meet. Harmless things have names that begin with ok.
CREATE SCHEMA app;
CREATE TABLE plain (id int PRIMARY KEY, v text);
CREATE TABLE "Mixed" (id int);
CREATE TYPE pair AS (a int, b int);

-- direct
CREATE FUNCTION app.set_tenant(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, false) $$;
CREATE FUNCTION ok_local(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, true) $$;
CREATE FUNCTION local_maybe(t text, l bool) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, l) $$;
CREATE FUNCTION does_set() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '5MB'; END $$;
CREATE FUNCTION ok_set_local() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL work_mem = '5MB'; END $$;
CREATE FUNCTION ok_update() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  UPDATE plain SET v = 'x'; /* SET a = b; */ -- RESET ALL;
  INSERT INTO plain VALUES (1) ON CONFLICT (id) DO UPDATE SET v = 'y';
  IF found THEN UPDATE plain SET v = 'z'; END IF;
END $$;
CREATE FUNCTION does_reset() RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF true THEN RESET work_mem; END IF; END $$;
CREATE FUNCTION makes_temp() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE x (a int); END $$;
CREATE FUNCTION ok_temp_drop() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE y (a int) ON COMMIT DROP; END $$;
CREATE FUNCTION locks() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(1) $$;
CREATE FUNCTION ok_xact_locks() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(1) $$;
CREATE FUNCTION listens() RETURNS void LANGUAGE plpgsql AS $$ BEGIN LISTEN c; END $$;
CREATE FUNCTION ok_notifies() RETURNS void LANGUAGE plpgsql AS $$ BEGIN NOTIFY c; PERFORM pg_notify('c', 'x'); END $$;
CREATE FUNCTION reads_seq() RETURNS bigint LANGUAGE sql AS $$ SELECT lastval() $$;
CREATE FUNCTION dynamic(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE q; END $$;
CREATE FUNCTION ok_dynamic_literal() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'UPDATE plain SET v = $1' USING 'x'; END $$;
CREATE FUNCTION dynamic_literal() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SET work_mem = 1000'; END $$;
CREATE FUNCTION ok_dynamic_format() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('UPDATE plain SET v = %L', now()); END $$;
CREATE FUNCTION dynamic_format() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SELECT %I()', 'locks'); END $$;
CREATE FUNCTION dynamic_glued() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT pg_advi' || 'sory_lock(1)'; END $$;
CREATE FUNCTION ok_proconfig() RETURNS int LANGUAGE sql SET work_mem = '5MB' AS $$ SELECT 1 $$;
CREATE FUNCTION alias_of_set_config(text, text, bool) RETURNS text LANGUAGE internal AS 'set_config_by_name';
CREATE FUNCTION ok_alias_of_upper(text) RETURNS text LANGUAGE internal AS 'upper';
CREATE FUNCTION ok_atomic() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM plain; END;
CREATE FUNCTION atomic_builtin() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT set_config('a.b', 'c', false); END;
CREATE FUNCTION default_argument(t text DEFAULT set_config('a.b', 'c', false)) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION upper(a pair) RETURNS text LANGUAGE sql AS $$ SELECT app.set_tenant('x') $$;
CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$ BEGIN PERFORM app.set_tenant('x'); COMMIT; END $$;
CREATE PROCEDURE ok_proc() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
CREATE FUNCTION "Quoted"() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(1) $$;
CREATE FUNCTION ok_quoted() RETURNS void LANGUAGE sql AS $$ SELECT 1 AS quoted $$;

-- through others
CREATE FUNCTION calls() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN app.set_tenant('x'); END $$;
CREATE FUNCTION calls_calls() RETURNS text LANGUAGE sql AS $$ SELECT CALLS() $$;
CREATE FUNCTION calls_quoted() RETURNS void LANGUAGE sql AS $$ SELECT "Quoted"() $$;
CREATE FUNCTION atomic() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT calls_calls(); END;
CREATE FUNCTION renamed() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT atomic(); END;
ALTER FUNCTION atomic() RENAME TO atomic2;
CREATE FUNCTION overload(int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION overload(text) RETURNS text LANGUAGE sql AS $$ SELECT app.set_tenant($1) $$;
CREATE FUNCTION step(s text, v text) RETURNS text LANGUAGE sql AS $$ SELECT app.set_tenant(v) $$;
CREATE AGGREGATE risky_agg(text) (SFUNC = step, STYPE = text);
CREATE FUNCTION ok_step(s text, v text) RETURNS text LANGUAGE sql AS $$ SELECT s || v $$;
CREATE AGGREGATE ok_agg(text) (SFUNC = ok_step, STYPE = text);
CREATE FUNCTION of_pair(p pair) RETURNS text LANGUAGE sql AS $$ SELECT calls() $$;

-- triggers
CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM app.set_tenant('x'); RETURN NEW; END $$;
CREATE FUNCTION ok_trig() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := 'x'; RETURN NEW; END $$;
CREATE TABLE orders (id int PRIMARY KEY, v text);
CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION trig();
CREATE TABLE ok_orders (id int PRIMARY KEY, v text);
CREATE TRIGGER t BEFORE INSERT ON ok_orders FOR EACH ROW EXECUTE FUNCTION ok_trig();
CREATE TABLE ok_disabled (id int PRIMARY KEY, v text);
CREATE TRIGGER t BEFORE INSERT ON ok_disabled FOR EACH ROW EXECUTE FUNCTION trig();
ALTER TABLE ok_disabled DISABLE TRIGGER t;
CREATE FUNCTION writes_orders() RETURNS void LANGUAGE sql AS $$ INSERT INTO orders VALUES (1) $$;
CREATE FUNCTION ok_reads_orders() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM orders $$;
CREATE TABLE trig_when (id int);
CREATE TRIGGER t BEFORE INSERT ON trig_when FOR EACH ROW WHEN (pg_try_advisory_lock(NEW.id)) EXECUTE FUNCTION ok_trig();
CREATE TABLE writes_other (id int);
CREATE FUNCTION copies() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER t AFTER INSERT ON writes_other FOR EACH ROW EXECUTE FUNCTION copies();

-- cascades, inheritance, partitions
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE);
CREATE TRIGGER t AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION trig();
CREATE TABLE ok_parent (id int PRIMARY KEY);
CREATE TABLE child_restrict (id int REFERENCES ok_parent);
CREATE TRIGGER t AFTER DELETE ON child_restrict FOR EACH ROW EXECUTE FUNCTION trig();
CREATE TABLE truncated_parent (id int PRIMARY KEY);
CREATE TABLE truncated_child (id int REFERENCES truncated_parent);
CREATE TRIGGER t AFTER TRUNCATE ON truncated_child EXECUTE FUNCTION trig();
CREATE TABLE measures (id int) PARTITION BY RANGE (id);
CREATE TABLE measures_1 PARTITION OF measures FOR VALUES FROM (1) TO (10);
CREATE TRIGGER t AFTER INSERT ON measures_1 FOR EACH ROW EXECUTE FUNCTION trig();
CREATE TABLE base (id int);
CREATE TABLE heir () INHERITS (base);
CREATE TRIGGER t AFTER UPDATE ON heir FOR EACH ROW EXECUTE FUNCTION trig();

-- views and rules
CREATE VIEW v_calls AS SELECT calls_calls() AS c;
CREATE VIEW v_over AS SELECT * FROM v_calls;
CREATE VIEW v_builtin AS SELECT set_config('a.b', 'c', false) AS c;
CREATE VIEW v_orders AS SELECT * FROM orders;
CREATE VIEW ok_view AS SELECT * FROM plain;
CREATE MATERIALIZED VIEW matview AS SELECT calls() AS c WITH NO DATA;
CREATE TABLE ruled (id int);
CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT app.set_tenant('x');
CREATE TABLE ruled_write (id int);
CREATE RULE r AS ON INSERT TO ruled_write DO ALSO INSERT INTO orders VALUES (NEW.id);
CREATE FUNCTION reads_view() RETURNS SETOF text LANGUAGE sql AS $$ SELECT c FROM v_over $$;

-- expressions of tables
CREATE FUNCTION immutable_risk(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('a.b', t, false); END $$;
CREATE TABLE t_default (id int, v text DEFAULT calls());
CREATE TABLE t_default_builtin (id int, v bigint DEFAULT lastval());
CREATE TABLE ok_default (id serial, v timestamptz DEFAULT now());
CREATE TABLE t_check (v text CHECK (immutable_risk(v) <> ''));
CREATE TABLE t_generated (v text, w text GENERATED ALWAYS AS (immutable_risk(v)) STORED);
CREATE TABLE t_index (v text);
CREATE INDEX ON t_index (immutable_risk(v));
CREATE TABLE t_partial (v text);
CREATE INDEX ON t_partial (v) WHERE immutable_risk(v) = 'a';
CREATE TABLE t_key (v text) PARTITION BY LIST (immutable_risk(v));
CREATE TABLE t_policy (v text);
CREATE POLICY p ON t_policy USING (calls() = v);
CREATE TABLE t_policy_view (v text);
CREATE POLICY p ON t_policy_view USING (v IN (SELECT c FROM v_calls));
CREATE TABLE ok_policy (v text);
CREATE POLICY p ON ok_policy USING (current_setting('app.tenant') = v);
