package tags

import (
	"slices"

	"pgtier/router/shard"
)

// Change is what logical decoding tells of one change of a table. Values are in text, and in the database's encoding.
type Change struct {
	// Kind is pgoutput's letter: I insert, U update, D delete, T truncate.
	Kind          byte
	Schema, Table string
	// Columns are the names of the columns, in the order of Old and New; Identity says which belong to the replica identity.
	Columns  []string
	Identity []bool
	// Old is the row before, nil if it is not told: an UPDATE that leaves the identity as it is, unless that is FULL. Key: Old holds the identity's
	// columns only, and what it says of others means nothing.
	Old []Datum
	Key bool
	// New is the row now.
	New []Datum
}

// Datum is a value in a Change.
type Datum struct {
	// Kind is pgoutput's letter: t text, n NULL, u unchanged and not told. Others are not told either.
	Kind byte
	Text []byte
}

// Changed appends the tags that a change touches. A table that the snapshot does not have touches Everything. It does not allocate beyond dst.
func (x *Index) Changed(dst []Tag, c *Change) []Tag {
	t := x.tables[tableName{c.Schema, c.Table}]
	if t == nil {
		dst = append(dst, Table(c.Schema, c.Table))
		if len(x.tables) > 0 {
			dst = append(dst, Everything)
		}
		return dst
	}
	dst = append(dst, t.tag)
	dst = append(dst, t.below...)
	for _, column := range t.columns {
		dst = column.changed(dst, c)
	}
	return dst
}

// Keyed appends the tags that a write touches of which is known that it changes rows of a table, named as "schema.name", that have a value in a column, and
// which leaves that as it is. ok is false, and why says the reason, where no answer can be tied to that value.
func (x *Index) Keyed(dst []Tag, table, name, text string) (_ []Tag, ok bool, why string) {
	t := x.names[table]
	if t == nil {
		return dst, false, "there is no table " + table
	}
	at := slices.IndexFunc(t.columns, func(c *column) bool { return c.Name == name })
	if at < 0 {
		return dst, false, "answers are not tied to values of " + name + ": that is no unique column by itself, nor the first of a foreign key"
	}
	value := []Datum{{Kind: 't', Text: []byte(text)}}
	if _, ok := t.columns[at].datum(nil, value[0], true); !ok {
		return dst, false, "the value is none of " + name
	}
	return x.Changed(dst, &Change{Kind: 'U', Schema: t.relation.Schema, Table: t.relation.Name, Columns: []string{name}, Old: value, New: value}), true, ""
}

// Whole appends the tags of all of a table, named as "schema.name": every answer that depends on it has one of them. Nothing is appended for one
// that the snapshot does not have.
func (x *Index) Whole(dst []Tag, table string) []Tag {
	t := x.names[table]
	if t == nil {
		return dst
	}
	return x.Changed(dst, &Change{Kind: 'T', Schema: t.relation.Schema, Table: t.relation.Name})
}

// Every appends the tag that every write of a table touches, named as "schema.name", whichever rows it writes.
func (x *Index) Every(dst []Tag, table string) []Tag {
	if t := x.names[table]; t != nil {
		return append(dst, t.tag)
	}
	return append(dst, named(table))
}

// changed appends what a change means for one column.
func (c *column) changed(dst []Tag, change *Change) []Tag {
	mark := len(dst)
	at := -1
	for i, name := range change.Columns {
		if name == c.Name {
			at = i
		}
	}
	ok := at >= 0
	switch change.Kind {
	case 'I':
		dst, ok = c.datum(dst, datumAt(change.New, at), ok)
	case 'U':
		before, now := change.before(at), datumAt(change.New, at)
		if now.Kind == 'u' {
			now = before
		}
		dst, ok = c.datum(dst, before, ok)
		if ok && (now.Kind != before.Kind || string(now.Text) != string(before.Text)) {
			dst, ok = c.datum(dst, now, ok)
		}
	case 'D':
		dst, ok = c.datum(dst, change.before(at), ok)
	default:
		ok = false
	}
	if !ok {
		dst = append(dst[:mark], c.whole)
	}
	return dst
}

// before is what a change tells of a column's value before it. A column of the identity is as it was where the old row is not told.
func (c *Change) before(at int) Datum {
	identity := at >= 0 && at < len(c.Identity) && c.Identity[at]
	switch {
	case c.Old == nil && c.Kind == 'U' && identity:
		return datumAt(c.New, at)
	case c.Key && !identity:
		return Datum{}
	}
	return datumAt(c.Old, at)
}

func datumAt(row []Datum, at int) Datum {
	if at < 0 || at >= len(row) {
		return Datum{}
	}
	return row[at]
}

// datum appends the tag of a value; false if it is not known.
func (c *column) datum(dst []Tag, d Datum, ok bool) ([]Tag, bool) {
	switch {
	case !ok:
		return dst, false
	case d.Kind == 'n':
		return dst, true
	case d.Kind != 't':
		return dst, false
	}
	text := d.Text
	if text == nil {
		text = []byte{}
	}
	hash, ok := c.key.Hash(shard.Literal(shard.Unknown, text))
	if !ok {
		return dst, false
	}
	return append(dst, row(c.row, hash)), true
}
