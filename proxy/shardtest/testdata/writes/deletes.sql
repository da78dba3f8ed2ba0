-- must
DELETE FROM accounts WHERE name = 'acc-1';
-- must
-- params: 'Acc-2'
DELETE FROM accounts WHERE name = $1 RETURNING name, balance;
-- must
DELETE FROM zoo WHERE id IN (1, 2, 3, 4, 5);
-- must
DELETE FROM zoo WHERE b AND i4 > 0;
DELETE FROM zoo WHERE i4 > 500 RETURNING id, t;
-- must
DELETE FROM order_items WHERE user_id = 15;
-- the items go with their orders
DELETE FROM orders WHERE user_id = 16;
DELETE FROM users WHERE id = 17;
DELETE FROM orders WHERE status = 'lost';
-- must
DELETE FROM orders o USING users u WHERE u.id = o.user_id AND u.age = 30;
DELETE FROM users u USING countries c WHERE c.code = u.country AND c.continent = 'Asia';
DELETE FROM users a USING users b WHERE b.id = a.boss AND b.age > 50;
DELETE FROM events WHERE user_id IN (SELECT id FROM users WHERE age > 50);
DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT 5);
DELETE FROM meters WHERE (tenant, id) IN ((3, 1), (3, 2), (4, 3));
DELETE FROM meters WHERE reading < (SELECT avg(reading) FROM meters);
DELETE FROM meters WHERE tenant = 6;
DELETE FROM visits WHERE day < '2023-12-01';
DELETE FROM visits_2024 WHERE pages > 10;
DELETE FROM orders o WHERE NOT EXISTS (SELECT FROM order_items i WHERE i.user_id = o.user_id AND i.order_id = o.id);
WITH gone AS (DELETE FROM orders WHERE user_id = 20 RETURNING id) SELECT count(*) FROM gone;
WITH gone AS (DELETE FROM orders WHERE status = 'Sent' RETURNING id) SELECT count(*) FROM gone;
WITH gone AS (DELETE FROM orders WHERE user_id = 21 RETURNING *) INSERT INTO audit (id, what) SELECT id + 50000, status FROM gone;
-- must
DELETE FROM users WHERE id = 424242;
DELETE FROM settings WHERE key = 'key1';
DELETE FROM audit WHERE user_id IN (SELECT id FROM users WHERE age < 25);
-- fails: 22012
DELETE FROM accounts WHERE 1 / (balance - 70) > 5;
-- users hold them
-- fails: 23503
-- vague
DELETE FROM countries WHERE code = 'DE';
DELETE FROM countries WHERE code = 'ZZ';
DELETE FROM empties;
-- must
DELETE FROM accounts;
SELECT count(*) FROM accounts;
TRUNCATE zoo;
TRUNCATE events, meters;
-- fails: 0A000
TRUNCATE users;
TRUNCATE users CASCADE;
TRUNCATE settings;
SELECT count(*) FROM orders;
-- PostgreSQL 16 has made the alias a reserved word: what only the server takes is not carried out by one shard for all
DELETE FROM bank system_user WHERE account < 10;
