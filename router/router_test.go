package router

import (
	"strings"
	"testing"

	"pgtier/parser"
)

// known pins one function by name.
type known struct{ function string }

func (k known) Pins(st *parser.Statement) string {
	for _, c := range st.Commands {
		for _, f := range c.Functions {
			if f == k.function {
				return "function " + f
			}
		}
	}
	return ""
}

func (known) Defines(*parser.Statement) bool { return false }

func TestRoutePinsWhatCannotBeCarried(t *testing.T) {
	cache := parser.NewCache(1 << 20)
	for name, tc := range map[string]struct {
		sql   string
		facts Facts
		want  string // part of the pin; "" for none
	}{
		"a plain read shares":                              {sql: "SELECT 1"},
		"a setting is carried":                             {sql: "SET search_path = a"},
		"a temporary table pins":                           {sql: "CREATE TEMP TABLE t (i int)", want: "TEMP"},
		"inside a failed transaction nothing can happen":   {sql: "CREATE TEMP TABLE t (i int)", facts: Facts{TxFailed: true}},
		"a known function pins":                            {sql: "SELECT risky()", want: "function risky"},
		"another function shares":                          {sql: "SELECT harmless()"},
		"lastval answers from the connection's past":       {sql: "SELECT lastval()", want: PinSequences},
		"a write shares while nobody asks for sequences":   {sql: "INSERT INTO t VALUES (1)"},
		"a write pins where somebody does":                 {sql: "INSERT INTO t VALUES (1)", facts: Facts{SequencesRead: true}, want: "sequence"},
		"a backslash is plain text while strings conform":  {sql: `SELECT 'a\'`},
		"a backslash pins while they do not":               {sql: `SELECT 'a\b'`, facts: Facts{Backslashes: true}, want: "backslashes"},
		"a write after CREATE FUNCTION in one transaction": {sql: "INSERT INTO t VALUES (1)", facts: Facts{NewCode: true}, want: "this transaction"},
		"a read after CREATE FUNCTION calls nothing of it": {sql: "SELECT 1", facts: Facts{NewCode: true}},
		"a function made anew in the text that runs it":    {sql: "CREATE OR REPLACE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 2'; SELECT harmless()", want: "made itself"},
		"a function made anew in DO":                       {sql: "DO $$BEGIN CREATE OR REPLACE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 2'; PERFORM harmless(); END$$", want: "made itself"},
		"a trigger made in the text that fires it":         {sql: "CREATE TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION harmless(); INSERT INTO t VALUES (1)", want: "made itself"},
		"a table made in the text that fills it":           {sql: "CREATE TABLE t (i int DEFAULT harmless()); INSERT INTO t DEFAULT VALUES"},
		"a function run in the text that makes another":    {sql: "SELECT harmless(); CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 2'"},
		"views of this connection show what others left":   {sql: "SELECT * FROM pg_prepared_statements", want: "views"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Route(cache.Statement([]byte(tc.sql)), tc.facts, known{"risky"}).Pin
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("%s: pin %q, want %q", tc.sql, got, tc.want)
			}
		})
	}
}

func TestRouteTellsWhatMakesCode(t *testing.T) {
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]bool{
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'":           true,
		"CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()": true,
		"ALTER TABLE t ALTER c SET DEFAULT f()":                                true,
		"CREATE TABLE plain (id int)":                                          false,
		"SELECT 'function'":                                                    false,
	} {
		if got := Route(cache.Statement([]byte(sql)), Facts{}, known{}).MakesCode; got != want {
			t.Errorf("%s: makes code %v, want %v", sql, got, want)
		}
	}
}

func TestRouteAllocatesNothing(t *testing.T) {
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT abalance FROM pgbench_accounts WHERE aid = 1"))
	if n := testing.AllocsPerRun(100, func() { Route(st, Facts{}, known{}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
