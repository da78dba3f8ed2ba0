package auth

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
)

// Connection is what is known of a client before it proves anything.
type Connection struct {
	Local bool       // came over a unix socket
	TLS   bool       // is encrypted
	Addr  netip.Addr // peer address; not set if Local

	Database string
	User     string
	// Replication marks a physical replication connection (replication=true),
	// which only rules for "replication" match. Logical ones
	// (replication=database) are matched by their database.
	Replication bool

	CertVerified bool   // the client sent a certificate and our CA signed it
	CertName     string // its CertificateName
}

// HBA is a parsed pg_hba.conf: rules tried in order, the first match decides.
// It is immutable and may be used by any number of goroutines.
type HBA struct {
	rules []Rule
	// interfaces lists the networks of this machine, for samehost and samenet.
	interfaces func() ([]netip.Prefix, error)
}

// Rule is one line of pg_hba.conf.
type Rule struct {
	File       string
	Line       int // from 1
	Method     Method
	ClientCert ClientCert // beyond what the method asks for
	Map        string     // name of the pg_ident.conf map, or ""

	kind      connectionKind
	databases []matcher
	users     []matcher
	address   addressRule
}

// ClientCert says what a rule wants of a client's TLS certificate.
type ClientCert uint8

// The choices of clientcert.
const (
	CertNotNeeded  ClientCert = iota
	CertVerifyCA              // any certificate our CA signed
	CertVerifyFull            // and its name must be allowed to be the user
)

// connectionKind is the first word of a rule.
type connectionKind uint8

const (
	kindLocal connectionKind = iota
	kindHost
	kindHostTLS
	kindHostNoTLS
	kindHostGSS // never matches: the proxy declines GSS encryption
)

func (k connectionKind) match(conn Connection) bool {
	switch k {
	case kindLocal:
		return conn.Local
	case kindHost:
		return !conn.Local
	case kindHostTLS:
		return !conn.Local && conn.TLS
	case kindHostNoTLS:
		return !conn.Local && !conn.TLS
	}
	return false
}

// A matcher is one name in the list of databases or users.
type matcher struct {
	kind  matcherKind
	name  string
	regex *regexp.Regexp
}

type matcherKind uint8

const (
	matchName matcherKind = iota
	matchRegex
	matchAll
	matchSameUser
	matchReplication
)

func (m matcher) matchDatabase(conn Connection) bool {
	if conn.Replication {
		return m.kind == matchReplication
	}
	switch m.kind {
	case matchName:
		return m.name == conn.Database
	case matchRegex:
		return m.regex.MatchString(conn.Database)
	case matchAll:
		return true
	case matchSameUser:
		return conn.Database == conn.User
	}
	return false
}

func (m matcher) matchUser(user string) bool {
	switch m.kind {
	case matchName:
		return m.name == user
	case matchRegex:
		return m.regex.MatchString(user)
	}
	return m.kind == matchAll
}

// addressRule is the fourth field of a host rule.
type addressRule struct {
	kind   addressKind
	prefix netip.Prefix // of addressPrefix
}

type addressKind uint8

const (
	addressAll addressKind = iota
	addressPrefix
	addressSameHost
	addressSameNet
)

// Match returns the rule that decides about a connection, and false where none
// does, which means that it must be refused with Refusal.
func (h *HBA) Match(conn Connection) (Rule, bool) {
	conn.Addr = conn.Addr.Unmap().WithZone("")
	for i := range h.rules {
		rule := &h.rules[i]
		if rule.kind.match(conn) && h.matchAddress(rule, conn) &&
			slices.ContainsFunc(rule.databases, func(m matcher) bool { return m.matchDatabase(conn) }) &&
			slices.ContainsFunc(rule.users, func(m matcher) bool { return m.matchUser(conn.User) }) {
			return *rule, true
		}
	}
	return Rule{}, false
}

func (h *HBA) matchAddress(rule *Rule, conn Connection) bool {
	switch {
	case rule.kind == kindLocal, rule.address.kind == addressAll:
		return true
	case rule.address.kind == addressPrefix:
		return rule.address.prefix.Contains(conn.Addr)
	}
	// If the networks cannot be listed, nothing is the same host: a later rule
	// or none decides.
	networks, err := h.interfaces()
	return err == nil && slices.ContainsFunc(networks, func(network netip.Prefix) bool {
		if rule.address.kind == addressSameHost {
			return network.Addr() == conn.Addr
		}
		return network.Contains(conn.Addr)
	})
}

// localNetworks lists the addresses of this machine with their networks.
func localNetworks() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var networks []netip.Prefix
	for _, addr := range addrs {
		network, ok := addr.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(network.IP)
		if ones, _ := network.Mask.Size(); ok {
			networks = append(networks, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	return networks, nil
}

// Refusal is PostgreSQL's error for a connection that no rule matches.
func (h *HBA) Refusal(conn Connection) *Error {
	if conn.Replication {
		return conn.refusal(`no pg_hba.conf entry for replication connection from host "%s", user "%s", %s`)
	}
	return conn.refusal(`no pg_hba.conf entry for host "%s", user "%s", database "%s", %s`)
}

// rejection is PostgreSQL's error for a connection that a reject rule matches.
func (conn Connection) rejection() *Error {
	if conn.Replication {
		return conn.refusal(`pg_hba.conf rejects replication connection for host "%s", user "%s", %s`)
	}
	return conn.refusal(`pg_hba.conf rejects connection for host "%s", user "%s", database "%s", %s`)
}

// refusal fills in who is turned away; replication connections have no database.
func (conn Connection) refusal(format string) *Error {
	host, encryption := "[local]", "no encryption"
	if !conn.Local {
		host = conn.Addr.Unmap().String()
	}
	if conn.TLS {
		encryption = "SSL encryption"
	}
	args := []any{host, conn.User, conn.Database, encryption}
	if conn.Replication {
		args = []any{host, conn.User, encryption}
	}
	return &Error{Code: codeInvalidAuthorization, Message: fmt.Sprintf(format, args...)}
}
