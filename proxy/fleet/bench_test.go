package fleet

import (
	"testing"
	"time"

	"pgtier/router/balance"
)

// benchFleet is a fleet of three whose servers have answered and about which somebody asks.
func benchFleet() *Fleet {
	f := idle(2)
	f.heard(0, f.positions.ask(), time.Now(), status{role: Manager, timeline: 1, system: 7, position: 100}, false)
	for i := 1; i < 3; i++ {
		f.heard(i, 0, time.Now(), status{role: Replica, timeline: 1, system: 7, position: 90}, false)
	}
	f.reads.mark()
	return f
}

func BenchmarkView(b *testing.B) {
	f := benchFleet()
	for b.Loop() {
		_ = f.View()
	}
}

func BenchmarkCommitted(b *testing.B) {
	f := benchFleet()
	for b.Loop() {
		f.Committed()
	}
}

func BenchmarkPosition(b *testing.B) {
	f := benchFleet()
	for b.Loop() {
		f.Position(1)
	}
}

func BenchmarkObserveBeginEnd(b *testing.B) {
	f := benchFleet()
	for b.Loop() {
		f.Begin("r0")
		f.Observe("r0", time.Millisecond)
		f.End("r0")
	}
}

func BenchmarkHostsAndChoose(b *testing.B) {
	f := benchFleet()
	var hosts []balance.Host
	now := time.Now()
	for i := uint64(0); b.Loop(); i++ {
		hosts = f.Hosts(f.View(), hosts, now)
		balance.Choose(hosts, balance.Ask{Need: 50, Random: i << 40})
	}
}

// BenchmarkMoved is what a quick answer costs the proxy, apart from its round trip.
func BenchmarkMoved(b *testing.B) {
	f := benchFleet()
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		f.moved(0, f.positions.ask(), time.Now(), balance.LSN(100+i))
	}
}
