package catalog

// keptBuiltins are declared stable, and answer by nothing but their arguments, the rows of tables that are named elsewhere, the settings that a session
// carries, and what only DDL changes (of which Version and Touch tell). All other functions of the server that are not immutable are not kept.
// Source: all functions of PostgreSQL 15's pg_proc that are stable, one by one.
var keptBuiltins = [...]group{
	// What depends on today as well is not here: timetz takes the zone's offset of now (timetz_in, time_timetz in src/backend/utils/adt/date.c).
	{"TimeZone, DateStyle and IntervalStyle", `date time timestamp timestamptz timestamptz_pl_interval timestamptz_mi_interval interval_pl_timestamptz
		date_part extract date_trunc overlaps make_timestamptz generate_series in_range to_char to_timestamp to_date
		date_*_timestamptz timestamptz_*_date timestamp_*_timestamptz timestamptz_*_timestamp jsonb_path_*_tz
		date_out timestamp_out timestamptz_out interval_out`},
	{"lc_monetary and lc_numeric", `money numeric to_number cash_out`},
	// Values whose printing looks elsewhere have a type of namedTypes, whatever they stand in.
	{"how values are printed", `array_out array_to_string record_out range_out multirange_out anyarray_out anycompatiblearray_out anyrange_out
		anycompatiblerange_out anymultirange_out anycompatiblemultirange_out quote_literal quote_nullable concat concat_ws format textanycat anytextcat
		array_to_json row_to_json to_json to_jsonb json_agg json_object_agg json_build_array json_build_object
		jsonb_agg jsonb_build_array jsonb_build_object`},
	{"labels of enumerations, which DDL changes", `enum_out enum_first enum_last enum_range anyenum_out`},
	{"default_text_search_config and its dictionaries, which DDL changes", `ts_match_tt ts_match_tq to_tsvector to_tsquery plainto_tsquery phraseto_tsquery
		websearch_to_tsquery json_to_tsvector jsonb_to_tsvector ts_headline`},
	{"xmloption", `xml xml_is_well_formed`},
	{"client_encoding", `*_send textsend namesend bpcharsend varcharsend`},
	{"encodings and conversions, which DDL changes", `length convert convert_from convert_to pg_client_encoding getdatabaseencoding
		pg_char_to_encoding pg_encoding_to_char`},
	{"role and database, which the key has", `current_user getpgusername current_database`},
}

// newerKept came with PostgreSQL 16, or are immutable in 15, by the function lists of their manuals.
const newerKept = `date_add date_subtract json_agg_strict jsonb_agg_strict json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict
jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict`

// keptExtensions are stable functions in C of pg_trgm, behind the operators of its index classes: its settings have a point, and sessions carry those.
const keptExtensions = `similarity_op word_similarity_op word_similarity_commutator_op strict_word_similarity_op strict_word_similarity_commutator_op`

// clockless says whether a function of the server that is declared stable is kept.
func clockless(name string) bool {
	if matches(newerKept, name) {
		return true
	}
	for _, list := range keptBuiltins {
		if matches(list.names, name) {
			return true
		}
	}
	return false
}

// changingBuiltins give the reason, where there is a better one than that a function is volatile or not known.
var changingBuiltins = [...]group{
	{"the clock", `now transaction_timestamp statement_timestamp clock_timestamp timeofday age timetz timezone pg_sleep*`},
	{"chance", `random gen_random_uuid`},
	{"the catalogs", `reg*in reg*out to_reg* regclass format_type pg_typeof pg_collation_for obj_description shobj_description col_description pg_get_*
		has_*_privilege pg_has_role row_security_active pg_*_is_visible current_schema current_schemas oidvectortypes pg_describe_object pg_identify_object*
		aclexplode aclitemout pg_partition_* pg_relation_* pg_index*_has_property`},
	{"the login, of which several may have one role", `session_user`},
	{"how rows are stored", `pg_column_size pg_column_compression pg_filenode_relation`},
	{"large objects", `lo_* loread`},
	{"values of any type read from text, dates among them", `json_populate_* jsonb_populate_* json_to_record* jsonb_to_record* *_in`},
}

// looksElsewhere are declared immutable, but look into the catalogs or return an aclitem, which is printed by the names of roles.
const looksElsewhere = `pg_partition_root satisfies_hash_partition acldefault makeaclitem aclinsert aclremove`

// changing is the reason why b's answer may change though no row does, "" if it cannot.
func (b *builtin) changing() string {
	switch {
	case b.volatility == 'i' && matches(looksElsewhere, b.name):
		return "the catalogs"
	case b.volatility == 'i', b.hidden:
		return ""
	case b.volatility == 's' && clockless(b.name):
		return ""
	}
	for _, list := range changingBuiltins {
		if matches(list.names, b.name) {
			return list.why
		}
	}
	if b.volatility == 'v' {
		return "volatile"
	}
	return "stable, and not known to depend on rows and settings alone"
}

// loginSettings are carried, but say who logged in, or what that role may do: neither is the role that a key has.
const loginSettings = `session_authorization is_superuser`

// keywordReasons are the reasons of CURRENT_DATE and its kind. Those of the key are missing: current_user, current_role, user and current_catalog.
var keywordReasons = map[string]string{
	"current_date": "the clock", "current_time": "the clock", "current_timestamp": "the clock", "localtime": "the clock", "localtimestamp": "the clock",
	"session_user": "the login, of which several may have one role", "current_schema": "the catalogs",
}

// systemColumns change without a write: VACUUM moves rows, and a row lock sets xmax. tableoid does not.
const systemColumns = `ctid xmin cmin xmax cmax`

// namedTypes are types whose values are read and printed by names of the catalogs, and timetz, which takes its offset from today
// (src/include/catalog/pg_type.dat): regproc, regprocedure, regoper, regoperator, regclass, regcollation, regtype, regrole, regnamespace, aclitem, timetz.
// Those of text search are not among them: to_tsvector('english', x) looks its configuration up as any call looks up its function, and Version covers
// them.
const namedTypes = `24, 2202, 2203, 2204, 2205, 4191, 2206, 4096, 4089, 1033, 1266`

// datedTypes have input functions that know words such as now (parser.TimeWord): date, time, timestamp, timestamptz, timetz.
const datedTypes = `1082, 1083, 1114, 1184, 1266`

// timeType is time without zone, which turns into timetz by itself where AT TIME ZONE is asked of it.
const timeType = `1083`
