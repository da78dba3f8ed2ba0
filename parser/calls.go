package parser

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// qualified is the last part of a name and the schema before it, "" if there is none.
func qualified(parts []*pg.Node) (schema, name string) {
	last := len(parts) - 1
	if last > 0 {
		schema = parts[last-1].GetString_().GetSval()
	}
	if last >= 0 {
		name = parts[last].GetString_().GetSval()
	}
	return schema, name
}

// call judges one function call.
func (w *walker) call(f *pg.FuncCall) {
	schema, name := qualified(f.Funcname)
	if name == "" {
		return
	}
	called := Called{Schema: schema, Name: name, Args: len(f.Args)}
	if f.AggWithinGroup {
		called.Args += len(f.AggOrder)
	}
	if w.text.shortened && called.Args >= keepItems {
		called.Args = -1
	}
	if len(f.Args) > 0 && keepsFirst(name) {
		called.First = f.Args[0].GetAConst().GetSval().GetSval()
	}
	w.calls(called)
	w.castCall(schema, name, f.Args)
	w.c.called(schema, name)
	if isTempSchema([]byte(schema)) {
		w.c.pin(pinTempSchema)
	}
	if schema != "" && schema != "pg_catalog" {
		return
	}
	if name == "set_config" {
		w.c.setConfig(f.Args)
	}
	if temporary, ok := makesSlot(name); ok && makesTemporarySlot(f.Args, temporary) {
		w.c.pin(callPin(name) + " of a temporary slot")
	}
}

// keepsFirst says whether a literal argument of this function is the same in all texts of a template.
func keepsFirst(name string) bool {
	return name == "set_config" || keepsLiterals([]byte(name))
}

// calls notes a function that is called by name.
func (w *walker) calls(f Called) {
	if !slices.Contains(w.c.Calls, f) {
		w.c.Calls = append(w.c.Calls, f)
	}
}

// operator notes an operator of this name.
func (w *walker) operator(schema, name string) {
	if o := (Named{schema, name}); !slices.Contains(w.c.Operators, o) {
		w.c.Operators = append(w.c.Operators, o)
	}
}

// operators notes the operators of an expression: BETWEEN is two comparisons.
func (w *walker) operators(e *pg.A_Expr) {
	schema, name := qualified(e.Name)
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_BETWEEN_SYM:
		w.operator("", ">=")
		w.operator("", "<=")
	case pg.A_Expr_Kind_AEXPR_NOT_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		w.operator("", "<")
		w.operator("", ">")
	default:
		w.operator(schema, name)
	}
}

// namedOf is the name of a type, of an array its elements'.
func namedOf(t *pg.TypeName) Named {
	schema, name := qualified(t.GetNames())
	return Named{schema, name}
}

// typeName notes a type.
func (w *walker) typeName(t *pg.TypeName) {
	if n := namedOf(t); n.Name != "" && !slices.Contains(w.c.Types, n) {
		w.c.Types = append(w.c.Types, n)
	}
}

// attribute notes the last name behind a dot: the server takes it for a function of one argument if there is no such column.
func (w *walker) attribute(fields []*pg.Node) {
	if len(fields) > 1 {
		w.attributeOf(fields[len(fields)-1:])
	}
}

func (w *walker) attributeOf(fields []*pg.Node) {
	for _, f := range fields {
		if name := f.GetString_().GetSval(); name != "" {
			w.c.Attributes = appendNew(w.c.Attributes, name)
		}
	}
}

// makesTemporarySlot says whether the argument at position i, or the one named temporary, is anything but false.
func makesTemporarySlot(args []*pg.Node, i int) bool {
	for at, arg := range args {
		if na := arg.GetNamedArgExpr(); na != nil {
			if na.Name == "temporary" {
				return !isFalse(na.Arg)
			}
		} else if at == i {
			return !isFalse(arg)
		}
	}
	return false
}

// called notes a call of schema.name; schema is empty if the text has none.
func (c *Command) called(schema, name string) {
	lower := strings.ToLower(name)
	if s, ok := lookupSpecial(lower); ok {
		c.Effects |= s.effects
		c.Incomplete = c.Incomplete || s.hides
		if s.pin {
			c.pin(callPin(lower))
		}
	}
	switch {
	case schema == "pg_catalog" && isBuiltin(name):
	case schema == "" && isBuiltin(name):
		c.Builtins = appendNew(c.Builtins, name)
	default:
		c.Functions = appendNew(c.Functions, name)
	}
}
