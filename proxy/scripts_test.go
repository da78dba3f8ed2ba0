package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router"
)

// ask runs a script's next part on a connection and returns the answer as text; an error with an SQLSTATE is an answer.
type ask func(ctx context.Context, c *pgx.Conn, mark string) (string, error)

// told turns an error of the server into an answer.
func told(out string, err error) (string, error) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return out + "ERROR " + pg.Code + " " + pg.Message + ";", nil
	}
	return out, err
}

func rowsText(results ...*pgconn.Result) (out string) {
	for _, r := range results {
		for _, row := range r.Rows {
			out += string(bytes.Join(row, []byte("|"))) + ";"
		}
		out += r.CommandTag.String() + ";"
	}
	return out
}

// settled stands in a script for the wait until the session's own past is known to be on a replica.
const settled = "~"

// throughProxy is the key of a context under which scripts run through a proxy: its value is the proxy.
type throughProxy struct{}

// through is a context for a script that runs through p.
func (p *running) through(t testing.TB) context.Context {
	t.Helper()
	return context.WithValue(bounded(t), throughProxy{}, p)
}

// untilReplica reads until a replica answers; on a connection without proxy it does nothing.
func untilReplica(ctx context.Context, c *pgx.Conn) error {
	p, ok := ctx.Value(throughProxy{}).(*running)
	if !ok {
		return nil
	}
	served := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	for before := served.Load(); served.Load() == before; {
		if _, err := c.PgConn().Exec(ctx, "SELECT 1").ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// insideReplica runs texts, which begin a transaction and read in it, until a replica serves that: a replica that has just served the
// session may be behind, or shown as down for a moment, when the transaction reads first.
func (p *running) insideReplica(t testing.TB, conn *pgx.Conn, texts ...string) {
	t.Helper()
	eventually(t, "a replica serves the transaction", func() bool {
		if _, err := steps(p.through(t), conn, append([]string{settled}, texts...)); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(mustValue(t, conn, "SHOW pgtier.last_route"), "replica") {
			return true
		}
		mustValue(t, conn, "ROLLBACK")
		return false
	})
}

// simple sends each text as a Query. "@" stands for the mark.
func simple(texts ...string) ask {
	return func(ctx context.Context, c *pgx.Conn, mark string) (out string, err error) {
		for _, text := range texts {
			if text == settled {
				if err := untilReplica(ctx, c); err != nil {
					return out, err
				}
				continue
			}
			results, err := c.PgConn().Exec(ctx, strings.ReplaceAll(text, "@", "/* "+mark+" */")).ReadAll()
			part, err := told(rowsText(results...), err)
			if err != nil {
				return out, err
			}
			out += part
		}
		return out, nil
	}
}

// extended runs each text by the extended protocol in a mode of pgx.
func extended(mode pgx.QueryExecMode, texts ...string) ask {
	return func(ctx context.Context, c *pgx.Conn, mark string) (out string, err error) {
		for _, text := range texts {
			args := []any{mode}
			if strings.Contains(text, "$1") {
				args = append(args, 1)
			}
			rows, err := c.Query(ctx, strings.ReplaceAll(text, "@", "/* "+mark+" */"), args...)
			if err == nil {
				for rows.Next() {
					values, _ := rows.Values()
					out += fmt.Sprint(values...) + ";"
				}
				rows.Close()
				err = rows.Err()
			}
			part, err := told(rows.CommandTag().String()+";", err)
			if err != nil {
				return out, err
			}
			out += part
		}
		return out, nil
	}
}

// piped sends all texts before it reads, with a Sync behind each, or only behind the last.
func piped(syncEach bool, texts ...string) ask {
	return func(ctx context.Context, c *pgx.Conn, mark string) (out string, err error) {
		p := c.PgConn().StartPipeline(ctx)
		for _, text := range texts {
			p.SendQueryParams(strings.ReplaceAll(text, "@", "/* "+mark+" */"), nil, nil, nil, nil)
			if syncEach {
				p.SendPipelineSync()
			}
		}
		if !syncEach {
			p.SendPipelineSync()
		}
		if err := p.Flush(); err != nil {
			return "", err
		}
		for {
			results, err := p.GetResults()
			if results == nil && err == nil {
				break
			}
			if reader, ok := results.(*pgconn.ResultReader); ok {
				r := reader.Read()
				out, err = told(out+rowsText(r), r.Err)
			} else {
				out, err = told(out, err)
			}
			if err != nil {
				return out, err
			}
		}
		return out, p.Close()
	}
}

func copyOut(text string) ask {
	return func(ctx context.Context, c *pgx.Conn, mark string) (string, error) {
		var b bytes.Buffer
		tag, err := c.PgConn().CopyTo(ctx, &b, strings.ReplaceAll(text, "@", "/* "+mark+" */"))
		return told(b.String()+tag.String(), err)
	}
}

// steps runs texts in turn, those that begin with "x:" by the extended protocol, and notes after each what the client sees:
// rows, tag or error, and the state of the transaction.
func steps(ctx context.Context, c *pgx.Conn, texts []string) (string, error) {
	var out strings.Builder
	for _, text := range texts {
		ask := simple(text)
		if sql, ok := strings.CutPrefix(text, "x:"); ok {
			ask = extended(pgx.QueryExecModeExec, sql)
		}
		answer, err := ask(ctx, c, "")
		if err != nil {
			return out.String(), err
		}
		out.WriteString(answer + string(c.PgConn().TxStatus()) + "\n")
	}
	return out.String(), nil
}
