-- data: 6001\tanna\t30
-- data: 6002\tbob\t\N
-- data: 6003\tcarl\t31
-- data: 6004\td\\td\t32
-- simple
-- must
COPY users (id, name, age) FROM STDIN;
-- data: name,email,id
-- data: "with ""quotes""",x,6010
-- data: "with
-- data: break",x,6011
-- data: x,,6012
-- data: x,"",6013
-- simple
COPY users (name, email, id) FROM STDIN (FORMAT csv, HEADER);
-- an empty csv field is NULL
SELECT id, name, email FROM users WHERE id BETWEEN 6000 AND 7000;
-- data: 6020;x
-- data: 6021;nothing
-- simple
COPY users (id, name) FROM STDIN (DELIMITER ';');
-- an error in the last row leaves none
-- data: 6030\ta
-- data: 6031\tb
-- data: 6032\tc
-- data: 7\tthere already
-- simple
-- fails: 23505
COPY users (id, name) FROM STDIN;
-- data: 6040\ta
-- data: forty\tb
-- simple
-- fails: 22P02
-- vague
COPY users (id, name) FROM STDIN;
-- data: 6050\ta
-- data: 6051
-- simple
-- fails: 22P04
-- vague
COPY users (id, name) FROM STDIN;
-- a key with blanks, which an integer takes
-- data:  6060 \tblanks
-- simple
COPY users (id, name) FROM STDIN;
-- no rows
-- simple
COPY users (id, name) FROM STDIN;
-- data: it's-2\t5\tx
-- data: é-1\t6\tx
-- data: tab\\there-2\t7\tx
-- data: back\\\\slash\t8\tx
-- simple
COPY accounts (name, balance, kind) FROM STDIN;
SELECT name, balance FROM accounts WHERE kind = 'x';
-- data: 60,1,1.50
-- data: 60,2,
-- data: 61,1,NaN
-- simple
COPY meters (tenant, id, reading) FROM STDIN (FORMAT csv);
-- data: 00000000-0000-0000-0000-0000000000aa\t2024-01-01 00:00:00+00\tx
-- data: {000000000000000000000000000000AB}\t2024-01-01 00:00:00+00\ty
-- simple
COPY events (id, at, kind) FROM STDIN;
-- data: EEE\teverywhere\t2\t1.5
-- simple
COPY currencies FROM STDIN;
SELECT name FROM currencies WHERE code = 'EEE';
-- data: k\tv\t\N
-- simple
COPY settings FROM STDIN;
-- data: 7\t2024-08-01\t5
-- data: 8\t2023-08-01\t5
-- simple
COPY visits FROM STDIN;
-- data: 7\t2024-08-02\t5
-- simple
COPY visits_2024 FROM STDIN;
-- a check on one shard
-- data: c-1\t5\tx
-- data: c-2\t-5\tx
-- data: c-3\t5\tx
-- simple
-- fails: 23514
-- vague
COPY accounts (name, balance, kind) FROM STDIN;
-- a default that is one value for all rows
-- data: 6100\ta
-- data: 6101\t\N
-- data: 6102\tb
-- data: 6103\t\\x
-- simple
-- must
COPY stamped (id, what) FROM STDIN;
SELECT id, what, at > '2024-06-01', day > '2024-06-01' FROM stamped WHERE id >= 6100;
-- data: id;what
-- data: 6110;"a;b"
-- data: 6111;
-- data: 6112;"x
-- data: y"
-- simple
-- must
COPY stamped (id, what) FROM STDIN (FORMAT csv, HEADER match, DELIMITER ';', FORCE_NOT_NULL (what));
-- data: 6120:x
-- simple
-- must
COPY stamped (id, what) FROM STDIN (DELIMITER ':') WHERE day IS NOT NULL;
-- data: 6121\t2024-07-01
-- simple
-- must
COPY stamped (id, day) FROM STDIN;
-- data: 6130\tx
-- data: 6131
-- simple
-- fails: 22P04
COPY stamped (id, what) FROM STDIN;
-- data: pen,id
-- data: x,6132
-- simple
-- fails: 22P04
COPY stamped (what, id) FROM STDIN (FORMAT csv, HEADER match);
SELECT id, what, at > '2024-06-01', day FROM stamped WHERE day < '2025-01-01';
-- inside a transaction
BEGIN;
-- data: 6070\ta
-- data: 6071\tb
-- data: 6072\tc
-- simple
COPY users (id, name) FROM STDIN;
SELECT count(*) FROM users WHERE id BETWEEN 6070 AND 6079;
ROLLBACK;
-- a NULL key
-- data: 6080\ta
-- data: \N\tb
-- data: 6081\tc
-- simple
-- fails: 23502
COPY users (id, name) FROM STDIN;
-- data: ,x
-- simple
-- fails: 23502
COPY users (id, name) FROM STDIN CSV;
-- without the key
-- data: nobody
-- simple
-- fails: 23502
-- vague
COPY users (name) FROM STDIN;
-- simple
-- fails: 42703
COPY users (nothing) FROM STDIN;
-- data: 1
-- data: 2
-- data: 3
-- simple
COPY empties (id) FROM STDIN WHERE id > 1;
-- data: 10\tx
-- simple
COPY empties (id, v) FROM STDIN (NULL 'x');
