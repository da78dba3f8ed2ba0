package auth

import (
	"fmt"
	"regexp"
	"strings"
)

// Ident is a parsed pg_ident.conf: named maps from certificate names to users.
// It is immutable; a nil *Ident has no map.
type Ident struct {
	maps map[string][]identLine
}

// identLine lets system be user.
type identLine struct {
	system string
	regex  *regexp.Regexp // instead of system, if not nil
	user   matcher
	// userTemplate is the user with \1 for the regex's first group, or "".
	userTemplate string
}

// ParseIdent reads a file in the syntax of pg_ident.conf (PostgreSQL 16), with
// the files it includes. The error holds all faults, each as file:line.
func ParseIdent(path string) (*Ident, error) {
	return parseIdent(newRuleReader(), path)
}

func parseIdent(reader *ruleReader, path string) (*Ident, error) {
	reader.file(path, 0, false)
	ident := &Ident{maps: map[string][]identLine{}}
	for i := range reader.lines {
		if err := ident.add(&reader.lines[i]); err != nil {
			reader.errs = append(reader.errs, err)
		}
	}
	if err := reader.check(); err != nil {
		return nil, fmt.Errorf("read user name maps: %w", err)
	}
	return ident, nil
}

func (id *Ident) add(line *ruleLine) error {
	name, err := line.one(0, "the map name")
	if err != nil {
		return err
	}
	system, err := line.one(1, "the certificate's name")
	if err != nil {
		return err
	}
	user, err := line.one(2, "the database user")
	if err != nil {
		return err
	}
	if len(line.fields) > 3 {
		return line.errorf("unexpected words after the database user")
	}
	entry := identLine{system: system.text}
	if pattern, ok := strings.CutPrefix(system.text, "/"); ok {
		if entry.regex, err = regexp.Compile(pattern); err != nil {
			return line.errorf("invalid regular expression %q: %w", pattern, err)
		}
	}
	if entry.user, err = userMatcher(user); err != nil {
		return line.errorf("database user: %w", err)
	}
	if entry.regex != nil && entry.user.kind == matchName && strings.Contains(user.text, `\1`) {
		if entry.regex.NumSubexp() == 0 {
			return line.errorf(`the regular expression %q has no (group) that \1 could stand for`, entry.regex)
		}
		entry.userTemplate = user.text
	}
	id.maps[name.text] = append(id.maps[name.text], entry)
	return nil
}

// Has tells whether a map of this name exists.
func (id *Ident) Has(name string) bool {
	return id != nil && id.maps[name] != nil
}

// UserAllowed tells whether the certificate name certCN may be user under the
// named map. The empty map name asks for equal names. An empty certCN never may.
func (id *Ident) UserAllowed(name, certCN, user string) bool {
	switch {
	case certCN == "":
		return false
	case name == "":
		return certCN == user
	case id == nil:
		return false
	}
	for _, entry := range id.maps[name] {
		if entry.allows(certCN, user) {
			return true
		}
	}
	return false
}

func (e *identLine) allows(certCN, user string) bool {
	if e.regex == nil {
		return e.system == certCN && e.user.matchUser(user)
	}
	groups := e.regex.FindStringSubmatchIndex(certCN)
	switch {
	case groups == nil:
		return false
	case e.userTemplate == "":
		return e.user.matchUser(user)
	case groups[2] < 0: // the group took no part in the match
		return false
	}
	return strings.Replace(e.userTemplate, `\1`, certCN[groups[2]:groups[3]], 1) == user
}

// UserAllowed tells whether the certificate name certCN may be user under this
// rule.
func (r Rule) UserAllowed(ident *Ident, certCN, user string) bool {
	return ident.UserAllowed(r.Map, certCN, user)
}
