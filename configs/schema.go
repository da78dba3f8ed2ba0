package configs

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// shape is what may stand at one place of the configuration.
type shape uint8

const (
	scalar shape = iota // one value
	list                // scalars
	object              // fixed keys
	rows                // objects, numbered
	names               // objects, each under a name of the user's choice
)

// schema describes one place of the configuration and everything below it. It is derived from the Config types, so
// a key that a package adds is known to the file, the environment, the diff and the test of the reference file at once.
type schema struct {
	shape shape
	leaf  reflect.Type // scalar and list: what one value is stored in
	keys  []key        // object: in the order of the fields
	elem  *schema      // rows and names: always an object

	// secret is set for a value that must not be shown although its type would print.
	secret bool
	// single lets the file write a list of one value as that value.
	single bool
}

// key is one known key of an object.
type key struct {
	name   string
	schema *schema
	index  []int // the field, for reflect.Value.FieldByIndex
}

// schemaOf derives the schema of a type by its mapstructure tags. It panics on a type that has no place in a
// configuration, which every test of this package would show.
func schemaOf(t reflect.Type) *schema {
	switch {
	case isScalar(t):
		return &schema{shape: scalar, leaf: t}
	case t.Kind() == reflect.Struct:
		s := &schema{shape: object}
		s.addFields(t, nil)
		return s
	case t.Kind() == reflect.Slice && isScalar(t.Elem()):
		return &schema{shape: list, leaf: t.Elem()}
	case t.Kind() == reflect.Slice:
		return &schema{shape: rows, elem: schemaOf(t.Elem())}
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		return &schema{shape: names, elem: schemaOf(t.Elem())}
	}
	panic(fmt.Sprintf("no configuration can hold a %s", t))
}

func (s *schema) addFields(t reflect.Type, parent []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		index := append(append([]int{}, parent...), i)
		name, option, _ := strings.Cut(field.Tag.Get("mapstructure"), ",")
		switch {
		case option == "squash":
			s.addFields(field.Type, index)
		case name != "" && name != "-":
			below := schemaOf(field.Type)
			below.secret = name == "password"
			below.single = field.Tag.Get("config") == "single"
			s.keys = append(s.keys, key{name, below, index})
		}
	}
}

func isScalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float64:
		return true
	}
	return false
}

// lookup returns the key called name.
func (s *schema) lookup(name string) (key, bool) {
	for _, k := range s.keys {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

// keyNames lists the keys of an object.
func (s *schema) keyNames() []string {
	all := make([]string, len(s.keys))
	for i, k := range s.keys {
		all[i] = k.name
	}
	return all
}

// parseScalar turns the text of the file or the environment into a value of type t. Errors say what would be right.
func parseScalar(t reflect.Type, text string) (any, error) {
	target := reflect.New(t)
	if u, ok := target.Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		return target.Elem().Interface(), nil
	}
	if t == reflect.TypeFor[time.Duration]() {
		// "0" is the one duration without a unit.
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a duration; write for example 500ms, 30s, 10m, 1h or 0", clip(text))
		}
		return d, nil
	}
	v := target.Elem()
	switch t.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch text {
		case "true":
			v.SetBool(true)
		case "false":
		default:
			return nil, fmt.Errorf("%q is neither true nor false", clip(text))
		}
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", clip(text))
		}
		v.SetFloat(f)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, t.Bits())
		if err != nil {
			return nil, numberError(text, err)
		}
		v.SetUint(n)
	default:
		n, err := strconv.ParseInt(text, 10, t.Bits())
		if err != nil {
			return nil, numberError(text, err)
		}
		v.SetInt(n)
	}
	return v.Interface(), nil
}

func numberError(text string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is out of range", clip(text))
	}
	return fmt.Errorf("%q is not a whole number", clip(text))
}

// clip shortens what an error quotes, because it may be any rubbish of any length.
func clip(text string) string {
	const most = 60
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
