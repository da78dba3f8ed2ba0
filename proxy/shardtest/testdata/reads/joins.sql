-- must
SELECT u.id, u.name, o.id, o.total FROM users u JOIN orders o ON o.user_id = u.id;
-- must
SELECT u.name, o.status FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 15;
-- must
-- params: 15
SELECT u.name, o.status FROM orders o JOIN users u ON o.user_id = u.id WHERE o.user_id = $1;
-- must
SELECT u.id, o.id, i.line FROM users u JOIN orders o ON o.user_id = u.id JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.id WHERE i.quantity > 7;
-- the items' user is not said to be the order's
SELECT o.user_id, o.id, i.line FROM orders o JOIN order_items i ON i.order_id = o.id WHERE i.quantity > 8;
-- must
SELECT o.id, i.product FROM orders o JOIN order_items i USING (user_id) WHERE i.order_id = o.id AND i.quantity = 9;
-- a natural join is over user_id alone
SELECT count(*) FROM orders NATURAL JOIN (SELECT user_id, order_id AS id FROM order_items) i;
SELECT count(*) FROM visits NATURAL JOIN (SELECT user_id, line FROM order_items) i;
-- must
SELECT u.id, c.name FROM users u JOIN countries c ON c.code = u.country;
-- must
SELECT u.id, c.name FROM users u LEFT JOIN countries c ON c.code = u.country;
-- the reference table keeps its rows without users once, not once a shard
SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code;
SELECT c.code, u.id FROM users u RIGHT JOIN countries c ON u.country = c.code;
SELECT c.code, u.id FROM users u FULL JOIN countries c ON u.country = c.code;
SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code WHERE u.id IS NULL;
-- the WHERE makes it an inner join
SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code WHERE u.age > 50;
SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code AND u.id = 7;
-- only one shard is asked, and all countries are there
SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code AND u.id = 7 WHERE u.id = 7;
-- must
SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id;
SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.status = 'lost';
SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.id IS NULL;
-- a condition on the outer key does not bound the rows of u
SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id AND u.id = 15;
SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.user_id = 15 WHERE u.age = 30;
SELECT u.id, t.id FROM users u FULL JOIN tickets t ON t.user_id = u.id WHERE coalesce(t.id, 0) < 20;
SELECT o.id, u.id FROM orders o FULL JOIN users u ON u.id = o.user_id;
SELECT o.id, u.id FROM orders o RIGHT JOIN users u ON u.id = o.user_id;
-- not by the key: boss is another user, maybe of another shard
SELECT u.id, b.id, b.name FROM users u JOIN users b ON b.id = u.boss;
SELECT u.id, b.id FROM users u LEFT JOIN users b ON b.id = u.boss WHERE u.id < 20 AND u.id > 0;
-- self join by the key
SELECT a.id, b.name FROM users a JOIN users b ON a.id = b.id;
SELECT a.id, b.id FROM users a, users b WHERE a.id = 7 AND b.id = 8;
SELECT a.id, b.id FROM users a, users b WHERE a.id = 7 AND b.id = 7;
SELECT a.id, b.id FROM users a, users b WHERE a.id = 7 AND b.age = a.age;
-- without a condition
SELECT count(*) FROM currencies a CROSS JOIN users u;
SELECT count(*) FROM users a CROSS JOIN tickets b;
-- must
SELECT count(*) FROM countries, currencies;
-- a chain of equalities
SELECT u.id, o.id, i.line FROM users u, orders o, order_items i WHERE u.id = i.user_id AND o.user_id = i.user_id AND o.id = i.order_id AND u.id = 21;
SELECT u.id, o.id, i.line FROM users u, orders o, order_items i WHERE u.id = o.user_id AND i.user_id = 15 AND o.user_id = i.user_id AND o.id = i.order_id;
SELECT u.id, v.day FROM users u JOIN visits v ON v.user_id = u.id AND v.pages > 15;
-- keys of different kinds of tables: by text and by number
SELECT a.name, u.id FROM accounts a JOIN users u ON u.id = a.owner WHERE a.kind = 'save';
SELECT a.name, u.id FROM accounts a JOIN users u ON a.name = 'acc-' || u.id;
SELECT e.id, u.name FROM events e JOIN users u ON u.id = e.user_id WHERE e.kind = 'view';
-- keys equal in number, of another width: the same bucket
SELECT u.id, z.i4 FROM users u JOIN zoo z ON z.id = u.id;
SELECT m.tenant, m.id, u.name FROM meters m JOIN users u ON u.id = m.id WHERE m.tenant = 1;
SELECT m.tenant, m.id, n.reading FROM meters m JOIN meters n ON n.tenant = m.tenant AND n.id = m.id;
-- half the key
SELECT m.tenant, m.id, n.id FROM meters m JOIN meters n ON n.tenant = m.tenant WHERE m.id = 1;
SELECT m.tenant, m.id FROM meters m JOIN meters n ON n.tenant = m.id AND n.id = m.tenant;
-- by the key, through an expression
SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id + 1 WHERE u.id BETWEEN 1 AND 20;
SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id + 0 WHERE o.status = 'lost';
SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id::text = u.id::text WHERE o.status = 'lost';
SELECT u.id, o.id FROM users u JOIN orders o ON (o.user_id = u.id) IS NOT FALSE WHERE o.status = 'lost';
SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id OR o.id = u.id WHERE u.age > 54;
SELECT u.id, o.id FROM users u JOIN orders o ON NOT o.user_id <> u.id WHERE o.status = 'lost';
SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id IS NOT DISTINCT FROM u.id WHERE o.status = 'lost';
SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id >= u.id AND o.user_id <= u.id WHERE o.status = 'lost';
-- with home tables
SELECT s.key, u.id FROM settings s, users u WHERE u.id = 7;
SELECT a.what, u.name FROM audit a JOIN users u ON u.id = a.user_id;
SELECT a.what, u.name FROM audit a LEFT JOIN users u ON u.id = a.user_id WHERE a.id < 10;
-- must
SELECT a.id, s.value FROM audit a JOIN settings s ON s.key = 'key' || a.id;
-- must
SELECT a.id, c.name FROM audit a, currencies c WHERE c.code = 'EUR';
-- sub-selects in FROM
-- must
SELECT u.id, o.n FROM users u JOIN (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) o ON o.user_id = u.id;
SELECT u.id, o.n FROM users u LEFT JOIN (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) o ON o.user_id = u.id;
-- the group is not the key: its counts must be those of all shards
SELECT u.id, o.n FROM users u JOIN (SELECT status, count(*) AS n FROM orders GROUP BY status) o ON o.status = 'paid' WHERE u.id < 4 AND u.id > 0;
SELECT x.age, x.n FROM (SELECT age, count(*) AS n FROM users GROUP BY age) x WHERE x.n > 3;
SELECT u.id, x.id FROM users u JOIN LATERAL (SELECT o.id FROM orders o WHERE o.user_id = u.id ORDER BY o.id LIMIT 1) x ON true;
SELECT u.id, x.id FROM users u LEFT JOIN LATERAL (SELECT o.id FROM orders o WHERE o.user_id = u.id ORDER BY o.id DESC LIMIT 2) x ON true;
-- the least order of all users, not of each shard's
SELECT u.id, x.id FROM users u JOIN LATERAL (SELECT o.id FROM orders o ORDER BY o.id LIMIT 1) x ON true WHERE u.age = 30;
SELECT u.id, x.id FROM users u CROSS JOIN (SELECT id FROM orders ORDER BY id LIMIT 1) x WHERE u.age = 30;
SELECT c.code, x.id FROM countries c JOIN LATERAL (SELECT u.id FROM users u WHERE u.country = c.code ORDER BY u.id LIMIT 1) x ON true;
SELECT c.code, x.n FROM countries c CROSS JOIN LATERAL (SELECT count(*) AS n FROM users u WHERE u.country = c.code) x;
SELECT c.code, x.n FROM countries c LEFT JOIN (SELECT country, count(*) AS n FROM users GROUP BY country) x ON x.country = c.code;
-- parentheses and precedence
SELECT u.id, o.id, t.id FROM users u LEFT JOIN (orders o JOIN tickets t ON t.id = o.id) ON o.user_id = u.id WHERE u.age = 30;
SELECT u.id, o.id, i.line FROM users u LEFT JOIN (orders o JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.id) ON o.user_id = u.id WHERE u.age > 50;
SELECT u.id, o.id, i.line FROM users u LEFT JOIN orders o ON o.user_id = u.id LEFT JOIN order_items i ON i.user_id = u.id AND i.order_id = o.id WHERE u.age > 50;
-- the key of the nullable side: NULL for users without orders, and those meet nobody
SELECT u.id, i.line FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.status = 'lost' LEFT JOIN order_items i ON i.user_id = o.user_id WHERE u.id < 10 AND u.id > 0;
SELECT j.who, j.status FROM (users u JOIN orders o ON o.user_id = u.id) AS j (who, name) WHERE j.who = 15;
SELECT j.who, j.status FROM (users u JOIN orders o ON o.user_id = u.id) AS j (who, name) WHERE j.id = 15;
-- must
SELECT u.id, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id;
-- the whole-row
SELECT o FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 15;
-- must
SELECT c.continent, u.id FROM countries c JOIN users u ON u.country = c.code JOIN orders o ON o.user_id = u.id JOIN currencies x ON x.code = o.currency WHERE o.total > 1000;
SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id AND o.total > (SELECT avg(total) FROM orders);
-- an outer join between two reference tables, then sharded rows
SELECT c.code, x.code, u.id FROM countries c LEFT JOIN currencies x ON x.digits = 3 JOIN users u ON u.country = c.code WHERE u.age = 30;
-- functions in FROM
SELECT u.id, g FROM users u, generate_series(1, 2) g WHERE u.age = 30;
SELECT u.id, t FROM users u, unnest(u.tags) t;
SELECT u.id, t FROM users u LEFT JOIN LATERAL unnest(u.tags) t ON t = 'red';
SELECT g, u.id FROM generate_series(1, 3) g LEFT JOIN users u ON u.id = g;
SELECT g, u.id FROM generate_series(118, 125) g LEFT JOIN users u ON u.id = g;
