package proxy_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
)

// openPQ returns a database/sql pool of lib/pq.
func openPQ(t testing.TB, dsn string, connections int) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(connections)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestLibPQStatementsAndTransactions(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE item (client int, n int, name text)")
	p := narrow(t, r, 2)
	ctx := bounded(t)
	db := openPQ(t, p.dsn("postgres", ""), crowd)
	statement, err := db.PrepareContext(ctx, "INSERT INTO item VALUES ($1, $2, $3) RETURNING n * 2")
	if err != nil {
		t.Fatal(err)
	}
	defer statement.Close()
	together(func(client int) {
		for n := range 20 {
			var twice int
			if err := statement.QueryRowContext(ctx, client, n, "it's").Scan(&twice); err != nil || twice != n*2 {
				t.Errorf("client %d: got %d, %v, want %d", client, twice, err, n*2)
				return
			}
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := tx.StmtContext(ctx, statement).ExecContext(ctx, client, -n, "undone"); err != nil {
				t.Error(err)
			}
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
		}
		_, err := db.ExecContext(ctx, "INSERT INTO item VALUES ($1, $2)", "not a number", 1)
		var refused *pq.Error
		if !errors.As(err, &refused) || refused.Code != "22P02" {
			t.Errorf("got %v, want SQLSTATE 22P02", err)
		}
	})
	var rows, undone int
	err = db.QueryRowContext(ctx, "SELECT count(*), count(*) FILTER (WHERE name = 'undone') FROM item").Scan(&rows, &undone)
	if err != nil || rows != crowd*20 || undone != 0 {
		t.Errorf("got %d rows, %d undone, %v; want %d and 0", rows, undone, err, crowd*20)
	}
}

func TestLibPQCopy(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE copied (client int, body text)")
	p := narrow(t, r, 1)
	ctx := bounded(t)
	db := openPQ(t, p.dsn("postgres", ""), crowd)
	together(func(client int) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer tx.Rollback()
		copied, err := tx.PrepareContext(ctx, "COPY copied (client, body) FROM STDIN")
		if err != nil {
			t.Error(err)
			return
		}
		for range 1000 {
			if _, err := copied.ExecContext(ctx, client, strings.Repeat("b", 50)); err != nil {
				t.Error(err)
				return
			}
		}
		if _, err := copied.ExecContext(ctx); err != nil {
			t.Error(err)
		}
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	})
	if got := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM copied"); got != fmt.Sprint(crowd*1000) {
		t.Errorf("got %s rows, want %d", got, crowd*1000)
	}
}

func TestLibPQListener(t *testing.T) {
	p := narrow(t, newRig(t), 1)
	listener := pq.NewListener(p.dsn("postgres", ""), time.Second, limit, nil)
	defer listener.Close()
	for _, channel := range []string{"news", "Mixed Case"} {
		if err := listener.Listen(channel); err != nil {
			t.Fatal(err)
		}
	}
	c := p.client(t)
	for _, channel := range []string{"news", "Mixed Case", "unheard"} {
		mustValue(t, c, fmt.Sprintf("SELECT pg_notify('%s', 'to %s')", channel, channel))
	}
	for _, want := range []string{"news", "Mixed Case"} {
		select {
		case got := <-listener.Notify:
			if got == nil || got.Channel != want || got.Extra != "to "+want {
				t.Errorf("got %+v, want a notification of %q", got, want)
			}
		case <-time.After(limit):
			t.Fatalf("no notification of %q within %s", want, limit)
		}
	}
	if err := listener.Ping(); err != nil {
		t.Error(err)
	}
	if err := listener.UnlistenAll(); err != nil {
		t.Error(err)
	}
}

func TestLibPQCancelsOverTLS(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Pool.Size = 1
		certificates := r.cluster.Certificates
		cfg.TLS.Client = wire.TLSConfig{Mode: wire.TLSRequire, Cert: certificates.ServerCert, Key: certificates.ServerKey}
	})
	db := openPQ(t, p.dsn("postgres", "", "sslmode=require"), 2)
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	began := time.Now()
	_, err := db.ExecContext(ctx, "SELECT pg_sleep(600)")
	if err == nil || time.Since(began) > limit {
		t.Errorf("cancelled query: got %v after %s", err, time.Since(began))
	}
	var one int
	if err := db.QueryRowContext(bounded(t), "SELECT $1::int", 1).Scan(&one); err != nil || one != 1 {
		t.Errorf("after a cancel: got %d, %v", one, err)
	}
	plain := openPQ(t, p.dsn("postgres", ""), 1)
	if err := plain.PingContext(bounded(t)); err == nil {
		t.Error("a client without TLS was let in")
	}
}
