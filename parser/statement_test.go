package parser

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// checkStatement holds what is true of every statement, whatever the text.
func checkStatement(t *testing.T, text string) {
	t.Helper()
	c := NewCache(1 << 20)
	s := c.Statement([]byte(text))
	if again := c.Statement([]byte(text)); s != again && !reflect.DeepEqual(s, again) {
		t.Fatalf("other facts the second time for %q:\n%s%s", text, describe(text, s), describe(text, again))
	}
	effects, pin := Effects(0), ""
	for i := range s.Commands {
		command := &s.Commands[i]
		effects |= command.Effects
		if pin == "" {
			pin = command.Pin
		}
		checkCommand(t, text, command)
	}
	if s.Effects != effects || pin != "" && s.Pin == "" {
		t.Fatalf("effects %s and pin %q are not the union of %q:\n%s", describeEffects(s.Effects), s.Pin, text, describe(text, s))
	}
	checkPins(t, text, s)
	checkNames(t, text, s)
}

func checkCommand(t *testing.T, text string, c *Command) {
	t.Helper()
	if (c.Effects&ChangesSettings != 0) != (len(c.Settings) > 0) {
		t.Fatalf("settings %v without their effect, or the other way round: %q", c.Settings, text)
	}
	for _, name := range c.Settings {
		if name != strings.ToLower(name) {
			t.Fatalf("setting %q is not in lower case: %q", name, text)
		}
	}
	if c.NameStart < 0 || c.NameEnd < c.NameStart || c.NameEnd > len(text) || c.BodyStart < 0 || c.BodyEnd < c.BodyStart || c.BodyEnd > len(text) {
		t.Fatalf("name %d-%d, body %d-%d in %q", c.NameStart, c.NameEnd, c.BodyStart, c.BodyEnd, text)
	}
	named := c.Kind == Prepare || c.Kind == Execute || c.Kind == Deallocate
	if named != (c.NameEnd > 0) && c.Effects&SQLExecute == 0 {
		t.Fatalf("%s has its name at %d-%d: %q", c.Kind, c.NameStart, c.NameEnd, text)
	}
	if c.NameEnd == 0 || !isASCII(text) {
		return
	}
	// The server must fold what is written there to the name.
	swapped := text[:c.NameStart] + `"pgtier_1"` + text[c.NameEnd:]
	for _, other := range analyse(swapped).Commands {
		if other.Kind == c.Kind && other.Name == "pgtier_1" {
			return
		}
	}
	t.Fatalf("%q does not name pgtier_1 after its name at %d-%d was swapped: %q", text, c.NameStart, c.NameEnd, swapped)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// checkPins asks the tree itself, by other means than the parser's walk, for calls that must pin.
func checkPins(t *testing.T, text string, s *Statement) {
	t.Helper()
	if s.Unparsed || s.Pin != "" || strings.Contains(text, "\x00") {
		return
	}
	tree, err := parse(withoutComments(text))
	if err != nil {
		return
	}
	for _, raw := range tree.Stmts {
		n := raw.Stmt
		if n.GetPrepareStmt() != nil || n.GetCreateFunctionStmt() != nil {
			continue
		}
		everyMessage(n.ProtoReflect(), func(m any) {
			switch v := m.(type) {
			case *pg.RangeVar:
				if v.Relpersistence == "t" && s.Effects&TempOnCommitDrop == 0 {
					t.Fatalf("makes a temporary object without a pin: %q", text)
				}
			case *pg.FuncCall:
				name := v.Funcname[len(v.Funcname)-1].GetString_().GetSval()
				if sp, ok := lookupSpecial(strings.ToLower(name)); ok && sp.pin {
					t.Fatalf("calls %s without a pin: %q", name, text)
				}
			}
		})
	}
}

// checkNames asks the tree itself for the names that a statement's facts must have.
func checkNames(t *testing.T, text string, s *Statement) {
	t.Helper()
	if s.Unparsed || !isASCII(text) || len(text) > shortenAbove {
		return
	}
	tree, err := parse(withoutComments(text))
	if err != nil || len(tree.Stmts) != len(s.Commands) {
		return
	}
	for i, raw := range tree.Stmts {
		n, c := raw.Stmt, &s.Commands[i]
		if p := n.GetPrepareStmt(); p != nil {
			n, c = p.Query, c.Prepared
		}
		checkNamesOf(t, text, n, c)
		if c.Explained != nil {
			checkNamesOf(t, text, n.GetExplainStmt().Query, c.Explained)
		}
	}
}

func checkNamesOf(t *testing.T, text string, n *pg.Node, c *Command) {
	t.Helper()
	if n.GetCreateFunctionStmt() != nil || n.GetConstraintsSetStmt() != nil || n.GetVariableSetStmt() != nil {
		return
	}
	with, locked := map[string]bool{}, map[*pg.RangeVar]bool{}
	everyMessage(n.ProtoReflect(), func(m any) {
		switch v := m.(type) {
		case *pg.CommonTableExpr:
			with[v.Ctename] = true
		case *pg.LockingClause:
			for _, r := range v.LockedRels {
				locked[r.GetRangeVar()] = true
			}
		}
	})
	lost := func(what, schema, name string) {
		t.Fatalf("%s %s.%s is not among the facts of %q", what, schema, name, text)
	}
	everyMessage(n.ProtoReflect(), func(m any) {
		switch v := m.(type) {
		case *pg.RangeVar:
			has := slices.ContainsFunc(c.Tables, func(x Table) bool { return x.Schema == v.Schemaname && x.Name == v.Relname })
			if !has && !locked[v] && (v.Schemaname != "" || !with[v.Relname]) {
				lost("table", v.Schemaname, v.Relname)
			}
		case *pg.FuncCall:
			schema, name := qualified(v.Funcname)
			if !slices.ContainsFunc(c.Calls, func(x Called) bool { return x.Schema == schema && x.Name == name }) {
				lost("function", schema, name)
			}
		case *pg.A_Expr:
			schema, name := qualified(v.Name)
			if !strings.Contains(name, "BETWEEN") && !slices.Contains(c.Operators, Named{schema, name}) {
				lost("operator", schema, name)
			}
		case *pg.TypeName:
			if schema, name := qualified(v.Names); name != "" && !slices.Contains(c.Types, Named{schema, name}) {
				lost("type", schema, name)
			}
		}
	})
	for _, cmp := range c.Compared {
		if cmp.Table < -1 || cmp.Table >= len(c.Tables) || cmp.Column == "" || len(cmp.Values) == 0 {
			t.Fatalf("comparison %+v with %d tables in %q", cmp, len(c.Tables), text)
		}
	}
}

func everyMessage(m protoreflect.Message, visit func(any)) {
	visit(m.Interface())
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				everyMessage(v.List().Get(i).Message(), visit)
			}
		default:
			everyMessage(v.Message(), visit)
		}
		return true
	})
}

// treeDepth is how deep messages nest.
func treeDepth(m protoreflect.Message) int {
	deepest := 0
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				deepest = max(deepest, treeDepth(v.List().Get(i).Message()))
			}
		default:
			deepest = max(deepest, treeDepth(v.Message()))
		}
		return true
	})
	return deepest + 1
}

// checkDepth holds the estimate to the tree: what it lets through for a limit is at most 3 messages deep for each unit, but for a constant.
func checkDepth(t *testing.T, text string) {
	t.Helper()
	limit := 1
	for ; deeperThan([]byte(text), limit); limit++ {
		if limit > maxDepth {
			return
		}
	}
	tree, err := parse(text)
	if err != nil {
		return
	}
	if depth := treeDepth(tree.ProtoReflect()); depth > 3*limit+40 {
		t.Fatalf("the tree is %d messages deep, the estimate was %d: %q", depth, limit, text)
	}
}

func TestDepthEstimateHoldsForNestedText(t *testing.T) {
	repeat := strings.Repeat
	for _, n := range []int{3, 30, 200, 450} {
		for _, text := range []string{
			"SELECT " + repeat("(", n) + "1" + repeat(")", n), "SELECT 1" + repeat("+1", n), "SELECT " + repeat("case when a and b then ", n) + "1" + repeat(" end", n),
			"SELECT " + repeat("1 + 1 + case when a or b then 1, ", 0) + repeat("1+1+1+case when a or b then 0 else ", n/4) + "1" + repeat(" end", n/4),
			"SELECT " + repeat("(select ", n/3) + "1" + repeat(")", n/3), "SELECT true" + repeat(" and true", n), "SELECT 1" + repeat(" union select 1", n/3),
			"SELECT 1 from a" + repeat(" join b on true and c", n), "SELECT " + repeat("array[", n) + "1" + repeat("]", n), "SELECT " + repeat("not ", n) + "true",
			"SELECT " + repeat("exists (select ", n/4) + "1" + repeat(")", n/4), "SELECT " + repeat("f(1, ", n) + "1" + repeat(")", n), "SELECT a" + repeat("::int", n),
			"SELECT a" + repeat(" is null", n), "SELECT a" + repeat(" collate x", n), "SELECT a" + repeat(" at time zone 'x'", n), "SELECT a" + repeat("[1]", n), "SELECT (a)" + repeat(".b", n),
			"SELECT " + repeat("1 in (", n) + "1" + repeat(")", n), "SELECT * FROM " + repeat("(select * from ", n/4) + "t" + repeat(") x", n/4), "SELECT " + repeat("- ", n) + "a",
			repeat("with x as (", n/4) + "select 1" + repeat(") select 1", n/4), "SELECT a" + repeat(" isnull", n), "SELECT a" + repeat(" operator(pg_catalog.+) b", n),
			"SELECT 1 FROM a" + repeat(" join b", n) + repeat(" on true", n), "SELECT a" + repeat(" like 'x' escape 'y'", 1), "SELECT " + repeat("row(", n) + "1" + repeat(")", n),
			"SELECT a" + repeat(" is distinct from b", n), "SELECT a" + repeat(" between 1 and 2 = b", n), "SELECT a" + repeat(" is json", n), "SELECT a" + repeat(" is document", n),
		} {
			checkDepth(t, text)
		}
	}
}

func TestNoTextEndsTheProcess(t *testing.T) {
	repeat := strings.Repeat
	var params strings.Builder
	for i := range 60000 {
		fmt.Fprintf(&params, ", $%d", i+1)
	}
	c := NewCache(1 << 20)
	for name, test := range map[string]struct {
		text string
		pin  string
	}{
		"parentheses":        {"SELECT " + repeat("(", 10000) + "1" + repeat(")", 10000), pinTooLarge},
		"operators":          {"SELECT 1" + repeat("+1", 400000), pinTooLarge},
		"signs":              {"SELECT 1 " + repeat("+", 1000000) + "1", pinTooLarge},
		"brackets":           {"SELECT " + repeat("array[", 100000), pinTooLarge},
		"case":               {"SELECT " + repeat("case when true then ", 50000), pinTooLarge},
		"subqueries":         {"SELECT " + repeat("(select ", 100000), pinTooLarge},
		"joins":              {"SELECT 1 FROM a" + repeat(" join a on true", 60000), pinTooLarge},
		"unions":             {"SELECT 1" + repeat(" union select 1", 60000), pinTooLarge},
		"parameters":         {"SELECT * FROM t WHERE a IN ($1" + params.String() + ")", ""},
		"a long literal":     {"SELECT '" + repeat("x", 1<<20-20) + "'", ""},
		"many rows":          {"INSERT INTO t VALUES (1)" + repeat(",(1,'x')", 130000), ""},
		"many columns":       {"SELECT 1" + repeat(",1", 500000), pinTooLarge},
		"many statements":    {repeat("SELECT 1;", 110000), pinTooLarge},
		"many warnings":      {repeat("create global temp table a();", 30000), pinTooLarge},
		"above the limit":    {"SELECT '" + repeat("x", 1<<20) + "'", pinTooLarge},
		"a zero byte":        {"SELECT 1;\x00 SET a.b = 1", pinNUL},
		"open comments":      {repeat("/*", 500000), ""},
		"dollars":            {repeat("$a", 500000), ""},
		"long names":         {"SELECT a" + repeat(", "+repeat("x", 70), 14000), ""},
		"conjunctions":       {"SELECT * FROM t WHERE a = 1" + repeat(" AND b = 2 OR c = 3", 5000), ""},
		"escaped dollar tag": {"SELECT $" + repeat("é", 100000) + "$", ""},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			s := c.Statement([]byte(test.text))
			if s.Pin != test.pin {
				t.Errorf("pin %q, want %q", s.Pin, test.pin)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestLargeTextsTellWhetherTheyChangeTheCatalog(t *testing.T) {
	c := NewCache(1 << 20)
	deep := strings.Repeat("(", 10000)
	for text, want := range map[string]bool{
		"SELECT ": false, "INSERT INTO t VALUES ('create table'); SELECT \"drop\", grant, ": false, "MERGE INTO t USING u ON ": false, "UPDATE t SET alter = ": false,
		"/* drop */ SELECT 'a' -- truncate;\n;": false,
		"CREATE TABLE t (id int); SELECT ":      true, "BEGIN; Truncate t; SELECT ": true, "SELECT 1 INTO t; SELECT ": true, "SELECT 1; -- x\nalter table t add a int; SELECT ": true,
		"COMMENT ON TABLE t IS 'x'; SELECT ": true,
	} {
		for _, rest := range []string{deep, "'" + strings.Repeat("x", 1<<20) + "'"} {
			if s := c.Statement([]byte(text + rest)); s.Pin != pinTooLarge || s.Effects&DDL != 0 != want {
				t.Errorf("%s…: pin %q, effects %b", text, s.Pin, s.Effects)
			}
		}
	}
}

// Bulk statements are shortened before the grammar sees them; their facts must not change.
func TestShortenedTextKeepsItsFacts(t *testing.T) {
	rows := strings.Repeat(", (1, 'a', $1)", 2000)
	for _, text := range []string{
		"INSERT INTO t (a, b, c) VALUES (1, 'a', $1)" + rows + " ON CONFLICT DO UPDATE SET a = pg_advisory_lock(1) RETURNING my_fn(a)",
		"INSERT INTO t VALUES (1, 'a', $1)" + rows + ", (1, my_fn(2), (SELECT a FROM hidden)), (1, 2, 3)" + rows + ", (1, nextval('s'), 2)",
		"SELECT * FROM t WHERE a IN (1" + strings.Repeat(", 12", 5000) + ", my_fn(1), 2, 3) AND b = set_config('a.b', '1', false)",
		"SELECT ARRAY[1" + strings.Repeat(", 12", 5000) + "], f(1" + strings.Repeat(", 12", 5000) + ") FROM u",
		"UPDATE t SET a = v.a FROM (VALUES (1, 2)" + rows + ") v WHERE t.b = v.b",
	} {
		long := analyse(text)
		tree, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		whole := &Statement{Literals: long.Literals, Commands: commands(tree, &wholeText{src: []byte(text), taken: takenOut([]byte(text)), shortened: true})}
		whole.unite()
		if got, want := describe(text, long), describe(text, whole); got != want {
			t.Errorf("shortened: %swhole: %s", got, want)
		}
		short := []byte(text)
		shorten(short)
		if n := len(bytes.Join(bytes.Fields(short), nil)); len(text) > 30000 && n > len(text)/4 && !bytes.Contains(short, []byte("ARRAY")) {
			t.Errorf("%d of %d bytes are left: %.200s", n, len(text), bytes.Join(bytes.Fields(short), []byte(" ")))
		}
	}
}

func TestOtherEncodings(t *testing.T) {
	misread := map[string]bool{"SELECT \xe9t\xe9 FROM t": true, "LISTEN \xe9t\xe9": true, "SELECT \xe9t\xe9 FRM t x y": true,
		"SELECT $\xe9$ a $\xe9$, 'x' FROM \xe9": true}
	for text, want := range map[string]string{
		"SELECT 'na\xefve' FROM t":              "",
		"SELECT \xe9t\xe9 FROM t":               "",
		"SELECT '\x83\x5c' FROM t":              pinEncoding, // one character in SJIS
		"LISTEN \xe9t\xe9":                      pinEncoding,
		"SELECT \xe9t\xe9 FRM t x y":            pinEncoding,
		"SELECT 'é' FROM été":                   "",
		"SELECT pg_advisory_lock(1), '\xff'":    "pg_advisory_lock()",
		"SELECT $\xe9$ a $\xe9$, 'x' FROM \xe9": "",
	} {
		s := analyse(text)
		if hidden := s.Commands[0].Incomplete; hidden != misread[text] {
			t.Errorf("tables of %q are incomplete: %v, want %v", text, hidden, misread[text])
		}
		if s.Pin != want {
			t.Errorf("pin of %q is %q, want %q", text, s.Pin, want)
		}
	}
}

// pg_query plays with descriptor 2 while it parses; it must be the same afterwards, however many goroutines parse.
func TestStandardErrorSurvives(t *testing.T) {
	before, err := os.Stat("/proc/self/fd/2")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	for g := range 8 {
		go func() { // ends after its parses; waited for below
			defer func() { done <- struct{}{} }()
			for i := range 200 {
				analyse(fmt.Sprintf("SELECT %d, %d FROM t%d", g, i, i))
			}
		}()
	}
	for range 8 {
		<-done
	}
	after, err := os.Stat("/proc/self/fd/2")
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("standard error is another file after parsing: %v", err)
	}
}

func TestSeedsHoldEveryRule(t *testing.T) {
	for _, text := range seeds() {
		checkStatement(t, text)
		checkDepth(t, text)
	}
}

func FuzzStatement(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		checkStatement(t, string(text))
		checkDepth(t, string(text))
	})
}
