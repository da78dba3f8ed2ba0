package plan

import (
	"slices"

	"pgtier/parser"
)

// fact is an equality: a variable with another, or with one of some values. It is false for NULL, unless it is a link.
type fact struct {
	a, b   *variable
	values *values // where b is nil
	// link: the variables are one column seen from two places, or are equal because of such; both may be NULL.
	link bool
}

// facts are what is true of the rows of some place that matter: those of the places around it, then its own. Immutable.
type facts struct {
	around *facts
	own    []fact
}

// with adds facts.
func (f *facts) with(own []fact) *facts {
	if len(own) == 0 {
		return f
	}
	return &facts{around: f, own: own}
}

// all is every fact, in order.
func (f *facts) all() (list []fact) {
	for ; f != nil; f = f.around {
		list = append(list, f.own...)
	}
	return list
}

// values is a list of values that a variable is one of.
type values struct {
	list []value
	// array: the one value is an array.
	array bool
	// given: the variable is one of them by its making, be it NULL, and not because it is compared with them.
	given bool
}

// value is a constant or a parameter with the type that it is compared as.
type value struct {
	parser.Value
	// cast is the type that the text casts it to, 0 for none. Literals without one are what the key's column makes of them.
	cast uint32
	// inferred is the type that the server infers for a parameter without one: that of the column.
	inferred uint32
	// expr is where it stands; doubtful says that the server may infer another type for the parameter from another place.
	expr     *parser.Expr
	doubtful bool
	// array: it is an array of such.
	array bool
}

// equal is the fact that two variables are equal, if that says something about their hashes.
func equal(a, b *variable) (fact, bool) {
	if a == nil || b == nil || a == b || a.family == familyNone || a.family != b.family {
		return fact{}, false
	}
	return fact{a: a, b: b}, true
}

// same are the variables equal to v, v itself first.
func (f *facts) same(v *variable) []*variable {
	list := f.all()
	found := []*variable{v}
	for i := 0; i < len(found); i++ {
		for _, e := range list {
			if e.b == nil {
				continue
			}
			if e.a == found[i] && !slices.Contains(found, e.b) {
				found = append(found, e.b)
			}
			if e.b == found[i] && !slices.Contains(found, e.a) {
				found = append(found, e.a)
			}
		}
	}
	return found
}

// equates says whether two variables are equal.
func (f *facts) equates(a, b *variable) bool {
	return a != nil && b != nil && slices.Contains(f.same(a), b)
}

// refuses says whether some fact is false where all variables for which mine is true are NULL.
func (f *facts) refuses(mine func(*variable) bool) bool {
	list := f.all()
	var links []fact
	for _, e := range list {
		if e.link {
			links = append(links, e)
		}
	}
	seen := &facts{own: links}
	one := func(v *variable) bool { return v != nil && slices.ContainsFunc(seen.same(v), mine) }
	return slices.ContainsFunc(list, func(e fact) bool { return !e.link && (one(e.a) || one(e.b)) })
}

// pinned are the lists of values that v must be in, all of them.
func (f *facts) pinned(v *variable) (lists []*values) {
	same := f.same(v)
	for _, e := range f.all() {
		if e.values != nil && slices.Contains(same, e.a) && !slices.Contains(lists, e.values) {
			lists = append(lists, e.values)
		}
	}
	return lists
}

// project keeps of list what it says about variables for which keep is true.
func project(list []fact, keep func(*variable) bool) (out []fact) {
	f := &facts{own: list}
	var done []*variable
	for _, e := range list {
		if slices.Contains(done, e.a) {
			continue
		}
		same := f.same(e.a)
		done = append(done, same...)
		var kept []*variable
		for _, v := range same {
			if keep(v) {
				kept = append(kept, v)
			}
		}
		if len(kept) == 0 {
			continue
		}
		for _, v := range kept[1:] {
			out = append(out, fact{a: kept[0], b: v, link: true})
		}
		for _, l := range f.pinned(kept[0]) {
			out = append(out, fact{a: kept[0], values: l})
		}
	}
	return out
}
