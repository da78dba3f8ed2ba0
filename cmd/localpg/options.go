package localpg

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// loopback is the only address that servers listen on: these are throw-away servers, nobody else's business.
const loopback = "127.0.0.1"

// Options describe a cluster. The zero value is one manager without replicas, in a temporary directory, tuned for
// tests, with a random password.
type Options struct {
	// Dir is where the data goes: created when missing, refused when not empty. Empty: a new temporary directory.
	Dir string
	// Keep leaves the directory where it is when the cluster stops. The servers then shut down cleanly.
	Keep bool
	// Shards is the number of managers; 0 means 1.
	Shards int
	// Replicas is the number of streaming replicas of each manager.
	Replicas int
	// Production makes commits durable and leaves PostgreSQL's own memory and checkpoint settings in force, for
	// measurements. Without it the servers trade safety for speed: no fsync.
	Production bool
	// Auth is the pg_hba.conf method of TCP connections: "scram-sha-256" (default), "md5", "password", "trust" or
	// "cert" (needs TLS).
	Auth string
	// HBA holds pg_hba.conf lines that come before the default ones for TCP.
	HBA []string
	// TLS makes certificates and turns ssl on.
	TLS bool
	// Settings are postgresql.conf settings that override ours.
	Settings map[string]string
	// Superuser is the name of the superuser; empty means "postgres".
	Superuser string
	// Password is the superuser's; empty means random.
	Password string
	// Iterations is the work factor of the superuser's SCRAM-SHA-256 verifier; 0 means PostgreSQL's own, 4096. The password must be ASCII then.
	Iterations int
	// Logf hears what is being done. May be nil; called from several goroutines.
	Logf func(format string, args ...any)
}

// withDefaults fills in what was left open and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.Shards < 0 || o.Replicas < 0 {
		return o, fmt.Errorf("%d shards with %d replicas each: neither may be negative", o.Shards, o.Replicas)
	}
	if o.Auth == "" {
		o.Auth = "scram-sha-256"
	}
	methods := []string{"scram-sha-256", "md5", "password", "trust", "cert"}
	if !slices.Contains(methods, o.Auth) {
		return o, fmt.Errorf("auth method %q: must be one of %s", o.Auth, strings.Join(methods, ", "))
	}
	if o.Auth == "cert" && !o.TLS {
		return o, fmt.Errorf("auth method cert needs TLS")
	}
	if o.Superuser == "" {
		o.Superuser = "postgres"
	}
	if o.Password == "" {
		var random [12]byte
		rand.Read(random[:])
		o.Password = hex.EncodeToString(random[:])
	}
	if strings.ContainsAny(o.Password, "\r\n") {
		return o, fmt.Errorf("the password holds a line break")
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o, nil
}

// settings returns postgresql.conf's settings: ours, under those of the caller.
func (o Options) settings(socketDir string, certificates *Certificates) map[string]string {
	s := map[string]string{
		"listen_addresses":          loopback,
		"unix_socket_directories":   socketDir,
		"max_connections":           "200",
		"wal_level":                 "logical", // moves between shards use logical decoding
		"max_prepared_transactions": "64",      // cross-shard commits prepare
		"max_wal_senders":           "20",
		"max_replication_slots":     "20",
		"hot_standby":               "on",
		// The default of 5 s makes every test that restarts a manager wait that long for its replicas.
		"wal_retrieve_retry_interval": "100ms",
		"timezone":                    "UTC",
		"log_timezone":                "UTC",
		"log_line_prefix":             "%m [%p] %q%u@%d ",
	}
	if o.Auth == "md5" {
		s["password_encryption"] = "md5"
	}
	if certificates != nil {
		s["ssl"] = "on"
		s["ssl_ca_file"] = certificates.CAFile
		s["ssl_cert_file"] = certificates.ServerCert
		s["ssl_key_file"] = certificates.ServerKey
	}
	if !o.Production {
		s["fsync"] = "off"
		s["full_page_writes"] = "off"
		s["shared_buffers"] = "32MB" // many clusters run side by side
		s["jit"] = "off"             // compiling costs more than it saves on small data
		// A killed server leaves no segment in /dev/shm this way: they are files of the data directory.
		s["dynamic_shared_memory_type"] = "mmap"
	}
	maps.Copy(s, o.Settings)
	return s
}

// configuration renders settings as lines of postgresql.conf, in a stable order.
func configuration(settings map[string]string) string {
	var b strings.Builder
	b.WriteString("\n# pgtier\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	return b.String()
}

// quoteSetting quotes a value for a configuration file, which knows backslash escapes.
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
}

// hba renders pg_hba.conf. The socket is trusted because its directory is open to the servers' own user only.
func (o Options) hba() string {
	kind := "host"
	if o.Auth == "cert" {
		kind = "hostssl"
	}
	lines := []string{"local all all trust", "local replication all trust"}
	lines = append(lines, o.HBA...)
	for _, database := range []string{"all", "replication"} {
		lines = append(lines, strings.Join([]string{kind, database, "all", loopback + "/32", o.Auth}, " "))
	}
	return strings.Join(lines, "\n") + "\n"
}
