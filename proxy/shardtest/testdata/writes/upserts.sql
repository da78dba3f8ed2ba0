-- must
INSERT INTO users (id, name) VALUES (7, 'again') ON CONFLICT DO NOTHING;
-- must
INSERT INTO users (id, name, age) VALUES (7, 'again', 77) ON CONFLICT (id) DO UPDATE SET name = excluded.name, age = excluded.age;
-- must
INSERT INTO users (id, name) VALUES (7, 'seven'), (8, 'eight'), (2001, 'new'), (2002, 'new') ON CONFLICT (id) DO UPDATE SET name = excluded.name || '!';
INSERT INTO users (id, name) VALUES (7, 'x'), (2003, 'y'), (8, 'z') ON CONFLICT (id) DO NOTHING RETURNING id;
INSERT INTO users AS u (id, name, age) VALUES (7, 'x', 5), (9, 'y', 6), (2004, 'z', 7) ON CONFLICT (id) DO UPDATE SET age = u.age + excluded.age WHERE u.active RETURNING u.id, u.age;
-- the same key twice
-- fails: 21000
INSERT INTO users (id, name) VALUES (2005, 'a'), (2005, 'b') ON CONFLICT (id) DO UPDATE SET name = excluded.name;
INSERT INTO users (id, name) VALUES (2006, 'a'), (2006, 'b') ON CONFLICT DO NOTHING;
-- params: 'acc-1', 55
INSERT INTO accounts (name, balance, kind) VALUES ($1, $2, 'giro') ON CONFLICT (name) DO UPDATE SET balance = accounts.balance + excluded.balance RETURNING balance;
-- the key changes: another shard, perhaps
INSERT INTO users (id, name) VALUES (7, 'x') ON CONFLICT (id) DO UPDATE SET id = users.id;
INSERT INTO meters (tenant, id, reading) VALUES (2, 5, 1), (99, 1, 2) ON CONFLICT (tenant, id) DO UPDATE SET reading = excluded.reading;
INSERT INTO meters (tenant, id, reading) VALUES (2, 5, 1.5) ON CONFLICT ON CONSTRAINT meters_pkey DO UPDATE SET reading = meters.reading + 1;
-- no such constraint
-- fails: 42P10
INSERT INTO users (id, name) VALUES (7, 'x') ON CONFLICT (name) DO NOTHING;
-- fails: 23514
-- vague
INSERT INTO accounts (name, balance, kind) VALUES ('acc-1', 1, 'giro'), ('acc-2', 1, 'giro') ON CONFLICT (name) DO UPDATE SET balance = -1;
INSERT INTO users (id, name) SELECT user_id, 'ordered' FROM orders WHERE user_id = 15 ON CONFLICT DO NOTHING;
INSERT INTO countries (code, name) VALUES ('DE', 'Germany'), ('XA', 'new') ON CONFLICT (code) DO UPDATE SET name = excluded.name;
INSERT INTO settings (key, value) VALUES ('key1', 'changed'), ('key99', 'new') ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING key, value;
INSERT INTO orders (user_id, id, status) VALUES (15, 9000, 'new'), (16, 9001, 'new') ON CONFLICT (user_id, id) DO UPDATE SET status = 'twice';
INSERT INTO users (id, name) VALUES (7, 'x') ON CONFLICT (id) DO UPDATE SET age = (SELECT count(*) FROM currencies);
-- a sub-select that looks at all shards
INSERT INTO users (id, name) VALUES (7, 'x') ON CONFLICT (id) DO UPDATE SET age = (SELECT count(*) FROM users WHERE age = 30);
