package proxy_test

import (
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// directLogin logs in at the server itself, without TLS, as a role that it trusts.
func (r *rig) directLogin(t testing.TB, params ...wire.Param) (*rawClient, error) {
	t.Helper()
	return r.loginAt(t, r.manager.Address(), params...)
}

func (r *rig) loginAt(t testing.TB, address string, params ...wire.Param) (*rawClient, error) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return rawLogin(nc, wire.Protocol30, append([]wire.Param{{Name: "user", Value: "trusty"}, {Name: "database", Value: r.database}}, params...))
}

// TestStartupSettingsAreReportedAsByTheServer compares ParameterStatus, and the error where there is one.
func TestStartupSettingsAreReportedAsByTheServer(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	param := func(words ...string) (out []wire.Param) {
		for i := 0; i < len(words); i += 2 {
			out = append(out, wire.Param{Name: words[i], Value: words[i+1]})
		}
		return out
	}
	for name, params := range map[string][]wire.Param{
		"nothing":               nil,
		"application_name":      param("application_name", "my app"),
		"client_encoding":       param("client_encoding", "latin1"),
		"client_encoding UTF8":  param("client_encoding", "'utf-8'"),
		"TimeZone":              param("TimeZone", "europe/paris"),
		"upper case":            param("TIMEZONE", "Asia/Tokyo"),
		"DateStyle":             param("datestyle", "German"),
		"IntervalStyle":         param("IntervalStyle", "iso_8601"),
		"search_path":           param("search_path", `"$user", other`),
		"extra_float_digits":    param("extra_float_digits", "2"),
		"as JDBC":               param("client_encoding", "UTF8", "DateStyle", "ISO", "TimeZone", "UTC", "extra_float_digits", "2"),
		"options -c":            param("options", "-c statement_timeout=1234 -c TimeZone=Asia/Tokyo"),
		"options -c joined":     param("options", "-cdatestyle=German"),
		"options --":            param("options", "--search-path=a --application-name=dashes"),
		"options with spaces":   param("options", `-c application_name=two\ words`),
		"options and params":    param("options", "-c application_name=option", "application_name", "param"),
		"params and options":    param("application_name", "param", "options", "-c application_name=option"),
		"twice":                 param("application_name", "one", "application_name", "two"),
		"a module's own":        param("options", "-c my.setting=x"),
		"empty application":     param("application_name", ""),
		"on and off":            param("standard_conforming_strings", "off"),
		"bad value":             param("extra_float_digits", "many"),
		"bad name":              param("nonsense", "1"),
		"bad time zone":         param("TimeZone", "Nowhere/Else"),
		"bad encoding":          param("client_encoding", "klingon"),
		"only at server start":  param("shared_buffers", "1MB"),
		"not to be changed":     param("server_version", "99"),
		"bad option":            param("options", "-c statement_timeout=soon"),
		"option without value":  param("options", "-c statement_timeout"),
		"unknown option letter": param("options", "-z"),
	} {
		t.Run(name, func(t *testing.T) {
			want, wantErr := r.directLogin(t, params...)
			for range 2 { // the second login finds the first one's answer
				got, err := r.loginAt(t, p.address, params...)
				if (err == nil) != (wantErr == nil) {
					t.Fatalf("through the proxy: %v, direct: %v", err, wantErr)
				}
				if err != nil {
					a, b := err.(*wire.Error), wantErr.(*wire.Error)
					if a.Severity != b.Severity || a.Code != b.Code || a.Message != b.Message {
						t.Errorf("through the proxy: %s %s %s\ndirect: %s %s %s", a.Severity, a.Code, a.Message, b.Severity, b.Code, b.Message)
					}
					continue
				}
				delete(want.params, "is_superuser")
				delete(got.params, "is_superuser")
				if !maps.Equal(got.params, want.params) {
					t.Errorf("through the proxy: %v\ndirect: %v", got.params, want.params)
				}
			}
		})
	}
}

// TestResetGoesBackToTheStartupValues while a neighbour with other values uses the same server connection.
func TestResetGoesBackToTheStartupValues(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	c := p.client(t, "application_name=mine", "timezone=Europe/Paris", "search_path=other", "options='-c statement_timeout=4321'")
	neighbour := p.client(t, "application_name=neighbour", "timezone=Asia/Tokyo")
	check := func(when string) {
		t.Helper()
		wantValue(t, neighbour, "SELECT concat_ws(' ', current_setting('application_name'), current_setting('timezone'), current_setting('statement_timeout'))", "neighbour Asia/Tokyo 0")
		for name, want := range map[string]string{"application_name": "mine", "timezone": "Europe/Paris", "search_path": "other", "statement_timeout": "4321ms"} {
			if got := mustValue(t, c, "SHOW "+name); got != want {
				t.Errorf("%s: %s is %q, want %q", when, name, got, want)
			}
		}
		if got := c.PgConn().ParameterStatus("TimeZone"); got != "Europe/Paris" {
			t.Errorf("%s: the client was told of time zone %q", when, got)
		}
	}
	change := func() {
		t.Helper()
		for _, sql := range []string{"SET application_name = 'changed'", "SET timezone = 'UTC'", "SET search_path = changed", "SET statement_timeout = 1111"} {
			mustValue(t, c, sql)
			mustValue(t, neighbour, "SELECT 1")
		}
		wantValue(t, c, "SHOW application_name", "changed")
		if got := c.PgConn().ParameterStatus("TimeZone"); got != "UTC" {
			t.Errorf("after SET the client was told of time zone %q", got)
		}
	}
	check("at login")
	change()
	mustValue(t, c, "RESET ALL")
	check("after RESET ALL")
	change()
	mustValue(t, c, "DISCARD ALL")
	check("after DISCARD ALL")
	change()
	for _, name := range []string{"application_name", "timezone", "search_path", "statement_timeout"} {
		mustValue(t, c, "RESET "+name)
	}
	check("after RESET of each")
	change()
	for _, name := range []string{"application_name", "timezone", "search_path", "statement_timeout"} {
		mustValue(t, c, "SET "+name+" TO DEFAULT")
	}
	check("after SET TO DEFAULT of each")
	change()
	mustValue(t, c, "BEGIN")
	mustValue(t, c, "SET timezone TO DEFAULT")
	wantValue(t, c, "SHOW timezone", "Europe/Paris")
	mustValue(t, c, "RESET ALL")
	wantValue(t, c, "SHOW search_path", "other")
	mustValue(t, c, "COMMIT")
	check("after a transaction with both")
	mustValue(t, c, "BEGIN; SET LOCAL timezone = 'UTC'; COMMIT")
	check("after SET LOCAL")
	if _, err := value(c, "BEGIN; SET timezone = 'UTC'; SELECT 1/0"); err == nil {
		t.Error("no error from a division by zero")
	}
	mustValue(t, c, "ROLLBACK")
	check("after a rollback")
}

func TestProtocolVersions(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	for name, tc := range map[string]struct {
		version    uint32
		params     []wire.Param
		negotiated uint32
		key        int // bytes of the cancel key
	}{
		"3.0":               {wire.Protocol30, nil, 0, 4},
		"3.2":               {wire.Protocol32, nil, 0, 32},
		"3.9":               {3<<16 | 9, nil, wire.Protocol32, 32},
		"3.1":               {3<<16 | 1, nil, wire.Protocol30, 4},
		"3.0 and options":   {wire.Protocol30, []wire.Param{{Name: "_pq_.unknown", Value: "1"}}, wire.Protocol30, 4},
		"3.9999 and grease": {3<<16 | 9999, []wire.Param{{Name: "_pq_.test_protocol_negotiation", Value: ""}}, wire.Protocol32, 32},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, tc.version, tc.params...)
			if c.negotiated != tc.negotiated || len(c.key) != tc.key {
				t.Errorf("got version %#x and a key of %d bytes, want %#x and %d", c.negotiated, len(c.key), tc.negotiated, tc.key)
			}
			if err := c.round(wire.AppendQuery(nil, "SELECT 1")); err != nil {
				t.Error(err)
			}
		})
	}
	c, err := p.dial(t, p.dsn("postgres", "", "min_protocol_version=3.2", "max_protocol_version=3.2"))
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, c, "SELECT 1", "1")
}

// TestOddStarts: what is no session must neither hang nor disturb.
func TestOddStarts(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	for name, tc := range map[string]struct {
		send, want string
	}{
		"nothing":           {"", ""},
		"half a length":     {"\x00\x00", ""},
		"length of nothing": {"\x00\x00\x00\x04", "invalid"},
		"length too large":  {"\x7f\xff\xff\xff", "invalid"},
		"HTTP":              {"GET / HTTP/1.1\r\n\r\n", "invalid"},
		"protocol 2":        {"\x00\x00\x00\x08\x00\x02\x00\x00", "unsupported frontend protocol"},
		"no user":           {"\x00\x00\x00\x09\x00\x03\x00\x00\x00", "no PostgreSQL user name"},
		"no end":            {"\x00\x00\x00\x0d\x00\x03\x00\x00user\x00", "invalid"},
		"TLS that is off":   {"\x16\x03\x01\x00\x05hello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.DialTimeout("tcp", p.address, limit)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(limit))
			if _, err := nc.Write([]byte(tc.send)); err != nil {
				t.Fatal(err)
			}
			if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var answer [512]byte
			n, _ := nc.Read(answer[:]) // a reset tells as much as an end
			if !strings.Contains(string(answer[:n]), tc.want) || tc.want != "" && answer[0] != 'E' {
				t.Errorf("got %q, want %q", answer[:n], tc.want)
			}
		})
	}
	wantValue(t, p.client(t), "SELECT 1", "1")
}
