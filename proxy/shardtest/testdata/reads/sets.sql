-- must
SELECT id FROM users WHERE id = 7 UNION ALL SELECT user_id FROM orders WHERE user_id = 7;
SELECT id FROM users UNION ALL SELECT user_id FROM orders;
-- the same number on one shard and on another is one row
SELECT id FROM users UNION SELECT user_id FROM orders;
SELECT age FROM users UNION SELECT age FROM users;
SELECT age FROM users UNION ALL SELECT age FROM users;
SELECT status FROM orders UNION SELECT kind FROM accounts;
SELECT id FROM users EXCEPT SELECT user_id FROM orders;
SELECT id FROM users EXCEPT ALL SELECT user_id FROM orders;
SELECT id FROM users INTERSECT SELECT user_id FROM orders;
SELECT age FROM users INTERSECT SELECT quantity FROM order_items;
SELECT age FROM users INTERSECT ALL SELECT quantity + 15 FROM order_items;
SELECT country FROM users EXCEPT SELECT code FROM countries;
SELECT code FROM countries EXCEPT SELECT country FROM users;
SELECT code FROM countries UNION SELECT country FROM users;
-- a reference table is not once a shard
SELECT code FROM countries UNION ALL SELECT country FROM users WHERE id = 7;
SELECT code::text FROM countries UNION ALL SELECT name FROM users;
SELECT name FROM users UNION ALL SELECT code::text FROM countries;
-- must
SELECT code::text FROM countries UNION ALL SELECT code FROM currencies;
-- must
SELECT code::text FROM countries UNION SELECT code FROM currencies;
SELECT 1 AS n UNION ALL SELECT age FROM users WHERE id = 7;
SELECT 1 AS n UNION ALL SELECT age FROM users WHERE age > 55;
SELECT NULL AS n UNION ALL SELECT name FROM users WHERE id < 5;
-- types are those of all branches
SELECT id FROM zoo UNION ALL SELECT id FROM users;
SELECT i4 FROM zoo UNION ALL SELECT n FROM zoo;
-- which of 1.0 and 1.00 is shown is nobody's promise
-- loose
SELECT i4 FROM zoo UNION SELECT n FROM zoo;
SELECT count(*) FROM (SELECT i4 FROM zoo UNION SELECT n FROM zoo) x;
SELECT f8 FROM zoo WHERE f8 <> 0 UNION SELECT n FROM zoo WHERE n <> 'NaN' AND n <> 0;
-- ordered
SELECT id FROM users WHERE id < 10 UNION ALL SELECT user_id FROM orders WHERE user_id < 10 ORDER BY 1;
-- ordered
SELECT id, name FROM users WHERE id BETWEEN 1 AND 10 UNION ALL SELECT id, title FROM tickets ORDER BY id, name LIMIT 7;
-- ordered
(SELECT id FROM users ORDER BY id LIMIT 3) UNION ALL (SELECT id FROM orders ORDER BY id DESC LIMIT 3) ORDER BY 1;
(SELECT id FROM users ORDER BY id LIMIT 3) UNION ALL (SELECT id FROM orders ORDER BY id DESC LIMIT 3);
SELECT count(*) FROM (SELECT id FROM users UNION ALL SELECT id FROM orders) x;
SELECT count(*) FROM (SELECT id FROM users UNION SELECT id FROM orders) x;
SELECT x.id FROM (SELECT id FROM users UNION ALL SELECT user_id FROM orders) x WHERE x.id = 15;
SELECT kind, count(*) FROM (SELECT status AS kind FROM orders UNION ALL SELECT kind FROM accounts) x GROUP BY kind;
SELECT id FROM users WHERE id = 7 UNION ALL SELECT id FROM users WHERE id = 8;
SELECT id FROM users WHERE id = 7 UNION SELECT id FROM users WHERE id = 7;
-- must
SELECT user_id, id FROM orders WHERE user_id = 15 EXCEPT SELECT user_id, order_id FROM order_items WHERE user_id = 15;
-- by the key on both sides: shard by shard would do
SELECT user_id, id FROM orders EXCEPT SELECT user_id, order_id FROM order_items;
SELECT user_id, id FROM orders INTERSECT SELECT user_id, order_id FROM order_items;
VALUES (1, 'a'), (2, 'b');
VALUES (1, 'a'), (2, 'b') UNION ALL SELECT id, name FROM users WHERE id = 7;
SELECT count(*) FROM users UNION ALL SELECT count(*) FROM orders;
SELECT count(*) FROM users UNION SELECT count(*) FROM users;
SELECT 'users' AS t, count(*) FROM users UNION ALL SELECT 'orders', count(*) FROM orders;
(SELECT age FROM users EXCEPT SELECT 30) INTERSECT SELECT quantity * 5 FROM order_items;
SELECT name COLLATE anycase FROM users WHERE id < 0 UNION SELECT 'MINUS' COLLATE anycase;
-- fails: 42601
SELECT id, name FROM users UNION SELECT id FROM users;
-- fails: 42804
SELECT id FROM users UNION SELECT active FROM users;
