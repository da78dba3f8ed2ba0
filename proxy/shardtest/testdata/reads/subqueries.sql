-- must
SELECT id, name FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = u.id);
-- must
SELECT id, name FROM users u WHERE NOT EXISTS (SELECT FROM orders o WHERE o.user_id = u.id);
SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE status = 'lost');
SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM orders);
-- owner has NULLs: never true
SELECT id FROM users WHERE id NOT IN (SELECT owner FROM accounts);
SELECT id FROM users WHERE id NOT IN (SELECT owner FROM accounts WHERE owner IS NOT NULL);
-- the accounts of a user are on any shard
SELECT id FROM users WHERE id IN (SELECT owner FROM accounts WHERE kind = 'save');
SELECT id FROM users u WHERE EXISTS (SELECT FROM accounts a WHERE a.owner = u.id);
SELECT id FROM users u WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.owner = u.id) AND id < 40;
SELECT id FROM users WHERE country IN (SELECT code FROM countries WHERE continent = 'Asia');
SELECT id FROM users WHERE country NOT IN (SELECT code FROM countries WHERE continent = 'Europe');
-- must
SELECT id FROM users u WHERE EXISTS (SELECT FROM countries c WHERE c.code = u.country AND c.population > 100);
-- which countries have no users: a question to all shards at once
SELECT code FROM countries c WHERE NOT EXISTS (SELECT FROM users u WHERE u.country = c.code);
SELECT code FROM countries c WHERE EXISTS (SELECT FROM users u WHERE u.country = c.code);
SELECT code FROM countries WHERE code IN (SELECT country FROM users WHERE id < 10);
SELECT code FROM countries WHERE code NOT IN (SELECT country FROM users WHERE country IS NOT NULL);
-- scalar sub-selects
-- must
SELECT id, (SELECT count(*) FROM orders o WHERE o.user_id = u.id) FROM users u;
SELECT id, (SELECT count(*) FROM orders) FROM users WHERE id < 5;
SELECT id, (SELECT max(total) FROM orders o WHERE o.user_id = u.boss) FROM users u WHERE id BETWEEN 1 AND 30;
SELECT id FROM users WHERE age = (SELECT max(age) FROM users);
SELECT id FROM users u WHERE age = (SELECT max(age) FROM users x WHERE x.country = u.country);
SELECT id FROM users WHERE id = (SELECT max(user_id) FROM orders);
SELECT id FROM users WHERE id = (SELECT min(user_id) FROM orders WHERE user_id = 15);
SELECT id FROM users WHERE id = (SELECT 7);
SELECT (SELECT name FROM users WHERE id = 7) AS seven, (SELECT name FROM users WHERE id = 8) AS eight;
SELECT (SELECT name FROM users WHERE id = 7) AS seven;
-- must
SELECT code, (SELECT name FROM currencies WHERE code = 'EUR') FROM countries;
SELECT code, (SELECT count(*) FROM users u WHERE u.country = c.code) FROM countries c;
-- more than one row
-- fails: 21000
SELECT id FROM users WHERE age = (SELECT age FROM users WHERE age IS NOT NULL);
-- one row a shard at most, perhaps, and several in all
-- fails: 21000
SELECT (SELECT id FROM users WHERE id IN (1, 2, 3, 4, 5));
-- fails: 21000
SELECT code, (SELECT id FROM users WHERE id IN (1, 2, 3, 4, 5)) FROM currencies;
SELECT id FROM users WHERE age > ALL (SELECT age FROM users WHERE country = 'DE' AND age IS NOT NULL);
SELECT id FROM users WHERE age >= ANY (SELECT age FROM users WHERE country = 'FR') AND id < 30;
SELECT id FROM users WHERE age = ALL (SELECT age FROM users WHERE id = 424242) AND id BETWEEN 1 AND 9;
SELECT id FROM users WHERE (id, age) IN (SELECT user_id, 30 FROM orders);
SELECT id FROM users WHERE (age, country) IN (SELECT age, country FROM users WHERE id < 10);
SELECT id FROM users WHERE (SELECT count(*) FROM orders) > 100 AND id < 5;
SELECT id FROM users WHERE EXISTS (SELECT FROM orders WHERE status = 'lost') AND id < 5;
SELECT id FROM users WHERE EXISTS (SELECT FROM orders WHERE user_id = 15 AND status = 'nothing') AND id < 5;
SELECT id FROM users WHERE NOT EXISTS (SELECT FROM empties) AND id < 5;
-- LIMIT inside
SELECT count(*) FROM (SELECT id FROM users LIMIT 10) x;
SELECT max(id) FROM (SELECT id FROM users ORDER BY id LIMIT 10) x;
SELECT id FROM users WHERE id IN (SELECT user_id FROM orders ORDER BY id LIMIT 3);
SELECT sum(age) FROM (SELECT age FROM users ORDER BY age DESC NULLS LAST, id LIMIT 7) x;
-- ordered
SELECT id FROM (SELECT id, age FROM users ORDER BY id LIMIT 20) x WHERE age > 20 ORDER BY id;
SELECT id FROM (SELECT id FROM users ORDER BY id OFFSET 100) x;
-- aggregates of aggregates
SELECT max(n) FROM (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) x;
SELECT avg(n) FROM (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) x;
SELECT avg(n) FROM (SELECT status, count(*) AS n FROM orders GROUP BY status) x;
SELECT count(*) FROM (SELECT status FROM orders GROUP BY status) x;
SELECT count(*) FROM (SELECT DISTINCT status FROM orders) x;
SELECT count(*) FROM (SELECT DISTINCT user_id FROM orders) x;
SELECT n, count(*) FROM (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) x GROUP BY n;
SELECT sum(s) FROM (SELECT sum(total) AS s FROM orders) x;
SELECT count(*) FROM (SELECT sum(total) AS s FROM orders) x;
-- DISTINCT inside
SELECT user_id, status FROM (SELECT DISTINCT user_id, status FROM orders) x WHERE status = 'paid';
SELECT age FROM (SELECT DISTINCT age FROM users) x;
-- the sub-select gives the key under another name
-- must
SELECT x.who, o.id FROM (SELECT id AS who FROM users WHERE active) x JOIN orders o ON o.user_id = x.who;
SELECT x.who FROM (SELECT id AS who FROM users) x WHERE who = 7;
SELECT x.who FROM (SELECT id # 1 AS who FROM users) x WHERE who = 7;
SELECT x.id FROM (SELECT coalesce(id, 0) AS id FROM users) x WHERE id = 7;
SELECT x.id, x.boss FROM (SELECT boss AS id, id AS boss FROM users) x WHERE x.id = 7;
SELECT x.user_id FROM (SELECT boss AS user_id FROM users) x JOIN orders o ON o.user_id = x.user_id WHERE o.status = 'lost';
-- correlation through two levels
SELECT u.id FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND EXISTS (SELECT FROM order_items i WHERE i.user_id = o.user_id AND i.order_id = o.id AND i.quantity = 9));
SELECT u.id FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND EXISTS (SELECT FROM order_items i WHERE i.user_id = u.id AND i.order_id = o.id AND i.product = 'kiwi'));
SELECT u.id FROM users u WHERE EXISTS (SELECT FROM orders o WHERE EXISTS (SELECT FROM order_items i WHERE i.user_id = u.id AND i.order_id = o.id AND i.product = 'kiwi'));
-- names: user_id is not a column of users, id is one of both
SELECT id FROM users WHERE id IN (SELECT id FROM orders);
SELECT id FROM users WHERE EXISTS (SELECT FROM orders WHERE id = user_id);
SELECT id FROM users WHERE EXISTS (SELECT FROM orders WHERE user_id = users.id AND orders.id = 20);
-- in the outputs
SELECT id, EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND o.status = 'lost') FROM users u WHERE age = 30;
SELECT id, ARRAY(SELECT o.id FROM orders o WHERE o.user_id = u.id ORDER BY o.id) FROM users u WHERE id BETWEEN 1 AND 10;
SELECT ARRAY(SELECT id FROM users ORDER BY id LIMIT 5);
SELECT id, age IN (SELECT age FROM users WHERE id = 5) FROM users WHERE id < 20 AND id > 0;
SELECT CASE WHEN EXISTS (SELECT FROM users WHERE age = 18) THEN 'some' ELSE 'none' END;
SELECT coalesce((SELECT id FROM users WHERE name = 'nobody'), -1);
SELECT code FROM currencies WHERE digits = (SELECT count(*) FROM users WHERE id = 7);
SELECT code FROM currencies WHERE digits < (SELECT count(*) FROM users WHERE age = 18);
-- must
SELECT * FROM (SELECT * FROM users WHERE id = 7) x;
-- must
SELECT * FROM (SELECT user_id, id FROM orders WHERE user_id = 15 ORDER BY id LIMIT 2) x;
-- params: 15
SELECT u.id, (SELECT count(*) FROM orders o WHERE o.user_id = $1) FROM users u WHERE u.id = $1;
-- params: 15, 16
SELECT u.id, (SELECT count(*) FROM orders o WHERE o.user_id = $2) FROM users u WHERE u.id = $1;
SELECT u.id FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) > 5;
SELECT u.id FROM users u WHERE u.balance > (SELECT avg(balance) FROM users);
SELECT u.id FROM users u WHERE u.balance > (SELECT avg(x.balance) FROM users x WHERE x.country = u.country);
SELECT u.id FROM users u, (SELECT avg(balance) AS a FROM users) x WHERE u.balance > x.a * 3;
