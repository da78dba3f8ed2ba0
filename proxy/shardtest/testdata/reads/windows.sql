-- must
SELECT id, row_number() OVER (ORDER BY id) FROM orders WHERE user_id = 15;
SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY id) FROM orders;
SELECT id, row_number() OVER (ORDER BY id) FROM users;
SELECT id, rank() OVER (ORDER BY age), dense_rank() OVER (ORDER BY age) FROM users;
SELECT id, sum(total) OVER (PARTITION BY user_id) FROM orders;
-- the group is on all shards
SELECT id, sum(total) OVER (PARTITION BY status) FROM orders;
SELECT id, count(*) OVER () FROM users;
SELECT user_id, id, lag(id) OVER (PARTITION BY user_id ORDER BY id), lead(id) OVER w FROM orders WINDOW w AS (PARTITION BY user_id ORDER BY id);
SELECT id, lag(id) OVER (ORDER BY id) FROM users;
SELECT status, count(*), rank() OVER (ORDER BY count(*) DESC) FROM orders GROUP BY status;
SELECT status, sum(count(*)) OVER () FROM orders GROUP BY status;
SELECT user_id, count(*), rank() OVER (ORDER BY count(*) DESC) FROM orders GROUP BY user_id;
SELECT tenant, id, sum(reading) OVER (PARTITION BY tenant ORDER BY id) FROM meters;
SELECT tenant, id, first_value(reading) OVER (PARTITION BY tenant, id ORDER BY taken) FROM meters;
SELECT u.id, o.id, count(*) OVER (PARTITION BY u.id) FROM users u JOIN orders o ON o.user_id = u.id;
SELECT id, ntile(4) OVER (ORDER BY id) FROM users;
SELECT code, rank() OVER (ORDER BY population DESC NULLS LAST) FROM countries;
SELECT DISTINCT status, count(*) OVER (PARTITION BY status) FROM orders;
-- ordered
SELECT id, avg(age) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM users ORDER BY id LIMIT 10;
-- ordered
SELECT user_id, id, n FROM (SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY total DESC NULLS LAST, id) AS n FROM orders) x WHERE n <= 2 ORDER BY user_id, n;
-- a partition by an expression of the key
SELECT id, count(*) OVER (PARTITION BY id % 3) FROM users;
SELECT id, count(*) OVER (PARTITION BY id, age) FROM users;
-- ordered
SELECT id FROM users ORDER BY row_number() OVER (ORDER BY age, id) LIMIT 5;
SELECT id, count(*) FILTER (WHERE active) OVER (PARTITION BY country) FROM users;
