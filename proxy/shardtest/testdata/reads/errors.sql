-- errors of one row on one shard
-- fails: 22012
SELECT 1 / (id % 1000 - 7) FROM users;
-- fails: 22012
SELECT id FROM users WHERE 1 / (id % 1000 - 7) > 0;
-- fails: 22012
SELECT count(*) FROM users WHERE 10 / (id % 1000 - 7) > 0;
-- fails: 22012
SELECT 1 / (id % 1000 - 7) FROM users WHERE id = 7;
SELECT 1 / (id % 1000 - 7) FROM users WHERE id = 8;
-- fails: 22P02
-- vague
SELECT name::int FROM users;
-- fails: 22003
SELECT id::int FROM users WHERE id = 9223372036854775807;
-- fails: 22003
SELECT (id + 9223372036854775000)::text FROM users WHERE id > 100000;
-- fails: 42883
SELECT nofunction(id) FROM users;
-- fails: 42703
SELECT u.id FROM users u WHERE u.nothing = 1;
-- fails: 42P01
SELECT id FROM users WHERE orders.id = 1;
-- fails: 42702
SELECT id FROM users, orders;
-- must
-- fails: 42601
SELECT id FROM users WHERE;
-- must
-- fails: 42601
SELEC id FROM users;
-- must
-- fails: 42601
SELECT id, FROM users;
-- must
-- fails: 42601
-- simple
SELECT 1; SELEC 2;
-- must
-- fails: 42601
-- params: 7
SELECT id FROM users WHERE id = $1 AND;
-- fails: 42883
SELECT id FROM users WHERE name = 7;
-- fails: 42804
SELECT id FROM users WHERE age;
-- fails: 42712
SELECT 1 FROM users, users;
-- fails: 42P10
SELECT age FROM users GROUP BY 7;
-- fails: 42P01
SELECT * FROM noschema.users;
-- fails: 0A000
SELECT * FROM otherdb.public.users;
-- fails: 0A000
SELECT count(*) FROM users FOR UPDATE;
-- fails: 42P01
SELECT * FROM users FOR UPDATE OF orders;
-- fails: 42704
SELECT id::notype FROM users;
-- fails: 42704
SET nothing_known = 1;
-- fails: 22023
SET work_mem = '1 parsec';
-- fails: 2BP01
DROP TABLE users;
-- fails: 42P07
CREATE TABLE users (id int);
-- fails: 26000
EXECUTE nobody;
-- fails: 34000
FETCH 1 FROM nobody;
-- fails: 25P01
SAVEPOINT outside;
-- a request of several: the first that fails ends it
-- simple
-- fails: 22012
SELECT id FROM users WHERE id = 7; SELECT 1/0; SELECT id FROM users WHERE id = 8;
-- simple
SELECT id FROM users WHERE id = 7; SELECT count(*) FROM users; SELECT name FROM users WHERE id = 8;
-- simple
SELECT id FROM users WHERE id = 7; SELECT id FROM users WHERE id = 7;
-- an empty statement
-- simple
;
