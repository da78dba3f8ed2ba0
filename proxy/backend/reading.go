package backend

import (
	"slices"
	"strings"

	"pgtier/proxy/wire"
)

// A server computes what a statement's text means when it prepares it: names by the search path and the role, quoted
// literals by the time zone, the date style and others. Statements are shared only where all of these are equal, and
// one that is prepared late, on another connection, is read under the settings of its first reading.

// plainReading lists settings that say nothing about what a text means. A custom setting (one with a dot) is none
// of PostgreSQL's, and the input functions of its types and of contrib's read none.
func plainReading(name string) bool {
	switch name {
	case "application_name", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
		"client_min_messages", "work_mem", "default_transaction_isolation", "default_transaction_read_only",
		"default_transaction_deferrable", "synchronous_commit":
		return true
	}
	return strings.Contains(name, ".")
}

// ReadsNames reports whether the setting of this lower-case name matters to a text without quoted literals.
func ReadsNames(name string) bool {
	switch name {
	case "search_path", "role", "client_encoding", "transform_null_equals":
		return true
	}
	return false
}

// literalSettings are those that decide how PostgreSQL reads a quoted literal of some type: the input functions of
// dates and intervals, money, arrays and XML, and the scanner itself (src/backend/utils/adt, parser/scan.l).
func literalSettings() [11]string {
	return [...]string{"array_nulls", "backslash_quote", "client_encoding", "datestyle", "intervalstyle", "lc_monetary",
		"standard_conforming_strings", "timezone", "timezone_abbreviations", "transform_null_equals", "xmloption"}
}

// ReadsLiterals reports whether the setting of this lower-case name may decide how a quoted literal is read.
func ReadsLiterals(name string) bool {
	names := literalSettings()
	return slices.Contains(names[:], name)
}

// Reading is equal for sets under which a server reads the same text as the same statement. literals tells that the
// text has quoted literals: without them fewer settings matter.
func (s *Settings) Reading(literals bool) string {
	switch {
	case s == nil:
		return ""
	case literals:
		return s.reading
	}
	return s.names
}

// reading encodes those of values that which chooses: name, zero byte, value, zero byte.
func reading(values []wire.Param, which func(name string) bool) string {
	var out []byte
	for _, v := range values {
		if which(v.Name) {
			out = append(append(append(append(out, v.Name...), 0), v.Value...), 0)
		}
	}
	return string(out)
}

// readingValues is the reverse of reading.
func readingValues(encoded string) (values []wire.Param) {
	for encoded != "" {
		name, rest, _ := strings.Cut(encoded, "\x00")
		value, after, _ := strings.Cut(rest, "\x00")
		values, encoded = append(values, wire.Param{Name: name, Value: value}), after
	}
	return values
}

// AppendLiteralSettings adds the question for the values of all settings that decide how literals are read, ending in
// one Sync; Literals takes the answer's fields.
func AppendLiteralSettings(dst []byte) []byte {
	names := literalSettings()
	return AppendCapture(dst, names[:])
}

// Literals is the set while the values asked for by AppendLiteralSettings are in force and s for the rest.
func (s *Settings) Literals(fields [][]byte) *Settings {
	for i, name := range literalSettings() {
		if fields[i] == nil {
			s = s.Without(name)
		} else {
			s = s.With(name, string(fields[i]))
		}
	}
	return s
}

// SameLiterals reports whether two Readings of one text read its literals alike.
func SameLiterals(a, b string) bool {
	if a == b {
		return true
	}
	of := func(reading string) []wire.Param {
		return slices.DeleteFunc(readingValues(reading), func(p wire.Param) bool { return !ReadsLiterals(p.Name) })
	}
	return slices.Equal(of(a), of(b))
}

// AppendReadUnder adds the messages, without a Sync, that put in force for the transaction under way what under (a
// Reading) says, on a connection whose session has now. changed tells that the transaction itself may have changed
// how literals are read.
func AppendReadUnder(dst []byte, under string, now *Settings, changed bool) []byte {
	var params []*string
	want := NewSettings(readingValues(under))
	set := func(name string, value *string) { params = append(params, &name, value) }
	names := []string{}
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, p := range append(slices.Clone(now.All()), want.All()...) {
		if !plainReading(p.Name) {
			add(p.Name)
		}
	}
	if changed {
		for _, name := range literalSettings() {
			add(name)
		}
	}
	for _, name := range names {
		have, has := now.Value(name)
		value, wanted := want.Value(name)
		switch {
		case has == wanted && have == value && !changed:
		case wanted:
			set(name, &value)
		case name == roleSetting:
			none := "none"
			set(name, &none)
		default:
			set(name, nil)
		}
	}
	if len(params) == 0 {
		return dst
	}
	return appendSetConfig(dst, params, true)
}
