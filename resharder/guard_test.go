package resharder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// fenced is one shard with a guard: group 1 is what the tests move, group 2 something else that moves, foreign is what has moved away.
type fenced struct {
	*rig
	m                     *mover
	moved, other, foreign int // accounts in them
	free, free2           int // accounts in none
}

func newFenced(t *testing.T) *fenced {
	f := &fenced{rig: newRig(t, servers.Cluster(t), 1)}
	f.m = newMover(&f.config, f.journal(), f.link("s0"), &Job{generation: 7, Moves: []Move{{Source: "s0", Target: "s1"}}}, func() {})
	t.Cleanup(f.m.leave)
	f.exec("s0", shardSQL)
	g := &Guard{Epoch: 9, Live: []Group{{1, []shard.Span{{First: 0, Last: 9}, {First: 20, Last: 29}}}, {2, []shard.Span{{First: 10, Last: 19}}}}, Foreign: []shard.Span{{First: 60, Last: 63}}}
	for group := 1; group <= 2; group++ {
		f.exec("s0", fmt.Sprintf("CREATE SEQUENCE pgtier.register_%d MINVALUE 0 START 0; SELECT pgtier.turn(7, %[1]d, '{0}', 5 * 4 + 2)", group))
	}
	tables, err := stream.Describe(f.ctx(), f.m.server("s0"), f.config.shardedLayout())
	f.try(err)
	for _, table := range tables {
		f.try(f.m.guardTable(f.ctx(), "s0", table, g))
		f.try(f.m.guardTable(f.ctx(), "s0", table, g)) // the second time it is there
	}
	find := func(after int, is func(shard.Bucket) bool) int {
		for id := after + 1; id < accounts; id++ {
			if is(f.bucket(id)) {
				return id
			}
		}
		t.Fatal("no account")
		return 0
	}
	f.moved = find(0, func(b shard.Bucket) bool { return b <= 9 || b >= 20 && b <= 29 })
	f.other = find(0, func(b shard.Bucket) bool { return b >= 10 && b <= 19 })
	f.foreign = find(0, func(b shard.Bucket) bool { return b >= 60 })
	f.free = find(0, func(b shard.Bucket) bool { return b >= 30 && b < 60 })
	f.free2 = find(f.free, func(b shard.Bucket) bool { return b >= 30 && b < 60 })
	return f
}

func (f *fenced) conn() *pgx.Conn {
	conn, err := pgx.Connect(f.ctx(), f.server["s0"].URL(f.dbs["s0"], "", ""))
	f.try(err)
	f.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (f *fenced) fence() {
	f.try(f.m.turnOff(f.ctx(), "s0", 1, stateFenced, 6))
}

func TestFenceStopsEveryWayToWrite(t *testing.T) {
	f := newFenced(t)
	f.exec("s0", `CREATE ROLE clerk_`+f.dbs["s0"]+`; GRANT INSERT, UPDATE, DELETE, SELECT ON accounts, entries TO clerk_`+f.dbs["s0"]+`;
CREATE SCHEMA mine; CREATE FUNCTION mine.hashint8extended(int8, int8) RETURNS int8 LANGUAGE sql AS 'SELECT 0::int8'; GRANT USAGE ON SCHEMA mine TO PUBLIC`)
	t.Cleanup(func() {
		if err := f.server["s0"].Exec(context.Background(), f.dbs["s0"], "DROP OWNED BY clerk_"+f.dbs["s0"]+"; DROP ROLE clerk_"+f.dbs["s0"]); err != nil {
			t.Error(err)
		}
	})
	writes := map[string]string{ // $moved is an account in the bucket, $free one that is in none that is guarded
		"insert":               "INSERT INTO entries (account, id) VALUES ($moved, 'x')",
		"insert of many":       "INSERT INTO entries (account, id) VALUES ($free, 'x'), ($moved, 'x')",
		"update":               "UPDATE accounts SET balance = balance + 1 WHERE id = $moved",
		"update of all":        "UPDATE accounts SET balance = balance + 1",
		"update of the key":    "INSERT INTO entries (account, id) VALUES ($free, 'y'); UPDATE entries SET account = $moved WHERE account = $free AND id = 'y'",
		"update off the key":   "UPDATE entries SET account = $free WHERE account = $moved",
		"delete":               "DELETE FROM entries WHERE account = $moved",
		"upsert":               "INSERT INTO accounts (id) VALUES ($moved) ON CONFLICT (id) DO UPDATE SET balance = 5",
		"upsert of nothing":    "INSERT INTO accounts (id) VALUES ($moved) ON CONFLICT DO NOTHING",
		"merge":                "MERGE INTO accounts a USING (VALUES ($moved)) v (id) ON a.id = v.id WHEN MATCHED THEN UPDATE SET balance = 3",
		"a partition":          "DELETE FROM entries_0; DELETE FROM entries_1",
		"another's path":       "SET LOCAL search_path = mine, pg_catalog, public; UPDATE public.accounts SET balance = 0 WHERE id = $moved",
		"another role":         "SET LOCAL ROLE clerk_" + f.dbs["s0"] + "; UPDATE accounts SET balance = 0 WHERE id = $moved",
		"a data-modifying CTE": "WITH w AS (UPDATE accounts SET balance = 0 WHERE id = $moved RETURNING id) SELECT * FROM w",
	}
	with := strings.NewReplacer("$moved", fmt.Sprint(f.moved), "$free", fmt.Sprint(f.free)).Replace
	conn := f.conn()
	f.exec("s0", fmt.Sprintf("INSERT INTO entries (account, id) VALUES (%d, 'there')", f.moved))
	for name, sql := range writes {
		if _, err := conn.Exec(f.ctx(), "BEGIN; "+with(sql)+"; ROLLBACK"); err != nil && name != "a partition" && name != "update of all" {
			t.Errorf("%s before the fence: %v", name, err)
		}
		_, _ = conn.Exec(f.ctx(), "ROLLBACK")
	}
	f.fence()
	refused := func(name string, err error, epoch string) {
		t.Helper()
		var server *pgconn.PgError
		if sqlState(err) != CodeFenced || !errors.As(err, &server) || server.Detail != epoch {
			t.Errorf("%s: got %v, want %s with %q", name, err, CodeFenced, epoch)
		}
	}
	for name, sql := range writes {
		_, err := conn.Exec(f.ctx(), "BEGIN; "+with(sql)+"; ROLLBACK")
		refused(name, err, "epoch 6")
		_, _ = conn.Exec(f.ctx(), "ROLLBACK")
	}
	_, err := conn.PgConn().CopyFrom(f.ctx(), strings.NewReader(fmt.Sprintf("%d\tcopied\n%d\tcopied\n", f.free, f.moved)), "COPY entries (account, id) FROM STDIN")
	refused("copy", err, "epoch 6")
	_, err = conn.Exec(f.ctx(), fmt.Sprintf("INSERT INTO entries (account, id) VALUES (%d, 'x')", f.foreign))
	refused("foreign", err, "epoch 9")
	for what, account := range map[string]int{"another group": f.other, "no group": f.free} {
		if _, err := conn.Exec(f.ctx(), fmt.Sprintf("UPDATE accounts SET balance = 1 WHERE id = %d", account)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, table := range []string{"accounts CASCADE", "entries", "entries_0"} {
		if _, err := conn.Exec(f.ctx(), "TRUNCATE "+table); sqlState(err) != "55006" {
			t.Errorf("TRUNCATE %s: %v", table, err)
		}
	}
	if _, err := conn.Exec(f.ctx(), fmt.Sprintf("SET session_replication_role = replica; UPDATE accounts SET balance = 7 WHERE id = %d", f.moved)); err != nil {
		t.Errorf("a stream: %v", err)
	}
}

func TestFenceIsSeenByOldSnapshotsAndWaitsForWriters(t *testing.T) {
	f := newFenced(t)
	old, writer := f.conn(), f.conn()
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(f.ctx(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM accounts")
	exec(writer, fmt.Sprintf("BEGIN; UPDATE accounts SET balance = 1 WHERE id = %d", f.moved))
	if err := f.m.turnOff(f.ctx(), "s0", 1, stateFenced, 6); sqlState(err) != codeLockTimeout {
		t.Fatalf("the fence did not wait for a writer: %v", err)
	}
	if got := f.value("s0", "SELECT last_value FROM pgtier.register_1"); got != "22" {
		t.Errorf("the register is %s after a fence that did not come through", got)
	}
	exec(writer, fmt.Sprintf("COMMIT; BEGIN; UPDATE accounts SET balance = 2 WHERE id = %d; PREPARE TRANSACTION '%s'", f.moved, f.dbs["s0"]))
	if err := f.m.turnOff(f.ctx(), "s0", 1, stateFenced, 6); sqlState(err) != codeLockTimeout {
		t.Fatalf("the fence did not wait for a prepared transaction: %v", err)
	}
	exec(writer, fmt.Sprintf("COMMIT PREPARED '%s'", f.dbs["s0"]))
	exec(writer, fmt.Sprintf("BEGIN; UPDATE accounts SET balance = 3 WHERE id = %d", f.other)) // of another group: in nobody's way
	f.fence()
	exec(writer, "COMMIT")
	if _, err := old.Exec(f.ctx(), fmt.Sprintf("INSERT INTO entries (account, id) VALUES (%d, 'old')", f.moved)); sqlState(err) != CodeFenced {
		t.Errorf("a transaction with an old snapshot: %v", err)
	}
}

func TestOnlyTheNewestMoverTurnsRegisters(t *testing.T) {
	f := newFenced(t)
	f.exec("s0", "SELECT pgtier.lead(8)")
	if err := f.m.turnRegister(f.ctx(), "s0", 1, 27, stateOwned); !superseded(err) {
		t.Errorf("a mover of before: %v", err)
	}
	f.m.job.generation = 8
	if err := f.m.turnRegister(f.ctx(), "s0", 1, 27, stateFenced); sqlState(err) != codeOtherState {
		t.Errorf("a register in another state: %v", err)
	}
	f.try(f.m.turnRegister(f.ctx(), "s0", 1, 27, stateOwned))
}
