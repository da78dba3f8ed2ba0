package catalog

import "testing"

func TestJudgeByLanguage(t *testing.T) {
	g := newGraph()
	for _, c := range []struct {
		f     function
		risky bool
	}{
		{function{name: "similarity", language: "c", owner: 1}, false},
		{function{name: "set_limit", language: "c", owner: 1}, true},
		{function{name: "dblink_connect", language: "c", owner: 1}, true},
		{function{name: "own", language: "c"}, true},
		{function{name: "own", language: "internal"}, true},
		{function{name: "own", language: "internal", body: "upper"}, false},
		{function{name: "own", language: "internal", body: "pg_advisory_lock"}, true},
		{function{name: "own", language: "plpython3u"}, true},
		{function{name: "own", language: "plperl"}, true},
		{function{name: "own", language: "aggregate"}, false},
	} {
		if got := g.judge(&c.f).why; (got != "") != c.risky {
			t.Errorf("%s in %s: got %q, want risky %v", c.f.name, c.f.language, got, c.risky)
		}
	}
}

// TestCycleEnds has functions that name each other.
func TestCycleEnds(t *testing.T) {
	g := newGraph()
	g.functions[1] = &function{oid: 1, schema: "s", name: "a", language: "sql", body: "SELECT b()"}
	g.functions[2] = &function{oid: 2, schema: "s", name: "b", language: "sql", body: "SELECT a(), c()"}
	g.functions[3] = &function{oid: 3, schema: "s", name: "c", language: "sql", body: "SELECT setseed(0)"}
	g.readBodies()
	if got := g.solve(g.session, false)[node{inFunction, 1}]; got != "calls s.b()" {
		t.Errorf("a: got %q", got)
	}
}
