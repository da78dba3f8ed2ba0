-- must
INSERT INTO currencies VALUES ('CHF', 'Franken', 2, 0.97);
-- must
-- the tag counts them once, not once a shard
INSERT INTO currencies VALUES ('DKK', 'Krone', 2, 7.46), ('SEK', 'Krona', 2, 11.2), ('ISK', 'Krona', 0, NULL);
-- must
INSERT INTO countries (code, name) VALUES ('CH', 'Schweiz') RETURNING code, name;
-- must
UPDATE currencies SET rate = rate * 2;
-- must
UPDATE countries SET population = population + 1 WHERE continent = 'Europe' RETURNING code, population;
-- must
DELETE FROM currencies WHERE code = 'XXX';
-- fails: 23505
INSERT INTO currencies VALUES ('EUR', 'again', 2);
-- fails: 23502
INSERT INTO currencies (code) VALUES ('ABC');
-- what each shard would compute anew must be the same on all
-- loose
UPDATE currencies SET rate = random() WHERE false;
UPDATE countries SET population = (SELECT count(*) FROM users u WHERE u.country = countries.code);
UPDATE countries SET population = (SELECT sum(digits) FROM currencies);
UPDATE countries c SET continent = 'seen' FROM users u WHERE u.country = c.code AND u.age > 50;
INSERT INTO countries (code, name) SELECT 'Z' || digits, name FROM currencies WHERE digits = 0 AND code = 'JPY';
DELETE FROM countries c WHERE NOT EXISTS (SELECT FROM users u WHERE u.country = c.code);
DELETE FROM countries WHERE code = 'CH';
-- what depends on the order in which a server finds rows would be another on each
UPDATE countries c SET continent = (SELECT string_agg(o.code, ',') FROM countries o);
-- must
UPDATE currencies SET name = (SELECT string_agg(code, ',' ORDER BY code) FROM currencies);
UPDATE countries c SET population = x.n FROM (SELECT code, row_number() OVER () AS n FROM countries) x WHERE x.code = c.code;
UPDATE countries c SET population = o.population FROM countries o WHERE o.continent = c.continent AND false;
-- must
UPDATE countries c SET population = o.population + 1 FROM countries o WHERE o.code = c.code;
-- must
UPDATE countries c SET population = v.n FROM (SELECT continent, max(population) AS n FROM countries GROUP BY continent) v WHERE v.continent = c.continent;
INSERT INTO currencies (code, name, digits) SELECT 'X' || digits, 'first', digits FROM currencies ON CONFLICT DO NOTHING;
-- must
SELECT u.id, c.population FROM users u JOIN countries c ON c.code = u.country;
-- fails: 23503
-- vague
DELETE FROM countries WHERE code = 'DE';
-- fails: 23503
-- vague
DELETE FROM currencies WHERE code = 'EUR';
WITH n AS (INSERT INTO currencies VALUES ('NEW', 'new', 1, 1) RETURNING code) SELECT code FROM n;
-- one transaction over a reference table and two shards
BEGIN;
INSERT INTO currencies VALUES ('TMP', 'temporary', 1, 1);
SELECT count(*) FROM currencies WHERE code = 'TMP';
UPDATE orders SET currency = 'TMP' WHERE user_id IN (1, 2, 3, 4, 5, 6);
COMMIT;
BEGIN;
DELETE FROM orders WHERE currency = 'TMP';
DELETE FROM currencies WHERE code = 'TMP';
SELECT code FROM currencies WHERE digits = 1;
ROLLBACK;
SELECT code FROM currencies WHERE digits = 1;
TRUNCATE audit;
-- several statements in one text
-- simple
-- must
UPDATE currencies SET digits = digits + 1 WHERE code = 'EUR'; INSERT INTO currencies VALUES ('SEV', 'several', 2, 1) RETURNING code;
-- simple
-- fails: 23505
UPDATE currencies SET digits = 9; INSERT INTO currencies VALUES ('SEV', 'several', 2, 1);
SELECT code, digits FROM currencies;
