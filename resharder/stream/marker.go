package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// MessagePrefix is that of our logical messages.
const MessagePrefix = "pgtier"

const (
	// contentLocal stands in transactions that no stream carries on.
	contentLocal = "local"
	// contentMarker begins a marker; its name follows.
	contentMarker = "marker "
	// emitLocal marks the transaction it is the first statement of.
	emitLocal = "SELECT pg_catalog.pg_logical_emit_message(true, '" + MessagePrefix + "', '" + contentLocal + "')"
)

// NewMarker returns a marker's name that was never used.
func NewMarker() string {
	var random [16]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// Emit writes a marker into the source's log, in the transaction that is open on conn, or in one of its own. When Applier.Await has seen it, all
// transactions that committed before it are applied at the target, and all of its own transaction. It assigns a transaction id.
func Emit(ctx context.Context, conn *pgconn.PgConn, marker string) error {
	if _, err := query(ctx, conn, EmitSQL(marker)); err != nil {
		return fmt.Errorf("emit marker: %w", err)
	}
	return nil
}

// EmitSQL is the statement of Emit, for who sends several statements in one message.
func EmitSQL(marker string) string {
	return "SELECT pg_catalog.pg_logical_emit_message(true, '" + MessagePrefix + "', " + literal(contentMarker+marker) + ")"
}
