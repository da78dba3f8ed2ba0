package stream

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/shard"
)

// deletePages is how many blocks one transaction of DeleteBuckets looks at: 4 MB, some ten thousand rows of 100 bytes.
const deletePages = 512

// DeleteBuckets deletes the rows of spans (of tables without a key: all rows) past triggers, foreign keys and guards, in small transactions. throttle (may be
// nil) is called after each with the number of rows that it deleted. Sessions that copy these tables and spans are ended before. It returns how many were deleted. No client may write to these rows
// meanwhile: where rows of them are updated, some may be left. The commits do not wait for the disk, except that of each table's end.
func DeleteBuckets(ctx context.Context, server Server, tables []*Table, spans []shard.Span, throttle func(ctx context.Context, rows int64) error) (int64, error) {
	conn, err := server.connectWriter(ctx)
	if err != nil {
		return 0, err
	}
	defer hangUp(conn)
	if err := evict(ctx, conn, claimKey(tables, spans)); err != nil {
		return 0, fmt.Errorf("%s: %w", server.Name, err)
	}
	total := int64(0)
	for _, t := range tables {
		for _, leaf := range t.Leaves {
			if err := deleteLeaf(ctx, conn, t, leaf, spans, throttle, &total); err != nil {
				return total, fmt.Errorf("%s: delete rows of %s: %w", server.Name, t, err)
			}
		}
	}
	return total, nil
}

// deleteLeaf goes once through the blocks of a leaf, up to where it ends when it gets there.
func deleteLeaf(ctx context.Context, conn *pgconn.PgConn, t *Table, leaf string, spans []shard.Span, throttle func(context.Context, int64) error, total *int64) error {
	for first := int64(0); ; first += deletePages {
		rows, err := query(ctx, conn, "SELECT pg_relation_size("+literal(leaf)+"::regclass) / "+strconv.Itoa(pageBytes))
		if err != nil {
			return err
		}
		pages, _ := strconv.ParseInt(string(rows[0][0]), 10, 64) // a bigint of the server
		last := pages <= first+deletePages
		sync := "off"
		if last {
			sync = "on"
		}
		p := piece{table: t, leaf: leaf, first: first, last: first + deletePages}
		rows, err = query(ctx, conn, "BEGIN; SET LOCAL synchronous_commit = "+sync+"; "+emitLocal+"; WITH gone AS (DELETE FROM ONLY "+leaf+" WHERE "+p.where(spans)+
			" RETURNING 1) SELECT count(*) FROM gone")
		if err != nil {
			return err
		}
		if _, err := query(ctx, conn, "COMMIT"); err != nil {
			return err
		}
		n, _ := strconv.ParseInt(string(rows[0][0]), 10, 64) // a bigint of the server
		*total += n
		if throttle != nil {
			if err := throttle(ctx, n); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// Count counts the rows of spans (of a table without a key: all).
func Count(ctx context.Context, server Server, table *Table, spans []shard.Span) (int64, error) {
	p := piece{table: table}
	rows, err := server.ask(ctx, "SELECT count(*) FROM "+table.sql()+" WHERE "+p.where(spans))
	if err != nil {
		return 0, fmt.Errorf("count rows of %s: %w", table, err)
	}
	n, err := strconv.ParseInt(string(rows[0][0]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("count rows of %s: %w", table, err)
	}
	return n, nil
}
