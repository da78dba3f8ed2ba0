package session

import "testing"

func TestReadsClock(t *testing.T) {
	for text, want := range map[string]bool{
		"SELECT * FROM t WHERE at > 'now'":          true,
		"SELECT timestamptz ' NOW '":                true,
		"SELECT date 'Yesterday 10:00'":             true,
		"SELECT $$today$$::date":                    true,
		"SELECT now()":                              false,
		"SELECT known, n FROM nowhere WHERE a = $1": false,
		"SELECT 'snow'":                             false,
		"":                                          false,
		"n":                                         false,
	} {
		if got := readsClock([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
