package parser

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// skeleton is the parse tree without its constants and positions; ok is false if the grammar rejects text.
func skeleton(t *testing.T, text string) (tree any, ok bool) {
	t.Helper()
	grammarLock.Lock()
	encoded, err := pg.ParseToJSON(withoutComments(text))
	grammarLock.Unlock()
	if err != nil {
		return nil, false
	}
	if err := json.Unmarshal([]byte(encoded), &tree); err != nil {
		t.Logf("tree of %q is no JSON: %v", text, err)
		return nil, false
	}
	return strip(tree), true
}

// positions are fields that hold offsets in the text.
var positions = map[string]bool{"location": true, "stmt_location": true, "stmt_len": true}

func strip(tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		for name, value := range v {
			switch {
			case positions[name]:
				delete(v, name)
			case name == "A_Const" && !isKeywordConstant(value):
				v[name] = "constant"
			case name == "arrayBounds":
				v[name] = len(value.([]any))
			default:
				v[name] = strip(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
	}
	return tree
}

// isKeywordConstant says whether a constant is NULL, TRUE or FALSE, which no template replaces.
func isKeywordConstant(value any) bool {
	m, _ := value.(map[string]any)
	_, boolean := m["boolval"]
	_, null := m["isnull"]
	return boolean || null
}

// checkTemplates holds that texts with one template have one skeleton and the same facts.
func checkTemplates(t *testing.T, a, b string) {
	t.Helper()
	ka, verbatim, ok := template(make([]byte, 0, MaxCached), []byte(a))
	if verbatim || !ok {
		return
	}
	kb, verbatim, ok := template(make([]byte, 0, MaxCached), []byte(b))
	if verbatim || !ok || string(ka) != string(kb) {
		return
	}
	sa, okA := skeleton(t, a)
	sb, okB := skeleton(t, b)
	if okA != okB || okA && !reflect.DeepEqual(sa, sb) {
		t.Fatalf("one template %q but different trees:\n%q %v %v\n%q %v %v", ka, a, okA, sa, b, okB, sb)
	}
	fa, fb := analyse(a), analyse(b)
	if da, db := describe(a, fa), describe(b, fb); da != db {
		t.Fatalf("one template %q but different facts:\n%q\n%s%q\n%s", ka, a, da, b, db)
	}
}

// vary writes text again with other literals, spaces and comments, so that its template is the same.
func vary(text string, choice byte) string {
	integers := []string{"7", "0", "2147483647", "000000000012"}
	numbers := []string{"2147483648", "99999999999999999999", "1.5e-3", "1."}
	strings := []string{"''", "'it''s'", "$$x$$", "'a'\n  'b'", "$q$ ' $q$", "'set_config'"}
	gaps := []string{" ", "\n", " /* c */ ", " -- c\n", "\t"}
	out, wasString := "", false
	src := []byte(text)
	m := newMarker(src)
	for i := int(choice); ; i++ {
		tok, mark, _ := m.next()
		if tok.kind == tokenEnd {
			return out
		}
		word := string(src[tok.start:tok.end])
		switch mark {
		case "$n":
			word = integers[i%len(integers)]
		case "$f":
			word = numbers[i%len(numbers)]
		case "$s":
			word = strings[i%len(strings)]
		case "$b":
			word = []string{"b'1'", "X'1F'", "B'0'"}[i%3]
		case "$c":
			word = "N'x'"
		}
		gap := gaps[i%len(gaps)]
		if wasString && word[0] == '\'' {
			gap = " " // a line break would make one literal of two
		}
		wasString = word[len(word)-1] == '\''
		out += gap + word
	}
}

func TestTemplateKeepsTheTree(t *testing.T) {
	checked := 0
	for _, text := range seeds() {
		for choice := range byte(12) {
			other := vary(text, choice)
			ka, verbatim, _ := template(make([]byte, 0, MaxCached), []byte(text))
			if verbatim {
				break
			}
			kb, _, _ := template(make([]byte, 0, MaxCached), []byte(other))
			if string(ka) != string(kb) {
				t.Errorf("%q has template %q, its variation %q has %q", text, ka, other, kb)
			}
			checkTemplates(t, text, other)
			checked++
		}
	}
	if checked < 200 {
		t.Errorf("only %d variations were checked", checked)
	}
}

func TestTemplateText(t *testing.T) {
	for text, want := range map[string]string{
		"select  abalance from t\nwhere aid=-1;":   "select abalance from t where aid = - $n ;",
		"SELECT 'a', 1.5, b'1', n'x', $1, $$q$$":   "SELECT $s , $f , $b , $c , $1 , $s",
		"/* pgtier: cache=off */ SELECT /* x */ 1": "/* pgtier: cache=off */ SELECT $n",
		"SELECT 1; SELECT 'a'":                     "SELECT $n ; SELECT $s",
		"SELECT current_setting(('a'),f(1)), 2":    "SELECT current_setting ( ( 'a' ) , f ( 1 ) ) , $n",
		"SELECT \"current_setting\" ($$a$$), 'b'":  "SELECT \"current_setting\" ( $$a$$ ) , $s",
	} {
		got, verbatim, ok := template(make([]byte, 0, 1024), []byte(text))
		if string(got) != want || verbatim || !ok {
			t.Errorf("template of %q is %q (%v, %v), want %q", text, got, verbatim, ok, want)
		}
	}
	for _, text := range []string{"SET a = 1", "SELECT 'a\\b'", "SELECT E'a'", "SELECT 1; SET a = 1", "SELECT SET_config('a','b',true)",
		"SELECT dblink('x')", "FETCH 5 FROM c", "SELECT a::FLOAT (24)", "SELECT 'open", "SELECT U&\"a\"", "SELECT '\xff'", "DO $$ $$", "EXPLAIN SELECT 1"} {
		if got, verbatim, _ := template(make([]byte, 0, 1024), []byte(text)); !verbatim {
			t.Errorf("%q is cached by template %q, want the whole text", text, got)
		}
	}
	if _, _, ok := template(make([]byte, 0, 8), []byte("SELECT 1, 2")); ok {
		t.Error("a template longer than its buffer is accepted")
	}
}

func FuzzTemplate(f *testing.F) {
	for i, s := range seeds() {
		f.Add(s, vary(s, byte(i)), byte(i))
	}
	f.Fuzz(func(t *testing.T, a, b string, choice byte) {
		if len(a) > 2048 || len(b) > 2048 || deeperThan([]byte(a), 200) || deeperThan([]byte(b), 200) {
			return
		}
		checkTemplates(t, a, b)
		checkTemplates(t, a, vary(a, choice))
	})
}

func ExampleCache() {
	c := NewCache(1 << 20)
	s := c.Statement([]byte("SET search_path = app; SELECT count(*) FROM orders"))
	fmt.Println(s.Commands[0].Kind, s.Commands[0].Settings, s.Commands[1].Kind, s.Commands[1].Relations)
	// Output: set [search_path] select [orders]
}
