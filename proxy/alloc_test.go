package proxy_test

import (
	"crypto/tls"
	"math"
	"net"
	"runtime"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// TestRelayedQueriesAllocateNothing relays queries in each protocol and counts the allocations of the whole process, in
// which the client's own are none.
func TestRelayedQueriesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates by itself: nothing is counted")
	}
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	// The catalog is read when the first client comes, and what that allocates is not the relay's: code that the text does not show waits for it.
	if err := p.rawDial(t, wire.Protocol30).round(wire.AppendQuery(nil, "DO 'BEGIN END'")); err != nil {
		t.Fatal(err)
	}
	extended := wire.AppendParse(nil, "", []byte("SELECT $1::int + 1"), nil)
	number := "41"
	extended = wire.AppendSync(wire.AppendExecute(wire.AppendBindText(extended, "", []*string{&number})))
	prepare := wire.AppendSync(wire.AppendParse(nil, "named", []byte("SELECT $1::int + 2"), nil))
	prepared := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "named", []*string{&number})))
	for name, tc := range map[string]struct{ before, msgs []byte }{
		"simple":      {nil, wire.AppendQuery(nil, "SELECT 1")},
		"extended":    {nil, extended},
		"prepared":    {prepare, prepared},
		"transaction": {nil, append(append(wire.AppendQuery(nil, "BEGIN"), wire.AppendQuery(nil, "SELECT 1")...), wire.AppendQuery(nil, "COMMIT")...)},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, wire.Protocol30)
			rounds := 1
			if name == "transaction" {
				rounds = 3
			}
			if tc.before != nil {
				if err := c.round(tc.before); err != nil {
					t.Fatal(err)
				}
			}
			run := func(queries int) {
				for range queries {
					if _, err := c.nc.Write(tc.msgs); err != nil {
						t.Fatal(err)
					}
					for range rounds {
						if err := c.ready(); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			run(500) // caches fill, buffers grow
			queries := 10000
			if raceEnabled {
				queries = 500
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			run(queries)
			runtime.ReadMemStats(&after)
			each := float64(after.Mallocs-before.Mallocs) / float64(queries)
			t.Logf("%.4f allocations a query", each)
			if each >= 0.05 && !raceEnabled {
				t.Errorf("%.4f allocations a query, want fewer than 0.05", each)
			}
		})
	}
}

// TestReadsOnReplicasAllocateNothing is the same of reads that are proved, balanced and served by a replica. What asks the
// servers in the background allocates now and then, so the best of many short runs counts.
func TestReadsOnReplicasAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates by itself: nothing is counted")
	}
	c := newCrew(t, 2, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 2)")
	p := c.serve(t, nil)
	c.settle(t, p)
	served := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	allocateNothing(t, p, "SELECT v FROM t WHERE id = ", func(t *testing.T, queries int, run func()) {
		reads := served.Load()
		run()
		reads = served.Load() - reads
		t.Logf("replicas served %d of %d", reads, queries)
		if reads < uint64(queries)*9/10 {
			t.Error("the manager served too many: the test proves nothing")
		}
	})
}

// allocateNothing runs sql, which a parameter completes, in each protocol and fails if the best of many short runs allocates for
// every query. around, which may be nil, calls run and sees where its queries went.
func allocateNothing(t *testing.T, p *running, sql string, around func(t *testing.T, queries int, run func())) {
	t.Helper()
	one := "1"
	run := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "named", []*string{&one})))
	for name, tc := range map[string]struct{ before, msgs []byte }{
		"simple":   {nil, wire.AppendQuery(nil, sql+one)},
		"extended": {nil, wire.AppendSync(wire.AppendExecute(wire.AppendBindText(wire.AppendParse(nil, "", []byte(sql+"$1"), nil), "", []*string{&one})))},
		"prepared": {wire.AppendSync(wire.AppendParse(nil, "named", []byte(sql+"$1"), nil)), run},
	} {
		t.Run(name, func(t *testing.T) {
			raw := p.rawDial(t, wire.Protocol30)
			if tc.before != nil {
				if err := raw.round(tc.before); err != nil {
					t.Fatal(err)
				}
			}
			work := func(queries int) {
				for range queries {
					if err := raw.round(tc.msgs); err != nil {
						t.Fatal(err)
					}
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
			t.Logf("%d allocations in the best run of %d queries", least, queries)
			if least >= queries && !raceEnabled {
				t.Errorf("%d allocations in the best run of %d queries, want none", least, queries)
			}
		})
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

// TestIdleClientsAreSmall measures what a client costs that ran a query and is idle, its own end in this process included.
func TestIdleClientsAreSmall(t *testing.T) {
	r := newRig(t)
	for name, tc := range map[string]struct {
		tls     bool
		clients int
		most    uint64
	}{
		"plain": {false, 2000, 20 << 10},
		"TLS":   {true, 500, 60 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			if raceEnabled {
				tc.clients /= 20
			}
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
			t.Logf("%d clients, %d bytes each, the test's ends included", tc.clients, each)
			if each > tc.most && !raceEnabled {
				t.Errorf("an idle client holds %d bytes, want at most %d", each, tc.most)
			}
		})
	}
}

// mustTLS asks for TLS and begins it, believing any certificate.
func mustTLS(t testing.TB, nc net.Conn) net.Conn {
	t.Helper()
	_ = nc.SetDeadline(time.Now().Add(limit))
	if _, err := nc.Write(wire.AppendSSLRequest(nil)); err != nil {
		t.Fatal(err)
	}
	var answer [1]byte
	if _, err := nc.Read(answer[:]); err != nil || answer[0] != 'S' {
		t.Fatalf("answer to SSLRequest: %q, %v", answer, err)
	}
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}
