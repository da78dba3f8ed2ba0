-- Expressions over aggregates: a server computes them of what the shards' parts make.
--
-- must
SELECT count(*) + 1 FROM users;
-- must
SELECT sum(age)::bigint, sum(balance)::int, avg(age)::float8, count(*)::text, max(age)::numeric(10,3) FROM users;
-- must
SELECT coalesce(sum(age), 0), coalesce(sum(total), 0) AS total, coalesce(max(name), 'nobody') FROM users u JOIN orders o ON o.user_id = u.id;
-- must
SELECT max(age) - min(age), max(born) - min(born), max(created) - min(created), max(created)::date FROM users;
-- must
SELECT round(avg(age), 2), round(avg(balance), 1) AS mean, trunc(avg(total)) FROM users u JOIN orders o ON u.id = o.user_id;
-- must
SELECT sum(balance) / nullif(count(*), 0), 100.0 * count(*) FILTER (WHERE active) / count(*), sum(age) / count(age) FROM users;
-- nothing at all: 0, NULL and a division that does not happen
-- must
SELECT coalesce(sum(n), 0), sum(n) / nullif(count(*), 0), count(*) + 1, coalesce(max(v), '-'), coalesce(sum(id), -1)::text, max(t) - min(t), bool_or(true) IS NULL FROM empties;
-- must
-- fails: 22012
SELECT 1 / count(*) FROM empties;
-- must
-- fails: 22012
SELECT age, 1 / (count(*) - count(*)) FROM users GROUP BY age;
-- must
-- fails: 22003
SELECT sum(age)::smallint * 10000::smallint FROM users;
-- no group: no row
-- must
SELECT v, count(*) + 1, coalesce(sum(n), 0) FROM empties GROUP BY v;
-- on one shard nothing
-- must
SELECT coalesce(sum(total), 0) + 1, count(*) * 2 FROM orders WHERE user_id IN (15, 424242);
-- types, names and modifiers of columns
-- must
SELECT ch, coalesce(max(i4), 0), ch || count(*), CASE WHEN count(*) > 0 THEN ch END, v, coalesce(v, 'none'), v || '!' || count(*), n6, n6 + count(*), n6 * 2 FROM zoo GROUP BY ch, v, n6;
-- must
SELECT i2 + count(*), i2::smallint * min(i2), i4 % 2 = 0 AND count(*) > 0, max(f4) * 2, max(f4) + max(f8), sum(f4) FILTER (WHERE f4 < 1000) * 2, least(max(i2), max(i8)) FROM zoo GROUP BY i2, i4;
-- must
SELECT greatest(max(d), max(ts)), max(tz) AT TIME ZONE 'UTC', extract(year FROM max(tz)), max(tm) + interval '1 hour', date_trunc('month', max(d)), to_char(max(ts), 'YYYY-MM') FROM zoo WHERE ts > '-infinity' AND ts < 'infinity' AND d > '-infinity' AND d < 'infinity';
-- must
SELECT bool_and(b) AND count(*) > 1, NOT bool_or(b), every(b) IS TRUE, bit_or(i4) & 255, ~bit_and(i4), bit_xor(i8) # 1 FROM zoo;
-- must
SELECT count(*), count(*) AS "Count", count(*) + 1, coalesce(count(*), 0), CASE count(*) WHEN 1 THEN 2 END, nullif(count(*), 0), greatest(count(*), 1), count(*)::int4, (count(*))::varchar(3), sum(age)::numeric, - count(*), count(*) IS NULL, ARRAY[count(*), sum(age)], count(*) BETWEEN 1 AND 2, upper(count(*)::text) FROM users;
-- must
SELECT max(u.created), max(created) > '2023-06-01' AS later, min(id) = 1 OR min(id) <> 1 FROM users u;
-- the same aggregate several times, and one beside it
-- must
SELECT count(*), count(*) + count(*), avg(age), avg(age) * 2, avg(age) - sum(age)::numeric / count(age) FROM users;
-- must
SELECT count(user_id) + 1, round(count(DISTINCT user_id)::numeric / 3, 3) FROM (SELECT id, user_id FROM orders) o;
SELECT count(DISTINCT user_id) * 2, count(DISTINCT user_id) FILTER (WHERE total > 5) + 0 FROM orders;
-- NaN, infinities and scales
SELECT coalesce(sum(n), 0), round(avg(n), 3), max(n) - min(n) FROM zoo WHERE n < 1000;
-- must
SELECT sum(i8) / 2, sum(n6) * 1.50, avg(n6) / 3, sum(i4)::numeric(30,4), avg(i8) + 0.10 FROM zoo;
-- approximate
SELECT sum(fx) * 2, avg(fx) / 2, round(sum(fx)::numeric, 2) FROM zoo;
-- must
SELECT max(fx) / 3, min(fx) * 1e-5, max(f8) - 1 FROM zoo WHERE f8 BETWEEN -1000 AND 1000;
-- intervals
SELECT sum(lasted) / 2, coalesce(sum(lasted), interval '0'), extract(epoch FROM avg(lasted)) FROM events;
-- must
SELECT extract(epoch FROM sum(lasted)) / count(*) FROM events;
-- groups
-- must
SELECT status, round(avg(total), 2), count(*) || ' orders', sum(total) / count(*) FROM orders GROUP BY status;
-- must
SELECT country, age, age * count(*), coalesce(country, '??') || age, count(*) - age FROM users GROUP BY country, age;
-- must
SELECT date_trunc('month', created) AS month, count(*) * 100, max(created) - date_trunc('month', created), sum(balance)::int FROM users GROUP BY date_trunc('month', created);
-- must
SELECT date_trunc('month', created) AS month, count(*) * 100 FROM users GROUP BY 1;
-- must
SELECT age % 10 AS decade, count(*) + 1 FROM users GROUP BY decade;
SELECT (age % 10) * count(*) FROM users GROUP BY age % 10;
-- must
SELECT length(status) + count(*) FROM orders GROUP BY length(status);
-- must
SELECT count(*) + 1 FROM orders GROUP BY status;
-- must
SELECT DISTINCT count(*) / 10 FROM orders GROUP BY status;
-- must
SELECT DISTINCT status, count(*) > 5 FROM orders GROUP BY status;
-- of a domain, and of no numbers
-- must
SELECT p, p + count(*) FROM zoo GROUP BY p;
-- must
SELECT u, count(*) + 1 FROM zoo GROUP BY u;
-- must
SELECT b, y, d, tm, count(*) + 1, b IS NULL AND count(*) > 0 FROM zoo GROUP BY b, y, d, tm;
SELECT m, count(*) + 1 FROM zoo GROUP BY m;
SELECT ci, count(*) + 1 FROM zoo GROUP BY ci;
-- not grouped: errors
-- must
-- fails: 42803
SELECT age + count(*) FROM users;
-- must
-- fails: 42803
SELECT age + count(*) FROM users GROUP BY country;
-- must
-- fails: 42883
SELECT count(*) + name FROM users GROUP BY name;
-- must
-- fails: 42803
SELECT sum(count(*)) + 1 FROM users;
-- must
-- fails: 22P02
SELECT count(*) + 'x' FROM users;
-- must
-- fails: 42703
SELECT count(*) + nothing FROM users;
-- HAVING
-- must
SELECT status FROM orders GROUP BY status HAVING sum(total) / count(*) > 10;
-- must
SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) BETWEEN 2 AND 100000 AND max(total) - min(total) > 1;
-- must
SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) + 1 IN (1, 2, 3) OR status LIKE 'p%';
-- must
SELECT count(*) FROM users HAVING count(*) + 1 > 5;
-- must
SELECT count(*) FROM users HAVING count(*) + 1 < 5;
-- must
SELECT 'x' AS word FROM users HAVING count(*) + 1 > 5;
-- a division that HAVING keeps from happening
-- must
SELECT status, 10 / (count(*) - count(note)) FROM orders GROUP BY status HAVING count(*) > count(note);
-- ORDER BY and LIMIT
-- must
-- ordered: 2
SELECT status, round(avg(total), 2) AS mean FROM orders GROUP BY status ORDER BY mean DESC;
-- must
-- ordered: 2
SELECT status, round(avg(total), 2) FROM orders GROUP BY status ORDER BY 2 NULLS FIRST;
-- must
-- ordered
SELECT country, count(*) * 2 FROM users GROUP BY country ORDER BY count(*) * 2 DESC, country NULLS FIRST LIMIT 4;
-- must
-- ordered
SELECT country FROM users GROUP BY country ORDER BY sum(age) / count(*) DESC NULLS LAST, country LIMIT 3 OFFSET 1;
-- must
-- ordered
SELECT age, count(*) FROM users GROUP BY age ORDER BY abs(age - 40), age LIMIT 1 + 4;
-- must
-- ordered
SELECT status, count(*) + 1 FROM orders GROUP BY status ORDER BY length(status), status DESC FETCH FIRST 2 ROWS ONLY;
-- must
-- ordered
SELECT DISTINCT count(*) / 10 AS tens FROM orders GROUP BY status ORDER BY tens DESC;
-- must
-- fails: 42P10
SELECT DISTINCT count(*) / 10 FROM orders GROUP BY status ORDER BY status;
-- must
-- ordered
SELECT count(*) AS n, count(*) + 1 AS age FROM users GROUP BY age ORDER BY age, n;
-- a language's order, and text that no shard's order is known of
-- must
-- ordered
SELECT icu, count(*) + 1 FROM zoo GROUP BY icu ORDER BY icu;
-- must
-- ordered
SELECT sorted, max(age) - min(age) FROM users GROUP BY sorted ORDER BY sorted DESC LIMIT 10;
-- must
-- ordered
SELECT sorted || count(*) FROM users GROUP BY sorted ORDER BY 1;
-- must
SELECT sorted < 'h', upper(sorted) || count(*), sorted > max(email) COLLATE "C" FROM users GROUP BY sorted;
-- must
-- fails: 42P22
SELECT icu, c, icu < c AND count(*) > 0 FROM zoo GROUP BY icu, c;
-- must
-- fails: 2201W
SELECT count(*) + 1 FROM users LIMIT -1;
-- must
SELECT count(*) + 1 FROM users LIMIT NULL OFFSET 0;
-- must
SELECT count(*) + 1 FROM users LIMIT 0;
-- parameters
-- must
-- params: 7
SELECT count(*) + $1 FROM users;
-- must
-- params: 7, 30
SELECT coalesce(sum(balance), $1) FROM users WHERE age > $2;
-- must
-- params: 2, 30, 5
SELECT country, round(avg(balance), $1) FROM users WHERE age > $2 GROUP BY country HAVING count(*) > $3 - 4;
-- must
-- params: 7
SELECT $1 + count(*) FROM users WHERE age > $1;
-- must
-- params: 7
SELECT sum(age) / $1, sum(balance) / $1 FROM users;
-- must
-- params: 'x'
SELECT count(*) || $1, coalesce(max(name), $1) FROM users;
-- must
-- params: NULL
SELECT coalesce(sum(age), $1::int) + 1 FROM users;
-- must
-- params: 3, 1
-- ordered
SELECT country, count(*) + 1 FROM users GROUP BY country ORDER BY 2, 1 LIMIT $1 OFFSET $2;
-- must
-- params: 'month'
SELECT count(*) + 1, date_trunc($1, min(created)) FROM users;
-- joins, sub-selects in FROM and WITH
-- must
SELECT c.continent, sum(u.balance) / count(*), max(c.population) * 2 FROM users u JOIN countries c ON c.code = u.country GROUP BY c.continent;
-- must
SELECT u.country, count(o.id)::float8 / count(DISTINCT u.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.country;
-- must
WITH x AS (SELECT user_id, total FROM orders WHERE total > 1) SELECT count(*) + 1, coalesce(sum(total), 0) FROM x;
-- must
SELECT max(n) - min(n) FROM (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) x;
-- must
SELECT "count(*)" + count(*) FROM (SELECT id, age AS "count(*)" FROM users) x GROUP BY "count(*)";
-- must
SELECT count(*) /* pgtier_1 */ + 1 -- a comment
FROM users -- another
;
-- must
SELECT pgtier_1 + count(*), count(*) AS pgtier_1 FROM (SELECT id, age AS pgtier_1 FROM users) pgtier GROUP BY pgtier_1;
-- must
(SELECT count(*) + 1 FROM users);
-- under settings that change texts
--
SET extra_float_digits = -3;
-- must
SELECT max(fx) * 3, (max(fx) * 3)::text, max(f4)::float8 FROM zoo;
SET DateStyle = 'German';
-- must
SELECT max(born) + 1, max(born)::text || '!', max(created)::text || '!', born, count(*) + 1 FROM users GROUP BY born;
SET TimeZone = 'America/New_York';
-- must
SELECT max(created)::date, max(created)::text || '!', date_trunc('day', max(created)) FROM users;
SET IntervalStyle = 'iso_8601';
-- must
SELECT (max(created) - min(created))::text, max(created) - min(created) FROM users;
SET bytea_output = 'escape';
-- must
SELECT y, y::text || count(*) FROM zoo GROUP BY y;
RESET extra_float_digits;
RESET DateStyle;
RESET TimeZone;
RESET IntervalStyle;
RESET bytea_output;
-- what stays refused
--
SELECT count(*) + row_number() OVER () FROM users;
SELECT count(*) + (SELECT digits FROM currencies WHERE code = 'EUR') FROM users;
SELECT net(sum(total), 1) FROM orders;
SELECT age, count(*) + grouping(age) FROM users GROUP BY ROLLUP (age);
SELECT count(*) + extract(year FROM now())::int FROM users;
-- loose
SELECT count(*) + random() FROM users;
SELECT count(*) + generate_series(1, 2) FROM users;
SELECT max(m)::text FROM zoo;
SELECT stddev(age) + 1 FROM users;
SELECT count(DISTINCT age) + 1 FROM users;
SELECT (count(*), 1) FROM users;
SELECT (ARRAY[count(*)])[1] FROM users;
