// Package sequence answers: how do the sequences of several shards never give one number twice?
//
// The sequences behind serial and identity columns of sharded tables count on each shard by itself. So that no two shards
// give one number, all of them step by the same stride from different remainders, above everything that was given before.
// A move of buckets changes nothing about that: ids are global.
package sequence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pgtier/router/catalog"
)

const (
	// stride is the step of such sequences: the most shards that a database can have without numbering again. It is a power of two that
	// leaves the range of bigint a thousandth, which is enough for 9 * 10^15 ids.
	stride = 1024
	// smallStride is that of sequences of smaller types, whose range would be gone too soon.
	smallStride = 16
)

// OwnIDs is the sequence behind pgtier.next_id().
const OwnIDs = "pgtier.ids"

// Querier runs SQL on one shard, several statements as one simple query, and gives visit each row's values as text. The fields are valid only during the call.
// Transactions that a query begins and does not end are gone on with by the next.
type Querier interface {
	Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error
}

// State is a sequence as a shard has it.
type State struct {
	increment, last, most int64
	called                bool
}

// next is the next value that it would give.
func (q *State) next() int64 {
	if !q.called {
		return q.last
	}
	return q.last + q.increment
}

// Numberer numbers the sequences of a database's shards. Sequences are named by catalog.QualifiedName. It belongs to one goroutine.
type Numberer struct {
	// Shards are asked in this order, by all numberers alike. They are the servers' managers, or branches of a transaction.
	Shards []Querier
	Names  []string
}

// strideOf is the step of a sequence of that type.
func strideOf(found []State) int64 {
	if slices.ContainsFunc(found, func(q State) bool { return q.most < 1<<62 }) {
		return smallStride
	}
	return stride
}

// One sees to one sequence, unless it is well. Inside a transaction, inside is true, and what it changes is the transaction's.
func (n *Numberer) One(ctx context.Context, name string, inside bool) error {
	found, err := n.Read(ctx, []string{name})
	if err != nil || Apart(found[name]) {
		return err
	}
	if inside {
		return n.number(ctx, name, "", "")
	}
	return n.all(ctx, name)
}

// all numbers one sequence on all shards, in a transaction of each that an error leaves behind.
func (n *Numberer) all(ctx context.Context, name string) error {
	return n.number(ctx, name, "BEGIN; ", "; COMMIT")
}

// number has one sequence step on every shard from another remainder.
func (n *Numberer) number(ctx context.Context, name, begin, commit string) error {
	found, err := n.Read(ctx, []string{name})
	if err != nil {
		return err
	}
	step, quoted := strideOf(found[name]), quoteName(name)
	if int64(len(n.Shards)) > step {
		return fmt.Errorf("%d shards are more than a sequence of its type can number for (%d); make it bigint", len(n.Shards), step)
	}
	// From here on nobody takes a number until the transaction ends.
	err = n.each(ctx, func(int) string {
		return fmt.Sprintf("%sALTER SEQUENCE %s INCREMENT BY %d NO CYCLE", begin, quoted, step)
	})
	if err != nil {
		return err
	}
	if found, err = n.Read(ctx, []string{name}); err != nil {
		return err
	}
	start := int64(1)
	for _, q := range found[name] {
		if q.called {
			start = max(start, q.last+1)
		} else {
			start = max(start, q.last)
		}
	}
	start = (start + step - 1) / step * step
	return n.each(ctx, func(i int) string {
		return fmt.Sprintf("ALTER SEQUENCE %s RESTART WITH %d%s", quoted, start+int64(i)+1, commit)
	})
}

// each runs a statement on every shard.
func (n *Numberer) each(ctx context.Context, sql func(i int) string) error {
	for i, shard := range n.Shards {
		if err := shard.Query(ctx, sql(i), func([][]byte) error { return nil }); err != nil {
			return fmt.Errorf("shard %s: %w", n.Names[i], err)
		}
	}
	return nil
}

// Read asks every shard for sequences, which all must be there.
func (n *Numberer) Read(ctx context.Context, names []string) (map[string][]State, error) {
	var sql strings.Builder
	for i, name := range names {
		if i > 0 {
			sql.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(&sql, "SELECT s.seqincrement, q.last_value, q.is_called, s.seqmax, %d FROM %s AS q, pg_catalog.pg_sequence AS s WHERE s.seqrelid = %s::pg_catalog.regclass",
			i, quoteName(name), literal(quoteName(name)))
	}
	out := make(map[string][]State, len(names))
	for i, shard := range n.Shards {
		rows := 0
		err := shard.Query(ctx, sql.String(), func(f [][]byte) error {
			var q State
			var errs [4]error
			q.increment, errs[0] = strconv.ParseInt(string(f[0]), 10, 64)
			q.last, errs[1] = strconv.ParseInt(string(f[1]), 10, 64)
			q.called = string(f[2]) == "t"
			q.most, errs[2] = strconv.ParseInt(string(f[3]), 10, 64)
			at, err := strconv.Atoi(string(f[4]))
			errs[3] = err
			if err := errors.Join(errs[:]...); err != nil {
				return err
			}
			rows++
			out[names[at]] = append(out[names[at]], q)
			return nil
		})
		if err == nil && rows != len(names) {
			err = errors.New("there is no such sequence")
		}
		if err != nil {
			return nil, fmt.Errorf("shard %s: %w", n.Names[i], err)
		}
	}
	return out, nil
}

// Apart reports whether no two shards give one number: they step alike, from different remainders.
func Apart(found []State) bool {
	seen := map[int64]bool{}
	step := found[0].increment
	if step < int64(len(found)) {
		return false
	}
	for i := range found {
		place := (found[i].next()%step + step) % step // also of negative numbers
		if found[i].increment != step || seen[place] {
			return false
		}
		seen[place] = true
	}
	return true
}

// literal quotes text for SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteName makes an identifier of a catalog.QualifiedName.
func quoteName(name string) string {
	schema, last := catalog.SplitName(name)
	return identifier(schema) + "." + identifier(last)
}
