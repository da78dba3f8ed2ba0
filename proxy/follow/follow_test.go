package follow

import (
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
)

func TestRowsArriveInTheOrderOfCommits(t *testing.T) {
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY)", quickConfig())
	one, two := r.connect(), r.connect()
	must(t, one, "BEGIN")
	must(t, one, "INSERT INTO a VALUES (1, 'x'), (2, NULL)")
	must(t, two, "INSERT INTO b VALUES (10)") // began later, commits first
	must(t, one, "SAVEPOINT s")
	must(t, one, "INSERT INTO a VALUES (3, 'rolled back')")
	must(t, one, "ROLLBACK TO s")
	must(t, one, "SAVEPOINT s2")
	must(t, one, "UPDATE a SET v = 'y' WHERE id = 2")
	must(t, one, "RELEASE s2")
	must(t, two, "BEGIN")
	must(t, two, "INSERT INTO b VALUES (11)")
	must(t, two, "ROLLBACK")
	must(t, one, "COMMIT")
	must(t, two, "UPDATE a SET id = 4 WHERE id = 1")
	must(t, two, "DELETE FROM a WHERE id = 4")
	must(t, one, "TRUNCATE a, b")
	r.expect(
		"insert b new id=10",
		"insert a new id=1 v=x; insert a new id=2 v=NULL; update a new id=2 v=y",
		"update a old id=1 v=absent new id=4 v=x",
		"delete a old id=4 v=absent",
		"truncate a; truncate b",
	)
	until(t, "everything is visible", func() bool { return r.count("changed") == 5 && r.Stats().Waiting == 0 })
	if s := r.Stats(); s.Transactions != 5 || s.Rows != 8 || s.Bytes == 0 || s.Losses != 0 {
		t.Errorf("stats %+v, want 5 transactions, 8 rows, no loss", s)
	}
}

func TestReplicaIdentities(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 8<<10)
	r := follow(t, "CREATE TABLE f (id int, v text, n int); ALTER TABLE f REPLICA IDENTITY FULL; ALTER TABLE f ALTER v SET STORAGE EXTERNAL;"+
		"CREATE TABLE i (a int, b int NOT NULL); CREATE UNIQUE INDEX i_b ON i (b); ALTER TABLE i REPLICA IDENTITY USING INDEX i_b;"+
		"CREATE TABLE z (); ALTER TABLE z REPLICA IDENTITY FULL", quickConfig())
	r.exec("INSERT INTO i VALUES (1, 2)")
	r.exec("UPDATE i SET a = 5")
	r.exec("UPDATE i SET b = 3")
	r.exec("DELETE FROM i")
	r.exec("INSERT INTO f VALUES (1, '" + long + "', NULL)")
	r.exec("UPDATE f SET id = 2")
	r.exec("DELETE FROM f")
	r.exec("INSERT INTO z DEFAULT VALUES")
	r.exec("DELETE FROM z")
	r.expect(
		"insert i new a=1 b=2",
		"update i new a=5 b=2",
		"update i old a=absent b=2 new a=5 b=3",
		"delete i old a=absent b=3",
		"insert f new id=1 v="+long+" n=NULL",
		"update f old id=1 v="+long+" n=NULL new id=2 v=unchanged n=NULL",
		"delete f old id=2 v="+long+" n=NULL",
		"insert z",
		"delete z",
	)
}

func TestTablesThatCannotBeFollowedAreLeftAloneAndNamed(t *testing.T) {
	server := shared.Cluster(t).Shards[0].Manager
	database := pgtest.Database(t, server)
	pgtest.Exec(t, server, database, `CREATE TABLE good (id int PRIMARY KEY);
CREATE TABLE keyless (id int); CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE TABLE parts (id int) PARTITION BY LIST (id); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent)`)
	r := start(t, server, database, "", quickConfig())
	until(t, "two tables are followed", func() bool { return r.Stats().Tables == 2 })
	for name, want := range map[string]string{"keyless": "REPLICA IDENTITY FULL", "nothing": "no replica identity", "deferred": "no replica identity",
		"unlogged": "unlogged", "parts": "no primary key", "part1": "no primary key", "child": "no replica identity"} {
		found := ""
		for _, l := range r.Tables().Left() {
			if l.Schema == "public" && l.Name == name {
				found = l.Why
			}
		}
		if !strings.Contains(found, want) {
			t.Errorf("%s is left out because %q, want one that says %q", name, found, want)
		}
	}
	// A publication makes the server refuse updates of tables without an identity. The application must not notice.
	r.exec("INSERT INTO keyless VALUES (1); UPDATE keyless SET id = 2; DELETE FROM keyless")
	r.exec("INSERT INTO nothing VALUES (1); UPDATE nothing SET id = 2; DELETE FROM nothing")
	r.exec("INSERT INTO child VALUES (1); UPDATE child SET id = 2; DELETE FROM child")
	r.exec("INSERT INTO parts VALUES (1); UPDATE parts SET id = 1; DELETE FROM parts")

	// One that loses its key is taken out; one that gets a key is taken in.
	r.exec("ALTER TABLE good DROP CONSTRAINT good_pkey; ALTER TABLE keyless ADD PRIMARY KEY (id)")
	r.Refresh()
	oid := func(name string) uint32 {
		var oid uint32
		if err := value(pgtest.Value(t, server, database, "SELECT '"+name+"'::regclass::oid"), &oid); err != nil {
			t.Fatal(err)
		}
		return oid
	}
	good, keyless := oid("good"), oid("keyless")
	until(t, "keyless is followed and good is not", func() bool { return r.Tables().Has(keyless) && !r.Tables().Has(good) })
	if !r.Tables().Names("public.keyless") || r.Tables().Names("public.good") || r.Tables().Names("keyless") {
		t.Error("the names are not those of the tables that are followed")
	}
	r.Refresh()
	if r.Looked() {
		t.Error("it has looked before it could")
	}
	until(t, "it has looked since", r.Looked)
	until(t, "good is out of the publication", func() bool {
		return pgtest.Value(t, server, database, "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'pgtier_cache' AND tablename = 'good'") == "0"
	})
	r.exec("INSERT INTO good VALUES (1); UPDATE good SET id = 2; DELETE FROM good")
}

func TestNewTablesAndPartitionsAreFollowed(t *testing.T) {
	r := follow(t, "CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)", quickConfig())
	r.exec("INSERT INTO p VALUES (1, 1)")
	// A partition is followed from its first row on, without anybody looking.
	r.exec("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p VALUES (11, 1)")
	r.exec("UPDATE p SET id = 12 WHERE id = 1") // moves
	r.exec("CREATE TABLE later (id int PRIMARY KEY)")
	r.Refresh()
	r.awaitTables("SELECT 4")
	r.exec("INSERT INTO later VALUES (1)")
	r.expect(
		"insert p1 new id=1 v=1",
		"insert p2 new id=11 v=1",
		"delete p1 old id=1 v=absent; insert p2 new id=12 v=1",
		"insert later new id=1",
	)
	r.exec("DROP TABLE later")
	r.Refresh()
	r.awaitTables("SELECT 3")
}

func TestATableJoinsOnlyWhenNobodyIsUnderWayWhoWroteToItBefore(t *testing.T) {
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY)", quickConfig())
	writer := r.connect()
	must(t, writer, "CREATE TABLE b (id int PRIMARY KEY)")
	must(t, writer, "BEGIN")
	must(t, writer, "INSERT INTO b VALUES (1)") // before b is published, hence never told
	r.Refresh()
	until(t, "b is published", func() bool {
		return pgtest.Value(t, r.server, r.database, "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'pgtier_cache' AND tablename = 'b'") == "1"
	})
	r.awaitFresh()
	looks := r.asked()
	until(t, "some more surveys", func() bool { return r.asked() > looks+3 })
	if n := r.Tables().Len(); n != 1 {
		t.Fatalf("%d tables are followed while a writer of the second is under way, want 1", n)
	}
	must(t, writer, "COMMIT")
	r.awaitTables("SELECT 2")
}

// asked counts the surveys of any follower of the database that have been answered, by a table's scans.
func (r *rig) asked() int64 {
	var n int64
	if err := value(pgtest.Value(r.t, r.server, r.database, "SELECT sum(seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_sys_tables WHERE relname = 'pg_publication_rel'"), &n); err != nil {
		r.t.Fatal(err)
	}
	return n
}
