-- must
SELECT * FROM users WHERE id = 7;
-- must
-- params: 7
SELECT * FROM users WHERE id = $1;
-- must
-- params: 1000000
SELECT id, name FROM users WHERE id = $1;
-- must
-- params: '-9223372036854775808'
SELECT id, name, age FROM users WHERE id = $1;
-- must
SELECT id, name FROM users WHERE id = 9223372036854775807;
-- must
SELECT id, name FROM users WHERE id = -7;
-- must
SELECT id, name FROM users WHERE 7 = id;
-- must
SELECT u.id FROM public.users AS u WHERE u.id = 12 AND u.active;
-- must
-- params: 9
SELECT id FROM users WHERE id = $1::bigint;
-- a small integer type: the same bucket
-- params: 9
SELECT id FROM users WHERE id = $1::smallint;
-- a numeric that is whole is equal to the bigint
SELECT id FROM users WHERE id = 9.0;
-- a numeric that is not whole is equal to none
SELECT id FROM users WHERE id = 9.5;
-- rounds to 10 by the cast; 9.5 itself matches nothing
SELECT id FROM users WHERE id = 9.5::bigint;
-- a float parameter
-- params: 9
SELECT id FROM users WHERE id = $1::float8;
-- must
SELECT id FROM users WHERE id = '9';
-- blanks around an integer are taken
SELECT id FROM users WHERE id = ' 9 ';
-- fails: 22P02
SELECT id FROM users WHERE id = 'nine';
-- fails: 22003
SELECT id FROM users WHERE id = '99999999999999999999';
-- too big for the column: no row, and no error
SELECT id FROM users WHERE id = 99999999999999999999;
-- must
-- params: 'acc-1'
SELECT * FROM accounts WHERE name = $1;
-- must
SELECT balance FROM accounts WHERE name = '';
-- must
SELECT balance FROM accounts WHERE name = 'it''s';
-- an escape string
SELECT name, balance FROM accounts WHERE name = E'tab\there';
-- a unicode string
SELECT name, balance FROM accounts WHERE name = U&'\00e4nd-3';
-- blanks at the end count for text
SELECT name FROM accounts WHERE name = 'acc-1 ';
-- and not for char(n), to which it is cast
SELECT name FROM accounts WHERE name = 'acc-1 '::char(10);
-- a varchar that cuts the value
SELECT name FROM accounts WHERE name = 'acc-10'::varchar(5);
-- equality under another collation than the key's
SELECT name FROM accounts WHERE name COLLATE anycase = 'ACC-1';
-- the collation comes from the other side
SELECT name FROM accounts WHERE name = 'ACC-1' COLLATE anycase;
-- must
SELECT kind, user_id FROM events WHERE id = (SELECT md5('11')::uuid);
-- must
-- params: 'c4ca4238a0b923820dcc509a6f75849b'
SELECT * FROM events WHERE id = $1;
-- uuid has several spellings
SELECT kind FROM events WHERE id = '{C4CA4238-A0B9-2382-0DCC-509A6F75849B}';
-- must
SELECT * FROM meters WHERE tenant = 2 AND id = 5;
-- must
-- params: 2, 5
SELECT reading FROM meters WHERE tenant = $1 AND id = $2;
-- half of the key: several shards
SELECT id, reading FROM meters WHERE tenant = 2;
-- parameters in another order
-- params: 5, 2
SELECT reading FROM meters WHERE id = $1 AND tenant = $2;
-- NULL equals nothing
-- must
-- params: NULL
SELECT id FROM users WHERE id = $1;
SELECT id FROM users WHERE id = NULL;
SELECT id FROM users WHERE id IS NULL;
SELECT id FROM users WHERE id IS NOT DISTINCT FROM 7;
-- two keys at once: nothing
SELECT id FROM users WHERE id = 7 AND id = 8;
-- a key and more: OR widens it
SELECT id FROM users WHERE id = 7 OR age = 30;
SELECT id FROM users WHERE id = 7 OR id = 8;
SELECT id FROM users WHERE id = 7 OR true;
SELECT id FROM users WHERE (id = 7 OR age < 20) AND active;
SELECT id FROM users WHERE NOT (id = 7) AND age = 30;
SELECT id FROM users WHERE NOT (id <> 7);
SELECT id FROM users WHERE (id = 7) IS TRUE;
SELECT id FROM users WHERE (id = 7) IS NOT TRUE AND age > 55;
SELECT id FROM users WHERE (id = 7) = false AND age > 55;
SELECT id FROM users WHERE CASE WHEN id = 7 THEN age > 0 ELSE age > 55 END;
SELECT id FROM users WHERE coalesce(id = 7, true);
-- not equality with the key itself
SELECT id FROM users WHERE id + 0 = 7;
SELECT id FROM users WHERE id = 7 + 1;
SELECT id FROM users WHERE id / 2 = 3;
SELECT id FROM users WHERE abs(id) = 7 AND id > -100;
SELECT id FROM users WHERE id % 10 = 7;
SELECT id FROM users WHERE id = length('1234567');
SELECT id FROM users WHERE id::text = '7';
SELECT id FROM users WHERE id::int2 = 7 AND id BETWEEN 0 AND 100;
-- key = another column
SELECT id FROM users WHERE id = age;
SELECT id, boss FROM users WHERE id = boss;
SELECT id FROM users WHERE boss = 7;
SELECT id FROM users WHERE id BETWEEN 7 AND 7;
SELECT id FROM users WHERE id >= 7 AND id <= 9;
SELECT id FROM users WHERE id > 115;
-- must
SELECT id, name FROM users;
-- must
SELECT count(*) FROM users WHERE id = 7;
-- one row of nothing
-- must
SELECT count(*), sum(age), max(name) FROM users WHERE id = 424242;
-- a column called like the key of another table
SELECT id, user_id FROM tickets WHERE user_id = 7;
SELECT id FROM orders WHERE id = 7;
-- must
SELECT id, status, total FROM orders WHERE user_id = 15;
-- shadowed: the id of the sub-select is age
SELECT id FROM (SELECT age AS id FROM users) u WHERE id = 30;
-- and here it is the key by another name
SELECT key FROM (SELECT id AS key, age AS id FROM users) u WHERE id = 30;
-- a table's alias is another table's name
SELECT users.id FROM orders AS users WHERE users.id = 7;
SELECT orders.id, orders.name FROM users AS orders WHERE orders.id = 7;
SELECT id FROM users AS u (key, id) WHERE id = 'anna7';
SELECT id FROM users AS u (key, id) WHERE key = 7;
-- must
TABLE currencies;
-- must
SELECT 1 AS one, 'x' AS x;
-- must
-- params: 3
SELECT $1::int + 1 AS four;
SELECT id FROM ONLY users WHERE id = 7;
SELECT day, pages FROM visits WHERE user_id = 7;
-- a partition by its own name
SELECT user_id, pages FROM visits_2024 WHERE user_id = 7;
SELECT count(*) FROM visits_2023;
-- fails: 42703
SELECT nothing FROM users WHERE id = 7;
-- fails: 42P01
SELECT * FROM nowhere WHERE id = 7;
-- fails: 42601
SELECT FROM WHERE;
-- quoted names
SELECT "users"."id" FROM "public"."users" WHERE "users"."id" = 7;
SELECT id AS "ID", name AS "a ""name""" FROM USERS WHERE ID = 7;
-- system columns
SELECT count(ctid) FROM users;
SELECT id FROM users WHERE id = 7 FOR UPDATE;
-- simple
SELECT users FROM users WHERE id = 7;
SELECT (users).name FROM users WHERE id = 7;
SELECT id, tags[1], profile->>'plan' FROM users WHERE id = 12;
-- comments where words are
SELECT /* id = 8 */ id FROM users WHERE id = /* 9 */ 7 -- OR true
AND true;
