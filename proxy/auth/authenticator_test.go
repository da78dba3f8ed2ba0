package auth

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write puts text into a file of the test's directory.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUserList(t *testing.T) {
	hash := "md5" + strings.Repeat("0", 32)
	users, err := ParseUserList(write(t, "userlist.txt", "; comment\n# another\n\n\"app\" \"secret\" trailing words\r\n  \"o\"\"brien\" \"pa\"\"ss; # word\"\n\"old\" \"first\"\n\"old\"\t\""+hash+"\"\n\"cert\" \"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := NewUsers(NewMock(), 4096, []User{{Name: "app", Secret: mustSecret(t, "of the configuration")}}, users)
	for name, want := range map[string]string{"app": "of the configuration", `o"brien`: `pa"ss; # word`, "old": hash, "cert": ""} {
		user, ok := all.Lookup(name)
		if !ok || user.Name != name || user.Secret.Reveal() != want {
			t.Errorf("user %q: %q, %v, want %q", name, user.Secret.Reveal(), ok, want)
		}
	}
	if _, ok := all.Lookup("nobody"); ok || all.Len() != 4 {
		t.Errorf("%d users, nobody found: %v; want 4, false", all.Len(), ok)
	}

	for _, test := range []struct{ line, want string }{
		{`app "topsecret"`, "double quotes"},
		{`"app`, "double quotes"},
		{`"" "topsecret"`, "name is empty"},
		{`"app"`, `behind user "app"`},
		{`"app" topsecret`, `behind user "app"`},
		{`"app" "topsecret`, `behind user "app"`},
		{`"app" "SCRAM-SHA-256$topsecret"`, `user "app"`},
		{`"` + strings.Repeat("a", 128) + `" "topsecret"`, "longer than 127"},
		{`"app" "` + strings.Repeat("topsecret", 300) + `"`, "longer than 2047"},
	} {
		_, err := ParseUserList(write(t, "userlist.txt", "\n"+test.line+"\n"))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "userlist.txt:2: ") {
			t.Errorf("%q: error %v, want line 2 and %q", test.line, err, test.want)
		} else if strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%q: the error shows the secret: %v", test.line, err)
		}
	}
	if _, err := ParseUserList(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file was accepted")
	}
	if _, err := ParseUserList(t.TempDir()); err == nil {
		t.Error("a directory was accepted")
	}
}

// config is Default with changes.
func config(change func(*Config)) Config {
	cfg := Default()
	change(&cfg)
	return cfg
}

func TestValidateNamesTheKey(t *testing.T) {
	ok := Default()
	if err := ok.Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"auth.method: \"ldap\"":         func(c *Config) { c.Method = "ldap" },
		"auth.method: reject":           func(c *Config) { c.Method = "reject" },
		"auth.hba_file: method hba":     func(c *Config) { c.Method = "hba" },
		"auth.hba_file: its rules":      func(c *Config) { c.HBAFile = "x" },
		"auth.ident_file":               func(c *Config) { c.IdentFile = "x" },
		"auth.query: ":                  func(c *Config) { c.Query = "SELECT 1" },
		"auth.query_user":               func(c *Config) { c.QueryUser = "u" },
		"auth.query_database":           func(c *Config) { c.QueryDatabase = "d" },
		"auth.scram_iterations":         func(c *Config) { c.ScramIterations = 0 },
		"auth.users[0].name: a user":    func(c *Config) { c.Users = []UserConfig{{Password: "topsecret"}} },
		"auth.users[1].name: \"u\"":     func(c *Config) { c.Users = []UserConfig{{Name: "u"}, {Name: "u", Password: "topsecret"}} },
		"auth.users[0].password":        func(c *Config) { c.Users = []UserConfig{{Name: "u", Password: "SCRAM-SHA-256$topsecret"}} },
		"auth.admins[0]":                func(c *Config) { c.Admins = []string{""} },
		"auth.stats_users[1]: the user": func(c *Config) { c.StatsUsers = []string{"a", strings.Repeat("a", 200)} },
	} {
		cfg := config(change)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want it to begin with %q", err, want)
		} else if strings.Contains(err.Error(), "topsecret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestNewNamesTheKeyOfABadFile(t *testing.T) {
	bad := write(t, "bad", "nonsense\n")
	rules := write(t, "hba", "hostssl all all all cert map=m\n")
	for want, change := range map[string]func(*Config){
		"auth.users_file: ":              func(c *Config) { c.UsersFile = bad },
		"auth.hba_file: ":                func(c *Config) { c.Method, c.HBAFile = "hba", bad },
		"auth.ident_file: read":          func(c *Config) { c.Method, c.HBAFile, c.IdentFile = "hba", rules, bad },
		"auth.ident_file: map \"m\", wh": func(c *Config) { c.Method, c.HBAFile = "hba", rules },
	} {
		if _, err := New(config(change), nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want it to begin with %q", err, want)
		}
	}
}

func TestMethodAndSecretOfAConnection(t *testing.T) {
	users := []UserConfig{
		{Name: "plain", Password: "secret"},
		{Name: "md5", Password: md5Hash("secret" + "md5")},
		{Name: "scram", Password: rfcVerifier(t).Reveal()},
		{Name: "none"},
	}
	cert := func(name string) func(*Connection) {
		return func(c *Connection) { c.TLS, c.CertVerified, c.CertName = true, true, name }
	}
	for _, test := range []struct {
		method, user string
		conn         Connection
		want         Method
		mock         bool
		code, words  string // of a refusal
	}{
		{"scram-sha-256", "plain", tcp("::1", "d", ""), MethodScram, false, "", ""},
		{"scram-sha-256", "scram", tcp("::1", "d", ""), MethodScram, false, "", ""},
		{"scram-sha-256", "md5", tcp("::1", "d", ""), MethodScram, true, "", ""},
		{"scram-sha-256", "none", tcp("::1", "d", ""), MethodScram, true, "", ""},
		{"scram-sha-256", "unknown", tcp("::1", "d", ""), MethodScram, true, "", ""},
		{"md5", "plain", tcp("::1", "d", ""), MethodMD5, false, "", ""},
		{"md5", "md5", tcp("::1", "d", ""), MethodMD5, false, "", ""},
		{"md5", "scram", tcp("::1", "d", ""), MethodScram, false, "", ""},
		{"md5", "none", tcp("::1", "d", ""), MethodMD5, true, "", ""},
		{"md5", "unknown", tcp("::1", "d", ""), MethodMD5, true, "", ""},
		{"password", "plain", tcp("::1", "d", "", withTLS), MethodPassword, false, "", ""},
		{"password", "scram", tcp("::1", "d", "", overUnix), MethodPassword, false, "", ""},
		{"password", "unknown", tcp("::1", "d", "", withTLS), MethodPassword, true, "", ""},
		{"password", "plain", tcp("::1", "d", ""), 0, false, "28000", "encrypted connection"},
		{"password", "unknown", tcp("127.0.0.1", "d", ""), 0, false, "28000", "encrypted connection"},
		{"trust", "unknown", tcp("::1", "d", ""), MethodTrust, false, "", ""},
		{"cert", "plain", tcp("::1", "d", "", cert("plain")), MethodCert, false, "", ""},
		{"cert", "plain", tcp("::1", "d", "", cert("other")), 0, false, "28000", `certificate authentication failed for user "plain"`},
		{"cert", "plain", tcp("::1", "d", "", withTLS), 0, false, "28000", "valid client certificate"},
		{"cert", "plain", tcp("::1", "d", "", overUnix), 0, false, "28000", "valid client certificate"},
	} {
		t.Run(fmt.Sprintf("%s %s tls=%v local=%v %s", test.method, test.user, test.conn.TLS, test.conn.Local, test.conn.CertName), func(t *testing.T) {
			a, err := New(config(func(c *Config) { c.Method, c.Users = test.method, users }), nil)
			if err != nil {
				t.Fatal(err)
			}
			conn := test.conn
			conn.User = test.user
			got, err := a.Method(conn)
			if test.code != "" {
				wantCode(t, err, test.code, test.words)
				return
			}
			if err != nil || got.Method != test.want || got.Secret.Mock() != test.mock || got.Known != (test.user != "unknown") || got.Query || got.Rule != "" {
				t.Fatalf("decision %+v with mock %v, %v; want %s with mock %v", got, got.Secret.Mock(), err, test.want, test.mock)
			}
		})
	}
	a, err := New(config(func(c *Config) { c.Method, c.AllowPlainPassword = "password", true }), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Method(tcp("::1", "d", "u")); err != nil || got.Method != MethodPassword {
		t.Errorf("allow_plain_password: %+v, %v", got, err)
	}
}

func TestRulesDecideTheMethod(t *testing.T) {
	rules := write(t, "hba", `
host    all bad    all           reject
hostssl all boss   all           cert map=m
hostssl all both   all           scram-sha-256 clientcert=verify-full
hostssl all signed all           md5 clientcert=verify-ca
host    all all    127.0.0.0/8   scram-sha-256
`)
	maps := write(t, "ident", "m alice boss\n")
	a, err := New(config(func(c *Config) { c.Method, c.HBAFile, c.IdentFile = "hba", rules, maps }), nil)
	if err != nil {
		t.Fatal(err)
	}
	cert := func(name string) func(*Connection) {
		return func(c *Connection) { c.TLS, c.CertVerified, c.CertName = true, true, name }
	}
	for _, test := range []struct {
		conn        Connection
		want        Method
		line        int
		code, words string
	}{
		{tcp("127.0.0.1", "d", "bad"), 0, 0, "28000", `pg_hba.conf rejects connection for host "127.0.0.1", user "bad", database "d", no encryption`},
		{tcp("192.0.2.1", "d", "boss", cert("alice")), MethodCert, 3, "", ""},
		{tcp("192.0.2.1", "d", "boss", cert("boss")), 0, 0, "28000", "certificate authentication failed"},
		{tcp("192.0.2.1", "d", "both", cert("both")), MethodScram, 4, "", ""},
		{tcp("192.0.2.1", "d", "both", cert("alice")), 0, 0, "28000", "certificate authentication failed"},
		{tcp("192.0.2.1", "d", "signed", cert("alice")), MethodMD5, 5, "", ""},
		{tcp("192.0.2.1", "d", "signed", withTLS), 0, 0, "28000", "valid client certificate"},
		{tcp("127.0.0.1", "d", "u"), MethodScram, 6, "", ""},
		{tcp("192.0.2.1", "d", "u"), 0, 0, "28000", "no pg_hba.conf entry"},
	} {
		got, err := a.Method(test.conn)
		if test.code != "" {
			wantCode(t, err, test.code, test.words)
			continue
		}
		if want := fmt.Sprintf("%s:%d", rules, test.line); err != nil || got.Method != test.want || got.Rule != want {
			t.Errorf("%+v: %+v, %v; want %s by %s", test.conn, got, err, test.want, want)
		}
	}
}

func TestQueryFindsOtherUsers(t *testing.T) {
	a, err := New(config(func(c *Config) {
		c.Query, c.QueryUser = DefaultQuery, "pooler"
		c.Users = []UserConfig{{Name: "listed", Password: "x"}}
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Method(tcp("::1", "d", "listed")); err != nil || got.Query || !got.Known {
		t.Errorf("a listed user: %+v, %v, want no query", got, err)
	}
	conn := tcp("::1", "d", "other")
	if got, err := a.Method(conn); err != nil || !got.Query || got.Known {
		t.Errorf("another user: %+v, %v, want a query", got, err)
	}
	text, empty := rfcVerifier(t).Reveal(), ""
	for name, test := range map[string]struct {
		shadow *string
		mock   bool
	}{"verifier": {&text, false}, "NULL": {nil, true}, "empty": {&empty, true}} {
		secret, err := SecretFromQueryRow(test.shadow)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.MethodFor(conn, secret, true); err != nil || got.Query || !got.Known || got.Method != MethodScram || got.Secret.Mock() != test.mock {
			t.Errorf("%s: %+v with mock %v, %v; want mock %v", name, got, got.Secret.Mock(), err, test.mock)
		}
	}
	if got, err := a.MethodFor(conn, Secret{}, false); err != nil || got.Known || !got.Secret.Mock() {
		t.Errorf("no row: %+v, %v, want a mock", got, err)
	}
	broken := "SCRAM-SHA-256$broken"
	if _, err := SecretFromQueryRow(&broken); err == nil || strings.Contains(err.Error(), "broken") {
		t.Errorf("a broken verifier: %v, want an error without it", err)
	}
}

func TestReloadKeepsMockSalts(t *testing.T) {
	old, err := New(Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	next, err := New(Default(), old.Mock())
	if err != nil {
		t.Fatal(err)
	}
	a, _ := old.Method(tcp("::1", "d", "u"))
	b, _ := next.Method(tcp("::1", "d", "u"))
	if a.Secret.Reveal() != b.Secret.Reveal() {
		t.Error("a reload changed what an unknown user sees")
	}
}

func TestAdminsWarningsAndPrepare(t *testing.T) {
	a, err := New(config(func(c *Config) {
		c.Users = []UserConfig{{Name: "m", Password: "md5" + strings.Repeat("0", 32)}, {Name: "n"}, {Name: "p", Password: "x"}}
		c.Admins, c.StatsUsers = []string{"root"}, []string{"grafana"}
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string][2]bool{"root": {true, true}, "grafana": {false, true}, "m": {false, false}} {
		if got := [2]bool{a.IsAdmin(user), a.IsStats(user)}; got != want {
			t.Errorf("%s: admin, stats = %v, want %v", user, got, want)
		}
	}
	warnings := a.Warnings()
	if len(warnings) != 2 || !strings.Contains(warnings[0], `"m"`) || !strings.Contains(warnings[1], `"n"`) {
		t.Errorf("warnings %q, want one for m and one for n", warnings)
	}
	derived := func() bool { user, _ := a.Users().Lookup("p"); return user.Secret.data.derived != nil }
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if a.Prepare(cancelled); derived() {
		t.Error("Prepare went on after its context had ended")
	}
	if a.Prepare(context.Background()); !derived() {
		t.Error("Prepare derived nothing")
	}
}
