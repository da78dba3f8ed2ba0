package plan

import (
	"fmt"
	"slices"
	"strings"

	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// placer finds the place of every relation while a Schema is made.
type placer struct {
	*Schema
	findings []Finding
	views    map[*table]bool // those whose place is being found
}

func (p *placer) find(t, message, hint string) {
	p.findings = append(p.findings, Finding{Table: t, Message: message, Hint: hint})
}

// unsure notes that nothing exact can be said of a table.
func (p *placer) unsure(t *table, message, hint string) {
	t.place, t.why = placeUnsure, refuse("table \""+t.name+"\": "+message, hint)
	p.find(t.name, message, hint)
}

func (p *placer) placeAll() {
	p.views = map[*table]bool{}
	for _, r := range p.catalog.Relations() {
		t := &table{name: r.String(), relation: r, place: placeHome}
		t.view = r.Kind == 'v'
		p.blurred = p.blurred || slices.ContainsFunc(r.Columns, func(c catalog.Column) bool { return c.Collation == catalog.CollationNondeterministic })
		p.tables[r.Name] = append(p.tables[r.Name], t)
		p.byOID[r.OID] = t
	}
	p.declare()
	for _, r := range p.catalog.Relations() {
		p.inherit(p.byOID[r.OID], 0)
	}
	for _, r := range p.catalog.Relations() {
		p.family(p.byOID[r.OID])
	}
	for _, r := range p.catalog.Relations() {
		p.viewed(p.byOID[r.OID])
	}
	for _, r := range p.catalog.Relations() {
		p.constraints(p.byOID[r.OID])
	}
	p.numberSequences()
}

// declare places the tables that the configuration names.
func (p *placer) declare() {
	for _, name := range p.config.Reference {
		if t := p.configured(name); t != nil {
			t.place = placeReference
		}
	}
	for name, columns := range p.config.Tables {
		if t := p.configured(name); t != nil {
			p.shard(t, columns)
		}
	}
}

// configured is the table of a name in the configuration, nil if there is none or several.
func (p *placer) configured(name string) *table {
	last := name
	schema, rest, qualified := strings.Cut(name, ".")
	if qualified {
		last = rest
	}
	var found []*table
	for _, t := range p.tables[last] {
		if !qualified || t.relation.Schema == schema {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 0:
		p.missing[last] = name
		p.findings = append(p.findings, Finding{Table: name, Message: "there is no such table", Hint: "Create it, or take it out of the configuration.", Missing: true})
		return nil
	case len(found) > 1:
		for _, t := range found {
			p.unsure(t, "the configuration's \""+name+"\" may be several tables", "Write the schema into the configuration.")
		}
		return nil
	case strings.IndexByte("rp", found[0].relation.Kind) < 0:
		p.unsure(found[0], "only tables can be sharded or reference tables", "Take it out of the configuration.")
		return nil
	}
	return found[0]
}

// shard makes t a sharded table.
func (p *placer) shard(t *table, columns []string) {
	t.place = placeSharded
	var key []shard.Column
	for _, name := range columns {
		i := slices.IndexFunc(t.relation.Columns, func(c catalog.Column) bool { return c.Name == name })
		if i < 0 {
			p.unsure(t, "its key column \""+name+"\" does not exist", "Mend the configuration.")
			return
		}
		c := &t.relation.Columns[i]
		if why := unhashable(c); why != "" {
			p.unsure(t, "its key column \""+name+"\" "+why, "Choose another key.")
			return
		}
		t.columns = append(t.columns, i)
		key = append(key, shard.Column{Name: name, Type: shard.Type(c.Type), Modifier: c.Typmod})
	}
	k, err := shard.NewKey(p.config.Function, p.config.Buckets, key...)
	if err != nil {
		p.unsure(t, "its key cannot be hashed: "+err.Error(), "Choose another key.")
		return
	}
	t.key = k
}

// unhashable says why a column can be no key, "" if it can.
func unhashable(c *catalog.Column) string {
	switch {
	case c.Domain:
		return "is of a domain"
	case c.Generated:
		return "is computed from others"
	case c.Collation == catalog.CollationNondeterministic:
		return "has a nondeterministic collation, under which texts of different bytes are equal"
	}
	return ""
}

// inherit gives a partition the place of the table that it is a part of.
func (p *placer) inherit(t *table, depth int) {
	if t.key != nil || t.place != placeHome || t.why != nil || len(t.relation.Parents) != 1 || depth > maxInheritance {
		return
	}
	parent := p.byOID[t.relation.Parents[0].OID]
	if parent == nil {
		return
	}
	p.inherit(parent, depth+1)
	switch {
	case t.relation.Kind == 'f' && parent.place != placeHome:
		p.unsure(t, "a foreign table cannot be a part of one that is spread", "Take it out of its parent.")
	case parent.sharded():
		names := make([]string, 0, len(parent.columns))
		for i := range parent.columns {
			names = append(names, parent.keyColumn(i).Name)
		}
		p.shard(t, names)
	default:
		t.place, t.why = parent.place, parent.why
	}
}

// maxInheritance bounds the levels of partitions.
const maxInheritance = 32

// family makes sure that a table is where its parts are: who reads it reads them.
func (p *placer) family(t *table) {
	for _, r := range t.relation.Parents {
		parent := p.byOID[r.OID]
		if parent == nil || parent.place == t.place && (!t.sharded() || sameKey(parent, t)) {
			continue
		}
		if parent.why == nil {
			p.unsure(parent, "its part \""+t.name+"\" has another place", "Declare both alike.")
		}
	}
}

// sameKey says whether two tables have keys of the same names and kinds.
func sameKey(a, b *table) bool {
	if len(a.columns) != len(b.columns) || a.key == nil || b.key == nil {
		return false
	}
	for i := range a.columns {
		if a.keyColumn(i).Name != b.keyColumn(i).Name || familyOf(a.keyColumn(i).Type) != familyOf(b.keyColumn(i).Type) {
			return false
		}
	}
	return true
}

// viewed gives a view the place of what it looks at.
func (p *placer) viewed(t *table) {
	if t.relation.Kind != 'v' && t.relation.Kind != 'm' || t.why != nil || p.views[t] {
		return
	}
	p.views[t] = true
	places := map[place]bool{}
	for _, r := range t.relation.Uses {
		used := p.byOID[r.OID]
		if used == nil {
			t.place, t.why = placeUnsure, refuse("view \""+t.name+"\" is not known well enough", hintPin)
			return
		}
		p.viewed(used)
		places[used.place] = true
	}
	switch {
	case places[placeSharded], places[placeUnsure]:
		t.place, t.why = placeUnsure, refuse("view \""+t.name+"\" over sharded tables", "Write its query in its place, or say which shard with /* pgtier: shard=… */.")
	case t.relation.Kind == 'm' || places[placeHome] || len(places) == 0:
		t.place = placeHome
	default:
		t.place = placeReference
	}
}

// constraints finds what servers cannot enforce because it is about rows of several of them.
func (p *placer) constraints(t *table) {
	if t.sharded() {
		for i := range t.relation.Unique {
			if u := &t.relation.Unique[i]; !p.within(t, u) {
				message := lacksKey(t, u.Name)
				p.find(t.name, message, hintAddKey)
				t.unwritable = refuse("table \""+t.name+"\": "+message, hintAddKey)
			}
		}
	}
	for i := range t.relation.ForeignKeys {
		f := &t.relation.ForeignKeys[i]
		to := p.byOID[f.References.OID]
		if to == nil {
			continue
		}
		if together(t, to, f) {
			if why := movesKey(t, to, f); why != "" { // and t is none of to's followers, so that this is refused of to
				p.find(t.name, fmt.Sprintf("foreign key %q %s of rows that stay where they are", f.Name, why), "Name the columns that it may set, without the key, or use ON DELETE CASCADE or NO ACTION.")
				continue
			}
			if f.Acts {
				to.followers = append(to.followers, t)
			}
			continue
		}
		to.referenced = append(to.referenced, reference{t, f})
		message := fmt.Sprintf("foreign key %q looks for rows of %q that are on other shards", f.Name, to.name)
		hint := "Make it one between the keys of both tables, or make the other a reference table."
		p.find(t.name, message, hint)
		if t.unwritable == nil {
			t.unwritable = refuse("table \""+t.name+"\": "+message, hint)
		}
	}
}

// lacksKey says why a unique constraint or index cannot be kept by shards.
func lacksKey(t *table, name string) string {
	if name == "" {
		return "unique index lacks the key (" + t.keyNames() + "): rows of different shards may be equal in it"
	}
	return fmt.Sprintf("unique %q lacks the key (%s): rows of different shards may be equal in it", name, t.keyNames())
}

// hintAddKey mends that.
const hintAddKey = "Add the key's columns to it."

// partOf says whether a is a part of b, at any depth.
func partOf(a, b *catalog.Relation, depth int) bool {
	for _, parent := range a.Parents {
		if parent.OID == b.OID || depth < maxInheritance && partOf(parent, b, depth+1) {
			return true
		}
	}
	return false
}

// within says whether a unique constraint has all of the key, so that rows that are equal in it are on one shard.
func (p *placer) within(t *table, u *catalog.Unique) bool {
	for i := range t.columns {
		if !slices.Contains(u.Columns, t.keyColumn(i).Name) {
			return false
		}
	}
	return true
}

// movesKey says how a foreign key may give the sharding key of t's rows another value, "" if it does not. A row of to that is spread keeps its key, and with
// it what others have of it.
func movesKey(t, to *table, f *catalog.ForeignKey) string {
	for i := range t.columns {
		name := t.keyColumn(i).Name
		switch {
		case slices.Contains(f.Loses, name):
			return "sets key column " + name + " when a row of \"" + to.name + "\" is deleted,"
		case f.Follows && !to.sharded() && slices.Contains(f.Columns, name):
			return "changes key column " + name + " with a row of \"" + to.name + "\","
		}
	}
	return ""
}

// together says whether every row of t is where the row is that its foreign key names.
func together(t, to *table, f *catalog.ForeignKey) bool {
	switch {
	case t.place == placeUnsure || to.place == placeUnsure:
		return false
	case to.place == placeReference:
		return true
	case t.place == placeHome && to.place == placeHome:
		return true
	case !t.sharded() || !to.sharded() || len(t.columns) != len(to.columns):
		return false
	}
	for i := range t.columns {
		at := slices.Index(f.Columns, t.keyColumn(i).Name)
		if at < 0 || f.RefColumns[at] != to.keyColumn(i).Name || familyOf(t.keyColumn(i).Type) != familyOf(to.keyColumn(i).Type) {
			return false
		}
	}
	return true
}
