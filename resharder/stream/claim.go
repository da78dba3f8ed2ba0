package stream

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/shard"
)

// A session that copies rows holds an advisory lock on what it copies until it ends. Its client may be gone, with a COMMIT still on its way through
// the network: who deletes these rows, to copy them anew, first ends all such sessions, because what one of them commits later would be there twice.

// claimKey is the lock's key: of the tables and buckets, the same at copy and deletion. Two that differ and have one key disturb each other and do no harm.
func claimKey(tables []*Table, spans []shard.Span) uint64 {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.sql()
	}
	slices.Sort(names)
	h := fnv.New64a()
	fmt.Fprint(h, "pgtier move ", shard.SpansText(spans), names)
	return h.Sum64()
}

// claim takes the lock of a copy for as long as the session lasts.
func claim(ctx context.Context, conn *pgconn.PgConn, key uint64) error {
	if _, err := query(ctx, conn, fmt.Sprintf("SELECT pg_advisory_lock_shared(%d)", int64(key))); err != nil {
		return fmt.Errorf("lock what is copied: %w", err)
	}
	return nil
}

// evict ends all other sessions that have the lock, and takes it for as long as the session lasts.
func evict(ctx context.Context, conn *pgconn.PgConn, key uint64) error {
	holders := "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = " +
		strconv.FormatUint(key>>32, 10) + " AND objid = " + strconv.FormatUint(key&0xffffffff, 10) + " AND objsubid = 1 AND pid <> pg_backend_pid()"
	for {
		rows, err := query(ctx, conn, fmt.Sprintf("SELECT pg_try_advisory_lock(%d)", int64(key)))
		if err == nil && string(rows[0][0]) != "t" {
			_, err = query(ctx, conn, holders)
		} else if err == nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("end sessions that copy the rows: %w", mayNot(err, "they are of another role: end them by pg_terminate_backend"))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(busyRest):
		}
	}
}
