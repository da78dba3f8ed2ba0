package parser

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestTreeGolden holds the trees to testdata/tree, in the form of TestGolden.
func TestTreeGolden(t *testing.T) {
	runGoldens(t, "testdata/tree/*.golden", describeTree)
}

// checkTree holds what is true of every tree.
func checkTree(t *testing.T, sql string) {
	t.Helper()
	tree, err := TreeOf([]byte(sql))
	if err != nil {
		return
	}
	checkReached(t, sql, tree)
	checkSpans(t, sql, tree)
	checkSplice(t, sql, tree)
	if bulk, err := treeOf([]byte(sql), 0); err != nil || !reflect.DeepEqual(tree, bulk) {
		t.Fatalf("another tree if rows are read from their tokens, %v: %q", err, sql)
	}
	if again, err := TreeOf([]byte(sql)); err != nil || !reflect.DeepEqual(tree, again) {
		t.Fatalf("another tree the second time, %v: %q", err, sql)
	}
}

// checkReached holds that a walk over the queries meets every expression, call and table.
func checkReached(t *testing.T, sql string, tree *Tree) {
	t.Helper()
	calls, tables := make(map[*Expr]bool), make(map[*Source]bool)
	tree.Walk(func(q *Query) {
		tables[q.Target] = true
		q.Exprs(func(e *Expr) { calls[e] = true })
		for _, f := range q.From {
			f.Walk(func(s *Source) { tables[s] = true })
		}
	})
	everyExpr(reflect.ValueOf(tree.Query), make(map[any]bool), func(e *Expr) {
		if !calls[e] {
			t.Fatalf("an expression of kind %s is not reached: %q", exprNames[e.Kind], sql)
		}
	})
	for _, e := range tree.Calls {
		if !calls[e] && tree.Opaque == "" {
			t.Fatalf("call %s is not reached: %q", e.Name, sql)
		}
	}
	for _, s := range tree.Sources {
		if !tables[s] && tree.Opaque == "" {
			t.Fatalf("table %s is not reached: %q", s.Name, sql)
		}
	}
}

// everyExpr visits every expression that v points to, found by reflection.
func everyExpr(v reflect.Value, seen map[any]bool, visit func(*Expr)) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || seen[v.Interface()] {
			return
		}
		seen[v.Interface()] = true
		if e, ok := v.Interface().(*Expr); ok {
			visit(e)
		}
		everyExpr(v.Elem(), seen, visit)
	case reflect.Slice:
		for i := range v.Len() {
			everyExpr(v.Index(i), seen, visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			everyExpr(v.Field(i), seen, visit)
		}
	}
}

// checkSpans holds that what a span covers is, by itself, what the tree says.
func checkSpans(t *testing.T, sql string, tree *Tree) {
	t.Helper()
	p := treePrinter{texts: true}
	tokens := Tokens([]byte(sql), nil)
	same := func(before string, s Span, want string, part func(*Query) string) {
		t.Helper()
		if s == (Span{}) {
			return
		}
		if s.From < 0 || s.To < s.From || s.To > len(tokens) {
			t.Fatalf("span %v of %d tokens: %q", s, len(tokens), sql)
		}
		start, end := places(tokens, s)
		piece, err := TreeOf([]byte(before + sql[start:end]))
		if err != nil {
			t.Fatalf("%v in %q of %q", err, before+sql[start:end], sql)
		}
		if got := part(piece.Query); got != want {
			t.Fatalf("%q is\n%s\nwant\n%s\nin %q", sql[start:end], got, want, sql)
		}
	}
	first := func(q *Query) string { return p.expr(q.Outputs[0].Expr) + q.Outputs[0].Name }
	q := tree.Query
	for _, o := range q.Outputs {
		same("SELECT ", o.Tokens, p.expr(o.Expr)+o.Name, first)
	}
	for _, r := range q.Rows {
		same("VALUES ", r.Tokens, p.exprs(r.Values), func(q *Query) string { return p.exprs(q.Rows[0].Values) })
	}
	for _, e := range tree.Calls {
		same("SELECT ", e.Tokens, p.expr(e), first)
	}
	tree.Walk(func(q *Query) {
		q.Exprs(func(e *Expr) {
			if e.Kind == ExprColumn {
				same("SELECT ", e.NameTokens, p.expr(e), first)
			}
		})
	})
	same("", q.Tokens, strings.Join(p.query(q), "\n"), func(q *Query) string { return strings.Join(p.query(q), "\n") })
	same("SELECT ", q.OutputsTokens, describeOutputs(p, q), func(q *Query) string { return describeOutputs(p, q) })
	where := func(q *Query) string { return p.expr(q.Where) }
	same("SELECT WHERE ", q.WhereTokens, where(q), where)
	group := func(q *Query) string { return p.exprs(q.Group) }
	same("SELECT ", q.GroupTokens, group(q), group)
	having := func(q *Query) string { return p.expr(q.Having) }
	same("SELECT ", q.HavingTokens, having(q), having)
	order := func(q *Query) (out string) {
		for _, s := range q.Order {
			out += p.sort(s) + ","
		}
		return out
	}
	same("SELECT ", q.OrderTokens, order(q), order)
	limit := func(q *Query) string { return p.expr(q.Limit) }
	same("SELECT a ORDER BY b ", q.LimitTokens, limit(q), limit)
	offset := func(q *Query) string { return p.expr(q.Offset) }
	same("SELECT ", q.OffsetTokens, offset(q), offset)
}

func describeOutputs(p treePrinter, q *Query) (out string) {
	for _, o := range q.Outputs {
		out += p.expr(o.Expr) + named(" as ", o.Name) + ", "
	}
	return out
}

// checkSplice holds that replacing each part by itself changes nothing, and that ORDER BY can be put where the tree says.
func checkSplice(t *testing.T, sql string, tree *Tree) {
	t.Helper()
	tokens := Tokens([]byte(sql), nil)
	var edits []Edit
	for _, s := range namedSpans(tree) {
		if (s.name == "output" || s.name == "row" || s.name == "where" || s.name == "limit") && s.To > s.From {
			start, end := places(tokens, s.Span)
			edits = append(edits, Edit{s.Span, sql[start:end]})
		}
	}
	slices.SortFunc(edits, func(a, b Edit) int { return a.From - b.From })
	p := treePrinter{texts: true}
	got, err := Splice([]byte(sql), edits)
	if err != nil {
		t.Fatalf("%v: %q", err, sql)
	}
	again, err := TreeOf(got)
	if err != nil || p.inline(again.Query) != p.inline(tree.Query) {
		t.Fatalf("%v: %q became %q", err, sql, got)
	}
	if tail := tree.Query.TailToken; tail > 0 {
		got, err := Splice([]byte(sql), []Edit{{Span{tail, tail}, "ORDER BY tail"}})
		if err != nil {
			t.Fatalf("%v: %q", err, sql)
		}
		if again, err := TreeOf(got); err != nil || len(again.Query.Order) != 1 {
			t.Fatalf("%v: %q became %q", err, sql, got)
		}
	}
}

// checkTreeTemplates holds that a text with other literals has the same tree, and that the literals are where the tree says.
func checkTreeTemplates(t *testing.T, sql string, choice byte) {
	t.Helper()
	key, verbatim, ok := template(make([]byte, 0, MaxCached), []byte(sql))
	if verbatim || !ok {
		checkLiterals(t, sql)
		return
	}
	other := vary(sql, choice)
	otherKey, _, _ := template(make([]byte, 0, MaxCached), []byte(other))
	if string(key) != string(otherKey) {
		return
	}
	a, errA := TreeOf([]byte(sql))
	b, errB := TreeOf([]byte(other))
	if (errA == nil) != (errB == nil) {
		t.Fatalf("%q: %v, %q: %v", sql, errA, other, errB)
	}
	if errA != nil {
		return
	}
	checkLiterals(t, other)
	if p := (treePrinter{}); a.Opaque != b.Opaque || p.inline(a.Query) != p.inline(b.Query) {
		t.Fatalf("one template but\n%q\n%s %s\n%q\n%s %s", sql, a.Opaque, p.inline(a.Query), other, b.Opaque, p.inline(b.Query))
	}
	if sa, sb := namedSpans(a), namedSpans(b); !slices.Equal(sa, sb) || a.Query.TailToken != b.Query.TailToken {
		t.Fatalf("one template but\n%q\n%v\n%q\n%v", sql, sa, other, sb)
	}
}

// checkLiterals holds that the literals of a text are those that its tree points to.
func checkLiterals(t *testing.T, sql string) {
	t.Helper()
	tree, err := TreeOf([]byte(sql))
	if err != nil {
		return
	}
	literals, ok := Literals([]byte(sql), nil)
	if !ok && len(literals) > 0 {
		t.Fatalf("literals of a text that is its own key: %q", sql)
	}
	tree.Walk(func(q *Query) {
		q.Exprs(func(e *Expr) {
			v := e.Value
			if e.Kind != ExprConstant || v.Literal < 0 {
				return
			}
			if v.Literal >= len(literals) {
				t.Fatalf("literal %d of %d in %q", v.Literal, len(literals), sql)
			}
			if l := literals[v.Literal]; l.text(v.Negative) != v.Text {
				t.Fatalf("literal %d is %q, want %q, in %q", v.Literal, l.Value, v.Text, sql)
			}
		})
	})
}

func TestTreesOfSeeds(t *testing.T) {
	trees := 0
	for _, sql := range seeds() {
		checkTree(t, sql)
		if _, err := TreeOf([]byte(sql)); err == nil {
			trees++
		}
		for choice := range byte(4) {
			checkTreeTemplates(t, sql, choice)
		}
	}
	if trees < 250 {
		t.Errorf("only %d seeds have a tree", trees)
	}
}

// TestEveryExpressionIsSeen holds the parts of a tree to what pg_query's own tree has.
func TestEveryExpressionIsSeen(t *testing.T) {
	for _, sql := range seeds() {
		tree, err := TreeOf([]byte(sql))
		if err != nil || len(sql) > shortenAbove {
			continue
		}
		st := NewCache(0).Statement([]byte(sql))
		c := &st.Commands[0]
		for c.Prepared != nil || c.Explained != nil {
			if c.Prepared != nil {
				c = c.Prepared
			} else {
				c = c.Explained
			}
		}
		calls := make(map[Named]bool)
		for _, e := range tree.Calls {
			calls[Named{e.Schema, e.Name}] = true
		}
		sampled := strings.Contains(strings.ToLower(sql), "tablesample")
		for _, f := range c.Calls {
			if !calls[Named{f.Schema, f.Name}] && !sampled { // the method of TABLESAMPLE is a function there
				t.Errorf("call %s.%s is missing: %q", f.Schema, f.Name, sql)
			}
		}
		tables := make(map[Named]int)
		for _, s := range tree.Sources {
			tables[Named{s.Schema, s.Name}]++
		}
		for _, table := range c.Tables {
			tables[Named{table.Schema, table.Name}]--
		}
		for name, n := range tables {
			if n != 0 && !tree.Query.Into {
				t.Errorf("table %v is %d times too often: %q", name, n, sql)
			}
		}
	}
}

// TestTokensOfColumns holds which tokens are columns, whatever stands around them.
func TestTokensOfColumns(t *testing.T) {
	sql := `SELECT a, T.B AS a /* a */, "x Y" . "q" :: a, 'a', f(a) FILTER (WHERE s.t . c > 1), CASE a WHEN 1 THEN "a""b" END, t.*, U&"d\0061ta" FROM a GROUP BY a`
	tree, err := TreeOf([]byte(sql))
	if err != nil {
		t.Fatal(err)
	}
	tokens := Tokens([]byte(sql), nil)
	var got []string
	tree.Walk(func(q *Query) {
		q.Exprs(func(e *Expr) {
			if e.Kind == ExprColumn && e.NameTokens != (Span{}) {
				start, end := places(tokens, e.NameTokens)
				got = append(got, sql[start:end])
			}
		})
	})
	if want := []string{"a", "T.B", `"x Y" . "q"`, "a", "s.t . c", "a", `"a""b"`, "a"}; !slices.Equal(got, want) {
		t.Errorf("got columns %q, want %q", got, want)
	}
}

func TestTreeErrors(t *testing.T) {
	for sql, want := range map[string]error{
		"":                                    errNoQuery,
		"SELECT 1; SELECT 2":                  errSeveral,
		"SET a = 1":                           errNoQuery,
		"COPY t FROM STDIN":                   errNoQuery,
		"EXPLAIN EXECUTE p":                   errNoQuery,
		"CREATE TABLE t AS SELECT 1":          errNoQuery,
		"SELECT 'a' /**/\n'b'":                errApart,
		"SELECT 'a":                           errUnterminated,
		"SELECT '\xff'":                       errUnknownEncoding,
		"SELECT \x001":                        errUnknownEncoding,
		"SELECT " + strings.Repeat("(", 2000): errTextTooLarge,
		strings.Repeat(" ", MaxText+1):        errTextTooLarge,
	} {
		if _, err := TreeOf([]byte(sql)); !errors.Is(err, want) {
			t.Errorf("TreeOf(%.40q) is %v, want %v", sql, err, want)
		}
	}
	if _, err := TreeOf([]byte("SELECT FROM WHERE")); err == nil {
		t.Error("a syntax error has a tree")
	}
}

func TestTreeBoundsItsWork(t *testing.T) {
	nested := "SELECT " + strings.Repeat("f(", 400) + "'" + strings.Repeat("x", 100<<10) + "'" + strings.Repeat(")", 400)
	tree, err := TreeOf([]byte(nested))
	if err != nil || len(tree.Calls) != 400 {
		t.Fatalf("%v", err)
	}
	if tree.Query.Outputs[0].Tokens == (Span{}) {
		t.Error("the output of a long statement has no place")
	}
}

func TestRowsOfLongInsert(t *testing.T) {
	rows := []string{
		"(1, 'x', $1, NULL)", "(-1, -1.5, 'it''s', true)", "(DEFAULT, B'01', X'1f', FALSE)", "(- 0, 007, 99999999999, -99999999999)",
		"(f(1), 'x', 2, 3)", "(N'x', 1, 2, 3)", "($$a$$, 'b'\n'c', 1e5, -0)", "(- -1, 2, 3, 4)", "((1), 2, 3, 4)", "(1 + 1, 2, 3, 4)",
		"(1, -- comment\n 2, /* another */ 3, 4)", "((SELECT 1), 'x'::text, null, 4)", "($12345, $1, -$1, -'5')",
	}
	for _, sql := range []string{
		"INSERT INTO t VALUES " + strings.Join(rows, ", "),
		"insert into s.t (a, b, c, d) values " + strings.Join(rows[:4], ",\n") + " on conflict (a) do update set b = 5 returning a, b;",
		"INSERT INTO values VALUES (1, E'a'), (2, 'b'), (3, 'c') RETURNING f(1)",
		"INSERT INTO t VALUES (1), (2), (3) ORDER BY 1",
		"INSERT INTO t SELECT 1 UNION ALL VALUES (2), (3) ON CONFLICT DO NOTHING",
		"INSERT INTO t VALUES (1, 2), (3)",
		"INSERT INTO t VALUES (1), (2, ), (3)",
		"INSERT INTO t VALUES (1), (2) (3)",
		"INSERT INTO t VALUES (1), (), (3)",
		"INSERT INTO t VALUES (1), (2),",
		"INSERT INTO t VALUES (1), ($0), ($00001), ($123456)",
	} {
		slow, errSlow := treeOf([]byte(sql), MaxText)
		fast, errFast := treeOf([]byte(sql), 0)
		if (errSlow == nil) != (errFast == nil) || !reflect.DeepEqual(slow, fast) {
			t.Errorf("%q\n%v %s\n%v %s", sql, errSlow, describeAny(slow), errFast, describeAny(fast))
		}
	}
	many := "INSERT INTO t VALUES (1)" + strings.Repeat(",($1)", 60_000)
	tree, err := TreeOf([]byte(many))
	if err != nil || len(tree.Query.Rows) != 60_001 || tree.Query.Rows[60_000].Tokens == (Span{}) {
		t.Errorf("60,001 rows: %v", err)
	}
}

func TestTreeBytes(t *testing.T) {
	for _, sql := range []string{
		"SELECT a, count(*) AS n FROM s.t JOIN u USING (id) WHERE t.b = ANY ($1) AND c IN (1, 2, 'x') GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
		"INSERT INTO t VALUES (1, 'x')" + strings.Repeat(", (2, 'y')", 1000),
	} {
		tree, err := TreeOf([]byte(sql))
		if err != nil {
			t.Fatal(err)
		}
		got, want := tree.Bytes(), memoryOf(reflect.ValueOf(tree))
		if got < want*2/3 || got > want*2 {
			t.Errorf("%d bytes, measured %d: %.40s", got, want, sql)
		}
	}
}

func describeAny(t *Tree) string {
	if t == nil {
		return "no tree"
	}
	return t.Opaque + treePrinter{texts: true}.inline(t.Query)
}

// TestKnownFieldsAreThoseOfTheGrammar holds that no name in treeFields is misspelt.
func TestKnownFieldsAreThoseOfTheGrammar(t *testing.T) {
	messages := make(map[protoreflect.Name]protoreflect.MessageDescriptor)
	list := (&pg.ParseResult{}).ProtoReflect().Descriptor().ParentFile().Messages()
	for i := range list.Len() {
		messages[list.Get(i).Name()] = list.Get(i)
	}
	for message, fields := range treeFieldSets() {
		m := messages[message]
		if m == nil {
			t.Errorf("the grammar has no %s", message)
			continue
		}
		for field := range fields {
			if m.Fields().ByName(field) == nil {
				t.Errorf("%s has no %s", message, field)
			}
		}
	}
}

func FuzzTree(f *testing.F) {
	for i, s := range seeds() {
		f.Add(s, byte(i))
	}
	f.Fuzz(func(t *testing.T, sql string, choice byte) {
		if len(sql) > 2048 || deeperThan([]byte(sql), 200) {
			return
		}
		checkTree(t, sql)
		checkTreeTemplates(t, sql, choice)
	})
}

func BenchmarkTree(b *testing.B) {
	for _, c := range []struct{ name, sql string }{
		{"select", benchSelect},
		{"aggregates", "SELECT a, count(*), sum(b), avg(c) FROM t JOIN u USING (id) WHERE t.d > 5 GROUP BY a HAVING count(*) > 1 ORDER BY 2 DESC LIMIT 10"},
		{"bulk", "INSERT INTO t (a, b, c) VALUES (1, 'x', 2.5)" + strings.Repeat(", (2, 'y', -2.5)", 999)},
		{"rows", "INSERT INTO t (a, b, c) VALUES (1, 'x', now())" + strings.Repeat(", (2, 'y', now())", 999)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := TreeOf([]byte(c.sql)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
