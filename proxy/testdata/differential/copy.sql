-- COPY in both directions, whole and broken.
CREATE TABLE c (a int PRIMARY KEY, b text);
COPY c FROM STDIN;
1	one
2	\N
3	tab\there
\.
COPY c TO STDOUT;
COPY c (b, a) TO STDOUT WITH (FORMAT csv, HEADER, NULL 'nil');
COPY c FROM STDIN WITH (FORMAT csv);
4,"four, quoted"
5,five
\.
COPY c FROM STDIN;
6	six
x	broken
7	seven
\.
SELECT count(*) FROM c;
COPY c FROM STDIN;
1	duplicate
\.
COPY nowhere FROM STDIN;
COPY c (z) FROM STDIN;
COPY (SELECT 1/0) TO STDOUT;
COPY (SELECT i, repeat('x', 20) FROM generate_series(1, 200) i) TO STDOUT;
BEGIN;
COPY c FROM STDIN;
8	eight
\.
SELECT count(*) FROM c;
ROLLBACK;
SELECT count(*) FROM c;
COPY c FROM STDIN \; SELECT count(*) FROM c \; COPY c TO STDOUT;
9	nine
\.
SELECT 1 \; COPY c FROM STDIN \; SELECT 1/0;
10	ten
\.
SELECT max(a) FROM c;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% %', TG_OP, TG_LEVEL; RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT ON c FOR EACH STATEMENT EXECUTE FUNCTION note();
COPY c FROM STDIN;
11	eleven
\.
CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
COPY c FROM STDIN;
12	twelve
\.
SELECT 1;
DROP TRIGGER note ON c;
\copy (SELECT a FROM c ORDER BY a) TO PROGRAM 'sort -n | head -2'
\copy c FROM PROGRAM 'seq 100 103 | sed "s/$/,row/"' WITH (FORMAT csv)
SELECT count(*) FROM c;
\copy c FROM STDIN
200	from psql
\.
SET client_min_messages = debug;
RESET client_min_messages;
SELECT count(*) FROM c;
