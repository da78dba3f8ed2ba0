package auth

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// ParseHBA reads a file in the syntax of pg_hba.conf (PostgreSQL 16), with the
// files it includes. What the proxy cannot honour (groups, host names, methods
// it does not speak) is an error, since ignoring a line would let the next one
// decide. The error holds all faults, each as file:line and what to do.
func ParseHBA(path string) (*HBA, error) {
	return parseHBA(newRuleReader(), path)
}

func parseHBA(reader *ruleReader, path string) (*HBA, error) {
	reader.file(path, 0, false)
	hba := &HBA{interfaces: localNetworks}
	for i := range reader.lines {
		rule, err := parseRule(reader, &reader.lines[i])
		if err != nil {
			reader.errs = append(reader.errs, err)
			continue
		}
		hba.rules = append(hba.rules, rule)
	}
	if err := reader.check(); err != nil {
		return nil, fmt.Errorf("read HBA rules: %w", err)
	}
	if len(hba.rules) == 0 {
		return nil, fmt.Errorf("read HBA rules: %s has no rule, so nobody could connect", path)
	}
	return hba, nil
}

// connectionKinds are the words a rule begins with.
var connectionKinds = map[string]connectionKind{
	"local":        kindLocal,
	"host":         kindHost,
	"hostssl":      kindHostTLS,
	"hostnossl":    kindHostNoTLS,
	"hostgssenc":   kindHostGSS,
	"hostnogssenc": kindHost, // no connection here has GSS encryption
}

func parseRule(reader *ruleReader, line *ruleLine) (Rule, error) {
	rule := Rule{File: line.file, Line: line.line}
	kind, err := line.one(0, "the connection type")
	if err != nil {
		return Rule{}, err
	}
	var ok bool
	if rule.kind, ok = connectionKinds[kind.text]; !ok {
		return Rule{}, line.errorf("invalid connection type %q: expected local, host, hostssl, hostnossl, hostgssenc or hostnogssenc", kind.text)
	}
	if rule.databases, err = parseMatchers(reader, line, 1, "database", databaseMatcher); err != nil {
		return Rule{}, err
	}
	if rule.users, err = parseMatchers(reader, line, 2, "user", userMatcher); err != nil {
		return Rule{}, err
	}
	next := 3
	if rule.kind != kindLocal {
		if rule.address, next, err = parseAddress(line, next); err != nil {
			return Rule{}, err
		}
	}
	method, err := line.one(next, "the authentication method")
	if err != nil {
		return Rule{}, err
	}
	if rule.Method, err = ruleMethod(method.text); err != nil {
		return Rule{}, line.errorf("%w", err)
	}
	for i := next + 1; i < len(line.fields); i++ {
		for _, option := range line.fields[i] {
			if err := rule.option(option.text); err != nil {
				return Rule{}, line.errorf("%w", err)
			}
		}
	}
	if rule.Method == MethodCert {
		if rule.kind != kindHostTLS {
			return Rule{}, line.errorf("method cert works on hostssl lines only")
		}
		rule.ClientCert = CertVerifyFull
	}
	return rule, nil
}

// ruleMethod reads a method that a rule may name.
func ruleMethod(name string) (Method, error) {
	if method, err := parseMethod(name); err == nil && method != MethodHBA {
		return method, nil
	}
	switch name {
	case "peer", "ident", "gss", "sspi", "pam", "bsd", "ldap", "radius", "oauth":
		return 0, fmt.Errorf("method %s is not spoken by the proxy: use scram-sha-256, md5, password, cert, trust or reject", name)
	}
	return 0, fmt.Errorf("invalid authentication method %q: expected scram-sha-256, md5, password, cert, trust or reject", name)
}

// option reads name=value behind the method.
func (r *Rule) option(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("authentication option %q is not in name=value form", text)
	}
	switch name {
	case "clientcert":
		if r.kind != kindHostTLS {
			return errors.New("clientcert works on hostssl lines only")
		}
		switch {
		case value == "verify-full":
			r.ClientCert = CertVerifyFull
		case value == "verify-ca" && r.Method != MethodCert:
			r.ClientCert = CertVerifyCA
		case value == "verify-ca":
			return errors.New(`clientcert=verify-ca is weaker than method cert: leave it out or use verify-full`)
		default:
			return fmt.Errorf("invalid clientcert %q: expected verify-ca or verify-full", value)
		}
	case "map":
		if r.Method != MethodCert {
			return errors.New("map works with method cert only")
		}
		r.Map = value
	case "clientname":
		if value != "CN" {
			return fmt.Errorf("clientname=%s is not supported: the proxy compares the certificate's common name (CN)", value)
		}
	default:
		return fmt.Errorf("unrecognized authentication option %q: expected clientcert, clientname or map", name)
	}
	return nil
}

func parseMatchers(reader *ruleReader, line *ruleLine, i int, what string, read func(token) (matcher, error)) ([]matcher, error) {
	if i >= len(line.fields) {
		return nil, line.errorf("the line ends before the %s", what)
	}
	names, err := reader.expand(line, line.fields[i], line.file, 0)
	if err != nil {
		return nil, err
	}
	matchers := make([]matcher, 0, len(names))
	for _, name := range names {
		m, err := read(name)
		if err != nil {
			return nil, line.errorf("%s: %w", what, err)
		}
		matchers = append(matchers, m)
	}
	return matchers, nil
}

func databaseMatcher(t token) (matcher, error) {
	switch {
	case t.is("all"):
		return matcher{kind: matchAll}, nil
	case t.is("sameuser"):
		return matcher{kind: matchSameUser}, nil
	case t.is("replication"):
		return matcher{kind: matchReplication}, nil
	case t.is("samerole"), t.is("samegroup"):
		return matcher{}, fmt.Errorf("%s needs role memberships, which the proxy does not know: list the names or use a regular expression", t.text)
	}
	return nameMatcher(t)
}

func userMatcher(t token) (matcher, error) {
	switch {
	case t.is("all"):
		return matcher{kind: matchAll}, nil
	case !t.quoted && strings.HasPrefix(t.text, "+"):
		return matcher{}, fmt.Errorf("%s needs role memberships, which the proxy does not know: list the users or use a regular expression", t.text)
	}
	return nameMatcher(t)
}

func nameMatcher(t token) (matcher, error) {
	pattern, ok := strings.CutPrefix(t.text, "/")
	if !ok {
		return matcher{kind: matchName, name: t.text}, nil
	}
	regex, err := regexp.Compile(pattern)
	if err != nil {
		return matcher{}, fmt.Errorf("invalid regular expression %q: %w", pattern, err)
	}
	return matcher{kind: matchRegex, regex: regex}, nil
}

// parseAddress reads the address at field i, and the mask behind it if it has
// one, and returns the number of the field that follows.
func parseAddress(line *ruleLine, i int) (addressRule, int, error) {
	t, err := line.one(i, "the address")
	switch {
	case err != nil:
		return addressRule{}, 0, err
	case t.is("all"):
		return addressRule{kind: addressAll}, i + 1, nil
	case t.is("samehost"):
		return addressRule{kind: addressSameHost}, i + 1, nil
	case t.is("samenet"):
		return addressRule{kind: addressSameNet}, i + 1, nil
	}
	if strings.Contains(t.text, "/") {
		prefix, err := netip.ParsePrefix(t.text)
		if err != nil {
			return addressRule{}, 0, line.errorf("invalid address %q: expected address/bits, such as 10.0.0.0/8 or ::1/128", t.text)
		}
		return prefixRule(prefix), i + 1, nil
	}
	addr, err := netip.ParseAddr(t.text)
	if err != nil {
		return addressRule{}, 0, line.errorf("%q is no address: host names are not looked up, write address/bits, all, samehost or samenet", t.text)
	}
	mask, err := line.one(i+1, "the netmask: write address/bits or an address and a mask")
	if err != nil {
		return addressRule{}, 0, err
	}
	bits, ok := maskBits(addr, mask.text)
	if !ok {
		return addressRule{}, 0, line.errorf("invalid netmask %q behind %s: write address/bits", mask.text, addr)
	}
	return prefixRule(netip.PrefixFrom(addr.WithZone(""), bits)), i + 2, nil
}

// prefixRule covers the network of prefix. An IPv4 network may be written in
// IPv6's notation, and clients' addresses are compared without it.
func prefixRule(prefix netip.Prefix) addressRule {
	if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	return addressRule{kind: addressPrefix, prefix: prefix.Masked()}
}

// maskBits reads a netmask of addr's family; its ones must come first.
func maskBits(addr netip.Addr, text string) (int, bool) {
	mask, err := netip.ParseAddr(text)
	if err != nil || mask.BitLen() != addr.BitLen() {
		return 0, false
	}
	ones, size := net.IPMask(mask.AsSlice()).Size()
	return ones, size > 0
}
