package configs

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Change is one key whose value differs between two configurations. Secrets are masked.
type Change struct {
	// Path is the key; rows that have a name stand under it, as in auth.users[app].password.
	Path string
	// Old and New are the values as text. A row or database that only one side has is "absent" on the other.
	Old, New string
	// Restart is set when the running proxy keeps the old value until it is started again.
	Restart bool
}

// String returns "pool.size: 20 -> 40".
func (c Change) String() string {
	text := fmt.Sprintf("%s: %s -> %s", c.Path, c.Old, c.New)
	if c.Restart {
		text += " (after a restart)"
	}
	return text
}

const absent = "absent"

// Diff lists what differs between old and new, sorted by path.
func Diff(old, new *Config) []Change {
	var changes []Change
	compare(&changes, configSchema(), "", reflect.ValueOf(*old), reflect.ValueOf(*new))
	for i, c := range changes {
		// The sockets are opened once; everything else is built anew.
		changes[i].Restart = c.Path == "http" || c.Path == "listen" || c.Path == "log.format"
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return changes
}

func compare(changes *[]Change, s *schema, path string, old, new reflect.Value) {
	switch s.shape {
	case object:
		for _, k := range s.keys {
			compare(changes, k.schema, join(path, k.name), old.FieldByIndex(k.index), new.FieldByIndex(k.index))
		}
	case names:
		compareNamed(changes, s, func(name string) string { return join(path, name) }, entries(old), entries(new))
	case rows:
		compareNamed(changes, s, func(name string) string { return path + "[" + name + "]" }, entries(old), entries(new))
	default:
		if same(old, new) {
			return
		}
		before, after := show(s, old), show(s, new)
		if before == after {
			// What differs is masked: say that it changed, not what it is.
			after += " (changed)"
		}
		*changes = append(*changes, Change{Path: path, Old: before, New: after})
	}
}

func compareNamed(changes *[]Change, s *schema, at func(string) string, old, new map[string]reflect.Value) {
	for name, before := range old {
		if after, ok := new[name]; ok {
			compare(changes, s.elem, at(name), before, after)
		} else {
			*changes = append(*changes, Change{Path: at(name), Old: "present", New: absent})
		}
	}
	for name := range new {
		if _, ok := old[name]; !ok {
			*changes = append(*changes, Change{Path: at(name), Old: absent, New: "present"})
		}
	}
}

// entries returns a map's or slice's elements under their names: the map's keys, the rows' own names, or else their numbers.
func entries(v reflect.Value) map[string]reflect.Value {
	found := map[string]reflect.Value{}
	if v.Kind() == reflect.Map {
		for iterator := v.MapRange(); iterator.Next(); {
			found[iterator.Key().String()] = iterator.Value()
		}
		return found
	}
	for i := range v.Len() {
		row := v.Index(i)
		name := fmt.Sprint(i)
		if field := row.FieldByName("Name"); field.IsValid() && field.Kind() == reflect.String && field.String() != "" {
			if _, twice := found[field.String()]; !twice {
				name = field.String()
			}
		}
		found[name] = row
	}
	return found
}

// revealer is a secret, whatever package it comes from.
type revealer interface{ Reveal() string }

func same(old, new reflect.Value) bool {
	if a, ok := old.Interface().(revealer); ok {
		return a.Reveal() == new.Interface().(revealer).Reveal()
	}
	if old.Kind() == reflect.Slice && old.Len() == 0 && new.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(old.Interface(), new.Interface())
}

func show(s *schema, v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return "[" + strings.Join(items, ", ") + "]"
	case v.Kind() == reflect.String && v.String() == "", v.Kind() == reflect.Struct && v.IsZero():
		return `""`
	case s.secret:
		return "****"
	}
	return fmt.Sprint(v.Interface())
}

// KnownKeys lists the path of every key; [] stands for a row's number and * for a name of the user's choice. Sorted.
func KnownKeys() []string {
	var all []string
	var walk func(s *schema, path string)
	walk = func(s *schema, path string) {
		switch s.shape {
		case object:
			for _, k := range s.keys {
				walk(k.schema, join(path, k.name))
			}
		case rows:
			walk(s.elem, path+"[]")
		case names:
			walk(s.elem, path+".*")
		default:
			all = append(all, path)
		}
	}
	walk(configSchema(), "")
	return slices.Sorted(maps.Keys(set(all)))
}

func set(all []string) map[string]bool {
	members := make(map[string]bool, len(all))
	for _, one := range all {
		members[one] = true
	}
	return members
}
