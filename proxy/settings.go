package proxy

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/auth"
	"pgtier/router/topology"
)

// viewSettings lists every key of the configuration with its default, and then
// PgBouncer's names that its exporter reads.
func (p *Proxy) viewSettings() []admin.Setting {
	cfg := p.face.Load().cfg
	values, defaults := map[string]string{}, map[string]string{}
	flatten("", reflect.ValueOf(cfg), values)
	flatten("", reflect.ValueOf(DefaultConfig()), defaults)
	values["log.slow_query"], defaults["log.slow_query"] = cfg.SlowQuery.String(), "0s"
	for name := range cfg.Databases {
		flatten("databases."+name+".", reflect.ValueOf(DefaultDatabase(cfg.Pool)), defaults)
	}
	var out []admin.Setting
	for _, key := range slices.Sorted(maps.Keys(values)) {
		out = append(out, admin.Setting{Key: key, Value: values[key], Default: defaults[key], Changeable: !fixedKey(key)})
	}
	preset := DefaultConfig().Pool
	for _, alias := range []struct {
		name       string
		value, def int
	}{
		{"default_pool_size", cfg.Pool.Size, preset.Size},
		{"max_client_conn", cfg.Pool.MaxClients, preset.MaxClients},
		{"max_db_connections", cfg.Pool.MaxDatabaseConnections, preset.MaxDatabaseConnections},
		{"max_user_connections", cfg.Pool.MaxUserConnections, preset.MaxUserConnections},
		{"min_pool_size", cfg.Pool.MinIdle, preset.MinIdle},
		{"reserve_pool_size", cfg.Pool.Reserve, preset.Reserve},
	} {
		out = append(out, admin.Setting{Key: alias.name, Value: strconv.Itoa(alias.value), Default: strconv.Itoa(alias.def), Changeable: true})
	}
	return out
}

// fixedKey reports whether only a restart changes the key.
func fixedKey(key string) bool {
	switch key {
	case "listen", "http", "zone", "control", "limits.statement_cache", "limits.prepared_statements":
		return true
	}
	return false
}

// flatten writes the fields of v under the keys of the configuration file.
// Passwords appear as nothing but the mask that their types print.
func flatten(prefix string, v reflect.Value, out map[string]string) {
	if text, ok := printed(v); ok {
		out[strings.TrimSuffix(prefix, ".")] = text
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			key := v.Type().Field(i).Tag.Get("mapstructure")
			if key != "" && key != "-" {
				flatten(prefix+key+".", v.Field(i), out)
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			flatten(prefix+key.String()+".", v.MapIndex(key), out)
		}
	case reflect.Slice:
		for i := range v.Len() {
			flatten(fmt.Sprintf("%s%d.", prefix, i), v.Index(i), out)
		}
	default:
		out[strings.TrimSuffix(prefix, ".")] = fmt.Sprint(v.Interface())
	}
}

// printed is how a value that is one key is written.
func printed(v reflect.Value) (string, bool) {
	switch x := v.Interface().(type) {
	case topology.Server:
		if x == (topology.Server{}) {
			return "", true
		}
		return x.String(), true
	case auth.UserConfig:
		return x.Name + " ****", true
	case time.Duration:
		return x.String(), true
	case []string:
		return strings.Join(x, ", "), true
	case fmt.Stringer:
		return x.String(), true
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		return string(text), err == nil
	}
	return "", false
}
