package movetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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
	write   bool
	v       int64 // written
	as      string
	through life  // the process of a proxy
	old     int64 // from when what is read may be, at the earliest
}

func (a access) String() string {
	if a.write {
		return fmt.Sprintf("%s of %d through %s (its process %d)", a.as, a.v, a.through.of, a.through.n)
	}
	return fmt.Sprintf("%s through %s (its process %d)", a.as, a.through.of, a.through.n)
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
	switch c.random.IntN(16) {
	case 0, 1, 2, 3, 4:
		c.write(ctx)
	case 5:
		c.writeTwo(ctx)
	case 6, 7:
		c.readAll(ctx)
	default:
		c.read(ctx)
	}
}

// write writes one register.
func (c *client) write(ctx context.Context) {
	key, v := c.random.IntN(keys), c.regs.begin(1)[0]
	began := c.now()
	tag, err := c.conn.Exec(ctx, "UPDATE regs SET v = $2 WHERE k = $1", key, v)
	if err == nil && tag.RowsAffected() != 1 {
		c.wrong("register %d: %s", key, tag)
	}
	c.regs.note(c.judge("write", err, false), key, c.id, access{write: true, v: v, as: "write", through: c.life}, 0, began, c.now())
}

// writeTwo writes registers of several shards by one statement.
func (c *client) writeTwo(ctx context.Context) {
	key := c.random.IntN(keys)
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
		c.regs.note(f, k, c.id, access{write: true, v: v, as: "write two", through: c.life}, 0, began, ended)
	}
}

// read reads one register.
func (c *client) read(ctx context.Context) {
	key, out := c.random.IntN(keys), int64(0)
	began, old := c.now(), c.oldest()
	err := c.conn.QueryRow(ctx, "SELECT v FROM regs WHERE k = $1", key).Scan(&out)
	if errors.Is(err, pgx.ErrNoRows) {
		c.wrong("register %d is not there", key)
		return
	}
	c.regs.note(c.judge("register", err, false), key, c.id, access{as: "read", through: c.life, old: old}, out, began, c.now())
}

// rushes is how long clients rush to a proxy that has just started, from its first answer on.
const rushes = 3 * time.Second

// rush has clients read through a proxy that has just started, as fast as they can, and others write through the other: it keeps its first answers before it knows of anybody's writes.
func (l *load) rush(to *daemon, random *rand.Rand) {
	if !l.r.apart {
		return
	}
	began, answered := time.Now(), atomic.Int64{}
	goes := func() bool {
		at := answered.Load()
		return !l.stopped() && !to.fell(began) && (at == 0 || l.now() < at+int64(rushes))
	}
	for _, d := range l.r.proxies {
		c := &client{load: l, id: int(l.rushed.Add(1)), random: rand.New(rand.NewPCG(random.Uint64(), random.Uint64())), proxy: d, stays: true}
		l.work.Go(func() { // ends after a moment, with the proxy, or with stop
			defer c.leave()
			for goes() {
				c.rush(d != to, &answered)
			}
		})
	}
}

// rush does one thing, and notes when it was the first to be answered.
func (c *client) rush(writes bool, answered *atomic.Int64) {
	ctx, stop := context.WithTimeout(c.ctx, operationLimit)
	defer stop()
	switch {
	case !c.connected(ctx):
		return
	case writes:
		c.write(ctx)
		return
	case c.random.IntN(8) == 0:
		c.readAll(ctx)
	default:
		c.read(ctx)
	}
	if c.conn != nil { // no error has closed it
		answered.CompareAndSwap(0, c.now())
	}
}

// readAll reads all registers by one statement.
func (c *client) readAll(ctx context.Context) {
	began, old := c.now(), c.oldest()
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
		c.regs.note(f, int(kv[0]), c.id, access{as: "read all", through: c.life, old: old}, kv[1], began, ended)
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
		c := &client{load: l, proxy: d, life: d.lives()}
		began, old := l.now(), c.oldest()
		values, err := allRegisters(l.r.ctx(), l.r.connect(d.url("app")))
		if err != nil || len(values) != keys {
			l.t.Fatalf("registers %v, error %v", values, err)
		}
		for _, kv := range values {
			l.regs.note(happened, int(kv[0]), 1000, access{as: "end", through: c.life, old: old}, kv[1], began, l.now())
		}
	}
	if l.r.keeps {
		for _, d := range l.r.proxies {
			l.r.countAnswers(d)
		}
		l.t.Logf("answers were asked for %d times, found %d times", l.r.asked.Load(), l.r.found.Load())
		if l.r.found.Load() == 0 {
			l.t.Error("no answer was kept")
		}
	}
	operations, doubtful := 0, 0
	for k := range keys {
		history := completed(l.regs.history[k], l.regs.doubt[k])
		operations, doubtful = operations+len(history), doubtful+len(l.regs.doubt[k])
		for _, text := range outdated(history) {
			l.t.Errorf("register %d: %s", k, text)
		}
		if !l.r.apart {
			explain(l.t, k, history)
			continue
		}
		for _, text := range zones(aged(history)) { // what may be old for long has too many orders for the search
			l.t.Errorf("register %d: no order of its operations explains what was read: %s", k, text)
		}
	}
	l.t.Logf("%d operations on %d registers have an order, %d writes were in doubt", operations, keys, doubtful)
}
