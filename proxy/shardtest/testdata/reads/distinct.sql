-- must
SELECT DISTINCT age FROM users;
-- must
SELECT DISTINCT status FROM orders;
-- must
SELECT DISTINCT status, currency FROM orders;
SELECT DISTINCT id FROM users;
SELECT DISTINCT user_id FROM orders;
SELECT DISTINCT * FROM orders WHERE status = 'lost';
SELECT DISTINCT country FROM users WHERE age > 50;
-- one row on each shard, one in all
SELECT DISTINCT 1 AS one FROM users;
SELECT DISTINCT active FROM users;
SELECT DISTINCT NULL::int FROM users;
SELECT DISTINCT age > 30 FROM users;
SELECT DISTINCT upper(status) FROM orders;
-- must
-- ordered
SELECT DISTINCT age FROM users ORDER BY age;
-- must
-- ordered
SELECT DISTINCT status FROM orders ORDER BY status LIMIT 3;
-- ordered
SELECT DISTINCT age FROM users ORDER BY age DESC NULLS LAST LIMIT 5 OFFSET 2;
-- ordered
SELECT DISTINCT status, currency FROM orders ORDER BY currency NULLS FIRST, status DESC;
-- ordered: 1
SELECT DISTINCT age, country FROM users ORDER BY age;
-- ordered
SELECT DISTINCT icu FROM zoo ORDER BY icu;
-- ordered
SELECT DISTINCT icu FROM zoo ORDER BY icu LIMIT 3;
SELECT DISTINCT icu FROM zoo;
-- equal and differently written
SELECT count(*) FROM (SELECT DISTINCT n FROM zoo) x;
SELECT count(*) FROM (SELECT DISTINCT ci FROM zoo) x;
SELECT count(*) FROM (SELECT DISTINCT iv FROM zoo) x;
-- which of 1.0 and 1.00 is shown is nobody's promise
-- loose
SELECT DISTINCT n FROM zoo;
-- loose
SELECT DISTINCT ci FROM zoo;
SELECT DISTINCT round(n, 3) FROM zoo;
SELECT DISTINCT f8 FROM zoo WHERE f8 <> 0;
SELECT DISTINCT u FROM zoo;
SELECT DISTINCT y FROM zoo;
SELECT DISTINCT d, b FROM zoo;
SELECT DISTINCT j FROM zoo WHERE j <> '{"a": 1}';
SELECT DISTINCT a FROM zoo;
SELECT DISTINCT ch FROM zoo;
SELECT DISTINCT m FROM zoo;
-- DISTINCT ON: the first row of each
-- ordered
SELECT DISTINCT ON (user_id) user_id, id, status FROM orders ORDER BY user_id, id;
-- ordered
SELECT DISTINCT ON (status) status, id FROM orders ORDER BY status, id;
-- ordered
SELECT DISTINCT ON (status) status, id FROM orders ORDER BY status, id DESC LIMIT 2;
-- ordered
SELECT DISTINCT ON (age) age, id FROM users ORDER BY age DESC NULLS LAST, id;
-- ordered
SELECT DISTINCT ON (tenant) tenant, id, reading FROM meters ORDER BY tenant, id;
-- must
-- ordered
SELECT DISTINCT ON (status) status, id FROM orders WHERE user_id = 15 ORDER BY status, id;
SELECT DISTINCT ON (id) id, name FROM users WHERE id < 9 AND id > 0;
-- fails: 42P10
SELECT DISTINCT age FROM users ORDER BY name;
-- fails: 42P10
SELECT DISTINCT ON (status) status, id FROM orders ORDER BY id;
-- must
SELECT DISTINCT u.country FROM users u JOIN orders o ON o.user_id = u.id;
SELECT DISTINCT u.id, o.status FROM users u JOIN orders o ON o.user_id = u.id;
SELECT DISTINCT c.continent FROM users u JOIN countries c ON c.code = u.country;
SELECT DISTINCT continent FROM countries;
SELECT DISTINCT x.age FROM (SELECT DISTINCT age, country FROM users) x;
-- params: 30
SELECT DISTINCT country FROM users WHERE age > $1;
SELECT DISTINCT random() < 2 FROM users;
