package parser

import (
	"os"
	"path/filepath"
	"strings"
)

// seeds start every fuzz target and are checked by the ordinary tests too. The statements of the golden files are among them.
func seeds() []string {
	var files []string
	for _, pattern := range []string{"testdata/golden/*.txt", "testdata/tree/*.golden"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			panic("no golden files")
		}
		files = append(files, found...)
	}
	texts := handSeeds()
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		for part := range strings.SplitSeq("\n"+string(raw), "\n# ") {
			_, part, _ = strings.Cut(part, "\n")
			if sql, _, found := strings.Cut(part, "\n----\n"); found {
				texts = append(texts, sql)
			}
		}
	}
	return texts
}

// handSeeds are texts that try the lexer and the templates.
func handSeeds() []string {
	return []string{
		"", ";", "SELECT 1", "select abalance from pgbench_accounts where aid = 42;",
		"SELECT 'it''s', E'a\\'b', U&'\\0041' UESCAPE '!', B'01', x'1F', N'n', $$a$b$$, $t$ $$ $t$",
		"SELECT 'a'\n'b', 'c' -- x\n 'd', 'e' 'f'", "SELECT b'0''1', E'a'\n'\\'b'",
		"SELECT /* a /* b */ c */ 1 -- end", "SELECT /* open", "SELECT 'open", "SELECT \"open", "SELECT $x$ open", "SELECT E'\\",
		"SELECT 1.5e-3, .5, 1., 1e, 1e+, 1..2, 0x1F, 1_000, 123abc, $1, $1a, $0", "SELECT 1.5.5, 1e5e5",
		"SELECT a+-1, a@-1, a<>-1, a<=-b, a*-+b, a@#-+ b, a--c\n+1, a+/*c*/-1, a::int, a:=1, a=>b, a.b, a..b",
		"SELECT \"A\"\"b\", \"\", U&\"d\\0061t\", été, a$b, $, a$1", "SELECT -1, - 1, 2 - 1, 2 -1",
		"INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y') ON CONFLICT (a) DO UPDATE SET b = 'z'",
		"UPDATE t SET a = a + 1 WHERE b IN (1, 2, 3) AND c LIKE 'x%' ESCAPE '!'", "DELETE FROM t USING u WHERE t.a = u.a RETURNING *",
		"WITH x AS (SELECT 1) SELECT * FROM x LIMIT 5 OFFSET 3", "SELECT x::varchar(10), y::float(24), z::numeric(10,2), i::interval day to second(3)",
		"SELECT INTERVAL '1' day, DATE '2020-01-01', interval(3) '1', int '7', current_timestamp(3)",
		"SELECT a[1], a[1:2], array[1,2], '{}'::int[3] FROM t ORDER BY 1, 2 FETCH FIRST 5 ROWS ONLY",
		"SELECT extract(year FROM a), extract('year' FROM a), a AT TIME ZONE 'UTC', count(*) FILTER (WHERE b = 1)",
		"SELECT set_config('a.b', '1', false)", "SET a = 1; SELECT 1", "BEGIN; SELECT 1; COMMIT", "DO $$ BEGIN SET a = 1; END $$",
		"PREPARE a (int) AS SELECT $1", "EXECUTE a(1)", "EXPLAIN EXECUTE \"a\"", "DEALLOCATE PREPARE a", "LISTEN a", "COPY t FROM STDIN",
		"/* pgtier: consistency=strong */ SELECT 1", "/* other */ SELECT 1", "SELECT 'a\\b'", "SELECT '\xff\xfe', \xe9t\xe9 FROM t",
		"SELECT ?, a ? b, a ?| b, a ?& b, @ a, |/ 4, !! 3", "MERGE INTO t USING u ON a = b WHEN MATCHED THEN UPDATE SET a = 1",
		"SELECT \x00 1", "SELECT 1\v+\f2", "VALUES (1, 'a'), (2, NULL)", "TABLE t", "SELECT xmlserialize(content a AS text), xmlparse(document 'x')",
		"SELECT CASE WHEN a = 1 THEN 'x' ELSE 'y' END FROM t WHERE NOT a IS NULL GROUP BY 1 HAVING count(*) > 2",
		"SELECT * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (5), LATERAL f(1) WITH ORDINALITY AS x (a, b) FOR UPDATE",
	}
}
