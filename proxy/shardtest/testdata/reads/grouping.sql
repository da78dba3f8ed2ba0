-- must
SELECT status, count(*) FROM orders GROUP BY status;
-- must
SELECT status, currency, sum(total), avg(total), min(total), max(placed) FROM orders GROUP BY status, currency;
-- NULL is a group
-- must
SELECT country, count(*) FROM users GROUP BY country;
-- must
SELECT age, count(*), bool_or(active) FROM users GROUP BY age;
-- must
SELECT user_id, count(*), sum(total) FROM orders GROUP BY user_id;
-- must
SELECT count(*) FROM orders GROUP BY status;
-- must
SELECT user_id, count(*) FROM orders GROUP BY user_id HAVING count(*) > 5;
-- groups that no shard has enough of, and all together have
-- must
SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) > 50;
-- must
SELECT country, count(*), avg(age) FROM users GROUP BY country HAVING count(*) > 10;
SELECT status FROM orders GROUP BY status HAVING sum(total) > 100000;
SELECT status, sum(total) FROM orders GROUP BY status HAVING sum(total) > 100000 AND min(total) < 10 OR status = 'lost';
SELECT status, sum(total) FROM orders GROUP BY status HAVING avg(total) BETWEEN 100 AND 100000;
SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) = (SELECT count(*) FROM orders WHERE status = 'paid');
SELECT status, count(*) FROM orders GROUP BY status HAVING NOT count(*) > 50;
-- params: 50
SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) > $1;
-- params: 'paid'
SELECT status, count(*) FROM orders GROUP BY status HAVING status <> $1;
-- HAVING over a column that is not in the outputs
SELECT count(*) FROM orders GROUP BY status HAVING max(total) > 20000;
SELECT age FROM users GROUP BY age HAVING count(*) FILTER (WHERE active) > 2;
-- GROUP BY without aggregates
-- must
SELECT age FROM users GROUP BY age;
SELECT age, country FROM users GROUP BY age, country;
SELECT id FROM users GROUP BY id;
-- every group as often as the function returns rows
-- ordered: 2
SELECT status, count(*) FROM orders GROUP BY status ORDER BY generate_series(1, 2) * 0, 2;
SELECT count(*) FROM users GROUP BY unnest(tags);
-- by position, by alias, by expression
-- must
SELECT status, count(*) FROM orders GROUP BY 1;
SELECT upper(status) AS s, count(*) FROM orders GROUP BY s;
SELECT upper(status), count(*) FROM orders GROUP BY upper(status);
SELECT age / 10 AS decade, count(*) FROM users GROUP BY decade;
SELECT age / 10 * 10, count(*), min(age % 10) FROM users GROUP BY age / 10;
-- must
SELECT date_trunc('month', placed) AS month, count(*), sum(total) FROM orders GROUP BY 1;
-- must
SELECT date_trunc('month', placed), count(*), min(date_trunc('day', placed)) FROM orders GROUP BY date_trunc('month', placed);
SELECT extract(year FROM born), count(*) FROM users GROUP BY extract(year FROM born);
SELECT length(name), count(*) FROM users GROUP BY length(name);
-- two items that are written alike but for a constant or a parameter
-- must
SELECT id % 2, id % 3, count(*) FROM users GROUP BY id % 2, id % 3;
-- must
SELECT id % 2, id % 3, count(*) FROM users GROUP BY id % 3, id % 2;
-- must
SELECT id % 2, id % 2, count(*) FROM users GROUP BY id % 2, id % 2;
-- must
SELECT ascii(left(name, 1)), ascii(left(name, 2)), length(left(name, 5)), length(left(name, 7)), count(*) FROM users
	GROUP BY ascii(left(name, 1)), ascii(left(name, 2)), length(left(name, 5)), length(left(name, 7));
-- must
SELECT age > 20, age > 22, count(*) FROM users GROUP BY age > 20, age > 22;
-- must
SELECT extract(month FROM created), extract(year FROM created), count(*) FROM users GROUP BY extract(month FROM created), extract(year FROM created);
-- must
SELECT width_bucket(age, 0, 100, 3), width_bucket(age, 0, 100, 7), count(*) FROM users GROUP BY width_bucket(age, 0, 100, 3), width_bucket(age, 0, 100, 7);
-- must
SELECT CASE WHEN age < 30 THEN 1 ELSE 2 END, CASE WHEN age < 50 THEN 1 ELSE 2 END, count(*) FROM users
	GROUP BY CASE WHEN age < 30 THEN 1 ELSE 2 END, CASE WHEN age < 50 THEN 1 ELSE 2 END;
-- params: 2, 3
-- must
SELECT age % $1, age % $2, count(*) FROM users GROUP BY age % $1, age % $2;
-- must
SELECT count(*) FROM users GROUP BY id % 2, id % 3;
-- must
-- an output that the groups determine, written like another item
SELECT (id % 2) % 5, count(*) FROM users GROUP BY id % 2, (id % 3) % 7;
-- must
SELECT CASE active WHEN age > 30 THEN true ELSE active END, count(*) FROM users
	GROUP BY CASE WHEN active THEN age > 30 WHEN true THEN active END, CASE active WHEN age > 30 THEN true ELSE active END;
-- an alias that is a column too: GROUP BY takes the column
SELECT upper(status) AS status, count(*) FROM orders GROUP BY status;
SELECT age AS country, count(*) FROM users GROUP BY age;
-- an expression over the group
SELECT status || '!', count(*) FROM orders GROUP BY status;
SELECT count(*) * 2, status FROM orders GROUP BY status;
SELECT sum(total) / count(*), status FROM orders GROUP BY status;
SELECT status, count(*)::float8 / 10 FROM orders GROUP BY status;
SELECT CASE WHEN age < 30 THEN 'young' ELSE 'old' END AS k, count(*) FROM users GROUP BY k;
SELECT active, age > 30 AS old, count(*) FROM users GROUP BY 1, 2;
-- equal values, differently written: 1.0 and 1.00 are one group
SELECT count(*), sum(id) FROM zoo GROUP BY n;
SELECT n + 0.0000, count(*) FROM zoo GROUP BY n + 0.0000;
SELECT n::numeric(10,4), count(*) FROM zoo GROUP BY 1;
SELECT round(n, 2), count(*) FROM zoo GROUP BY round(n, 2);
SELECT f8, count(*) FROM zoo WHERE f8 <> 0 GROUP BY f8;
SELECT count(*) FROM zoo GROUP BY f8;
SELECT extract(epoch FROM iv), count(*) FROM zoo GROUP BY extract(epoch FROM iv);
SELECT count(*) FROM zoo GROUP BY iv;
-- text that is equal without regard to case: one group, whose name is any of them
SELECT count(*) FROM zoo GROUP BY ci;
SELECT upper(ci), count(*) FROM zoo GROUP BY upper(ci);
SELECT lower(nick COLLATE "C"), count(*) FROM users GROUP BY 1;
SELECT count(*), min(upper(nick COLLATE "C")) FROM users GROUP BY nick;
SELECT icu, count(*) FROM zoo GROUP BY icu;
SELECT c, t, count(*) FROM zoo GROUP BY c, t;
SELECT c COLLATE anycase = 'b', count(*) FROM zoo GROUP BY 1;
SELECT v, count(*) FROM zoo GROUP BY v;
SELECT ch, count(*) FROM zoo GROUP BY ch;
SELECT ch::text, count(*) FROM zoo GROUP BY ch::text;
-- other types of groups
SELECT u, count(*) FROM zoo GROUP BY u;
SELECT y, count(*) FROM zoo GROUP BY y;
SELECT d, count(*) FROM zoo GROUP BY d;
SELECT tz, count(*) FROM zoo GROUP BY tz;
SELECT j, count(*) FROM zoo WHERE j <> '{"a": 1}' GROUP BY j;
SELECT count(*) FROM zoo GROUP BY j;
SELECT a, count(*) FROM zoo GROUP BY a;
SELECT m, count(*) FROM zoo GROUP BY m;
SELECT b, count(*) FROM zoo GROUP BY b;
SELECT tags, count(*) FROM users GROUP BY tags;
SELECT profile->>'plan', count(*) FROM users GROUP BY profile->>'plan';
SELECT bt, count(*) FROM zoo GROUP BY bt;
-- no rows, no groups
-- must
SELECT status, count(*) FROM orders WHERE total > 1e9 GROUP BY status;
SELECT v, count(*) FROM empties GROUP BY v;
SELECT count(*) FROM empties GROUP BY ();
SELECT count(*) FROM users GROUP BY ();
-- grouping sets
SELECT status, currency, count(*) FROM orders GROUP BY ROLLUP (status, currency);
SELECT status, currency, count(*) FROM orders GROUP BY CUBE (status, currency);
SELECT status, currency, count(*), grouping(status) FROM orders GROUP BY GROUPING SETS ((status), (currency), ());
SELECT user_id, status, count(*) FROM orders WHERE user_id < 10 GROUP BY ROLLUP (user_id, status);
-- the key stands for other columns of its table
-- must
SELECT u.id, u.name, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id;
-- must
SELECT c.continent, count(*), sum(u.balance) FROM users u JOIN countries c ON c.code = u.country GROUP BY c.continent;
SELECT c.name, count(u.id) FROM countries c LEFT JOIN users u ON u.country = c.code GROUP BY c.name;
SELECT c.name, count(*) FROM users u LEFT JOIN countries c ON u.country = c.code GROUP BY c.name;
SELECT u.country, o.status, count(*), sum(i.price) FROM users u JOIN orders o ON o.user_id = u.id JOIN order_items i ON i.user_id = u.id AND i.order_id = o.id GROUP BY 1, 2;
-- with order and limit
-- must
-- ordered
SELECT status, count(*) FROM orders GROUP BY status ORDER BY status;
-- must
-- ordered: 2
SELECT age, count(*) FROM users GROUP BY age ORDER BY 2 DESC;
-- must
-- ordered
SELECT age, count(*) FROM users GROUP BY age ORDER BY count(*) DESC, age LIMIT 5;
-- the greatest of all may be the greatest of no shard
-- must
-- ordered
SELECT country, sum(balance) AS s FROM users GROUP BY country ORDER BY s DESC NULLS LAST, country LIMIT 3;
-- ordered
SELECT user_id, count(*) AS n FROM orders GROUP BY user_id ORDER BY n DESC, user_id LIMIT 10 OFFSET 3;
-- ordered
SELECT status FROM orders GROUP BY status ORDER BY max(total) DESC;
-- ordered
SELECT country FROM users GROUP BY country ORDER BY avg(age) DESC NULLS LAST, country;
-- ordered: 1
SELECT icu, count(*) FROM zoo GROUP BY icu ORDER BY icu;
-- ordered
SELECT sorted, count(*) FROM users GROUP BY sorted ORDER BY sorted LIMIT 4;
-- ordered
SELECT day, sum(pages) FROM visits GROUP BY day ORDER BY day;
-- distinct over groups
SELECT DISTINCT count(*) FROM orders GROUP BY user_id;
SELECT DISTINCT status FROM orders GROUP BY status, currency;
-- count(DISTINCT) by group
SELECT status, count(DISTINCT user_id) FROM orders GROUP BY status;
SELECT user_id, count(DISTINCT status) FROM orders GROUP BY user_id;
SELECT country, count(DISTINCT age), sum(age) FROM users GROUP BY country;
SELECT status, array_agg(id ORDER BY id) FROM orders WHERE id < 40 GROUP BY status;
SELECT user_id, array_agg(id ORDER BY id) FROM orders GROUP BY user_id;
SELECT user_id, string_agg(status, ',' ORDER BY id) FROM orders GROUP BY user_id;
SELECT user_id, stddev(total) FROM orders GROUP BY user_id;
-- must
SELECT tenant, id, count(*) FROM meters GROUP BY tenant, id;
SELECT tenant, count(*), sum(reading) FROM meters GROUP BY tenant;
SELECT kind, count(*) FROM events GROUP BY kind;
SELECT continent, count(*), sum(population) FROM countries GROUP BY continent;
SELECT what, count(*) FROM audit GROUP BY what;
