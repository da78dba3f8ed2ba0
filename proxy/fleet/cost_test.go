package fleet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/proxy/auth"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router/topology"
)

// processorTime is what a process has used, in nanoseconds.
func processorTime(b *testing.B, pid uint32) uint64 {
	b.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		b.Fatal(err)
	}
	used, err := strconv.ParseUint(strings.Fields(string(content))[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return used
}

// BenchmarkQuestions measures what each kind of question costs a server: round trip, and processor time of its backend.
func BenchmarkQuestions(b *testing.B) {
	shard := shared.Cluster(b).Shards[0]
	connect := func(s *localpg.Server) *probe {
		server, err := topology.ParseURL(s.URL("postgres", "", ""))
		if err != nil {
			b.Fatal(err)
		}
		network, address := server.Address()
		conn, err := (&backend.Dialer{Bufs: wire.NewBuffers()}).Dial(b.Context(), backend.Target{Name: s.Name, Network: network,
			Address: address, Database: server.Database, User: server.User, TLS: wire.TLSConfig{Mode: wire.TLSDisable},
			Credential: auth.PasswordCredential(server.Password.Reveal())})
		if err != nil {
			b.Fatal(err)
		}
		p := &probe{conn: conn, limit: patience}
		if err := p.prepare(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close("benchmark") })
		return p
	}
	manager, replica := connect(shard.Manager), connect(shard.Replicas[0])
	for _, tc := range []struct {
		name  string
		probe *probe
		ask   func(*probe) error
	}{
		{"manager/full", manager, func(p *probe) error { _, err := p.status(); return err }},
		{"manager/position", manager, func(p *probe) error { _, _, err := p.quick(); return err }},
		{"manager/position and running", manager, func(p *probe) error { _, _, _, err := p.sample(); return err }},
		{"replica/full", replica, func(p *probe) error { _, err := p.status(); return err }},
		{"replica/position", replica, func(p *probe) error { _, _, err := p.quick(); return err }},
		{"replica/position and ten known", replica, func(p *probe) error {
			_, _, _, err := p.known([]uint64{700, 701, 702, 703, 704, 705, 706, 707, 708, 709})
			return err
		}},
	} {
		measure := func(b *testing.B) {
			before := processorTime(b, tc.probe.conn.PID())
			for b.Loop() {
				if err := tc.ask(tc.probe); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(processorTime(b, tc.probe.conn.PID())-before)/1000/float64(b.N), "server-µs/op")
		}
		b.Run(tc.name, measure)
		if tc.name != "manager/position and running" {
			continue
		}
		locks := connect(shard.Manager)
		if err := locks.conn.Exec(wire.AppendQuery(nil, "SELECT pg_advisory_lock(i) FROM generate_series(1, 5000) i"), patience, nil); err != nil {
			b.Fatal(err)
		}
		b.Run(tc.name+", 5000 locks held", measure)
		locks.conn.Close("benchmark")
	}
}
