package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// crowd is the number of clients in tests that make statements change connections: several to each server connection.
const crowd = 6

// together runs act once for each client of a crowd, at the same time, and waits for all.
func together(act func(n int)) {
	var all sync.WaitGroup
	for n := range crowd {
		all.Go(func() { act(n) })
	}
	all.Wait()
}

// narrow starts a proxy with fewer server connections than a crowd has clients.
func narrow(t testing.TB, r *rig, size int) *running {
	t.Helper()
	return r.serve(t, func(cfg *proxy.Config) { cfg.Pool.Size = size })
}

func TestPgxInEveryExecMode(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE rows (client int, n int, at timestamptz, tags text[], PRIMARY KEY (client, n))")
	p := narrow(t, r, 2)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			pgtest.Exec(t, r.manager, r.database, "TRUNCATE rows")
			together(func(client int) {
				config, err := pgx.ParseConfig(p.dsn("postgres", ""))
				if err != nil {
					t.Error(err)
					return
				}
				config.DefaultQueryExecMode = mode
				ctx := bounded(t)
				c, err := pgx.ConnectConfig(ctx, config)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close(ctx)
				if err := workRows(ctx, c, client); err != nil {
					t.Errorf("client %d: %v", client, err)
				}
			})
		})
	}
}

// workRows writes, reads, fails and rolls back as an application does.
func workRows(ctx context.Context, c *pgx.Conn, client int) error {
	at := time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC)
	for n := range 10 {
		tags := []string{fmt.Sprint("tag ", n), `quoted "\ tag`}
		if _, err := c.Exec(ctx, "INSERT INTO rows VALUES ($1, $2, $3, $4)", client, n, at, tags); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		var gotAt time.Time
		var gotTags []string
		if err := c.QueryRow(ctx, "SELECT at, tags FROM rows WHERE client = $1 AND n = $2", client, n).Scan(&gotAt, &gotTags); err != nil {
			return fmt.Errorf("select: %w", err)
		}
		if !gotAt.Equal(at) || !slices.Equal(gotTags, tags) {
			return fmt.Errorf("row %d: got %s %q, want %s %q", n, gotAt, gotTags, at, tags)
		}
		_, err := c.Exec(ctx, "INSERT INTO rows VALUES ($1, $2, $3, $4)", client, n, at, tags)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "23505" {
			return fmt.Errorf("duplicate: got %w, want SQLSTATE 23505", err)
		}
		if err := undo(ctx, c, client); err != nil {
			return err
		}
		if err := sendBatch(ctx, c, client, n); err != nil {
			return err
		}
	}
	rows, err := c.Query(ctx, "SELECT n FROM rows WHERE client = $1 ORDER BY n", client)
	if err != nil {
		return fmt.Errorf("select all: %w", err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(got) != 10 {
		return fmt.Errorf("select all: got %v, %w", got, err)
	}
	return nil
}

// undo deletes inside a transaction and a savepoint of it, and rolls back.
func undo(ctx context.Context, c *pgx.Conn, client int) error {
	tx, err := c.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(ctx)
	nested, err := tx.Begin(ctx)
	if err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	if _, err := nested.Exec(ctx, "SELECT 1/$1::int", 0); err == nil {
		return errors.New("division by zero succeeded")
	}
	if err := nested.Rollback(ctx); err != nil {
		return fmt.Errorf("roll back to savepoint: %w", err)
	}
	if _, err := tx.Exec(ctx, "DELETE FROM rows WHERE client = $1", client); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return tx.Rollback(ctx)
}

// sendBatch sends several statements at once, then a batch whose second statement fails and undoes the first.
func sendBatch(ctx context.Context, c *pgx.Conn, client, n int) error {
	var good pgx.Batch
	for i := range 5 {
		good.Queue("SELECT $1::int + $2::int", i, n)
	}
	results := c.SendBatch(ctx, &good)
	for i := range 5 {
		var sum int
		if err := results.QueryRow().Scan(&sum); err != nil || sum != i+n {
			return fmt.Errorf("batch: got %d, %w, want %d", sum, err, i+n)
		}
	}
	if err := results.Close(); err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	var bad pgx.Batch
	bad.Queue("DELETE FROM rows WHERE client = $1", client)
	bad.Queue("SELECT 1/$1::int", 0)
	bad.Queue("SELECT $1::text", "skipped")
	if err := c.SendBatch(ctx, &bad).Close(); err == nil {
		return errors.New("batch with a division by zero succeeded")
	}
	return nil
}

func TestPgxPoolOverFewerServerConnections(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE account (id int PRIMARY KEY, cents int); INSERT INTO account SELECT i, 1000 FROM generate_series(1, 10) i")
	p := narrow(t, r, 2)
	ctx := bounded(t)
	pool, err := pgxpool.New(ctx, p.dsn("postgres", "")+" pool_max_conns=8")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	together(func(n int) {
		for i := range 20 {
			err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				from, to := 1+(n+i)%10, 1+(n+i*3)%10
				if _, err := tx.Exec(ctx, "SELECT FROM account WHERE id IN ($1, $2) ORDER BY id FOR UPDATE", from, to); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, "UPDATE account SET cents = cents - $1 WHERE id = $2", i, from); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "UPDATE account SET cents = cents + $1 WHERE id = $2", i, to)
				return err
			})
			if err != nil {
				t.Errorf("transfer: %v", err)
			}
		}
	})
	if got := pgtest.Value(t, r.manager, r.database, "SELECT sum(cents) FROM account"); got != "10000" {
		t.Errorf("sum after transfers: got %s, want 10000", got)
	}
	// The pool's two, and the proxy's own watch of the catalog.
	if got := r.connections(t, "true"); !slices.Contains([]string{"1", "2", "3"}, got) {
		t.Errorf("server connections: got %s, want at most 3", got)
	}
}

func TestPgxStatementNamesBelongToTheClient(t *testing.T) {
	p := narrow(t, newRig(t), 2)
	together(func(n int) {
		c, ctx := p.client(t), bounded(t)
		if _, err := c.Prepare(ctx, "same name", fmt.Sprintf("SELECT %d + $1::int", n*100)); err != nil {
			t.Error(err)
			return
		}
		for i := range 50 {
			var got int
			if err := c.QueryRow(ctx, "same name", i).Scan(&got); err != nil || got != n*100+i {
				t.Errorf("client %d: got %d, %v, want %d", n, got, err, n*100+i)
				return
			}
		}
		if err := c.Deallocate(ctx, "same name"); err != nil {
			t.Error(err)
		}
		_, err := c.PgConn().ExecPrepared(ctx, "same name", [][]byte{[]byte("1")}, nil, nil).Close()
		wantError(t, err, "26000", `prepared statement "same name" does not exist`)
	})
}

// pgx keeps descriptions of its statements; after a change of the table it must recover as it does directly: by itself
// or after the one error that PostgreSQL gives.
func TestPgxStatementCacheAcrossDDL(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE growing (a int); INSERT INTO growing VALUES (1)")
	p := narrow(t, r, 2)
	clients := make([]*pgx.Conn, crowd)
	for n := range clients {
		clients[n] = p.client(t)
	}
	ctx := bounded(t)
	for width := 1; width < 4; width++ {
		for n, c := range clients {
			for attempt := 0; ; attempt++ {
				rows, err := c.Query(ctx, "SELECT * FROM growing")
				if err == nil {
					var values []any
					if rows.Next() {
						values, err = rows.Values()
					}
					rows.Close()
					if err = errors.Join(err, rows.Err()); err == nil && len(values) != width {
						t.Errorf("client %d: got %d columns, want %d", n, len(values), width)
					}
				}
				if err == nil {
					break
				}
				if attempt > 0 || !strings.Contains(err.Error(), "cached plan must not change result type") {
					t.Fatalf("client %d, attempt %d with %d columns: %v", n, attempt, width, err)
				}
			}
		}
		if _, err := clients[width%crowd].Exec(ctx, fmt.Sprintf("ALTER TABLE growing ADD COLUMN c%d int", width)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPgxPipelines(t *testing.T) {
	p := narrow(t, newRig(t), 2)
	together(func(n int) {
		c, ctx := p.client(t), bounded(t)
		for range 10 {
			if err := pipeline(ctx, c.PgConn(), n); err != nil {
				t.Errorf("client %d: %v", n, err)
				return
			}
		}
	})
}

// pipeline sends three requests before it reads: a good one, one that fails half way, and a good one.
func pipeline(ctx context.Context, c *pgconn.PgConn, n int) error {
	text := fmt.Sprint(n)
	pipe := c.StartPipeline(ctx)
	pipe.SendPrepare("piped", "SELECT $1::int * 2", nil)
	pipe.SendQueryPrepared("piped", [][]byte{[]byte(text)}, nil, nil)
	pipe.SendPipelineSync()
	pipe.SendQueryParams("SELECT $1::int", [][]byte{[]byte(text)}, nil, nil, nil)
	pipe.SendQueryParams("SELECT 1/0", nil, nil, nil, nil)
	pipe.SendQueryPrepared("piped", [][]byte{[]byte("7")}, nil, nil)
	pipe.SendPipelineSync()
	pipe.SendQueryPrepared("piped", [][]byte{[]byte("8")}, nil, nil)
	pipe.SendDeallocate("piped")
	if err := pipe.Sync(); err != nil {
		return fmt.Errorf("send pipeline: %w", err)
	}
	var got []string
	for syncs := 0; syncs < 3; {
		result, err := pipe.GetResults()
		if read, ok := result.(*pgconn.ResultReader); ok {
			row := read.Read()
			if err = row.Err; err == nil {
				got = append(got, string(row.Rows[0][0]))
				continue
			}
		}
		var refused *pgconn.PgError
		switch result.(type) {
		case *pgconn.StatementDescription:
			got = append(got, "prepared")
		case *pgconn.CloseComplete:
			got = append(got, "closed")
		case *pgconn.PipelineSync:
			got = append(got, "sync")
			syncs++
		default:
			if !errors.As(err, &refused) {
				return fmt.Errorf("read pipeline after %q: %T, %w", got, result, err)
			}
			got = append(got, refused.Code)
		}
	}
	want := []string{"prepared", fmt.Sprint(n * 2), "sync", text, "22012", "sync", "16", "closed", "sync"}
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return pipe.Close()
}

func TestPgxCopy(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE loaded (client int, n int, body text, UNIQUE (client, n))")
	p := narrow(t, r, 2)
	together(func(client int) {
		c, ctx := p.client(t), bounded(t)
		source := func(n, failAt int) pgx.CopyFromSource {
			i := -1
			return pgx.CopyFromFunc(func() ([]any, error) {
				i++
				switch i {
				case n:
					return nil, nil
				case failAt:
					return nil, errors.New("the source failed")
				}
				return []any{client, i, strings.Repeat("x", i%100)}, nil
			})
		}
		table, columns := pgx.Identifier{"loaded"}, []string{"client", "n", "body"}
		if n, err := c.CopyFrom(ctx, table, columns, source(5000, -1)); err != nil || n != 5000 {
			t.Errorf("client %d: copied %d, %v", client, n, err)
			return
		}
		_, err := c.CopyFrom(ctx, table, columns, source(3000, -1))
		wantError(t, err, "23505", "duplicate key")
		if _, err := c.CopyFrom(ctx, table, columns, source(3000, 2000)); err == nil {
			t.Error("a copy whose source failed succeeded")
		}
		_, err = c.CopyFrom(ctx, pgx.Identifier{"no_such_table"}, columns, source(1, -1))
		wantError(t, err, "42P01", "no_such_table")
		var out strings.Builder
		tag, err := c.PgConn().CopyTo(ctx, &out, fmt.Sprintf("COPY (SELECT n FROM loaded WHERE client = %d) TO STDOUT", client))
		if err != nil || tag.RowsAffected() != 5000 || strings.Count(out.String(), "\n") != 5000 {
			t.Errorf("client %d: copied out %s, %d lines, %v", client, tag, strings.Count(out.String(), "\n"), err)
		}
	})
}

func TestPgxListensWhileNeighboursWork(t *testing.T) {
	p := narrow(t, newRig(t), 1)
	listener, ctx := p.client(t), bounded(t)
	for _, channel := range []string{"first", "second", "third"} {
		if _, err := listener.Exec(ctx, "LISTEN "+channel); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := listener.Exec(ctx, "UNLISTEN second"); err != nil {
		t.Fatal(err)
	}
	together(func(n int) {
		c := p.client(t)
		for _, channel := range []string{"first", "second", "third"} {
			if _, err := c.Exec(ctx, "SELECT pg_notify($1, $2)", channel, fmt.Sprint(n)); err != nil {
				t.Error(err)
			}
		}
	})
	got := map[string]int{}
	for range 2 * crowd {
		n, err := listener.WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got[n.Channel]++
	}
	if got["first"] != crowd || got["third"] != crowd {
		t.Errorf("got %v, want %d of first and third", got, crowd)
	}
	wantValue(t, listener, "SELECT 'still works'", "still works")
}

func TestPgxLargeObjects(t *testing.T) {
	p := narrow(t, newRig(t), 2)
	together(func(n int) {
		c, ctx := p.client(t), bounded(t)
		body := strings.Repeat(fmt.Sprintf("client %d;", n), 5000)
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			objects := tx.LargeObjects()
			oid, err := objects.Create(ctx, 0)
			if err != nil {
				return err
			}
			object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
			if err != nil {
				return err
			}
			if _, err := object.Write([]byte(body)); err != nil {
				return err
			}
			if _, err := object.Seek(0, io.SeekStart); err != nil {
				return err
			}
			got, err := io.ReadAll(object)
			if err == nil && string(got) != body {
				err = fmt.Errorf("got %d bytes, want %d", len(got), len(body))
			}
			return err
		})
		if err != nil {
			t.Errorf("client %d: %v", n, err)
		}
	})
}

// A cancelled query ends at the server, its connection serves others, and no neighbour's query is hit.
func TestPgxCancelHitsOnlyItsOwnQuery(t *testing.T) {
	r := newRig(t)
	p := narrow(t, r, 2)
	together(func(n int) {
		for i := range 4 {
			c := p.client(t)
			if (n+i)%2 == 0 {
				if got, err := value(c, "SELECT 'quiet' FROM pg_sleep(0.05)"); err != nil || got != "quiet" {
					t.Errorf("a neighbour of cancelled queries got %q, %v", got, err)
				}
				continue
			}
			ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
			_, err := c.Exec(ctx, "SELECT pg_sleep(60)")
			stop()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("cancelled query: got %v", err)
			}
		}
	})
	eventually(t, "no query sleeps on", func() bool {
		return r.connections(t, "state = 'active' AND query LIKE '%pg_sleep(60)'") == "0"
	})
	wantValue(t, p.client(t), "SELECT 1", "1")
}

// A DEALLOCATE ALL in the middle of a pipeline, as psycopg sends it, is the client's own business.
func TestDeallocateAllInAPipelineSparesNeighbours(t *testing.T) {
	p := narrow(t, newRig(t), 1)
	neighbour, c, ctx := p.client(t), p.client(t), bounded(t)
	if _, err := neighbour.Prepare(ctx, "mine", "SELECT 'still here'"); err != nil {
		t.Fatal(err)
	}
	pipe := c.PgConn().StartPipeline(ctx)
	pipe.SendQueryParams("DEALLOCATE ALL", nil, nil, nil, nil)
	pipe.SendFlushRequest()
	if err := pipe.Flush(); err != nil {
		t.Fatal(err)
	}
	result, err := pipe.GetResults()
	if err != nil {
		t.Fatal(err)
	}
	if read, ok := result.(*pgconn.ResultReader); ok {
		if _, err := read.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(pipe.Sync(), pipe.Close()); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := neighbour.QueryRow(ctx, "mine").Scan(&got); err != nil || got != "still here" {
		t.Errorf("got %q, %v", got, err)
	}
}
