package catalog

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestBodyTellsCallsAndWrites(t *testing.T) {
	for _, c := range []struct {
		body, calls, local        string
		blind, changes, truncates bool
	}{
		{body: "SELECT a(b(1)), c . d(2), e FROM f", calls: "a b d"},
		{body: `SELECT "A" (1), x.g FROM x`, calls: "A g"},
		{body: "SELECT current_setting('app.x'), current_setting('TimeZone', true), current_setting('app.y'::text)"},
		{body: "SELECT current_setting('port')", calls: "current_setting"},
		{body: "SELECT current_setting('app.' || x)", calls: "current_setting"},
		{body: "SELECT current_setting(x)", calls: "current_setting"},
		{body: "SHOW port", local: "SHOW"},
		{body: "EXPLAIN SELECT 1", local: "EXPLAIN"},
		{body: "SELECT show FROM t"},
		{body: "CREATE TABLE t (a int)", changes: true, calls: "t"},
		{body: "COMMENT ON TABLE t IS 'x'", changes: true},
		{body: "INSERT INTO t VALUES (1)", calls: "values"},
		{body: "SELECT 1 AS a INTO t", changes: true},
		{body: "SELECT 'TRUNCATE t'", truncates: true},
		{body: "TRUNCATE t", truncates: true},
		{body: "EXECUTE 'x'", blind: true},
	} {
		got := scanBody(newRisks(), c.body, false)
		calls := strings.Join(slices.Sorted(maps.Keys(got.calls)), " ")
		if calls != c.calls || got.local != c.local || got.blind != c.blind || got.changes != c.changes || got.truncates != c.truncates {
			t.Errorf("%s: got calls %q, local %q, blind %v, changes %v, truncates %v", c.body, calls, got.local, got.blind, got.changes, got.truncates)
		}
	}
	for body, want := range map[string]bool{
		"DECLARE comment int; BEGIN comment := 1; END": false, "BEGIN COMMENT ON TABLE t IS 'x'; END": true, "BEGIN DROP TABLE t; END": true,
		"BEGIN EXECUTE 'ALTER TABLE t ADD x int'; END": true, "BEGIN SELECT 1 INTO x; END": false,
	} {
		if got := scanBody(newRisks(), body, true); got.changes != want || got.blind {
			t.Errorf("%s: changes %v, blind %v", body, got.changes, got.blind)
		}
	}
}
