-- Plans differ from server to server: that they come, in the columns that they have, is what is compared.
--
-- loose
EXPLAIN SELECT * FROM users WHERE id = 7;
-- loose
EXPLAIN (COSTS OFF) SELECT count(*) FROM users;
-- loose
EXPLAIN (FORMAT json) SELECT * FROM users WHERE id = 7;
-- loose
EXPLAIN ANALYZE SELECT * FROM orders WHERE user_id = 15;
-- loose
EXPLAIN (ANALYZE, BUFFERS) SELECT status, count(*) FROM orders GROUP BY status;
-- loose
EXPLAIN SELECT * FROM countries;
-- loose
EXPLAIN UPDATE users SET age = 1 WHERE id = 7;
-- loose
-- params: 7
EXPLAIN SELECT * FROM users WHERE id = $1;
-- fails: 42P01
EXPLAIN SELECT * FROM nowhere;
