-- The data, made on the plain server. draw(i, column, n) is a number below n that depends on the seed, the row and the column only.
CREATE FUNCTION pg_temp.draw(i bigint, col text, n int) RETURNS int LANGUAGE sql IMMUTABLE AS
	$$ SELECT (('x' || substr(md5(current_setting('shardtest.seed') || col || i), 1, 7))::bit(28)::int % n) $$;
CREATE FUNCTION pg_temp.pick(i bigint, col text, VARIADIC words text[]) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT words[1 + pg_temp.draw(i, col, array_length(words, 1))] $$;

INSERT INTO countries SELECT code, name, continent, population, area FROM (VALUES
	('DE', 'Deutschland', 'Europe', 83, 357.02), ('FR', 'France', 'Europe', 67, 551.69), ('AT', 'Österreich', 'Europe', 9, 83.87),
	('SE', 'Åland', 'Europe', 10, 450.29), ('US', 'United States', 'America', 331, 9833.52), ('BR', 'Brasil', 'America', 213, 8515.77),
	('PE', 'perú', 'America', 33, 1285.22), ('JP', 'Japan', 'Asia', 125, 377.97), ('IN', 'india', 'Asia', 1380, 3287.26),
	('ZZ', 'Zzyzx', NULL, NULL, NULL), ('EG', 'egypt', 'Africa', 102, 1010.41), ('TV', 'Tuvalu', 'Oceania', 0, 0.03))
	AS c (code, name, continent, population, area);
INSERT INTO currencies VALUES ('EUR', 'Euro', 2, 1), ('USD', 'Dollar', 2, 1.08), ('JPY', 'Yen', 0, 161.5), ('KWD', 'Dinar', 3, 0.330), ('XXX', 'none', 0, NULL);

INSERT INTO users
SELECT i,
	pg_temp.pick(i, 'name', 'anna', 'Anna', 'bob', 'Bob', 'Zoë', 'zoe', 'Émile', 'emile', '_x', '10', '9', 'O''Hara', 'a b', '') || CASE WHEN i % 4 = 0 THEN '' ELSE (i % 7)::text END,
	CASE WHEN pg_temp.draw(i, 'sorted', 8) > 0 THEN pg_temp.pick(i, 'sorted2', 'B', 'a', 'é', 'Z', '_x', '10', '9', 'b', 'A', 'ä', 'z', 'É') END,
	CASE WHEN pg_temp.draw(i, 'nick', 6) > 0 THEN pg_temp.pick(i, 'nick2', 'Max', 'max', 'MAX', 'Eve', 'eve', 'Ida') END,
	CASE WHEN i % 9 > 0 THEN 'u' || i || '@example.org' END,
	CASE WHEN pg_temp.draw(i, 'country', 10) > 0 THEN pg_temp.pick(i, 'country2', 'DE', 'DE', 'FR', 'AT', 'US', 'US', 'BR', 'PE', 'JP', 'IN', 'EG') END,
	CASE WHEN pg_temp.draw(i, 'age', 9) > 0 THEN 18 + pg_temp.draw(i, 'age2', 40) END,
	CASE WHEN pg_temp.draw(i, 'balance', 9) > 0 THEN (pg_temp.draw(i, 'balance2', 200000) - 50000)::numeric / 100 END,
	CASE WHEN pg_temp.draw(i, 'score', 9) > 0 THEN (pg_temp.draw(i, 'score2', 400) - 100)::float8 / 4 END,
	CASE WHEN pg_temp.draw(i, 'mood', 5) > 0 THEN pg_temp.pick(i, 'mood2', 'sad', 'ok', 'happy')::mood END,
	pg_temp.draw(i, 'active', 4) > 0,
	CASE WHEN pg_temp.draw(i, 'born', 9) > 0 THEN date '1960-01-01' + pg_temp.draw(i, 'born2', 15000) END,
	timestamptz '2023-01-01 00:00:00+00' + make_interval(secs => pg_temp.draw(i, 'created', 60000000)),
	CASE WHEN pg_temp.draw(i, 'tags', 4) > 0 THEN ARRAY[pg_temp.pick(i, 't1', 'red', 'green', 'blue'), pg_temp.pick(i, 't2', 'red', 'big', NULL)] END,
	CASE WHEN pg_temp.draw(i, 'profile', 4) > 0 THEN jsonb_build_object('plan', pg_temp.pick(i, 'plan', 'free', 'pro', 'max'), 'level', pg_temp.draw(i, 'level', 5)) END,
	CASE WHEN pg_temp.draw(i, 'boss', 3) > 0 THEN 1 + pg_temp.draw(i, 'boss2', 130) END
FROM generate_series(1, 120) i;
-- Keys at the ends of the type, and below zero. The first four have no orders.
INSERT INTO users (id, name, age, balance) VALUES (-9223372036854775808, 'lowest', 30, 0), (9223372036854775807, 'highest', NULL, 0.10), (0, 'zero', 30, NULL), (-7, 'minus', 18, -0.01);

INSERT INTO orders
SELECT 1 + (i * 7 + pg_temp.draw(i, 'user', 5)) % 110, i, pg_temp.pick(i, 'status', 'new', 'paid', 'paid', 'sent', 'Sent', 'lost'),
	CASE WHEN pg_temp.draw(i, 'total', 12) > 0 THEN (pg_temp.draw(i, 'total2', 30000))::numeric / (10 ^ pg_temp.draw(i, 'scale', 4))::int END,
	pg_temp.pick(i, 'currency', 'EUR', 'EUR', 'USD', 'JPY', 'KWD', NULL),
	CASE WHEN pg_temp.draw(i, 'placed', 15) > 0 THEN timestamptz '2024-01-01 00:00:00+00' + make_interval(hours => pg_temp.draw(i, 'placed2', 3000)) END,
	CASE WHEN pg_temp.draw(i, 'note', 3) = 0 THEN pg_temp.pick(i, 'note2', 'fragile', 'gift', '', 'call "first"', E'two\nlines') END
FROM generate_series(1, 360) i;
INSERT INTO order_items
SELECT user_id, id, line, pg_temp.pick(id * 10 + line, 'product', 'apple', 'pear', 'Pear', 'fig', 'kiwi'), 1 + pg_temp.draw(id * 10 + line, 'quantity', 9),
	pg_temp.draw(id * 10 + line, 'price', 100000)::numeric / 10000,
	CASE WHEN pg_temp.draw(id * 10 + line, 'discount', 3) = 0 THEN pg_temp.draw(id * 10 + line, 'discount2', 50)::numeric / 100 END
FROM orders, generate_series(1, 3) line WHERE pg_temp.draw(id * 10 + line, 'there', 5) > 1;
INSERT INTO visits SELECT user_id, date '2023-11-01' + d, CASE WHEN pg_temp.draw(user_id * 100 + d, 'pages', 7) > 0 THEN pg_temp.draw(user_id * 100 + d, 'pages2', 20) END
FROM generate_series(1, 120, 2) user_id, generate_series(0, 119, 13) d WHERE pg_temp.draw(user_id * 100 + d, 'there', 3) > 0;

INSERT INTO accounts
SELECT pg_temp.pick(i, 'prefix', 'acc', 'Acc', 'änd', '~') || '-' || i, CASE WHEN i % 5 > 0 THEN 1 + pg_temp.draw(i, 'owner', 130) END, pg_temp.draw(i, 'balance', 1000) * 10,
	pg_temp.pick(i, 'kind', 'giro', 'giro', 'save', 'Save'), CASE WHEN i % 6 > 0 THEN date '2020-01-01' + pg_temp.draw(i, 'opened', 900) END, CASE WHEN i % 7 > 0 THEN i % 3 END
FROM generate_series(1, 80) i;
INSERT INTO accounts VALUES ('', 1, 5, 'giro', NULL, NULL), ('it''s', 2, 0, 'save', 'infinity', 3), (E'tab\there', NULL, 70, 'giro', '-infinity', 1);

INSERT INTO events
SELECT md5(current_setting('shardtest.seed') || i)::uuid, timestamptz '2024-03-30 22:00:00+00' + make_interval(mins => pg_temp.draw(i, 'at', 4000)),
	CASE WHEN i % 8 > 0 THEN timestamp '2024-02-28 23:59:59.5' + make_interval(secs => pg_temp.draw(i, 'wall', 200000) / 2.0) END,
	CASE WHEN i % 50 = 0 THEN date 'infinity' WHEN i % 51 = 0 THEN date '-infinity' WHEN i % 7 > 0 THEN date '2024-02-25' + pg_temp.draw(i, 'day', 12) END,
	CASE WHEN pg_temp.draw(i, 'lasted', 8) > 0 THEN make_interval(months => pg_temp.draw(i, 'm', 3) - 1, days => pg_temp.draw(i, 'd', 40) - 10, secs => pg_temp.draw(i, 's', 9000) / 4.0 - 500) END,
	CASE WHEN i % 6 > 0 THEN 1 + pg_temp.draw(i, 'user', 130) END, pg_temp.pick(i, 'kind', 'login', 'login', 'view', 'View', NULL),
	CASE WHEN i % 4 > 0 THEN jsonb_build_object('n', pg_temp.draw(i, 'n', 10), 'path', '/' || (i % 5)) END
FROM generate_series(1, 160) i;
INSERT INTO meters
SELECT tenant, id, CASE WHEN pg_temp.draw(tenant * 100 + id, 'reading', 8) > 0 THEN pg_temp.draw(tenant * 100 + id, 'reading2', 100000)::numeric / 1000 END,
	timestamptz '2024-05-01 00:00:00+00' + make_interval(mins => pg_temp.draw(tenant * 100 + id, 'taken', 90000)), pg_temp.pick(id, 'label', 'north', 'south', 'North', NULL)
FROM generate_series(-1, 6) tenant, generate_series(1, 20) id WHERE pg_temp.draw(tenant * 100 + id, 'there', 4) > 0;

INSERT INTO zoo
SELECT i, CASE WHEN i % 5 > 0 THEN pg_temp.draw(i, 'i2', 200) - 100 END, CASE WHEN i % 6 > 0 THEN pg_temp.draw(i, 'i4', 2000) - 1000 END,
	CASE WHEN i % 7 > 0 THEN (pg_temp.draw(i, 'i8', 2000000) - 1000000)::bigint * 1000003 END,
	-- The same numbers with more and fewer zeros behind the point.
	CASE WHEN i % 23 = 0 THEN 'NaN'::numeric WHEN i % 8 > 0 THEN round((pg_temp.draw(i, 'n', 40) - 20)::numeric / 4, pg_temp.draw(i, 'ns', 3) + 2) END,
	CASE WHEN i % 9 > 0 THEN (pg_temp.draw(i, 'n6', 200000) - 100000)::numeric / 7 END,
	CASE WHEN i % 31 = 0 THEN 'Infinity' WHEN i % 8 > 0 THEN (pg_temp.draw(i, 'f4', 100) - 50)::real / 2 END,
	CASE WHEN i % 29 = 0 THEN 'NaN' WHEN i % 37 = 0 THEN '-Infinity' WHEN i % 41 = 0 THEN '-0'::float8 WHEN i % 8 > 0 THEN (pg_temp.draw(i, 'f8', 400) - 200)::float8 / 8 END,
	-- Sums of these depend on the order of addition.
	CASE WHEN i % 10 > 0 THEN pg_temp.draw(i, 'fx', 100000)::float8 / 3 END,
	CASE WHEN i % 5 > 0 THEN pg_temp.draw(i, 'b', 2) = 0 END,
	CASE WHEN i % 6 > 0 THEN pg_temp.pick(i, 't', 'a', 'b', 'B', 'é', 'ä', '', ' a', 'a ', E'\\', '%', 'zz') END,
	CASE WHEN i % 7 > 0 THEN pg_temp.pick(i, 'c', 'a', 'b', 'B', 'é', 'ä', '', '_') END,
	CASE WHEN i % 8 > 0 THEN pg_temp.pick(i, 'icu', 'a', 'b', 'B', 'é', 'ä', '_', 'A', '10', '9') END,
	CASE WHEN i % 7 > 0 THEN pg_temp.pick(i, 'ci', 'a', 'A', 'b', 'B', 'c') END,
	CASE WHEN i % 8 > 0 THEN pg_temp.pick(i, 'v', 'one', 'two', 'two ', 'three') END,
	CASE WHEN i % 8 > 0 THEN pg_temp.pick(i, 'ch', 'one', 'two', 'two  ', 'three') END,
	CASE WHEN i % 8 > 0 THEN decode(substr(md5(i::text), 1, 2 * pg_temp.draw(i, 'y', 4)), 'hex') END,
	CASE WHEN i % 8 > 0 THEN md5((i % 17)::text)::uuid END,
	CASE WHEN i % 40 = 0 THEN date 'infinity' WHEN i % 39 = 0 THEN date '-infinity' WHEN i % 8 > 0 THEN date '2024-02-20' + pg_temp.draw(i, 'd', 20) END,
	CASE WHEN i % 40 = 0 THEN timestamp '-infinity' WHEN i % 8 > 0 THEN timestamp '2024-02-28 12:00:00' + make_interval(mins => pg_temp.draw(i, 'ts', 3000)) END,
	CASE WHEN i % 38 = 0 THEN timestamptz 'infinity' WHEN i % 8 > 0 THEN timestamptz '2024-03-30 20:00:00+00' + make_interval(mins => pg_temp.draw(i, 'tz', 1000)) END,
	CASE WHEN i % 8 > 0 THEN time '00:00:00' + make_interval(mins => pg_temp.draw(i, 'tm', 1440)) END,
	-- Equal intervals that are written differently: 1 day and 24:00:00, 1 mon and 30 days.
	CASE WHEN i % 8 > 0 THEN pg_temp.pick(i, 'iv', '1 day', '24:00:00', '1 mon', '30 days', '-1 day', '-1 day +23:00:00', '00:00:00.000001', '2 years')::interval END,
	CASE WHEN i % 5 > 0 THEN pg_temp.pick(i, 'j', '{"a": 1}', '{"a": 1.0}', '[1, 2]', 'null', '"x"', '{"b": {"c": true}}')::jsonb END,
	CASE WHEN i % 6 > 0 THEN ARRAY[pg_temp.draw(i, 'a1', 4), CASE WHEN i % 4 > 0 THEN pg_temp.draw(i, 'a2', 4) END] END,
	CASE WHEN i % 8 > 0 THEN pg_temp.draw(i, 'bt', 256)::bit(8) END,
	CASE WHEN i % 8 > 0 THEN ('10.0.' || pg_temp.draw(i, 'ip', 3) || '.' || pg_temp.draw(i, 'ip2', 5))::inet END,
	CASE WHEN i % 8 > 0 THEN pg_temp.pick(i, 'm', 'sad', 'ok', 'happy')::mood END,
	CASE WHEN i % 8 > 0 THEN pg_temp.draw(i, 'p', 1000) END
FROM generate_series(1, 130) i;
INSERT INTO exacts SELECT i + pg_temp.draw(i, 'k', 1000)::numeric / 1000, i FROM generate_series(1, 30) i;
INSERT INTO rounded SELECT i + 100 + pg_temp.draw(i, 'k', 100)::numeric / 100, i FROM generate_series(1, 30) i;
INSERT INTO longs SELECT 'l' || i || repeat(' ', pg_temp.draw(i, 'k', 5)), i FROM generate_series(1, 30) i;
INSERT INTO shorts SELECT 's' || i, i FROM generate_series(1, 30) i;
INSERT INTO tickets (id, title, user_id) SELECT i, 'ticket ' || i, 1 + i % 40 FROM generate_series(1, 30) i;
SELECT setval('tickets_id_seq', 30);
INSERT INTO bank SELECT i, 1000 FROM generate_series(1, 40) i;
INSERT INTO settings SELECT 'key' || i, CASE WHEN i % 4 > 0 THEN 'value' || i % 3 END, timestamptz '2024-01-01 00:00:00+00' + make_interval(days => i) FROM generate_series(1, 15) i;
INSERT INTO audit SELECT i, pg_temp.pick(i, 'what', 'login', 'logout', 'pay'), CASE WHEN i % 3 > 0 THEN 1 + pg_temp.draw(i, 'user', 130) END FROM generate_series(1, 25) i;
INSERT INTO stamped SELECT i, 'x' || i, '2024-01-01 UTC', '2024-01-01' FROM generate_series(1, 60) AS i;
