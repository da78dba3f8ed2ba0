-- must
SELECT id, name FROM users WHERE id IN (3, 7, 11);
-- must
-- params: 3, 7, 11
SELECT id, name FROM users WHERE id IN ($1, $2, $3);
-- must
-- params: '{3,7,11,NULL}'
SELECT id, name FROM users WHERE id = ANY ($1);
-- must
-- params: '{}'
SELECT id, name FROM users WHERE id = ANY ($1);
-- params: NULL
SELECT id FROM users WHERE id = ANY ($1::bigint[]);
SELECT id FROM users WHERE id = ANY (ARRAY[1, 2, 3]);
SELECT id FROM users WHERE id = ANY ('{1,2,3}');
-- two dimensions are searched as one
SELECT id FROM users WHERE id = ANY ('{{1,2},{3,4}}');
-- bounds
SELECT id FROM users WHERE id = ANY ('[0:1]={5,6}');
SELECT id FROM users WHERE id = SOME (ARRAY[1, 2]::int[]);
SELECT id FROM users WHERE id = ALL (ARRAY[5, 5]);
SELECT id FROM users WHERE id = ALL ('{}') AND age = 30;
SELECT id FROM users WHERE id <> ALL ('{1,2,3}') AND id < 6 AND id > 0;
-- any of unequal: nearly all
SELECT count(*) FROM users WHERE id <> ANY ('{1,2,3}');
-- the same key twice gives its row once
-- must
SELECT id FROM users WHERE id IN (7, 7, 7);
SELECT id FROM users WHERE id IN (7, NULL);
-- NOT IN with a NULL is never true
SELECT id FROM users WHERE id NOT IN (7, NULL);
SELECT count(*) FROM users WHERE id NOT IN (7, 8);
SELECT count(*) FROM users WHERE NOT id IN (7, 8);
-- must
SELECT name, balance FROM accounts WHERE name IN ('acc-1', 'Acc-1', '~-1', 'änd-1', 'acc-2', 'Acc-2');
-- params: '{acc-1,"it''s","","NULL",NULL}'
SELECT name FROM accounts WHERE name = ANY ($1);
SELECT id FROM users WHERE id IN (1, 2, 3) AND id IN (2, 3, 4);
SELECT id FROM users WHERE id IN (1, 2) AND age IN (SELECT age FROM users WHERE id IN (1, 2, 3));
SELECT id FROM users WHERE id IN (1 + 1, 3);
SELECT id FROM users WHERE id IN (2.0, 3.5);
-- a list of another column
SELECT id FROM users WHERE age IN (30, 31);
SELECT id FROM users WHERE boss IN (1, 2, 3);
-- two keys and a limit
-- ordered
SELECT id FROM users WHERE id IN (3, 7, 11, 12, 13) ORDER BY id DESC LIMIT 2;
-- rows
SELECT tenant, id, reading FROM meters WHERE (tenant, id) = (2, 5);
-- must
SELECT tenant, id, reading FROM meters WHERE (tenant, id) IN ((2, 5), (3, 1), (0, 2));
SELECT tenant, id FROM meters WHERE (id, tenant) IN ((5, 2), (1, 3));
SELECT tenant, id FROM meters WHERE ROW(tenant, id) = ROW(2, 5);
-- every tenant with every id: four combinations
SELECT tenant, id FROM meters WHERE tenant IN (2, 3) AND id IN (5, 6);
SELECT tenant, id FROM meters WHERE tenant = ANY ('{2,3}') AND id = 5;
SELECT tenant, id FROM meters WHERE (tenant, id) > (5, 15);
SELECT tenant, id FROM meters WHERE (tenant, id) <> (5, 15) AND tenant = 5;
SELECT tenant, id FROM meters WHERE (tenant, id) = (2, NULL);
-- ordered
SELECT user_id, id FROM orders WHERE (user_id, id) >= (100, 10) ORDER BY 1, 2;
SELECT user_id, id FROM orders WHERE (user_id, status) = (15, 'paid');
SELECT user_id, id FROM orders WHERE (user_id, status) IN ((15, 'paid'), (16, 'new'));
-- params: '{15,16}', 'paid'
SELECT user_id, id FROM orders WHERE user_id = ANY ($1) AND status = $2;
SELECT id FROM users WHERE id IN (VALUES (1), (2));
SELECT id FROM users WHERE id IN (SELECT 7);
SELECT id FROM users WHERE id IN (SELECT unnest('{1,2,3}'::int[]));
SELECT id FROM users WHERE id IN (SELECT generate_series(1, 5));
SELECT id FROM users, unnest('{1,2,2}'::int[]) wanted WHERE id = wanted;
SELECT id FROM users JOIN (VALUES (1, 'a'), (2, 'b')) v (k, w) ON v.k = users.id;
