package catalog

import "testing"

func TestQualifiedNamesComeApart(t *testing.T) {
	seen := map[string][2]string{}
	parts := []string{"a", "a.b", ".", "..", `"`, `a"b`, `".`, `."`, `"a"."b"`, "A b", ""}
	for _, schema := range parts {
		for _, name := range parts {
			whole := QualifiedName(schema, name)
			if gotSchema, gotName := SplitName(whole); gotSchema != schema || gotName != name {
				t.Errorf("%q: got %q and %q, want %q and %q", whole, gotSchema, gotName, schema, name)
			}
			if other, ok := seen[whole]; ok {
				t.Errorf("%q is of %q and of %q, %q", whole, other, schema, name)
			}
			seen[whole] = [2]string{schema, name}
		}
	}
}
