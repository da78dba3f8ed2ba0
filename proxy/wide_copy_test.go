package proxy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestErrorsOfCopyTellTheClientsLine has rows of COPY refused: the client hears of the same line as of a server with all rows.
func TestErrorsOfCopyTellTheClientsLine(t *testing.T) {
	t.Parallel()
	_, p, whole := newTalk(t, nil)
	c, plain := p.client(t), whole.client(t)
	rows := func(format string, n int) string {
		out := &strings.Builder{}
		for i := range n {
			_, _ = fmt.Fprintf(out, format, 100+i)
		}
		return out.String()
	}
	context := func(c *pgx.Conn, sql, data string) (message, where string) {
		_, err := c.PgConn().CopyFrom(bounded(t), strings.NewReader(data), sql)
		var e *pgconn.PgError
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", sql, err)
		}
		return e.Code + " " + e.Message, e.Where
	}
	for _, tc := range []struct{ sql, data string }{
		{"COPY accounts FROM STDIN", rows("%d\tx\t1\n", 40) + "140\tx\tmany\n" + rows("9%d\tx\t1\n", 40)},
		{"COPY accounts FROM STDIN", rows("%d\tx\t1\n", 40) + "140\tx\n"},
		{"COPY accounts FROM STDIN", rows("%d\tx\\\ny\t1\n", 40) + "140\tx\t1\t1\n"},
		{"COPY accounts FROM STDIN", rows("%d\tx\t1\n", 3000) + "3140\tx\t-1\n" + rows("9%d\tx\t1\n", 40)},
		{"COPY accounts FROM STDIN", rows("%d\tx\t1\n", 40) + "110\tx\t1\n"},
		{"COPY accounts FROM STDIN WITH CSV HEADER", "id,owner,balance\n" + rows("%d,\"x\ny\nz\",1\n", 40) + "140,x,many"},
		{"COPY accounts FROM STDIN WITH CSV", rows("%d,\"x\r\ny\",1\r\n", 40) + "140,\"x, line 7\",many, line 9\r\n"},
		{"COPY accounts FROM STDIN WITH CSV", rows("%d,x,1\n", 40) + "140,x,\"COPY a, line 3\nCOPY b, line 4\"\n"},
	} {
		wantMessage, want := context(plain, tc.sql, tc.data)
		message, got := context(c, tc.sql, tc.data)
		if got != want || message != wantMessage || want == "" {
			t.Errorf("%s of %.40q:\n got %q, %q\nwant %q, %q", tc.sql, tc.data, message, got, wantMessage, want)
		}
	}
	wantValue(t, c, "SELECT count(*) FROM accounts", "30")
}
