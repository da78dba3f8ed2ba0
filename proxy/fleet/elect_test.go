package fleet

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Claims of a shard a, b, c of system 7.
func managerClaim(name string, timeline uint32) claim {
	return claim{name: name, role: Manager, timeline: timeline, system: 7}
}

func replicaClaim(name string, timeline uint32) claim {
	return claim{name: name, role: Replica, timeline: timeline, system: 7}
}

func awayClaim(name string) claim { return claim{name: name} }

func TestElect(t *testing.T) {
	a1, b1, b2, c1 := managerClaim("a", 1), replicaClaim("b", 1), managerClaim("b", 2), replicaClaim("c", 1)
	a, b, c := awayClaim("a"), awayClaim("b"), awayClaim("c")
	strange := func(x claim) claim { x.system = 8; return x }
	blind := func(x claim) claim { x.system, x.timeline = 0, 0; return x }
	fenced := func(x claim, at uint32) claim { x.fenced, x.fence = true, at; return x }
	closed := func(x claim) claim { x.closed = true; return x }
	for name, tc := range map[string]struct {
		rounds   [][]claim // each is one election
		manager  int
		epoch    uint64
		reasons  []string // a part of each, "" for none
		conflict string   // a part
	}{
		"nobody has answered":       {[][]claim{{a, b, c}}, -1, 0, []string{"", "", ""}, ""},
		"replicas only":             {[][]claim{{a, b1, c1}}, -1, 0, []string{"", "", ""}, ""},
		"the configured one":        {[][]claim{{a1, b1, c1}}, 0, 1, []string{"", "", ""}, ""},
		"it stays":                  {[][]claim{{a1, b1, c1}, {a1, b, c1}, {a1, b1, c1}}, 0, 1, []string{"", "", ""}, ""},
		"another one":               {[][]claim{{replicaClaim("a", 1), managerClaim("b", 1), c1}}, 1, 1, []string{"", "", ""}, ""},
		"it is lost":                {[][]claim{{a1, b1, c1}, {a, b1, c1}}, -1, 1, []string{"", "", ""}, ""},
		"it comes back":             {[][]claim{{a1, b1, c1}, {a, b1, c1}, {a1, b1, c1}}, 0, 2, []string{"", "", ""}, ""},
		"a promotion":               {[][]claim{{a1, b1, c1}, {a, b1, c1}, {a, b2, c1}}, 1, 2, []string{"", "", "follows timeline 1"}, ""},
		"a replica that follows":    {[][]claim{{a1, b1, c1}, {a, b2, replicaClaim("c", 2)}}, 1, 2, []string{"", "", ""}, ""},
		"a promotion while it runs": {[][]claim{{a1, b1, c1}, {a1, b2, c1}}, 1, 2, []string{"gone on to 2", "", "follows timeline 1"}, "a (timeline 1)"},
		"the old one returns":       {[][]claim{{a1, b1, c1}, {a, b2, c}, {a1, b2, c}}, 1, 2, []string{"gone on to 2", "", ""}, "b (timeline 2) is the manager; a (timeline 1)"},
		"the old one alone":         {[][]claim{{a1, b1, c}, {a, b2, c}, {a1, b, c}}, -1, 2, []string{"gone on to 2", "", ""}, "nobody is the manager; a"},
		"the old one as a replica":  {[][]claim{{a1, b1, c}, {a, b2, c}, {replicaClaim("a", 2), b2, c}}, 1, 2, []string{"", "", ""}, ""},
		"two at the start":          {[][]claim{{a1, b2, c}}, 1, 1, []string{"gone on to 2", "", ""}, "a (timeline 1)"},
		"two on one timeline":       {[][]claim{{managerClaim("a", 2), b2, c}}, 0, 1, []string{"", "the manager too", ""}, "b (timeline 2)"},
		"two, and one was it":       {[][]claim{{a, b2, c}, {managerClaim("a", 2), b2, c}}, 1, 1, []string{"the manager too", "", ""}, "a (timeline 2)"},
		"two, and one was it last":  {[][]claim{{a, b2, c}, {a, b, c}, {managerClaim("a", 2), b2, c}}, 1, 2, []string{"the manager too", "", ""}, "a (timeline 2)"},
		"it went to a new timeline": {[][]claim{{a1, b1, c1}, {managerClaim("a", 2), b1, c1}}, 0, 2, []string{"", "timeline 1", "timeline 1"}, ""},

		"a returning one, though a replica has gone on": {[][]claim{{a1, b1, c1}, {a, b, c1}, {a1, b, replicaClaim("c", 2)}}, -1, 1, []string{"a replica follows 2", "", "the manager on 1 is not"}, "nobody is the manager; a"},
		"a present one, though a replica has gone on":   {[][]claim{{a1, b1, c1}, {a1, b, replicaClaim("c", 2)}}, 0, 1, []string{"", "", "the manager on 1 is not"}, "c follows timeline 2"},

		"a strange replica":          {[][]claim{{a1, strange(b1), c1}}, 0, 1, []string{"", "another system, 8 instead of 7", ""}, ""},
		"a strange one claims it":    {[][]claim{{a1, strange(b2), c1}}, 0, 1, []string{"", "another system", ""}, "b (timeline 2) belongs to another system"},
		"a strange replica is first": {[][]claim{{a, strange(b1), c}, {a1, strange(b1), c}}, 0, 1, []string{"", "another system", ""}, ""},
		"made anew, replicas remain": {[][]claim{{a1, b1, c1}, {a, b1, c1}, {strange(a1), b1, c1}}, -1, 1, []string{"another system", "", ""}, "nobody is the manager"},
		"made anew, all of them":     {[][]claim{{managerClaim("a", 3), b1, c1}, {a, b, c}, {strange(a1), strange(b1), c}}, 0, 2, []string{"", "", ""}, ""},

		"unread timelines":             {[][]claim{{a1, blind(b1), c1}}, 0, 1, []string{"", "", ""}, ""},
		"unread after a failover":      {[][]claim{{a1, b1, blind(c1)}, {a, b2, blind(c1)}}, 1, 2, []string{"", "", "cannot be read after a failover"}, ""},
		"fenced":                       {[][]claim{{a1, b1, c1}, {a, b1, c1}, {fenced(a1, 1), b1, c1}}, -1, 1, []string{"until another was promoted", "", ""}, "nobody is the manager; a"},
		"fenced, with a timeline more": {[][]claim{{a1, b1, c1}, {a, b1, c1}, {fenced(managerClaim("a", 2), 1), b1, c1}}, 0, 2, []string{"", "timeline 1", "timeline 1"}, ""},

		"closed to us":                   {[][]claim{{closed(a), b1, c1}}, 0, 1, []string{"", "", ""}, ""},
		"closed, and another claims it":  {[][]claim{{closed(a), b2, c1}}, 1, 1, []string{"", "", "timeline 1"}, ""},
		"closed after a failover":        {[][]claim{{a1, b1, c1}, {a, b2, c1}, {closed(a), b, c1}}, -1, 2, []string{"", "", "timeline 1"}, ""},
		"closed once it had the role":    {[][]claim{{a1, b1, c1}, {a, b2, c1}, {a, closed(b), c1}}, 1, 2, []string{"", "", "timeline 1"}, ""},
		"a closed replica is no manager": {[][]claim{{a, closed(b), c1}}, -1, 0, []string{"", "", ""}, ""},
	} {
		r := roles{manager: -1, last: -1}
		var v verdict
		for _, claims := range tc.rounds {
			v = r.elect(claims)
		}
		if r.manager != tc.manager || r.epoch != tc.epoch {
			t.Errorf("%s: manager %d, epoch %d, want %d, %d", name, r.manager, r.epoch, tc.manager, tc.epoch)
		}
		for i, want := range tc.reasons {
			if got := v.reasons[i]; (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("%s: server %d: got %q, want %q", name, i, got, want)
			}
		}
		if (tc.conflict == "") != (v.conflict == "") || !strings.Contains(v.conflict, tc.conflict) {
			t.Errorf("%s: conflict %q, want %q", name, v.conflict, tc.conflict)
		}
	}
}

// TestElectNeverGoesBack: whatever servers say, in any order, the manager's timeline never falls, a replica is never the
// manager, and the epoch moves exactly when a manager appears.
func TestElectNeverGoesBack(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 9))
		r := roles{manager: -1, last: -1}
		claims := []claim{awayClaim("a"), awayClaim("b"), awayClaim("c")}
		var highest uint32
		for range 60 {
			before := r
			i := random.IntN(3)
			claims[i].role = Role(random.IntN(3))
			claims[i].timeline = uint32(1 + random.IntN(4))
			claims[i].system = 7
			r.elect(claims)
			if r.manager < 0 {
				if r.epoch != before.epoch {
					t.Fatalf("seed %d: the epoch moved without a manager", seed)
				}
				continue
			}
			m := claims[r.manager]
			if m.role != Manager || m.timeline < highest {
				t.Fatalf("seed %d: %+v is the manager after timeline %d", seed, m, highest)
			}
			if moved := r.manager != before.manager || m.timeline > highest; moved != (r.epoch > before.epoch) {
				t.Fatalf("seed %d: manager %d → %d, epoch %d → %d", seed, before.manager, r.manager, before.epoch, r.epoch)
			}
			highest = m.timeline
		}
	}
}
