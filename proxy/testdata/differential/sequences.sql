-- Sequences, locks and large objects remember things in the server process.
CREATE SEQUENCE s;
SELECT currval('s');
SELECT nextval('s'), nextval('s');
SELECT currval('s'), lastval();
CREATE TABLE r (id serial, a int);
INSERT INTO r (a) VALUES (1), (2);
SELECT currval('r_id_seq'), lastval();
SELECT setval('s', 100), nextval('s');
SELECT currval('s');
SELECT setval('s', 200, false), currval('s'), nextval('s');
DISCARD SEQUENCES;
SELECT lastval();
SELECT pg_try_advisory_lock(hashtext(:'schema'));
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT pg_advisory_unlock(hashtext(:'schema'));
SELECT pg_advisory_unlock(hashtext(:'schema'));
BEGIN;
SELECT pg_try_advisory_xact_lock(hashtext(:'schema'));
COMMIT;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
BEGIN;
SELECT lo_create(0) AS lob \gset
SELECT lo_open(:lob, 131072 | 262144) AS fd;
SELECT lowrite(0, 'hello large object');
SELECT lo_lseek(0, 6, 0), loread(0, 5);
COMMIT;
SELECT lo_get(:lob), lo_unlink(:lob);
SELECT loread(0, 5);
