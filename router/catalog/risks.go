package catalog

import "strings"

// statefulBuiltins are built-in functions that change session state which outlives the transaction, depend on such state, or run
// SQL that they are given as text. Source: the manual's chapters on system administration functions, sequences, XML and text search.
const statefulBuiltins = `set_config setseed currval lastval
pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all
pg_replication_origin_session_setup pg_replication_origin_session_reset pg_replication_origin_xact_setup pg_replication_origin_xact_reset
pg_backup_start pg_start_backup pg_create_physical_replication_slot pg_create_logical_replication_slot
pg_copy_physical_replication_slot pg_copy_logical_replication_slot
query_to_xml query_to_xmlschema query_to_xml_and_xmlschema ts_stat ts_rewrite`

// statefulExtensions are functions of well-known extensions, written in C, that do the same. They come from pg_trgm, tablefunc,
// xml2, orafce, age, pg_session_jwt, anon and intarray's neighbours; dblink and pg_variables are told by their prefixes.
const statefulExtensions = `dblink set_limit crosstab crosstab2 crosstab3 crosstab4 crosstabn connectby xpath_table
load_extension create_graph drop_graph cypher jwt_session_init init set_nls_sort enable disable register
pgv_set pgv_insert pgv_update pgv_delete pgv_remove pgv_free`

// readersOfAnyRelation are built-in functions that read relations which the statement need not name in a FROM clause, or
// evaluate the expressions of their indexes.
var readersOfAnyRelation = [...]string{
	"table_to_xml", "table_to_xml_and_xmlschema", "schema_to_xml", "schema_to_xml_and_xmlschema",
	"database_to_xml", "database_to_xml_and_xmlschema",
	"brin_summarize_new_values", "brin_summarize_range", "gin_clean_pending_list",
}

// risks knows functions that are risky by their name alone.
type risks struct{ builtin, extension map[string]struct{} }

func newRisks() risks {
	r := risks{builtin: map[string]struct{}{}, extension: map[string]struct{}{}}
	for _, name := range strings.Fields(statefulBuiltins) {
		r.builtin[name] = struct{}{}
	}
	for _, name := range strings.Fields(statefulExtensions) {
		r.extension[name] = struct{}{}
	}
	return r
}

// word says whether a name found in a body is that of a built-in or dblink function which touches the session, or the schema
// of temporary objects.
func (r risks) word(name string) bool {
	if _, ok := r.builtin[name]; ok {
		return true
	}
	return name == "pg_temp" || strings.HasPrefix(name, "pg_temp_") || strings.HasPrefix(name, "dblink")
}

// compiled says whether a function of an extension, written in C, touches the session.
func (r risks) compiled(name string) bool {
	_, ok := r.extension[name]
	return ok || strings.HasPrefix(name, "dblink_") && name != optionsOfDblink || strings.HasPrefix(name, "pgv_")
}

// optionsOfDblink only looks at options of servers. A foreign data wrapper is no part of a statement's text, so its function concerns every statement.
const optionsOfDblink = "dblink_fdw_validator"
