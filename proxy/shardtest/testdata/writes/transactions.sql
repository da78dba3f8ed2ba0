-- must
BEGIN;
-- must
UPDATE users SET age = 1 WHERE id = 7;
-- must
UPDATE users SET age = 2 WHERE id = 8;
-- what it wrote it sees
-- must
SELECT id, age FROM users WHERE id IN (7, 8, 9);
-- must
SELECT sum(age), count(*) FROM users;
-- must
COMMIT;
-- must
BEGIN;
-- must
INSERT INTO users (id, name) VALUES (4001, 'a'), (4002, 'b'), (4003, 'c');
-- must
INSERT INTO orders (user_id, id, status) VALUES (4001, 1, 'new'), (4002, 2, 'new'), (4003, 3, 'new');
SELECT u.name, o.id FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id > 4000 AND u.id < 5000;
-- must
ROLLBACK;
SELECT count(*) FROM users WHERE id BETWEEN 4000 AND 5000;
-- one shard
START TRANSACTION;
INSERT INTO accounts (name, balance, kind) VALUES ('t-1', 1, 'x');
UPDATE accounts SET balance = 5 WHERE name = 't-1';
END;
-- an error
BEGIN;
UPDATE users SET age = 20 WHERE id IN (1, 2, 3, 4, 5, 6);
-- fails: 22012
SELECT 1/0;
-- fails: 25P02
SELECT 1;
-- fails: 25P02
UPDATE users SET age = 21 WHERE id = 7;
-- the tag says ROLLBACK
COMMIT;
SELECT id, age FROM users WHERE id IN (1, 2, 3, 4, 5, 6);
-- an error on one shard after writes on all
BEGIN;
UPDATE users SET age = age + 1;
-- fails: 22012
UPDATE users SET age = 1 / (id % 1000 - 7);
ROLLBACK;
-- a constraint that is looked at in the end
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
DELETE FROM order_items WHERE user_id = 15;
COMMIT;
-- read only
BEGIN READ ONLY;
SELECT count(*) FROM users;
-- fails: 25006
UPDATE users SET age = 1 WHERE id = 7;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM users;
UPDATE users SET age = 30 WHERE id = 7;
SHOW transaction_isolation;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT age FROM users WHERE id = 7;
UPDATE users SET age = 31 WHERE id = 7;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT sum(balance) FROM accounts;
UPDATE accounts SET balance = balance + 1 WHERE name IN ('acc-1', 'acc-2', 'acc-3', 'acc-6');
COMMIT;
-- chains
BEGIN;
UPDATE users SET age = 40 WHERE id IN (7, 8, 9);
COMMIT AND CHAIN;
UPDATE users SET age = 41 WHERE id IN (7, 8, 9);
ROLLBACK AND CHAIN;
SELECT id, age FROM users WHERE id IN (7, 8, 9);
COMMIT;
-- nothing in it
BEGIN;
COMMIT;
BEGIN;
ROLLBACK;
-- warnings
COMMIT;
ROLLBACK;
BEGIN;
BEGIN;
COMMIT;
-- settings of a transaction
BEGIN;
SET LOCAL statement_timeout = '10s';
SET LOCAL TimeZone = 'Asia/Tokyo';
SELECT created FROM users WHERE id IN (7, 8, 9, 10);
SHOW statement_timeout;
COMMIT;
SHOW statement_timeout;
SHOW TimeZone;
-- settings of the session hold on all shards
SET TimeZone = 'America/New_York';
SELECT id, created FROM users WHERE id < 20;
SELECT date_trunc('day', at) AS day, count(*) FROM events GROUP BY 1;
SELECT min(created), max(created) FROM users;
-- the server reads this time by the zone
SELECT id FROM events WHERE at > '2024-03-31 12:00:00';
SET DateStyle = 'SQL, DMY';
SELECT id, born FROM users WHERE id < 20;
SELECT id FROM users WHERE born < '01/02/1970';
RESET DateStyle;
RESET TimeZone;
SET extra_float_digits = -5;
SELECT id, score, score / 3 FROM users WHERE id < 20;
RESET extra_float_digits;
SET IntervalStyle = 'iso_8601';
SELECT id, lasted FROM events WHERE lasted IS NOT NULL;
SELECT sum(lasted) FROM events;
RESET IntervalStyle;
SET bytea_output = 'escape';
SELECT id, y FROM zoo;
RESET bytea_output;
SET search_path = pg_catalog;
-- fails: 42P01
SELECT count(*) FROM users;
SELECT count(*) FROM public.users;
RESET search_path;
SET statement_timeout = '50ms';
-- fails: 57014
SELECT id, pg_sleep(5) FROM users;
RESET statement_timeout;
SELECT count(*) FROM users;
-- a request of several with its own BEGIN
-- simple
BEGIN; UPDATE users SET age = 60 WHERE id = 1; UPDATE users SET age = 61 WHERE id = 2; COMMIT;
-- simple
BEGIN; UPDATE users SET age = 62 WHERE id = 1; UPDATE users SET age = 63 WHERE id = 2; ROLLBACK;
-- simple
UPDATE users SET age = 64 WHERE id = 1; BEGIN; UPDATE users SET age = 65 WHERE id = 2;
SELECT id, age FROM users WHERE id IN (1, 2);
COMMIT;
-- locks
BEGIN;
SELECT id FROM users WHERE id = 7 FOR UPDATE;
SELECT id FROM users WHERE id IN (7, 8, 9) FOR UPDATE;
SELECT id FROM users WHERE age = 30 FOR SHARE;
SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id WHERE o.status = 'lost' FOR UPDATE OF u;
-- ordered
SELECT id FROM users ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED;
LOCK TABLE users IN SHARE MODE;
SELECT pg_advisory_xact_lock(42);
COMMIT;
-- home and shards together
BEGIN;
INSERT INTO audit VALUES (200, 'pay', 7);
UPDATE accounts SET balance = balance - 1 WHERE name = 'acc-7' AND balance > 0;
UPDATE accounts SET balance = balance + 1 WHERE name = 'acc-3';
UPDATE settings SET value = 'paid' WHERE key = 'key2';
COMMIT;
SELECT what FROM audit WHERE id = 200;
-- a refusal inside a transaction fails it and no more
BEGIN;
UPDATE users SET age = 70 WHERE id = 7;
SELECT id, lag(id) OVER (ORDER BY age, id) FROM users;
ROLLBACK;
SELECT age FROM users WHERE id = 7;
