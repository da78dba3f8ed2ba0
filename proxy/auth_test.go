package proxy_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/auth"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// psql runs one statement and returns what it prints, errors included.
func psql(t testing.TB, dsn, sql string) (string, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	cmd := exec.CommandContext(ctx, "psql", "-XAtq", "-v", "VERBOSITY=verbose", "-d", dsn, "-c", sql)
	cmd.Env = append(os.Environ(), "PGSSLROOTCERT=/nonexistent", "PGPASSFILE=/nonexistent")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// verifier is what the server keeps of role's password.
func (r *rig) verifier(t testing.TB, role string) string {
	t.Helper()
	return pgtest.Value(t, r.manager, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = '"+role+"'")
}

// file writes text into a file of the test.
func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clientTLS has the proxy offer TLS with the cluster's server certificate.
func (r *rig) clientTLS(mode string) wire.TLSConfig {
	c := r.cluster.Certificates
	return wire.TLSConfig{Mode: mode, Cert: c.ServerCert, Key: c.ServerKey, CA: c.CAFile}
}

// TestLoginMethods logs clients in by each method with each kind of secret, and has the proxy log in to the server with
// nothing but what the client proved: the URL names no role.
func TestLoginMethods(t *testing.T) {
	r := newRig(t)
	cert, key, err := r.cluster.Certificates.IssueClient("certified")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		method, role, password string
		secret                 string // "" is the password itself
		server                 string // URL options
		params                 []string
	}{
		"scram, plaintext":               {method: "scram-sha-256", role: "app", password: "app-secret"},
		"scram, verifier":                {method: "scram-sha-256", role: "app", password: "app-secret", secret: r.verifier(t, "app")},
		"scram, TLS without binding":     {method: "scram-sha-256", role: "app", password: "app-secret", params: []string{"sslmode=require", "channel_binding=disable"}},
		"scram with binding, plaintext":  {method: "scram-sha-256", role: "app", password: "app-secret", params: []string{"sslmode=require", "channel_binding=require"}},
		"scram with binding, verifier":   {method: "scram-sha-256", role: "app", password: "app-secret", secret: r.verifier(t, "app"), params: []string{"sslmode=require", "channel_binding=require"}},
		"scram both ways with binding":   {method: "scram-sha-256", role: "app", password: "app-secret", secret: r.verifier(t, "app"), server: "sslmode=require&channel_binding=require", params: []string{"sslmode=require", "channel_binding=require"}},
		"md5, plaintext":                 {method: "md5", role: "hashed", password: "hashed-secret"},
		"md5, hash":                      {method: "md5", role: "hashed", password: "hashed-secret", secret: r.verifier(t, "hashed")},
		"md5, verifier":                  {method: "md5", role: "app", password: "app-secret", secret: r.verifier(t, "app")},
		"md5 over TLS":                   {method: "md5", role: "hashed", password: "hashed-secret", params: []string{"sslmode=require"}},
		"password over TLS, plaintext":   {method: "password", role: "clear", password: "clear-secret", params: []string{"sslmode=require"}},
		"password over TLS, verifier":    {method: "password", role: "clear", password: "clear-secret", secret: r.verifier(t, "clear"), params: []string{"sslmode=require"}},
		"password over TLS, md5 hash":    {method: "password", role: "hashed", password: "hashed-secret", secret: r.verifier(t, "hashed"), params: []string{"sslmode=require"}},
		"trust, server trusts":           {method: "trust", role: "trusty"},
		"trust, known password":          {method: "trust", role: "app", secret: "app-secret"},
		"certificate, server by its own": {method: "cert", role: "certified", server: "sslmode=verify-full&sslrootcert=" + r.cluster.Certificates.CAFile + "&sslcert=" + cert + "&sslkey=" + key, params: []string{"sslmode=require", "sslcert=" + cert, "sslkey=" + key}},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.serve(t, func(cfg *proxy.Config) {
				cfg.Auth.Method = tc.method
				secret := tc.secret
				if secret == "" {
					secret = tc.password
				}
				list := file(t, "userlist.txt", fmt.Sprintf("\"%s\" \"%s\"\n", tc.role, secret))
				cfg.Auth.UsersFile = list
				cfg.TLS.Client = r.clientTLS("prefer")
				options := tc.server
				if options == "" {
					options = "sslmode=disable"
				}
				r.setURL(cfg, r.url(t, "", "", options))
			})
			dsn := p.dsn(tc.role, tc.password, tc.params...)
			c, err := p.dial(t, dsn)
			if err != nil {
				t.Fatal(err)
			}
			wantValue(t, c, "SELECT current_user || ' ' || session_user", tc.role+" "+tc.role)
			if got, err := psql(t, dsn, "SELECT current_user"); got != tc.role || err != nil {
				t.Errorf("psql: got %q, %v", got, err)
			}
			if tc.password == "" {
				return
			}
			_, err = p.dial(t, p.dsn(tc.role, tc.password+"x", tc.params...))
			wantError(t, err, "28P01", `password authentication failed for user "`+tc.role+`"`)
		})
	}
}

func TestPasswordInTheClearNeedsTLS(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Auth.Method, cfg.Auth.Users = "password", []auth.UserConfig{{Name: "clear", Password: "clear-secret"}}
		cfg.TLS.Client = r.clientTLS("prefer")
	})
	_, err := p.dial(t, p.dsn("clear", "clear-secret"))
	wantError(t, err, "28000", "password authentication needs an encrypted connection")
}

func TestCertificateMustNameTheRole(t *testing.T) {
	r := newRig(t)
	cert, key, err := r.cluster.Certificates.IssueClient("somebody")
	if err != nil {
		t.Fatal(err)
	}
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Auth.Method = "cert"
		cfg.TLS.Client = r.clientTLS("prefer")
	})
	_, err = p.dial(t, p.dsn("postgres", "", "sslmode=require", "sslcert="+cert, "sslkey="+key))
	wantError(t, err, "28000", `certificate authentication failed for user "postgres"`)
	_, err = p.dial(t, p.dsn("postgres", "", "sslmode=require"))
	wantError(t, err, "28000", "connection requires a valid client certificate")
	_, err = p.dial(t, p.dsn("postgres", ""))
	wantError(t, err, "28000", "connection requires a valid client certificate")
}

// TestRulesDecide holds the proxy to a file of rules, by database, role, address and encryption.
func TestRulesDecide(t *testing.T) {
	r := newRig(t)
	cert, key, err := r.cluster.Certificates.IssueClient("shop.client")
	if err != nil {
		t.Fatal(err)
	}
	rules := strings.Join([]string{
		"host nosuch all 127.0.0.1/32 trust",
		"host all other 10.0.0.0/8 trust",
		"host all other 127.0.0.1/32 reject",
		"hostssl all app 127.0.0.1/32 scram-sha-256",
		"hostnossl " + r.database + " clear 127.0.0.1/32 trust",
		"hostssl all certified 127.0.0.1/32 cert map=shop",
		"host all /^tru samehost trust",
	}, "\n")
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Auth.Method, cfg.Auth.HBAFile = "hba", file(t, "hba.conf", rules+"\n")
		cfg.Auth.IdentFile = file(t, "ident.conf", `shop /^(.*)\.client$ certified`+"\n")
		cfg.Auth.Users = []auth.UserConfig{{Name: "app", Password: "app-secret"}, {Name: "clear", Password: "clear-secret"}}
		cfg.TLS.Client = r.clientTLS("prefer")
		r.setURL(cfg, r.url(t, "", "", "sslmode=require&sslcert="+cert+"&sslkey="+key))
	})
	for name, tc := range map[string]struct{ dsn, state, words string }{
		"TLS rule with TLS":       {p.dsn("app", "app-secret", "sslmode=require"), "", ""},
		"TLS rule without TLS":    {p.dsn("app", "app-secret"), "28000", "no pg_hba.conf entry for host"},
		"plain rule without TLS":  {p.dsn("clear", ""), "", ""},
		"plain rule with TLS":     {p.dsn("clear", "", "sslmode=require"), "28000", "no pg_hba.conf entry for host"},
		"rejected":                {p.dsn("other", "other-secret"), "28000", "pg_hba.conf rejects connection for host"},
		"role by pattern":         {p.dsn("trusty", ""), "", ""},
		"role without rule":       {p.dsn("hashed", ""), "28000", "no pg_hba.conf entry for host"},
		"certificate without one": {p.dsn("certified", "", "sslmode=require"), "28000", "connection requires a valid client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := p.dial(t, tc.dsn)
			if tc.state != "" {
				wantError(t, err, tc.state, tc.words)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantValue(t, c, "SELECT 1", "1")
		})
	}
	// The proxy lets the mapped certificate in; the server has no such map and refuses the role, which is what the
	// client must then hear.
	_, err = p.dial(t, p.dsn("certified", "", "sslmode=require", "sslcert="+cert, "sslkey="+key))
	wantError(t, err, "28000", `refused the login of role "certified"`)
}

// lookUp has unknown users asked for at the server, as `pgtier serve --manager URL` does.
func (r *rig) lookUp(t testing.TB, edit func(*proxy.Config)) *running {
	t.Helper()
	return r.serve(t, func(cfg *proxy.Config) {
		cfg.Auth.Method, cfg.Auth.Query = "scram-sha-256", auth.DefaultQuery
		cfg.Auth.Users = []auth.UserConfig{{Name: "postgres", Password: r.cluster.Password}}
		if edit != nil {
			edit(cfg)
		}
	})
}

func TestRolesAreLookedUpOnTheServer(t *testing.T) {
	r := newRig(t)
	p := r.lookUp(t, nil)
	for role, password := range map[string]string{"postgres": r.cluster.Password, "app": "app-secret", "other": "other-secret"} {
		c, err := p.dial(t, p.dsn(role, password))
		if err != nil {
			t.Errorf("%s: %v", role, err)
			continue
		}
		wantValue(t, c, "SELECT session_user", role)
	}
	_, wrong := p.dial(t, p.dsn("app", "nonsense"))
	_, unknown := p.dial(t, p.dsn("nobody", "nonsense"))
	_, noLogin := p.dial(t, p.dsn("pg_monitor", "nonsense"))
	wantError(t, wrong, "28P01", `password authentication failed for user "app"`)
	wantError(t, unknown, "28P01", `password authentication failed for user "nobody"`)
	wantError(t, noLogin, "28P01", `password authentication failed for user "pg_monitor"`)
	shape := func(err error, role string) string {
		text := strings.ReplaceAll(err.Error(), role, "ROLE")
		return text[strings.Index(text, "failed to connect"):]
	}
	if a, b := shape(wrong, "app"), shape(unknown, "nobody"); a != b {
		t.Errorf("a wrong password and an unknown role look different:\n%s\n%s", a, b)
	}
}

func TestLookUpWithMD5SecretsAndMethod(t *testing.T) {
	r := newRig(t)
	p := r.lookUp(t, func(cfg *proxy.Config) { cfg.Auth.Method = "md5" })
	c, err := p.dial(t, p.dsn("hashed", "hashed-secret"))
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, c, "SELECT session_user", "hashed")
	_, err = p.dial(t, p.dsn("hashed", "x"))
	wantError(t, err, "28P01", "password authentication failed")
}

func TestLookUpByAnotherRoleInAnotherDatabase(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, `CREATE FUNCTION secret(wanted text) RETURNS TABLE (name text, secret text)
		SECURITY DEFINER SET search_path = pg_catalog LANGUAGE sql AS 'SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = wanted'`)
	p := r.lookUp(t, func(cfg *proxy.Config) {
		cfg.Auth.Query, cfg.Auth.QueryUser, cfg.Auth.QueryDatabase = "SELECT * FROM secret($1)", "other", r.database
		cfg.Auth.Users = []auth.UserConfig{{Name: "other", Password: "other-secret"}}
		r.setURL(cfg, r.url(t, "", "", "sslmode=disable"))
	})
	c, err := p.dial(t, p.dsn("app", "app-secret"))
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, c, "SELECT session_user", "app")
}

// TestPasswordChangedOnTheServer: where the proxy holds keys from a client's login, they stop working with the password,
// and the next login with the new password brings new ones.
func TestPasswordChangedOnTheServer(t *testing.T) {
	r := newRig(t)
	role := strings.Replace(r.database, "test", "role", 1)
	pgtest.Exec(t, r.manager, "postgres", "CREATE ROLE "+role+" LOGIN PASSWORD 'first'")
	t.Cleanup(func() {
		eventually(t, "the role can be dropped", func() bool {
			return r.manager.Exec(context.Background(), "postgres", "DROP ROLE IF EXISTS "+role) == nil
		})
	})
	p := r.lookUp(t, pools(func(c *pool.Config) { c.IdleTimeout = 50 * time.Millisecond }))
	old, err := p.dial(t, p.dsn(role, "first"))
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, old, "SELECT 1", "1")
	pgtest.Exec(t, r.manager, "postgres", "ALTER ROLE "+role+" PASSWORD 'second'")
	eventually(t, "the old connection is closed for idleness", func() bool { return r.connections(t, "usename = '"+role+"'") == "0" })
	_, err = value(old, "SELECT 1")
	wantError(t, err, "28P01", `refused the login of role "`+role+`"`)
	_, err = p.dial(t, p.dsn(role, "first"))
	wantError(t, err, "28P01", "password authentication failed")
	fresh, err := p.dial(t, p.dsn(role, "second"))
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, fresh, "SELECT session_user", role)
	wantValue(t, old, "SELECT session_user", role)
}

// TestWrongSecretInTheListIsToldByTheServer: the client passed the proxy's check, so it hears who refused whom.
func TestWrongSecretInTheListIsToldByTheServer(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Auth.Method, cfg.Auth.Users = "scram-sha-256", []auth.UserConfig{{Name: "app", Password: "stale"}}
		r.setURL(cfg, r.url(t, "", "", "sslmode=disable"))
	})
	began := time.Now()
	_, err := p.dial(t, p.dsn("app", "stale"))
	wantError(t, err, "28P01", `refused the login of role "app"`)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the refusal took %s", took)
	}
}

func TestUnknownDatabase(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	p.database = "nowhere"
	_, err := p.dial(t, p.dsn("postgres", ""))
	wantError(t, err, "3D000", `database "nowhere" does not exist`)
}
