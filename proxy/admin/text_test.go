package admin

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplit(t *testing.T) {
	for text, want := range map[string]string{
		"SHOW POOLS":               "SHOW,POOLS",
		" show\tpools ; ":          "show,pools",
		"PAUSE a;RESUME a;;":       "PAUSE,a|RESUME,a",
		"":                         "",
		"-- ping":                  "",
		"/* a /* b */ ; */ SHOW X": "SHOW,X",
		"/* never ends":            "",
		"KILL my-db.x":             "KILL,my-db.x",
		"KILL a--b\n;PAUSE":        "KILL,a|PAUSE",
		`KILL "a;b""c"`:            `KILL,q:a;b"c`,
		"SET x='it''s'":            "SET,x,s:=,q:it's",
		"SET x TO 1, 2":            "SET,x,TO,1,s:,,2",
		"PAUSE 'open; SHOW POOLS":  "PAUSE,s:'open; SHOW POOLS",
		"PAUSE é":                  "PAUSE,é",
		"explain route a;b; x":     "explain,route",
		"explain x;route":          "explain,x|route",
	} {
		var statements []string
		for _, st := range split(text) {
			var words []string
			for _, w := range st.words {
				switch {
				case w.quoted:
					words = append(words, "q:"+w.text)
				case w.symbol:
					words = append(words, "s:"+w.text)
				default:
					words = append(words, w.text)
				}
			}
			statements = append(statements, strings.Join(words, ","))
		}
		if got := strings.Join(statements, "|"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestStatementTextHasNoComments(t *testing.T) {
	got := split("/* pool monitor */ SHOW POOLS ; -- next\n SHOW STATS")
	if len(got) != 2 || got[0].text != "SHOW POOLS" || got[1].text != "SHOW STATS" {
		t.Errorf("got %+v", got)
	}
}

func TestNamedCutsTheDatabaseOff(t *testing.T) {
	for text, want := range map[string]string{
		"EXPLAIN ROUTE app: SELECT 1; SELECT 2":          "app|SELECT 1; SELECT 2",
		"explain /* x */ route \"my db\" :SELECT 1":      "my db|SELECT 1",
		"EXPLAIN ROUTE SELECT a::int":                    "|SELECT a::int",
		"EXPLAIN ROUTE /* pgtier: cache=off */ SELECT 1": "|/* pgtier: cache=off */ SELECT 1",
		"EXPLAIN ROUTE DO $$ a; b $$":                    "|DO $$ a; b $$",
		"EXPLAIN ROUTE":                                  "|",
		"EXPLAIN ROUTE app:":                             "app|",
	} {
		database, sql := named(behind(split(text)[0].text, 2))
		if got := database + "|" + sql; got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestAnswersToBeReset(t *testing.T) {
	for text, want := range map[string]Answers{
		"":                             {},
		"app":                          {Database: "app"},
		"app public.t":                 {Database: "app", Table: "public.t"},
		"app public.t id = 7":          {Database: "app", Table: "public.t", Column: "id", Value: "7"},
		"app public.t id=7":            {Database: "app", Table: "public.t", Column: "id", Value: "7"},
		"app public.t id = 'it''s =' ": {Database: "app", Table: "public.t", Column: "id", Value: "it's ="},
		"app public.t id = ''":         {Database: "app", Table: "public.t", Column: "id"},
	} {
		if got, ok := answersOf(text); !ok || got != want {
			t.Errorf("%q: got %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"a b c", "a b c d = 1", "a b = 1", "= 1", "a b c =", "a b c = 'x", "a b c = '"} {
		if got, ok := answersOf(text); ok {
			t.Errorf("%q: got %+v, want none", text, got)
		}
	}
}

// FuzzCommand holds the parser to its bounds: it ends, it never panics, every
// word stands in the text, and what it finds is a command of the table or an error.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		"SHOW POOLS;", "PAUSE \"a\"\"b\"; RESUME", "SET x = 'y'", "/* /* */", "--\n;", "KILL_CLIENT 12", "'", "\"", "SHOW", "select version", "\x80\xff", "a=b",
	} {
		f.Add(seed)
	}
	c := New(View{}, Actions{}, "test", nil, nil)
	f.Fuzz(func(t *testing.T, text string) {
		size := 0
		for _, st := range split(text) {
			if !strings.Contains(text, st.text) || len(st.words) == 0 {
				t.Fatalf("%q: statement %q", text, st.text)
			}
			for _, w := range st.words {
				size += len(w.text)
			}
			p, e := c.prepare(st, true)
			switch {
			case e == nil && (p.cmd == nil || c.byName[p.cmd.name] != p.cmd):
				t.Fatalf("%q: neither command nor error", text)
			case e != nil && (e.Code == "" || e.Message == ""):
				t.Fatalf("%q: error %+v", text, e)
			case e != nil && utf8.ValidString(text) && !utf8.ValidString(e.Message):
				t.Fatalf("%q: message %q", text, e.Message)
			}
			if q, e := c.prepare(st, false); e == nil && !q.cmd.open {
				t.Fatalf("%q: a stats user may run %s", text, q.cmd.name)
			}
		}
		if size > len(text) {
			t.Fatalf("%q: words of %d bytes", text, size)
		}
	})
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range commands() {
		if seen[c.name] {
			t.Errorf("%s stands twice", c.name)
		}
		seen[c.name] = true
		if c.name != strings.ToUpper(c.name) || c.run == nil || strings.Count(c.name, " ") > 1 {
			t.Errorf("%s: malformed entry", c.name)
		}
		if changes := !strings.HasPrefix(c.name, "SHOW "); changes && c.open && c.name != "SET" && c.name != "EXPLAIN ROUTE" {
			t.Errorf("%s: stats users may run a command that changes something", c.name)
		}
		if c.usage != "" && !c.needs && !strings.HasPrefix(c.usage, "[") {
			t.Errorf("%s: the usage %s says that the argument is required", c.name, c.usage)
		}
	}
	if n := len(seen); n < 40 {
		t.Errorf("only %s commands", fmt.Sprint(n))
	}
}
