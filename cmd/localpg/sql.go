package localpg

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Exec runs SQL, one statement or several, as the superuser over the Unix socket, where no password and no access rule
// stands in the way.
func (s *Server) Exec(ctx context.Context, database, sql string) error {
	_, err := s.run(ctx, database, sql)
	return err
}

// Value runs SQL as Exec does and returns the first column of the last result's first row as text; "" when that is
// NULL or missing.
func (s *Server) Value(ctx context.Context, database, sql string) (string, error) {
	results, err := s.run(ctx, database, sql)
	if err != nil {
		return "", err
	}
	if len(results) == 0 {
		return "", nil
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 || len(last.Rows[0]) == 0 {
		return "", nil
	}
	return string(last.Rows[0][0]), nil
}

func (s *Server) run(ctx context.Context, database, sql string) ([]*pgconn.Result, error) {
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable application_name=localpg",
		quoteConninfo(s.SocketDir), s.Port, quoteConninfo(s.cluster.Superuser), quoteConninfo(database)))
	if err != nil {
		return nil, fmt.Errorf("%s: connect: %w", s.Name, err)
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		err = fmt.Errorf("%s: run %q: %w", s.Name, sql, err)
	}
	// The answer is here; a goodbye that fails takes nothing from it.
	_ = conn.Close(ctx)
	return results, err
}

// awaitTrue asks until the answer is true. An error counts as "not yet": the server may just be starting. When ctx
// ends, the last error or answer is part of the returned one.
func (s *Server) awaitTrue(ctx context.Context, question string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		answer, err := s.Value(ctx, "postgres", question)
		if err == nil && answer == "t" {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return fmt.Errorf("%w: %w", context.Cause(ctx), err)
			}
			return fmt.Errorf("%w: the answer is still %q", context.Cause(ctx), answer)
		case <-ticker.C:
		}
	}
}
