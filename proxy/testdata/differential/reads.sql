-- Reads one by one and nothing else, so that where pipelines may be shared each may travel in one, errors between them.
SELECT 1;
SELECT n, n * n AS square FROM generate_series(1, 7) AS n ORDER BY n;
SELECT count(*), sum(n), avg(n), min(n), max(n) FROM generate_series(1, 1000) AS n;
SELECT 1 / 0;
SELECT 1 / (n - 3) FROM generate_series(1, 5) AS n ORDER BY n;
SELECT n FROM generate_series(1, 5) AS n WHERE n > 7;
SELECT 'abc'::int;
SELECT nothing;
SELECT NULL::int AS nothing, ''::text AS empty;
SELECT repeat('wide', n) FROM generate_series(1, 40) AS n ORDER BY n;
SELECT FROM generate_series(1, 3);
VALUES (1, 'one'), (2, 'two'), (3, NULL);
SELECT relname FROM pg_class WHERE relname LIKE 'pg\_am%' ORDER BY relname;
SELECT a.n, b.n FROM generate_series(1, 3) AS a(n) LEFT JOIN generate_series(2, 4) AS b(n) ON a.n = b.n ORDER BY a.n;
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t;
SELECT '\x00ff'::bytea, '2024-02-29 12:34:56+02'::timestamptz, 0.1::float8 + 0.2;
SELECT 1 / 0;
SELECT upper('last'), length('last');
