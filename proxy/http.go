package proxy

import (
	"context"
	_ "embed" // the dashboard's page
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"pgtier/proxy/admin"
	"pgtier/proxy/pool"
)

//go:embed dashboard.html
var dashboardPage []byte

// Limits of the HTTP server. A scrape of ten thousand pools takes well below a second.
const (
	httpReadTimeout   = 5 * time.Second
	httpWriteTimeout  = 30 * time.Second
	httpIdleTimeout   = 2 * time.Minute
	httpHeaderBytes   = 16 << 10
	httpScrapes       = 4 // at the same time
	httpScrapeTimeout = 20 * time.Second
)

// serveHTTP serves metrics, health and the dashboard until ctx ends.
func (p *Proxy) serveHTTP(ctx context.Context) error {
	address := p.face.Load().cfg.HTTP
	if address == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s for http: %w", address, err)
	}
	p.ops.addr = l.Addr()
	p.ops.http = &http.Server{
		Handler:           p.handler(),
		ReadHeaderTimeout: httpReadTimeout, ReadTimeout: httpReadTimeout, WriteTimeout: httpWriteTimeout, IdleTimeout: httpIdleTimeout,
		MaxHeaderBytes: httpHeaderBytes, ErrorLog: zap.NewStdLog(p.log.Named("http")),
	}
	context.AfterFunc(ctx, func() { _ = p.ops.http.Close() })
	p.log.Info("serving http", zap.String("address", l.Addr().String()))
	p.running.Go(func() { // ends with ctx
		if err := p.ops.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("http server stopped", zap.Error(err))
		}
	})
	return nil
}

func (p *Proxy) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(p.ops.metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: httpScrapes, Timeout: httpScrapeTimeout, ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", p.serveReady)
	mux.HandleFunc("/status.json", p.serveStatus)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
		_, _ = w.Write(dashboardPage)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

func (p *Proxy) serveReady(w http.ResponseWriter, r *http.Request) {
	if why := p.notReady(r.Context()); why != "" {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// status is what the dashboard shows.
type status struct {
	Version   string           `json:"version"`
	Uptime    int64            `json:"uptime_seconds"`
	Ready     bool             `json:"ready"`
	Why       string           `json:"why,omitempty"`
	Paused    bool             `json:"paused"`
	Draining  bool             `json:"draining"`
	Clients   int              `json:"clients"`
	Servers   int              `json:"servers"`
	Pins      int              `json:"pins"`
	Reads     uint64           `json:"proved_reads"`
	Replicas  uint64           `json:"replica_reads"` // of these
	Hosts     []hostStatus     `json:"hosts"`
	Pools     []poolStatus     `json:"pools"`
	Databases []databaseStatus `json:"databases"`
}

type hostStatus struct {
	Database string `json:"database"`
	Server   string `json:"server"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Zone     string `json:"zone"`
	Role     string `json:"role"`
	State    string `json:"state"`
	Lag      int64  `json:"lag_ms"`
	Latency  int64  `json:"latency_us"`
	InFlight int    `json:"in_flight"`
	Reads    uint64 `json:"reads"`
	Reason   string `json:"reason"`
	Conflict string `json:"conflict"`
}

type poolStatus struct {
	Database       string  `json:"database"`
	User           string  `json:"user"`
	ClientsActive  int     `json:"cl_active"`
	ClientsWaiting int     `json:"cl_waiting"`
	Active         int     `json:"sv_active"`
	Idle           int     `json:"sv_idle"`
	Used           int     `json:"sv_used"`
	Tested         int     `json:"sv_tested"`
	LoggingIn      int     `json:"sv_login"`
	MaxWait        float64 `json:"maxwait_seconds"`
	Mode           string  `json:"pool_mode"`
}

type databaseStatus struct {
	Database     string  `json:"database"`
	Queries      uint64  `json:"queries"`
	Transactions uint64  `json:"transactions"`
	Received     uint64  `json:"received_bytes"`
	Sent         uint64  `json:"sent_bytes"`
	QuerySeconds float64 `json:"query_seconds"`
	TxSeconds    float64 `json:"transaction_seconds"`
	WaitSeconds  float64 `json:"wait_seconds"`
}

// serveStatus gives the dashboard the figures of SHOW REPLICAS, SHOW POOLS and SHOW STATS.
func (p *Proxy) serveStatus(w http.ResponseWriter, r *http.Request) {
	why := p.notReady(r.Context())
	s := status{Version: p.ops.version, Uptime: int64(time.Since(p.started).Seconds()), Ready: why == "", Why: why,
		Paused: p.registry.Paused(pool.Scope{}), Draining: p.Draining(), Hosts: []hostStatus{}, Pools: []poolStatus{}, Databases: []databaseStatus{}}
	s.Reads, s.Replicas = p.Reads()
	for _, h := range p.viewHosts() {
		s.Hosts = append(s.Hosts, hostStatus{h.Database, h.Name, h.Addr, h.Port, h.Zone, h.Role, h.State,
			h.Lag.Milliseconds(), h.Latency.Microseconds(), h.InFlight, h.Reads, h.Reason, h.Conflict})
	}
	for _, c := range p.viewClients() {
		s.Clients++
		if c.Pin != "" {
			s.Pins++
		}
	}
	for _, l := range p.viewPools() {
		s.Servers += l.Active + l.Idle + l.Used + l.Tested + l.LoggingIn
		s.Pools = append(s.Pools, poolStatus{l.Database, l.User, l.ClientsActive, l.ClientsWaiting,
			l.Active, l.Idle, l.Used, l.Tested, l.LoggingIn, l.MaxWait.Seconds(), l.Mode})
	}
	for _, d := range p.viewStats() {
		if d.Database != adminDatabase {
			s.Databases = append(s.Databases, statusOf(d))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s)
}

func statusOf(d admin.Stats) databaseStatus {
	t := d.Now
	return databaseStatus{d.Database, t.Queries, t.Transactions, t.Received, t.Sent,
		t.QueryTime.Seconds(), t.TxTime.Seconds(), t.WaitTime.Seconds()}
}
