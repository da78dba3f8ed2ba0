-- must
INSERT INTO users (id, name, age) VALUES (1001, 'new', 20);
-- must
-- params: 1002, 'other', 21
INSERT INTO users (id, name, age) VALUES ($1, $2, $3);
-- must
-- several rows, several shards
INSERT INTO users (id, name) VALUES (1003, 'a'), (1004, 'b'), (1005, 'c'), (1006, 'd'), (1007, 'e');
-- must
-- params: 1008, 'f', 1009, 'g', 1010, 'h'
INSERT INTO users (id, name) VALUES ($1, $2), ($3, $4), ($5, $6);
-- must
INSERT INTO users (id, name, age) VALUES (1011, 'i', 30) RETURNING id, name, age, active;
-- rows come back in the order of VALUES
-- ordered
INSERT INTO users (id, name) VALUES (1015, 'j'), (1014, 'k'), (1013, 'l'), (1012, 'm') RETURNING id, upper(name);
INSERT INTO users (id, name) VALUES (1016, 'n'), (1017, 'o') RETURNING *;
INSERT INTO users (name, id) VALUES ('swapped', 1018);
-- all columns, in the table's order
INSERT INTO currencies VALUES ('CHF', 'Franken', 2, 0.97);
INSERT INTO orders VALUES (1001, 5001, 'new', 12.50, 'EUR', '2024-05-05 05:05:05+00', NULL), (1003, 5002, 'new', 1, NULL, NULL, 'x');
-- fewer values than columns
INSERT INTO orders VALUES (1001, 5003, 'paid');
-- an expression for the key
INSERT INTO users (id, name) VALUES (1000 + 19, 'sum');
INSERT INTO users (id, name) VALUES ('1020', 'quoted'), (1021.0, 'numeric'), (1022::smallint, 'cast');
INSERT INTO users (id, name) VALUES (1022.6, 'rounded to 1023');
INSERT INTO users (id, name) VALUES ((SELECT max(population) + 1 FROM countries), 'from a reference table');
INSERT INTO users (id, name) VALUES (abs(-1025), 'a function');
-- params: 1026
INSERT INTO users (id, name) VALUES ($1 + 1, 'a parameter in an expression');
-- defaults
INSERT INTO users (id, name, active) VALUES (1030, 'default', DEFAULT), (1031, 'false', false);
INSERT INTO accounts (name, balance, kind) VALUES ('new-1', 10, 'giro'), ('new-2', 20, 'giro'), ('new-3', 30, 'save') RETURNING name, quota;
-- without a key, or NULL
-- fails: 23502
-- vague
INSERT INTO users (name) VALUES ('no key');
-- fails: 23502
-- vague
INSERT INTO users (id, name) VALUES (NULL, 'no key');
-- fails: 23502
-- vague
INSERT INTO users (id, name) VALUES (1040, 'fine'), (NULL, 'no key'), (1041, 'fine');
-- fails: 23502
-- vague
INSERT INTO users DEFAULT VALUES;
-- fails: 22P02
INSERT INTO users (id, name) VALUES ('ten', 'no number');
-- an error in one row leaves none of them, on no shard
-- fails: 23505
INSERT INTO users (id, name) VALUES (1050, 'p'), (1051, 'q'), (1052, 'r'), (7, 'there already'), (1053, 's');
-- fails: 23505
INSERT INTO users (id, name) VALUES (1060, 'twice'), (1060, 'twice');
-- fails: 23514
-- vague
INSERT INTO accounts (name, balance, kind) VALUES ('bad-1', 5, 'giro'), ('bad-2', -5, 'giro'), ('bad-3', 5, 'giro');
-- fails: 23503
INSERT INTO orders (user_id, id, status) VALUES (424242, 1, 'new');
-- fails: 23503
INSERT INTO users (id, name, country) VALUES (1061, 'where', 'XX');
-- fails: 22012
INSERT INTO users (id, name, age) VALUES (1062, 'a', 1), (1063, 'b', 1 / 0);
-- fails: 22001
INSERT INTO meters (tenant, id, label) VALUES (9, 1, 'short'), (9, 2, repeat('long', 10));
-- must
INSERT INTO meters (tenant, id, reading) VALUES (9, 1, 1.10), (9, 2, 2.200), (10, 1, 3);
INSERT INTO meters (id, tenant) VALUES (3, 9);
-- must
INSERT INTO events (id, at, kind) VALUES ('00000000-0000-0000-0000-000000000001', '2024-01-01 00:00:00+00', 'x'), ('00000000-0000-0000-0000-000000000002', '2024-01-01 00:00:00+00', 'y');
-- params: '{00000000000000000000000000000003}'
INSERT INTO events (id, at) VALUES ($1, '2024-01-01 00:00:00+00') RETURNING id;
INSERT INTO accounts (name, balance, kind) VALUES ('', 1, 'x') ON CONFLICT DO NOTHING;
INSERT INTO accounts (name, balance, kind) VALUES ('ünï-' || 'cödé', 1, 'x');
INSERT INTO accounts (name, balance, kind) VALUES ('blank ', 1, 'x'), ('blank', 1, 'x');
-- char(n) drops its blanks before it becomes the key
INSERT INTO accounts (name, balance, kind) VALUES ('padded'::char(20), 1, 'x');
INSERT INTO visits VALUES (7, '2024-06-01', 3), (8, '2023-06-01', 4), (9, '2024-07-01', NULL);
-- no partition for the day
-- fails: 23514
INSERT INTO visits VALUES (7, '2022-06-01', 3);
-- must
INSERT INTO settings VALUES ('new', 'value', NULL);
-- must
INSERT INTO audit VALUES (100, 'what', 7), (101, 'what', 8) RETURNING id, what;
INSERT INTO empties (id, v, n) VALUES (1, 'x', 1.50), (2, NULL, 1.5), (3, 'y', NULL), (4, '', 'NaN');
-- must
SELECT count(*), sum(id), max(v) FROM empties;
INSERT INTO zoo (id, i2, n, f8, b, t, y, u, d, iv, j, a, bt, ip, m, p, v, ch) VALUES
	(900, 1, 1.10, '-0', true, 'é', '\x00ff', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'infinity', '1 mon', '{"a": [1, null]}', '{1,NULL}', B'00001111', '10.1.1.1', 'ok', 0, 'varchar', 'ch'),
	(901, 2, 2.0, 'NaN', false, '', '', NULL, '-infinity', '-1 day', 'null', '{}', NULL, NULL, NULL, NULL, '', '');
-- fails: 23514
INSERT INTO zoo (id, p) VALUES (902, -1);
-- fails: 22003
INSERT INTO zoo (id, i2) VALUES (903, 40000);
-- fails: 22003
INSERT INTO zoo (id) VALUES (3000000000);
-- fails: 42601
INSERT INTO users (id, name) VALUES (1070);
-- fails: 42703
INSERT INTO users (id, nothing) VALUES (1071, 'x');
-- fails: 42804
INSERT INTO users (id, name, age) VALUES (1072, 'x', now());
INSERT INTO users AS u (id, name) VALUES (1080, 'alias') RETURNING u.id;
INSERT INTO users (id, name) VALUES (1081, 'sub') RETURNING (SELECT count(*) FROM currencies);
-- a sub-select in RETURNING sees one shard
INSERT INTO users (id, name) VALUES (1082, 'sub') RETURNING (SELECT count(*) FROM users WHERE age = 30);
WITH v AS (SELECT 1083::bigint AS id) INSERT INTO users (id, name) SELECT id, 'cte' FROM v;
WITH n AS (INSERT INTO users (id, name) VALUES (1084, 'inner') RETURNING id) SELECT id FROM n;
WITH n AS (INSERT INTO users (id, name) VALUES (1085, 'x'), (1086, 'y') RETURNING id) SELECT count(*) FROM n;
WITH n AS (INSERT INTO users (id, name) VALUES (1087, 'with order') RETURNING id) INSERT INTO orders (user_id, id, status) SELECT id, 6000, 'new' FROM n;
-- a request of several is one transaction
-- simple
INSERT INTO users (id, name) VALUES (1090, 'a'); INSERT INTO users (id, name) VALUES (1091, 'b'); INSERT INTO users (id, name) VALUES (1092, 'c');
-- simple
-- fails: 23505
INSERT INTO users (id, name) VALUES (1093, 'a'); INSERT INTO users (id, name) VALUES (1094, 'b'); INSERT INTO users (id, name) VALUES (7, 'c');
-- generated ids: they are the servers' own
-- loose
INSERT INTO tickets (title, user_id) VALUES ('generated', 7);
INSERT INTO tickets (id, title) VALUES (500, 'explicit');
