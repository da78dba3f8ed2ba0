-- must
SELECT count(*) FROM users;
-- must
SELECT count(*), count(age), sum(age), min(age), max(age), avg(age) FROM users;
-- must
SELECT sum(balance), avg(balance), min(balance), max(balance) FROM users;
-- must
SELECT count(*) FROM orders WHERE status = 'paid';
-- must
-- params: 'paid', 100
SELECT count(*), sum(total) FROM orders WHERE status = $1 AND total > $2;
-- must
-- nothing at all: 0 and NULL
SELECT count(*), count(v), sum(id), avg(n), min(v), max(t) FROM empties;
-- must
SELECT count(*), sum(age), avg(age), min(name) FROM users WHERE age > 1000;
-- on one shard there is something, on others nothing: sum is not NULL
-- must
SELECT sum(total), avg(total), min(total), count(total) FROM orders WHERE user_id IN (15, 424242);
-- the types of sums: bigint of int, numeric of bigint, real of real
-- must
SELECT sum(i2), sum(i4), sum(i8), sum(n6), sum(f4) FILTER (WHERE f4 < 1000) FROM zoo;
SELECT sum(i2), sum(i4), sum(i8), sum(n6) FROM zoo;
-- must
SELECT avg(i2), avg(i4), avg(i8), avg(n6) FROM zoo;
-- avg of the avgs would be wrong
-- must
SELECT avg(pages) FROM visits;
-- more digits than a sum of one shard has
SELECT avg(total), sum(total) FROM orders;
SELECT avg(price), sum(price * quantity), avg(price * quantity) FROM order_items;
-- NaN and infinities
SELECT sum(n), avg(n), max(n), min(n) FROM zoo;
SELECT sum(f8), avg(f8), max(f8), min(f8) FROM zoo;
SELECT sum(f4), avg(f4), max(f4), min(f4) FROM zoo;
-- must
SELECT sum(f8), avg(f8), max(f8), min(f8) FROM zoo WHERE f8 BETWEEN -1000 AND 1000;
-- approximate
SELECT sum(fx), avg(fx) FROM zoo;
SELECT max(fx), min(fx) FROM zoo;
SELECT sum(score), avg(score) FROM users;
-- intervals: months, days and times are summed apart
SELECT sum(iv), avg(iv), min(iv), max(iv) FROM zoo;
SELECT sum(lasted), min(lasted), max(lasted) FROM events;
SELECT avg(lasted) FROM events;
-- equal intervals are written differently: which one is the minimum depends on the order
-- loose
SELECT min(iv) FROM zoo WHERE iv IN ('1 day', '24:00:00');
-- must
SELECT min(born), max(born), min(created), max(created) FROM users;
SELECT min(d), max(d), min(ts), max(ts), min(tz), max(tz), min(tm), max(tm) FROM zoo;
SELECT min(day), max(day), min(at), max(at), min(wall), max(wall) FROM events;
-- text: bytes, then a language's order
SELECT min(t), max(t), min(c), max(c) FROM zoo;
SELECT min(icu), max(icu) FROM zoo;
SELECT min(sorted), max(sorted) FROM users;
SELECT min(name), max(name), min(email), max(email) FROM users;
SELECT min(v), max(v) FROM zoo;
SELECT min(ch), max(ch) FROM zoo;
-- equal under the collation and different in bytes
-- loose
SELECT min(ci), max(ci) FROM zoo;
SELECT upper(min(ci)), upper(max(ci)) FROM zoo;
SELECT min(c COLLATE "und-x-icu"), max(c COLLATE "und-x-icu") FROM zoo;
SELECT min(icu COLLATE "C"), max(icu COLLATE "C") FROM zoo;
SELECT min(m), max(m) FROM zoo;
SELECT min(ip), max(ip) FROM zoo;
SELECT min(a), max(a) FROM zoo;
SELECT min(y) FROM (SELECT encode(y, 'hex') AS y FROM zoo) x;
-- must
SELECT bool_and(active), bool_or(active), every(active) FROM users;
SELECT bool_and(b), bool_or(b), bool_and(id > 0), bool_or(id > 100000) FROM zoo;
-- must
SELECT bit_and(i4), bit_or(i4), bit_and(i8), bit_or(i8) FROM zoo WHERE i4 > 0;
SELECT bit_and(bt), bit_or(bt), bit_xor(bt), bit_xor(i4) FROM zoo;
SELECT bit_and(id), bit_or(id) FROM empties;
-- sums that overflow
-- fails: 22003
SELECT sum(f8 * 1e308) FROM zoo WHERE f8 BETWEEN 10 AND 1000;
SELECT sum(id::numeric * 9223372036854775807) FROM users WHERE id BETWEEN 1 AND 100;
SELECT sum(id) FROM users;
SELECT sum(9223372036854775807) FROM users;
-- no shard overflows alone, bigint sums are numeric
SELECT sum(id) FROM users WHERE id > 0;
SELECT sum(2147483647) FROM orders;
-- DISTINCT inside: the same value on several shards counts once
SELECT count(DISTINCT age) FROM users;
SELECT count(DISTINCT status), count(status) FROM orders;
SELECT sum(DISTINCT age), avg(DISTINCT age) FROM users;
-- must
SELECT min(DISTINCT age), max(DISTINCT age) FROM users;
SELECT count(DISTINCT id) FROM users;
SELECT count(DISTINCT user_id) FROM orders;
SELECT count(DISTINCT (user_id, status)) FROM orders;
SELECT count(DISTINCT n) FROM zoo;
SELECT count(DISTINCT ci) FROM zoo;
SELECT count(DISTINCT nick) FROM users;
SELECT count(DISTINCT iv) FROM zoo;
SELECT count(DISTINCT f8) FROM zoo;
-- FILTER
-- must
SELECT count(*) FILTER (WHERE active), count(*) FILTER (WHERE NOT active), sum(age) FILTER (WHERE country = 'DE') FROM users;
SELECT avg(age) FILTER (WHERE age > 1000), avg(age) FILTER (WHERE id = 7) FROM users;
-- expressions over aggregates
SELECT count(*) + 1 FROM users;
SELECT sum(age) / count(age), sum(age) % 7, -sum(age) FROM users;
SELECT max(age) - min(age) AS span FROM users;
SELECT round(avg(balance), 2) FROM users;
SELECT round(avg(total), 3), trunc(sum(total)) FROM orders;
SELECT coalesce(sum(n), 0) FROM empties;
SELECT count(*) > 100, count(*)::text || ' users' FROM users;
SELECT CASE WHEN count(*) > 100 THEN 'many' ELSE 'few' END FROM users;
SELECT count(*), 'constant' AS word, 5 AS five, now() > '2020-01-01' AS later FROM users;
SELECT sum(total)::int, avg(total)::numeric(10,3) FROM orders;
SELECT nullif(count(*), 124) FROM users;
SELECT greatest(max(age), max(boss)), least(min(age), 10) FROM users;
-- aggregates of expressions
-- must
SELECT sum(age * 2), max(length(name)) FROM users;
SELECT min(lower(name)), max(name || 'x') FROM users;
SELECT sum(price * quantity - coalesce(discount, 0)) FROM order_items;
SELECT sum(net(price, discount)) FROM order_items;
SELECT sum(CASE WHEN status = 'paid' THEN 1 ELSE 0 END) FROM orders;
SELECT count(1), count(NULL), count(age + NULL) FROM users;
SELECT sum(1), avg(2), max('x'), min(NULL::int) FROM users;
SELECT sum(length(t)), max(t || 'x') FROM zoo;
-- those that keep more than one value
SELECT stddev(age), variance(age), stddev_pop(age), var_samp(age) FROM users;
SELECT stddev(total), var_pop(total) FROM orders;
-- approximate
SELECT stddev(f8), corr(f8, i4), regr_slope(f8, i4) FROM zoo WHERE f8 BETWEEN -1000 AND 1000;
SELECT string_agg(name, ',' ORDER BY id) FROM users WHERE id BETWEEN 1 AND 20;
SELECT array_agg(id ORDER BY id) FROM users;
SELECT array_agg(id ORDER BY age DESC, id) FROM users WHERE age > 50;
SELECT array_agg(DISTINCT age ORDER BY age) FROM users;
SELECT json_agg(id ORDER BY id) FROM users WHERE id BETWEEN 1 AND 5;
SELECT jsonb_object_agg(id, age) FROM users WHERE id BETWEEN 1 AND 5;
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM users;
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY total) FROM orders;
SELECT mode() WITHIN GROUP (ORDER BY status) FROM orders;
SELECT product(quantity) FROM order_items WHERE quantity > 8;
SELECT rank(30) WITHIN GROUP (ORDER BY age) FROM users;
-- one shard may do all of them
-- must
SELECT string_agg(status, ',' ORDER BY id), array_agg(id ORDER BY id) FROM orders WHERE user_id = 15;
-- must
SELECT stddev(total), count(DISTINCT status) FROM orders WHERE user_id = 15;
-- must
SELECT count(*), max(population), sum(area), avg(area) FROM countries;
SELECT string_agg(code, ',' ORDER BY code) FROM countries;
-- must
SELECT count(*) FROM settings;
-- must
SELECT count(*) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.active;
-- must
SELECT sum(i.quantity * i.price), count(*) FROM orders o JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.id;
-- a join that multiplies rows
SELECT sum(o.total), count(i.line) FROM orders o LEFT JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.id;
SELECT count(*), count(u.id) FROM countries c LEFT JOIN users u ON u.country = c.code;
SELECT count(*), count(c.code) FROM users u LEFT JOIN countries c ON u.country = c.code;
-- a name for an aggregate that is a column's
SELECT count(*) AS age, max(age) AS name FROM users;
SELECT max(id) AS max, max(id) FROM users;
-- without a row of input
-- must
SELECT count(*) FROM users WHERE false;
SELECT sum(age) FROM users HAVING count(*) > 1000;
SELECT sum(age) FROM users HAVING count(*) > 100;
SELECT 1 AS one FROM users HAVING true;
SELECT 'some' AS word FROM users HAVING count(*) > 50;
-- ordered
SELECT count(*) FROM users ORDER BY 1;
SELECT count(*) FROM users LIMIT 1;
SELECT count(*) FROM users LIMIT 0;
SELECT count(*) FROM users OFFSET 1;
SELECT DISTINCT count(*) FROM users;
-- set-returning in the outputs
SELECT count(*), generate_series(1, 2) FROM users;
SELECT count(*) FROM (SELECT unnest(tags) FROM users) x;
-- grouping of one
-- fails: 42803
SELECT age, count(*) FROM users;
-- fails: 42803
SELECT id FROM users WHERE count(*) > 1;
-- fails: 42803
SELECT sum(count(*)) FROM users;
-- fails: 22012
SELECT sum(1 / (age - age)) FROM users;
-- fails: 22012
SELECT 1 / (count(*) - count(*)) FROM users;
-- fails: 42883
SELECT sum(name) FROM users;
SELECT any_value FROM (SELECT 1 AS any_value) x;
SELECT count(u), count(u.*) FROM users u;
