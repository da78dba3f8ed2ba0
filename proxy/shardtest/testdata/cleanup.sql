-- Takes away what writes/ddl.sql leaves behind where one of its statements is refused. Run on every server, not through pgtier.
SET client_min_messages = error;
DROP VIEW IF EXISTS grown;
DROP MATERIALIZED VIEW IF EXISTS stored;
DROP TABLE IF EXISTS notes, copied, brief, mine;
DROP SCHEMA IF EXISTS side CASCADE;
DROP FUNCTION IF EXISTS twice(int);
DROP TYPE IF EXISTS size;
DROP SEQUENCE IF EXISTS numbers;
DROP INDEX IF EXISTS users_age, users_id_age;
ALTER TABLE users DROP COLUMN IF EXISTS extra, DROP COLUMN IF EXISTS more, DROP COLUMN IF EXISTS gone, DROP CONSTRAINT IF EXISTS bad, ALTER COLUMN age DROP NOT NULL;
ALTER TABLE orders DROP CONSTRAINT IF EXISTS positive;
ALTER TABLE currencies DROP COLUMN IF EXISTS symbol;
