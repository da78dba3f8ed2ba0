package proxy_test

import (
	"strings"
	"testing"
)

// TestSchemaThatNoShardCanKeepIsRefused changes the schema so that statements could not be exact any more: each shard by
// itself would do it.
func TestSchemaThatNoShardCanKeepIsRefused(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	mustExec(t, c, "CREATE TABLE others (id bigint PRIMARY KEY, account bigint)")
	mustExec(t, c, "UPDATE accounts SET owner = concat('owner ', id), balance = balance + id") // each shard could keep these apart
	for name, tc := range map[string]struct{ sql, words string }{
		"unique constraint": {"ALTER TABLE accounts ADD CONSTRAINT one_owner UNIQUE (owner)",
			`table "public.accounts": unique "one_owner" lacks the key (id): rows of different shards may be equal in it`},
		"unique index":                       {"CREATE UNIQUE INDEX one_balance ON accounts (balance)", `unique "one_balance" lacks the key (id)`},
		"unique index without a transaction": {"CREATE UNIQUE INDEX CONCURRENTLY one_balance ON accounts (balance) INCLUDE (id)", `table "public.accounts": unique "one_balance" lacks the key (id)`},
		"transaction":                        {"BEGIN / ALTER TABLE accounts ADD code int / ALTER TABLE accounts ADD UNIQUE (code) / COMMIT", `unique "accounts_code_key" lacks the key (id)`},
		"foreign key to rows of other shards": {"ALTER TABLE cards ADD account bigint REFERENCES accounts",
			`table "public.cards": foreign key "cards_account_fkey" looks for rows of "public.accounts" that are on other shards`},
		"foreign key of a table at home": {"ALTER TABLE others ADD CONSTRAINT astray FOREIGN KEY (account) REFERENCES accounts", `foreign key "astray" looks for rows`},
		"second table of a name":         {"BEGIN / CREATE SCHEMA other / CREATE TABLE other.accounts (id int) / COMMIT", `the configuration's "accounts" may be several tables`},
		"part of another place":          {"CREATE TABLE more () INHERITS (rates, notes)", ""},
		"key that a collation blurs": {"BEGIN / DROP TABLE cards / CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false) / CREATE TABLE cards (id text COLLATE blind) / COMMIT",
			`table "public.cards": its key column "id" has a nondeterministic collation`},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.client(t)
			var err error
			for _, sql := range strings.Split(tc.sql, " / ") {
				if err != nil {
					t.Fatalf("before %s: %v", sql, err)
				}
				_, err = c.Exec(bounded(t), sql)
			}
			wantError(t, err, "0A000", tc.words)
			if c.PgConn().TxStatus() != 'I' {
				t.Errorf("transaction status %c", c.PgConn().TxStatus())
			}
			for i := range s.cluster.Shards {
				if got := s.on(t, i, "SELECT concat_ws(' ', (SELECT count(*) FROM pg_constraint WHERE contype IN ('u', 'f') AND connamespace = 'public'::regnamespace), (SELECT count(*) FROM pg_class WHERE relname IN ('one_balance', 'more')),"+
					" (SELECT count(*) FROM pg_class WHERE relname = 'accounts'), (SELECT count(*) FROM pg_attribute WHERE attname = 'code' AND attrelid = 'accounts'::regclass), (SELECT count(*) FROM pg_class WHERE relname = 'cards'))"); got != "1 0 1 0 1" {
					t.Errorf("shard %d: %s", i, got)
				}
			}
			mustExec(t, c, "UPDATE accounts SET balance = balance + 0")
		})
	}

	for _, sql := range []string{"ALTER TABLE accounts ADD code int", "ALTER TABLE accounts ADD UNIQUE (code, id)", "ALTER TABLE accounts ADD currency text REFERENCES rates",
		"CREATE UNIQUE INDEX ON notes (body)", "CREATE UNIQUE INDEX CONCURRENTLY fits ON ONLY public.accounts USING btree (lower(owner), \"id\" DESC)",
		"CREATE UNIQUE INDEX CONCURRENTLY ON notes (id)", "DROP INDEX CONCURRENTLY fits", "DROP TABLE cards", "CREATE TABLE cards (id bigint REFERENCES accounts, pin int, PRIMARY KEY (id, pin))"} {
		mustExec(t, c, sql)
	}

	// What somebody has done behind pgtier's back is no reason to refuse something else, nor what mends it.
	s.everywhere(t, "CREATE UNIQUE INDEX behind ON accounts (owner, balance, code)")
	if err := p.ReadCatalog(bounded(t), p.database); err != nil {
		t.Fatal(err)
	}
	_, err := c.Exec(bounded(t), "UPDATE accounts SET balance = balance + 0")
	wantError(t, err, "0A000", `unique "behind" lacks the key`)
	mustExec(t, c, "ALTER TABLE accounts ADD note text")
	mustExec(t, c, "DROP INDEX behind")
	mustExec(t, c, "UPDATE accounts SET balance = balance + 0")
}

// TestTablesMadeWithRowsHaveThemAtHome: of a table that nobody declares only the home shard's rows are looked at.
func TestTablesMadeWithRowsHaveThemAtHome(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	mustExec(t, c, "INSERT INTO rates VALUES ('a', 1), ('b', 2)")
	mustExec(t, c, "INSERT INTO notes VALUES (1, 'x')")
	for sql, tag := range map[string]string{"CREATE TABLE made AS SELECT * FROM rates": "SELECT 2", "CREATE TABLE made AS SELECT * FROM notes WITH DATA;": "SELECT 1",
		"CREATE MATERIALIZED VIEW made AS SELECT generate_series(1, 5) AS n": "SELECT 5", "CREATE TABLE made AS SELECT 1 AS n WITH NO DATA": "CREATE TABLE AS"} {
		if got := mustExec(t, c, sql); got != tag {
			t.Errorf("%s: tag %q", sql, got)
		}
		wantValue(t, c, "SELECT count(*) FROM made", strings.TrimLeft(strings.TrimPrefix(strings.Replace(tag, "CREATE TABLE AS", "0", 1), "SELECT "), " "))
		for i := 1; i < len(s.cluster.Shards) && strings.HasPrefix(sql, "CREATE TABLE"); i++ {
			if got := s.on(t, i, "SELECT count(*) FROM made"); got != "0" {
				t.Errorf("%s: %s rows on shard %d", sql, got, i)
			}
		}
		mustExec(t, c, strings.Join(strings.Fields("DROP "+strings.TrimPrefix(strings.Split(sql, " made")[0], "CREATE")+" made"), " "))
	}
	mustExec(t, c, "DROP TABLE cards")
	for _, sql := range []string{"CREATE TABLE cards AS SELECT generate_series(1, 9)::bigint AS id", "SELECT 1::bigint AS id INTO cards", "/* pgtier: shard=s1 */ CREATE TABLE cards AS SELECT 1::bigint AS id"} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "0A000", `table "cards" made with rows`)
	}
	mustExec(t, c, "CREATE TABLE cards (id bigint)")
	mustExec(t, c, "INSERT INTO cards VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)")
	wantValue(t, c, "SELECT count(*) FROM cards", "9")
}
