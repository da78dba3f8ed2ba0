package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"pgtier/proxy"
)

// withHTTP is an edit that serves HTTP on a free port.
func withHTTP(cfg *proxy.Config) {
	withConsole(cfg)
	cfg.HTTP = "127.0.0.1:0"
}

// get asks the proxy over HTTP.
func get(t testing.TB, p *running, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(bounded(t), http.MethodGet, "http://"+p.HTTPAddr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// scrape reads the metrics as Prometheus does.
func scrape(t testing.TB, p *running) map[string]*dto.MetricFamily {
	t.Helper()
	status, body := get(t, p, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: got %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sample is the value of the series of name whose labels include these names and values in turn.
func sample(t testing.TB, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	family := families[name]
	if family == nil {
		t.Fatalf("no metric %s", name)
	}
	for _, m := range family.Metric {
		has := map[string]string{}
		for _, l := range m.Label {
			has[l.GetName()] = l.GetValue()
		}
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && has[labels[i]] == labels[i+1]
		}
		if fits {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no series of %s with %v", name, labels)
	return 0
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withHTTP)
	c := p.client(t)
	mustValue(t, c, "SELECT pg_advisory_lock(1)")
	mustValue(t, c, "SELECT pg_sleep(0.02)")
	other := p.client(t)
	mustValue(t, other, "BEGIN")
	mustValue(t, other, "SELECT 1") // which takes a connection
	_, _ = p.dial(t, p.consoleDSN("postgres", "nothere"))
	families := scrape(t, p)
	for name, want := range map[string]float64{
		"pgtier_build_info": 1, "pgtier_draining": 0, "pgtier_paused": 0, "pgbouncer_up": 1, "pgbouncer_config_max_client_connections": 10000,
		"pgbouncer_databases": 2, "pgbouncer_used_clients": 2,
	} {
		if got := sample(t, families, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	at := []string{"database", r.database, "user", "postgres"}
	with := func(more ...string) []string { return append(append([]string{}, at...), more...) }
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"pgtier_pool_connections", with("state", "active"), 2}, {"pgtier_pool_dials_total", at, 2}, {"pgtier_pool_dial_errors_total", at, 0},
		{"pgtier_pool_down", at, 0}, {"pgbouncer_pools_server_active_connections", at, 2}, {"pgbouncer_pools_client_active_connections", at, 2},
		{"pgtier_clients", []string{"database", r.database, "state", "idle_in_transaction"}, 1},
		{"pgtier_pinned_clients", []string{"database", r.database, "class", "advisory_lock"}, 1},
		{"pgbouncer_databases_pool_size", []string{"name", r.database}, 20},
	} {
		if got := sample(t, families, test.name, test.labels...); got != test.want {
			t.Errorf("%s %v: got %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	for _, name := range []string{
		"pgbouncer_stats_queries_pooled_total", "pgbouncer_stats_sql_transactions_pooled_total", "pgbouncer_stats_received_bytes_total",
		"pgbouncer_stats_sent_bytes_total", "pgbouncer_stats_queries_duration_seconds_total", "pgbouncer_stats_server_in_transaction_seconds_total",
		"pgtier_query_seconds_total", "pgtier_transaction_seconds_total",
	} {
		if got := sample(t, families, name, "database", r.database); got <= 0 {
			t.Errorf("%s: got %v", name, got)
		}
	}
	for _, name := range []string{"pgtier_logins_total", "pgtier_statement_cache_misses_total", "go_goroutines", "process_open_fds"} {
		if got := sample(t, families, name); got <= 0 {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withHTTP)
	wantValue(t, p.client(t), "SELECT 1", "1")
	_, body := get(t, p, "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestReadiness(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withHTTP)
	if status, body := get(t, p, "/readyz"); status != http.StatusOK {
		t.Errorf("serving: got %d %s", status, body)
	}
	busy := p.client(t)
	mustValue(t, busy, "BEGIN")
	mustValue(t, busy, "SELECT 1") // which takes a connection
	boss := p.console(t, "boss")
	mustValue(t, boss, "SHUTDOWN WAIT_FOR_SERVERS")
	if status, body := get(t, p, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
		t.Errorf("draining: got %d %s", status, body)
	}
	if status, _ := get(t, p, "/livez"); status != http.StatusOK {
		t.Errorf("livez: got %d", status)
	}
}

func TestOneRolesRefusalLeavesTheProxyReady(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withHTTP)
	if _, err := p.dial(t, p.dsn("norole", "")); err == nil {
		t.Fatal("a role that does not exist got in")
	}
	families := scrape(t, p)
	if got := sample(t, families, "pgtier_pool_down", "user", "norole"); got != 1 {
		t.Errorf("pgtier_pool_down: got %v", got)
	}
	if status, body := get(t, p, "/readyz"); status != http.StatusOK {
		t.Errorf("got %d %s", status, body)
	}
}

func TestDashboard(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, withHTTP)
	wantValue(t, p.client(t), "SELECT 1", "1")
	status, page := get(t, p, "/")
	if status != http.StatusOK || !strings.Contains(page, "<title>pgtier</title>") || strings.Contains(page, "http://") || strings.Contains(page, "https://") {
		t.Errorf("got %d, %d bytes; want a page without assets of others", status, len(page))
	}
	type overview struct {
		Ready bool
		Pools []struct {
			Database string
			Idle     int `json:"sv_idle"`
		}
		Databases []struct {
			Database string
			Queries  int
		}
	}
	eventually(t, "the query counts", func() bool { // behind its answer
		_, body := get(t, p, "/status.json")
		var got overview
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if !got.Ready || len(got.Pools) != 2 || got.Pools[0].Database != r.database || got.Pools[0].Idle != 1 || len(got.Databases) != 1 {
			t.Fatalf("got %s", body)
		}
		return got.Databases[0].Queries == 1
	})
}

func TestHTTPTakesOnlyGetAndHead(t *testing.T) {
	p := newRig(t).serve(t, withHTTP)
	for _, path := range []string{"/", "/metrics", "/livez", "/readyz"} {
		for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: 405, http.MethodDelete: 405} {
			request, err := http.NewRequestWithContext(bounded(t), method, "http://"+p.HTTPAddr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s %s: got %d, want %d", method, path, response.StatusCode, want)
			}
		}
	}
	if status, _ := get(t, p, "/nothere"); status != http.StatusNotFound {
		t.Errorf("/nothere: got %d", status)
	}
}
