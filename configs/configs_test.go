package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgtier/proxy"
	"pgtier/proxy/pool"
)

const small = "databases: {app: {shards: [{manager: postgres://app:hunter2@10.0.0.1/app}]}}\n"

// sharded is a file of a database of two shards; more stands in its sharding section, from line 5.
func sharded(more string) string {
	return "databases:\n  a:\n    shards: [{manager: postgres://u@a}, {manager: postgres://u@b}]\n    sharding:\n      " + more + "\n"
}

func mustParse(t *testing.T, text string, env ...string) *Config {
	t.Helper()
	config, err := Parse("test.yaml", []byte(text), env)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return config
}

func TestReferenceFileIsCompleteAndHoldsTheDefaults(t *testing.T) {
	config := mustParse(t, Example())
	database := config.Proxy.Databases["app"]
	want := proxy.DefaultDatabase(pool.DefaultConfig())
	want.Shards = database.Shards
	defaults := Default()
	defaults.Proxy.Databases = map[string]proxy.Database{"app": want}
	defaults.Proxy.Auth.Users = config.Proxy.Auth.Users
	defaults.Proxy.Auth.Admins = config.Proxy.Auth.Admins
	for _, change := range Diff(defaults, config) {
		if change.Path != "databases.app.sharding.tables" {
			t.Errorf("the reference file differs from the defaults: %s", change)
		}
	}
	// Keys below a database's pool are those of the pool above; those of rows that this version refuses stand in comments.
	lines := strings.Split(Example(), "\n")
	for _, path := range KnownKeys() {
		name := path[strings.LastIndex(path, ".")+1:]
		pattern := regexp.MustCompile(`(^|[ #{,-])` + regexp.QuoteMeta(name) + `:`)
		found := false
		for _, line := range lines {
			found = found || pattern.MatchString(line)
		}
		if !found {
			t.Errorf("the reference file does not show %s", path)
		}
	}
}

func TestLoadPutsEnvironmentOverFileOverDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgtier.yaml")
	text := "pool: {size: 30, query_timeout: 0}\nlog: {slow_query: 500ms}\n" + small +
		"auth: {users: [{name: app, password: 0123}], admins: [app]}\nlimits: {max_query: 2MiB}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := Load(path, []string{
		"PGTIER_POOL_SIZE=40", "PGTIER_LISTEN=127.0.0.1:1, unix:/tmp", "PGTIER_HTTP=", "PGTIER_AUTH_METHOD=md5",
		"PGTIER_DATABASES_APP_POOL_MIN_IDLE=3", "PGTIER_AUTH_USERS_1_NAME=other", "PGTIER_AUTH_USERS_1_PASSWORD=a=b",
		"PGTIER_SERVICE_HOST=10.0.0.1", "PGTIER_PORT_6432_TCP_ADDR=10.0.0.1", "HOME=/root", "PGTIER_POOL_RESERVE_TIMEOUT=3s",
	})
	if err != nil {
		t.Fatal(err)
	}
	database := config.Proxy.Databases["app"]
	for what, pair := range map[string][2]any{
		"pool.size":           {config.Proxy.Pool.Size, 40},
		"app pool.size":       {database.Pool.Size, 40},
		"app pool.min_idle":   {database.Pool.MinIdle, 3},
		"pool.min_idle":       {config.Proxy.Pool.MinIdle, 0},
		"pool.reserve":        {config.Proxy.Pool.ReserveTimeout, 3 * time.Second},
		"listen":              {fmt.Sprint(config.Proxy.Listen), "[127.0.0.1:1 unix:/tmp]"},
		"http":                {config.Proxy.HTTP, ""},
		"auth.method":         {config.Proxy.Auth.Method, "md5"},
		"a password of 0123":  {config.Proxy.Auth.Users[0].Password, "0123"},
		"a user of the env":   {config.Proxy.Auth.Users[1].Name, "other"},
		"a password with =":   {config.Proxy.Auth.Users[1].Password, "a=b"},
		"slow_query":          {config.Proxy.SlowQuery, 500 * time.Millisecond},
		"max_query":           {config.Proxy.Limits.MaxQuery, proxy.Size(2 << 20)},
		"default lifetime":    {database.Pool.MaxLifetime, time.Hour},
		"manager's password":  {database.Shards[0].Manager.Password.Reveal(), "hunter2"},
		"default consistency": {database.Reads.Consistency, "session"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
}

func TestDatabaseNamesKeepCaseAndDots(t *testing.T) {
	config := mustParse(t, `databases: {My.DB: {shards: [{manager: postgres://h}], pool: {size: 3}}, "*": {shards: [{manager: postgres://h}]}}`,
		"PGTIER_DATABASES_MY_DB_POOL_MODE=session", "PGTIER_DATABASES_NEW_ONE_SHARDS_0_MANAGER=postgres://n/x")
	db, ok := config.Proxy.Databases["My.DB"]
	if !ok || db.Pool.Size != 3 || db.Pool.Mode != pool.ModeSession {
		t.Errorf("My.DB: got %v %+v", ok, db.Pool)
	}
	if got := db.Topology("My.DB").Shards[0].Manager; got.Database != "My.DB" || got.Name != "s0" {
		t.Errorf("My.DB's manager: got database %q, name %q", got.Database, got.Name)
	}
	wild := config.Proxy.Databases["*"]
	if got := wild.Topology("*").Shards[0].Manager.Database; got != "" {
		t.Errorf("the fallback's manager: got database %q, want the one a client asks for", got)
	}
	if got := config.Proxy.Databases["new_one"].Shards; len(got) != 1 || got[0].Manager.Host != "n" {
		t.Errorf("new_one: got %+v", got)
	}
}

func TestReplicasWeighOneUnlessTheyAreGivenAnotherWeight(t *testing.T) {
	config := mustParse(t, `databases: {a: {shards: [{manager: postgres://h, replicas: [{url: postgres://b}, {url: postgres://c, weight: 0}, {url: postgres://d, weight: 3, zone: z}]}]}}`,
		"PGTIER_DATABASES_A_SHARDS_0_REPLICAS_3_URL=postgres://e")
	var got []int
	for _, r := range config.Proxy.Databases["a"].Shards[0].Replicas {
		got = append(got, r.Weight)
	}
	if want := []int{1, 0, 3, 1}; !slices.Equal(got, want) {
		t.Errorf("got weights %v, want %v", got, want)
	}
}

func TestShardedDatabase(t *testing.T) {
	config := mustParse(t, sharded("function: hash\n      buckets: 64\n      tables: {users: {key: id}, shop.Orders: {key: [tenant_id, user_id]}}\n      reference: [countries]\n      home: s1")+
		"control: postgres://u:hunter2@c/maps\n",
		"PGTIER_DATABASES_A_SHARDING_TABLES_USERS_KEY=tenant_id, id", "PGTIER_DATABASES_A_SHARDING_TABLES_ITEMS_KEY=user_id", "PGTIER_DATABASES_A_SHARDING_REFERENCE=a,b")
	database := config.Proxy.Databases["a"]
	want := map[string]proxy.Table{"users": {Key: []string{"tenant_id", "id"}}, "shop.Orders": {Key: []string{"tenant_id", "user_id"}}, "items": {Key: []string{"user_id"}}}
	if s := database.Sharding; !reflect.DeepEqual(s.Tables, want) || !slices.Equal(s.Reference, []string{"a", "b"}) || s.Buckets != 64 || database.HomeShard() != "s1" {
		t.Errorf("got %+v", s)
	}
	if control := config.Proxy.ControlOf("a"); control.Host != "c" || control.Database != "maps" {
		t.Errorf("control: got %s", control)
	}
	config = mustParse(t, sharded("tables: {users: {key: id}}"))
	database = config.Proxy.Databases["a"]
	if control := config.Proxy.ControlOf("a"); control.Host != "a" || control.Database != "a" || database.HomeShard() != "s0" {
		t.Errorf("without control: got %s, home %s", control, database.HomeShard())
	}
	if key := database.Sharding.Tables["users"].Key; !slices.Equal(key, []string{"id"}) {
		t.Errorf("a key of one column: got %q", key)
	}
	changed := mustParse(t, sharded("tables: {users: {key: [id]}, more: {key: user_id}}"))
	if got := fmt.Sprint(Diff(config, changed)); got != "[databases.a.sharding.tables.more: absent -> present]" {
		t.Errorf("got %s", got)
	}
}

// Each case is a file, variables, and the problems in order.
func TestProblemsSayWhereWhatAndWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		env  []string
		want []string
	}{
		"unknown key":         {"pol: {}\n" + small, nil, []string{"line 1: pol: unknown key; did you mean pool?"}},
		"unknown nested key":  {small + "pool:\n  sise: 3\n", nil, []string{"line 3: pool.sise: unknown key; did you mean size?"}},
		"nothing near":        {small + "limits: {zebra: 3}\n", nil, []string{"line 2: limits.zebra: unknown key; known here are max_message,"}},
		"duplicate key":       {small + "zone: a\nzone: b\n", nil, []string{"line 3: zone: stands on line 2 already; remove one"}},
		"number":              {small + "pool: {size: many}\n", nil, []string{`line 2: pool.size: "many" is not a whole number`}},
		"fraction":            {small + "pool: {size: 1.5}\n", nil, []string{`line 2: pool.size: "1.5" is not a whole number`}},
		"too large":           {small + "pool: {size: 99999999999999999999}\n", nil, []string{"line 2: pool.size: 99999999999999999999 is out of range"}},
		"duration":            {small + "pool: {wait_timeout: 10}\n", nil, []string{`line 2: pool.wait_timeout: "10" is not a duration; write for example 500ms`}},
		"size":                {small + "limits: {max_query: 16MB}\n", nil, []string{`line 2: limits.max_query: "16MB" is not a size; write`}},
		"list wanted":         {small + "listen: here:1\n", nil, []string{"line 2: listen: is a single value where a list belongs; write [value, value]"}},
		"group wanted":        {small + "pool: 3\n", nil, []string{"line 2: pool: is a single value where keys with values belong"}},
		"value wanted":        {small + "zone: [a]\n", nil, []string{"line 2: zone: is a list where one value belongs"}},
		"no value":            {small + "http:\n", nil, []string{"line 2: http: has no value; write one or leave the key out"}},
		"alias":               {small + "listen: &a [h:1]\n", nil, []string{"line 2: listen: anchors and aliases are not taken"}},
		"two documents":       {small + "---\nzone: a\n", nil, []string{"the file goes on after the first YAML document"}},
		"broken YAML":         {"listen: [\n", nil, []string{"line 1: not valid YAML: "}},
		"empty":               {"", nil, []string{"databases: no database is configured; add one"}},
		"no shard":            {"databases: {app: {}}", nil, []string{"line 1: databases.app.shards: is empty; add one"}},
		"no manager":          {"databases:\n  app:\n    shards:\n      - name: a\n", nil, []string{"line 4: databases.app.shards[0].manager: is missing; write the URL"}},
		"bad URL":             {"databases: {app: {shards: [{manager: localhost}]}}", nil, []string{"line 1: databases.app.shards[0].manager: not a PostgreSQL URL; write postgres://"}},
		"the admin's name":    {strings.Replace(small, "app:", "pgbouncer:", 1), nil, []string{"line 1: databases.pgbouncer: is the name of the admin database"}},
		"two shards":          {"databases: {a: {shards: [{manager: postgres://u@a}, {manager: postgres://u@b}]}}", nil, []string{"line 1: databases.a.shards: are 2, and no table is sharded; declare tables"}},
		"same shard twice":    {"databases: {a: {shards: [{name: x, manager: postgres://u@a}, {name: x, manager: postgres://u@b}], sharding: {tables: {t: {key: id}}}}}", nil, []string{`line 1: databases.a.shards[1].name: "x" stands twice`}},
		"a replica's name":    {"databases: {a: {shards: [{manager: postgres://a/b, replicas: [{url: postgres://c/d}]}]}}", nil, []string{`replicas[0].url: names database "d", its manager has "b"`}},
		"replicas":            {"databases: {a: {shards: [{manager: postgres://a, replicas: [{zone: z, weight: -1}]}]}}", nil, []string{"line 1: databases.a.shards[0].replicas[0].url: is missing", "line 1: databases.a.shards[0].replicas[0].weight: -1 is negative"}},
		"cache of nothing":    {"databases: {a: {shards: [{manager: postgres://a}], cache: {max_entry: 0}}}", nil, []string{"databases.a.cache.max_entry: 0 keeps nothing"}},
		"cache":               {"databases: {a: {shards: [{manager: postgres://a}], cache: {memory: 1KiB, max_entry: 1MiB, ttl: 0, max_delay: 1ms, stale_on_error: -1s}}}", nil, []string{"databases.a.cache.memory: 1KiB is below 1MiB", "databases.a.cache.max_entry: 1MiB is above memory", "databases.a.cache.ttl: 0s is no time", "databases.a.cache.max_delay: 1ms is too short", "databases.a.cache.stale_on_error: -1s is negative"}},
		"table twice":         {sharded("tables: {users: {key: id}, public.users: {key: id}}"), nil, []string{"line 5: databases.a.sharding.tables.users: may be the same table as public.users, which is declared too"}},
		"table and reference": {sharded("tables: {users: {key: id}}\n      reference: [x.users]"), nil, []string{"line 6: databases.a.sharding.reference[0]: may be the same table as users"}},
		"reference twice":     {sharded("tables: {users: {key: id}}\n      reference: [c, c]"), nil, []string{"line 6: databases.a.sharding.reference[1]: may be the same table as c"}},
		"no key":              {sharded("tables:\n        users: {}"), nil, []string{"line 6: databases.a.sharding.tables.users.key: is empty; name the column"}},
		"empty key":           {sharded("tables: {users: {key: []}}"), nil, []string{"line 5: databases.a.sharding.tables.users.key: is empty; name the column"}},
		"empty column":        {sharded("tables: {users: {key: ''}}"), nil, []string{`line 5: databases.a.sharding.tables.users.key: "" is not the name of a column`}},
		"column twice":        {sharded("tables: {users: {key: [id, id]}}"), nil, []string{`line 5: databases.a.sharding.tables.users.key: "id" stands twice`}},
		"long key":            {sharded("tables: {users: {key: [a, b, c, d, e, f, g, h]}}"), nil, []string{"line 5: databases.a.sharding.tables.users.key: has 8 columns; use up to 7"}},
		"group as key":        {sharded("tables: {users: {key: {a: b}}}"), nil, []string{"line 5: databases.a.sharding.tables.users.key: is a group of keys where a list belongs"}},
		"modulo of two":       {sharded("function: modulo\n      tables: {users: {key: [a, b]}}"), nil, []string{"line 6: databases.a.sharding.tables.users.key: has 2 columns, and sharding.function modulo takes one"}},
		"function":            {sharded("function: range\n      tables: {users: {key: a}}"), nil, []string{`line 5: databases.a.sharding.function: unknown value "range"; use one of hash, modulo`}},
		"table's name":        {sharded(`tables: {a.b.c: {key: a}, '"q"': {key: a}, .x: {key: a}}`), nil, []string{`"\"q\"" is not the name of a table`, `".x" is not the name`, `"a.b.c" is not the name of a table; write name or schema.name`}},
		"home of a shard":     {sharded("home: s2\n      tables: {users: {key: a}}"), nil, []string{`line 5: databases.a.sharding.home: "s2" is none of the database's shards`}},
		"few buckets":         {sharded("buckets: 1\n      tables: {users: {key: a}}"), nil, []string{"line 5: databases.a.sharding.buckets: 1 are fewer than the 2 shards"}},
		"many buckets":        {sharded("buckets: 131072\n      tables: {users: {key: a}}"), nil, []string{"line 5: databases.a.sharding.buckets: 131072 is not a power of two from 1 to 65536"}},
		"shard's name":        {strings.Replace(sharded("tables: {users: {key: a}}"), "{manager: postgres://u@a}", "{name: 'a b', manager: postgres://u@a}", 1), nil, []string{`line 3: databases.a.shards[0].name: "a b" is not a shard's name`}},
		"shard's role":        {strings.ReplaceAll(sharded("tables: {users: {key: a}}"), "u@b", "b"), nil, []string{"line 3: databases.a.shards[1].manager: names no role"}},
		"sharded fallback":    {strings.Replace(sharded("tables: {users: {key: a}}"), "  a:", `  "*":`, 1), nil, []string{"line 4: databases.*.sharding: a sharded database has a name of its own"}},
		"failover":            {"databases: {a: {shards: [{manager: postgres://a}], failover: {wait: -30s}}}", nil, []string{"line 1: databases.a.failover.wait: -30s is negative; use 0"}},
		"control":             {small + "control: postgres://c\n", nil, []string{"line 2: control: names no role; write", "line 2: control: names no database; write the one that maps are kept in"}},
		"buckets":             {"databases: {a: {shards: [{manager: postgres://a}], sharding: {buckets: 1000}}}", nil, []string{"line 1: databases.a.sharding.buckets: 1000 is not a power of two"}},
		"home":                {"databases: {a: {shards: [{manager: postgres://a}], sharding: {home: s1}}}", nil, []string{`line 1: databases.a.sharding.home: "s1" is none of the database's shards`}},
		"consistency":         {"databases: {a: {shards: [{manager: postgres://a}], reads: {consistency: weak}}}", nil, []string{`line 1: databases.a.reads.consistency: unknown value "weak"; use one of session, strong`}},
		"pool of a database":  {"databases: {a: {shards: [{manager: postgres://a}], pool: {size: 0}}}", nil, []string{"line 1: databases.a.pool.size: 0 is below 1"}},
		"listen":              {small + "listen: [here]\n", nil, []string{`line 2: listen[0]: "here" is neither host:port nor unix:/dir`}},
		"listen twice":        {small + "listen: [h:1, h:1]\n", nil, []string{`line 2: listen[1]: "h:1" stands twice`}},
		"listen and http":     {small + "listen: [h:1]\nhttp: h:1\n", nil, []string{`line 3: http: "h:1" is a listen address too`}},
		"no listen":           {small + "listen: []\n", nil, []string{"line 2: listen: is empty"}},
		"TLS":                 {small + "tls: {client: {mode: require}}\n", nil, []string{`line 2: tls.client.cert: is missing and mode "require" needs it`}},
		"certificate login":   {small + "auth: {method: cert}\n", nil, []string{"line 2: auth.method: cert needs TLS towards clients", "tls.client.ca: is missing and auth.method cert needs it"}},
		"limits":              {small + "limits: {session_memory: 1MiB}\n", nil, []string{"line 2: limits.session_memory: 1MiB cannot hold one query of limits.max_query (16MiB); raise it"}},
		"log":                 {small + "log: {level: loud, format: xml}\n", nil, []string{`line 2: log.level: unknown level "loud"; use one of`, `line 2: log.format: unknown format "xml"`}},
		"auth":                {small + "auth: {method: kerberos}\n", nil, []string{"line 2: auth.method: "}},
		"all at once":         {small + "pool: {size: x, mode: y}\nzona: z\n", nil, []string{"line 2: pool.size", "line 2: pool.mode", "line 3: zona"}},
		"unknown variable":    {small, []string{"PGTIER_POOL_SISE=3"}, []string{"PGTIER_POOL_SISE: no key has this name; did you mean PGTIER_POOL_SIZE?"}},
		"far variable":        {small, []string{"PGTIER_XYZZY_PLUGH_FROBNICATE=3"}, []string{"PGTIER_XYZZY_PLUGH_FROBNICATE: no key has this name; write the key's path in capitals"}},
		"group as variable":   {small, []string{"PGTIER_POOL=3"}, []string{"PGTIER_POOL: no key has this name"}},
		"value of a variable": {small, []string{"PGTIER_POOL_SIZE=x"}, []string{`PGTIER_POOL_SIZE: "x" is not a whole number`}},
		"gap in the rows":     {small, []string{"PGTIER_AUTH_USERS_2_NAME=x"}, []string{"PGTIER_AUTH_USERS_2_NAME: row 2 without row 1 before it; number the rows from 0"}},
		"two names in one": {`databases: {a-b: {shards: [{manager: postgres://a}]}, a_b: {shards: [{manager: postgres://a}]}}`,
			[]string{"PGTIER_DATABASES_A_B_POOL_SIZE=3"}, []string{`PGTIER_DATABASES_A_B_POOL_SIZE: means both "a-b" and "a_b"; set the key in the file`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(tc.text), tc.env)
			var problems *Error
			if !errors.As(err, &problems) {
				t.Fatalf("got error %v, want problems", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a password: %v", err)
			}
			if len(problems.Problems) != len(tc.want) {
				t.Fatalf("got %v\nwant %q", err, tc.want)
			}
			for i, p := range problems.Problems {
				if !strings.Contains(p.String(), tc.want[i]) {
					t.Errorf("problem %d: got %q, want %q", i, p, tc.want[i])
				}
			}
		})
	}
}

func TestLoadOfAMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "absent.yaml"), nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFromURLs(t *testing.T) {
	config, err := FromURLs("postgres://app:hunter2@10.0.0.1/shop", nil, "127.0.0.1:7000", "off", []string{"PGTIER_POOL_SIZE=5", "PGTIER_LISTEN=h:1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%v%s %d", config.Proxy.Listen, config.Proxy.HTTP, config.Proxy.Databases["shop"].Pool.Size); got != "[127.0.0.1:7000] 5" {
		t.Errorf("listen, http, size: got %q", got)
	}
	if users := config.Proxy.Auth.Users; len(users) != 1 || users[0].Name != "app" || users[0].Password != "hunter2" {
		t.Error("the URL's role cannot log in")
	}
	if !strings.Contains(config.Proxy.Auth.Query, "$1") {
		t.Errorf("other roles are not looked up: %q", config.Proxy.Auth.Query)
	}
	if config, err = FromURLs("postgres://app@10.0.0.1", nil, "", "", nil); err != nil || config.Proxy.Databases["app"].Shards == nil {
		t.Errorf("a URL without a database: got %v", err)
	}
	config, err = FromURLs("postgres://app@10.0.0.1", []string{"postgres://10.0.0.2"}, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := config.Proxy.Databases["app"].Shards[0].Replicas; len(r) != 1 || r[0].URL.Host != "10.0.0.2" || r[0].URL.Database != "app" || r[0].Weight != 1 {
		t.Errorf("a replica's URL: got %+v", r)
	}
	for _, tc := range []struct {
		manager  string
		replicas []string
		listen   string
		want     string
	}{
		{"nonsense", nil, "", "--manager: not a PostgreSQL URL"},
		{"postgres://10.0.0.1/a", nil, "", "--manager: the URL names no role"},
		{"postgres://u@h", []string{"x"}, "", "--replica: not a PostgreSQL URL"},
		{"postgres://u@h", nil, "here", "listen[0]"},
		{"postgres://u@h/pgbouncer", nil, "", "admin database"},
	} {
		if _, err := FromURLs(tc.manager, tc.replicas, tc.listen, "", nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v", tc, err)
		}
	}
}

func TestDiffSaysWhatChangedAndMasksSecrets(t *testing.T) {
	old := mustParse(t, small+"listen: [h:1]\nauth: {users: [{name: a, password: hunter1}, {name: b}], admins: [a]}\n")
	new := mustParse(t, strings.Replace(small, "hunter2", "hunter3", 1)+"pool: {size: 21}\nlisten: [h:2]\nauth: {users: [{name: c}, {name: a, password: hunter4}], admins: [a, c]}\n")
	var got []string
	for _, change := range Diff(old, new) {
		got = append(got, change.String())
	}
	want := []string{
		"auth.admins: [a] -> [a, c]",
		"auth.users[a].password: **** -> **** (changed)",
		"auth.users[b]: present -> absent",
		"auth.users[c]: absent -> present",
		"databases.app.pool.size: 20 -> 21",
		"databases.app.shards[0].manager: postgres://app@10.0.0.1:5432/app -> postgres://app@10.0.0.1:5432/app (changed)",
		"listen: [h:1] -> [h:2] (after a restart)",
		"pool.size: 20 -> 21",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if changes := Diff(old, old); len(changes) != 0 {
		t.Errorf("a configuration differs from itself: %v", changes)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(Example(), "PGTIER_POOL_SIZE=3")
	f.Add(small, "PGTIER_DATABASES_APP_SHARDS_0_MANAGER=postgres://h")
	f.Add("? [a]\n: b\nlisten: !!binary aGk=\n", "PGTIER_AUTH_USERS_0_NAME=a")
	f.Add("<<: {a: 1}\ndatabases: {\"\": {}}", "PGTIER_DATABASES__POOL_SIZE=1")
	f.Fuzz(func(t *testing.T, text, variable string) {
		config, err := Parse("fuzz", []byte(text), []string{variable})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a word")
			}
			return
		}
		if err := config.Validate(); err != nil {
			t.Errorf("loaded and yet not valid: %v", err)
		}
		if changes := Diff(config, config); len(changes) != 0 {
			t.Errorf("differs from itself: %v", changes)
		}
	})
}
