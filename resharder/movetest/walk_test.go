package movetest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// TestOneServerBecomesManyWhileClientsWork splits one server into three shards, with a way back that is gone once, adds a shard and drains one, under clients of two
// proxies who notice nothing, and somebody who writes past them.
func TestOneServerBecomesManyWhileClientsWork(t *testing.T) {
	t.Parallel()
	r := newRandomRig(t)
	l := newLoad(r, false)
	random := r.randomly()
	l.start(random, 4, 4)
	fenced := l.goPast(random())
	l.more(100)
	r.widen()
	r.untilPossible("--to", "s0,s1,s2")
	r.reshard("start", "--to", "s0,s1,s2")
	l.more(50)
	r.reshard("cutover")
	l.more(50)
	r.reshard("rollback")
	l.more(50)
	r.reshard("verify")
	r.reshard("cutover")
	l.more(50)
	r.reshard("finish")
	r.owns(map[string]string{"s0": "22", "s1": "21", "s2": "21"})
	l.more(50)
	r.reshard("start", "--add", "s3", "--auto")
	r.reshard("finish")
	r.owns(map[string]string{"s0": "16", "s1": "16", "s2": "16", "s3": "16"})
	l.more(50)
	r.reshard("start", "--drain", "s1", "--auto")
	l.more(50)
	r.reshard("finish")
	r.owns(map[string]string{"s0": "22", "s2": "21", "s3": "21"})
	l.check()
	if fenced() == 0 {
		t.Error("the fence has refused nothing that came past the proxies")
	}
	l.linearizable()
	r.leftovers()
	r.sane()
}

// spreads waits until both proxies show the buckets spread evenly over these members and no others. Who has one more than the rest depends on who had it before.
func (r *rig) spreads(members ...string) {
	r.t.Helper()
	for _, d := range r.proxies {
		eventually(r.t, r.patience, func() string {
			got, odd := r.shards(d)
			if odd != "" {
				return odd
			}
			sum, least, most := 0, buckets, 0
			for _, n := range got {
				count, err := strconv.Atoi(n)
				if err != nil {
					return d.name + " shows no number of buckets"
				}
				sum, least, most = sum+count, min(least, count), max(most, count)
			}
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, members) || sum != buckets || most-least > 1 {
				return fmt.Sprintf("%s shows owners %v", d.name, got)
			}
			return ""
		})
	}
}

// owns waits until both proxies show these numbers of buckets by member.
func (r *rig) owns(want map[string]string) {
	r.t.Helper()
	for _, d := range r.proxies {
		eventually(r.t, r.patience, func() string {
			got, odd := r.shards(d)
			if odd == "" && !maps.Equal(got, want) {
				odd = d.name + " shows other owners"
				r.t.Logf("%s: %v, want %v", d.name, got, want)
			}
			return odd
		})
	}
}
