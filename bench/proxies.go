package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"

	"pgtier/cmd/localpg"
)

// The same for every proxy.
const (
	poolSize = 20
	// maxClients is above what --idle asks for at most.
	maxClients = 20000
)

// proxies starts the proxies of one series. Its files go into dir, which the unprivileged account can enter.
type proxies struct {
	server  *server
	dir     string
	account *syscall.Credential // what proxies run as when we are root; nil: ours
}

// newProxies chooses the account and writes what all proxies share: the certificate and the users' verifiers. With a
// verifier no proxy spends time on turning a password into keys, at each login, that others keep.
func newProxies(s *server, dir string) (*proxies, error) {
	p := &proxies{server: s, dir: dir}
	if os.Geteuid() == 0 {
		found, err := user.Lookup("postgres")
		if err != nil {
			return nil, fmt.Errorf("find a user to run proxies as, which need not be root: %w", err)
		}
		uid, errUID := strconv.ParseUint(found.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(found.Gid, 10, 32)
		if errUID != nil || errGID != nil {
			return nil, fmt.Errorf("read the ids of user postgres: %q, %q", found.Uid, found.Gid)
		}
		p.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, fmt.Errorf("give %s away: %w", dir, err)
		}
	}
	certificates := s.cluster.Certificates
	for from, to := range map[string]string{certificates.ServerCert: "proxy.crt", certificates.ServerKey: "proxy.key"} {
		if err := copyFor(from, p.path(to), p.account); err != nil {
			return nil, err
		}
	}
	return p, writeFor(p.path("userlist.txt"), fmt.Sprintf("%q %q\n", benchRole, s.verifier), p.account)
}

func (p *proxies) path(name string) string { return filepath.Join(p.dir, name) }

// direct is no proxy: the server's own address.
func (p *proxies) direct() *target {
	return &target{
		name: directTarget, version: "PostgreSQL " + p.server.version, port: p.server.manager.Port, password: p.server.password,
		stop: func() error { return nil },
	}
}

// pgtier starts pgtier.
func (p *proxies) pgtier(ctx context.Context, program string) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return p.startPgtier(ctx, program, pgtierTarget, port, p.pgtierConfig(port, p.server.manager))
}

// startPgtier starts a pgtier with a configuration; an empty program stands for this checkout's.
func (p *proxies) startPgtier(ctx context.Context, program, name string, port int, config string) (*target, error) {
	if program == "" {
		var err error
		if program, err = p.build(ctx); err != nil {
			return nil, err
		}
	}
	file := p.path(name + ".yaml")
	if err := writeFor(file, config, p.account); err != nil {
		return nil, err
	}
	process := proxyProcess{name: name, program: program, args: []string{"serve", "--config", file}, port: port, dir: p.dir, account: p.account}
	t, err := process.start(ctx, p.server.password)
	if err != nil {
		return nil, err
	}
	if t.version, err = versionLine(ctx, program, "version"); err != nil {
		return nil, stopAfter(err, t.stop)
	}
	return t, nil
}

// build makes pgtier from this checkout, once.
func (p *proxies) build(ctx context.Context) (string, error) {
	program := p.path("pgtier")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-X main.commit="+commit(ctx), "-o", program, "pgtier/cmd/pgtier")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pgtier: %w: %s", err, out)
	}
	return program, nil
}

// commit names the checkout for the report; "unknown" outside one.
func commit(ctx context.Context) string {
	described, err := versionLine(ctx, "git", "describe", "--always", "--dirty", "--exclude=*")
	if err != nil {
		return "unknown"
	}
	return described
}

// pgtierConfig is pgtier's file for one shard with each of the managers. Its last line is in the last shard.
func (p *proxies) pgtierConfig(port int, managers ...*localpg.Server) string {
	config := fmt.Sprintf(`listen: ["%[1]s"]
http: ""
auth:
  method: scram-sha-256
  users_file: %[2]q
tls:
  client: {mode: prefer, cert: %[3]q, key: %[4]q}
  server: {mode: disable}
pool: {mode: transaction, size: %[5]d, max_clients: %[6]d}
databases:
  %[7]s:
    shards:
`, serverAddress(port), p.path("userlist.txt"), p.path("proxy.crt"), p.path("proxy.key"), poolSize, maxClients, benchDatabase)
	for i, manager := range managers {
		config += fmt.Sprintf("      - name: s%d\n        manager: \"postgres://%s:%s@%s/%s?sslmode=disable\"\n",
			i, benchRole, p.server.password, serverAddress(manager.Port), benchDatabase)
	}
	return config
}

// debianProgram is the path of a program that Debian keeps where not everybody's PATH leads, or of that in PATH.
func debianProgram(name string) (string, error) {
	path := "/usr/sbin/" + name
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s, which make bench installs and --targets can leave out: %w", name, err)
	}
	return path, nil
}

// directory makes a directory that the proxies' account can write in.
func (p *proxies) directory(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if p.account == nil {
		return nil
	}
	if err := os.Chown(path, int(p.account.Uid), int(p.account.Gid)); err != nil {
		return fmt.Errorf("give %s away: %w", path, err)
	}
	return nil
}

// installedPgbouncer starts a PgBouncer; an empty program stands for the installed one.
func (p *proxies) installedPgbouncer(ctx context.Context, program string) (*target, error) {
	if program == "" {
		var err error
		if program, err = debianProgram("pgbouncer"); err != nil {
			return nil, err
		}
	}
	return p.pgbouncer(ctx, program)
}

// pgbouncer starts PgBouncer.
func (p *proxies) pgbouncer(ctx context.Context, program string) (*target, error) {
	version, err := versionLine(ctx, program, "--version")
	if err != nil {
		return nil, err
	}
	prepares, err := sharesPrepared(version)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	file := p.path("pgbouncer.ini")
	if err := writeFor(file, p.pgbouncerConfig(port, prepares), p.account); err != nil {
		return nil, err
	}
	process := proxyProcess{name: pgbouncerTarget, program: program, args: []string{file}, port: port, dir: p.dir, account: p.account}
	t, err := process.start(ctx, p.server.password)
	if err != nil {
		return nil, err
	}
	t.version = version
	if !prepares {
		t.preparedDatabase = sessionDatabase
		t.note = version + " does not share prepared statements: its prepared workloads run with session pooling, which looks into less"
	}
	return t, nil
}

// sessionDatabase is PgBouncer's second name for benchDatabase, with session pooling.
const sessionDatabase = benchDatabase + "_session"

func (p *proxies) pgbouncerConfig(port int, prepares bool) string {
	prepared := ""
	if prepares {
		prepared = "max_prepared_statements = 200\n"
	}
	return fmt.Sprintf(`[databases]
%[1]s = host=%[2]s port=%[3]d
%[4]s = host=%[2]s port=%[3]d dbname=%[1]s pool_mode=session
[pgbouncer]
listen_addr = %[2]s
listen_port = %[5]d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %[6]s
pool_mode = transaction
default_pool_size = %[7]d
max_client_conn = %[8]d
client_tls_sslmode = allow
client_tls_cert_file = %[9]s
client_tls_key_file = %[10]s
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
%[11]s`, benchDatabase, loopback, p.server.manager.Port, sessionDatabase, port, p.path("userlist.txt"), poolSize, maxClients,
		p.path("proxy.crt"), p.path("proxy.key"), prepared)
}

var pgbouncerVersion = regexp.MustCompile(`^PgBouncer (\d+)\.(\d+)`)

// sharesPrepared tells whether a PgBouncer carries prepared statements through transaction pooling: since 1.21.
func sharesPrepared(version string) (bool, error) {
	parts := pgbouncerVersion.FindStringSubmatch(version)
	if parts == nil {
		return false, fmt.Errorf("read PgBouncer's version from %q", version)
	}
	major, errMajor := strconv.Atoi(parts[1])
	minor, errMinor := strconv.Atoi(parts[2])
	if errMajor != nil || errMinor != nil {
		return false, fmt.Errorf("read PgBouncer's version from %q", version)
	}
	return major > 1 || minor >= 21, nil
}
