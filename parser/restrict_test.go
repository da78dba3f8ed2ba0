package parser

import (
	"fmt"
	"strings"
	"testing"
)

// restricted is sql with conditions on the tables named in where and inside: "c0", "c1" …, or the error.
func restricted(t *testing.T, sql string, where, inside []string) string {
	t.Helper()
	tree, err := TreeOf([]byte(sql))
	if err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
	var sites []Site
	for _, list := range [][]string{where, inside} {
		for _, alias := range list {
			for _, s := range tree.Sources {
				if s.Alias == alias {
					sites = append(sites, Site{Source: s, Inside: len(sites) >= len(where)})
				}
			}
		}
	}
	if len(sites) != len(where)+len(inside) {
		t.Fatalf("%d sites: %s", len(sites), sql)
	}
	list, err := Restrict([]byte(sql), sites)
	if err != nil {
		return err.Error()
	}
	var edits []Edit
	for _, a := range list {
		var words []string
		for _, w := range a.Words {
			if w.Site >= 0 {
				w.Text = fmt.Sprintf("c%d", w.Site)
			}
			words = append(words, w.Text)
		}
		edits = append(edits, Edit{Span{a.At, a.At}, strings.Join(words, " ")})
	}
	out, err := Splice([]byte(sql), edits)
	if err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
	return string(out)
}

func TestRestrictPutsConditionsWhereTheyAreMeant(t *testing.T) {
	for _, c := range []struct {
		sql           string
		where, inside string // aliases
		want          string
	}{
		{"SELECT * FROM a", "a", "", "SELECT * FROM a WHERE ( c0 )"},
		{"SELECT * FROM a -- no\n;", "a", "", "SELECT * FROM a -- no\n WHERE ( c0 ) ;"},
		{"SELECT * FROM a WHERE x OR y", "a", "", "SELECT * FROM a WHERE ( x OR y ) AND ( c0 )"},
		{"SELECT * FROM a WHERE x AND y ORDER BY 1", "a", "", "SELECT * FROM a WHERE ( x AND y ) AND ( c0 ) ORDER BY 1"},
		{"SELECT a.where, x AS order FROM a GROUP BY 1", "a", "", "SELECT a.where, x AS order FROM a WHERE ( c0 ) GROUP BY 1"},
		{"SELECT * FROM a, b WHERE a.x = b.x FOR UPDATE OF a", "a b", "", "SELECT * FROM a, b WHERE ( a.x = b.x ) AND ( c0 ) AND ( c1 ) FOR UPDATE OF a"},
		{"SELECT * FROM (a JOIN (b LEFT JOIN d ON true) ON a.x IN (SELECT 1)) LIMIT 1", "a b", "", "SELECT * FROM (a JOIN (b LEFT JOIN d ON true) ON a.x IN (SELECT 1)) WHERE ( c0 ) AND ( c1 ) LIMIT 1"},
		{"SELECT * FROM a JOIN b ON a.x = b.x", "a", "b", `SELECT * FROM a JOIN (SELECT * FROM b WHERE ( c1 )) AS "b" ON a.x = b.x WHERE ( c0 )`},
		{"SELECT * FROM a x FULL JOIN s.b AS y (k, l) TABLESAMPLE pg_catalog.bernoulli (5) REPEATABLE (1) USING (k)", "", "x y",
			`SELECT * FROM (SELECT * FROM a x WHERE ( c0 )) AS "x" FULL JOIN (SELECT * FROM s.b AS y (k, l) TABLESAMPLE pg_catalog.bernoulli (5) REPEATABLE (1) WHERE ( c1 )) AS "y" USING (k)`},
		{`SELECT * FROM b FULL JOIN ONLY "A""a" ON true`, "", `A"a`, `SELECT * FROM b FULL JOIN (SELECT * FROM ONLY "A""a" WHERE ( c0 )) AS "A""a" ON true`},
		{"SELECT * FROM b FULL JOIN ONLY (a) ON true", "", "a", "no"},
		{"SELECT * FROM (SELECT x FROM a GROUP BY x HAVING true) s WHERE x = 1", "a", "", "SELECT * FROM (SELECT x FROM a WHERE ( c0 ) GROUP BY x HAVING true) s WHERE x = 1"},
		{"WITH w AS (SELECT * FROM a WHERE b) SELECT * FROM w, d", "a d", "", "WITH w AS (SELECT * FROM a WHERE ( b ) AND ( c0 )) SELECT * FROM w, d WHERE ( c1 )"},
		{"SELECT * FROM a UNION ALL (SELECT * FROM b WHERE x) ORDER BY 1", "a b", "", "SELECT * FROM a WHERE ( c0 ) UNION ALL (SELECT * FROM b WHERE ( x ) AND ( c1 )) ORDER BY 1"},
		{"UPDATE a SET x = 1", "a", "", "UPDATE a SET x = 1 WHERE ( c0 )"},
		{"UPDATE ONLY a AS t SET x = b.x FROM b WHERE b.y IS DISTINCT FROM t.y RETURNING *", "t b", "", "UPDATE ONLY a AS t SET x = b.x FROM b WHERE ( b.y IS DISTINCT FROM t.y ) AND ( c0 ) AND ( c1 ) RETURNING *"},
		{"DELETE FROM a USING b RETURNING a.x", "a", "", "DELETE FROM a USING b WHERE ( c0 ) RETURNING a.x"},
		{"WITH d AS (DELETE FROM a RETURNING *) SELECT * FROM d", "a", "", "WITH d AS (DELETE FROM a WHERE ( c0 ) RETURNING *) SELECT * FROM d"},
		{"INSERT INTO b SELECT * FROM a ON CONFLICT DO NOTHING", "a", "", "INSERT INTO b SELECT * FROM a WHERE ( c0 ) ON CONFLICT DO NOTHING"},
		{"COPY (SELECT * FROM a WHERE x LIKE 'y' ESCAPE 'z') TO STDOUT", "a", "", "COPY (SELECT * FROM a WHERE ( x LIKE 'y' ESCAPE 'z' ) AND ( c0 )) TO STDOUT"},
		{"EXPLAIN (ANALYZE) SELECT * FROM a WINDOW w AS (ORDER BY x)", "a", "", "EXPLAIN (ANALYZE) SELECT * FROM a WHERE ( c0 ) WINDOW w AS (ORDER BY x)"},
		{"SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM a WHERE COLLATION FOR (x) = 'C' AND EXISTS (SELECT FROM b WHERE b.x = a.x)", "a", "",
			"SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM a WHERE ( COLLATION FOR (x) = 'C' AND EXISTS (SELECT FROM b WHERE b.x = a.x) ) AND ( c0 )"},
		{"SELECT (SELECT count(*) FROM b WHERE b.x = a.x) FROM a", "a b", "", "SELECT (SELECT count(*) FROM b WHERE ( b.x = a.x ) AND ( c1 )) FROM a WHERE ( c0 )"},
		{"DELETE FROM a WHERE CURRENT OF cursor", "a", "", "no"},
		{"TABLE a", "a", "", "no"},
		{"SELECT * FROM (TABLE a) x", "a", "", "no"},
		{"MERGE INTO b USING a ON true WHEN MATCHED THEN DO NOTHING", "a", "", "no"},
	} {
		got := restricted(t, c.sql, strings.Fields(c.where), strings.Fields(c.inside))
		if c.want == "no" {
			c.want = errSites.Error()
		}
		plain := func(text string) string {
			return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), " )", ")")
		}
		if plain(got) != plain(c.want) {
			t.Errorf("%s\ngot  %s\nwant %s", c.sql, got, c.want)
		}
	}
}
