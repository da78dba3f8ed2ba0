package plan

import (
	"bytes"
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// A default such as now() is one value for all rows of a statement. Where rows go to several shards, the value is asked for once and written into each
// shard's text, or into each row of COPY, as a column of its own in front of the others.

// stamps are the columns of an INSERT or a COPY whose defaults are one value for all rows.
type stamps struct {
	columns []*catalog.Column
	// list is the token behind the parenthesis that opens the list of columns.
	list int
}

// stamp finds the columns that the rows of an INSERT leave to such defaults; a refusal if their values cannot be written into the text.
func (w *work) stamp(in *insert) *Refusal {
	tree := w.root.tree
	for i := range in.table.relation.Columns {
		c := &in.table.relation.Columns[i]
		if !c.DefaultShared || given(tree, i, c.Name) {
			continue
		}
		why := refuse("INSERT of rows of several shards whose column "+c.Name+" gets a default that is one value for all of them",
			"Name the table's columns without this one, or give it a value.")
		if c.DefaultValue == "" || tree.Columns == nil || slices.Contains(tree.Columns, c.Name) {
			return why
		}
		list, ok := listToken(w.sql, tree.Rows)
		if !ok {
			return why
		}
		in.stamps.list = list
		in.stamps.columns = append(in.stamps.columns, c)
	}
	return nil
}

// listToken is the token behind the parenthesis that opens the list of columns in front of VALUES.
func listToken(sql []byte, rows []*parser.Row) (list int, ok bool) {
	tokens := parser.Tokens(sql, nil)
	is := func(i int, text string) bool {
		return i >= 0 && bytes.EqualFold(sql[tokens[i].Start:tokens[i].End], []byte(text))
	}
	at := rows[0].Tokens.From - 1
	if at < 0 || at >= len(tokens) || !is(at, "values") || !is(at-1, ")") {
		return 0, false
	}
	for i := at - 2; i > 0; i-- {
		if is(i, ")") {
			return 0, false
		}
		if is(i, "(") {
			return i + 1, true
		}
	}
	return 0, false
}

// Stamps are expressions whose values the shards' texts need, one value for all of them: ask one shard in the transaction, and give their texts to Stamped.
func (p *Parts) Stamps() (list []string) {
	if p == nil || p.rows == nil || p.rows.values != nil {
		return nil
	}
	for _, c := range p.rows.insert.stamps.columns {
		list = append(list, c.DefaultValue)
	}
	return list
}

// Stamped are the parts with the values of Stamps, in their order.
func (p *Parts) Stamped(values []string) *Parts {
	rows := *p.rows
	rows.values = values
	out := *p
	out.rows = &rows
	return &out
}

// edit puts the columns in front of the others.
func (s *stamps) edit() parser.Edit {
	var names strings.Builder
	for _, c := range s.columns {
		names.WriteString(quoteName(c.Name) + ",")
	}
	return parser.Edit{Span: parser.Span{From: s.list, To: s.list}, Text: names.String()}
}

// row puts the values in front of a row's others.
func (s *stamps) row(text string, values []string) string {
	var stamped strings.Builder
	stamped.WriteByte('(')
	for _, v := range values {
		stamped.WriteString("'" + strings.ReplaceAll(v, "'", "''") + "', ")
	}
	stamped.WriteString(text[1:])
	return stamped.String()
}

// defaulted says which column an assignment of DEFAULT gives a value that may be another on each shard, "" if none does. For copies of a row any value that
// is not a constant is.
func (w *work) defaulted(copies bool) string {
	why := ""
	w.root.walk(func(q *query) {
		if q.target == nil || q.target.table.relation == nil {
			return
		}
		lists := [][]*parser.Assign{q.tree.Assigns}
		if q.tree.Conflict != nil {
			lists = append(lists, q.tree.Conflict.Assigns)
		}
		for _, a := range q.tree.Actions {
			lists = append(lists, a.Assigns)
		}
		for _, a := range slices.Concat(lists...) {
			c := q.target.table.relation.Column(a.Column)
			if c == nil || a.Value == nil || !hasDefault(a.Value) || !c.HasDefault || c.DefaultConstant || !copies && !c.DefaultShared {
				continue
			}
			why = "column " + c.Name + " that gets its default"
		}
	})
	return why
}

// hasDefault says whether DEFAULT stands in what is assigned.
func hasDefault(e *parser.Expr) (found bool) {
	e.Walk(func(e *parser.Expr) bool {
		found = found || e.Kind == parser.ExprDefault
		return !found
	})
	return found
}

// triggersTellTime says whether a trigger may give rows the time, which is the same for all rows on one server.
func (w *work) triggersTellTime() string {
	if w.command.Kind == parser.Delete {
		return ""
	}
	behind := w.schema.catalog.Behind(w.command)
	for _, word := range clocks {
		if behind.TriggersName(word) {
			return "a trigger that may tell the time (" + word + "): " + strings.Join(behind.Functions, ", ")
		}
	}
	return ""
}
