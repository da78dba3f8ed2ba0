package topology

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// DefaultPort is PostgreSQL's, as in libpq (DEF_PGPORT).
	DefaultPort = 5432
	// DefaultSocketDir is where libpq looks when a URL names no host, in the packages of Debian and Red Hat.
	DefaultSocketDir = "/var/run/postgresql"
)

// ParseURL reads a postgres:// or postgresql:// URL as libpq does, with its defaults for host and port; what
// the URL does not say about user and database stays "". Unlike libpq it takes one host only, and a parameter
// that it does not know is an error. Errors say what to do and never hold the password.
func ParseURL(text string) (Server, error) {
	rest, ok := strings.CutPrefix(text, "postgres://")
	if !ok {
		rest, ok = strings.CutPrefix(text, "postgresql://")
	}
	if !ok {
		return Server{}, errors.New("not a PostgreSQL URL; write postgres://user:password@host:port/database")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, database, _ := strings.Cut(rest, "/")
	server := Server{Port: DefaultPort}
	if err := server.parseAuthority(authority); err != nil {
		return Server{}, err
	}
	var err error
	if server.Database, err = unescape("database", database); err != nil {
		return Server{}, err
	}
	if err := server.parseQuery(query); err != nil {
		return Server{}, err
	}
	if server.Host == "" {
		server.Host = DefaultSocketDir
	}
	return server, nil
}

// UnmarshalText lets a configuration hold the server as its URL.
func (s *Server) UnmarshalText(text []byte) error {
	server, err := ParseURL(string(text))
	if err != nil {
		return err
	}
	*s = server
	return nil
}

// parseAuthority reads [user[:password]@][host][:port].
func (s *Server) parseAuthority(authority string) error {
	host := authority
	if credentials, after, ok := strings.Cut(authority, "@"); ok {
		host = after
		if strings.Contains(host, "@") {
			return errors.New("more than one @ before the host; write an @ of the user or password as %40")
		}
		user, password, _ := strings.Cut(credentials, ":")
		if err := errors.Join(s.set("user", user), s.set("password", password)); err != nil {
			return err
		}
	}
	port := ""
	if inner, ok := strings.CutPrefix(host, "["); ok {
		address, after, closed := strings.Cut(inner, "]")
		if !closed || (after != "" && !strings.HasPrefix(after, ":")) {
			return errors.New("an IPv6 address that does not end in ]; write [::1]:5432")
		}
		host, port = address, strings.TrimPrefix(after, ":")
	} else if before, after, ok := strings.Cut(host, ":"); ok {
		if strings.Contains(after, ":") {
			return errors.New("more than one colon after the host; write an IPv6 address as [::1]:5432, a : of the password as %3A and a / as %2F")
		}
		host, port = before, after
	}
	if err := s.set("host", host); err != nil {
		return err
	}
	if port == "" {
		return nil
	}
	return s.set("port", port)
}

// parseQuery reads key=value&key=value. A key may repeat what the part before the question mark says and then wins, as in libpq.
func (s *Server) parseQuery(query string) error {
	if query == "" {
		return nil
	}
	for _, pair := range strings.Split(query, "&") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return errors.New("a parameter without a value; write ?name=value&name=value")
		}
		name, err := unescape("parameter name", key)
		if err != nil {
			return err
		}
		if err := s.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// parameters is every name that may stand in a URL's query.
func parameters() []string {
	return []string{"channel_binding", "connect_timeout", "dbname", "host", "password", "port",
		"ssl", "sslcert", "sslkey", "sslmode", "sslrootcert", "user"}
}

// set stores one part of the URL, given in its escaped form.
func (s *Server) set(name, escaped string) error {
	value, err := unescape(name, escaped)
	if err != nil {
		return err
	}
	switch name {
	case "user":
		s.User = value
	case "password":
		s.Password = NewSecret(value)
	case "host":
		if err := checkHost(value); err != nil {
			return err
		}
		s.Host = value
	case "dbname":
		s.Database = value
	case "port":
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil || port == 0 {
			return fmt.Errorf("port %q is not a number from 1 to 65535; a : or / of the password is written %%3A or %%2F", clip(value))
		}
		s.Port = uint16(port)
	case "sslmode":
		return setWord(&s.TLS.Mode, name, value, "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
	case "ssl":
		// libpq takes JDBC's ssl=true for sslmode=require and no other value.
		if value != "true" {
			return errors.New("ssl takes only true; use sslmode")
		}
		s.TLS.Mode = "require"
	case "channel_binding":
		return setWord(&s.TLS.ChannelBinding, name, value, "disable", "prefer", "require")
	case "sslrootcert":
		s.TLS.RootCert = value
	case "sslcert":
		s.TLS.Cert = value
	case "sslkey":
		s.TLS.Key = value
	case "connect_timeout":
		seconds, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return fmt.Errorf("connect_timeout %q is not a whole number of seconds from 0 to 65535", clip(value))
		}
		s.ConnectTimeout = time.Duration(seconds) * time.Second
	default:
		return fmt.Errorf("unknown parameter %q; %s", clip(name), parameterHint(name))
	}
	return nil
}

// checkHost refuses what can be neither a socket's directory, nor a host name, nor an address.
func checkHost(host string) error {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
		return nil
	}
	if strings.Contains(host, ",") {
		return errors.New("more than one host; write one URL for each server")
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("host %q is not an IPv6 address", clip(host))
		}
		return nil
	}
	for _, r := range host {
		if r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(".-_", r)) {
			return fmt.Errorf("host %q holds the character %q; a host has letters, digits, dots, - and _, a socket's directory begins with /", clip(host), r)
		}
	}
	return nil
}

// setWord stores value in field when it is one of words.
func setWord(field *string, name, value string, words ...string) error {
	if !slices.Contains(words, value) {
		return fmt.Errorf("unknown %s %q; use one of %s", name, clip(value), strings.Join(words, ", "))
	}
	*field = value
	return nil
}

// parameterHint says what to do instead of the parameter name, which the proxy does not take.
func parameterHint(name string) string {
	switch name {
	case "application_name", "options", "client_encoding", "fallback_application_name", "search_path":
		return "leave it out: it belongs to each client's own connection"
	case "target_session_attrs", "load_balance_hosts":
		return "leave it out: which server does what follows from manager and replicas"
	case "hostaddr":
		return "put the address in place of the host"
	}
	return "use only " + strings.Join(parameters(), ", ")
}

// unescape decodes the %XX in value; a + stays a +, as in libpq.
func unescape(name, value string) (string, error) {
	text, err := url.PathUnescape(value)
	if err != nil {
		return "", fmt.Errorf("a %% in the %s that is not followed by two hexadecimal digits; write a plain %% as %%25", name)
	}
	if strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("a zero byte in the %s", name)
	}
	return text, nil
}

// escape is the reverse of unescape for every character with a meaning in a URL.
func escape(value string) string { return strings.ReplaceAll(url.QueryEscape(value), "+", "%20") }

// clip shortens what an error quotes, because it may be any rubbish of any length.
func clip(value string) string {
	const most = 40
	if len(value) > most {
		return value[:most] + "…"
	}
	return value
}
