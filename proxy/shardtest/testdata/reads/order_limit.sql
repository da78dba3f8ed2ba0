-- must
-- ordered
SELECT id, name FROM users ORDER BY id;
-- must
-- ordered
SELECT id FROM users ORDER BY id DESC LIMIT 5;
-- must
-- ordered
SELECT id FROM users ORDER BY id LIMIT 5 OFFSET 100;
-- must
-- ordered
SELECT id % 3 FROM users ORDER BY id % 3;
-- must
-- ordered
SELECT id FROM users ORDER BY id % 3, id % 5 DESC, id;
-- must
-- ordered
SELECT id FROM users ORDER BY sorted COLLATE "C", id;
-- must
-- ordered
SELECT sorted COLLATE "C" AS n, id FROM users ORDER BY n DESC, id LIMIT 20;
-- must
-- ordered
SELECT n, id FROM (SELECT sorted COLLATE "C" AS n, id FROM users) x ORDER BY 1, 2;
-- must
SELECT min(sorted COLLATE "C"), max(icu COLLATE "C") FROM users JOIN zoo ON zoo.id = users.id;
-- a sum of limit and offset that is no bigint
-- must
-- ordered
SELECT id FROM users ORDER BY id LIMIT 9223372036854775807 OFFSET 117;
-- the sides sort otherwise
-- fails: 42P22
SELECT c FROM zoo UNION ALL SELECT icu FROM zoo ORDER BY 1;
-- ordered
SELECT 'b' UNION ALL SELECT icu FROM zoo ORDER BY 1;
-- the order of a sub-select is that of the rows
-- ordered
SELECT * FROM (SELECT id FROM users ORDER BY id DESC) x LIMIT 3;
-- ordered
WITH x AS (SELECT id FROM users ORDER BY id DESC) SELECT id FROM x;
-- must
SELECT count(*), sum(id) FROM (SELECT id FROM users ORDER BY id DESC) x;
-- must
SELECT user_id, string_agg(status, ',') FROM (SELECT user_id, status FROM orders ORDER BY id) x GROUP BY user_id;
-- must
-- a WITH query that nothing names
WITH x AS (SELECT id FROM users) SELECT code FROM countries UNION ALL SELECT code FROM currencies;
SELECT 'x' FROM users WHERE id < -1000 HAVING 1 = 1;
-- must
SELECT 'x' FROM users WHERE id < -1000 HAVING count(*) = 0;
-- must
-- ordered
SELECT id, age FROM users ORDER BY age, id;
-- must
-- ordered
SELECT id, age FROM users ORDER BY age DESC, id LIMIT 10;
-- ordered
SELECT id, age FROM users ORDER BY age DESC NULLS LAST, id DESC LIMIT 10;
-- ordered
SELECT id, age FROM users ORDER BY age NULLS FIRST, id LIMIT 20;
-- must
-- ordered: 2
SELECT id, age FROM users ORDER BY age;
-- ordered: 2 1
SELECT country, age FROM users ORDER BY age DESC, country;
-- must
-- params: 5
-- ordered
SELECT id FROM users ORDER BY id LIMIT $1;
-- must
-- params: 5, 7
-- ordered
SELECT id FROM users ORDER BY id LIMIT $1 OFFSET $2;
-- params: 18, 4
-- ordered
SELECT id, age FROM users WHERE age >= $1 ORDER BY age, id LIMIT $2;
-- params: NULL
-- ordered
SELECT id FROM users ORDER BY id LIMIT $1;
-- params: NULL, 3
-- ordered
SELECT id FROM users WHERE id < 9 ORDER BY id LIMIT $1 OFFSET $2;
-- ordered
SELECT id FROM users ORDER BY id LIMIT ALL OFFSET 110;
-- ordered
SELECT id FROM users ORDER BY id LIMIT NULL;
-- ordered
SELECT id FROM users ORDER BY id LIMIT 0;
-- ordered
SELECT id FROM users ORDER BY id OFFSET 1000;
-- ordered
SELECT id FROM users ORDER BY id LIMIT 1 + 2 OFFSET 10 / 2;
-- ordered
SELECT id FROM users ORDER BY id LIMIT (SELECT digits FROM currencies WHERE code = 'KWD');
-- ordered
SELECT id FROM users ORDER BY id LIMIT (SELECT count(*) FROM users WHERE age = 30);
-- ordered
SELECT id FROM users ORDER BY id FETCH FIRST 3 ROWS ONLY;
-- ordered
SELECT id FROM users ORDER BY id OFFSET 2 ROWS FETCH NEXT ROW ONLY;
-- ordered: 1
SELECT age, id FROM users WHERE age IS NOT NULL ORDER BY age FETCH FIRST 5 ROWS WITH TIES;
-- fails: 2201W
SELECT id FROM users ORDER BY id LIMIT -1;
-- fails: 2201X
-- params: -1
SELECT id FROM users ORDER BY id OFFSET $1;
-- a limit without an order is any rows: their number counts
-- loose
SELECT id FROM users LIMIT 5;
SELECT count(*) FROM (SELECT 1 FROM users LIMIT 5) x;
SELECT 1 AS one FROM users LIMIT 5;
SELECT 1 AS one FROM users OFFSET 120;
SELECT 1 AS one FROM users LIMIT 200;
SELECT 1 AS one FROM users WHERE id IN (1, 2, 3) LIMIT 2;
-- must
-- ordered
SELECT id, total FROM orders WHERE user_id = 15 ORDER BY total DESC NULLS LAST, id LIMIT 3;
-- by position, alias, expression
-- ordered
SELECT id AS number, age FROM users ORDER BY number LIMIT 5;
-- ordered
SELECT id, age FROM users ORDER BY 2 DESC NULLS LAST, 1 LIMIT 5;
-- an alias that is another column's name: ORDER BY takes the output
-- ordered
SELECT -id AS id, age FROM users WHERE id BETWEEN 1 AND 20 ORDER BY id;
-- ordered: 1
SELECT age AS id, name FROM users ORDER BY id;
-- and in an expression it takes the column
-- ordered
SELECT -id AS id FROM users WHERE id BETWEEN 1 AND 20 ORDER BY id + 0;
-- ordered
SELECT id FROM users WHERE id BETWEEN -10 AND 1000 ORDER BY -id;
-- ordered
SELECT id FROM users WHERE id BETWEEN -10 AND 1000 ORDER BY id % 10, id;
-- ordered
SELECT id FROM users ORDER BY id % 7 = 3, id;
-- ordered
SELECT id FROM users ORDER BY length(name), id LIMIT 10;
-- ordered
SELECT id FROM users ORDER BY CASE WHEN age > 30 THEN 0 ELSE 1 END, id;
-- by what is not in the outputs
-- must
-- ordered
SELECT name, id FROM users ORDER BY age, id LIMIT 10;
-- must
-- ordered
SELECT name FROM users ORDER BY id LIMIT 10;
-- ordered
SELECT total FROM orders ORDER BY id LIMIT 10;
-- ordered
SELECT u.* FROM users u ORDER BY created, id LIMIT 3;
-- ordered
SELECT *, age FROM users ORDER BY users.age, id LIMIT 3;
-- the name age is two outputs that are the same column
-- ordered
SELECT age, id, age FROM users ORDER BY age, id LIMIT 3;
-- fails: 42702
SELECT id, age AS id FROM users ORDER BY id;
-- fails: 42P10
SELECT id FROM users ORDER BY 2;
-- a constant orders nothing
SELECT id FROM users WHERE id < 5 ORDER BY 'x'::text LIMIT (SELECT 100);
-- types
-- ordered
SELECT id, balance FROM users ORDER BY balance, id;
-- 1.0 and 1.00 are equal, and the id decides
-- ordered
SELECT id, n FROM zoo ORDER BY n, id;
-- ordered
SELECT id, n FROM zoo ORDER BY n DESC, id DESC LIMIT 20;
-- ordered: 1
SELECT n, id FROM zoo ORDER BY n;
-- ordered
SELECT id, f8 FROM zoo ORDER BY f8, id;
-- ordered
SELECT id, f8 FROM zoo ORDER BY f8 DESC, id LIMIT 30;
-- ordered
SELECT id, f4 FROM zoo ORDER BY f4 DESC NULLS LAST, id;
-- ordered
SELECT id, i2 FROM zoo ORDER BY i2, id;
-- ordered
SELECT id, b FROM zoo ORDER BY b DESC, id;
-- must
-- ordered
SELECT id, c FROM zoo ORDER BY c, id;
-- ordered
SELECT id, t FROM zoo ORDER BY t DESC, id LIMIT 40;
-- must
-- ordered
SELECT name, balance FROM accounts ORDER BY name;
-- ordered
SELECT id, v FROM zoo ORDER BY v, id;
-- blanks at the end of char(n) do not count
-- ordered
SELECT id, ch FROM zoo ORDER BY ch, id;
-- ordered
SELECT id, icu FROM zoo ORDER BY icu, id;
-- ordered
SELECT id, icu FROM zoo ORDER BY icu COLLATE "C", id;
-- ordered
SELECT id, c FROM zoo ORDER BY c COLLATE "und-x-icu", id LIMIT 20;
-- ordered
SELECT id, ci FROM zoo ORDER BY ci, id;
-- ordered
SELECT id, lower(t) FROM zoo ORDER BY lower(t), id;
-- ordered
SELECT id, y FROM zoo ORDER BY y, id;
-- ordered
SELECT id, u FROM zoo ORDER BY u, id;
-- must
-- ordered
SELECT id, kind FROM events ORDER BY id;
-- must
-- ordered
SELECT id, at FROM events ORDER BY at DESC, id LIMIT 10;
-- ordered
SELECT id, d FROM zoo ORDER BY d, id;
-- ordered
SELECT id, d FROM zoo ORDER BY d DESC NULLS LAST, id;
-- ordered
SELECT id, ts FROM zoo ORDER BY ts, id;
-- ordered
SELECT id, tz FROM zoo ORDER BY tz DESC, id;
-- ordered
SELECT id, tm FROM zoo ORDER BY tm, id;
-- 1 day is equal to 24 hours
-- ordered
SELECT id, iv FROM zoo ORDER BY iv, id;
-- ordered
SELECT id, m FROM zoo ORDER BY m, id;
-- ordered
SELECT id, mood FROM users ORDER BY mood DESC, id LIMIT 50;
-- ordered
SELECT id, j FROM zoo ORDER BY j, id;
-- ordered
SELECT id, a FROM zoo ORDER BY a, id;
-- ordered
SELECT id, ip FROM zoo ORDER BY ip, id;
-- ordered
SELECT id, bt FROM zoo ORDER BY bt, id;
-- ordered
SELECT id, p FROM zoo ORDER BY p, id;
-- ordered
SELECT id, sorted FROM users ORDER BY sorted, id LIMIT 10;
-- ordered
SELECT id, (age, country) FROM users ORDER BY (age, country), id LIMIT 10;
-- simple
-- ordered
SELECT u FROM users u ORDER BY u.id LIMIT 2;
-- ordered
SELECT id, age FROM users ORDER BY age USING >, id;
-- joins
-- must
-- ordered
SELECT u.id, o.id, o.total FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.total DESC NULLS LAST, o.id LIMIT 10;
-- ordered
SELECT c.code, c.name, u.id FROM countries c JOIN users u ON u.country = c.code ORDER BY c.code, u.id;
-- ordered
SELECT c.name, u.id FROM countries c JOIN users u ON u.country = c.code ORDER BY c.name, u.id LIMIT 12;
-- must
-- ordered
SELECT code, name FROM countries ORDER BY name;
-- ordered
SELECT tenant, id FROM meters ORDER BY tenant DESC, id LIMIT 30;
-- ordered
SELECT tenant, id FROM meters WHERE tenant = 2 ORDER BY id;
-- ordered
SELECT user_id, day FROM visits ORDER BY day, user_id LIMIT 20;
-- set-returning
-- ordered
SELECT id, generate_series(1, 2) AS g FROM users ORDER BY id, g LIMIT 5;
-- ordered
SELECT id, unnest(tags) AS tag FROM users WHERE id < 30 ORDER BY id, tag NULLS FIRST;
-- random order, any order
SELECT id FROM users WHERE id = 7 ORDER BY random() LIMIT (SELECT 1);
