-- Long results, long rows and long statements.
SELECT i, repeat('x', i % 80) FROM generate_series(1, 3000) i;
SELECT length(repeat('abc', 1000000)), md5(repeat('abc', 1000000));
SELECT repeat('y', 300000) AS long;
SELECT i, repeat('z', 9000) FROM generate_series(1, 40) i;
CREATE TABLE w AS SELECT i, repeat('w', 100) AS w FROM generate_series(1, 2000) i;
\copy (SELECT * FROM w ORDER BY i) TO PROGRAM 'md5sum'
\copy w FROM PROGRAM 'seq 5000 9000 | sed "s/$/\tv/"'
SELECT count(*), sum(i) FROM w;
SELECT string_agg('(' || i || ')', ',') AS rows FROM generate_series(1, 30000) i \gset
CREATE TABLE v (i int);
\set QUIET on
INSERT INTO v SELECT length(:'rows');
SELECT i FROM v;
DO $$ BEGIN FOR i IN 1..500 LOOP RAISE NOTICE '% %', i, repeat('n', 50); END LOOP; END $$;
