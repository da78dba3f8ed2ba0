package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
)

// pgpoolTarget is Pgpool-II as Debian packages it.
const pgpoolTarget = "pgpool"

// pgpool starts Pgpool-II as what it is beside poolers: a process for each client, that keeps its client's server
// connection for the next client. It must take sessions clients at the same time; further ones would wait until others leave.
func (p *proxies) pgpool(ctx context.Context, program string, sessions int) (*target, error) {
	return p.startPgpool(ctx, program, pgpoolTarget, sessions, "")
}

// startPgpool starts it under a name, with further lines of its file.
func (p *proxies) startPgpool(ctx context.Context, program, name string, sessions int, further string) (*target, error) {
	version, err := versionLine(ctx, program, "--version")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	file := p.path(name + ".conf")
	for path, content := range map[string]string{
		file:                    p.pgpoolConfig(port, sessions) + further,
		p.path("pool_hba.conf"): "host all all " + loopback + "/32 scram-sha-256\n",
		// It cannot log in to the server with a verifier, as the others do. TEXT says that no more needs decoding.
		p.path("pool_passwd"): benchRole + ":TEXT" + p.server.password + "\n",
		p.path("pcp.conf"):    "", // nobody may administer it
	} {
		if err := writeFor(path, content, p.account); err != nil {
			return nil, err
		}
	}
	process := proxyProcess{
		name: name, program: program, port: port, dir: p.dir, account: p.account,
		onDeath: syscall.SIGINT, // it stops its children itself, which would live on without it
		args:    []string{"-n", "-D", "-f", file, "-a", p.path("pool_hba.conf"), "-F", p.path("pcp.conf")},
	}
	t, err := process.start(ctx, p.server.password)
	if err != nil {
		return nil, err
	}
	t.version = strings.TrimSuffix(version, ",")
	t.sessions = sessions
	t.noTLS = "its one switch for TLS takes it to the server, too"
	t.note = fmt.Sprintf("%s keeps a process and a server connection for each of up to %d clients, where the others share %d server connections", t.version, sessions, poolSize)
	return t, nil
}

// pgpoolConfig leaves it in its usual mode, because in raw mode a single UPDATE by the extended protocol leaves pgbench in a transaction. It turns off what a single server has no use for (load balancing, checks of health and replication), and the
// administration by PCP as far as it can be: no TCP, no user. With serialize_accept a new client wakes up one process, not all.
func (p *proxies) pgpoolConfig(port, sessions int) string {
	return fmt.Sprintf(`backend_clustering_mode = 'streaming_replication'
listen_addresses = '%[1]s'
port = %[2]d
socket_dir = '%[3]s'
pcp_listen_addresses = ''
pcp_port = %[2]d
pcp_socket_dir = '%[3]s'
logdir = '%[3]s'
pid_file_name = '%[3]s/pgpool.pid'
backend_hostname0 = '%[1]s'
backend_port0 = %[4]d
backend_flag0 = 'DISALLOW_TO_FAILOVER'
enable_pool_hba = on
pool_passwd = 'pool_passwd'
num_init_children = %[5]d
max_pool = 1
connection_cache = on
child_life_time = 0
serialize_accept = on
load_balance_mode = off
sr_check_period = 0
health_check_period = 0
`, loopback, port, p.dir, p.server.manager.Port, sessions)
}
