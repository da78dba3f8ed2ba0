package fleet

import (
	"time"

	"pgtier/router/topology"
)

// Continue makes f, which must not run yet, go on where old, which is to end, has come to. It takes old's tickets for its own,
// also those that old gives later, to who has not seen yet that f has taken its place. And if it watches the last manager of old,
// which it knows by its address, it remembers what old knows of managers: one that was replaced is not taken again because the
// configuration has changed.
func (f *Fleet) Continue(old *Fleet) {
	f.positions.continues(&old.positions)
	old.mu.Lock()
	roles, hosts, order := old.roles, append([]known(nil), old.hosts...), old.order
	old.mu.Unlock()
	if roles.last < 0 {
		return
	}
	last := f.find(old.servers[roles.last])
	if last < 0 {
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles = roles
	f.roles.manager, f.roles.last, f.roles.epoch = -1, last, 0
	f.roles.followed = 0 // by servers that f may not watch
	f.lostAt = now       // until it answers
	for i := range hosts {
		if j := f.find(old.servers[i]); j >= 0 {
			f.hosts[j].fenced, f.hosts[j].fence = hosts[i].fenced, hosts[i].fence
		}
	}
	if !order.at.IsZero() {
		if order.target = f.find(old.servers[order.target]); order.target >= 0 {
			order.taken = true // old may be about to tell it
			f.order = order
		}
	}
	f.publish(now)
}

// find is the server of f at the address of s; -1: none is.
func (f *Fleet) find(s topology.Server) int {
	network, address := s.Address()
	for i := range f.servers {
		if n, a := f.servers[i].Address(); n == network && a == address {
			return i
		}
	}
	return -1
}
