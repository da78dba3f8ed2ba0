package stream

import (
	"context"
	"fmt"
	"strings"

	"pgtier/router/shard"
)

// Publication is what a stream carries.
type Publication struct {
	Name string
	// Tables are those of the source. Of one with a key only the rows in Spans are published, of one without all.
	Tables []*Table
	Spans  []shard.Span
}

// CreatePublication makes the publication, in place of one of its name. Changes of before it exists are not in any stream of it, so it is made before the slot.
func CreatePublication(ctx context.Context, server Server, p Publication) error {
	conn, err := server.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	tables := make([]string, len(p.Tables))
	for i, t := range p.Tables {
		tables[i] = t.sql()
		if t.Key != nil {
			tables[i] += " WHERE (" + inSpans(t.Key.Expression(""), p.Spans) + ")"
		}
	}
	_, err = query(ctx, conn, "BEGIN; DROP PUBLICATION IF EXISTS "+identifier(p.Name)+"; CREATE PUBLICATION "+identifier(p.Name)+" FOR TABLE "+
		strings.Join(tables, ", ")+" WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true); COMMIT")
	if err != nil {
		return fmt.Errorf("%s: create publication %s: %w", server.Name, p.Name,
			mayNot(err, "the role must own the tables and have CREATE on the database"))
	}
	return nil
}

// inSpans is SQL that is true of a bucket in one of the spans. It computes the bucket once, and row filters take it: the operator is
// built in, and looks the bucket up by halves.
func inSpans(bucket string, spans []shard.Span) string {
	ranges := make([]string, len(spans))
	for i, s := range spans {
		ranges[i] = fmt.Sprintf("[%d,%d]", s.First, s.Last)
	}
	return "(" + bucket + ") OPERATOR(pg_catalog.<@) '{" + strings.Join(ranges, ",") + "}'::pg_catalog.int8multirange"
}
