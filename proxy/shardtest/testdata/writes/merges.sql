-- MERGE, which pgtier may know or refuse.
--
MERGE INTO accounts a USING (VALUES ('acc-1', 5), ('new', 6)) v (name, n) ON a.name = v.name
	WHEN MATCHED THEN UPDATE SET balance = a.balance + v.n WHEN NOT MATCHED THEN INSERT (name, balance, kind) VALUES (v.name, v.n, 'x');
MERGE INTO users u USING orders o ON o.user_id = u.id AND o.id = 20 WHEN MATCHED THEN UPDATE SET age = 1;
MERGE INTO users u USING (SELECT 7::bigint AS id) s ON u.id = s.id AND u.id = 7 WHEN MATCHED THEN UPDATE SET age = 2;
MERGE INTO settings s USING audit a ON s.key = 'key' || a.id WHEN MATCHED THEN UPDATE SET value = a.what;
MERGE INTO currencies c USING (VALUES ('EUR')) v (code) ON v.code = c.code WHEN MATCHED THEN UPDATE SET rate = 5;
