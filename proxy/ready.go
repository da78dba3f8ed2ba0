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
	"pgtier/proxy/pool"
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

// faults says for each database why its server cannot be used, "" if it can: a
// server that does not answer the phone, or whose every pool is down.
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
