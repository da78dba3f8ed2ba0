package topology

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseURL(t *testing.T) {
	for _, tc := range []struct {
		url     string
		want    Server
		address string
		text    string
	}{
		{"postgres://app:secret@10.0.0.1/shop",
			Server{Host: "10.0.0.1", Port: 5432, User: "app", Password: NewSecret("secret"), Database: "shop"},
			"tcp 10.0.0.1:5432", "postgres://app@10.0.0.1:5432/shop"},
		{"postgresql://db.example:6000",
			Server{Host: "db.example", Port: 6000}, "tcp db.example:6000", "postgres://db.example:6000"},
		{"postgres://",
			Server{Host: DefaultSocketDir, Port: 5432}, "unix /var/run/postgresql/.s.PGSQL.5432", "postgres://%2Fvar%2Frun%2Fpostgresql:5432"},
		{"postgres:///shop?host=/tmp/a%20b&port=7",
			Server{Host: "/tmp/a b", Port: 7, Database: "shop"}, "unix /tmp/a b/.s.PGSQL.7", "postgres://%2Ftmp%2Fa%20b:7/shop"},
		{"postgres://u@%2Fvar%2Frun:5433/d",
			Server{Host: "/var/run", Port: 5433, User: "u", Database: "d"}, "unix /var/run/.s.PGSQL.5433", "postgres://u@%2Fvar%2Frun:5433/d"},
		{"postgres://[::1]:5433/d",
			Server{Host: "::1", Port: 5433, Database: "d"}, "tcp [::1]:5433", "postgres://[::1]:5433/d"},
		{"postgres://[fe80::1]/d",
			Server{Host: "fe80::1", Port: 5432, Database: "d"}, "tcp [fe80::1]:5432", "postgres://[fe80::1]:5432/d"},
		{"postgres://a%40b:p%3Aq%2F%40+@h/d%2Fe",
			Server{Host: "h", Port: 5432, User: "a@b", Password: NewSecret("p:q/@+"), Database: "d/e"}, "tcp h:5432", "postgres://a%40b@h:5432/d%2Fe"},
		{"postgres://h/d?user=u&password=p&dbname=e",
			Server{Host: "h", Port: 5432, User: "u", Password: NewSecret("p"), Database: "e"}, "tcp h:5432", "postgres://u@h:5432/e"},
		{"postgres://h/d?sslmode=verify-full&sslrootcert=/ca&sslcert=/c&sslkey=/k&channel_binding=require&connect_timeout=3",
			Server{Host: "h", Port: 5432, Database: "d", ConnectTimeout: 3 * time.Second,
				TLS: ServerTLS{Mode: "verify-full", RootCert: "/ca", Cert: "/c", Key: "/k", ChannelBinding: "require"}},
			"tcp h:5432", "postgres://h:5432/d"},
		{"postgres://h/d?ssl=true", Server{Host: "h", Port: 5432, Database: "d", TLS: ServerTLS{Mode: "require"}}, "tcp h:5432", "postgres://h:5432/d"},
		{"postgres:///d?host=@pg", Server{Host: "@pg", Port: 5432, Database: "d"}, "unix @pg/.s.PGSQL.5432", "postgres://%40pg:5432/d"},
	} {
		got, err := ParseURL(tc.url)
		if err != nil {
			t.Errorf("%s: %v", tc.url, err)
			continue
		}
		if got != tc.want {
			t.Errorf("%s: got %#v, want %#v", tc.url, got, tc.want)
		}
		network, address := got.Address()
		if network+" "+address != tc.address {
			t.Errorf("%s: address %s %s, want %s", tc.url, network, address, tc.address)
		}
		if got.String() != tc.text {
			t.Errorf("%s: String() = %s, want %s", tc.url, got, tc.text)
		}
	}
}

func TestParseURLSaysWhatToDo(t *testing.T) {
	for url, want := range map[string]string{
		"":                                     "write postgres://",
		"mysql://h/d":                          "write postgres://",
		"host=h dbname=d":                      "write postgres://",
		"postgres://u:hunter2@x@h/d":           "write an @ of the user or password as %40",
		"postgres://h1,h2/d":                   "one URL for each server",
		"postgres://h/d?host=a,b":              "one URL for each server",
		"postgres://h%3A1/d":                   "not an IPv6 address",
		"postgres://a%20b/d":                   "socket's directory begins with /",
		"postgres://h:0/d":                     "from 1 to 65535",
		"postgres://h:65536/d":                 "from 1 to 65535",
		"postgres://::1/d":                     "write an IPv6 address as [::1]:5432",
		"postgres://[::1/d":                    "does not end in ]",
		"postgres://[::1]x/d":                  "does not end in ]",
		"postgres://u:hunter2%@h/d":            "%25",
		"postgres://h/d?sslmode=on":            "use one of disable, allow",
		"postgres://h/d?channel_binding=x":     "use one of disable, prefer, require",
		"postgres://h/d?connect_timeout=3s":    "whole number of seconds",
		"postgres://h/d?ssl=1":                 "use sslmode",
		"postgres://h/d?application_name=x":    "each client's own connection",
		"postgres://h/d?target_session_attrs=": "manager and replicas",
		"postgres://h/d?sslmod=require":        "use only channel_binding",
		"postgres://h/d?sslmode":               "?name=value",
		"postgres://h/d%00":                    "zero byte",
	} {
		server, err := ParseURL(url)
		if err == nil {
			t.Errorf("%q: accepted as %v", url, server)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %q does not say %q", url, err, want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error %q holds the password", url, err)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	server := Server{Host: "h", Port: 1, User: "u", Password: NewSecret("hunter2")}
	asJSON, err := json.Marshal(server)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(server), fmt.Sprintf("%v %+v %#v %s %q", server, server, server, server, server),
		fmt.Sprintf("%v %+v %#v", &server, []Server{server}, map[string]Server{"a": server}),
		fmt.Sprintf("%v %s %q %x %#v", server.Password, server.Password, server.Password, server.Password, server.Password),
		fmt.Sprintf("%v %+v %#v", struct{ Password Secret }{server.Password}, Database{Shards: []Shard{{Manager: server}}}, Shard{Manager: server}),
		string(asJSON),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("printed: %s", text)
		}
	}
	if server.Password.Reveal() != "hunter2" {
		t.Errorf("Reveal() = %q", server.Password.Reveal())
	}
	if again := NewSecret("hunter2"); server.Password != again || server.Password == NewSecret("other") {
		t.Error("secrets do not compare by their text")
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"postgres://", "postgres://u:p@[::1]:1/d?sslmode=require", "postgresql://%2Ftmp:1/x%20y?host=/a", "postgres://a%@", "postgres://h/d?&"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		server, err := ParseURL(text)
		if err != nil {
			return
		}
		// What String prints must be the same server again, apart from the secrets and parameters it leaves out.
		again, err := ParseURL(server.String())
		if err != nil {
			t.Fatalf("%q became %q: %v", text, server, err)
		}
		if again.String() != server.String() || again.Host != server.Host || again.Port != server.Port ||
			again.Database != server.Database || again.User != server.User {
			t.Fatalf("%q became %#v, then %#v", text, server, again)
		}
	})
}
