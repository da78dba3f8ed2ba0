//go:build !race

package proxy_test

import (
	"fmt"
	"math"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// The race detector allocates and grows stacks by itself: `make test` runs the tests that count bytes without it.

// exchange is what a client says over and over. Each part brings one ReadyForQuery.
type exchange struct {
	before, msgs [][]byte
	ahead        bool // all of msgs are sent before the first answer is read
}

// inEach is a statement in each protocol, completed by one parameter. Prepared, it has the name given.
func inEach(name, sql, parameter string) map[string]exchange {
	run := func(dst []byte, name string) [][]byte {
		return [][]byte{wire.AppendSync(wire.AppendExecute(wire.AppendBindText(dst, name, []*string{&parameter})))}
	}
	return map[string]exchange{
		"simple":   {msgs: [][]byte{wire.AppendQuery(nil, sql+parameter)}},
		"extended": {msgs: run(wire.AppendParse(nil, "", []byte(sql+"$1"), nil), "")},
		"prepared": {before: [][]byte{wire.AppendSync(wire.AppendParse(nil, name, []byte(sql+"$1"), nil))}, msgs: run(nil, name)},
	}
}

// TestRelayedQueriesAllocateNothing relays queries in each protocol and counts the allocations of the whole process, in
// which the client's own are none.
func TestRelayedQueriesAllocateNothing(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	// The catalog is read when the first client comes, and what that allocates is not the relay's: code that the text does not show waits for it.
	if err := p.rawDial(t, wire.Protocol30).round(wire.AppendQuery(nil, "DO 'BEGIN END'")); err != nil {
		t.Fatal(err)
	}
	all := inEach("named", "SELECT 1 + ", "41")
	all["transaction"] = exchange{ahead: true, msgs: [][]byte{wire.AppendQuery(nil, "BEGIN"), wire.AppendQuery(nil, "SELECT 1"), wire.AppendQuery(nil, "COMMIT")}}
	allocateNothing(t, p, all, nil)
}

// writing are transactions that write, as pgbench has them: a turn for each statement, in each protocol. They need writingSQL.
func writing(id string) map[string]exchange {
	all := map[string]exchange{}
	for i, sql := range []string{"UPDATE t SET v = v + 1 WHERE id = ", "SELECT v FROM t WHERE id = ", "INSERT INTO log (at, id) SELECT CURRENT_TIMESTAMP, "} {
		for protocol, one := range inEach(string(rune('a'+i)), sql, id) {
			whole, begun := all[protocol]
			if !begun {
				whole.msgs = [][]byte{wire.AppendQuery(nil, "BEGIN")}
			}
			whole.before, whole.msgs = append(whole.before, one.before...), append(whole.msgs, one.msgs...)
			all[protocol] = whole
		}
	}
	for protocol, whole := range all {
		whole.msgs = append(whole.msgs, wire.AppendQuery(nil, "COMMIT"))
		all[protocol] = whole
	}
	return all
}

const writingSQL = "CREATE TABLE t (id int PRIMARY KEY, v int) WITH (fillfactor = 50); INSERT INTO t SELECT n, 2 FROM generate_series(1, 1000) AS n; CREATE UNLOGGED TABLE log (at timestamptz, id int)"

// TestTransactionsAllocateNothing is the same of transactions that write.
func TestTransactionsAllocateNothing(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, writingSQL)
	allocateNothing(t, r.serve(t, nil), writing("1"), nil)
}

// BenchmarkTransactions has 64 clients write over 20 server connections, each its own row. With -mutexprofile it tells what they wait for of each
// other's, their ends of the connections included.
func BenchmarkTransactions(b *testing.B) {
	const clients = 64
	r := newRig(b)
	pgtest.Exec(b, r.manager, r.database, writingSQL)
	p := r.serve(b, nil)
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		b.Run(protocol, func(b *testing.B) {
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			for n := range clients {
				raw, tx := p.rawDial(b, wire.Protocol30), writing(strconv.Itoa(n + 1))[protocol]
				_ = raw.nc.SetDeadline(time.Time{})
				raw.say(b, tx.before, false)
				all.Go(func() {
					for left.Add(-1) >= 0 {
						raw.say(b, tx.msgs, false)
					}
				})
			}
			all.Wait()
		})
	}
}

// TestReadsOnReplicasAllocateNothing is the same of reads that are proved, balanced and served by a replica. What asks the
// servers in the background allocates now and then, so the best of many short runs counts.
func TestReadsOnReplicasAllocateNothing(t *testing.T) {
	c := newCrew(t, 2, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 2)")
	p := c.serve(t, nil)
	c.settle(t, p)
	served := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	allocateNothing(t, p, inEach("named", "SELECT v FROM t WHERE id = ", "1"), func(t *testing.T, queries int, run func()) {
		reads := served.Load()
		run()
		reads = served.Load() - reads
		t.Logf("replicas served %d of %d", reads, queries)
		if reads < uint64(queries)*9/10 {
			t.Error("the manager served too many: the test proves nothing")
		}
	})
}

// allocateNothing has each of the conversations held by a client of its own and fails if the best of many short runs allocates for every
// one: what watches the servers in the background allocates now and then. around, which may be nil, calls run and sees where its queries went.
func allocateNothing(t *testing.T, p *running, all map[string]exchange, around func(t *testing.T, queries int, run func())) {
	t.Helper()
	for name, tc := range all {
		t.Run(name, func(t *testing.T) {
			raw := p.rawDial(t, wire.Protocol30)
			raw.say(t, tc.before, false)
			work := func(queries int) {
				for range queries {
					raw.say(t, tc.msgs, tc.ahead)
				}
			}
			work(500) // caches fill, buffers grow
			const runs, queries = 300, 10
			least := uint64(math.MaxUint64)
			measure := func() {
				for range runs {
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					work(queries)
					runtime.ReadMemStats(&after)
					least = min(least, after.Mallocs-before.Mallocs)
				}
			}
			if around == nil {
				measure()
			} else {
				around(t, runs*queries, measure)
			}
			t.Logf("%d allocations in the best run of %d", least, queries)
			if least > 0 {
				t.Errorf("%d allocations in the best run of %d, want none", least, queries)
			}
		})
	}
}

// say sends messages that bring one ReadyForQuery each and reads what comes, before the next or, ahead, behind the last.
func (c *rawClient) say(t testing.TB, msgs [][]byte, ahead bool) {
	unread := 0
	for i, m := range msgs {
		if _, err := c.nc.Write(m); err != nil {
			t.Error(err)
			return
		}
		unread++
		for ; unread > 0 && (!ahead || i == len(msgs)-1); unread-- {
			if err := c.ready(); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// inUse is the memory of all that lives, goroutines' stacks included.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // pools give up what they hold in two rounds
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestIdleClientsAreSmall holds what a client costs that ran a query and has rested, its own end in this process included (about 1 kB):
// without TLS it dozes, with it it keeps what crypto/tls does.
func TestIdleClientsAreSmall(t *testing.T) {
	r := newRig(t)
	for name, tc := range map[string]struct {
		tls     bool
		clients int
		most    uint64
	}{
		"plain": {false, 2000, 6 << 10},
		"TLS":   {true, 500, 36 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.serve(t, func(cfg *proxy.Config) {
				cfg.Pool.Size = 4
				cfg.TLS.Client = r.clientTLS("prefer")
			})
			query := wire.AppendQuery(nil, "SELECT 1")
			before := inUse()
			for range tc.clients {
				nc, err := net.DialTimeout("tcp", p.address, limit)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = nc.Close() })
				if tc.tls {
					nc = mustTLS(t, nc)
				}
				c, err := rawLogin(nc, wire.Protocol30, []wire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: r.database}})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.round(query); err != nil {
					t.Fatal(err)
				}
			}
			each := (inUse() - before) / uint64(tc.clients)
			awake := each
			defer func() {
				t.Logf("%d clients, %d bytes each at once and %d in the end, the test's own ends included", tc.clients, awake, each)
			}()
			eventually(t, fmt.Sprintf("an idle client holds %d bytes at most", tc.most), func() bool {
				each = (inUse() - before) / uint64(tc.clients)
				return each <= tc.most
			})
		})
	}
}
