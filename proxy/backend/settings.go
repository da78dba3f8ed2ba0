package backend

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pgtier/proxy/wire"
)

// Settings is an immutable set of session settings that differ from a server
// connection's own defaults, sorted by name. nil is the empty set.
type Settings struct {
	values  []wire.Param
	fp      uint64
	reading string // of texts with quoted literals
	names   string // of texts without
}

// NewSettings returns the set of values; the last of equal names wins.
func NewSettings(values []wire.Param) *Settings {
	var s *Settings
	for _, v := range values {
		s = s.With(v.Name, v.Value)
	}
	return s
}

// Fingerprint is equal for equal sets; 0 for the empty one. Equality must still
// be checked with Equal where a collision would matter.
func (s *Settings) Fingerprint() uint64 {
	if s == nil {
		return 0
	}
	return s.fp
}

// Value returns the value of name.
func (s *Settings) Value(name string) (string, bool) {
	if s == nil {
		return "", false
	}
	i, ok := s.find(name)
	if !ok {
		return "", false
	}
	return s.values[i].Value, true
}

// All returns the set in order of name. It must not be changed.
func (s *Settings) All() []wire.Param {
	if s == nil {
		return nil
	}
	return s.values
}

// Equal reports whether both sets hold the same names and values.
func (s *Settings) Equal(o *Settings) bool {
	return s == o || s.Fingerprint() == o.Fingerprint() && slices.Equal(s.All(), o.All())
}

// With returns the set with name at value.
func (s *Settings) With(name, value string) *Settings {
	if old, ok := s.Value(name); ok && old == value {
		return s
	}
	values := slices.Clone(s.All())
	i, ok := slices.BinarySearchFunc(values, name, func(p wire.Param, n string) int { return strings.Compare(p.Name, n) })
	if ok {
		values[i].Value = value
	} else {
		values = slices.Insert(values, i, wire.Param{Name: name, Value: value})
	}
	return seal(values)
}

// Without returns the set without name.
func (s *Settings) Without(name string) *Settings {
	if _, ok := s.Value(name); !ok {
		return s
	}
	i, _ := s.find(name)
	return seal(slices.Delete(slices.Clone(s.values), i, i+1))
}

func (s *Settings) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.values, name, func(p wire.Param, n string) int { return strings.Compare(p.Name, n) })
}

// seal computes the fingerprint (FNV-1a, 64 bits).
func seal(values []wire.Param) *Settings {
	if len(values) == 0 {
		return nil
	}
	h := uint64(14695981039346656037)
	add := func(s string) {
		for i := 0; i < len(s); i++ {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	for _, v := range values {
		add(v.Name)
		add(v.Value)
	}
	return &Settings{values: values, fp: h, names: reading(values, ReadsNames),
		reading: reading(values, func(name string) bool { return !plainReading(name) })}
}

// roleSetting is replayed in a round trip of its own: a statement must never
// run as somebody else because a replay failed.
const roleSetting = "role"

// encodingSetting is replayed before all others: a server reads their values in
// the encoding that is in force when they come.
const encodingSetting = "client_encoding"

// AppendAdopt adds the messages that bring this connection from its settings to
// want, ending in one Sync. ok is false when nothing has to be sent. A role is
// dropped first, so that the other settings are made with the login role's own
// rights, and taken last.
func (c *Conn) AppendAdopt(dst []byte, want *Settings) (out []byte, ok bool) {
	if c.settings.Equal(want) {
		return dst, false
	}
	var params []*string
	set := func(name string, value *string) { params = append(params, &name, value) }
	encoding, hasEncoding := want.Value(encodingSetting)
	had, hadEncoding := c.settings.Value(encodingSetting)
	recoded := hasEncoding != hadEncoding || encoding != had
	if recoded {
		if hasEncoding {
			set(encodingSetting, &encoding)
		} else {
			set(encodingSetting, nil)
		}
		dst, params = appendSetConfig(dst, params, false), nil
	}
	role, hasRole := want.Value(roleSetting)
	if had, ok := c.settings.Value(roleSetting); ok && (!hasRole || had != role || len(want.All()) > 1) {
		none := "none"
		set(roleSetting, &none)
	}
	for _, p := range c.settings.All() {
		if _, keep := want.Value(p.Name); !keep && p.Name != roleSetting && p.Name != encodingSetting {
			set(p.Name, nil)
		}
	}
	for _, p := range want.All() {
		if p.Name == roleSetting || p.Name == encodingSetting {
			continue
		}
		if have, ok := c.settings.Value(p.Name); !ok || have != p.Value || recoded {
			set(p.Name, &p.Value)
		}
	}
	if hasRole {
		set(roleSetting, &role)
	}
	if len(params) > 0 {
		dst = appendSetConfig(dst, params, false)
	}
	return wire.AppendSync(dst), true
}

// NeedsRoundTrip reports whether adopting want must succeed before anything
// else is sent: roles, settings that only some servers know, and whatever is
// replayed under another session's statement_timeout.
func (c *Conn) NeedsRoundTrip(want *Settings) bool {
	if _, limited := c.settings.Value("statement_timeout"); limited {
		return true // it may strike the replay
	}
	_, had := c.settings.Value(roleSetting)
	_, has := want.Value(roleSetting)
	if had || has {
		return true
	}
	for _, p := range want.All() {
		if !replaysSafely(p.Name) {
			return true
		}
	}
	return false
}

// ownPrefix begins the names of pgtier's own settings, which no server checks.
const ownPrefix = "pgtier."

// replaysSafely lists the settings whose replay cannot fail once a server has
// accepted the value: any role may set them and no check depends on other state.
func replaysSafely(name string) bool {
	if strings.HasPrefix(name, ownPrefix) {
		return true
	}
	switch strings.ToLower(name) {
	case "application_name", "search_path", "timezone", "datestyle", "intervalstyle", "client_encoding",
		"extra_float_digits", "bytea_output", "statement_timeout", "lock_timeout",
		"idle_in_transaction_session_timeout", "standard_conforming_strings", "client_min_messages",
		"default_transaction_isolation", "default_transaction_read_only", "work_mem":
		return true
	}
	return false
}

// Adopted records that the server runs with want.
func (c *Conn) Adopted(want *Settings) {
	c.settings = want
	c.fingerprint.Store(want.Fingerprint())
	c.unnamed = nil
}

// AppendCapture adds the messages that ask for the values of names, ending in
// one Sync; the answer is one DataRow with a field a name, NULL where the session
// has not set it or it is unknown.
//
// A SET that was refused leaves a value that this role may not be able to set at
// all, and whose replay would fail for everybody who gets the connection. So the
// server is asked where the value comes from, except for names that always replay.
func AppendCapture(dst []byte, names []string) []byte {
	sql, params := []byte("SELECT "), make([]*string, len(names))
	for i := range names {
		params[i] = &names[i]
		if i > 0 {
			sql = append(sql, ',')
		}
		n := strconv.Itoa(i + 1)
		value := "pg_catalog.current_setting($" + n + "::text,true)"
		if !replaysSafely(names[i]) {
			row := "(SELECT source FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name)=pg_catalog.lower($" + n + "::text))"
			// What the view does not show: settings that no loaded module knows, and the role.
			value = "CASE coalesce(" + row + ",CASE WHEN $" + n + "='" + roleSetting + "' OR $" + n + " LIKE '%.%' THEN 'session' END) WHEN 'session' THEN " + value + " END"
		}
		sql = append(sql, value...)
	}
	dst = wire.AppendParse(dst, "", sql, nil)
	dst = wire.AppendBindText(dst, "", params)
	return wire.AppendSync(wire.AppendExecute(dst))
}

// AppendRestore adds the messages that set those of values that the session does
// not set itself now, ending in one Sync: what a RESET that was undone, or a SET
// that came behind it, left alone stays. pg_settings does not show the role and what no loaded module knows; a RESET
// leaves those none and empty.
// local: for the transaction only, and whatever is set now.
func AppendRestore(dst []byte, values []wire.Param, local bool) []byte {
	sql, params := fmt.Appendf(nil, "SELECT pg_catalog.set_config(coalesce(s.name,v.name),v.value,%t) FROM (VALUES ", local), make([]*string, 0, 2*len(values))
	for i := range values {
		if i > 0 {
			sql = append(sql, ',')
		}
		sql = fmt.Appendf(sql, "($%d::text,$%d::text)", 2*i+1, 2*i+2)
		params = append(params, &values[i].Name, &values[i].Value)
	}
	sql = append(sql, ") v(name,value) LEFT JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name)=pg_catalog.lower(v.name)"...)
	if !local {
		sql = append(sql, " WHERE CASE WHEN s.name IS NULL THEN coalesce(pg_catalog.current_setting(v.name,true),'') IN ('','none') ELSE s.source<>'session' END"...)
	}
	const name = "pgtier_restore" // the unnamed statement may be the client's
	dst = wire.AppendBindText(wire.AppendParse(dst, name, sql, nil), name, params)
	return wire.AppendSync(wire.AppendCloseStatement(wire.AppendExecute(dst), name))
}

// SettingsAre records that the session's own statements left the server with s.
func (c *Conn) SettingsAre(s *Settings) {
	c.settings = s
	c.fingerprint.Store(s.Fingerprint())
}

// appendSetConfig adds Parse, Bind and Execute of a SELECT that sets each name in
// params to the value behind it, nil for the connection's default; local: for the
// transaction only.
func appendSetConfig(dst []byte, params []*string, local bool) []byte {
	sql := []byte("SELECT ")
	for i := 0; i < len(params); i += 2 {
		if i > 0 {
			sql = append(sql, ',')
		}
		sql = fmt.Appendf(sql, "pg_catalog.set_config($%d,$%d,%t)", i+1, i+2, local)
	}
	dst = wire.AppendParse(dst, "", sql, nil)
	return wire.AppendExecute(wire.AppendBindText(dst, "", params))
}

// AppendSet adds the messages that set values for the session, ending in one Sync.
func AppendSet(dst []byte, values []wire.Param) []byte {
	params := make([]*string, 0, 2*len(values))
	for i := range values {
		params = append(params, &values[i].Name, &values[i].Value)
	}
	return wire.AppendSync(appendSetConfig(dst, params, false))
}
