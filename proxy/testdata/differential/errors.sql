-- Errors with their positions and fields, and that the session goes on after each.
SELEC 1;
SELECT * FROM nowhere;
SELECT nothing;
SELECT 1 +;
SELECT 'unterminated
;
';
SELECT f(1);
SELECT 1/0;
\set VERBOSITY verbose
SELECT 1 FROM generate_series(1, 3) i WHERE 1/(i-2) > 0;
\set VERBOSITY default
\set SHOW_CONTEXT always
CREATE TABLE e (a int PRIMARY KEY, b int CHECK (b > 0), c int NOT NULL DEFAULT 0 REFERENCES e);
INSERT INTO e VALUES (0, 1, 0);
INSERT INTO e VALUES (0, 1, 0);
INSERT INTO e VALUES (1, -1, 0);
INSERT INTO e VALUES (1, 1, NULL);
INSERT INTO e VALUES (1, 1, 7);
INSERT INTO e VALUES (1, 2, 3, 4);
DELETE FROM e;
BEGIN;
SELECT 1/0;
SELECT 1;
INSERT INTO e VALUES (9, 9, 0);
ROLLBACK;
;
;;
SELECT 1;;
SELECT 1 \; SELECT 2 \; SELECT 1/0 \; SELECT 3;
SELECT 1 \; SELEC 2;
VACUUM \; SELECT 1;
BEGIN;
VACUUM;
COMMIT;
CREATE DATABASE :"schema" TEMPLATE nowhere;
SET statement_timeout = 50;
SELECT pg_sleep(5);
RESET statement_timeout;
SELECT 'still here';
ALTER SYSTEM SET nonsense = 1;
SELECT pg_cancel_backend(pg_backend_pid());
SELECT 'and here';
