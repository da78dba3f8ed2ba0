package plan

import (
	"pgtier/parser"
	"pgtier/router/catalog"
)

// variable is a column of one source in one place of the statement: the same column of another use of its table is another variable.
type variable struct {
	// number is unique in the statement; those of a query and all that is inside it follow one another.
	number int
	name   string
	// column is the table's column that the values come from, for its type and collation. Outer joins may have made them NULL.
	column *catalog.Column
	family family
}

// column is a column that an item of FROM, or a query, has. Its variable is nil if nothing is known of its values.
type column struct {
	name     string
	variable *variable
	// maybe is another name that it may have, "" for none and anyName for any.
	maybe string
	// merged: USING has made one of it and another; it is found by its qualified name only.
	merged bool
}

// item is what names in a query may mean: an item of FROM by its alias.
type item struct {
	alias, schema string
	columns       []column
	// open: there may be more columns.
	open bool
	// joined: an item that only holds columns that USING has made; no alias leads to it.
	joined bool
}

// scope is what the names in a query may mean.
type scope struct {
	outer *scope
	items []*item
	query *query // whose names these are; nil for parts of a FROM
}

// vague says whether the column may have that name, which is not known.
func (c *column) vague(name string) bool { return c.maybe == name || c.maybe == anyName }

// resolve finds the variable that a column reference means, nil if that is not certain or nothing is known of it.
func (s *scope) resolve(e *parser.Expr) *variable {
	c, ok := s.column(e)
	if !ok {
		return nil
	}
	return c.variable
}

// column finds what a column reference means; ok is false if that is not certain.
func (s *scope) column(e *parser.Expr) (c column, ok bool) {
	if e == nil || e.Kind != parser.ExprColumn {
		return column{}, false
	}
	for ; s != nil; s = s.outer {
		var certain bool
		if len(e.Qualifier) == 0 {
			c, ok, certain = s.unqualified(e.Name)
		} else {
			c, ok, certain = s.qualified(e.Qualifier, e.Name)
		}
		if ok || !certain {
			return c, ok
		}
	}
	return column{}, false
}

// unqualified looks for a column in all items of one level. certain says that the level is known not to have it, or to have it.
func (s *scope) unqualified(name string) (c column, ok, certain bool) {
	found, open := 0, false
	for _, i := range s.items {
		open = open || i.open
		for _, candidate := range i.columns {
			open = open || candidate.vague(name)
			if candidate.name == name && !candidate.merged {
				c = candidate
				found++
			}
		}
	}
	// One that an open item has as well would be an error of the statement.
	return c, found == 1, found == 1 || found == 0 && !open
}

// qualified looks for a column of the item of that alias.
func (s *scope) qualified(qualifier []string, name string) (c column, ok, certain bool) {
	if len(qualifier) > 2 {
		return c, false, false
	}
	alias := qualifier[len(qualifier)-1]
	var found *item
	for _, i := range s.items {
		if i.joined || i.alias != alias || len(qualifier) == 2 && i.schema != qualifier[0] {
			continue
		}
		if found != nil {
			return c, false, false
		}
		found = i
	}
	if found == nil {
		return c, false, true
	}
	for _, candidate := range found.columns {
		if candidate.vague(name) {
			return c, false, false
		}
	}
	for _, candidate := range found.columns {
		if candidate.name == name {
			return candidate, true, true
		}
	}
	return c, false, false
}
