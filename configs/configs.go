// Package configs answers: what was pgtier told to do? It reads the file and the environment, checks every key, and
// gathers the Config of each package. It alone imports viper.
package configs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"pgtier/proxy"
)

// Config is the whole configuration: a plain value, complete with defaults.
type Config struct {
	Log   Log          `mapstructure:"log"`
	Proxy proxy.Config `mapstructure:",squash"`
}

// Log says what is written to standard error.
type Log struct {
	// Level is debug, info, warn or error; each takes in those after it.
	Level string `mapstructure:"level"`
	// Format is json or console.
	Format string `mapstructure:"format"`
	// SlowQuery is the time from which a query is logged; 0 logs none.
	SlowQuery time.Duration `mapstructure:"slow_query"`
}

// Default is what holds where neither file nor environment says anything. It names no database, so it does not validate.
func Default() *Config {
	return &Config{Log: Log{Level: "info", Format: "json"}, Proxy: proxy.DefaultConfig()}
}

// configSchema is derived anew where it is needed: a tenth of a millisecond, against a variable that anybody could change.
func configSchema() *schema { return schemaOf(reflect.TypeFor[Config]()) }

// Load reads the YAML file at path and lays env ("NAME=value", as os.Environ gives) over it; with the path ""
// there is only the environment. Whatever is wrong comes back at once, as an *Error when the file could be read.
func Load(path string, env []string) (*Config, error) {
	if path == "" {
		return load("(environment)", nil, env)
	}
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return load(path, text, env)
}

// Parse is Load for a text at hand; source stands for its name in errors.
func Parse(source string, text []byte, env []string) (*Config, error) {
	return load(source, text, env)
}

func load(source string, text []byte, env []string) (*Config, error) {
	s := configSchema()
	doc := parseDocument(text, s)
	doc.problems = append(doc.problems, overlay(doc.tree, s, env)...)
	if doc.unreadable {
		return nil, &Error{Source: source, Problems: doc.problems}
	}
	config, err := decode(doc.tree)
	if err != nil {
		return nil, fmt.Errorf("decode configuration %s: %w", source, err)
	}
	// A key that could not be read has kept its default; what Validate says about anything else still helps.
	doc.add(config.Validate())
	if len(doc.problems) > 0 {
		return nil, &Error{Source: source, Problems: doc.problems}
	}
	return config, nil
}

// decode puts the tree over the defaults. Databases stay outside viper, which folds the case of keys and splits
// them at dots: a database's name may hold either.
func decode(tree map[string]any) (*Config, error) {
	config := Default()
	v := viper.New()
	static := maps.Clone(tree)
	delete(static, "databases")
	if err := v.MergeConfigMap(static); err != nil {
		return nil, err
	}
	if err := v.Unmarshal(config); err != nil {
		return nil, err
	}
	config.Proxy.SlowQuery = config.Log.SlowQuery
	databases, _ := tree["databases"].(map[string]any)
	config.Proxy.Databases = make(map[string]proxy.Database, len(databases))
	for name, keys := range databases {
		database := proxy.DefaultDatabase(config.Proxy.Pool)
		if err := decodeDatabase(keys, &database); err != nil {
			return nil, err
		}
		config.Proxy.Databases[name] = database
	}
	return config, nil
}

// decodeDatabase puts the tree of one database over its defaults. Those of a row stand nowhere before the row does.
func decodeDatabase(keys any, database *proxy.Database) error {
	weigh := func(_, to reflect.Type, data any) (any, error) {
		row, ok := data.(map[string]any)
		if _, given := row["weight"]; !ok || given || to != reflect.TypeFor[proxy.Replica]() {
			return data, nil
		}
		row = maps.Clone(row)
		row["weight"] = proxy.DefaultWeight
		return row, nil
	}
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{Result: database, DecodeHook: weigh})
	if err != nil {
		return err
	}
	return decoder.Decode(keys)
}

// Validate returns everything that is wrong as one joined error, each part led by its key's path; nil when c can be used.
func (c *Config) Validate() error {
	var found []error
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		found = append(found, fmt.Errorf("log.level: unknown level %q; use one of debug, info, warn, error", clip(c.Log.Level)))
	}
	if c.Log.Format != "json" && c.Log.Format != "console" {
		found = append(found, fmt.Errorf("log.format: unknown format %q; use json or console", clip(c.Log.Format)))
	}
	return errors.Join(errors.Join(found...), c.Proxy.Validate())
}

// add takes the parts of a joined error as problems, finds their lines, and puts all in the order of the file.
func (d *document) add(err error) {
	known := map[string]bool{}
	for _, p := range d.problems {
		known[p.Path] = true
	}
	for _, part := range parts(err) {
		path, text, _ := strings.Cut(part.Error(), ": ")
		// What could not be read has been reported, and its default proves nothing.
		if !known[path] {
			d.problems = append(d.problems, Problem{d.line(path), path, text})
		}
	}
	// Line 0, unsigned and less one, comes last.
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(uint(a.Line)-1, uint(b.Line)-1) })
}

// parts flattens a joined error.
func parts(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return []error{err}
	}
	var all []error
	for _, part := range joined.Unwrap() {
		all = append(all, parts(part)...)
	}
	return all
}

// line finds where path stands, or the nearest key above it that the file has.
func (d *document) line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}
