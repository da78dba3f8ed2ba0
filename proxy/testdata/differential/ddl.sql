-- Definitions, what psql says of them, and the notices of what is not there.
CREATE TABLE author (id int PRIMARY KEY, name text NOT NULL CHECK (name <> ''));
CREATE TABLE book (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author_id int REFERENCES author ON DELETE CASCADE,
  title text DEFAULT 'untitled', price numeric(8,2), tags text[], UNIQUE (author_id, title));
\d author
\d book
CREATE INDEX book_lower ON book (lower(title)) WHERE price > 10;
ALTER TABLE book ADD COLUMN pages int, ALTER COLUMN price SET DEFAULT 9.99, RENAME COLUMN tags TO labels;
ALTER TABLE book RENAME COLUMN tags TO labels;
\d+ book
CREATE VIEW cheap AS SELECT b.id, a.name FROM book b JOIN author a ON a.id = b.author_id WHERE price < 20;
\d+ cheap
DROP TABLE author;
DROP TABLE IF EXISTS nothing_here, nor_here;
BEGIN;
CREATE TABLE temporary_idea (a int);
DROP TABLE author CASCADE;
ROLLBACK;
\d temporary_idea
COMMENT ON TABLE author IS 'who writes';
SELECT obj_description('author'::regclass);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
ALTER TYPE mood ADD VALUE 'ecstatic' AFTER 'happy';
SELECT enum_range(NULL::mood);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
SELECT (-1)::positive;
CREATE TABLE parent (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10);
INSERT INTO parent VALUES (1, 'one'), (11, 'eleven');
\d+ parent
DROP TABLE author CASCADE;
DROP VIEW IF EXISTS cheap;
