BEGIN;
UPDATE users SET age = 1 WHERE id = 7;
SAVEPOINT a;
UPDATE users SET age = 2 WHERE id IN (7, 8, 9, 10);
ROLLBACK TO a;
SELECT id, age FROM users WHERE id IN (7, 8, 9, 10);
UPDATE users SET age = 3 WHERE id = 9;
RELEASE a;
COMMIT;
-- a shard that was first touched after the savepoint
BEGIN;
SAVEPOINT a;
INSERT INTO users (id, name) VALUES (5001, 'x');
SAVEPOINT b;
INSERT INTO users (id, name) VALUES (5002, 'y'), (5003, 'z'), (5004, 'w'), (5005, 'v');
ROLLBACK TO b;
INSERT INTO users (id, name) VALUES (5006, 'y'), (5007, 'z');
ROLLBACK TO a;
INSERT INTO users (id, name) VALUES (5008, 'y'), (5009, 'z'), (5010, 'zz');
COMMIT;
SELECT id FROM users WHERE id BETWEEN 5000 AND 6000;
-- an error, and back
BEGIN;
UPDATE users SET age = 11 WHERE id IN (1, 2, 3, 4, 5);
SAVEPOINT s;
-- fails: 23505
INSERT INTO users (id, name) VALUES (5020, 'fine'), (7, 'not');
-- fails: 25P02
SELECT 1;
ROLLBACK TO SAVEPOINT s;
SELECT id, age FROM users WHERE id IN (1, 2, 3, 4, 5);
INSERT INTO users (id, name) VALUES (5021, 'fine');
COMMIT;
-- an error on one shard only
BEGIN;
SAVEPOINT s;
-- fails: 22012
UPDATE users SET age = 1 / (id % 1000 - 7);
ROLLBACK TO s;
UPDATE users SET age = 12 WHERE id = 7;
-- fails: 22012
SELECT 1/0;
ROLLBACK TO s;
UPDATE users SET age = 13 WHERE id = 8;
COMMIT;
-- the same name twice
BEGIN;
SAVEPOINT s;
UPDATE users SET age = 14 WHERE id = 7;
SAVEPOINT s;
UPDATE users SET age = 15 WHERE id = 8;
ROLLBACK TO s;
RELEASE s;
UPDATE users SET age = 16 WHERE id = 9;
ROLLBACK TO s;
COMMIT;
SELECT id, age FROM users WHERE id IN (7, 8, 9);
-- fails: 25P01
ROLLBACK TO nothing;
BEGIN;
-- fails: 3B001
RELEASE nothing;
ROLLBACK;
-- released, and then rolled back
BEGIN;
SAVEPOINT s;
DELETE FROM accounts WHERE kind = 'save';
RELEASE SAVEPOINT s;
SELECT count(*) FROM accounts;
ROLLBACK;
SELECT count(*) FROM accounts;
