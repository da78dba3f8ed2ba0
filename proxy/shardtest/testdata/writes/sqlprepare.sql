-- A dollar sign of PREPARE is no parameter of the corpus: the values are given as ours.
--
-- simple
-- params: $1
PREPARE one (bigint) AS SELECT id, name FROM users WHERE id = $1;
-- simple
EXECUTE one (7);
-- simple
EXECUTE one (8);
-- simple
EXECUTE one (NULL);
-- simple
-- params: $1
PREPARE total (text) AS SELECT count(*), sum(total) FROM orders WHERE status = $1;
-- simple
EXECUTE total ('paid');
-- simple
EXECUTE total ('nothing');
-- simple
-- params: $1, $2
PREPARE put AS INSERT INTO users (id, name) VALUES ($1, $2);
-- simple
EXECUTE put (7001, 'a');
-- simple
EXECUTE put (7002, 'b');
-- simple
-- fails: 23505
EXECUTE put (7, 'there already');
-- simple
-- params: $1
PREPARE grow (int) AS UPDATE users SET age = age + $1;
-- simple
EXECUTE grow (5);
-- simple
DEALLOCATE one;
-- fails: 26000
-- simple
EXECUTE one (7);
-- simple
DEALLOCATE ALL;
