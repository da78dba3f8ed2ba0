-- must
WITH u AS (SELECT * FROM users WHERE id = 7) SELECT id, name FROM u;
-- must
-- params: 15
WITH o AS (SELECT * FROM orders WHERE user_id = $1) SELECT status, count(*) FROM o GROUP BY status;
WITH u AS (SELECT id, age FROM users) SELECT id FROM u WHERE id = 7;
WITH u AS MATERIALIZED (SELECT id, age FROM users) SELECT id FROM u WHERE id = 7;
WITH u AS (SELECT id, age FROM users WHERE active) SELECT count(*), min(age) FROM u;
-- used twice
WITH u AS (SELECT id, boss FROM users) SELECT a.id, b.id FROM u a JOIN u b ON a.boss = b.id;
WITH u AS (SELECT id, boss FROM users) SELECT a.id, b.boss FROM u a JOIN u b ON a.id = b.id;
WITH n AS (SELECT count(*) AS n FROM users) SELECT a.n, b.n FROM n a, n b;
WITH n AS (SELECT count(*) AS n FROM users) SELECT id, n FROM users, n WHERE id < 5;
WITH t AS (SELECT user_id, sum(total) AS s FROM orders GROUP BY user_id) SELECT u.id, t.s FROM users u JOIN t ON t.user_id = u.id;
WITH t AS (SELECT user_id, sum(total) AS s FROM orders GROUP BY user_id) SELECT max(s) FROM t;
WITH t AS (SELECT status, sum(total) AS s FROM orders GROUP BY status) SELECT * FROM t WHERE s > 1000;
-- must
WITH c AS (SELECT code FROM countries WHERE continent = 'Europe') SELECT u.id FROM users u JOIN c ON c.code = u.country;
WITH c AS (SELECT code FROM countries WHERE continent = 'Europe') SELECT c.code, u.id FROM c LEFT JOIN users u ON c.code = u.country;
WITH top AS (SELECT id FROM users ORDER BY id DESC LIMIT 5) SELECT count(*) FROM top;
WITH top AS (SELECT id FROM users ORDER BY id DESC LIMIT 5) SELECT o.id FROM orders o JOIN top ON top.id = o.user_id;
WITH a AS (SELECT * FROM users WHERE id = 7), b AS (SELECT * FROM users WHERE id = 8) SELECT a.name, b.name FROM a, b;
WITH a AS (SELECT * FROM users WHERE id = 7), b AS (SELECT * FROM orders WHERE user_id = 7) SELECT a.name, b.id FROM a LEFT JOIN b ON true;
WITH a AS (SELECT id FROM users WHERE age = 30), b AS (SELECT id FROM a WHERE id > 10) SELECT * FROM b;
-- the name hides a table
WITH users AS (SELECT 1 AS id) SELECT * FROM users;
WITH users AS (SELECT * FROM countries) SELECT count(*) FROM users;
WITH countries AS (SELECT * FROM users) SELECT count(*) FROM countries;
WITH orders AS (SELECT id AS user_id, id FROM users) SELECT o.id FROM orders o WHERE user_id = 7;
-- but not inside itself
WITH users AS (SELECT * FROM users WHERE id < 5) SELECT id FROM users;
-- and not by schema
WITH users AS (SELECT 1 AS id) SELECT count(*) FROM public.users;
WITH x (key, who) AS (SELECT id, name FROM users) SELECT who FROM x WHERE key = 7;
WITH x (id, key) AS (SELECT age, id FROM users) SELECT key FROM x WHERE id = 30;
-- nobody reads it
WITH x AS (SELECT 1/0 FROM users) SELECT count(*) FROM currencies;
WITH x AS (SELECT * FROM users) SELECT 1 AS one;
-- recursion: reference tables, one shard, all shards
WITH RECURSIVE t (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT n FROM t;
WITH RECURSIVE chain (id, boss, depth) AS (SELECT id, boss, 0 FROM users WHERE id = 7 UNION ALL SELECT u.id, u.boss, depth + 1 FROM users u JOIN chain c ON u.id = c.boss WHERE depth < 5) SELECT id, depth FROM chain;
WITH RECURSIVE reach (id) AS (SELECT id FROM users WHERE id = 7 UNION SELECT u.boss FROM users u JOIN reach r ON u.id = r.id WHERE u.boss IS NOT NULL) SELECT count(*) FROM reach;
WITH RECURSIVE t (n, who) AS (SELECT 1, 15::bigint UNION ALL SELECT n + 1, who FROM t WHERE n < 3) SELECT t.n, o.id FROM t JOIN orders o ON o.user_id = t.who;
-- in a sub-select
SELECT id FROM users WHERE id IN (WITH x AS (SELECT user_id FROM orders WHERE status = 'lost') SELECT user_id FROM x);
SELECT (WITH x AS (SELECT count(*) AS n FROM users) SELECT n FROM x);
SELECT * FROM (WITH x AS (SELECT id FROM users WHERE id = 7) SELECT * FROM x) y;
WITH a AS (SELECT 7::bigint AS id) SELECT u.name FROM users u JOIN a ON a.id = u.id;
WITH a AS (VALUES (7::bigint), (8)) SELECT u.name FROM users u JOIN a ON a.column1 = u.id;
WITH a AS (SELECT id FROM users WHERE id = 7 UNION ALL SELECT id FROM users WHERE id = 8) SELECT * FROM a;
WITH o AS (SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY id) AS n FROM orders) SELECT user_id, id FROM o WHERE n = 1;
WITH o AS (SELECT user_id, id, row_number() OVER (ORDER BY id) AS n FROM orders) SELECT user_id, id FROM o WHERE n <= 3;
