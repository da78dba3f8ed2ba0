package parser

import (
	_ "embed"
	"strings"
	"sync"
)

// builtinNames lists the functions of PostgreSQL 15's pg_catalog, one a line. Made with
//
//	psql -Atc "select proname from (select distinct proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace) p order by proname::text collate \"C\"" > builtins.txt
//
//go:embed builtins.txt
var builtinNames string

// newerBuiltins came with PostgreSQL 16 and 17 and touch no session state, by the function lists of their manuals.
const newerBuiltins = `any_value array_sample array_shuffle date_add date_subtract erf erfc
json_array json_arrayagg json_arrayagg_strict json_exists json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict
jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict json_query json_scalar json_serialize json_value jsonb_agg_strict json_agg_strict
pg_basetype pg_get_wal_summarizer_state pg_input_error_info pg_input_is_valid pg_available_wal_summaries pg_wal_summary_contents pg_column_toast_chunk_id
pg_split_walfile_name pg_stat_get_io pg_stat_get_backend_subxact pg_log_standby_snapshot pg_sync_replication_slots
random_normal system_user to_bin to_oct to_regtypemod unicode_assigned unicode_version icu_unicode_version uuid_extract_timestamp uuid_extract_version
xmltext pg_stat_reset_slru pg_current_logfile pg_ls_logicalmapdir pg_ls_logicalsnapdir has_largeobject_privilege pg_get_acl uuidv4 uuidv7 casefold crc32 crc32c`

// builtins is the set of all names above, made when first asked for and never changed.
var builtins = sync.OnceValue(func() map[string]struct{} {
	set := make(map[string]struct{}, 3000)
	for _, list := range []string{builtinNames, newerBuiltins} {
		for _, name := range strings.Fields(list) {
			set[name] = struct{}{}
		}
	}
	return set
})

func isBuiltin(name string) bool {
	_, ok := builtins()[name]
	return ok
}
