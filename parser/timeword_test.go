package parser

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestTimeWord(t *testing.T) {
	for text, want := range map[string]bool{
		"now": true, "NOW": true, " Now ": true, "today": true, "tomorrow": true, "yesterday": true, "Yesterday": true, "today 04:05": true, "04:05today": true,
		"now5": true, "_now": true, "{now}": true, "[yesterday,today]": true, "(,tomorrow)": true, `{"now"}`: true, `(no"w")`: true, `{n\ow}`: true,
		`a"now"`: true, "now\n": true, "é now": true, "nów now": true, "buy now!": true,
		"": false, "know": false, "nowhere": false, "todays": false, "2024-01-01": false, "epoch": false, "infinity": false, "allballs": false, "n o w": false,
		"yesterdays": false, "yesterdayy": false, "tomorro": false, "nnow": false, "noow": false, `"know"`: false, "snowy": false,
	} {
		if got := TimeWord([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	if long := []byte(strings.Repeat("x", maxTimed+1)); !TimeWord(long) {
		t.Error("a text that is too long to look through has no word")
	}
}

func TestTimeWords(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT 'now'": true, "SELECT $$now$$": true, "SELECT $x$ now $x$": true, "SELECT N'now'": true, "SELECT 'no'\n'w'": true, "SELECT 'no' --\n 'w'": true,
		`SELECT E'n\x6fw'`: true, `SELECT U&'n\006fw'`: true, `SELECT U&'n!006fw' UESCAPE '!'`: true, "SELECT E'now'": true, "SELECT 'now": true,
		"SELECT now, today FROM tomorrow": false, "SELECT now()": false, `SELECT "now"`: false, "SELECT 'know'": false, "SELECT 1 -- now": false,
		"SELECT 'no''w'": false, "SELECT 'no', 'w'": false, "SELECT 'no'\n, 'w'": false, `SELECT '\d'`: false, "SELECT x /* 'now' */": false,
	} {
		if got := TimeWords([]byte(sql)); got != want {
			t.Errorf("%q: got %v, want %v", sql, got, want)
		}
	}
}

// TestTimeWordsOfTheTemplate tells literals that a template keeps from those that each text has for itself.
func TestTimeWordsOfTheTemplate(t *testing.T) {
	cache := NewCache(1 << 20)
	for sql, want := range map[string]bool{
		"SELECT 'now' FROM t": false, "SELECT current_setting('app.now')": true, `SELECT E'\x6eow'`: true, "TABLE t": false, "SET a = 'today'": true,
		`SELECT 'a\d' FROM t`: false, `SELECT 'a\d', 'now' FROM t`: true,
	} {
		if got := cache.Statement([]byte(sql)).TimeWords; got != want {
			t.Errorf("%s: got %v, want %v", sql, got, want)
		}
	}
}

func TestTimeWordDoesNotAllocate(t *testing.T) {
	value := []byte("a text without such a word, \"quoted\", that knows nowhere and todays")
	sql := []byte("SELECT a FROM t WHERE b = 'nowhere'\nAND c = 'x'")
	if n := testing.AllocsPerRun(100, func() {
		if TimeWord(value) || TimeWords(sql) {
			t.Fatal("found a word")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTimeWord(b *testing.B) {
	for _, size := range []int{20, 200, maxTimed} {
		value := bytes.Repeat([]byte("2024-01-01 a word "), size/18+1)[:size]
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if TimeWord(value) {
					b.Fatal("found a word")
				}
			}
		})
	}
}
