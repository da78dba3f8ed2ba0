-- Cursors inside a transaction, beyond one, and psql's own.
DECLARE lost CURSOR FOR SELECT 1;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT i, i * i AS square FROM generate_series(1, 10) i;
FETCH 3 FROM c;
FETCH PRIOR FROM c;
MOVE FORWARD 4 IN c;
FETCH ABSOLUTE 9 FROM c;
FETCH ALL FROM c;
SELECT name, is_holdable, is_scrollable FROM pg_cursors;
CLOSE c;
FETCH c;
COMMIT;
CREATE TABLE numbers AS SELECT generate_series(1, 30) AS i;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT i FROM numbers ORDER BY i;
FETCH 2 FROM held;
COMMIT;
FETCH 2 FROM held;
SELECT name, is_holdable FROM pg_cursors;
SELECT count(*) FROM numbers;
FETCH 1 FROM held;
CLOSE held;
FETCH held;
\set FETCH_COUNT 7
SELECT i FROM numbers ORDER BY i;
SELECT 10 / (i - 20) FROM numbers ORDER BY i;
\unset FETCH_COUNT
BEGIN;
DECLARE u CURSOR FOR SELECT i FROM numbers ORDER BY i FOR UPDATE;
FETCH 1 FROM u;
UPDATE numbers SET i = -1 WHERE CURRENT OF u;
COMMIT;
SELECT min(i) FROM numbers;
DISCARD ALL;
SELECT count(*) FROM pg_cursors;
