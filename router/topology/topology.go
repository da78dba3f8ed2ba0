// Package topology answers: which servers hold this database?
//
// All types are plain values: compare them with ==, copy them freely, and replace them instead of changing them.
package topology

import (
	"net"
	"path"
	"strconv"
	"strings"
	"time"
)

// Server is one PostgreSQL server as a URL describes it.
type Server struct {
	// Name is what logs and the admin database call the server; whoever builds the topology gives it, ParseURL leaves it "".
	Name string
	// Host is a host name, an address without brackets, the absolute directory of a unix socket, or "@name" for an abstract socket.
	Host string
	// Port is the TCP port, and the number at the end of a unix socket's file name.
	Port uint16
	// Database is the database's name on the server; "" means the name that the client asked for.
	Database string
	// User is the role the proxy may use for its own questions; "" means none was given.
	User string
	// Password belongs to User.
	Password Secret
	// TLS holds what the URL says about encryption; its zero value leaves everything to the proxy's tls.server.
	TLS ServerTLS
	// ConnectTimeout bounds connecting and logging in; 0 means that the URL does not say.
	ConnectTimeout time.Duration
	// Zone is where the server runs; "" is unknown.
	Zone string
	// Weight is the server's share of reads beside its peers; 0 is none.
	Weight int
}

// ServerTLS is the part of a URL that concerns encryption, in libpq's words. An empty field was not given.
type ServerTLS struct {
	// Mode is sslmode: disable, allow, prefer, require, verify-ca or verify-full.
	Mode string
	// RootCert is sslrootcert, the path of the authorities' certificates.
	RootCert string
	// Cert and Key are sslcert and sslkey, the paths of the certificate we log in with and of its key.
	Cert, Key string
	// ChannelBinding is channel_binding: disable, prefer or require.
	ChannelBinding string
}

// Shard is a manager with the replicas that follow it.
type Shard struct {
	// Name is unique within its database.
	Name     string
	Manager  Server
	Replicas []Server
}

// Database is everything behind one database name that clients may ask for.
type Database struct {
	// Name is what clients ask for; "*" stands for every name not listed.
	Name string
	// Shards has at least one element.
	Shards []Shard
}

// Network returns "unix" or "tcp".
func (s Server) Network() string {
	if strings.HasPrefix(s.Host, "/") || strings.HasPrefix(s.Host, "@") {
		return "unix"
	}
	return "tcp"
}

// Address returns what net.Dial wants: the network and the address in it.
func (s Server) Address() (network, address string) {
	port := strconv.Itoa(int(s.Port))
	if s.Network() == "unix" {
		return "unix", path.Join(s.Host, ".s.PGSQL."+port)
	}
	return "tcp", net.JoinHostPort(s.Host, port)
}

// String returns the URL without its password and parameters, for logs and messages.
func (s Server) String() string {
	var b strings.Builder
	b.WriteString("postgres://")
	if s.User != "" {
		b.WriteString(escape(s.User))
		b.WriteByte('@')
	}
	if s.Network() == "unix" {
		b.WriteString(escape(s.Host) + ":" + strconv.Itoa(int(s.Port)))
	} else {
		// Only the zone of an IPv6 address can hold a %, and nothing else needs escaping.
		host := strings.ReplaceAll(s.Host, "%", "%25")
		b.WriteString(net.JoinHostPort(host, strconv.Itoa(int(s.Port))))
	}
	if s.Database != "" {
		b.WriteString("/" + escape(s.Database))
	}
	return b.String()
}
