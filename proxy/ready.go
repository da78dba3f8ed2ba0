package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/router/balance"
)

const (
	// probeTimeout bounds one attempt to reach a server.
	probeTimeout = time.Second
	// probeKeep is how long an attempt's result holds, so that asking often costs nothing.
	probeKeep = time.Second
	// maxProbes bounds the attempts at the same time.
	maxProbes = 16
)

// probes remembers which servers could be reached.
type probes struct {
	mu      sync.Mutex // held while probing: one round serves all who ask
	at      time.Time
	results map[string]error // by network and address
}

// notReady says why the proxy should get no clients now; "" when it should.
func (p *Proxy) notReady(ctx context.Context) string {
	if p.Draining() {
		return "draining: the proxy is shutting down"
	}
	faults := p.faults(ctx)
	for _, why := range faults {
		if why == "" {
			return ""
		}
	}
	if len(faults) == 0 {
		return "" // nothing but a wildcard: servers are known once clients ask
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		lines = append(lines, fmt.Sprintf("database %q: %s", name, faults[name]))
	}
	return "no server can be reached\n" + strings.Join(lines, "\n")
}

// faults says for each database why its servers cannot be used, "" if one can. With replicas, one server that can be used is
// enough, be it a replica: reads are served, and writes wait for a manager. Without, it is a server that does not answer the
// phone, or whose every pool is down.
func (p *Proxy) faults(ctx context.Context) map[string]string {
	all := p.listed()
	down, up := map[string]error{}, map[string]bool{}
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) {
		if st := pl.Stats(); st.Down && !answered(st.LastErr) {
			down[pl.Key().Database] = st.LastErr
		} else if st.Active+st.Idle+st.Used > 0 {
			up[pl.Key().Database] = true
		}
	})
	reached := p.ops.probes.ask(ctx, all)
	out := map[string]string{}
	for name, d := range all {
		if why, known := d.fleetFault(); known {
			out[name] = why
			continue
		}
		network, address := d.manager().Address()
		switch err := reached[network+" "+address]; {
		case err != nil:
			out[name] = err.Error()
		case down[name] != nil && !up[name]:
			out[name] = down[name].Error()
		default:
			out[name] = ""
		}
	}
	return out
}

// fleetFault says why none of d's servers can be used, "" if one can. known is false where they are not watched, or have
// not been asked yet.
func (d *database) fleetFault() (why string, known bool) {
	f := d.shared.Fleet.Load()
	if f == nil {
		return "", false
	}
	v := f.View()
	var reasons []string
	for i := range v.Hosts {
		h := &v.Hosts[i]
		if i == v.Manager || h.State >= balance.Lagging {
			return "", true
		}
		known = known || h.Reason != fleet.NotAsked
		reasons = append(reasons, h.Name+" is "+h.State.String()+" ("+h.Reason+")")
	}
	return strings.Join(reasons, "; "), known
}

// answered reports whether err is the word of a server that serves others: one
// role's wrong password or missing database must not take the proxy out of use.
func answered(err error) bool {
	var stated interface{ SQLState() string }
	if !errors.As(err, &stated) {
		return false
	}
	code := stated.SQLState()
	return len(code) == 5 && !strings.HasPrefix(code, "57") && !strings.HasPrefix(code, "08") && !strings.HasPrefix(code, "53")
}

// ask connects to every server, and hangs up before saying anything, which
// PostgreSQL does not even log.
func (p *probes) ask(ctx context.Context, all map[string]*database) map[string]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := map[string][2]string{}
	fresh := time.Since(p.at) < probeKeep
	for _, d := range all {
		network, address := d.manager().Address()
		wanted[network+" "+address] = [2]string{network, address}
		if _, known := p.results[network+" "+address]; !known {
			fresh = false
		}
	}
	if fresh {
		return p.results
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	results := make(map[string]error, len(wanted))
	slots := make(chan struct{}, maxProbes)
	ctx = context.WithoutCancel(ctx) // others may wait for the results too
	for key, target := range wanted {
		slots <- struct{}{}
		wg.Go(func() { // ends within probeTimeout
			dialer := net.Dialer{Timeout: probeTimeout}
			c, err := dialer.DialContext(ctx, target[0], target[1])
			if err == nil {
				_ = c.Close()
			}
			mu.Lock()
			results[key] = err
			mu.Unlock()
			<-slots
		})
	}
	wg.Wait()
	p.results, p.at = results, time.Now()
	return results
}
