package auth

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// memoryReader reads rule files from a map of absolute paths.
func memoryReader(files map[string]string) *ruleReader {
	return &ruleReader{
		readFile: func(path string) ([]byte, error) {
			if text, ok := files[path]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
		listDir: func(path string) ([]string, error) {
			var names []string
			for file := range files {
				if filepath.Dir(file) == path {
					names = append(names, filepath.Base(file))
				}
			}
			slices.Sort(names)
			return names, nil
		},
	}
}

func hbaOf(t testing.TB, text string) *HBA {
	t.Helper()
	hba, err := parseHBA(memoryReader(map[string]string{"/pg_hba.conf": text}), "/pg_hba.conf")
	if err != nil {
		t.Fatal(err)
	}
	return hba
}

// tcp is a connection from addr; the options change it.
func tcp(addr, database, user string, options ...func(*Connection)) Connection {
	conn := Connection{Addr: netip.MustParseAddr(addr), Database: database, User: user}
	for _, option := range options {
		option(&conn)
	}
	return conn
}

func withTLS(c *Connection)         { c.TLS = true }
func withReplication(c *Connection) { c.Replication = true }
func overUnix(c *Connection)        { c.Local, c.Addr = true, netip.Addr{} }

func TestHBAMatch(t *testing.T) {
	for _, test := range []struct {
		name, rule string
		conn       Connection
		want       bool
	}{
		{"local", "local all all trust", tcp("::", "d", "u", overUnix), true},
		{"local is not TCP", "local all all trust", tcp("127.0.0.1", "d", "u"), false},
		{"host is not a socket", "host all all all trust", tcp("::", "d", "u", overUnix), false},
		{"host takes TLS", "host all all all trust", tcp("::1", "d", "u", withTLS), true},
		{"hostssl", "hostssl all all all trust", tcp("::1", "d", "u", withTLS), true},
		{"hostssl wants TLS", "hostssl all all all trust", tcp("::1", "d", "u"), false},
		{"hostnossl", "hostnossl all all all trust", tcp("::1", "d", "u"), true},
		{"hostnossl wants none", "hostnossl all all all trust", tcp("::1", "d", "u", withTLS), false},
		{"hostgssenc never", "hostgssenc all all all trust", tcp("::1", "d", "u"), false},
		{"hostnogssenc", "hostnogssenc all all all trust", tcp("::1", "d", "u", withTLS), true},

		{"database", "host d all all trust", tcp("::1", "d", "u"), true},
		{"other database", "host d all all trust", tcp("::1", "D", "u"), false},
		{"database list", "host a,b, d all all trust", tcp("::1", "d", "u"), true},
		{"quoted list", `host a,"x y",d all all trust`, tcp("::1", "x y", "u"), true},
		{"quoted quote", `host "a""b" all all trust`, tcp("::1", `a"b`, "u"), true},
		{"quoted all is a name", `host "all" all all trust`, tcp("::1", "d", "u"), false},
		{"quoted all, that name", `host "all" all all trust`, tcp("::1", "all", "u"), true},
		{"sameuser", "host sameuser all all trust", tcp("::1", "u", "u"), true},
		{"sameuser differs", "host sameuser all all trust", tcp("::1", "d", "u"), false},
		{"database regex", "host /^db[0-9]+$ all all trust", tcp("::1", "db42", "u"), true},
		{"database regex misses", "host /^db[0-9]+$ all all trust", tcp("::1", "db", "u"), false},
		{"quoted regex", `host "/^a, b$" all all trust`, tcp("::1", "a, b", "u"), true},
		{"regex is not anchored", "host /b all all trust", tcp("::1", "abc", "u"), true},
		{"replication", "host replication all all trust", tcp("::1", "", "u", withReplication), true},
		{"all is not replication", "host all all all trust", tcp("::1", "", "u", withReplication), false},
		{"replication is no database", "host replication all all trust", tcp("::1", "replication", "u"), false},

		{"user", "host all u all trust", tcp("::1", "d", "u"), true},
		{"other user", "host all u all trust", tcp("::1", "d", "v"), false},
		{"user list with regex", "host all u,/^app_ all trust", tcp("::1", "d", "app_1"), true},
		{"quoted plus is a name", `host all "+u" all trust`, tcp("::1", "d", "+u"), true},

		{"network", "host all all 10.1.2.3/8 trust", tcp("10.9.9.9", "d", "u"), true},
		{"other network", "host all all 10.0.0.0/8 trust", tcp("11.0.0.1", "d", "u"), false},
		{"mapped client", "host all all 10.0.0.0/8 trust", tcp("::ffff:10.0.0.1", "d", "u"), true},
		{"mapped network", "host all all ::ffff:10.0.0.0/104 trust", tcp("10.0.0.1", "d", "u"), true},
		{"families differ", "host all all ::/0 trust", tcp("10.0.0.1", "d", "u"), false},
		{"IPv6", "host all all fe80::/10 trust", tcp("fe80::1%eth0", "d", "u"), true},
		{"mask", "host all all 10.0.0.0 255.0.0.0 trust", tcp("10.9.9.9", "d", "u"), true},
		{"mask misses", "host all all 10.0.0.0 255.255.0.0 trust", tcp("10.9.9.9", "d", "u"), false},
		{"IPv6 mask", "host all all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff trust", tcp("::1", "d", "u"), true},
		{"samehost", "host all all samehost trust", tcp("127.0.0.1", "d", "u"), true},
		{"samehost is exact", "host all all samehost trust", tcp("127.0.0.2", "d", "u"), false},
		{"samenet", "host all all samenet trust", tcp("127.0.0.2", "d", "u"), true},
		{"samenet, far away", "host all all samenet trust", tcp("192.0.2.1", "d", "u"), false},

		{"comment", "host all u all trust # u only", tcp("::1", "d", "u"), true},
		{"hash in quotes", `host all "u#1" all trust`, tcp("::1", "d", "u#1"), true},
		{"continued line", "host all \\\n u all \\\r\n trust", tcp("::1", "d", "u"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			hba := hbaOf(t, test.rule)
			hba.interfaces = func() ([]netip.Prefix, error) {
				return []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}, nil
			}
			if _, got := hba.Match(test.conn); got != test.want {
				t.Fatalf("%q matches %+v: %v, want %v", test.rule, test.conn, got, test.want)
			}
		})
	}
}

func TestHBAFirstMatchDecides(t *testing.T) {
	hba := hbaOf(t, "# rules\nhost all bad all reject\nhost all all 127.0.0.0/8 md5\n\nhostssl all all all cert map=m\nhostssl all all all scram-sha-256 clientcert=verify-full\n")
	for _, test := range []struct {
		conn   Connection
		line   int
		method Method
	}{
		{tcp("127.0.0.1", "d", "bad"), 2, MethodReject},
		{tcp("127.0.0.1", "d", "u"), 3, MethodMD5},
		{tcp("192.0.2.1", "d", "u", withTLS), 5, MethodCert},
	} {
		rule, ok := hba.Match(test.conn)
		if !ok || rule.Line != test.line || rule.Method != test.method || rule.File != "/pg_hba.conf" {
			t.Errorf("%+v: rule %s:%d %s, %v; want line %d, %s", test.conn, rule.File, rule.Line, rule.Method, ok, test.line, test.method)
		}
	}
	conn := tcp("192.0.2.1", "d", "u")
	if _, ok := hba.Match(conn); ok {
		t.Error("a connection without TLS matched")
	}
	wantCode(t, hba.Refusal(conn), "28000", `no pg_hba.conf entry for host "192.0.2.1", user "u", database "d", no encryption`)
	wantCode(t, hba.Refusal(tcp("::1", "d", "u", overUnix, withTLS, withReplication)), "28000", `no pg_hba.conf entry for replication connection from host "[local]", user "u", SSL encryption`)
}

func TestLocalNetworksHoldLoopback(t *testing.T) {
	networks, err := localNetworks()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(netip.MustParseAddr("127.0.0.1")) }) {
		t.Errorf("networks %v lack 127.0.0.1", networks)
	}
}

func TestHBAErrorsSayWhereAndWhat(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"hosts all all all trust", "invalid connection type"},
		{"host", "ends before the database"},
		{"host all", "ends before the user"},
		{"host all all", "ends before the address"},
		{"host all all all", "ends before the authentication method"},
		{"local,host all all trust", "must be one word"},
		{"host samerole all all trust", "role memberships"},
		{"host all +admins all trust", "role memberships"},
		{"host all all example.com trust", "host names are not looked up"},
		{"host all all 10.0.0.0/33 trust", "invalid address"},
		{"host all all 10.0.0.0", "netmask"},
		{"host all all 10.0.0.0 trust", "invalid netmask"},
		{"host all all 10.0.0.0 255.0.255.0 trust", "invalid netmask"},
		{"host all all 10.0.0.0 ffff:: trust", "invalid netmask"},
		{"local all all peer", "not spoken by the proxy"},
		{"local all all hba", "invalid authentication method"},
		{"local all all scram", "invalid authentication method"},
		{"local all all cert", "hostssl lines only"},
		{"hostssl all all all cert clientcert=verify-ca", "weaker"},
		{"hostssl all all all md5 clientcert=1", "invalid clientcert"},
		{"host all all all md5 clientcert=verify-ca", "hostssl lines only"},
		{"host all all all md5 map=x", "method cert only"},
		{"host all all all md5 ldapserver=x", "unrecognized authentication option"},
		{"host all all all md5 nonsense", "name=value"},
		{"host /( all all md5", "invalid regular expression"},
		{`host "all all all md5`, "does not end"},
		{"host @missing all all md5", "file of names"},
		{"include", "ends before the file to include"},
		{"include a b", "unexpected words"},
	} {
		_, err := parseHBA(memoryReader(map[string]string{"/pg_hba.conf": "local all all trust\n" + test.line + "\n"}), "/pg_hba.conf")
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "/pg_hba.conf:2: ") {
			t.Errorf("%q: error %v, want line 2 and %q", test.line, err, test.want)
		}
	}
	_, err := parseHBA(memoryReader(map[string]string{"/pg_hba.conf": "x\ny\n"}), "/pg_hba.conf")
	if err == nil || !strings.Contains(err.Error(), ":1: ") || !strings.Contains(err.Error(), ":2: ") {
		t.Errorf("two bad lines: %v, want both", err)
	}
	if _, err := parseHBA(memoryReader(map[string]string{"/pg_hba.conf": "# nothing\n"}), "/pg_hba.conf"); err == nil {
		t.Error("a file without rules was accepted")
	}
	if _, err := ParseHBA(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestHBAIncludes(t *testing.T) {
	files := map[string]string{
		"/etc/pg_hba.conf":            "include extra/one.conf\ninclude_if_exists missing\ninclude_dir extra/dir\nhost @names all all trust\n",
		"/etc/extra/one.conf":         "local one all trust\ninclude two.conf\n",
		"/etc/extra/two.conf":         "local two all trust\n",
		"/etc/extra/dir/b.conf":       "local b all trust\n",
		"/etc/extra/dir/a.conf":       "local a all trust\n",
		"/etc/extra/dir/.hidden.conf": "nonsense\n",
		"/etc/extra/dir/readme":       "nonsense\n",
		"/etc/names":                  "x, y # some\n\"z z\" @more\n",
		"/etc/more":                   "w\n",
	}
	hba, err := parseHBA(memoryReader(files), "/etc/pg_hba.conf")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rule := range hba.rules {
		for _, database := range rule.databases {
			got = append(got, fmt.Sprintf("%s:%d %s", rule.File, rule.Line, database.name))
		}
	}
	want := []string{
		"/etc/extra/one.conf:1 one", "/etc/extra/two.conf:1 two", "/etc/extra/dir/a.conf:1 a", "/etc/extra/dir/b.conf:1 b",
		"/etc/pg_hba.conf:4 x", "/etc/pg_hba.conf:4 y", "/etc/pg_hba.conf:4 z z", "/etc/pg_hba.conf:4 w",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("rules\n%q, want\n%q", got, want)
	}
	for name, text := range map[string]string{
		"deep":  "include pg_hba.conf\nlocal all all trust",
		"wide":  strings.Repeat("include pg_hba.conf\n", 50),
		"names": "local @pg_hba.conf all trust",
	} {
		_, err := parseHBA(memoryReader(map[string]string{"/pg_hba.conf": text}), "/pg_hba.conf")
		if err == nil {
			t.Errorf("%s: a file that includes itself was accepted", name)
		}
	}
	if _, err := parseHBA(memoryReader(map[string]string{"/pg_hba.conf": "include missing\nlocal all all trust"}), "/pg_hba.conf"); err == nil {
		t.Error("a missing include was accepted")
	}
}

func TestIdent(t *testing.T) {
	ident, err := parseIdent(memoryReader(map[string]string{"/pg_ident.conf": `
# map  certificate        user
m      alice              app
m      "Bob B"            bob
r      /^(.*)@corp$       \1
r      /^(x)?root$        pre\1fix
r      /^ops              /^ops_
a      anybody            all
`}), "/pg_ident.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, cn, user string
		want           bool
	}{
		{"", "u", "u", true},
		{"", "u", "v", false},
		{"", "", "", false},
		{"m", "alice", "app", true},
		{"m", "alice", "alice", false},
		{"m", "Bob B", "bob", true},
		{"m", "", "app", false},
		{"r", "joe@corp", "joe", true},
		{"r", "joe@corp", "ann", false},
		{"r", "joe@corp.evil", "joe", false},
		{"r", "xroot", "prexfix", true},
		{"r", "root", "prefix", false}, // the group took no part
		{"r", "ops7", "ops_a", true},
		{"r", "ops7", "root", false},
		{"a", "anybody", "root", true},
		{"missing", "u", "u", false},
	} {
		if got := (Rule{Map: test.name}).UserAllowed(ident, test.cn, test.user); got != test.want {
			t.Errorf("map %q, certificate %q, user %q: %v, want %v", test.name, test.cn, test.user, got, test.want)
		}
	}
	if (Rule{Map: "m"}).UserAllowed(nil, "alice", "app") {
		t.Error("a map was found without a file")
	}
	for _, line := range []string{"m", "m a", "m a b c", `m /a \1`, "m /( b", "m a +group", "m a,b c"} {
		if _, err := parseIdent(memoryReader(map[string]string{"/i": "\n" + line}), "/i"); err == nil || !strings.Contains(err.Error(), "/i:2: ") {
			t.Errorf("%q: error %v, want one at line 2", line, err)
		}
	}
}
