package parser

import "strings"

// special is a built-in or well-known function that touches the session.
type special struct {
	effects Effects
	pin     bool // its state stays with the connection
	hides   bool // reads tables that its arguments name
}

// specials are the exact names. Sources: the manual's chapters on system administration functions, sequences, XML, text search and
// the DISCARD page. What ends with the transaction has no pin.
var specials = map[string]special{
	"nextval": {effects: AdvancesSequence | Writes},
	"setval":  {effects: AdvancesSequence | Writes},
	"currval": {effects: ReadsSequenceState},
	"lastval": {effects: ReadsSequenceState},

	"pg_notify":             {effects: Notifies},
	"pg_listening_channels": {effects: ReadsSessionViews},
	"pg_prepared_statement": {effects: ReadsSessionViews},
	"pg_cursor":             {effects: ReadsSessionViews},

	"pg_advisory_lock":                 {pin: true},
	"pg_advisory_lock_shared":          {pin: true},
	"pg_try_advisory_lock":             {pin: true},
	"pg_try_advisory_lock_shared":      {pin: true},
	"pg_advisory_xact_lock":            {effects: LocksTransaction},
	"pg_advisory_xact_lock_shared":     {effects: LocksTransaction},
	"pg_try_advisory_xact_lock":        {effects: LocksTransaction},
	"pg_try_advisory_xact_lock_shared": {effects: LocksTransaction},

	"setseed": {pin: true},

	// A base backup belongs to the session that started it; pg_start_backup and pg_stop_backup are its names before PostgreSQL 15.
	"pg_backup_start": {pin: true},
	"pg_start_backup": {pin: true},

	"pg_replication_origin_session_setup": {pin: true},
	"pg_replication_origin_session_reset": {pin: true},
	"pg_replication_origin_xact_setup":    {pin: true},
	"pg_replication_origin_xact_reset":    {pin: true},

	// These run SQL that they are given as text, or that they find in a table.
	"query_to_xml":               {effects: RunsOpaqueCode, pin: true},
	"query_to_xmlschema":         {effects: RunsOpaqueCode, pin: true},
	"query_to_xml_and_xmlschema": {effects: RunsOpaqueCode, pin: true},
	"ts_stat":                    {effects: RunsOpaqueCode, pin: true},
	"ts_rewrite":                 {effects: RunsOpaqueCode},
	"cursor_to_xml":              {effects: UsesCursor, hides: true},
	"cursor_to_xmlschema":        {effects: UsesCursor, hides: true},

	"table_to_xml":                  {hides: true},
	"table_to_xmlschema":            {hides: true},
	"table_to_xml_and_xmlschema":    {hides: true},
	"schema_to_xml":                 {hides: true},
	"schema_to_xmlschema":           {hides: true},
	"schema_to_xml_and_xmlschema":   {hides: true},
	"database_to_xml":               {hides: true},
	"database_to_xmlschema":         {hides: true},
	"database_to_xml_and_xmlschema": {hides: true},
}

const (
	pinTooLarge   = "statement too large to analyse"
	pinComputed   = "set_config() with a computed name"
	pinEncoding   = "text in an encoding that the proxy cannot read"
	pinTempSchema = "pg_temp"
	pinNUL        = "text with a zero byte"
)

// callPin is the reason of a pinning function.
func callPin(name string) string { return name + "()" }

// lookupSpecial finds what a function of this lower-case name does to the session. Literal arguments
// are not looked at: set_config and the replication slots are the callers' to judge.
func lookupSpecial(name string) (special, bool) {
	if s, ok := specials[name]; ok {
		return s, true
	}
	if strings.HasPrefix(name, "dblink_") {
		return special{effects: RunsOpaqueCode, pin: true}, true // named connections live in the session
	}
	return special{}, false
}

// makesSlot says which argument of a slot function, counted from 0, tells that the slot ends with the session.
func makesSlot(name string) (temporary int, ok bool) {
	switch name {
	case "pg_create_physical_replication_slot", "pg_create_logical_replication_slot",
		"pg_copy_physical_replication_slot", "pg_copy_logical_replication_slot":
		return 2, true
	}
	return 0, false
}
