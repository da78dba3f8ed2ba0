-- Parameters without a declared type that stand in several places: the first that the server looks at decides what they are.
--
-- params: 7
SELECT id FROM users WHERE id = $1;
-- params: 7
SELECT id FROM users WHERE score < $1 AND id = $1;
-- params: 7
SELECT id, name FROM users WHERE (score <> $1 OR true) AND id = $1;
-- params: 7
SELECT id, name FROM users WHERE (balance <> $1 OR true) AND id = $1;
-- params: 0.00
SELECT id, name FROM users WHERE (balance <> $1 OR true) AND id = $1;
-- params: 0.0000000
SELECT id, name FROM users WHERE (balance <> $1 OR true) AND id = $1;
-- params: 7.4
SELECT id, name FROM users WHERE (balance <> $1 OR true) AND id = $1::bigint;
-- params: '9223372036854775807'
SELECT id, name FROM users WHERE (score <> $1 OR true) AND id = $1;
-- params: '9223372036854775806'
SELECT id, name FROM users WHERE (score <> $1 OR true) AND id = $1;
-- params: 7
SELECT id, name FROM users WHERE (score <> $1 OR true) AND id IN ($1, 8);
-- params: 7
SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id WHERE coalesce(o.total, 1) <> $1 AND u.id = $1;
-- params: 7
SELECT $1::float8, id FROM users WHERE id = $1;
-- params: 7
SELECT $1::numeric, id FROM users WHERE id = $1;
-- params: 7
SELECT $1::text, id FROM users WHERE id = $1::bigint;
-- params: 2.00, 3
SELECT reading FROM meters WHERE (reading <> $1 OR true) AND tenant = $1 AND id = $2;
-- params: 2, 3
SELECT reading FROM meters WHERE (reading <> $1 OR true) AND tenant = $1 AND id = $2;
-- params: 3
SELECT id FROM zoo WHERE (f4 <> $1 OR true) AND id = $1;
-- params: 3
SELECT id FROM zoo WHERE (i2 <> $1 OR true) AND id = $1;
-- params: 3
SELECT id FROM zoo WHERE (i8 <> $1 OR true) AND id = $1;
-- params: 3
SELECT id FROM zoo WHERE (p <> $1 OR true) AND id = $1;
-- params: 7
WITH v AS (SELECT $1::float8 AS f) SELECT u.id FROM users u, v WHERE u.id = $1;
-- params: 7
SELECT id FROM users WHERE id = ANY(ARRAY[$1, 8]) AND (score <> $1 OR true);
-- params: '{7,8}'
SELECT id FROM users WHERE id = ANY($1);
-- params: '{7,8}'
SELECT id FROM users WHERE (ARRAY[score] <> $1 OR true) AND id = ANY($1);
-- params: '{7,8}'
SELECT id FROM users WHERE (ARRAY[balance] <> $1 OR true) AND id = ANY($1);
-- params: 't'
SELECT id FROM users WHERE id = CASE WHEN $1 THEN 7 ELSE 8 END;
-- params: 7
SELECT id FROM users WHERE id = $1 LIMIT $1;
-- params: 7
SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE user_id = $1 AND coalesce(total, 1) <> $1);
-- params: 7
SELECT id FROM users WHERE (SELECT count(*) FROM orders WHERE coalesce(total, 1) <> $1) > 0 AND id = $1;
-- params: 7
-- ordered
SELECT id FROM users ORDER BY id = $1, id LIMIT 3;
-- params: 7
-- ordered
SELECT id FROM users WHERE (score <> $1 OR true) ORDER BY id % 1000 + $1, id LIMIT 5;
-- params: 7
SELECT count(*) FROM users WHERE (score <> $1 OR true) AND id > 0 GROUP BY boss * $1;
-- params: 7
SELECT count(*) FROM users WHERE (age <> $1 OR true) AND id > 0 GROUP BY boss * $1;
-- params: 7
SELECT boss + $1, count(*) FROM users WHERE (score <> $1 OR true) AND id > 0 GROUP BY boss + $1;
-- params: 3
-- ordered
SELECT id FROM users WHERE (score <> $1 OR true) ORDER BY id OFFSET $1 LIMIT 5;
-- params: 3, 2
-- ordered
SELECT id FROM users ORDER BY id OFFSET $1 LIMIT $2;
-- params: 7
SELECT avg(balance + $1) FROM users WHERE (score <> $1 OR true);
-- params: 7
SELECT avg(age + $1) FROM users;
-- params: 7
SELECT avg($1::int) FROM users;
-- params: 7
SELECT max($1) FROM users;
-- params: 7
SELECT min(age), $1 FROM users;
-- params: 7
SELECT age + $1, min(balance) FROM users GROUP BY age + $1 HAVING age + $1 > 40;
-- params: 7
SELECT age, $1 AS x FROM users GROUP BY 1, 2;
-- params: 7
SELECT DISTINCT age, $1 AS x FROM users;
-- params: 7
SELECT id, $1 FROM users WHERE id IN (7, 8, 9, 10);
-- params: 7
SELECT id FROM users WHERE id = 7 UNION ALL SELECT $1;
-- params: 7
SELECT id FROM users UNION SELECT $1;
-- params: 7
SELECT id FROM users WHERE id > 100 UNION ALL SELECT user_id FROM orders WHERE user_id = $1;
-- params: 7
SELECT id FROM users WHERE (score <> $1 OR true) UNION ALL SELECT user_id FROM orders WHERE user_id = $1;
-- params: 3
-- ordered
SELECT id FROM users WHERE (score <> $1 OR true) ORDER BY id LIMIT $1;
-- params: 2
-- ordered
SELECT id FROM users WHERE (balance <> $1 OR true) ORDER BY id LIMIT $1;
-- params: 2.5
-- ordered
SELECT id FROM users WHERE (balance <> $1 OR true) ORDER BY id LIMIT $1;
-- params: 3
-- ordered
SELECT id FROM users WHERE (age <> $1 OR true) ORDER BY id LIMIT $1 OFFSET $1;
-- params: 30
SELECT status, count(*) FROM orders WHERE (total <> $1 OR true) GROUP BY status HAVING count(*) > $1;
-- with a numeric beside it the parameter is one
-- params: 0.0000000
SELECT id FROM users WHERE id IN ($1, 8.0);
-- params: 7
SELECT id FROM users WHERE id IN ($1, 8::numeric);
