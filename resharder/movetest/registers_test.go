package movetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
)

// registers are rows with one value each, and what clients were told of them. Each value is written once.
type registers struct {
	mu      sync.Mutex
	last    int64                       // guarded by mu, as what follows; the value written last
	history [keys][]porcupine.Operation // of what was acknowledged
	doubt   [keys][]porcupine.Operation // writes of which nobody knows
}

// access is one write or read of a register.
type access struct {
	write bool
	v     int64 // written
	as    string
}

func (l *load) now() int64 { return int64(time.Since(l.began)) }

// begin draws values for writes.
func (g *registers) begin(n int) (values []int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range n {
		g.last++
		values = append(values, g.last)
	}
	return values
}

// note adds an operation; one without effect is none.
func (g *registers) note(f fate, key, client int, a access, out, began, ended int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: a, Output: out, Call: began, Return: ended}
	switch {
	case f == happened:
		g.history[key] = append(g.history[key], op)
	case f == unsure && a.write:
		g.doubt[key] = append(g.doubt[key], op)
	}
}

// register writes or reads a register or several.
func (c *client) register() {
	ctx, stop := context.WithTimeout(c.ctx, operationLimit)
	defer stop()
	if !c.connected(ctx) {
		return
	}
	key := c.random.IntN(keys)
	switch c.random.IntN(16) {
	case 0, 1, 2, 3, 4:
		v := c.regs.begin(1)[0]
		began := c.now()
		tag, err := c.conn.Exec(ctx, "UPDATE regs SET v = $2 WHERE k = $1", key, v)
		if err == nil && tag.RowsAffected() != 1 {
			c.wrong("register %d: %s", key, tag)
		}
		c.regs.note(c.judge("write", err, false), key, c.id, access{write: true, v: v, as: "write"}, 0, began, c.now())
	case 5: // of several shards, by one statement
		other := (key + 1 + c.random.IntN(keys-1)) % keys
		v := c.regs.begin(1)[0]
		began := c.now()
		tag, err := c.conn.Exec(ctx, "UPDATE regs SET v = $3 WHERE k IN ($1, $2)", key, other, v)
		if err == nil && tag.RowsAffected() != 2 {
			c.wrong("registers %d and %d: %s", key, other, tag)
		}
		f := c.judge("write two", err, false)
		ended := c.now()
		for _, k := range []int{key, other} {
			c.regs.note(f, k, c.id, access{write: true, v: v, as: "write two"}, 0, began, ended)
		}
	case 6, 7:
		c.readAll(ctx)
	default:
		var out int64
		began := c.now()
		err := c.conn.QueryRow(ctx, "SELECT v FROM regs WHERE k = $1", key).Scan(&out)
		if errors.Is(err, pgx.ErrNoRows) {
			c.wrong("register %d is not there", key)
			return
		}
		c.regs.note(c.judge("register", err, false), key, c.id, access{as: "read"}, out, began, c.now())
	}
}

// readAll reads all registers by one statement.
func (c *client) readAll(ctx context.Context) {
	began := c.now()
	values, err := allRegisters(ctx, c.conn)
	f := c.judge("registers", err, false)
	if f != happened {
		return
	}
	ended := c.now()
	if len(values) != keys {
		c.wrong("%d registers of %d: %v", len(values), keys, values)
	}
	seen := map[int64]bool{}
	for _, kv := range values {
		if seen[kv[0]] {
			c.wrong("register %d twice: %v", kv[0], values)
		}
		seen[kv[0]] = true
		c.regs.note(f, int(kv[0]), c.id, access{as: "read all"}, kv[1], began, ended)
	}
}

func allRegisters(ctx context.Context, conn *pgx.Conn) (values [][2]int64, err error) {
	rows, err := conn.Query(ctx, "SELECT k, v FROM regs")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var kv [2]int64
		if err := rows.Scan(&kv[0], &kv[1]); err != nil {
			return nil, err
		}
		values = append(values, kv)
	}
	return values, rows.Err()
}

// linearizable fails the test unless every register has an order of its operations that explains every answer. The clients have ended.
func (l *load) linearizable() {
	l.t.Helper()
	for _, d := range l.r.proxies { // what stands there in the end, as both proxies see it
		began := l.now()
		values, err := allRegisters(l.r.ctx(), l.r.connect(d.url("app")))
		if err != nil || len(values) != keys {
			l.t.Fatalf("registers %v, error %v", values, err)
		}
		for _, kv := range values {
			l.regs.note(happened, int(kv[0]), 1000, access{as: "end"}, kv[1], began, l.now())
		}
	}
	if l.r.keeps {
		for _, row := range l.r.rows(l.r.proxies[0].url("pgtier"), "SHOW CACHE") {
			if row[1] == "" {
				l.t.Logf("answers are %s: asked for %s times, found %s times", row[2], row[3], row[4])
				if row[4] == "0" {
					l.t.Error("no answer was kept")
				}
			}
		}
	}
	operations, doubtful := 0, 0
	for k := range keys {
		history := completed(l.regs.history[k], l.regs.doubt[k])
		operations, doubtful = operations+len(history), doubtful+len(l.regs.doubt[k])
		explain(l.t, k, history)
	}
	l.t.Logf("%d operations on %d registers have an order, %d writes were in doubt", operations, keys, doubtful)
}

// completed adds the writes of which nobody knows: one that was read has happened before that read ended; any other can be put in front of the write
// that came after it, where no read sees it.
func completed(history, doubt []porcupine.Operation) []porcupine.Operation {
	first := map[int64]int64{} // when a value was first known to have been read
	for _, op := range history {
		if in := op.Input.(access); !in.write {
			if at, ok := first[op.Output.(int64)]; !ok || op.Return < at {
				first[op.Output.(int64)] = op.Return
			}
		}
	}
	for _, op := range doubt {
		if at, ok := first[op.Input.(access).v]; ok {
			op.Return = max(at, op.Call)
			history = append(history, op)
		}
	}
	return history
}

// explain fails the test unless the history of one register has an order.
func explain(t testing.TB, key int, history []porcupine.Operation) {
	t.Helper()
	model := porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, in, out any) (bool, any) {
			if a := in.(access); a.write {
				return true, a.v
			}
			return state.(int64) == out.(int64), state
		},
	}
	result, info := porcupine.CheckOperationsVerbose(model, history, time.Minute)
	switch result {
	case porcupine.Ok:
		return
	case porcupine.Unknown:
		t.Errorf("register %d: %d operations could not be judged in time", key, len(history))
		return
	}
	longest := []int(nil)
	for _, partial := range info.PartialLinearizations() {
		for _, order := range partial {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	placed := map[int]bool{}
	for _, i := range longest {
		placed[i] = true
	}
	first := -1 // the one that ended first of those without a place
	for i, op := range history {
		if !placed[i] && (first < 0 || op.Return < history[first].Return) {
			first = i
		}
	}
	value := func(op porcupine.Operation) int64 {
		if a := op.Input.(access); a.write {
			return a.v
		}
		return op.Output.(int64)
	}
	all, before := slices.Clone(history), 0
	slices.SortFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	for _, op := range all {
		if op.Return < history[first].Return {
			before++
		}
	}
	var out strings.Builder
	for i, op := range all { // what came right before it and behind it, and whatever else has its value
		if i >= before-12 && i < before+8 || value(op) == value(history[first]) {
			fmt.Fprintf(&out, "\n%12.3f to %12.3f ms, client %d: %+v → %d", float64(op.Call)/1e6, float64(op.Return)/1e6, op.ClientId, op.Input, op.Output)
		}
	}
	t.Errorf("register %d: no order of its operations explains what was read; %d of %d fit. Around the first that does not:%s", key, len(longest), len(history), out.String())
}

// TestHistoriesWithoutAnOrderAreFound holds the judge itself to histories that must not pass.
func TestHistoriesWithoutAnOrderAreFound(t *testing.T) {
	op := func(write bool, v, began, ended int64) porcupine.Operation {
		o := porcupine.Operation{Input: access{write: write, v: v}, Output: v, Call: began, Return: ended}
		if write {
			o.Output = int64(0)
		}
		return o
	}
	for name, c := range map[string]struct {
		history, doubt []porcupine.Operation
		ok             bool
	}{
		"read of an older value":    {history: []porcupine.Operation{op(true, 1, 0, 10), op(true, 2, 20, 30), op(false, 1, 40, 50)}},
		"read of a write under way": {history: []porcupine.Operation{op(true, 1, 0, 100), op(false, 1, 40, 50)}, ok: true},
		"back to what was before":   {history: []porcupine.Operation{op(true, 1, 0, 100), op(false, 1, 40, 50), op(false, 0, 60, 70)}},
		"in doubt and never read":   {history: []porcupine.Operation{op(true, 1, 0, 10), op(false, 1, 40, 50)}, doubt: []porcupine.Operation{op(true, 2, 20, 30)}, ok: true},
		"in doubt and read late":    {history: []porcupine.Operation{op(true, 1, 0, 10), op(false, 1, 40, 50), op(false, 2, 60, 70)}, doubt: []porcupine.Operation{op(true, 2, 20, 30)}, ok: true},
		"in doubt, read, then gone": {history: []porcupine.Operation{op(true, 1, 0, 10), op(false, 2, 40, 50), op(false, 1, 60, 70)}, doubt: []porcupine.Operation{op(true, 2, 20, 30)}},
	} {
		t.Run(name, func(t *testing.T) {
			heard := &deaf{TB: t}
			explain(heard, 0, completed(c.history, c.doubt))
			if heard.errors > 0 == c.ok {
				t.Errorf("%d errors", heard.errors)
			}
		})
	}
}

// deaf counts errors instead of failing.
type deaf struct {
	testing.TB
	errors int
}

func (d *deaf) Errorf(string, ...any) { d.errors++ }
