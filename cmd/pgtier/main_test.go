package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/configs"
)

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

var servers = pgtest.Share(localpg.Options{Replicas: 1})

// command runs one command line and returns what a shell would see.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitStatus(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		status int
		says   string // on either stream
	}{
		{[]string{"version"}, 0, "pgtier 0."},
		{[]string{"--help"}, 0, "check"},
		{nil, 2, "a command is missing"},
		{[]string{"chekc"}, 2, `unknown command "chekc"; did you mean check?`},
		{[]string{"version", "--nope"}, 2, "unknown flag: --nope"},
		{[]string{"version", "extra"}, 2, "extra"},
		{[]string{"check"}, 2, "--config is missing"},
		{[]string{"import"}, 2, "accepts 1 arg"},
		{[]string{"import", "/nonexistent.ini"}, 1, "read PgBouncer's configuration"},
		{[]string{"check", "--config", "/nonexistent.yaml"}, 1, "FAIL  configuration: open configuration"},
	} {
		status, stdout, stderr := command(t, tc.args...)
		if status != tc.status || !strings.Contains(stdout+stderr, tc.says) {
			t.Errorf("%q: got status %d, %s%s; want %d and %q", tc.args, status, stdout, stderr, tc.status, tc.says)
		}
	}
}

func TestImportPrintsAFileThatLoads(t *testing.T) {
	ini := writeFile(t, "pgbouncer.ini", "[databases]\napp = host=10.0.0.1\n[pgbouncer]\nlisten_addr = 127.0.0.1\nserver_reset_query = x\n")
	status, stdout, stderr := command(t, "import", ini)
	if status != 0 || !strings.Contains(stderr, "server_reset_query: not needed") {
		t.Errorf("got status %d, %s", status, stderr)
	}
	if _, err := configs.Parse("imported", []byte(stdout), nil); err != nil {
		t.Errorf("%v in\n%s", err, stdout)
	}
}

func TestHealthcheckFollowsReadiness(t *testing.T) {
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			http.Error(w, "draining", http.StatusServiceUnavailable)
		}
	}))
	address := strings.TrimPrefix(server.URL, "http://")
	if status, _, stderr := command(t, "healthcheck", "--http", address); status != 0 {
		t.Errorf("ready: got status %d, %s", status, stderr)
	}
	ready = false
	if status, _, stderr := command(t, "healthcheck", "--http", address); status != 1 || !strings.Contains(stderr, "draining") {
		t.Errorf("not ready: got status %d, %s", status, stderr)
	}
	server.Close()
	if status, _, _ := command(t, "healthcheck", "--http", address); status != 1 {
		t.Errorf("gone: got status %d", status)
	}
}
