-- must
UPDATE users SET age = 50 WHERE id = 7;
-- must
-- params: 51, 7
UPDATE users SET age = $1 WHERE id = $2;
-- must
UPDATE users SET age = age + 1 WHERE id IN (1, 2, 3, 4, 5);
-- must
UPDATE users SET age = age + 1;
-- must
UPDATE users SET balance = balance + 0.05 WHERE active;
-- must
UPDATE users SET name = 'nobody' WHERE id = 424242;
UPDATE users SET name = upper(name), sorted = NULL, tags = tags || 'x'::text WHERE age > 40;
-- must
UPDATE orders SET status = 'sent' WHERE user_id = 15 AND status = 'paid';
-- must
UPDATE orders SET status = 'sent', note = NULL WHERE status = 'new' RETURNING user_id, id;
UPDATE users SET age = 1 WHERE id = 7 RETURNING id, age, users.*;
UPDATE users u SET age = 2 WHERE u.id IN (7, 8, 9) RETURNING u.id, u.age;
-- params: '{7,8,9}'
UPDATE users SET age = 3 WHERE id = ANY ($1);
-- FROM
-- must
UPDATE orders o SET note = u.name FROM users u WHERE u.id = o.user_id AND u.age > 40;
UPDATE users u SET age = 0 FROM orders o WHERE o.user_id = u.id AND o.status = 'lost';
UPDATE users u SET name = c.name FROM countries c WHERE c.code = u.country AND c.continent = 'Asia';
UPDATE users u SET name = b.name FROM users b WHERE b.id = u.boss AND u.id < 20;
UPDATE accounts a SET balance = a.balance + 1 FROM users u WHERE u.id = a.owner AND u.age > 40;
UPDATE users SET age = (SELECT count(*) FROM orders o WHERE o.user_id = users.id) WHERE active;
UPDATE users SET age = (SELECT count(*) FROM orders) WHERE id = 7;
UPDATE users SET age = (SELECT max(digits) FROM currencies) WHERE id = 7;
UPDATE users SET (age, name) = (SELECT 5, 'five') WHERE id = 7;
UPDATE users SET (age, balance) = (1, 2) WHERE id = 8;
UPDATE users SET age = DEFAULT, active = DEFAULT WHERE id IN (7, 8);
UPDATE users SET tags[1] = 'first' WHERE id IN (7, 8, 9);
UPDATE users SET profile = jsonb_set(profile, '{level}', '9') WHERE profile IS NOT NULL;
UPDATE users SET balance = -balance WHERE id IN (SELECT user_id FROM orders WHERE status = 'lost');
UPDATE users SET balance = 0 WHERE id = (SELECT max(user_id) FROM orders);
UPDATE users SET age = NULL WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = users.id AND o.status = 'paid');
-- the limit is one of all shards
UPDATE users SET age = 99 WHERE id IN (SELECT id FROM users ORDER BY id LIMIT 3);
WITH old AS (SELECT id FROM users WHERE id = 7) UPDATE users u SET age = 98 FROM old WHERE old.id = u.id;
WITH changed AS (UPDATE users SET age = 97 WHERE id = 7 RETURNING id, age) SELECT * FROM changed;
WITH changed AS (UPDATE users SET age = 96 WHERE active RETURNING id) SELECT count(*) FROM changed;
WITH changed AS (UPDATE users SET age = 95 WHERE id = 15 RETURNING id) UPDATE orders o SET note = 'changed' FROM changed c WHERE c.id = o.user_id;
-- errors on one shard undo all
-- fails: 22012
UPDATE users SET age = 1 / (id % 1000 - 7);
-- fails: 23514
-- vague
UPDATE accounts SET balance = balance - 500;
-- fails: 23502
-- vague
UPDATE users SET name = NULLIF(id, 7)::text;
-- fails: 23503
-- vague
UPDATE users SET country = 'XX' WHERE id IN (1, 2, 3, 4, 5);
-- must
UPDATE accounts SET balance = balance + 10 WHERE name = 'acc-1';
UPDATE accounts SET balance = balance + 10 WHERE name LIKE 'acc%' RETURNING name, balance;
-- must
UPDATE events SET kind = 'seen' WHERE kind IS NULL;
-- must
UPDATE meters SET reading = reading * 1.10 WHERE tenant = 2;
UPDATE meters SET reading = 0 WHERE tenant = 2 AND id = 5 RETURNING *;
UPDATE visits SET pages = pages + 1 WHERE day = '2023-11-01';
-- to another partition
UPDATE visits SET day = '2024-09-09' WHERE user_id = 7 AND day < '2023-11-10';
UPDATE visits_2024 SET pages = 0 WHERE pages IS NULL;
UPDATE settings SET value = 'all';
UPDATE audit SET what = 'x' WHERE id < 5 RETURNING id;
UPDATE audit a SET what = u.name FROM users u WHERE u.id = a.user_id AND a.id < 10;
UPDATE empties SET v = 'nothing there';
UPDATE ONLY users SET age = 94 WHERE id = 7;
-- fails: 42703
UPDATE users SET nothing = 1;
UPDATE active_users SET age = 93 WHERE id = 12;
-- an order of assignments: all of them see the old row
UPDATE zoo SET i2 = i4 % 100, i4 = i2 WHERE id < 50;
UPDATE zoo SET n = n + 0.000, f8 = f8 * 2 WHERE b;
-- loose
UPDATE users SET created = now() WHERE false;
-- each row its own number: no two runs give the same
-- loose
UPDATE empties SET n = random();
-- the same moment on all shards
UPDATE settings SET changed = '2024-01-01' WHERE changed < now();
-- simple
UPDATE users SET age = 1 WHERE id = 1; UPDATE users SET age = 2 WHERE id = 2; UPDATE users SET age = 3 WHERE id = 3;
-- simple
-- fails: 22012
UPDATE users SET age = 11 WHERE id = 1; UPDATE users SET age = 12 WHERE id = 2; UPDATE users SET age = 1/0 WHERE id = 3;
