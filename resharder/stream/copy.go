package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/shard"
)

const (
	// defaultStreams: two gave 347,000 rows a second on two cores, four 367,000.
	defaultStreams = 2
	// pieceBytes is how much of a table one COPY reads, and one transaction copies: small enough to spread a big table over the streams, large enough that a
	// transaction for each costs nothing.
	pieceBytes = 128 << 20
	// pageBytes is PostgreSQL's block size unless it was compiled otherwise; only the size of pieces depends on it.
	pageBytes = 8192
	// copyBuffer is the most that Throttle is told of at once, larger rows excepted; pgconn sends as much in one message.
	copyBuffer = 64 << 10
)

// Progress is how far a copy is. Expected is an estimate of all there is to read, Bytes and Rows what has been read of it and written.
type Progress struct{ Rows, Bytes, ExpectedRows, ExpectedBytes int64 }

// Copy copies rows from one snapshot of the source to the target. Fill its fields, then Run it once.
type Copy struct {
	Source, Target Server
	// Tables are the source's. Spans are for those with a key; others are copied whole.
	Tables []*Table
	Spans  []shard.Span
	// Snapshot is the Slot's; the Slot must stay open until Run returns.
	Snapshot string
	// Streams is how many copies run at once; 0 is 2.
	Streams int
	// PieceBytes is how much of a table one transaction copies, about; 0 is 128 MiB. Streams share the pieces.
	PieceBytes int64
	// Throttle is called after each so many bytes, from several goroutines, and may wait; nil: full speed. Its error ends the copy.
	Throttle func(ctx context.Context, bytes int) error
	// Finish runs in the last transaction at the target, which is durable, with all before it, when Run returns nil. nil: nothing more.
	// Triggers and guards do not fire in it, and it must not end the transaction.
	Finish func(ctx context.Context, conn *pgconn.PgConn) error
	// Owned is how many buckets the source's rows are in, for estimates; 0 is all.
	Owned int

	rows, bytes atomic.Int64
}

// Progress may be asked from any goroutine.
func (c *Copy) Progress() Progress {
	p := Progress{Rows: c.rows.Load(), Bytes: c.bytes.Load()}
	for _, t := range c.Tables {
		rows, bytes := t.Rows, t.Bytes
		if t.Key != nil {
			of := c.Owned
			if of == 0 {
				of = t.Key.Buckets()
			}
			rows, bytes = share(rows, c.Spans, of), share(bytes, c.Spans, of)
		}
		p.ExpectedRows += rows
		p.ExpectedBytes += bytes
	}
	return p
}

// share is the part of n that the spans' buckets have of so many.
func share(n int64, spans []shard.Span, of int) int64 {
	buckets := 0
	for _, s := range spans {
		buckets += int(s.Last) - int(s.First) + 1
	}
	return int64(float64(n) * float64(buckets) / float64(of))
}

// piece is what one COPY reads: the blocks first to last-1 of a leaf, or all from first on.
type piece struct {
	table       *Table
	leaf        string
	first, last int64 // last 0: to the end
}

// Run copies. Each table is read once, whatever the number of buckets. After an error rows may have stayed at the target, or
// be committed there by a session that lives on: DeleteBuckets ends those and removes the rows.
func (c *Copy) Run(ctx context.Context) error {
	pieces, err := c.pieces(ctx)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	streams := c.Streams
	if streams <= 0 {
		streams = defaultStreams
	}
	if err := c.copyAll(ctx, pieces, min(streams, len(pieces))); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := c.finish(ctx); err != nil {
		return fmt.Errorf("copy: finish: %w", err)
	}
	return nil
}

// pieces cuts the tables. What a leaf grows by afterwards is in its last piece, if the snapshot has anything of it.
func (c *Copy) pieces(ctx context.Context) ([]piece, error) {
	conn, err := c.Source.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	each := int64(pieceBytes / pageBytes)
	if c.PieceBytes > 0 {
		each = max(1, c.PieceBytes/pageBytes)
	}
	var pieces []piece
	for _, t := range c.Tables {
		for _, leaf := range t.Leaves {
			rows, err := query(ctx, conn, "SELECT pg_relation_size("+literal(leaf)+"::regclass) / "+strconv.Itoa(pageBytes))
			if err != nil {
				return nil, fmt.Errorf("%s: size of %s: %w", c.Source.Name, leaf, err)
			}
			pages, _ := strconv.ParseInt(string(rows[0][0]), 10, 64) // a bigint of the server; 0 makes one piece
			first := int64(0)
			for ; pages-first > 3*each/2; first += each {
				pieces = append(pieces, piece{t, leaf, first, first + each})
			}
			pieces = append(pieces, piece{table: t, leaf: leaf, first: first})
		}
	}
	return pieces, nil
}

// copyAll shares the pieces among so many streams. The first error ends all.
func (c *Copy) copyAll(ctx context.Context, pieces []piece, streams int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan piece, len(pieces))
	for _, p := range pieces {
		todo <- p
	}
	close(todo)
	var wg sync.WaitGroup
	for range streams {
		wg.Go(func() { // ends with the pieces or the context
			if err := c.stream(ctx, todo); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// stream copies pieces until there are no more.
func (c *Copy) stream(ctx context.Context, todo <-chan piece) error {
	source, err := c.Source.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(source)
	if _, err := query(ctx, source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+literal(c.Snapshot)); err != nil {
		return fmt.Errorf("%s: take up snapshot %s: %w", c.Source.Name, c.Snapshot, err)
	}
	target, err := c.openTarget(ctx)
	if err != nil {
		return err
	}
	defer hangUp(target)
	for p := range todo {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.copyPiece(ctx, source, target, p); err != nil {
			return fmt.Errorf("table %s: %w", p.table, err)
		}
	}
	return nil
}

// openTarget logs in to the target and claims what is copied.
func (c *Copy) openTarget(ctx context.Context) (*pgconn.PgConn, error) {
	target, err := c.Target.connectWriter(ctx)
	if err != nil {
		return nil, err
	}
	if err := claim(ctx, target, claimKey(c.Tables, c.Spans)); err != nil {
		hangUp(target)
		return nil, fmt.Errorf("%s: %w", c.Target.Name, err)
	}
	return target, nil
}

// copyPiece copies a piece in a transaction of its own.
func (c *Copy) copyPiece(ctx context.Context, source, target *pgconn.PgConn, p piece) error {
	if _, err := query(ctx, target, "BEGIN; "+emitLocal); err != nil {
		return fmt.Errorf("%s: begin: %w", c.Target.Name, err)
	}
	from, to := p.statements(c.Spans)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A pipe of no size holds nothing: what the target does not take, the source does not send.
	reader, writer := io.Pipe()
	var readErr error
	done := make(chan struct{})
	go func() { // ends with the COPY, or when the reader is closed below
		defer close(done)
		// The source sends a message for each row; the target gets them by the bufferful.
		buffer := bufio.NewWriterSize(&meter{ctx, c, writer}, copyBuffer)
		if _, readErr = source.CopyTo(ctx, buffer, from); readErr == nil {
			readErr = buffer.Flush()
		}
		// Without an end the target must not take what came for a whole table.
		_ = writer.CloseWithError(readErr)
	}()
	tag, writeErr := target.CopyFrom(ctx, reader, to)
	if writeErr != nil {
		cancel()
	}
	_ = reader.CloseWithError(errors.Join(writeErr, io.ErrClosedPipe))
	<-done
	switch {
	case readErr != nil && (writeErr == nil || !errors.Is(readErr, context.Canceled) && !errors.Is(readErr, io.ErrClosedPipe)):
		return fmt.Errorf("%s: read: %w", c.Source.Name, readErr)
	case writeErr != nil:
		return fmt.Errorf("%s: write: %w", c.Target.Name, writeErr)
	}
	if _, err := query(ctx, target, "COMMIT"); err != nil {
		return fmt.Errorf("%s: commit: %w", c.Target.Name, err)
	}
	c.rows.Add(tag.RowsAffected())
	return nil
}

// meter counts what goes by and keeps to the throttle.
type meter struct {
	ctx  context.Context
	copy *Copy
	to   io.Writer
}

// Write passes b on.
func (m *meter) Write(b []byte) (int, error) {
	n, err := m.to.Write(b)
	m.copy.bytes.Add(int64(n))
	if err == nil && m.copy.Throttle != nil {
		err = m.copy.Throttle(m.ctx, n)
	}
	return n, err
}

// statements are the COPY at the source and the one at the target.
func (p *piece) statements(spans []shard.Span) (from, to string) {
	names := make([]string, len(p.table.Columns))
	format := "binary"
	for i, c := range p.table.Columns {
		names[i] = identifier(c.Name)
		if !c.Binary {
			format = "text"
		}
	}
	columns := strings.Join(names, ", ")
	from = "COPY (SELECT " + columns + " FROM ONLY " + p.leaf + " WHERE " + p.where(spans) + ") TO STDOUT (FORMAT " + format + ")"
	to = "COPY " + p.table.sql() + " (" + columns + ") FROM STDIN (FORMAT " + format + ")"
	return from, to
}

// where is the condition on a piece's rows.
func (p *piece) where(spans []shard.Span) string {
	where := "true"
	if p.table.Key != nil {
		where = inSpans(p.table.Key.Expression(""), spans)
	}
	if p.first > 0 {
		where += fmt.Sprintf(" AND ctid >= '(%d,0)'", p.first)
	}
	if p.last > 0 {
		where += fmt.Sprintf(" AND ctid < '(%d,0)'", p.last)
	}
	return where
}

// finish commits what the caller has to say. That commit waits for the disk, so all before it are there too.
func (c *Copy) finish(ctx context.Context) error {
	target, err := c.openTarget(ctx)
	if err != nil {
		return err
	}
	defer hangUp(target)
	if _, err := query(ctx, target, "BEGIN; SET LOCAL synchronous_commit = on; "+emitLocal); err != nil {
		return fmt.Errorf("%s: begin: %w", c.Target.Name, err)
	}
	if c.Finish != nil {
		if err := c.Finish(ctx, target); err != nil {
			return err
		}
	}
	if _, err := query(ctx, target, "COMMIT"); err != nil {
		return fmt.Errorf("%s: commit: %w", c.Target.Name, err)
	}
	return nil
}
