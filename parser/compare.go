package parser

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// wholeText is what comparisons need to know of the text that a statement stands in.
type wholeText struct {
	src []byte
	// taken are the offsets of the literals that the template takes out.
	taken []int
	// shortened: lists have lost items.
	shortened bool
}

// literal finds the literal that begins at an offset, or behind the minus signs and parentheses there. index is -1 if the template keeps
// it; negative says that an odd number of minus signs stands before it.
func (w *wholeText) literal(offset int32) (index int, negative, ok bool) {
	if len(w.taken) == 0 {
		return -1, false, true
	}
	t, negative := w.constant(offset)
	index, ok = slices.BinarySearch(w.taken, t.start)
	return index, negative, ok
}

// constant is the token at an offset, or behind the minus signs and parentheses there.
func (w *wholeText) constant(offset int32) (t token, negative bool) {
	l := lexer{src: w.src, pos: int(offset)}
	for {
		t = l.nextCode()
		switch {
		case t.kind == tokenSelf && w.src[t.start] == '-':
			negative = !negative
		case t.kind == tokenSelf && w.src[t.start] == '(':
		default:
			return t, negative
		}
	}
}

// compare notes the comparisons that hold wherever condition does, a WHERE or the ON of an inner join over the items of from.
func (w *walker) compare(from []fromItem, condition *pg.Node) {
	switch v := condition.GetNode().(type) {
	case *pg.Node_BoolExpr:
		if v.BoolExpr.Boolop == pg.BoolExprType_AND_EXPR {
			for _, arg := range v.BoolExpr.Args {
				w.compare(from, arg)
			}
		}
	case *pg.Node_AExpr:
		e := v.AExpr
		if schema, name := qualified(e.Name); name != "=" || schema != "" && schema != "pg_catalog" {
			return
		}
		switch e.Kind {
		case pg.A_Expr_Kind_AEXPR_OP:
			w.equal(from, e.Lexpr, e.Rexpr)
		case pg.A_Expr_Kind_AEXPR_IN:
			w.oneOf(from, e.Lexpr, e.Rexpr.GetList().GetItems())
		case pg.A_Expr_Kind_AEXPR_OP_ANY:
			w.any(from, e.Lexpr, e.Rexpr)
		}
	}
}

// equal notes left = right, either of which may be the column, and rows of them.
func (w *walker) equal(from []fromItem, left, right *pg.Node) {
	l, r := left.GetRowExpr(), right.GetRowExpr()
	if l != nil && r != nil {
		if len(l.Args) == len(r.Args) && !w.text.shortened {
			for i := range l.Args {
				w.equal(from, l.Args[i], r.Args[i])
			}
		}
		return
	}
	if left.GetColumnRef() == nil {
		left, right = right, left
	}
	w.oneOf(from, left, []*pg.Node{right})
}

// oneOf notes left IN (list); a row is in a list of rows only if each column is among the values at its place.
func (w *walker) oneOf(from []fromItem, left *pg.Node, list []*pg.Node) {
	if len(list) > 1 && w.text.shortened {
		return
	}
	if row := left.GetRowExpr(); row != nil {
		for i, column := range row.Args {
			var values []*pg.Node
			for _, n := range list {
				other := n.GetRowExpr()
				if other == nil || len(other.Args) != len(row.Args) {
					return
				}
				values = append(values, other.Args[i])
			}
			w.oneOf(from, column, values)
		}
		return
	}
	c := Comparison{Values: make([]Value, 0, len(list))}
	for _, n := range list {
		v, ok := w.constant(n)
		if !ok {
			return
		}
		c.Values = append(c.Values, v)
	}
	w.compared(from, left, c)
}

// any notes left = ANY (array); ARRAY[…] is a list like that of IN.
func (w *walker) any(from []fromItem, left, array *pg.Node) {
	element := Named{}
	if cast := array.GetTypeCast(); cast != nil {
		t := cast.TypeName
		if len(t.GetArrayBounds()) != 1 || len(t.Typmods) > 0 || t.Setof || t.PctType {
			return
		}
		element.Schema, element.Name = qualified(t.Names)
		array = cast.Arg
	}
	if list := array.GetAArrayExpr(); list != nil {
		if element == (Named{}) && len(list.Elements) > 0 {
			w.oneOf(from, left, list.Elements)
		}
		return
	}
	v, ok := w.constant(array)
	if !ok || v.Cast != (Named{}) {
		return
	}
	v.Cast = element
	w.compared(from, left, Comparison{Array: true, Values: []Value{v}})
}

// compared completes c with the column, and notes it if the text says, or leaves open, which table has it.
func (w *walker) compared(from []fromItem, left *pg.Node, c Comparison) {
	fields := left.GetColumnRef().GetFields()
	if len(fields) == 0 {
		return
	}
	c.Column = fields[len(fields)-1].GetString_().GetSval()
	table, ok := w.tableOf(from, fields[:len(fields)-1])
	if c.Column == "" || !ok {
		return
	}
	c.Table = table
	w.c.Compared = append(w.c.Compared, c)
}

// tableOf finds the table that a column belongs to, whose name is qualified by these. Only in the outermost query is it worth
// to say that a column belongs to one of several tables.
func (w *walker) tableOf(from []fromItem, qualifier []*pg.Node) (table int, ok bool) {
	schema, name := qualified(qualifier)
	if name == "" && len(from) > 1 {
		isTable := func(i fromItem) bool { return i.table >= 0 }
		return -1, w.depth == 1 && slices.ContainsFunc(from, isTable)
	}
	found := -1
	for i, item := range from {
		if name != "" && (item.name != name || schema != "" && item.schema != schema) {
			continue
		}
		if found >= 0 {
			return -1, false
		}
		found = i
	}
	if found < 0 || from[found].renamed || from[found].table < 0 {
		return -1, false
	}
	return from[found].table, true
}

// constant reads a constant or a parameter, perhaps with a cast to a type without a length.
func (w *walker) constant(n *pg.Node) (Value, bool) {
	v := Value{Literal: -1}
	if cast := n.GetTypeCast(); cast != nil {
		t := cast.TypeName
		if len(t.GetArrayBounds()) > 0 || len(t.GetTypmods()) > 0 || t.GetSetof() || t.GetPctType() {
			return v, false
		}
		v.Cast.Schema, v.Cast.Name = qualified(t.GetNames())
		n = cast.Arg
	}
	switch e := n.GetNode().(type) {
	case *pg.Node_ParamRef:
		v.Kind, v.Param = ValueParam, int(e.ParamRef.Number)
		return v, e.ParamRef.Number > 0
	case *pg.Node_AConst:
		v.Kind = ValueConstant
		v.Text, v.Null = constantText(e.AConst)
		if _, keyword := e.AConst.Val.(*pg.A_Const_Boolval); keyword || v.Null {
			return v, true
		}
		index, negative, ok := w.text.literal(e.AConst.Location)
		v.Literal, v.Negative = index, negative
		return v, ok
	}
	return v, false
}
