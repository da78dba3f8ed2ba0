-- The key of a row: the row moves, or it is refused.
--
UPDATE accounts SET name = 'moved' WHERE name = 'acc-1';
UPDATE accounts SET name = name WHERE name = 'acc-3';
UPDATE accounts SET name = name || '-x';
UPDATE accounts SET name = 'm-' || name, balance = 0 WHERE kind = 'save' RETURNING name;
-- fails: 23505
UPDATE accounts SET name = 'same' WHERE kind = 'giro';
UPDATE events SET id = '00000000-0000-0000-0000-0000000000ff' WHERE id = md5('11')::uuid;
UPDATE meters SET tenant = 50 WHERE tenant = 2 AND id = 5;
UPDATE meters SET id = id + 500 WHERE tenant = 3;
UPDATE meters SET tenant = tenant;
UPDATE users SET id = 3000 WHERE id = -7;
UPDATE users SET id = id WHERE id = 9;
-- its orders hold it
-- fails: 23503
UPDATE users SET id = 3001 WHERE id = 15;
-- fails: 23503
-- vague
UPDATE orders SET user_id = 1 WHERE user_id = 2 AND status = 'lost';
UPDATE order_items SET line = line + 10, product = 'moved' WHERE user_id = 2;
UPDATE tickets SET id = id + 1000 WHERE id IN (1, 2, 3, 4);
-- the new key has no user
-- fails: 23503
-- vague
UPDATE orders SET user_id = 424242 WHERE user_id < 20 AND NOT EXISTS (SELECT FROM order_items i WHERE i.user_id = orders.user_id AND i.order_id = orders.id);
INSERT INTO accounts (name, balance, kind) VALUES ('acc-5-x', 1, 'x') ON CONFLICT (name) DO UPDATE SET name = 'elsewhere';
UPDATE zoo SET id = id + 1000 WHERE id < 10;
