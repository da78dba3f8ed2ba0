package plan

import (
	"bytes"
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// steadyFunctions are stable functions of the server that give the same on all shards, as their connections have the same settings: those that format and
// read values by the settings of the session, and those that make JSON of values.
var steadyFunctions = strings.Fields(`to_char to_date to_timestamp to_number date_trunc date_part extract timezone timestamptz_pl_interval
	concat concat_ws format quote_literal quote_nullable array_to_string array_to_json row_to_json to_json to_jsonb json_build_array json_build_object
	jsonb_build_array jsonb_build_object json_agg jsonb_agg json_object_agg jsonb_object_agg make_timestamptz generate_series age text date
	timestamp timestamptz time timetz interval overlaps`)

// clocks are functions and words that tell the time: each shard would tell its own.
var clocks = strings.Fields(`now statement_timestamp transaction_timestamp clock_timestamp timeofday
	current_date current_time current_timestamp localtime localtimestamp`)

// whoami are words for who is connected: each shard's role may be another.
var whoami = strings.Fields("user current_user session_user current_role system_user current_catalog current_schema")

// differs says what in the statement may give other results on each shard, "" if nothing does.
func (w *work) differs(writes bool) string {
	for _, call := range w.tree.Calls {
		if why := w.callDiffers(call); why != "" {
			return why
		}
	}
	why := ""
	w.tree.Walk(func(q *parser.Query) {
		q.Exprs(func(e *parser.Expr) {
			if e.Kind == parser.ExprNow {
				why = e.Name + ", of which each shard has its own"
			}
			if e.Kind == parser.ExprColumn && slices.Contains(systemColumns, e.Name) {
				why = "system column " + e.Name
			}
		})
		for _, f := range q.From {
			f.Walk(func(s *parser.Source) {
				if s.Sampled {
					why = "TABLESAMPLE"
				}
			})
		}
		if writes && q.Kind == parser.Select && (q.Limit != nil || q.Offset != nil || q.DistinctOn != nil) {
			why = "LIMIT or DISTINCT ON, which may choose other rows on each shard"
		}
	})
	if why == "" && !w.reads() {
		why = "functions or operators that are not proved to read only"
	}
	return why
}

// systemColumns are those that every table has, with other values on each shard.
var systemColumns = []string{"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}

// callDiffers says why a call may give other results on each shard.
func (w *work) callDiffers(call *parser.Expr) string {
	f, known := w.schema.catalog.Function(call.Schema, call.Name, len(call.Args))
	name := "function " + call.Name + "()"
	switch {
	case slices.Contains(clocks, call.Name), call.Name == "age" && len(call.Args) == 1: // age(x) is that of today
		return name + ", which each shard answers by its own clock"
	case !known:
		return name + ", which is not in the catalog as it was last read"
	case f.Volatility == 'v':
		return "volatile " + name
	case f.Volatility == 's' && (f.Foreign || !slices.Contains(steadyFunctions, call.Name)):
		return name + ", which is stable and may depend on its server"
	}
	return ""
}

// reads says whether the catalog proves that the statement's functions and operators only read; what it writes itself is left aside.
func (w *work) reads() bool {
	c := *w.command
	c.Kind = parser.Select
	c.Effects &^= parser.Writes | parser.LocksRows | parser.AdvancesSequence | parser.CopyIn | parser.CopyOut | parser.UsesCursor
	c.Pin = ""
	return w.proved(&c)
}

// proved says whether the catalog proves a command, of the text at hand, to read only.
func (w *work) proved(c *parser.Command) bool {
	st := *w.st
	st.Commands = []parser.Command{*c}
	return w.schema.catalog.Reading(&st).Verdict == catalog.Read
}

// clockValue says whether a literal or a parameter may be one that each shard reads by its own clock.
func clockValue(v *Values) bool {
	for i := range v.Params {
		if p := &v.Params[i]; !p.Binary && tellsTime(p.Value) {
			return true
		}
	}
	var room [16]parser.Literal // as many as most texts have
	literals, ok := parser.Literals(v.SQL, room[:0])
	if ok {
		return slices.ContainsFunc(literals, func(l parser.Literal) bool { return l.Kind == parser.LiteralString && tellsTime(l.Value) })
	}
	for _, t := range parser.Tokens(v.SQL, nil) {
		text := v.SQL[t.Start:t.End]
		if i := bytes.IndexByte(text, '\''); i >= 0 && i < 3 && tellsTime(bytes.Trim(text[i:], "'")) {
			return true
		}
	}
	return false
}

// refuseClock is why a statement for several shards with such a value is refused.
func refuseClock() *Refusal {
	return refuse("literal 'now', 'today', 'tomorrow' or 'yesterday', which each shard reads by its own clock", "Send the date or time itself.")
}
