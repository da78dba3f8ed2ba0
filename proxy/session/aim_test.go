package session

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"pgtier/parser"
	"pgtier/proxy/fleet"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
	"pgtier/router/catalog"
	"pgtier/router/topology"
)

// proofs says the same of every statement.
type proofs struct{ reading catalog.Reading }

func (p *proofs) Pins(*parser.Statement) string                           { return "" }
func (p *proofs) Defines(*parser.Statement) bool                          { return false }
func (p *proofs) Pending() bool                                           { return false }
func (p *proofs) Wait(context.Context) error                              { return nil }
func (p *proofs) Mark() catalog.Mark                                      { return catalog.Mark{} }
func (p *proofs) Judges(_, _ catalog.Mark) (*catalog.Snapshot, bool)      { return nil, false }
func (p *proofs) Snapshot() *catalog.Snapshot                             { return nil }
func (p *proofs) Reading(*parser.Statement) *catalog.Reading              { return &p.reading }
func (p *proofs) CommandReading(*parser.Command) *catalog.Reading         { return &p.reading }
func (p *proofs) Written(*parser.Command) (tables []string, unknown bool) { return nil, true }

// aimed is a session that has one Query to send, to a database with two replicas that are up.
func aimed(sql string, verdict catalog.Verdict) *Session {
	db := &Database{Hazards: &proofs{catalog.Reading{Verdict: verdict, Reason: "as the test says", Tables: []string{"public.t"}}}}
	reads := &Reads{MaxLag: time.Second}
	db.Reads = func() *Reads { return reads }
	db.Fleet.Store(fleet.New(topology.Shard{Name: "s0", Manager: topology.Server{Name: "s0"},
		Replicas: []topology.Server{{Name: "s0-r1"}, {Name: "s0-r2"}}}, fleet.DefaultConfig(), nil, zap.NewNop()))
	s := &Session{db: db, at: db, tx: wire.TxIdle, work: &work{items: []item{{typ: wire.MsgQuery, end: true, st: parser.NewCache(1 << 20).Statement([]byte(sql))}}}}
	s.hosts = []balance.Host{{Name: "s0-r1", State: balance.Up, Replayed: 10}, {Name: "s0-r2", State: balance.Up, Replayed: 10}}
	return s
}

func TestAimingAllocatesNothing(t *testing.T) {
	s := aimed("SELECT abalance FROM pgbench_accounts WHERE aid = 1", catalog.Read)
	f := s.at.Fleet.Load()
	n := testing.AllocsPerRun(1000, func() {
		if e := s.aimTurn(""); e != nil || !s.aim.replica {
			t.Fatalf("aimed at the manager: %s (%v)", s.aim.reason, e)
		}
		if i, why := s.choose(f); i < 0 {
			t.Fatalf("no replica: %s", why)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAim(b *testing.B) {
	s := aimed("SELECT abalance FROM pgbench_accounts WHERE aid = 1", catalog.Read)
	f := s.at.Fleet.Load()
	for b.Loop() {
		s.aimTurn("")
		s.choose(f)
	}
}

func TestTurnsAreAimedByWhatIsProved(t *testing.T) {
	for name, tc := range map[string]struct {
		sql     string
		verdict catalog.Verdict
		change  func(*Session)
		pin     string
		cause   router.Cause
	}{
		"a read goes to a replica":                    {sql: "SELECT 1", verdict: catalog.Read, cause: router.ToReplica},
		"what may write goes to the manager":          {sql: "SELECT f()", verdict: catalog.Unproved, cause: router.NotProved},
		"what depends on its server too":              {sql: "SELECT pg_is_in_recovery()", verdict: catalog.Local, cause: router.ServerLocal},
		"a pin keeps the manager":                     {sql: "SELECT 1", verdict: catalog.Read, pin: "LOAD", cause: router.OwnConnection},
		"a hint asks for the manager":                 {sql: "/* pgtier: consistency=manager */ SELECT 1", verdict: catalog.Read, cause: router.AsAsked},
		"a hint asks for less than the configuration": {sql: "/* pgtier: consistency=eventual */ SELECT 1", verdict: catalog.Read, cause: router.ToReplica},
		"a read-write transaction begins":             {sql: "BEGIN", verdict: catalog.Unproved, cause: router.InTransaction},
		"a read-only transaction begins":              {sql: "BEGIN READ ONLY", verdict: catalog.Unproved, cause: router.ToReplica},
		"a serializable one needs the manager":        {sql: "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", verdict: catalog.Unproved, cause: router.InTransaction},
		"a held BEGIN decides":                        {sql: "SELECT 1", verdict: catalog.Read, change: func(s *Session) { s.opening = []byte{1} }, cause: router.InTransaction},
		"a held BEGIN READ ONLY decides": {sql: "SELECT 1", verdict: catalog.Read, cause: router.ToReplica,
			change: func(s *Session) { s.opening, s.openingReadOnly = []byte{1}, true }},
		"a statement that a replica refused": {sql: "SELECT 1", verdict: catalog.Read, cause: router.NotProved,
			change: func(s *Session) { s.at.distrusts(s.items[0].st) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := aimed(tc.sql, tc.verdict)
			if tc.change != nil {
				tc.change(s)
			}
			if e := s.aimTurn(tc.pin); e != nil {
				t.Fatal(e)
			}
			if s.aim.reason == "" {
				t.Errorf("%s: no reason", tc.sql)
			}
			if s.aim.cause != tc.cause || s.aim.replica != (tc.cause == router.ToReplica) {
				t.Errorf("%s: %s (%s), replica %v; want %s", tc.sql, s.aim.cause, s.aim.reason, s.aim.replica, tc.cause)
			}
		})
	}
}

func TestAReadNeedsWhatTheSessionHasSeen(t *testing.T) {
	s := aimed("SELECT 1", catalog.Read)
	f := s.at.Fleet.Load()
	if e := s.aimTurn(""); e != nil {
		t.Fatal(e)
	}
	s.floor = 11
	if i, why := s.choose(f); i >= 0 || why != balance.AllBehind {
		t.Errorf("a replica at 10 serves a session that has seen 11: %d, %s", i, why)
	}
	s.hosts[1].Replayed = 11
	if i, _ := s.choose(f); i != 1 {
		t.Errorf("chose %d, want the one that has replayed 11", i)
	}
	s.seen, s.seenOn = f.Now(), "s0-r1"
	if i, why := s.choose(f); i >= 0 {
		t.Errorf("chose %d (%s) although nobody knows whether it has what s0-r1 has shown", i, why)
	}
	s.floor = 0
	if i, why := s.choose(f); i != 0 || why != balance.Sticky {
		t.Errorf("chose %d (%s), want the replica that the session has read from", i, why)
	}
	s.aim.level = router.Eventual
	s.floor = 12
	if i, _ := s.choose(f); i < 0 {
		t.Error("an eventual read needs a position")
	}
}

func TestAwaitedReplicaComesWithTheViewItIsOf(t *testing.T) {
	s := aimed("SELECT 1", catalog.Read)
	f := s.at.Fleet.Load()
	s.aim.level, s.behind = router.Eventual, behindMost
	if v, _, _ := s.awaitReplica(f, &fleet.View{}); v != f.View() {
		t.Error("hosts were looked at again, and the View from before was returned with them")
	}
	old := &fleet.View{}
	if v, _, _ := s.awaitReplica(f, old); v != old {
		t.Error("hosts were not looked at again, and another View was returned with them")
	}
}
