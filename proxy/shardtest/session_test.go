package shardtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ask runs statements by the simple protocol and returns the last one's first value, or fails the test.
func ask(t testing.TB, c *client, sql string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	results, err := c.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if rows := results[len(results)-1].Rows; len(rows) > 0 {
		return string(rows[0][0])
	}
	return ""
}

// TestHintsNameTheShard holds SET pgtier.shard, SET pgtier.sharding_key and leading comments to what the shard itself says.
func TestHintsNameTheShard(t *testing.T) {
	r := newRig(t)
	sharded, err := connect(r.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer sharded.close()
	plain := &client{conn: r.loads[shardCount].conn}
	const count, lag = "SELECT count(*) FROM users", "SELECT sum(x) FROM (SELECT id % 1000 - lag(id % 1000) OVER (ORDER BY id) AS x FROM users) d"
	for i := range r.shards {
		direct := &client{conn: r.loads[i].conn}
		want, wantLag := ask(t, direct, count), ask(t, direct, lag)
		hint := fmt.Sprintf("SET pgtier.shard = 's%d'", i)
		ask(t, sharded, hint)
		for _, around := range []string{"", "BEGIN", "COMMIT"} {
			if around != "" {
				ask(t, sharded, around)
			}
			if got := ask(t, sharded, count); got != want {
				t.Errorf("after %s %s: %s gives %s, want %s", hint, around, count, got, want)
			}
			if got := ask(t, sharded, lag); got != wantLag {
				t.Errorf("after %s %s: %s gives %s, want %s", hint, around, lag, got, wantLag)
			}
		}
		ask(t, sharded, "RESET pgtier.shard")
		comment := fmt.Sprintf("/* pgtier: shard=s%d */ ", i)
		if got := ask(t, sharded, comment+count); got != want {
			t.Errorf("%s%s gives %s, want %s", comment, count, got, want)
		}
		if got, whole := ask(t, sharded, count), ask(t, plain, count); got != whole {
			t.Errorf("after the hint: %s gives %s, want %s", count, got, whole)
		}
	}
	users := tables()[2]
	for _, key := range []string{"42", "7", "-9223372036854775808"} {
		owner := ask(t, plain, fmt.Sprintf("SELECT %s FROM (VALUES (%s::bigint)) v (id)", users.owner(), "'"+key+"'"))
		want := ask(t, &client{conn: r.loads[owner[0]-'0'].conn}, count)
		ask(t, sharded, "SET pgtier.sharding_key = '"+key+"'")
		if got := ask(t, sharded, count); got != want {
			t.Errorf("with the sharding key %s: got %s, want %s of s%s", key, got, want, owner)
		}
		ask(t, sharded, "RESET pgtier.sharding_key")
	}
	for _, bad := range []string{"SET pgtier.shard = 's9'", "SET pgtier.nothing = 1"} {
		if o := sharded.run(&statement{sql: bad}, simpleText, &values{}); o.state() != "22023" && o.state() != "42704" {
			t.Errorf("%s: got %s, want 22023 or 42704", bad, errorText(o.err))
		}
	}
}

// TestParametersOfHavingNeedNoType sends what drivers send: parameters in binary, of the types that the server has told and nobody declared.
func TestParametersOfHavingNeedNoType(t *testing.T) {
	r := newRig(t)
	sharded, err := connect(r.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer sharded.close()
	for sql, value := range map[string][]byte{
		"SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) > $1 ORDER BY count(*), min(user_id)": {0, 0, 0, 0, 0, 0, 0, 50},
		"SELECT count(*) FROM users GROUP BY age HAVING max(age) < $1 ORDER BY max(age)":                           {0, 0, 0, 50},
		"SELECT count(*) FROM users GROUP BY age HAVING bool_or(active) = $1 ORDER BY max(age)":                    {1},
	} {
		answer := func(c *client) string {
			result := c.conn.ExecParams(context.Background(), sql, [][]byte{value}, nil, []int16{1}, nil).Read()
			return fmt.Sprintf("%q %v", result.Rows, result.Err)
		}
		if got, want := answer(sharded), answer(&client{conn: r.loads[shardCount].conn}); got != want || strings.HasPrefix(want, "[] ") {
			t.Errorf("%s: got %s, want %s", sql, got, want)
		}
	}
}

// TestGeneratedIdsNeverCollide has several clients insert rows without ids at once.
func TestGeneratedIdsNeverCollide(t *testing.T) {
	r := newRig(t)
	url := r.serve(t)
	const clients, inserts = 4, 25
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			c, err := connect(url)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.close()
			for i := range inserts {
				sql := []string{
					"INSERT INTO tickets (title, user_id) VALUES ('one', 1) RETURNING id",
					"INSERT INTO tickets (title) VALUES ('a'), ('b'), ('c') RETURNING id",
					"INSERT INTO tickets (id, title) VALUES (DEFAULT, 'default') RETURNING id",
				}[(i+n)%3]
				o := c.run(&statement{sql: sql}, simpleText, &values{})
				if o.err != nil || o.lost != nil {
					t.Errorf("%s: %s %v", sql, errorText(o.err), o.lost)
					return
				}
				mu.Lock()
				for _, row := range o.results[0].rows {
					seen[string(row[0])]++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for id, n := range seen {
		if n > 1 {
			t.Errorf("id %s was given %d times", id, n)
		}
	}
	total := 0
	for i := range r.shards {
		direct := &client{conn: r.loads[i].conn}
		var rows int
		if _, err := fmt.Sscan(ask(t, direct, "SELECT count(*) FROM tickets"), &rows); err != nil {
			t.Fatal(err)
		}
		total += rows
		if astray := ask(t, direct, fmt.Sprintf("SELECT count(*) FROM tickets WHERE %s <> %d", (&table{key: []string{"id"}, hash: "int"}).owner(), i)); astray != "0" {
			t.Errorf("s%d has %s tickets of other shards", i, astray)
		}
	}
	if before := 30; total != before+len(seen) {
		t.Errorf("there are %d tickets, want %d and the %d new ones", total, before, len(seen))
	}
}

// TestReadsHoldWhileMoneyMoves runs the corpus of reads by several clients at once while another moves money between
// accounts of different shards. No read looks at the money, so all must answer as ever; in the end no money is lost.
func TestReadsHoldWhileMoneyMoves(t *testing.T) {
	r, seed := newRig(t), seedOf(t)
	url := r.serve(t)
	p := newPair(t, r, nil)
	reads, err := readCorpus("reads")
	if err != nil {
		t.Fatal(err)
	}
	var statements []*statement
	var wants []outcome
	for _, file := range reads {
		under := false // what comes between SET and RESET needs its place
		for _, s := range file {
			if strings.HasPrefix(s.sql, "SET ") || strings.HasPrefix(s.sql, "RESET ") {
				under = s.sql[0] == 'S'
				continue
			}
			if under {
				continue
			}
			statements, wants = append(statements, s), append(wants, p.plain.run(s, simpleText, r.encoder.values(s)))
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var writer, readers sync.WaitGroup
	writer.Go(func() { moveMoney(ctx, t, url, seed) }) // ends with ctx
	const clients = 3
	for n := range clients {
		readers.Go(func() {
			c, err := connect(url)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.close()
			for _, i := range rand.New(rand.NewPCG(uint64(seed), uint64(n))).Perm(len(statements)) {
				s, want := statements[i], wants[i]
				got := c.run(s, simpleText, &values{})
				if got.refused() {
					continue
				}
				if d := differ(s, &want, &got); d != "" {
					t.Errorf("%s: %s", s, d)
					_ = c.again()
				}
			}
		})
	}
	readers.Wait()
	stop()
	writer.Wait()
	c, err := connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if got, want := ask(t, c, "SELECT sum(balance), count(*) FROM bank"), ask(t, p.plain, "SELECT sum(balance), count(*) FROM bank"); got != want {
		t.Errorf("the balances are %s, want %s", got, want)
	}
}

// moveMoney moves money inside transactions until ctx ends.
func moveMoney(ctx context.Context, t *testing.T, url string, seed int64) {
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Error(err)
		return
	}
	bounded, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	defer conn.Close(bounded)
	rng := rand.New(rand.NewPCG(uint64(seed), 1<<20))
	moved := 0
	for ; ctx.Err() == nil; moved++ {
		from, to, amount := 1+rng.IntN(40), 1+rng.IntN(40), rng.IntN(9)
		for _, sql := range []string{
			"BEGIN", fmt.Sprintf("UPDATE bank SET balance = balance - %d WHERE account = %d", amount, from),
			fmt.Sprintf("UPDATE bank SET balance = balance + %d WHERE account = %d", amount, to), "COMMIT",
		} {
			step, done := context.WithTimeout(context.Background(), stepLimit)
			_, err := conn.Exec(step, sql).ReadAll()
			done()
			if err != nil {
				t.Errorf("transfer %d: %s: %v", moved, sql, err)
				return
			}
		}
		time.Sleep(time.Millisecond) // to leave the machine to the readers
	}
	t.Logf("%d transfers", moved)
}
