package proxy_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/proxy/shardmap"
)

// simply runs statements by the simple protocol, each in a message of its own.
func simply(t testing.TB, c *pgx.Conn, all ...string) {
	t.Helper()
	for _, sql := range all {
		if _, err := c.Exec(bounded(t), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// TestChangesBehindFailedTransactions: a transaction that has failed can ask nobody, so what comes behind its end in one text is refused, and in messages of their own is not.
func TestChangesBehindFailedTransactions(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	for name, before := range map[string]string{"shared": "SELECT 1", "kept": "CREATE TEMP TABLE mine (id int)"} {
		t.Run(name, func(t *testing.T) {
			c := p.client(t)
			simply(t, c, "SET pgtier.shard = 's1'", before, "BEGIN", "SELECT 1")
			_, err := c.Exec(bounded(t), "SELECT 1/0")
			wantError(t, err, "22012", "")
			for range 2 { // the session goes on
				_, err = c.Exec(bounded(t), "ROLLBACK; CREATE TABLE "+name+" (id int)", pgx.QueryExecModeSimpleProtocol)
				wantError(t, err, "0A000", "the end of a transaction that has failed")
			}
			if status := c.PgConn().TxStatus(); status != 'E' {
				t.Errorf("status %c behind the refusal", status)
			}
			simply(t, c, "ROLLBACK", "CREATE TABLE "+name+" (id int)")
		})
	}
	c := p.client(t)
	simply(t, c, "SET pgtier.shard = 's1'", "BEGIN", "SELECT 1")
	_, err := c.Exec(bounded(t), "SELECT 1/0")
	wantError(t, err, "22012", "")
	for i, err := range pipelined(t, c, "ROLLBACK", "CREATE TABLE apart (id int)") {
		if err != nil {
			t.Errorf("statement %d: %v", i, err)
		}
	}
	if got := s.on(t, 1, "SELECT to_regclass('apart') IS NOT NULL AND to_regclass('kept') IS NOT NULL"); got != "t" {
		t.Error("a table was not created")
	}
	s.nobodyChanges(t)
}

// pipelined sends statements with a Sync each at once, and returns their errors.
func pipelined(t testing.TB, c *pgx.Conn, all ...string) (errs []error) {
	t.Helper()
	pipe := c.PgConn().StartPipeline(bounded(t))
	for _, sql := range all {
		pipe.SendQueryParams(sql, nil, nil, nil, nil)
		if err := pipe.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for range all {
		results, err := pipe.GetResults()
		if reader, ok := results.(*pgconn.ResultReader); ok {
			_, err = reader.Close()
		}
		errs = append(errs, err)
		if _, err = pipe.GetResults(); err != nil { // the Sync
			t.Fatal(err)
		}
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	return errs
}

// TestLateChangesInPipelinesOfTransactions: where the change is refused the session goes on.
func TestLateChangesInPipelinesOfTransactions(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	c := p.client(t)
	simply(t, c, "SET pgtier.shard = 's1'", "BEGIN", "SELECT 1")
	m.outdates()
	errs := pipelined(t, c, "SELECT 1", "CREATE TABLE late (id int)", "SELECT 1")
	if errs[0] != nil {
		t.Error(errs[0])
	}
	wantError(t, errs[1], "40001", "a move of buckets has begun")
	wantError(t, errs[2], "25P02", "")
	simply(t, c, "ROLLBACK", "SELECT 1")
	s.nobodyChanges(t)
}

// TestPreparedTransactionsKeepTheLockOfChanges: nobody but the prepared transaction has it then.
func TestPreparedTransactionsKeepTheLockOfChanges(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	for name, before := range map[string]string{"shared": "SELECT 1", "kept": "CREATE TEMP TABLE mine (id int)"} {
		c := p.client(t)
		simply(t, c, "SET pgtier.shard = 's1'", before, "BEGIN; SAVEPOINT a; CREATE TABLE "+name+" (id int)")
		_, err := c.Exec(bounded(t), "RELEASE a; PREPARE TRANSACTION '"+name+s.database+"'", pgx.QueryExecModeSimpleProtocol)
		wantError(t, err, "0A000", "PREPARE TRANSACTION")
		simply(t, c, "ROLLBACK")
		_, err = c.Exec(bounded(t), "BEGIN; CREATE TABLE "+name+" (id int); PREPARE TRANSACTION '"+name+s.database+"'", pgx.QueryExecModeSimpleProtocol)
		wantError(t, err, "0A000", "PREPARE TRANSACTION")
		simply(t, c, "ROLLBACK", "BEGIN; SAVEPOINT a; CREATE TABLE "+name+" (id int)")
		if name == "shared" { // a transaction with temporary tables cannot be prepared
			simply(t, c, "PREPARE TRANSACTION '"+name+s.database+"'")
			if s.outdates(t, 1) {
				t.Error("a prepared change of the schema is not waited for")
			}
			simply(t, c, "COMMIT PREPARED '"+name+s.database+"'")
		} else {
			simply(t, c, "COMMIT")
		}
		if !s.outdates(t, 1) {
			t.Error("a change of the schema that is over is waited for")
		}
	}
	if got := s.on(t, 1, "SELECT to_regclass('shared') IS NOT NULL AND to_regclass('kept') IS NOT NULL"); got != "t" {
		t.Error("a table was not created")
	}
}

// TestChangesOnOneShardGoOnOverSeveral: a session that has the lock for its transaction takes it along to other shards, and the transaction is prepared with it.
func TestChangesOnOneShardGoOnOverSeveral(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	for i := range 3 {
		pipe := c.PgConn().StartPipeline(bounded(t))
		for _, sql := range []string{"/* pgtier: shard=s1 */ BEGIN", "/* pgtier: shard=s1 */ CREATE TABLE one (id int)", "SAVEPOINT b"} {
			pipe.SendQueryParams(sql, nil, nil, nil, nil)
		}
		if err := pipe.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := pipe.Close(); err != nil {
			t.Fatal(err)
		}
		simply(t, c, "/* pgtier: shard=s2 */ CREATE TABLE two (id int)", "ROLLBACK TO b",
			"/* pgtier: shard=s2 */ CREATE TABLE three (id int)")
		for _, shard := range []int{1, 2} {
			if s.outdates(t, shard) {
				t.Errorf("shard %d does not wait for the transaction", shard)
			}
		}
		simply(t, c, "COMMIT")
		if got := s.on(t, 1, "SELECT to_regclass('one') IS NOT NULL") + s.on(t, 2, "SELECT to_regclass('two') IS NULL AND to_regclass('three') IS NOT NULL"); got != "tt" {
			t.Errorf("round %d: %s", i, got)
		}
		s.nobodyChanges(t)
		simply(t, c, "/* pgtier: shard=s1 */ DROP TABLE one", "/* pgtier: shard=s2 */ DROP TABLE three")
	}
}

// TestNamesOfKeptConnectionsMayChangeTheSchema: what a session prepares on a connection of its own is the server's, and is followed by its name.
func TestNamesOfKeptConnectionsMayChangeTheSchema(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	c := p.client(t)
	simply(t, c, "SET pgtier.shard = 's1'")
	prepare := func(name, sql string) {
		t.Helper()
		if _, err := c.PgConn().Prepare(bounded(t), name, sql, nil); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string) error {
		_, err := c.PgConn().ExecPrepared(bounded(t), name, nil, nil, nil).Close()
		return err
	}
	prepare("given", "TRUNCATE cards")
	simply(t, c, "CREATE TEMP TABLE mine (id int)")
	prepare("own", "CREATE TABLE own (id int)")
	prepare("", "CREATE TABLE unnamed (id int)")
	m.change(shardmap.Motion{Frozen: true})
	for _, name := range []string{"", "given", "own"} {
		wantError(t, run(name), "55006", "")
	}
	prepare("read", "SELECT 1")
	if err := run("read"); err != nil {
		t.Error(err)
	}
	simply(t, c, "DEALLOCATE read") // it may mean anything now
	simply(t, c, "PREPARE read AS SELECT 2")
	wantError(t, run("read"), "55006", "")
	m.change(shardmap.Motion{})
	for _, name := range []string{"given", "own", "read"} {
		if err := run(name); err != nil {
			t.Error(err)
		}
	}
	simply(t, c, "BEGIN")
	m.outdates()
	wantError(t, run("own"), "40001", "a move of buckets has begun")
	simply(t, c, "ROLLBACK")
	s.nobodyChanges(t)
}

// TestLargeTextsMayChangeTheSchema: a text that nobody looks into is refused all the same where it does, and goes on where it does not.
func TestLargeTextsMayChangeTheSchema(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	m.change(shardmap.Motion{Frozen: true})
	c := p.client(t)
	large := "; SELECT '" + strings.Repeat("x", 1<<20) + "'"
	simply(t, c, "SET pgtier.shard = 's1'")
	_, err := c.Exec(bounded(t), "CREATE TABLE large (id int)"+large, pgx.QueryExecModeSimpleProtocol)
	wantError(t, err, "55006", "")
	simply(t, c, "SELECT 1"+large)
	m.change(shardmap.Motion{})
	simply(t, c, "BEGIN", "CREATE TABLE large (id int)"+large)
	if s.outdates(t, 1) {
		t.Error("it is not waited for")
	}
	simply(t, c, "COMMIT")
	s.nobodyChanges(t)
}

// TestTemporaryTablesAreMadeWhileBucketsMove, where they end with their transaction.
func TestTemporaryTablesAreMadeWhileBucketsMove(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	m.change(shardmap.Motion{Frozen: true})
	c := p.client(t)
	simply(t, c, "SET pgtier.shard = 's1'", "BEGIN", "CREATE TEMP TABLE passing (id int) ON COMMIT DROP", "INSERT INTO passing VALUES (1)")
	wantValue(t, c, "SELECT count(*) FROM passing", "1")
	simply(t, c, "COMMIT")
}
