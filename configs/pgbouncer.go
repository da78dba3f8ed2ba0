package configs

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ImportPgBouncer translates a pgbouncer.ini into a pgtier configuration. What cannot be translated comes back as
// warnings, each led by its line. Where PgBouncer's default differs from ours, its default is written out. The error
// is set when the text is no pgbouncer.ini at all.
func ImportPgBouncer(ini string) (text []byte, warnings []string, err error) {
	imported := importer{pgbouncer: map[string]iniValue{}}
	for _, section := range imported.read(ini) {
		imported.take(section)
	}
	if len(imported.pgbouncer) == 0 && len(imported.databases) == 0 {
		return nil, nil, fmt.Errorf("read pgbouncer.ini: neither a [pgbouncer] nor a [databases] section; is it the right file?")
	}
	out := imported.write()
	return []byte(out), imported.warnings, nil
}

// iniValue is a setting and where it stands.
type iniValue struct {
	section, key, value string
	line                int
}

type importer struct {
	pgbouncer map[string]iniValue
	databases []iniValue
	warnings  []string
	out       strings.Builder
}

func (m *importer) warn(line int, format string, args ...any) {
	m.warnings = append(m.warnings, fmt.Sprintf("line %d: %s", line, fmt.Sprintf(format, args...)))
}

// read splits the text into settings.
func (m *importer) read(ini string) []iniValue {
	var values []iniValue
	section := ""
	for i, line := range strings.Split(ini, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
		case strings.HasPrefix(line, "%include"):
			m.warn(i+1, "%%include is not followed; import the included file too")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				m.warn(i+1, "no = in this line; it is left out")
				continue
			}
			values = append(values, iniValue{section, strings.TrimSpace(key), strings.TrimSpace(value), i + 1})
		}
	}
	return values
}

func (m *importer) take(v iniValue) {
	switch v.section {
	case "databases":
		m.databases = append(m.databases, v)
	case "pgbouncer":
		if _, mapped := m.target(v.key); !mapped {
			m.warn(v.line, "%s: %s", v.key, unmapped(v.key))
			return
		}
		m.pgbouncer[v.key] = v
	case "users":
		m.warn(v.line, "user %s: limits for single users are not supported; pool.max_user_connections holds for every user", v.key)
	case "peers":
		m.warn(v.line, "peers are not needed: each proxy answers cancel requests for its own clients")
	default:
		m.warn(v.line, "section [%s] is unknown", v.section)
	}
}

// target returns where a key of [pgbouncer] is translated, if it is.
func (m *importer) target(key string) (mapping, bool) {
	for _, one := range mappings() {
		if one.from == key {
			return one, true
		}
	}
	return mapping{}, slices.Contains([]string{"listen_addr", "listen_port", "unix_socket_dir", "auth_type"}, key)
}

// valueKind says how a value is written in our file.
type valueKind uint8

const (
	plain   valueKind = iota
	number            // as it stands
	seconds           // PgBouncer's times are seconds, with or without a fraction
	words             // a list separated by commas
)

// mapping is one key of [pgbouncer] that has an equal. Rows of one section stand together, in the order they are written.
type mapping struct {
	section, to, from string
	kind              valueKind
	fallback          string // PgBouncer's default where ours differs
}

func mappings() []mapping {
	return []mapping{
		{"auth", "users_file", "auth_file", plain, ""},
		{"auth", "query", "auth_query", plain, ""},
		{"auth", "query_user", "auth_user", plain, ""},
		{"auth", "query_database", "auth_dbname", plain, ""},
		{"auth", "hba_file", "auth_hba_file", plain, ""},
		{"auth", "ident_file", "auth_ident_file", plain, ""},
		{"auth", "admins", "admin_users", words, ""},
		{"auth", "stats_users", "stats_users", words, ""},
		{"tls.client", "mode", "client_tls_sslmode", plain, "disable"},
		{"tls.client", "cert", "client_tls_cert_file", plain, ""},
		{"tls.client", "key", "client_tls_key_file", plain, ""},
		{"tls.client", "ca", "client_tls_ca_file", plain, ""},
		{"tls.server", "mode", "server_tls_sslmode", plain, ""},
		{"tls.server", "cert", "server_tls_cert_file", plain, ""},
		{"tls.server", "key", "server_tls_key_file", plain, ""},
		{"tls.server", "ca", "server_tls_ca_file", plain, ""},
		{"pool", "mode", "pool_mode", plain, "session"},
		{"pool", "size", "default_pool_size", number, ""},
		{"pool", "min_idle", "min_pool_size", number, ""},
		{"pool", "reserve", "reserve_pool_size", number, ""},
		{"pool", "reserve_timeout", "reserve_pool_timeout", seconds, ""},
		{"pool", "max_clients", "max_client_conn", number, "100"},
		{"pool", "max_user_clients", "max_user_client_connections", number, ""},
		{"pool", "max_database_clients", "max_db_client_connections", number, ""},
		{"pool", "max_database_connections", "max_db_connections", number, ""},
		{"pool", "max_user_connections", "max_user_connections", number, ""},
		{"pool", "wait_timeout", "query_wait_timeout", seconds, ""},
		{"pool", "idle_timeout", "server_idle_timeout", seconds, ""},
		{"pool", "max_lifetime", "server_lifetime", seconds, ""},
		{"pool", "connect_timeout", "server_connect_timeout", seconds, ""},
		{"pool", "login_retry", "server_login_retry", seconds, ""},
		{"pool", "check_delay", "server_check_delay", seconds, ""},
		{"pool", "query_timeout", "query_timeout", seconds, ""},
		{"pool", "idle_transaction_timeout", "idle_transaction_timeout", seconds, ""},
		{"pool", "transaction_timeout", "transaction_timeout", seconds, ""},
		{"pool", "client_idle_timeout", "client_idle_timeout", seconds, ""},
		{"pool", "client_login_timeout", "client_login_timeout", seconds, ""},
		{"pool", "cancel_wait_timeout", "cancel_wait_timeout", seconds, ""},
	}
}

// unmapped says why a key has no equal.
func unmapped(key string) string {
	switch key {
	case "server_reset_query", "server_reset_query_always", "server_check_query":
		return "not needed: session state is carried or pins the connection, and connections are tried before they are lent"
	case "ignore_startup_parameters", "track_extra_parameters", "max_prepared_statements":
		return "not needed: settings and prepared statements of every client are carried"
	case "logfile", "syslog", "syslog_ident", "syslog_facility", "pidfile", "user", "service_name", "job_name", "resolv_conf":
		return "not needed: logs go to standard error, and the service manager keeps the process"
	case "log_connections", "log_disconnections", "log_pooler_errors", "log_stats", "stats_period", "verbose":
		return "not needed: see log.level, and /metrics for figures"
	case "peer_id", "so_reuseport":
		return "not needed: one process uses all cores"
	case "query_wait_notify", "server_fast_close", "server_round_robin", "application_name_add_host", "disable_pqexec",
		"suspend_timeout", "conffile", "listen_backlog", "pkt_buf", "max_packet_size", "sbuf_loopcnt", "unix_socket_mode", "unix_socket_group":
		return "has no equal; it is left out"
	}
	for _, prefix := range []string{"tcp_", "dns_"} {
		if strings.HasPrefix(key, prefix) {
			return "has no equal; the system's setting holds"
		}
	}
	if strings.HasPrefix(key, "client_tls_") || strings.HasPrefix(key, "server_tls_") {
		return "has no equal; TLS 1.2 and newer with safe ciphers are used"
	}
	return "unknown; it is left out"
}

func (m *importer) write() string {
	m.out.WriteString("# Imported from a pgbouncer.ini. Values are PgBouncer's; keys left out have pgtier's defaults.\n")
	m.writeListen()
	section := ""
	for _, one := range mappings() {
		value, line := one.fallback, 0
		if v, ok := m.pgbouncer[one.from]; ok {
			value, line = v.value, v.line
		}
		written, ok := m.render(one, value, line)
		if !ok && one.to != "users_file" {
			continue
		}
		if one.section != section {
			m.openSection(section, one.section)
			section = one.section
		}
		if ok {
			indent := strings.Repeat("  ", strings.Count(one.section, ".")+1)
			fmt.Fprintf(&m.out, "%s%s: %s\n", indent, one.to, written)
		}
	}
	m.writeDatabases()
	return m.out.String()
}

// openSection writes the heading of section, after before; auth always begins with its method.
func (m *importer) openSection(before, section string) {
	top, below, nested := strings.Cut(section, ".")
	if previous, _, _ := strings.Cut(before, "."); previous != top {
		m.out.WriteString("\n" + top + ":\n")
	}
	if nested {
		m.out.WriteString("  " + below + ":\n")
	}
	if section == "auth" {
		m.writeMethod()
	}
}

// render writes a value in our form; ok is false where there is nothing to write.
func (m *importer) render(to mapping, value string, line int) (written string, ok bool) {
	if value == "" {
		return "", false
	}
	switch to.kind {
	case number:
		if _, err := strconv.ParseUint(value, 10, 31); err != nil {
			m.warn(line, "%s: %q is not a number; it is left out", to.from, value)
			return "", false
		}
		return value, true
	case seconds:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || n < 0 || n > 1e9 {
			m.warn(line, "%s: %q is not a number of seconds; it is left out", to.from, value)
			return "", false
		}
		if n == 0 {
			return "0", true
		}
		return strconv.FormatFloat(n, 'f', -1, 64) + "s", true
	case words:
		var items []string
		for _, word := range strings.Split(value, ",") {
			if word = strings.TrimSpace(word); word != "" {
				items = append(items, quote(word))
			}
		}
		return "[" + strings.Join(items, ", ") + "]", true
	}
	return quote(value), true
}

func (m *importer) writeListen() {
	port := pgbouncerPort
	if v, ok := m.pgbouncer["listen_port"]; ok {
		if n, err := strconv.ParseUint(v.value, 10, 16); err != nil || n == 0 {
			m.warn(v.line, "listen_port: %q is not a port; %s is taken", v.value, port)
		} else {
			port = v.value
		}
	}
	var entries []string
	for _, host := range strings.Split(m.pgbouncer["listen_addr"].value, ",") {
		switch host = strings.TrimSpace(host); host {
		case "":
		case "*":
			entries = append(entries, quote(":"+port))
		default:
			entries = append(entries, quote(net.JoinHostPort(strings.Trim(host, "[]"), port)))
		}
	}
	if dir, ok := m.pgbouncer["unix_socket_dir"]; ok && dir.value != "" {
		entries = append(entries, quote("unix:"+dir.value+":"+port))
	} else if !ok && len(entries) == 0 {
		// PgBouncer's default where it listens nowhere else.
		entries = append(entries, quote("unix:/tmp:"+port))
	}
	m.out.WriteString("listen: [" + strings.Join(entries, ", ") + "]\n")
}

// pgbouncerPort is where PgBouncer listens by default.
const pgbouncerPort = "6432"

func (m *importer) writeMethod() {
	v, ok := m.pgbouncer["auth_type"]
	method := "md5" // PgBouncer's default
	if ok {
		switch v.value {
		case "md5", "scram-sha-256", "trust", "cert", "hba":
			method = v.value
		case "plain":
			method = "password"
		default:
			method = "scram-sha-256"
			m.warn(v.line, "auth_type %s has no equal; scram-sha-256 is taken", v.value)
		}
	}
	m.out.WriteString("  method: " + method + "\n")
	if user, ok := m.pgbouncer["auth_user"]; ok && m.pgbouncer["auth_query"].value == "" {
		// PgBouncer asks its default auth_query as soon as there is an auth_user.
		m.out.WriteString("  query: " + quote(lookupRole) + "\n")
		m.warn(user.line, "auth_user without auth_query: the query is written out; its user must be a superuser")
	}
}

func (m *importer) writeDatabases() {
	if len(m.databases) == 0 {
		m.warnings = append(m.warnings, "no database is named in [databases]; add one under databases")
		return
	}
	m.out.WriteString("\ndatabases:\n")
	for _, database := range m.databases {
		m.writeDatabase(database)
	}
}

func (m *importer) writeDatabase(v iniValue) {
	name := strings.Trim(v.key, `"`)
	settings, err := connectionString(v.value)
	if err != nil {
		m.warn(v.line, "database %s: %s; it is left out", name, err)
		return
	}
	fmt.Fprintf(&m.out, "  %s:\n    shards:\n      - manager: %s\n", quote(name), quote(m.managerURL(name, settings, v.line)))
	pools := [][2]string{{"pool_mode", "mode"}, {"pool_size", "size"}, {"min_pool_size", "min_idle"}, {"reserve_pool_size", "reserve"}, {"reserve_pool", "reserve"}, {"max_db_connections", "max_database_connections"}, {"max_db_client_connections", "max_database_clients"}}
	headed := false
	for _, pair := range pools {
		value, ok := take(settings, pair[0])
		if !ok {
			continue
		}
		if !headed {
			m.out.WriteString("    pool:\n")
			headed = true
		}
		fmt.Fprintf(&m.out, "      %s: %s\n", pair[1], quote(value))
	}
	for _, rest := range slices.Sorted(maps.Keys(settings)) {
		m.warn(v.line, "database %s: %s has no equal; it is left out", name, rest)
	}
}

// managerURL takes the parts of a URL out of the settings.
func (m *importer) managerURL(name string, settings map[string]iniValue, line int) string {
	host, _ := take(settings, "host")
	port, _ := take(settings, "port")
	database, named := take(settings, "dbname")
	user, forced := take(settings, "user")
	password, known := take(settings, "password")
	if before, _, several := strings.Cut(host, ","); several {
		m.warn(line, "database %s: only the first of several hosts is taken", name)
		host = before
	}
	if forced {
		m.warn(line, "database %s: user %s is not forced on clients; each uses the role it logs in with", name, user)
	}
	var b strings.Builder
	b.WriteString("postgres://")
	if forced {
		b.WriteString(escapeURL(user))
		if known {
			b.WriteString(":" + escapeURL(password))
		}
		b.WriteByte('@')
	}
	switch {
	case strings.HasPrefix(host, "/"):
		b.WriteString(escapeURL(host))
	case strings.Contains(host, ":"):
		b.WriteString("[" + host + "]")
	default:
		b.WriteString(host)
	}
	if port != "" {
		b.WriteString(":" + port)
	}
	if named {
		b.WriteString("/" + escapeURL(database))
	}
	return b.String()
}

func take(settings map[string]iniValue, key string) (string, bool) {
	v, ok := settings[key]
	delete(settings, key)
	return v.value, ok
}

// connectionString reads key=value pairs; a value in ' may hold spaces, and a quote inside it is doubled.
func connectionString(text string) (map[string]iniValue, error) {
	settings := map[string]iniValue{}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		key, rest, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("no = in its connection string")
		}
		rest = strings.TrimLeft(rest, " \t")
		var value strings.Builder
		if strings.HasPrefix(rest, "'") {
			rest = rest[1:]
			for {
				before, after, closed := strings.Cut(rest, "'")
				if !closed {
					return nil, fmt.Errorf("a quote in its connection string is not closed")
				}
				value.WriteString(before)
				rest = after
				if !strings.HasPrefix(rest, "'") {
					break
				}
				value.WriteByte('\'')
				rest = rest[1:]
			}
		} else {
			end := strings.IndexAny(rest, " \t")
			if end < 0 {
				end = len(rest)
			}
			value.WriteString(rest[:end])
			rest = rest[end:]
		}
		key = strings.TrimSpace(key)
		settings[key] = iniValue{key: key, value: value.String()}
		text = rest
	}
	return settings, nil
}

// escapeURL writes a part of a URL so that ParseURL reads the same text again.
func escapeURL(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// quote writes a YAML string that cannot be taken for anything else: JSON's form, which is YAML's too.
func quote(text string) string {
	written, err := json.Marshal(text)
	if err != nil {
		panic(fmt.Sprintf("quote a string: %v", err)) // strings always have a JSON form
	}
	return string(written)
}
