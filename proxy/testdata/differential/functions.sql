-- Code that the proxy does not see, and what it does to the session.
CREATE FUNCTION loud(n int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE 'n is %', n;
  RAISE WARNING 'watch out' USING HINT = 'a hint', DETAIL = 'a detail';
  RAISE INFO 'for your information';
  RETURN n * 2;
END $$;
SELECT loud(4);
SET client_min_messages = error;
SELECT loud(5);
SET client_min_messages = debug1;
SELECT loud(6);
RESET client_min_messages;
CREATE FUNCTION fails() RETURNS void LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no %', 'way' USING ERRCODE = 'P0042', HINT = 'try again', TABLE = 'some_table'; END $$;
SELECT fails();
\errverbose
CREATE FUNCTION change(v text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('my.state', v, false) $$;
SELECT change('one');
SHOW my.state;
DO $$ BEGIN PERFORM set_config('my.state', 'two', false); END $$;
SHOW my.state;
DO $$ BEGIN EXECUTE 'SET my.' || 'state = ''three'''; END $$;
SELECT current_setting('my.state');
CREATE FUNCTION scoped() RETURNS text LANGUAGE sql SET my.state = 'inside' AS $$ SELECT current_setting('my.state') $$;
SELECT scoped(), current_setting('my.state');
CREATE TABLE audited (a int);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM set_config('my.trigger', NEW.a::text, false); RAISE NOTICE 'inserted %', NEW.a; RETURN NEW; END $$;
CREATE TRIGGER remember BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION remember();
INSERT INTO audited VALUES (1), (2);
SELECT current_setting('my.trigger');
WITH w AS (INSERT INTO audited VALUES (3) RETURNING a) SELECT * FROM w;
SELECT current_setting('my.trigger');
CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..4 LOOP
    INSERT INTO audited VALUES (i * 10);
    IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
  END LOOP;
END $$;
CALL steps();
SELECT a FROM audited ORDER BY a;
BEGIN;
CALL steps();
ROLLBACK;
DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN RAISE NOTICE 'caught'; END $$;
DO $$ DECLARE r record; BEGIN FOR r IN SELECT 1/(3-i) FROM generate_series(1, 5) i LOOP NULL; END LOOP; END $$;
CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE by_code (a int); END $$;
SELECT makes();
INSERT INTO by_code VALUES (1);
SELECT * FROM by_code;
CREATE VIEW sneaky AS SELECT change('four');
SELECT * FROM sneaky;
SELECT current_setting('my.state');
