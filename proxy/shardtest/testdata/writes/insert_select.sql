-- must
INSERT INTO orders (user_id, id, status) SELECT user_id, id + 10000, 'copy' FROM orders WHERE user_id = 15;
-- by the key to the key: shard by shard
-- must
INSERT INTO orders (user_id, id, status) SELECT id, 20000, 'welcome' FROM users WHERE active;
INSERT INTO orders (user_id, id, status, total) SELECT user_id, 30000, 'sum', sum(total) FROM orders GROUP BY user_id;
-- the key is another column: rows change shards
INSERT INTO users (id, name) SELECT id + 40000, name FROM users WHERE id BETWEEN 1 AND 20;
INSERT INTO orders (user_id, id, status) SELECT boss, 50000 + id, 'for the boss' FROM users WHERE boss BETWEEN 1 AND 110 AND age = 30;
INSERT INTO users (id, name) SELECT g, 'series' FROM generate_series(60000, 60010) g;
INSERT INTO users (id, name) SELECT 60100 + population, name FROM countries WHERE population > 100;
INSERT INTO audit (id, what, user_id) SELECT id + 1000, name, id FROM users WHERE id BETWEEN 1 AND 9;
INSERT INTO audit (id, what) SELECT 2000, count(*)::text FROM users;
-- must
INSERT INTO audit (id, what) SELECT id + 3000, what FROM audit;
INSERT INTO countries (code, name) SELECT 'X' || digits, name FROM currencies WHERE digits = 3;
-- a reference table filled from a sharded one needs the rows of all shards on each
INSERT INTO currencies (code, name, digits) SELECT 'U' || id, name, 1 FROM users WHERE id BETWEEN 1 AND 5;
INSERT INTO empties (id, v) SELECT id, t FROM zoo WHERE id < 50;
INSERT INTO empties (id, v) SELECT id + 1000, v FROM empties;
-- a limit is one over all shards
INSERT INTO empties (id, v) SELECT id + 5000, t FROM zoo ORDER BY id LIMIT 5;
INSERT INTO empties (id, v) SELECT id + 6000, t FROM zoo WHERE id = 7 RETURNING id, v;
INSERT INTO empties (id) SELECT row_number() OVER (ORDER BY id) + 7000 FROM zoo;
INSERT INTO empties (id, n) SELECT max(id) + 8000, avg(n6) FROM zoo;
-- the second column is the key
INSERT INTO meters (id, tenant, reading) SELECT id + 100, tenant, reading FROM meters WHERE tenant = 2;
INSERT INTO meters (tenant, id, reading) SELECT id + 200, tenant, reading FROM meters WHERE tenant = 6;
INSERT INTO order_items (user_id, order_id, line, product, quantity, price) SELECT o.user_id, o.id, 99, 'gift', 1, 0 FROM orders o JOIN users u ON u.id = o.user_id WHERE u.active AND o.status = 'paid';
-- a key of fewer digits or letters than what it is given is another key
INSERT INTO rounded SELECT k, v FROM exacts ON CONFLICT DO NOTHING;
SELECT v FROM rounded WHERE k = 1.01;
INSERT INTO shorts SELECT k, v FROM longs ON CONFLICT DO NOTHING;
INSERT INTO rounded SELECT k, v FROM (SELECT k + 0 AS k, v FROM exacts WHERE false UNION ALL SELECT k, v FROM exacts) x ON CONFLICT DO NOTHING;
-- must
INSERT INTO exacts SELECT k, v FROM rounded ON CONFLICT DO NOTHING;
-- must
INSERT INTO longs SELECT k, v FROM shorts ON CONFLICT DO NOTHING;
INSERT INTO empties (id, v) SELECT id + 9000, name FROM users WHERE id BETWEEN 1 AND 30 ORDER BY name RETURNING id;
-- fails: 23505
-- vague
INSERT INTO users (id, name) SELECT id, name FROM users;
-- fails: 23503
-- vague
INSERT INTO orders (user_id, id, status) SELECT id + 100000, 1, 'nobody' FROM users WHERE id = 7;
WITH s AS (SELECT id, name FROM users WHERE id = 7) INSERT INTO orders (user_id, id, status) SELECT id, 70000, name FROM s;
INSERT INTO users (id, name) VALUES (70001, (SELECT name FROM users WHERE id = 7));
INSERT INTO users (id, name) VALUES ((SELECT max(id) FROM zoo) + 70010, 'above');
INSERT INTO users (id, name) (VALUES (70020, 'a'), (70021, 'b'));
-- fails: 42601
INSERT INTO users (id, name) TABLE active_users;
