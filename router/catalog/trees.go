package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// asksSetting says whether a function is current_setting(text) or current_setting(text, boolean) (src/include/catalog/pg_proc.dat).
func asksSetting(oid uint32) bool { return oid == 2077 || oid == 3294 }

// trees gathers the rows of queryTrees.
type trees struct {
	functions map[object][]uint32
	relations map[object][]uint32
	locks     []object
	logins    []object // they ask for a setting of loginSettings
	// settings says of an object that calls current_setting whether all settings it asks for are the same on every server.
	settings map[object]bool
}

func newTrees() *trees {
	return &trees{functions: map[object][]uint32{}, relations: map[object][]uint32{}, settings: map[object]bool{}}
}

// add notes one row: the expression of o uses something of this kind.
func (t *trees) add(o object, kind, used string) error {
	switch kind {
	case "lock":
		t.locks = append(t.locks, o)
		return nil
	case "setting":
		name, ok := varlena(used)
		before, seen := t.settings[o]
		t.settings[o] = ok && carried(name) && (before || !seen)
		if matches(loginSettings, strings.ToLower(name)) {
			t.logins = append(t.logins, o)
		}
		return nil
	}
	id, err := oids(used)
	if err != nil {
		return err
	}
	switch kind {
	case "funcid":
		t.functions[o] = append(t.functions[o], id[0])
	case "relid":
		t.relations[o] = append(t.relations[o], id[0])
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
	return nil
}

// connect adds the edges to the graph.
func (t *trees) connect(g *graph, parts map[object][]node) {
	for _, o := range sorted(t.functions) {
		for _, oid := range slices.Sorted(slices.Values(t.functions[o])) {
			if !asksSetting(oid) || !t.settings[o] {
				g.depend(parts, o, object{catalogProc, oid})
			}
		}
	}
	for _, o := range sorted(t.relations) {
		for _, oid := range slices.Sorted(slices.Values(t.relations[o])) {
			g.depend(parts, o, object{catalogClass, oid})
		}
	}
	for _, o := range t.logins {
		if g.answers == nil {
			break
		}
		for _, n := range g.owner(parts, o) {
			g.changing = append(g.changing, source{n, "asks who logged in"})
		}
	}
	for _, o := range t.locks {
		for _, n := range g.owner(parts, o) {
			g.unproved = append(g.unproved, source{n, "locks rows"})
			g.locks[n] = struct{}{}
		}
	}
}

// sorted are the objects in the order of their identifiers, so that reasons are the same each time.
func sorted(list map[object][]uint32) []object {
	return slices.SortedFunc(maps.Keys(list), func(a, b object) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.oid, b.oid))
	})
}

// varlena reads a constant of type text as stored trees have it: its bytes in decimal, of which the first four are the length
// (outDatum in src/backend/nodes/outfuncs.c).
func varlena(digits string) (string, bool) {
	const header = 4
	words := strings.Fields(digits)
	if len(words) < header {
		return "", false
	}
	text := make([]byte, 0, len(words))
	for _, word := range words[header:] {
		n, err := strconv.ParseInt(word, 10, 16) // a byte may be printed as a signed one
		if err != nil {
			return "", false
		}
		text = append(text, byte(n))
	}
	return string(text), true
}
