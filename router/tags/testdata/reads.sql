SELECT name FROM users WHERE id = {int}
SELECT name FROM users AS u WHERE u.id = {int} LIMIT 1
SELECT * FROM users WHERE id IN ({int}, {int})
SELECT * FROM users WHERE id IN ({int}, {num})
SELECT count(*) FROM users WHERE id = {int}
SELECT 1 FROM users WHERE id = {int} HAVING true
SELECT users.count FROM users WHERE id = {int}
SELECT max(age) FROM users WHERE id = {int} GROUP BY name
SELECT * FROM users WHERE email = {email}
SELECT * FROM users WHERE {int} = id AND age > 10
SELECT * FROM users WHERE id = {a:int} AND age < {a:int}
SELECT * FROM users WHERE id = {a:int} AND {a:int} > 1.5
SELECT * FROM users WHERE id = {int} AND email = {email}
SELECT * FROM users
SELECT max(age) FROM users
SELECT * FROM users WHERE id = {int} OR email = {email}
SELECT * FROM users WHERE NOT id = {int}
SELECT * FROM users WHERE (id, age) = ({int}, {int})
SELECT * FROM orders WHERE (id, user_id) IN (({int}, {int}), ({int}, {int}))
SELECT * FROM users WHERE id = ANY (ARRAY[{int}, {int}])
SELECT * FROM users WHERE id = {int}::bigint
SELECT * FROM users WHERE id + 0 = {int}
SELECT * FROM users WHERE id = (SELECT max(user_id) FROM orders WHERE id = {int})
SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = {int}
SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id AND o.user_id = {a:int} WHERE u.id = {a:int}
SELECT u.name, o.total FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = {int}
SELECT u.name, o.total FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.id = {int} WHERE u.id = {int}
SELECT u.name, o.total FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.id = {int}
SELECT u.name, o.total FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = {int} AND o.id = {int}
SELECT u.name, o.total FROM orders o RIGHT JOIN users u ON o.user_id = u.id WHERE o.user_id = {int}
SELECT u.name, o.total FROM users u FULL JOIN orders o ON o.user_id = u.id WHERE o.id = {int}
SELECT u.name, o.total FROM users u FULL JOIN orders o ON o.user_id = u.id WHERE o.id = {int} AND u.id = {int}
SELECT u.name, o.note, i.qty FROM users u LEFT JOIN (orders o JOIN items i ON i.order_id = o.id AND o.id = {int}) ON o.user_id = u.id
SELECT u.name, o.note, i.qty FROM (users u LEFT JOIN orders o ON o.user_id = u.id) JOIN items i ON i.order_id = {int} AND o.id = {int}
SELECT a.name, b.name FROM users a, users b WHERE a.id = {int} AND b.id = {int}
SELECT a.name, b.name FROM users a, users b WHERE a.id = {int}
SELECT name FROM users u WHERE u.id = {int} AND EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)
SELECT name FROM users u WHERE u.id = {int} AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = {int})
SELECT name FROM users u WHERE u.id = {int} AND EXISTS (SELECT 1 FROM items WHERE age = {int})
SELECT name FROM users u WHERE u.id = {int} AND EXISTS (SELECT 1 FROM orders WHERE email = {email})
SELECT name, (SELECT sum(total) FROM orders WHERE user_id = {int}) FROM users WHERE id = {int}
SELECT user_id, count(*) FROM orders WHERE user_id = {int} GROUP BY user_id HAVING count(*) > 0
SELECT id, count(*) OVER () FROM orders WHERE user_id = {int}
SELECT DISTINCT sku FROM orders WHERE user_id = {int}
SELECT id FROM orders WHERE user_id = {int} ORDER BY id LIMIT 1
SELECT id FROM orders ORDER BY id LIMIT 1
SELECT * FROM orders WHERE id = {int}
SELECT * FROM orders WHERE id = {int} AND note IS NOT NULL
SELECT note FROM orders WHERE user_id IS NULL
SELECT name FROM users WHERE id = {int} UNION ALL SELECT note FROM orders WHERE id = {int}
SELECT id FROM users WHERE id = {int} EXCEPT SELECT id FROM users WHERE id = {int}
SELECT id FROM users WHERE id = {int} INTERSECT SELECT id FROM users
WITH o AS (SELECT * FROM orders WHERE user_id = {int}) SELECT sum(total) FROM o
WITH users AS (SELECT * FROM orders WHERE id = {int}) SELECT * FROM users
WITH o AS (SELECT * FROM orders) SELECT sum(total) FROM o WHERE user_id = {int}
SELECT * FROM (SELECT * FROM orders OFFSET 0) o WHERE o.user_id = {int}
SELECT * FROM users u, LATERAL (SELECT count(*) FROM orders o WHERE o.user_id = u.id) c WHERE u.id = {int}
WITH RECURSIVE r AS (SELECT id FROM nodes WHERE id = {int} UNION SELECT n.id FROM nodes n JOIN r ON n.parent = r.id) SELECT * FROM r
SELECT * FROM nodes WHERE id = {int}
SELECT * FROM nodes WHERE parent = {int}
SELECT * FROM v_users WHERE id = {int}
SELECT v.name, u.age FROM v_users v JOIN users u ON u.id = {int}
SELECT * FROM v_totals WHERE id = {int}
SELECT name_of({int})
SELECT name, name_of({int}) FROM users WHERE id = {int}
SELECT older({int})
SELECT * FROM m_users WHERE id = {int}
SELECT * FROM secrets WHERE id = {int}
SELECT s.v, a.owner FROM secrets s, allowed a WHERE s.id = {int} AND a.owner = {owner}
SELECT * FROM chained WHERE id = {int}
SELECT * FROM events WHERE id = {int}
SELECT * FROM events_low WHERE id = {int}
SELECT * FROM animals WHERE id = {int}
SELECT * FROM ONLY animals WHERE id = {int}
SELECT * FROM dogs WHERE id = {int}
SELECT * FROM counters WHERE k = {counter}
SELECT * FROM stamped WHERE id = {int}
SELECT * FROM stamped WHERE id = {two}
SELECT v FROM numbered WHERE id = {two}
SELECT v FROM texts WHERE t = {odd}
SELECT * FROM stamped WHERE stamp = {stamp}
SELECT * FROM mirrored WHERE id = {int}
SELECT * FROM ruled WHERE id = {int}
SELECT * FROM audit
SELECT * FROM prices WHERE p = {num}
SELECT * FROM prices WHERE p IN ({num}, {int})
SELECT * FROM days WHERE d = {date}
SELECT * FROM codes WHERE c = {code}
SELECT * FROM texts WHERE t = {code}
SELECT * FROM texts WHERE t IN ({code}, {code})
SELECT * FROM items WHERE id = {uuid}
SELECT * FROM items WHERE order_id = {int}
SELECT * FROM numbered WHERE id = {int}
SELECT * FROM numbered WHERE twice = {int}
SELECT * FROM swapped WHERE id = {int}
SELECT 1; SELECT name FROM users WHERE id = {int}; SELECT note FROM orders WHERE id = {int}
SELECT name FROM users WHERE id = {int}; SELECT count(*) FROM users
