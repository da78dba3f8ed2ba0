-- Parameters without a declared type that stand in several places: the first that the server looks at decides what they are.
--
-- params: 7
INSERT INTO users (id, name, score) VALUES ($1 + 100000, 'x', $1);
-- params: 7
UPDATE users SET score = $1 WHERE id = $1;
-- params: 7
UPDATE users SET balance = $1 WHERE id = $1;
-- params: 7
UPDATE users SET name = $1 WHERE id = $1::bigint;
-- params: 7
DELETE FROM users WHERE (score <> $1 OR true) AND id = $1;
-- params: 7
INSERT INTO users (id, name, boss, score) VALUES (1001, 'x', $1, 1), (1002, 'y', 5, $1), (1003, 'y', 5, $1), (1004, 'y', 5, $1), (1005, 'z', 5, $1);
-- params: 7
INSERT INTO users (id, name, boss, score) VALUES (1001, 'x', 5, $1), (1002, 'y', $1, 5), (1003, 'y', $1, 5), (1004, 'y', $1, 5), (1005, 'z', $1, 5) ON CONFLICT (id) DO UPDATE SET score = EXCLUDED.score, boss = EXCLUDED.boss;
-- params: 7
INSERT INTO users (id, name, age, score) VALUES (1001, $1::text, 5, 5), (1002, 'y', $1::int, 5), (1003, 'y', $1::int, 5), (1004, 'y', $1::int, 5), (1005, 'z', $1::int, 5) ON CONFLICT (id) DO UPDATE SET score = EXCLUDED.score, boss = EXCLUDED.boss;
-- params: '77'
INSERT INTO users (id, name, age, score) VALUES (1001, $1, 5, 5), (1002, 'y', 5, 5), (1003, 'y', 5, 5), (1004, 'y', 5, 5), (1005, 'z', 5, 5) ON CONFLICT (id) DO UPDATE SET score = EXCLUDED.score, boss = $1::bigint;
-- params: 7
UPDATE users SET score = $1, boss = $1 WHERE id IN ($1, 8, 9, 10);
-- params: 7
UPDATE users SET boss = $1, score = $1 WHERE id IN ($1, 8, 9, 10);
-- params: 7
UPDATE users SET boss = 1 WHERE score = $1 AND id IN ($1, 8, 9, 10);
