package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/auth"
	"pgtier/proxy/wire"
)

// selfSigned makes a certificate for 127.0.0.1 that ends at notAfter.
func selfSigned(t testing.TB, name string, notAfter time.Time) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// pair is a certificate with its key in files that a test may replace.
type pair struct{ cert, key string }

func newPair(t testing.TB) pair {
	dir := t.TempDir()
	return pair{filepath.Join(dir, "proxy.crt"), filepath.Join(dir, "proxy.key")}
}

func (p pair) write(t testing.TB, cert, key []byte) {
	t.Helper()
	for path, content := range map[string][]byte{p.cert: cert, p.key: key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p pair) issue(t testing.TB, name string, notAfter time.Time) {
	t.Helper()
	cert, key := selfSigned(t, name, notAfter)
	p.write(t, cert, key)
}

func TestClientTLSModes(t *testing.T) {
	r := newRig(t)
	cert, key, err := r.cluster.Certificates.IssueClient("postgres")
	if err != nil {
		t.Fatal(err)
	}
	otherCert, otherKey, err := r.cluster.Certificates.IssueClient("somebody")
	if err != nil {
		t.Fatal(err)
	}
	foreign := newPair(t)
	foreign.issue(t, "postgres", time.Now().Add(time.Hour))
	clients := map[string][]string{
		"plain":   {"sslmode=disable"},
		"TLS":     {"sslmode=require"},
		"own":     {"sslmode=require", "sslcert=" + cert, "sslkey=" + key},
		"other":   {"sslmode=require", "sslcert=" + otherCert, "sslkey=" + otherKey},
		"foreign": {"sslmode=require", "sslcert=" + foreign.cert, "sslkey=" + foreign.key},
	}
	for mode, want := range map[string]map[string]string{ // words of the error; "" logs in
		"disable":     {"plain": "", "TLS": "server refused TLS"},
		"allow":       {"plain": "", "TLS": "", "own": "", "foreign": ""},
		"prefer":      {"plain": "", "TLS": "", "own": ""},
		"require":     {"plain": "28000", "TLS": "", "own": ""},
		"verify-ca":   {"plain": "28000", "TLS": "certificate required", "own": "", "other": "", "foreign": "certificate required"},
		"verify-full": {"plain": "28000", "TLS": "certificate required", "own": "", "other": "28000", "foreign": "certificate required"},
	} {
		t.Run(mode, func(t *testing.T) {
			p := r.serve(t, func(cfg *proxy.Config) { cfg.TLS.Client = r.clientTLS(mode) })
			for client, words := range want {
				c, err := p.dial(t, p.dsn("postgres", "", clients[client]...))
				if words == "" {
					if err != nil {
						t.Errorf("%s: %v", client, err)
						continue
					}
					wantValue(t, c, "SELECT 1", "1")
				} else if err == nil || !strings.Contains(err.Error(), words) {
					t.Errorf("%s: got %v, want %q", client, err, words)
				}
			}
		})
	}
}

// TestServerTLSModes holds each mode to what libpq does with it, as psql shows straight at the same server.
func TestServerTLSModes(t *testing.T) {
	r := newRig(t)
	ca := "&sslrootcert=" + r.cluster.Certificates.CAFile
	foreign := newPair(t)
	foreign.issue(t, "nobody's authority", time.Now().Add(time.Hour))
	foreignCA := "&sslrootcert=" + foreign.cert
	roles := map[string]string{"app": "app-secret", "secured": "secured-secret", "unsecured": "unsecured-secret"}
	for _, options := range []string{
		"disable", "allow", "prefer", "require", "require" + ca, "require" + foreignCA, "verify-ca" + ca, "verify-ca" + foreignCA,
		"verify-full" + ca, "verify-full" + foreignCA, "prefer" + foreignCA,
	} {
		for role, password := range roles {
			if role != "app" && !strings.HasPrefix(options, "allow") && !strings.HasPrefix(options, "prefer") {
				continue // only modes that leave TLS open can go the other way
			}
			t.Run(strings.SplitN(options, "=", 2)[0]+" as "+role, func(t *testing.T) {
				const question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
				server := r.url(t, role, password, "sslmode="+options)
				direct := "postgres://" + role + ":" + password + "@" + r.manager.Address() + "/" + r.database + "?sslmode=" + options
				want, wantErr := psql(t, direct, question)
				p := r.serve(t, func(cfg *proxy.Config) {
					cfg.Pool.ServerDownWait = 50 * time.Millisecond
					r.setURL(cfg, server)
				})
				got, err := psql(t, p.dsn(role, ""), question)
				if wantErr == nil && got != want || (err == nil) != (wantErr == nil) {
					t.Errorf("through the proxy: %q, %v\ndirect: %q, %v", got, err, want, wantErr)
				}
			})
		}
	}
}

// TestServerTLSWithoutTLSAndWithAnotherName has a server of its own, whose encryption it changes.
func TestServerTLSWithoutTLSAndWithAnotherName(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{TLS: true, Auth: "trust"})
	r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: "postgres"}
	secured := func(mode string) (string, error) {
		p := r.serve(t, func(cfg *proxy.Config) {
			cfg.Pool.ServerDownWait = 100 * time.Millisecond
			r.setURL(cfg, r.url(t, "postgres", "", "sslmode="+mode))
		})
		defer p.Close()
		c, err := p.dial(t, p.dsn("postgres", ""))
		if err != nil {
			return "", err
		}
		return value(c, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
	}
	if _, _, err := cluster.Certificates.IssueServer("server", "elsewhere.example"); err != nil {
		t.Fatal(err)
	}
	ca := "&sslrootcert=" + cluster.Certificates.CAFile
	pgtest.Exec(t, r.manager, "postgres", "SELECT pg_reload_conf()")
	eventually(t, "the server shows another name", func() bool {
		_, err := secured("verify-full" + ca)
		return err != nil
	})
	if got, err := secured("verify-ca" + ca); got != "t" {
		t.Errorf("verify-ca and another name: %q, %v", got, err)
	}
	pgtest.Exec(t, r.manager, "postgres", "ALTER SYSTEM SET ssl = off")
	pgtest.Exec(t, r.manager, "postgres", "SELECT pg_reload_conf()")
	eventually(t, "the server declines TLS", func() bool {
		_, err := secured("require")
		return err != nil && strings.Contains(err.Error(), "57P03")
	})
	for _, mode := range []string{"disable", "allow", "prefer"} {
		if got, err := secured(mode); got != "f" {
			t.Errorf("%s without TLS: %q, %v", mode, got, err)
		}
	}
}

// hello is a startup packet of the superuser.
func (p *running) hello() []byte {
	return wire.AppendStartup(nil, wire.Protocol30, []wire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: p.database}})
}

// directly starts TLS without an SSLRequest, sends the startup packet and returns the first byte of the answer.
func (p *running) directly(conf *tls.Config) (byte, error) {
	nc, err := net.DialTimeout("tcp", p.address, limit)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(limit))
	c := tls.Client(nc, conf)
	if _, err := c.Write(p.hello()); err != nil {
		return 0, err
	}
	var first [1]byte
	_, err = io.ReadFull(c, first[:])
	return first[0], err
}

func TestDirectTLS(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) { cfg.TLS.Client = r.clientTLS("require") })
	c, err := p.dial(t, p.dsn("postgres", "", "sslmode=require", "sslnegotiation=direct"))
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, c, "SELECT 1", "1")
	conf := &tls.Config{RootCAs: r.cluster.Certificates.Roots, ServerName: "127.0.0.1"}
	if first, err := p.directly(conf); first == 'R' {
		t.Errorf("without ALPN: got %q, %v; want a refusal", first, err)
	}
	conf.NextProtos = []string{"h2"}
	if first, err := p.directly(conf); err == nil {
		t.Errorf("with another protocol: got %q; want no TLS", first)
	}
	conf.NextProtos = []string{"h2", "postgresql"}
	if first, err := p.directly(conf); first != 'R' {
		t.Errorf("with ALPN: got %q, %v; want an authentication message", first, err)
	}
}

// TestPlaintextBehindSSLRequest: what stands there may have been put there by somebody in the middle.
func TestPlaintextBehindSSLRequest(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, func(cfg *proxy.Config) { cfg.TLS.Client = r.clientTLS("prefer") })
	nc, err := net.DialTimeout("tcp", p.address, limit)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(limit))
	if _, err := nc.Write(append(wire.AppendSSLRequest(nil), p.hello()...)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(nc)
	if err != nil || !strings.Contains(string(answer), "received unencrypted data after SSL request") {
		t.Errorf("got %q, %v", answer, err)
	}
}

// shown is the name in the certificate that the proxy shows a new client.
func (p *running) shown(t testing.TB) string {
	t.Helper()
	c, err := p.dial(t, p.dsn("postgres", "", "sslmode=require"))
	if err != nil {
		t.Fatal(err)
	}
	return c.PgConn().Conn().(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestCertificatesAreReplacedByReload(t *testing.T) {
	r := newRig(t)
	files := newPair(t)
	files.issue(t, "first", time.Now().Add(time.Hour))
	cfg := r.config(t, func(cfg *proxy.Config) {
		cfg.TLS.Client = wire.TLSConfig{Mode: "require", Cert: files.cert, Key: files.key}
		cfg.Auth.Method, cfg.Auth.Users = "scram-sha-256", []auth.UserConfig{{Name: "postgres", Password: r.cluster.Password}}
	})
	p := r.start(t, cfg)
	bound := func() *pgx.Conn { // logs in with channel binding, which is about the certificate shown
		c, err := p.dial(t, p.dsn("postgres", r.cluster.Password, "sslmode=require", "channel_binding=require"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := bound()
	files.issue(t, "second", time.Now().Add(time.Hour))
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	wantValue(t, old, "SELECT 1", "1")
	fresh := bound()
	if got := fresh.PgConn().Conn().(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName; got != "second" {
		t.Errorf("after the reload the certificate is %q", got)
	}
	wantValue(t, fresh, "SELECT 1", "1")
}

func TestBrokenCertificatesAreRefused(t *testing.T) {
	r := newRig(t)
	files := newPair(t)
	good, goodKey := selfSigned(t, "good", time.Now().Add(time.Hour))
	_, otherKey := selfSigned(t, "other", time.Now().Add(time.Hour))
	expired, expiredKey := selfSigned(t, "expired", time.Now().Add(-time.Hour))
	files.write(t, good, goodKey)
	cfg := r.config(t, func(cfg *proxy.Config) {
		cfg.TLS.Client = wire.TLSConfig{Mode: "require", Cert: files.cert, Key: files.key}
	})
	p := r.start(t, cfg)
	refused := func(what string, cfg proxy.Config, words string) {
		t.Helper()
		if err := p.Reload(cfg); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("reload with %s: got %v, want %q", what, err, words)
		}
		if p, err := proxy.New(cfg, zap.NewNop()); err == nil {
			p.Close()
			t.Errorf("start with %s: no error", what)
		}
		if got := p.shown(t); got != "good" {
			t.Errorf("after the reload with %s clients see %q", what, got)
		}
	}
	for what, content := range map[string][2][]byte{
		"another's key":           {good, otherKey},
		"half a certificate":      {good[:len(good)/2], goodKey},
		"no text at all":          {nil, nil},
		"an expired certificate":  {expired, expiredKey},
		"the key for certificate": {goodKey, goodKey},
	} {
		files.write(t, content[0], content[1])
		refused(what, cfg, files.cert)
	}
	files.write(t, good, goodKey)
	for what, change := range map[string]func(*proxy.Config){
		"a missing certificate":         func(c *proxy.Config) { c.TLS.Client.Cert = "/nonexistent/cert" },
		"a missing key":                 func(c *proxy.Config) { c.TLS.Client.Key = "/nonexistent/key" },
		"a missing authority":           func(c *proxy.Config) { c.TLS.Client.CA = "/nonexistent/ca" },
		"an authority that is none":     func(c *proxy.Config) { c.TLS.Client.CA = files.key },
		"a missing server authority":    func(c *proxy.Config) { c.TLS.Server.CA = "/nonexistent/ca" },
		"a certificate without its key": func(c *proxy.Config) { c.TLS.Client.Key = "" },
	} {
		broken := cfg
		change(&broken)
		refused(what, broken, "tls.")
	}
	if err := p.Reload(cfg); err != nil {
		t.Errorf("the good configuration again: %v", err)
	}
}
