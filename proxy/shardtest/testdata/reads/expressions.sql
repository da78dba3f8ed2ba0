-- must
SELECT id, upper(name), length(name), coalesce(age, 0) FROM users;
-- must
SELECT id, age + 1, -age, age::text, balance * 2, score / 2 FROM users WHERE age IS NOT NULL;
-- must
SELECT id FROM users WHERE name LIKE 'an%' OR name ILIKE 'Z%';
-- must
SELECT id FROM users WHERE born BETWEEN '1970-01-01' AND '1980-12-31' AND active;
SELECT id, CASE WHEN age > 30 THEN 'old' WHEN age IS NULL THEN NULL ELSE 'young' END FROM users;
SELECT id, created AT TIME ZONE 'Europe/Berlin', extract(hour FROM created), date_trunc('day', created) FROM users;
SELECT id, born + interval '1 month', age(date '2024-02-29', born) FROM users;
SELECT id, tags || ARRAY['more'], 'red' = ANY (tags), cardinality(tags), tags[1:1] FROM users;
SELECT id FROM users WHERE tags @> '{red}' AND tags && '{big,blue}';
SELECT id, profile, profile->'level', profile @> '{"plan": "pro"}', profile ? 'plan' FROM users;
SELECT id FROM users WHERE (profile->>'level')::int > 2;
SELECT id, mood, mood > 'sad', mood::text FROM users WHERE mood IS DISTINCT FROM 'ok';
SELECT id FROM users WHERE nick = 'MAX';
SELECT id FROM users WHERE nick IN ('max', 'EVE');
SELECT id, nick = 'eve', nick < 'F' FROM users;
SELECT id FROM users WHERE sorted > 'b';
SELECT id FROM users WHERE sorted BETWEEN 'a' AND 'b';
SELECT id FROM users WHERE name COLLATE "und-x-icu" < 'c';
SELECT * FROM zoo;
SELECT id, i2 + i4, i8 % 7, n * n6, f4 + f8, f8 / 3, b AND i4 > 0 FROM zoo;
SELECT id, t || c || icu::text, v || ch, ch = 'two', v = 'two' FROM zoo;
SELECT id, y || '\x00'::bytea, encode(y, 'hex'), u::text, d + 1 FROM zoo WHERE d <> 'infinity' OR d IS NULL;
SELECT id, iv * 2, iv + interval '1 hour', iv = '1 day', tm + iv, ts - interval '1 day' FROM zoo;
SELECT id, j->'a', j = '{"a": 1}', a[1], a || 9, bt & B'00001111', ip << '10.0.1.0/24' FROM zoo;
SELECT id, row(id, t), row(id, t) = row(id, t) FROM zoo WHERE id < 10;
SELECT id, to_char(n6, 'FM999990.00'), to_char(ts, 'YYYY-MM-DD') FROM zoo WHERE n6 IS NOT NULL;
SELECT id, greatest(i2, i4), least(f4, f8), nullif(t, 'a') FROM zoo;
SELECT id FROM zoo WHERE n = 1.5;
SELECT id FROM zoo WHERE n = 'NaN';
SELECT id FROM zoo WHERE f8 = '-Infinity' OR f4 = 'Infinity' OR f8 = 'NaN';
SELECT id FROM zoo WHERE d = 'infinity' OR ts = '-infinity' OR tz = 'infinity';
SELECT id FROM zoo WHERE t IS NULL OR t = '';
SELECT id FROM zoo WHERE b IS NOT TRUE;
SELECT id FROM zoo WHERE NOT b;
SELECT id FROM zoo WHERE iv = '1 day';
SELECT id FROM zoo WHERE ch = 'two';
SELECT id FROM zoo WHERE t SIMILAR TO '(a|b)' OR t ~ '^[^a-z]';
-- must
-- params: 5, 'x'
SELECT id, $1::int + id, $2 || t FROM zoo WHERE id < $1;
-- params: '2024-02-29', '2024-03-05'
SELECT id, d FROM zoo WHERE d >= $1 AND d < $2;
-- params: '2024-03-31 01:30:00+00'
SELECT id FROM zoo WHERE tz > $1;
-- params: '1.50'
SELECT id FROM zoo WHERE n = $1;
-- params: '{1,2}'
SELECT id FROM zoo WHERE a && $1;
-- params: '{"a": 1}'
SELECT id FROM zoo WHERE j = $1;
-- params: '\x00'
SELECT id FROM zoo WHERE y > $1;
-- params: 'happy'
SELECT id FROM zoo WHERE m = $1;
-- params: '1 day'
SELECT id FROM zoo WHERE iv > $1;
-- params: 't'
SELECT id FROM zoo WHERE b = $1;
-- params: 100
SELECT id FROM zoo WHERE p > $1;
-- a parameter whose type is not said
-- params: 'word'
SELECT $1 AS word FROM users WHERE id = 7;
-- params: 'word'
SELECT $1::text IS NULL FROM users WHERE id = 7;
-- functions of the session and the server
SELECT current_user, current_schema();
SELECT id, current_user, session_user FROM users WHERE id = 7;
-- loose
SELECT now(), clock_timestamp(), random() FROM users;
-- loose
SELECT id, random() FROM users WHERE id = 7;
SELECT count(*) FROM users WHERE random() >= 0;
SELECT count(*) FROM users WHERE created < now();
SELECT count(DISTINCT now()) FROM users;
SELECT count(*) FROM (SELECT DISTINCT now() FROM users) x;
SELECT id, noise(age) FROM users WHERE id < 9;
SELECT sum(noise(age)) FROM users;
-- looks into a table from inside a function
SELECT order_count(15);
SELECT id, order_count(id) FROM users;
SELECT user_count();
SELECT id FROM users WHERE order_count(id) > 5;
SELECT id, user_count() FROM users WHERE id < 4;
SELECT code, user_count() FROM currencies;
SELECT order_count(u.boss) FROM users u WHERE id = 12;
-- loose
SELECT pg_backend_pid(), version(), inet_server_port();
-- views
SELECT id, name FROM active_users WHERE id = 12;
SELECT id, name FROM active_users WHERE age > 50;
SELECT count(*), avg(balance) FROM active_users;
SELECT * FROM user_totals WHERE id = 15;
SELECT * FROM user_totals WHERE orders > 5;
SELECT sum(orders), sum(total) FROM user_totals;
SELECT * FROM status_totals;
SELECT orders FROM status_totals WHERE status = 'paid';
SELECT a.id, o.id FROM active_users a JOIN orders o ON o.user_id = a.id WHERE o.status = 'lost';
-- catalogs and settings
SELECT relname FROM pg_class WHERE relname = 'users';
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'users' AND column_name < 'c';
SELECT count(*) FROM pg_class c JOIN users u ON u.name = c.relname;
SELECT u.id, t.typname FROM users u JOIN pg_type t ON t.typname = 'int4' WHERE u.id = 7;
SHOW server_version;
SHOW search_path;
SHOW transaction_isolation;
SELECT 'users'::regclass::text;
SELECT to_regclass('users') IS NULL, to_regclass('nowhere') IS NULL;
-- samples
-- loose
SELECT id FROM users TABLESAMPLE SYSTEM (100);
SELECT count(*) FROM users TABLESAMPLE BERNOULLI (100);
-- set-returning
SELECT unnest(tags) FROM users WHERE id < 10;
SELECT id, jsonb_object_keys(profile) FROM users;
SELECT generate_series(1, 3);
SELECT generate_series(1, 3) FROM users WHERE id = 7;
SELECT * FROM generate_series(1, 3) g;
SELECT x.* FROM users u, jsonb_to_record(u.profile) AS x (plan text, level int) WHERE u.id < 10;
SELECT count(*) FROM users u, jsonb_each(u.profile);
SELECT xmlelement(name a, id) FROM users WHERE id = 7;
SELECT id, json_build_object('id', id, 'name', name) FROM users WHERE id < 4;
SELECT to_json(u) FROM users u WHERE id = 7;
SELECT (SELECT row_to_json(x) FROM (SELECT id, age FROM users WHERE id = 7) x);
