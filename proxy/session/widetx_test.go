package session

import (
	"strings"
	"testing"
)

func TestIdentifiersFitAnyDatabase(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"bank", "Bank", "a.b-c_1", "a:b", "a", "ü", "it's", `back\slash`, "=", "", strings.Repeat("x", 36), strings.Repeat("x", 37), strings.Repeat("x", 300)} {
		got := IdentifierPrefix(name)
		if len(got)+63+1+24+1+63 >= 200 || strings.Count(got, ":") != 2 || strings.ContainsAny(got, `'\`) || got != strings.ToValidUTF8(got, "") {
			t.Errorf("%q: %q", name, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q: both %q", name, other, got)
		}
		seen[got] = name
	}
	if got := IdentifierPrefix("bank"); got != "pgtier:bank:" {
		t.Error(got)
	}
}
