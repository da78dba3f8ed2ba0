INSERT INTO users (id, email, name) VALUES ({int}, {email}, 'n')
INSERT INTO users (name, id) VALUES ('n', {int}), ('m', {int})
INSERT INTO users VALUES ({int}, {email}, 'n', {int})
INSERT INTO users VALUES ({int})
INSERT INTO users (id, name) VALUES ({int} + 1, 'n')
INSERT INTO users (id, name) VALUES ({num}, 'n')
INSERT INTO users (id, age) VALUES ({a:int}, {a:int})
INSERT INTO users (id, name) VALUES ({int}, 'n') ON CONFLICT DO NOTHING
INSERT INTO users (id, name) VALUES ({int}, 'n') ON CONFLICT (id) DO UPDATE SET name = 'up'
INSERT INTO users (id, email) VALUES ({int}, {email}) ON CONFLICT (email) DO UPDATE SET name = 'up'
INSERT INTO users (id, name) SELECT id + 5, name FROM users WHERE id = {int}
UPDATE users SET name = 'x' WHERE id = {int}
UPDATE users SET name = 'x' WHERE {int} = users.id
UPDATE users SET name = 'x' WHERE id IN ({int}, {int})
UPDATE users SET name = 'x' WHERE id = {int} OR age = {int}
UPDATE users SET name = 'x' WHERE email = {email}
UPDATE users SET age = age + 1
UPDATE users SET id = {int} WHERE id = {int}
UPDATE users SET id = id + 10 WHERE id = {int}
UPDATE users SET (name, email) = ('x', {email}) WHERE id = {int}
UPDATE users u SET name = o.note FROM orders o WHERE o.user_id = u.id AND u.id = {int}
UPDATE users u SET name = o.note FROM orders o WHERE o.user_id = u.id AND o.id = {int}
UPDATE users SET name = 'x' WHERE id = (SELECT user_id FROM orders WHERE id = {int})
DELETE FROM users WHERE id = {int}
DELETE FROM users WHERE email = {email}
DELETE FROM users USING orders o WHERE users.id = {int} AND o.user_id = users.id
INSERT INTO orders (user_id, total) VALUES ({int}, {num})
INSERT INTO orders (user_id, sku) VALUES ({int}, 'aa'), (NULL, 'bb')
INSERT INTO orders (note) VALUES ('new')
INSERT INTO orders (id, user_id, note) VALUES (DEFAULT, {int}, 'new')
INSERT INTO orders (id, user_id, note) VALUES ({int}, {int}, 'new')
INSERT INTO orders VALUES ({int}, {int}, 'sk')
INSERT INTO orders (user_id, note) SELECT id, name FROM users WHERE id = {int}
INSERT INTO orders DEFAULT VALUES
UPDATE orders SET user_id = {int} WHERE id = {int}
UPDATE orders SET note = 'up' WHERE id = {int}
UPDATE orders SET note = 'up' WHERE user_id = {int}
UPDATE orders SET note = 'up' WHERE user_id IS NULL
UPDATE orders SET id = id + 2 WHERE id = {int}
DELETE FROM orders WHERE user_id = {int}
DELETE FROM orders WHERE id = {int}
DELETE FROM nodes WHERE id = {int}
UPDATE nodes SET label = 'x' WHERE id = {int}
UPDATE nodes SET parent = {int} WHERE id = {int}
UPDATE nodes SET label = 'x' WHERE parent = {int}
INSERT INTO nodes VALUES ({int}, {int}, 'n')
MERGE INTO users u USING orders o ON u.id = o.user_id AND u.id = {int} WHEN MATCHED THEN UPDATE SET name = o.note
MERGE INTO swapped s USING (SELECT 3 AS id) n ON s.id = n.id WHEN NOT MATCHED THEN INSERT VALUES (n.id, 3)
WITH x AS (DELETE FROM orders WHERE id = {int} RETURNING user_id) UPDATE users SET name = 'x' WHERE id = {int}
WITH x AS (DELETE FROM orders WHERE id = {int} RETURNING user_id) SELECT * FROM x
WITH x AS (UPDATE users SET name = 'w' WHERE id = {int} RETURNING id) INSERT INTO orders (id, user_id) SELECT {int}, id FROM x
TRUNCATE orders CASCADE
TRUNCATE items
SELECT touch({int})
UPDATE users SET age = touch({int}) WHERE id = {int}
UPDATE v_users SET name = 'v' WHERE id = {int}
INSERT INTO v_users VALUES ({int}, 'v', 50)
DELETE FROM v_users WHERE id = {int}
INSERT INTO events VALUES ({int}, '2024-01-05', 'n')
UPDATE events SET what = 'u' WHERE id = {int}
UPDATE events SET id = {int} WHERE id = {int}
DELETE FROM events_low WHERE id = {int}
UPDATE animals SET name = 'u' WHERE id = {int}
INSERT INTO dogs VALUES ({int}, 'd', 'b')
UPDATE dogs SET name = 'u' WHERE id = {int}
INSERT INTO stamped VALUES ({int}, 1, {int})
INSERT INTO stamped VALUES ({two}, 1, 5)
UPDATE stamped SET v = 9 WHERE id = {int}
UPDATE stamped SET v = 9 WHERE stamp = {stamp}
DELETE FROM stamped WHERE id = {int}
UPDATE mirrored SET v = 7 WHERE id = {int}
INSERT INTO mirrored VALUES ({int}, 1, 1)
INSERT INTO ruled VALUES ({int}, 1)
UPDATE ruled SET v = 9 WHERE id = {int}
DELETE FROM ruled WHERE id = {int}
UPDATE secrets SET v = 9 WHERE id = {int}
UPDATE secrets SET owner = {owner} WHERE id = {int}
DELETE FROM allowed WHERE owner = {owner}
INSERT INTO allowed VALUES ({owner})
DELETE FROM chained WHERE id = {int}
UPDATE chained SET v = 9 WHERE id = {int}
INSERT INTO prices VALUES ({num}, 9)
UPDATE prices SET v = 9 WHERE p = {num}
DELETE FROM prices WHERE p = {int}
INSERT INTO days VALUES ({date}, 9)
UPDATE days SET v = 9 WHERE d = {date}
INSERT INTO codes VALUES ({code}, 9)
INSERT INTO codes VALUES (007, 9)
INSERT INTO codes VALUES (1e3, 9)
INSERT INTO texts VALUES (B'101', E'9')
INSERT INTO texts VALUES (1e2, E'9')
INSERT INTO codes VALUES ('cc      ', 9)
UPDATE codes SET v = 9 WHERE c = {code}
INSERT INTO texts VALUES ({code}, 9)
INSERT INTO texts VALUES (07, E'9')
DELETE FROM texts WHERE t = {code}
UPDATE texts SET v = 9 WHERE t = N'bb  '
UPDATE items SET qty = 9 WHERE id = {uuid}
UPDATE items SET order_id = {int} WHERE id = {uuid}
INSERT INTO items VALUES ({uuid}, {int})
INSERT INTO items (id) VALUES ({uuid})
DELETE FROM items WHERE order_id = {int}
INSERT INTO numbered (v) VALUES ({int})
INSERT INTO numbered (id, v) VALUES ({int}, {int})
INSERT INTO numbered (id, v) OVERRIDING USER VALUE VALUES ({two}, 50)
UPDATE numbered SET v = {int} WHERE id = {int}
INSERT INTO swapped VALUES ({int}, 7)
UPDATE swapped SET id = 3 - id
UPDATE swapped SET v = 9 WHERE id = {int}
REFRESH MATERIALIZED VIEW m_users
UPDATE users SET name = 'x' WHERE id = {int}; DELETE FROM orders WHERE id = {int}
COPY (UPDATE users SET name = 'c' WHERE id = 1 RETURNING id) TO STDOUT
COPY (INSERT INTO users (id, name) VALUES (1, 'c') ON CONFLICT (id) DO UPDATE SET name = 'c' RETURNING id) TO STDOUT
ALTER TABLE users ADD COLUMN more int
