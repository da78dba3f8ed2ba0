CREATE SCHEMA other;

-- Sharded: users by id; orders, items and profiles by user_id.
CREATE TABLE users (
	id bigint PRIMARY KEY,
	name text COLLATE "C",
	email text COLLATE "und-x-icu",
	age int,
	score double precision,
	balance numeric(12,2) DEFAULT 0,
	country text,
	active boolean DEFAULT true,
	born date,
	created timestamptz DEFAULT now()
);
CREATE TABLE orders (
	user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	id bigint NOT NULL,
	total numeric(12,2),
	status text COLLATE "C",
	note text,
	country text,
	placed timestamptz,
	PRIMARY KEY (user_id, id)
);
CREATE TABLE items (
	user_id int NOT NULL,
	order_id bigint NOT NULL,
	line int NOT NULL,
	sku varchar(20),
	qty int,
	price real,
	PRIMARY KEY (user_id, order_id, line)
);
CREATE TABLE profiles (user_id bigint PRIMARY KEY, bio text, tags text[]);
-- By text, uuid, varchar, char, date, and two columns.
CREATE TABLE events (tenant text, seq bigint, kind text, PRIMARY KEY (tenant, seq));
CREATE TABLE docs (id uuid PRIMARY KEY, title text, owner bigint);
CREATE TABLE products (sku varchar(20) PRIMARY KEY, title text, price numeric);
CREATE TABLE airports (code char(3) PRIMARY KEY, city text);
CREATE TABLE days (day date PRIMARY KEY, visits int);
CREATE TABLE shipments (region text, customer int, id int, weight numeric, PRIMARY KEY (region, customer, id));
-- Keys from sequences.
CREATE TABLE posts (id bigserial PRIMARY KEY, title text, body text);
CREATE TABLE pages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text);
-- Parts.
CREATE TABLE metrics (device int, at date, value double precision, PRIMARY KEY (device, at)) PARTITION BY RANGE (at);
CREATE TABLE metrics_2024 PARTITION OF metrics FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
-- What cannot be exact.
CREATE TABLE badges (user_id bigint, id bigint PRIMARY KEY, label text);
CREATE TABLE blind (name text PRIMARY KEY);
-- Keys that round and cut.
CREATE TABLE exact (k numeric PRIMARY KEY, v int);
CREATE TABLE rounded (k numeric(10,2) PRIMARY KEY, v int);
CREATE TABLE short (k varchar(4) PRIMARY KEY, v int);
CREATE TABLE long (k varchar(8) PRIMARY KEY, v int);
-- Reference.
CREATE TABLE countries (code text PRIMARY KEY, name text COLLATE "C", currency text, population bigint DEFAULT 0);
CREATE TABLE currencies (code text PRIMARY KEY, rate numeric, updated timestamptz DEFAULT now());
-- Home.
CREATE TABLE settings (key text PRIMARY KEY, value text);
CREATE TABLE audit (id bigserial PRIMARY KEY, what text, at timestamptz DEFAULT now());
CREATE TABLE twin (a int);
CREATE TABLE other.twin (a int);
CREATE TABLE other.events2 (tenant text);
CREATE TABLE other.docs (id uuid);
CREATE SEQUENCE numbers;

CREATE VIEW active_users AS SELECT * FROM users WHERE active;
CREATE VIEW country_names AS SELECT code, name FROM countries;
CREATE VIEW all_settings AS SELECT * FROM settings;

CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
CREATE FUNCTION total_of(bigint) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT sum(total) FROM orders WHERE user_id = $1';
CREATE FUNCTION name_of(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT name FROM countries WHERE code = $1';
CREATE FUNCTION pay(bigint, numeric) RETURNS void LANGUAGE sql AS 'UPDATE users SET balance = balance - $2 WHERE id = $1';
CREATE FUNCTION remark(text) RETURNS void LANGUAGE sql AS 'INSERT INTO audit (what) VALUES ($1)';
CREATE FUNCTION anything(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE $1; END';
CREATE AGGREGATE longest (text) (sfunc = textcat, stype = text);

CREATE TABLE tickets (id bigint PRIMARY KEY, title text, changed timestamptz);
CREATE FUNCTION ticket_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit (what) VALUES (NEW.title); RETURN NEW; END';
CREATE TRIGGER audited AFTER INSERT OR UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION ticket_audit();

CREATE TABLE visits (id bigint PRIMARY KEY, page text);
CREATE FUNCTION visit_id() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := NEW.id + 1; RETURN NEW; END';
CREATE TRIGGER numbered BEFORE INSERT ON visits FOR EACH ROW EXECUTE FUNCTION visit_id();
CREATE TABLE notes (id bigint PRIMARY KEY, body text, changed timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.changed := now(); RETURN NEW; END';
CREATE TRIGGER touched BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch();
