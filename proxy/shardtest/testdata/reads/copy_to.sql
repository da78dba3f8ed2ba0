-- simple
COPY users TO STDOUT;
-- simple
COPY users (id, name, tags, profile) TO STDOUT;
-- the header once
-- simple
COPY users (id, name) TO STDOUT (FORMAT csv, HEADER);
-- simple
COPY orders TO STDOUT (FORMAT csv, FORCE_QUOTE *, NULL 'nothing');
-- simple
COPY zoo TO STDOUT (FORMAT binary);
-- simple
COPY (SELECT id, name FROM users WHERE id = 7) TO STDOUT;
-- simple
COPY (SELECT id, status FROM orders WHERE user_id = 15) TO STDOUT (FORMAT binary);
-- simple
-- must
COPY (SELECT id, status FROM orders) TO STDOUT (FORMAT binary);
-- simple
-- must
COPY (SELECT id, status FROM orders WHERE id < 0) TO STDOUT (FORMAT binary);
-- simple
COPY (SELECT status, count(*) FROM orders GROUP BY status) TO STDOUT;
-- simple
COPY (SELECT id FROM users ORDER BY id LIMIT 5) TO STDOUT (FORMAT csv);
-- simple
COPY (SELECT count(*) FROM users) TO STDOUT;
-- simple
COPY (SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code) TO STDOUT;
-- simple
COPY countries TO STDOUT;
-- simple
COPY settings TO STDOUT;
-- simple
COPY empties TO STDOUT;
-- simple
COPY empties TO STDOUT (FORMAT binary);
-- simple
COPY visits_2024 TO STDOUT (DELIMITER '|');
-- simple
COPY meters TO STDOUT (FORMAT csv, HEADER true, DELIMITER ';');
-- simple
-- fails: 42P01
COPY nowhere TO STDOUT;
-- simple
-- fails: 42809
COPY active_users TO STDOUT;
-- simple
-- fails: 42809
COPY visits TO STDOUT;
-- simple
-- fails: 22012
COPY (SELECT 1 / (id % 1000 - 7) FROM users) TO STDOUT;
