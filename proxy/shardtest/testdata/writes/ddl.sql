-- What is made here is gone at the end.
--
CREATE TABLE notes (id bigint PRIMARY KEY, body text);
INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three');
SELECT count(*) FROM notes;
ALTER TABLE notes ADD COLUMN stars int NOT NULL DEFAULT 3;
SELECT id, body, stars FROM notes;
-- a migration sends several statements in one text: all of them, or none
-- simple
-- must
ALTER TABLE users ADD COLUMN gone int DEFAULT 4; CREATE INDEX users_age ON users (age); DROP INDEX users_age;
-- simple
-- must
SELECT sum(gone) FROM users;
-- simple
-- must
ALTER TABLE users DROP COLUMN gone; ALTER TABLE orders DROP COLUMN IF EXISTS gone;
-- simple
-- fails: 42701
ALTER TABLE users ADD COLUMN gone int; ALTER TABLE users ADD COLUMN gone int;
-- fails: 42703
SELECT gone FROM users;
-- its rows are at home
-- simple
CREATE TABLE copied AS SELECT 1 AS a; DROP TABLE copied;
CREATE INDEX notes_body ON notes (body);
-- fails: 42P07
CREATE INDEX notes_body ON notes (body);
-- a notice once, not once a shard
CREATE INDEX IF NOT EXISTS notes_body ON notes (body);
CREATE TABLE IF NOT EXISTS notes (id int);
DROP TABLE IF EXISTS nowhere;
CREATE INDEX users_age ON users (age);
CREATE UNIQUE INDEX users_id_age ON users (id, age);
DROP INDEX users_id_age;
ALTER TABLE users ADD COLUMN extra text DEFAULT 'some';
SELECT id, extra FROM users WHERE id IN (7, 8, 9);
SELECT * FROM users WHERE id = 7;
UPDATE users SET extra = 'other' WHERE id = 8;
SELECT extra, count(*) FROM users GROUP BY extra;
ALTER TABLE users RENAME COLUMN extra TO more;
SELECT id, more FROM users WHERE id = 8;
-- fails: 42703
SELECT extra FROM users;
ALTER TABLE users DROP COLUMN more;
ALTER TABLE orders ADD CONSTRAINT positive CHECK (total >= 0);
-- fails: 23514
UPDATE orders SET total = -1 WHERE user_id = 15;
ALTER TABLE orders DROP CONSTRAINT positive;
-- rows of one shard break it
-- fails: 23514
ALTER TABLE users ADD CONSTRAINT bad CHECK (id <> 7);
-- fails: 23502
-- vague
ALTER TABLE users ALTER COLUMN age SET NOT NULL;
ALTER TABLE currencies ADD COLUMN symbol text;
UPDATE currencies SET symbol = 'x' WHERE code = 'EUR';
SELECT code, symbol FROM currencies;
ALTER TABLE currencies DROP COLUMN symbol;
CREATE VIEW grown AS SELECT id, name FROM users WHERE age >= 18;
SELECT count(*) FROM grown;
DROP VIEW grown;
CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
SELECT id, twice(age) FROM users WHERE id < 9;
DROP FUNCTION twice(int);
CREATE TYPE size AS ENUM ('s', 'm');
ALTER TYPE size ADD VALUE 'l';
DROP TYPE size;
CREATE SCHEMA side;
CREATE TABLE side.users (id int PRIMARY KEY, age int);
INSERT INTO side.users VALUES (7, 700);
SELECT age FROM side.users;
-- the other table of that name
SELECT count(*) FROM public.users;
SET search_path = side, public;
SELECT age FROM users;
RESET search_path;
DROP SCHEMA side CASCADE;
COMMENT ON TABLE users IS 'people';
CREATE SEQUENCE numbers;
DROP SEQUENCE numbers;
-- DDL can be taken back
BEGIN;
ALTER TABLE users ADD COLUMN gone int;
UPDATE users SET gone = 1;
ROLLBACK;
-- fails: 42703
SELECT gone FROM users;
BEGIN;
CREATE TABLE brief (id int);
INSERT INTO brief VALUES (1);
SELECT * FROM brief;
DROP TABLE brief;
COMMIT;
CREATE TEMP TABLE mine (id int, what text);
INSERT INTO mine VALUES (7, 'x');
SELECT * FROM mine;
SELECT m.what, u.name FROM mine m JOIN users u ON u.id = m.id WHERE u.id = 7;
DROP TABLE mine;
CREATE TABLE copied AS SELECT id, name FROM users WHERE id < 10 AND id > 0;
SELECT id, name FROM copied;
DROP TABLE copied;
SELECT id INTO copied FROM users WHERE id = 7;
DROP TABLE IF EXISTS copied;
VACUUM users;
ANALYZE users;
REINDEX TABLE accounts;
GRANT SELECT ON users TO PUBLIC;
REVOKE SELECT ON users FROM PUBLIC;
DROP INDEX users_age;
DROP TABLE notes;
-- fails: 42P01
DROP TABLE notes;
-- simple
DO 'BEGIN RAISE NOTICE ''hello''; END';
CREATE MATERIALIZED VIEW stored AS SELECT status, count(*) FROM orders GROUP BY status;
SELECT * FROM stored;
DROP MATERIALIZED VIEW stored;
