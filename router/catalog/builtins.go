package catalog

import "strings"

// group is a list of built-in functions with the reason that they have in common. A name that ends in * stands for all that begin with it.
type group struct{ why, names string }

// localBuiltins answer from, or act on, the server that they run on, and work on a replica too. Their volatility does not tell: some are
// stable or even immutable. Source: all functions of PostgreSQL 15's pg_proc, one by one.
var localBuiltins = [...]group{
	{"statistics of the server", `pg_stat_*`},
	{"sessions and locks of the server", `pg_lock_status pg_blocking_pids pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked
		pg_backend_pid pg_cancel_backend pg_terminate_backend pg_log_backend_memory_contexts pg_cursor pg_prepared_statement pg_prepared_xact
		pg_listening_channels pg_notification_queue_usage pg_get_backend_memory_contexts pg_get_shmem_allocations`},
	{"advisory locks of the server", lockingBuiltins},
	{"settings and start of the server", `pg_show_all_settings pg_show_all_file_settings pg_hba_file_rules pg_ident_file_mappings
		pg_settings_get_flags pg_conf_load_time pg_reload_conf pg_config version pg_postmaster_start_time pg_jit_available current_setting`},
	{"addresses of the connection", `inet_client_* inet_server_*`},
	{"files of the server", `pg_ls_* pg_read_* pg_current_logfile pg_rotate_* pg_tablespace_location pg_tablespace_databases pg_available_extension*
		pg_extension_update_paths pg_timezone_names pg_timezone_abbrevs lo_export`},
	{"libraries of the server", `pg_collation_actual_version pg_database_collation_actual_version`},
	// Relation files grow and keep maps of free space by themselves, without a WAL record for each byte.
	{"sizes of the server's files", `pg_database_size pg_tablespace_size pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size`},
	{"recovery and WAL of the server", `pg_is_in_recovery pg_is_wal_replay_paused pg_get_wal_replay_pause_state pg_wal_replay_* pg_promote
		pg_last_wal_* pg_last_xact_replay_timestamp pg_current_wal_* pg_walfile_name* pg_control_* pg_get_wal_resource_managers
		pg_backup_* pg_get_replication_slots pg_drop_replication_slot pg_copy_*_replication_slot pg_create_*_replication_slot
		pg_logical_slot_* pg_replication_* pg_show_replication_origin_status`},
	// A replica's list of running transactions is empty, and its next number is behind: GetSnapshotData in src/backend/storage/ipc/procarray.c.
	{"transactions of the server", `pg_current_snapshot txid_current_snapshot pg_current_xact_id_if_assigned txid_current_if_assigned
		pg_xact_status txid_status pg_xact_commit_timestamp* pg_last_committed_xact pg_get_multixact_members pg_export_snapshot mxid_age`},
	// WAL has sequences 32 values ahead: SEQ_LOG_VALS in src/backend/commands/sequence.c.
	{"state of sequences", `currval lastval pg_sequence_last_value`},
	{"what it finds when it runs", `query_to_xml* table_to_xml* schema_to_xml* database_to_xml* cursor_to_xml* ts_stat`},
}

// lockingBuiltins take locks that sessions or transactions keep.
const lockingBuiltins = `pg_advisory_* pg_try_advisory_*`

// newerLocal came with PostgreSQL 16 to 18, by the function lists of their manuals, or left before 15.
const newerLocal = `pg_get_wal_summarizer_state pg_available_wal_summaries pg_wal_summary_contents pg_sync_replication_slots pg_get_aios
pg_get_loaded_modules pg_numa_* pg_get_shmem_allocations_numa pg_start_backup pg_stop_backup pg_is_in_backup pg_backup_start_time pg_xlog* pg_xlogfile*
pg_current_xlog* pg_last_xlog* pg_is_xlog* pg_get_sequence_data`

// xidType is the type of transaction numbers (src/include/catalog/pg_type.dat). age(xid) counts from the server's next one; the other
// functions called age subtract times.
const xidType = 28

// advancingBuiltins take a transaction number though they are declared stable.
const advancingBuiltins = `pg_current_xact_id txid_current`

// harmlessBuiltins are volatile, write nothing and depend on no server:
//   - random, gen_random_uuid: each call gives something new wherever it runs; setseed pins.
//   - clock_timestamp, timeofday: servers of one cluster are taken to have one time, as for now(), which is stable.
//   - current_query: the text, which the proxy sends on as it is.
//   - pg_sleep*: wait.
//   - pg_partition_tree, pg_partition_ancestors: read pg_inherits, and are volatile because they lock.
const harmlessBuiltins = `random gen_random_uuid clock_timestamp timeofday current_query
pg_sleep pg_sleep_for pg_sleep_until pg_partition_tree pg_partition_ancestors`

// newerHarmless are those that came with PostgreSQL 16 to 18.
const newerHarmless = `random_normal array_sample array_shuffle uuidv4 uuidv7`

// harmlessExtensions are volatile functions in C of pgcrypto, uuid-ossp and tablefunc: random numbers and what is made with them.
const harmlessExtensions = `gen_random_bytes gen_random_uuid gen_salt pgp_pub_encrypt pgp_pub_encrypt_bytea pgp_sym_encrypt pgp_sym_encrypt_bytea
uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 normal_rand`

// harmlessTriggers are trigger functions in C of the extensions of these names, and of tcn, that change no row but the one that fires them.
const harmlessTriggers = `moddatetime autoinc insert_username triggered_change_notification`

// writingBuiltins change rows of catalogs or large objects; tables of others are changed by none.
const writingBuiltins = `lo_* lowrite pg_import_system_collations pg_replication_origin_create pg_replication_origin_drop`

// carriedSettings are settings of which the proxy brings a session's value to every connection, and that no replica answers otherwise.
const carriedSettings = `application_name bytea_output client_encoding datestyle extra_float_digits integer_datetimes intervalstyle is_superuser
role search_path server_encoding session_authorization standard_conforming_strings timezone`

// builtin is a row of pg_proc for a function of the server itself that is volatile or listed above.
type builtin struct {
	oid        uint32
	name       string
	volatility byte
	args       arity
	first      uint32 // type of the first argument, 0 if there is none
	hidden     bool
}

// arity is how many arguments a function takes.
type arity struct{ least, most int }

// takes says whether n written arguments may call the function; -1 are arguments that were not counted.
func (a arity) takes(n int) bool { return n < 0 || n >= a.least && n <= a.most }

// manyArguments is more than a function can have: FUNC_MAX_ARGS is 100. It stands for VARIADIC.
const manyArguments = 1 << 10

// local is the reason why b's answer depends on the server, "" if it does not.
func (b *builtin) local() string {
	if b.name == "age" && b.first == xidType {
		return "transactions of the server"
	}
	for _, list := range localBuiltins {
		if matches(list.names, b.name) {
			return list.why
		}
	}
	if matches(newerLocal, b.name) {
		return "state of the server"
	}
	return ""
}

// unproved is the reason why b may do more than read, "" if it does not.
func (b *builtin) unproved() string {
	switch {
	case matches(advancingBuiltins, b.name):
		return "takes a transaction number"
	case b.volatility == 'v' && !b.hidden && !matches(harmlessBuiltins, b.name) && !matches(newerHarmless, b.name):
		return "volatile"
	}
	return ""
}

// listed says whether b has a name that the query for built-in functions looks for whatever its volatility.
func (b *builtin) listed() bool {
	return b.name == "age" || b.local() != "" || matches(advancingBuiltins, b.name) || matches(statefulBuiltins, b.name)
}

func harmlessExtension(name string) bool { return matches(harmlessExtensions, name) }

// carried says whether current_setting of this name is the same on every server: an application's own settings and those of carriedSettings.
func carried(setting string) bool {
	setting = strings.ToLower(setting)
	if strings.Contains(setting, ".") {
		return !strings.HasPrefix(setting, "pgtier.")
	}
	return setting != "" && matches(carriedSettings, setting)
}

// matches says whether one of the names, or patterns with one *, is name.
func matches(names, name string) bool {
	for _, pattern := range strings.Fields(names) {
		before, after, wild := strings.Cut(pattern, "*")
		if pattern == name || wild && len(name) >= len(pattern)-1 && strings.HasPrefix(name, before) && strings.HasSuffix(name, after) {
			return true
		}
	}
	return false
}

// listedNames are the names above that a query must look for: those without * as a list in quotes, the others as a regular expression.
func listedNames() (names, patterns string) {
	plain, wild := []string{"'age'"}, []string{}
	lists := []string{newerLocal, advancingBuiltins, statefulBuiltins, looksElsewhere}
	for _, list := range localBuiltins {
		lists = append(lists, list.names)
	}
	for _, name := range strings.Fields(strings.Join(lists, " ")) {
		if strings.Contains(name, "*") {
			wild = append(wild, strings.ReplaceAll(strings.TrimSuffix(name, "*"), "*", ".*"))
		} else {
			plain = append(plain, "'"+name+"'")
		}
	}
	return strings.Join(plain, ", "), "^(" + strings.Join(wild, "|") + ")"
}
