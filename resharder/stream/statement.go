package stream

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// statement is what a change of a row becomes at the target.
type statement struct {
	sql    string
	values [][]byte // the parameters, as text; nil is NULL. They point into the message.
}

// param adds a parameter and returns its place in the text.
func (s *statement) param(v value) string {
	text := v.text
	if v.state == valueNull {
		text = nil
	} else if text == nil {
		text = []byte{}
	}
	s.values = append(s.values, text)
	return "$" + strconv.Itoa(len(s.values))
}

// errUnsent says that a value stored out of line is needed and was not sent.
func errUnsent(c *Column) error {
	return fmt.Errorf("the value of column %q, which is stored out of line, was not sent with a row that comes into the moved buckets; run ALTER TABLE … REPLICA IDENTITY FULL and begin the move anew", c.Name)
}

// target is a table at the target, as a Relation of the source describes its rows.
type target struct {
	table *Table
	// columns are the target's, in the order of the source's rows.
	columns []*Column
	// find are those by which a row is found: the primary key, or the replica identity. exact: it takes all columns, and equal rows are alike.
	find  []int
	exact bool
	// stranger is what to say when a row of it comes: it is no table that is moved. Nothing else is set then.
	stranger error
}

// newTarget maps the rows of a Relation to a table of the target. The columns must be there.
func newTarget(table *Table, m *relationMessage) *target {
	t := &target{table: table}
	primary, identity := []int{}, []int{}
	for i := range m.columns {
		c := table.column(m.columns[i].name)
		t.columns = append(t.columns, c)
		if m.columns[i].key {
			identity = append(identity, i)
			if c.InPrimary {
				primary = append(primary, i)
			}
		}
	}
	t.find = identity
	if table.Identity == IdentityFull {
		t.find, t.exact = primary, len(primary) == 0
	}
	return t
}

// statement is what to run for a change; nil if nothing changes.
func (t *target) statement(m *rowMessage) (*statement, error) {
	switch m.kind {
	case 'I':
		return t.insert(m.new)
	case 'D':
		s := &statement{}
		where, err := t.where(s, m.old)
		if err != nil {
			return nil, err
		}
		s.sql = where.with + "DELETE FROM " + t.table.sql() + where.using(" USING ") + " WHERE " + where.condition
		return s, nil
	default:
		return t.update(m)
	}
}

func (t *target) insert(row []value) (*statement, error) {
	s := &statement{}
	names, places := make([]string, len(row)), make([]string, len(row))
	for i, v := range row {
		if v.state == valueUnchanged {
			return nil, errUnsent(t.columns[i])
		}
		names[i], places[i] = identifier(t.columns[i].Name), s.param(v)
	}
	s.sql = "INSERT INTO " + t.table.sql() + " (" + strings.Join(names, ", ") + ") OVERRIDING SYSTEM VALUE VALUES (" + strings.Join(places, ", ") + ")"
	if len(row) == 0 {
		s.sql = "INSERT INTO " + t.table.sql() + " DEFAULT VALUES"
	}
	return s, nil
}

// update sets what may have changed.
func (t *target) update(m *rowMessage) (*statement, error) {
	s := &statement{}
	var set []string
	changed := make([]bool, len(m.new))
	always := false
	for i, v := range m.new {
		changed[i] = t.mayHaveChanged(m, i)
		if changed[i] {
			always = always || t.columns[i].Always
			if !t.columns[i].Always {
				set = append(set, identifier(t.columns[i].Name)+" = "+s.param(v))
			}
		}
	}
	if always {
		return t.replace(m, changed)
	}
	if len(set) == 0 {
		return nil, nil
	}
	old := m.old
	if old == nil {
		old = m.new
	}
	where, err := t.where(s, old)
	if err != nil {
		return nil, err
	}
	s.sql = where.with + "UPDATE " + t.table.sql() + " SET " + strings.Join(set, ", ") + where.using(" FROM ") + " WHERE " + where.condition
	return s, nil
}

// mayHaveChanged reports whether a column of an UPDATE may have another value than before.
func (t *target) mayHaveChanged(m *rowMessage, i int) bool {
	key := t.columns[i].InIdentity
	switch {
	case m.new[i].state == valueUnchanged:
		return false
	case m.old == nil: // the key is sent when it changes
		return !key
	case m.keyOnly && !key:
		return true
	}
	return m.old[i].state != m.new[i].state || !bytes.Equal(m.old[i].text, m.new[i].text)
}

// replace is an UPDATE of a column that SQL does not let us set: GENERATED ALWAYS AS IDENTITY. The row is deleted and inserted.
func (t *target) replace(m *rowMessage, changed []bool) (*statement, error) {
	s := &statement{}
	names, places := make([]string, len(m.new)), make([]string, len(m.new))
	for i, v := range m.new {
		names[i] = identifier(t.columns[i].Name)
		if changed[i] {
			places[i] = s.param(v) + "::" + t.columns[i].Type
		} else {
			places[i] = "gone." + names[i]
		}
	}
	old := m.old
	if old == nil {
		old = m.new
	}
	where, err := t.where(s, old)
	if err != nil {
		return nil, err
	}
	with := "WITH "
	if where.with != "" {
		with = strings.TrimSuffix(where.with, " ") + ", "
	}
	s.sql = with + "gone AS (DELETE FROM " + t.table.sql() + where.using(" USING ") + " WHERE " + where.condition + " RETURNING " + t.table.sql() + ".*) INSERT INTO " +
		t.table.sql() + " (" + strings.Join(names, ", ") + ") OVERRIDING SYSTEM VALUE SELECT " + strings.Join(places, ", ") + " FROM gone"
	return s, nil
}

// where is how a statement finds its row.
type where struct{ with, from, condition string }

// using is the relation that the condition needs, behind the word; "" if none.
func (w where) using(word string) string {
	if w.from == "" {
		return ""
	}
	return word + w.from
}

// where finds the row that was old.
func (t *target) where(s *statement, old []value) (where, error) {
	for _, i := range t.find {
		if old[i].state == valueUnchanged {
			return where{}, errUnsent(t.columns[i])
		}
	}
	if !t.exact {
		conditions := make([]string, len(t.find))
		for n, i := range t.find {
			conditions[n] = t.table.sql() + "." + identifier(t.columns[i].Name) + " " + cmp.Or(t.columns[i].equal, "=") + " " + s.param(old[i])
		}
		return where{condition: strings.Join(conditions, " AND ")}, nil
	}
	return t.whereExact(s, old)
}

// whereExact finds one of the rows that are alike in every column, to the letter: numeric has equal values that are not the same, and json has no equality.
// The columns of the key are compared as values too, because there may be an index on them.
func (t *target) whereExact(s *statement, old []value) (where, error) {
	conditions := []string{"true"}
	for i, v := range old {
		if v.state == valueUnchanged {
			return where{}, errUnsent(t.columns[i])
		}
		name, typed := identifier(t.columns[i].Name), s.param(v)+"::"+t.columns[i].Type
		conditions = append(conditions, name+"::text IS NOT DISTINCT FROM ("+typed+")::text")
		switch {
		case !t.inKey(t.columns[i].Name):
		case v.state == valueNull:
			conditions = append(conditions, name+" IS NULL")
		default:
			conditions = append(conditions, name+" = "+typed)
		}
	}
	return where{
		with: "WITH one AS MATERIALIZED (SELECT tableoid AS one_table, ctid AS one_row FROM " + t.table.sql() + " WHERE " + strings.Join(conditions, " AND ") + " LIMIT 1) ",
		from: "one", condition: t.table.sql() + ".ctid = one.one_row AND " + t.table.sql() + ".tableoid = one.one_table",
	}, nil
}

// inKey reports whether a column is in the sharding key.
func (t *target) inKey(name string) bool {
	if t.table.Key == nil {
		return false
	}
	for _, c := range t.table.Key.Columns() {
		if c.Name == name {
			return true
		}
	}
	return false
}
