package parser

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// spanFinder finds the tokens of the parts of a tree. PostgreSQL's nodes tell at most where they begin, so that the lexer finds clauses by their
// keywords; what was found is then parsed by itself and compared with the node (spancheck.go).
type spanFinder struct {
	*tokenText
	pieces []piece
}

// findSpans sets the Spans of the tree of a statement. Those that cannot be found, or do not prove right, stay zero. It clears the locations in
// the nodes.
func (b *treeBuilder) findSpans(t *tokenText, statement, query *pg.Node) {
	f := &spanFinder{tokenText: t}
	q := b.tree.Query
	region, wrapped := f.region(statement)
	if region == (Span{}) || wrapped && !f.isQuery(region, query) {
		return
	}
	f.start = region.From
	q.Tokens = region
	f.query(q, query, region)
	for i, e := range b.tree.Calls {
		f.call(e, b.calls[i])
	}
	for i, e := range b.refs {
		f.column(e, int(b.refPlaces[i]))
	}
	clearLocations(statement.ProtoReflect())
	f.check()
}

// region finds the query in a statement. wrapped says that more than a semicolon stands around it.
func (f *spanFinder) region(statement *pg.Node) (s Span, wrapped bool) {
	end := len(f.tokens)
	for end > 0 && f.is(end-1, ';') {
		end--
	}
	start := 0
	for start < end && f.is(start, ';') {
		start++
	}
	all := Span{start, end}
	s, ok := f.unwrap(statement, all)
	if !ok {
		return Span{}, false
	}
	for s.From < s.To && f.is(s.From, '(') && f.closes[s.From] == s.To-1 {
		s.From, s.To = s.From+1, s.To-1
	}
	return s, s != all
}

// unwrap leaves off what stands around the query in EXPLAIN and its kind.
func (f *spanFinder) unwrap(n *pg.Node, s Span) (Span, bool) {
	var inner *pg.Node
	var from int
	switch v := n.GetNode().(type) {
	case *pg.Node_ExplainStmt:
		inner, from = v.ExplainStmt.Query, f.pastOptions(s.From+1)
	case *pg.Node_DeclareCursorStmt:
		inner, from = v.DeclareCursorStmt.Query, f.find(s, "for")+1
	case *pg.Node_PrepareStmt:
		inner, from = v.PrepareStmt.Query, f.find(s, "as")+1
	case *pg.Node_CopyStmt:
		if !f.is(s.From+1, '(') || f.closes[s.From+1] < 0 {
			return s, false
		}
		return Span{s.From + 2, f.closes[s.From+1]}, true
	default:
		return s, true
	}
	if from <= s.From || from >= s.To {
		return s, false
	}
	return f.unwrap(inner, Span{from, s.To})
}

// pastOptions is the token behind the options of EXPLAIN. A parenthesis may be the query's.
func (f *spanFinder) pastOptions(i int) int {
	if f.is(i, '(') {
		switch f.word(i + 1) {
		case "", "select", "with", "values", "table":
			return i
		}
		return f.closes[i] + 1
	}
	for {
		switch f.word(i) {
		case "analyze", "analyse", "verbose":
			i++
		default:
			return i
		}
	}
}

// query finds the parts of the outermost query, which s covers.
func (f *spanFinder) query(q *Query, n *pg.Node, s Span) {
	if len(q.With) > 0 {
		s.From = f.pastWith(s)
	}
	switch v := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		switch word := f.word(s.From); {
		case q.Set != SetNone:
		case word == "select":
			f.selectStmt(q, v.SelectStmt, s)
		case word == "values":
			f.rows(q.Rows, Span{s.From + 1, s.To})
		}
	case *pg.Node_InsertStmt:
		if i := f.valuesOf(s); i >= 0 && len(q.Rows) > 0 {
			f.rows(q.Rows, Span{i, s.To})
		}
		f.returning(q, v.InsertStmt.ReturningList, s)
	case *pg.Node_UpdateStmt:
		f.returning(q, v.UpdateStmt.ReturningList, s)
	case *pg.Node_DeleteStmt:
		f.returning(q, v.DeleteStmt.ReturningList, s)
	}
}

// pastWith is the first token behind a WITH clause: a verb that is not the name of one of its queries.
func (f *spanFinder) pastWith(s Span) int {
	for i := s.From; i < s.To; {
		switch f.word(i) {
		case "select", "values", "insert", "update", "delete", "merge":
			switch f.word(i - 1) {
			case "with", "recursive":
			default:
				if !f.is(i-1, ',') {
					return i
				}
			}
		}
		next, ok := f.past(i, s.To)
		if !ok {
			break
		}
		i = next
	}
	return s.To
}

// clause is a clause of a SELECT, its keyword included.
type clause struct {
	word string
	Span
}

// clauseOrder is the order of clauses behind the select list. The last ones may come in any order.
var clauseOrder = []string{"into", "from", "where", "group", "having", "window", "order", "limit", "offset", "fetch", "for"}

// anyOrder is where in clauseOrder those begin that may come in any order.
const anyOrder = 7

// clauses cuts s, a SELECT from behind its list's beginning, into its list and its clauses.
func (f *spanFinder) clauses(s Span) (list Span, out []clause, ok bool) {
	list = s
	last := -1
	for i := s.From; i < s.To; {
		rank := slices.Index(clauseOrder, f.word(i))
		if (rank > last || rank >= anyOrder && last >= anyOrder) && f.begins(i) {
			if len(out) > 0 {
				out[len(out)-1].To = i
			} else {
				list.To = i
			}
			out = append(out, clause{clauseOrder[rank], Span{i, s.To}})
			last = rank
		}
		next, ok := f.past(i, s.To)
		if !ok {
			return list, nil, false
		}
		i = next
	}
	return list, out, true
}

// begins says whether a word that may begin a clause does: not in IS [NOT] DISTINCT FROM, nor in WITHIN GROUP and
// COLLATION FOR.
func (f *spanFinder) begins(i int) bool {
	switch f.word(i) {
	case "from":
		before := f.word(i - 2)
		return f.word(i-1) != "distinct" || before != "is" && before != "not"
	case "group":
		return f.word(i-1) != "within"
	case "for":
		return f.word(i-1) != "collation"
	}
	return true
}

// selectStmt finds the clauses of a plain SELECT. Each must be there if and only if the tree has it.
func (f *spanFinder) selectStmt(q *Query, s *pg.SelectStmt, all Span) {
	from, ok := f.listStart(q, all.From+1)
	if !ok {
		return
	}
	list, clauses, ok := f.clauses(Span{from, all.To})
	if !ok || !sameClauses(clauses, s) {
		return
	}
	f.outputs(q, s.TargetList, list)
	q.TailToken = all.To
	for _, c := range clauses {
		switch c.word {
		case "where":
			f.expect(piece{before: "SELECT WHERE ", span: Span{c.From + 1, c.To}, want: &pg.SelectStmt{WhereClause: s.WhereClause}, set: &q.WhereTokens})
		case "group":
			f.expect(piece{span: c.Span, want: &pg.SelectStmt{GroupClause: s.GroupClause, GroupDistinct: s.GroupDistinct}, set: &q.GroupTokens})
		case "having":
			f.expect(piece{span: c.Span, want: &pg.SelectStmt{HavingClause: s.HavingClause}, set: &q.HavingTokens})
		case "order":
			f.expect(piece{span: c.Span, want: &pg.SelectStmt{SortClause: s.SortClause}, set: &q.OrderTokens})
			q.TailToken = 0
		case "limit", "fetch":
			f.limit(q, s, c.Span)
		case "offset":
			f.expect(piece{
				span: c.Span, set: &q.OffsetTokens,
				want: &pg.SelectStmt{LimitOffset: s.LimitOffset, LimitOption: pg.LimitOption_LIMIT_OPTION_COUNT},
			})
		}
		if slices.Index(clauseOrder, c.word) >= anyOrder && q.TailToken > c.From {
			q.TailToken = c.From
		}
	}
}

// limit expects LIMIT or FETCH. WITH TIES is not allowed without ORDER BY.
func (f *spanFinder) limit(q *Query, s *pg.SelectStmt, span Span) {
	p := piece{span: span, want: &pg.SelectStmt{LimitCount: s.LimitCount, LimitOption: s.LimitOption}, set: &q.LimitTokens}
	if q.WithTies {
		p.before, p.want.SortClause = "SELECT ORDER BY a ", orderByA()
	}
	f.expect(p)
}

// orderByA is what the grammar makes of ORDER BY a.
func orderByA() []*pg.Node {
	name := &pg.Node{Node: &pg.Node_String_{String_: &pg.String{Sval: "a"}}}
	column := &pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: &pg.ColumnRef{Fields: []*pg.Node{name}}}}
	return []*pg.Node{{Node: &pg.Node_SortBy{SortBy: &pg.SortBy{
		Node: column, SortbyDir: pg.SortByDir_SORTBY_DEFAULT, SortbyNulls: pg.SortByNulls_SORTBY_NULLS_DEFAULT,
	}}}}
}

// listStart is the first token of a select list; i is the one behind SELECT.
func (f *spanFinder) listStart(q *Query, i int) (start int, ok bool) {
	switch f.word(i) {
	case "all":
		return i + 1, !q.Distinct
	case "distinct":
		if !q.Distinct || len(q.DistinctOn) == 0 {
			return i + 1, q.Distinct
		}
		if f.word(i+1) != "on" || !f.is(i+2, '(') || f.closes[i+2] < 0 {
			return 0, false
		}
		return f.closes[i+2] + 1, true
	}
	return i, !q.Distinct
}

// sameClauses says whether the clauses found are those of the tree.
func sameClauses(found []clause, s *pg.SelectStmt) bool {
	count := make(map[string]int)
	for _, c := range found {
		count[c.word]++
	}
	has := func(words ...string) (n int) {
		for _, w := range words {
			n += count[w]
		}
		return n
	}
	for _, c := range []struct {
		found int
		want  bool
	}{
		{has("into"), s.IntoClause != nil},
		{has("from"), len(s.FromClause) > 0},
		{has("where"), s.WhereClause != nil},
		{has("group"), len(s.GroupClause) > 0},
		{has("having"), s.HavingClause != nil},
		{has("window"), len(s.WindowClause) > 0},
		{has("order"), len(s.SortClause) > 0},
		{has("limit", "fetch"), s.LimitCount != nil},
		{has("offset"), s.LimitOffset != nil},
	} {
		if c.found > 1 || (c.found == 1) != c.want {
			return false
		}
	}
	return has("for") == len(s.LockingClause)
}

// outputs finds the items of a select list.
func (f *spanFinder) outputs(q *Query, targets []*pg.Node, list Span) {
	if len(targets) == 0 || list.From >= list.To {
		return
	}
	items := f.split(list)
	if len(items) != len(targets) {
		return
	}
	f.expect(piece{before: "SELECT ", span: list, want: &pg.SelectStmt{TargetList: targets}, set: &q.OutputsTokens})
	for i, item := range items {
		f.expect(piece{before: "SELECT ", span: item, want: &pg.SelectStmt{TargetList: targets[i : i+1]}, set: &q.Outputs[i].Tokens})
	}
}

// returning finds the items of RETURNING, which is the last clause.
func (f *spanFinder) returning(q *Query, targets []*pg.Node, s Span) {
	for {
		i := f.find(s, "returning")
		if i < 0 {
			break
		}
		s.From = i + 1
	}
	f.outputs(q, targets, s)
}

// rows finds the rows that s begins with: as many as the tree has, each with as many values. Nothing but rows may stand behind VALUES, so
// that there is nothing more to prove.
func (f *spanFinder) rows(rows []*Row, s Span) {
	spans := make([]Span, 0, len(rows))
	i := s.From
	for range rows {
		if !f.is(i, '(') || f.closes[i] < 0 || f.closes[i] >= s.To {
			return
		}
		spans = append(spans, Span{i, f.closes[i] + 1})
		i = f.closes[i] + 1
		if f.is(i, ',') {
			i++
		}
	}
	if i < s.To && f.is(i, '(') || f.is(i-1, ',') {
		return
	}
	for r, span := range spans {
		if len(f.split(Span{span.From + 1, span.To - 1})) != len(rows[r].Values) {
			return
		}
	}
	for r, span := range spans {
		rows[r].Tokens = span
	}
}

// call finds a call's name, arguments and what follows them.
func (f *spanFinder) call(e *Expr, n *pg.FuncCall) {
	if n.Location < 0 || n.Funcformat == pg.CoercionForm_COERCE_SQL_SYNTAX {
		return
	}
	from := f.at(int(n.Location))
	open := from + 1
	for from >= 0 && f.is(open, '.') {
		open += 2
	}
	if from < 0 || !f.is(open, '(') || f.closes[open] < 0 || !f.names(open-1, e.Name) {
		return
	}
	to := f.closes[open] + 1
	to, within := f.suffix(to, "within")
	to, filter := f.suffix(to, "filter")
	to, over := f.suffix(to, "over")
	if within != n.AggWithinGroup || filter != (n.AggFilter != nil) || over != (n.Over != nil) {
		return
	}
	node := &pg.Node{Node: &pg.Node_FuncCall{FuncCall: n}}
	target := &pg.Node{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Val: node}}}
	f.expect(piece{
		before: "SELECT ", span: Span{from, to}, want: &pg.SelectStmt{TargetList: []*pg.Node{target}}, set: &e.Tokens,
		then: func() { e.NameTokens, e.ArgsTokens = Span{from, open}, Span{open + 1, f.closes[open]} },
	})
}

// column finds a column's name, whose tokens must be its parts and the dots between them.
func (f *spanFinder) column(e *Expr, offset int) {
	from := f.at(offset)
	if from < 0 {
		return
	}
	at := from
	for _, part := range e.Qualifier {
		if !f.names(at, part) || !f.is(at+1, '.') {
			return
		}
		at += 2
	}
	if f.names(at, e.Name) {
		e.NameTokens = Span{from, at + 1}
	}
}

// names says whether token i is this name.
func (f *spanFinder) names(i int, name string) bool {
	if i >= len(f.tokens) {
		return false
	}
	text := string(f.src[f.tokens[i].start:f.tokens[i].end])
	switch f.tokens[i].kind {
	case tokenIdent:
		return strings.EqualFold(text, name)
	case tokenQuoted:
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`) == name
	}
	return false
}

// suffix goes past WITHIN GROUP (…), FILTER (…), OVER (…) or OVER name, if word is what stands at i.
func (f *spanFinder) suffix(i int, word string) (next int, found bool) {
	if f.word(i) != word {
		return i, false
	}
	i++
	if word == "within" {
		i++
	}
	switch {
	case f.is(i, '(') && f.closes[i] > 0:
		return f.closes[i] + 1, true
	case word == "over" && i < len(f.tokens):
		return i + 1, true
	}
	return i, false
}
