-- psql's own commands, which ask the catalogs and drive the protocol in their ways.
CREATE TABLE m (id serial PRIMARY KEY, kind text, n int);
INSERT INTO m (kind, n) SELECT chr(97 + i % 3), i FROM generate_series(1, 9) i;
\d m
\dt
\di
\ds
\df
\dn+ :schema
\dT
\dp m
\l nowhere
SELECT kind, n % 2 AS odd, sum(n) FROM m GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
SELECT format('CREATE TABLE g%s (a int)', i) FROM generate_series(1, 3) i \gexec
SELECT 'SELECT 1/0' UNION ALL SELECT 'SELECT 2' ORDER BY 1 \gexec
\dt
SELECT count(*) AS n, min(id) AS least FROM m \gset got_
\echo :got_n :got_least
SELECT :got_n + 1 AS next \gx
\x
SELECT * FROM m WHERE id = 1;
\x
\a
\f ;
SELECT * FROM m ORDER BY id LIMIT 2;
\a
\pset format csv
SELECT * FROM m ORDER BY id LIMIT 2;
\pset format aligned
\set AUTOCOMMIT off
INSERT INTO m (kind, n) VALUES ('z', 0);
ROLLBACK;
SELECT count(*) FROM m;
COMMIT;
\set AUTOCOMMIT on
\if :got_n
SELECT 'yes';
\else
SELECT 'no';
\endif
\sf nothing
\sv nothing
\o /dev/null
SELECT 'unseen';
\o
\echo :ROW_COUNT :SQLSTATE :ERROR
SELECT 1/0;
\echo :SQLSTATE :ERROR :LAST_ERROR_MESSAGE
\echo :SERVER_VERSION_NUM :ENCODING :USER
\password_is_not_a_command
