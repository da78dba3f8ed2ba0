package backend

import (
	"maps"
	"slices"
	"strings"

	"pgtier/proxy/wire"
)

// Params is an immutable set of values that a server reports by ParameterStatus.
// nil is the empty set.
type Params struct{ m map[string]string }

// With returns the set with name at value; the receiver when nothing changes.
func (p *Params) With(name, value string) *Params {
	if p != nil {
		if old, ok := p.m[name]; ok && old == value {
			return p
		}
	}
	next := &Params{m: map[string]string{name: value}}
	if p != nil {
		next.m = maps.Clone(p.m)
		next.m[name] = value
	}
	return next
}

// Value returns what is reported for name, "" if nothing.
func (p *Params) Value(name string) string {
	if p == nil {
		return ""
	}
	return p.m[name]
}

// All returns the set in the order in which servers report it: by name, in whatever case.
func (p *Params) All() []wire.Param {
	if p == nil {
		return nil
	}
	var out []wire.Param
	byName := func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }
	for _, name := range slices.SortedFunc(maps.Keys(p.m), byName) {
		out = append(out, wire.Param{Name: name, Value: p.m[name]})
	}
	return out
}

// AppendChanges adds a ParameterStatus for each value of p that known lacks or has otherwise.
func (p *Params) AppendChanges(dst []byte, known *Params) []byte {
	if p == known {
		return dst
	}
	for _, v := range p.All() {
		if known == nil || known.m[v.Name] != v.Value {
			dst = wire.AppendParameterStatus(dst, v.Name, v.Value)
		}
	}
	return dst
}

// Equal reports whether both sets hold the same names and values.
func (p *Params) Equal(o *Params) bool {
	if p == o {
		return true
	}
	return p != nil && o != nil && maps.Equal(p.m, o.m)
}
