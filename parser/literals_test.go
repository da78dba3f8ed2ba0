package parser

import (
	"fmt"
	"strings"
	"testing"
)

// describeLiterals writes the literals of sql, kind and value.
func describeLiterals(sql string) string {
	list, ok := Literals([]byte(sql), nil)
	if !ok {
		return "whole text"
	}
	var out []string
	for _, l := range list {
		out = append(out, fmt.Sprintf("%c%s", "sinbxc"[l.Kind], l.Value))
	}
	return strings.Join(out, " ")
}

func TestLiterals(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT abalance FROM pgbench_accounts WHERE aid = -42": "i42",
		"SELECT 'a', 'it''s', '''', ''":                         "sa sit's s' s",
		"SELECT 007, 0, 2147483647, 2147483648, 1.50, 1e3, .5":  "i7 i0 i2147483647 n2147483648 n1.50 n1e3 n.5",
		"SELECT 'a'\n 'b''' -- c\n 'd', $$x'y$$, $q$z$$w$q$":    "sab'd sx'y sz$$w",
		"SELECT B'01', x'1F', b'0'\n'1', N'n''n', n'o'":         "b01 x1F b01 cn'n co",
		"SELECT $1, 5, NULL, true FROM t5":                      "i5",
		"SELECT current_setting('a', 3), 4 -- 5":                "i4",
		"/* pgtier: cache=off */ SELECT /* 1 */ 2":              "i2",
		"SELECT 1; SELECT 'b'":                                  "i1 sb",
		"SELECT":                                                "",
		"SELECT 'a\\b'":                                         "whole text",
		"SELECT E'a', 1":                                        "whole text",
		"SELECT 1, 0x1F":                                        "whole text",
		"EXPLAIN SELECT 1":                                      "whole text",
		"SELECT 1, '\xff'":                                      "whole text",
	} {
		if got := describeLiterals(sql); got != want {
			t.Errorf("literals of %q are %q, want %q", sql, got, want)
		}
	}
}

func TestLiteralsAppend(t *testing.T) {
	dst := []Literal{{LiteralString, []byte("before")}}
	got, ok := Literals([]byte("SELECT 1"), dst)
	if !ok || len(got) != 2 || string(got[0].Value) != "before" || string(got[1].Value) != "1" {
		t.Errorf("%v, %v", got, ok)
	}
	if got, ok := Literals([]byte("SELECT 1, E'a'"), dst); ok || len(got) != 1 {
		t.Errorf("%v, %v", got, ok)
	}
}

func TestLiteralsDoNotAllocate(t *testing.T) {
	sql := []byte("SELECT a FROM t WHERE b = 'plain' AND c = $$dollar$$ AND d IN (1, -2, 3.5) AND e = N'x' AND f = X'1F'")
	dst := make([]Literal, 0, 8)
	if n := testing.AllocsPerRun(100, func() { dst, _ = Literals(sql, dst[:0]) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLiterals(b *testing.B) {
	for _, c := range []struct{ name, sql string }{
		{"select", benchSelect},
		{"insert", "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, -4, CURRENT_TIMESTAMP);"},
		{"rows", "INSERT INTO t (a, b, c) VALUES (1, 'x', 2.5)" + strings.Repeat(", (2, 'y', 3.5)", 99)},
	} {
		b.Run(c.name, func(b *testing.B) {
			sql, dst := []byte(c.sql), make([]Literal, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = Literals(sql, dst[:0])
			}
		})
	}
}

func BenchmarkTokens(b *testing.B) {
	sql, dst := []byte(benchSelect), make([]Token, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		dst = Tokens(sql, dst[:0])
	}
}
