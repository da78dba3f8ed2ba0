package resharder

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"pgtier/cmd/localpg"
)

// rightsOf are the statements that README lists for a role that is no superuser; what ends with \gexec yields statements.
func rightsOf(t *testing.T, role string) []string {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)The role of the manager's URL is a superuser, or.*?```sql\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("README lists no rights")
	}
	named := regexp.MustCompile(`\bapp\b`).ReplaceAllString(string(found[1]), role)
	return strings.Split(strings.TrimSpace(regexp.MustCompile("--.*").ReplaceAllString(named, "")), "\n")
}

// grant gives the role those rights in one database.
func grant(t *testing.T, s *localpg.Server, database string, statements []string) {
	for _, sql := range statements {
		query, each := strings.CutSuffix(strings.TrimSpace(sql), `\gexec`)
		if each {
			all, err := s.Value(context.Background(), database, "SELECT string_agg(x, ';') FROM ("+query+") AS q (x)")
			if err != nil {
				t.Fatal(err)
			}
			query = all
		}
		if err := s.Exec(context.Background(), database, query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
}

// TestMoveNeedsNoMoreRightsThanREADMELists goes through a job as the owner of the tables, while others write.
func TestMoveNeedsNoMoreRightsThanREADMELists(t *testing.T) {
	cluster, role := servers.Cluster(t), "mover_of_readme"
	for _, s := range cluster.Shards {
		if err := s.Manager.Exec(context.Background(), "postgres", "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Manager.Exec(context.Background(), "postgres", "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
				t.Error(err)
			}
		})
	}
	r := newRigAs(t, cluster, 1, role)
	p, err := MakePlan(r.ctx(), r.config, Goal{To: r.names[:2]})
	r.try(err)
	for _, words := range []string{"may not replicate", "may not write past triggers", "may not keep positions", "does not see what other roles"} {
		found(t, p, Obstacle, "shard s0", words)
	}
	for _, name := range r.names {
		grant(t, r.server[name], r.dbs[name], rightsOf(t, role))
	}
	p, err = MakePlan(r.ctx(), r.config, Goal{To: r.names[:2]})
	r.try(err)
	if !p.Possible() {
		t.Fatalf("got %v", p.Findings)
	}
	found(t, p, Note, "shard s1", "indexes among them")
	found(t, p, Note, "shard s0", "64.0 GiB of write-ahead log")
	clients := r.write(2, 1)
	r.carry()
	r.whole(Goal{To: r.names[:2]}, clients)
	clients.more(20)
	clients.check(true)
	r.leftovers()

	// What another role has made in schema pgtier.
	r.exec("s2", "ALTER SCHEMA pgtier OWNER TO postgres; CREATE TABLE pgtier.move ()")
	p, err = MakePlan(r.ctx(), r.config, Goal{Add: "s2"})
	r.try(err)
	found(t, p, Obstacle, "shard s2", "may create nothing in it")
	found(t, p, Obstacle, "shard s2", "belongs to postgres")
}
