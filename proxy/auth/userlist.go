package auth

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// maxUserName bounds a user name in a list, in bytes. PostgreSQL cuts role
	// names at 63; PgBouncer takes 127.
	maxUserName = 127
	// maxSecretText bounds a secret in a list, in bytes, as PgBouncer does.
	maxSecretText = 2047
)

// ParseUserList reads PgBouncer's auth_file, usually called userlist.txt: a
// line for each user, "name" "secret", in double quotes with "" for a quote;
// the rest of the line is read over, and lines that begin with ; or # are
// comments. Of several lines for one user the last counts, as in PgBouncer.
// Errors give file:line and never the secret.
func ParseUserList(path string) ([]User, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read user list: %w", err)
	}
	return parseUserList(path, string(text))
}

func parseUserList(path, text string) ([]User, error) {
	var users []User
	var errs []error
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		user, err := parseUserLine(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, i+1, err))
			if len(errs) == maxReportedErrors {
				errs = append(errs, errors.New("and perhaps more"))
				break
			}
			continue
		}
		users = append(users, user)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("read user list: %w", errors.Join(errs...))
	}
	return users, nil
}

func parseUserLine(line string) (User, error) {
	name, rest, ok := quoted(line)
	switch {
	case !ok:
		return User{}, errors.New(`expected "user" "secret", each in double quotes`)
	case name == "":
		return User{}, errors.New("the user name is empty")
	case len(name) > maxUserName:
		return User{}, fmt.Errorf("the user name is longer than %d bytes", maxUserName)
	}
	text, _, ok := quoted(strings.TrimLeft(rest, " \t"))
	if !ok {
		return User{}, fmt.Errorf(`expected a secret in double quotes behind user %q`, name)
	}
	if len(text) > maxSecretText {
		return User{}, fmt.Errorf("the secret of user %q is longer than %d bytes", name, maxSecretText)
	}
	secret, err := ParseSecret(text)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", name, err)
	}
	return User{Name: name, Secret: secret}, nil
}

// quoted reads a text in double quotes at the front of s.
func quoted(s string) (text, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", "", false
}
