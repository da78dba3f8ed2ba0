package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
)

// TestStrictLevelsStayOnOneShard has transactions ask for more than several shards give together: they are refused when they
// come to the second, however they ask.
func TestStrictLevelsStayOnOneShard(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	ids := s.ids(t)
	const one, other, wide = "UPDATE accounts SET owner = 'l' WHERE id = {a}", "UPDATE accounts SET owner = 'l' WHERE id = {b}", "SELECT count(*) FROM accounts"
	for _, tc := range []struct {
		lines []string // the last one is refused
		level string   // "" none
	}{
		{[]string{"BEGIN ISOLATION LEVEL REPEATABLE READ", one, other}, "REPEATABLE READ"},
		{[]string{"START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY, DEFERRABLE", wide}, "SERIALIZABLE"},
		{[]string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY -- as pg_dump", wide}, "REPEATABLE READ"},
		{[]string{"BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", one, other}, "SERIALIZABLE"},
		{[]string{"BEGIN", "SET LOCAL work_mem = '5MB'", "SET transaction_isolation = 'repeatable read'", wide}, "REPEATABLE READ"},
		{[]string{"SET default_transaction_isolation = 'repeatable read'", wide}, "REPEATABLE READ"},
		{[]string{"SET default_transaction_isolation = 'repeatable read'", "UPDATE accounts SET owner = 'l'"}, "REPEATABLE READ"},
		{[]string{"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN", one, other}, "SERIALIZABLE"},
		{[]string{"SET default_transaction_isolation = 'serializable'", "COPY accounts TO STDOUT"}, "SERIALIZABLE"},
		{[]string{"SET default_transaction_isolation = 'serializable'", "COPY accounts FROM STDIN"}, "SERIALIZABLE"},
		{[]string{"BEGIN ISOLATION LEVEL SERIALIZABLE", one, "COMMIT AND CHAIN", wide}, "SERIALIZABLE"},
		{[]string{"BEGIN ISOLATION LEVEL SERIALIZABLE", one, "SELECT owner FROM accounts WHERE id = {a}", "COMMIT"}, ""},
		{[]string{"SET default_transaction_isolation = 'serializable'", one, "SELECT owner FROM accounts WHERE id = {b}"}, ""},
		{[]string{"SET default_transaction_isolation = 'serializable'", "BEGIN ISOLATION LEVEL READ COMMITTED", one, other, wide, "COMMIT"}, ""},
		{[]string{"BEGIN ISOLATION LEVEL READ UNCOMMITTED", one, other, wide, "COMMIT"}, ""},
	} {
		c := p.rawDial(t, wire.Protocol30)
		for i, line := range tc.lines {
			c.write(t, wire.AppendQuery(nil, ids.Replace(line)))
			heard, err := c.told(limit)
			if err != nil {
				t.Fatal(err)
			}
			refused := strings.Contains(heard, "E:0A000")
			if want := tc.level != "" && i == len(tc.lines)-1; refused != want || !want && strings.Contains(heard, "E:") {
				t.Errorf("%q, line %d: heard %s", tc.lines, i, heard)
			}
		}
		_ = c.nc.Close()
	}
	c := p.client(t)
	mustExec(t, c, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	mustExec(t, c, ids.Replace(one))
	_, err := c.Exec(bounded(t), wide)
	wantError(t, err, "0A000", "isolation level REPEATABLE READ is not supported across shards")
	_, err = c.Exec(bounded(t), "SELECT 1")
	wantError(t, err, "25P02", "current transaction is aborted")
	mustExec(t, c, "ROLLBACK")
	wantValue(t, c, wide, "30")
}

// TestStrictLevelsOfTheServersAreSeen has the servers, or one of them, give transactions a level by default.
func TestStrictLevelsOfTheServersAreSeen(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	pgtest.Exec(t, s.cluster.Shards[0].Manager, "postgres", "ALTER DATABASE "+s.database+" SET default_transaction_isolation = 'repeatable read'")
	s.terminate(t, 0, "backend_type = 'client backend'")
	for range 3 {
		c := p.client(t)
		_, err := c.Exec(bounded(t), "SELECT count(*) FROM accounts")
		wantError(t, err, "0A000", "isolation level REPEATABLE READ")
		_, err = c.Exec(bounded(t), "UPDATE accounts SET owner = 'l'")
		wantError(t, err, "0A000", "isolation level REPEATABLE READ")
		for _, ids := range [][]int{{a, b}, {b, a}} {
			mustExec(t, c, "BEGIN")
			mustExec(t, c, fmt.Sprintf("UPDATE accounts SET owner = 'l' WHERE id = %d", ids[0]))
			_, err = c.Exec(bounded(t), fmt.Sprintf("UPDATE accounts SET owner = 'l' WHERE id = %d", ids[1]))
			wantError(t, err, "0A000", "isolation level REPEATABLE READ")
			mustExec(t, c, "ROLLBACK")
		}
	}
}
