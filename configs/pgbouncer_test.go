package configs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgtier/proxy/pool"
)

const bouncerFile = `
; a comment
[databases]
app = host=10.0.0.1 port=5433 dbname=shop pool_size=7 pool_mode=statement
secret = host=/var/run/postgresql user=me password='it''s a:b@c' connect_query='SELECT 1'
* = host=::1
broken = host='x

[users]
joe = pool_mode=session

[pgbouncer]
listen_addr = 127.0.0.1, ::1, *
listen_port = 7432
unix_socket_dir = /run/pgb
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
admin_users = postgres, joe
default_pool_size = 30
server_lifetime = 1800
query_wait_timeout = 0.5
idle_transaction_timeout = 0
server_reset_query = DISCARD ALL
tcp_keepalive = 1
max_client_conn = lots
%include other.ini
`

func TestImportPgBouncer(t *testing.T) {
	text, warnings, err := ImportPgBouncer(bouncerFile)
	if err != nil {
		t.Fatal(err)
	}
	config := mustParse(t, string(text))
	app, secret, fallback := config.Proxy.Databases["app"], config.Proxy.Databases["secret"], config.Proxy.Databases["*"]
	if len(app.Shards) != 1 || len(secret.Shards) != 1 || len(fallback.Shards) != 1 {
		t.Fatalf("databases: got %s", text)
	}
	for what, pair := range map[string][2]any{
		"listen":           {fmt.Sprint(config.Proxy.Listen), "[127.0.0.1:7432 [::1]:7432 :7432 unix:/run/pgb:7432]"},
		"method":           {config.Proxy.Auth.Method, "scram-sha-256"},
		"users_file":       {config.Proxy.Auth.UsersFile, "/etc/pgbouncer/userlist.txt"},
		"admins":           {fmt.Sprint(config.Proxy.Auth.Admins), "[postgres joe]"},
		"size":             {config.Proxy.Pool.Size, 30},
		"PgBouncer's mode": {config.Proxy.Pool.Mode, pool.ModeSession},
		"PgBouncer's TLS":  {config.Proxy.TLS.Client.Mode, "disable"},
		"lifetime":         {config.Proxy.Pool.MaxLifetime, 30 * time.Minute},
		"wait":             {config.Proxy.Pool.WaitTimeout, 500 * time.Millisecond},
		"app":              {app.Shards[0].Manager.String(), "postgres://10.0.0.1:5433/shop"},
		"app size":         {app.Pool.Size, 7},
		"app mode":         {app.Pool.Mode, pool.ModeStatement},
		"secret":           {secret.Shards[0].Manager.String(), "postgres://me@%2Fvar%2Frun%2Fpostgresql:5432"},
		"secret password":  {secret.Shards[0].Manager.Password.Reveal(), "it's a:b@c"},
		"fallback":         {fallback.Shards[0].Manager.String(), "postgres://[::1]:5432"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
	want := []string{
		"line 26: %include is not followed", "line 7: database broken: a quote", "line 10: user joe", "line 23: server_reset_query: not needed",
		"line 24: tcp_keepalive: has no equal", `line 25: max_client_conn: "lots" is not a number`,
		"line 5: database secret: user me is not forced", "line 5: database secret: connect_query has no equal",
	}
	all := strings.Join(warnings, "\n")
	for _, one := range want {
		if !strings.Contains(all, one) {
			t.Errorf("no warning %q in\n%s", one, all)
		}
	}
	if len(warnings) != len(want) {
		t.Errorf("got %d warnings, want %d:\n%s", len(warnings), len(want), all)
	}
}

func TestImportOfSomethingElse(t *testing.T) {
	if _, _, err := ImportPgBouncer("hello world\n"); err == nil {
		t.Error("accepted")
	}
}

func FuzzImportPgBouncer(f *testing.F) {
	f.Add(bouncerFile)
	f.Add("[databases]\na = host=x dbname='y'''\n[pgbouncer]\nauth_user = a\n")
	f.Fuzz(func(t *testing.T, ini string) {
		text, _, err := ImportPgBouncer(ini)
		if err != nil {
			return
		}
		// The values may be wrong, but the file that holds them must be one that can be read and mended.
		if doc := parseDocument(text, configSchema()); doc.unreadable {
			t.Fatalf("%q became %q: %v", ini, text, doc.problems)
		}
	})
}
