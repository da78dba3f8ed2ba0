package parser

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Site is a table in the FROM of a query, or the target of UPDATE or DELETE, of whose rows a condition leaves some out.
type Site struct {
	Source *Source // of the Tree of the text
	// Inside: the condition stands in a sub-select in the table's place, which has the table's alias; else in WHERE of the query that has the table.
	Inside bool
}

// Addition is what conditions need: text that goes before a token, or behind the last.
type Addition struct {
	At int
	// Words are joined by spaces.
	Words []Word
}

// Word is a piece of SQL, or the condition of a Site.
type Word struct {
	Text string
	Site int // -1 for a piece of SQL
}

var errSites = errors.New("a place where no condition can be put")

// Restrict finds where the text of a statement takes a condition for each of the sites: in the order of the text, for every text of its template. The
// conditions are expressions that may stand in parentheses. What is found is proved: with the additions the grammar makes of the text what it makes of it without,
// but for the conditions. An error says that a site takes none.
func Restrict(sql []byte, sites []Site) ([]Addition, error) {
	text, err := readText(sql)
	if err != nil {
		return nil, err
	}
	r := restrictor{tokenText: newTokenText(text.src), sites: sites, opens: map[int]int{}}
	for open, closing := range r.closes {
		if closing > 0 {
			r.opens[closing] = open
		}
	}
	for i := range sites {
		if !r.site(i) {
			return nil, errSites
		}
	}
	r.wheres()
	slices.SortStableFunc(r.out, func(a, b Addition) int { return a.At - b.At })
	if !r.proved() {
		return nil, errSites
	}
	return r.out, nil
}

// restrictor looks for the places of conditions by keywords and parentheses. What it takes for a place is only a guess.
type restrictor struct {
	*tokenText
	sites []Site
	opens map[int]int // closing parentheses and what they close
	found []where
	out   []Addition
}

// where is a WHERE clause: its condition, or where it can be put if From and To are equal.
type where struct {
	Span
	there bool
	sites []int
}

func (r *restrictor) insert(at int, words ...Word) {
	r.out = append(r.out, Addition{At: at, Words: words})
}

func sqlWord(text string) Word { return Word{Text: text, Site: -1} }

// site finds the place of one condition.
func (r *restrictor) site(i int) bool {
	s := r.sites[i].Source
	if s.Kind != SourceTable || s.place == 0 {
		return false
	}
	at := s.place - 1
	if !r.sites[i].Inside {
		w, ok := r.whereOf(at)
		if !ok {
			return false
		}
		if k := slices.IndexFunc(r.found, func(f where) bool { return f.Span == w.Span && f.there == w.there }); k >= 0 {
			r.found[k].sites = append(r.found[k].sites, i)
			return true
		}
		w.sites = []int{i}
		r.found = append(r.found, w)
		return true
	}
	span := r.tableSpan(s, at)
	r.insert(span.From, sqlWord("(SELECT * FROM"))
	r.insert(span.To, sqlWord("WHERE ("), Word{Site: i}, sqlWord(`)) AS "`+strings.ReplaceAll(s.Alias, `"`, `""`)+`"`))
	return true
}

// tableSpan covers a table in FROM with all that belongs to it.
func (r *restrictor) tableSpan(s *Source, at int) Span {
	from, to := at, at+1
	if s.Only {
		from--
	}
	for r.is(to, '.') {
		to += 2
	}
	if r.is(to, '*') {
		to++
	}
	if s.Aliased {
		if r.isWord(to, "as") {
			to++
		}
		to++
		if s.Columns != nil {
			to = r.behind(to)
		}
	}
	if s.Sampled {
		for to++; r.is(to+1, '.'); {
			to += 2
		}
		to = r.behind(to + 1)
		if r.isWord(to, "repeatable") {
			to = r.behind(to + 1)
		}
	}
	return Span{from, to}
}

// isWord says whether token i is this word, unquoted.
func (r *restrictor) isWord(i int, word string) bool {
	return i < len(r.tokens) && r.tokens[i].kind == tokenIdent && strings.EqualFold(string(r.src[r.tokens[i].start:r.tokens[i].end]), word)
}

// behind is the token behind the parenthesis that i opens, or i if it opens none.
func (r *restrictor) behind(i int) int {
	if i < len(r.tokens) && r.closes[i] > 0 {
		return r.closes[i] + 1
	}
	return i
}

// whereOf finds the WHERE of the query in whose FROM token i stands.
func (r *restrictor) whereOf(i int) (w where, ok bool) {
	for j := i; ; {
		switch {
		case r.ends(j), r.is(j, ')') && r.queryBegins(r.opens[j]+1, i):
			return where{Span: Span{j, j}}, true
		case r.is(j, ')'): // of a join
			j++
			continue
		case r.word(j) == "where":
			end, ok := r.conditionEnd(j + 1)
			return where{Span: Span{j + 1, end}, there: true}, ok
		}
		if j, ok = r.past(j, len(r.tokens)); !ok {
			return where{}, false
		}
	}
}

// conditionEnd is the token behind a condition that begins with token i.
func (r *restrictor) conditionEnd(i int) (end int, ok bool) {
	for j := i; ; {
		if r.ends(j) || r.is(j, ')') {
			return j, j > i
		}
		if j, ok = r.past(j, len(r.tokens)); !ok {
			return 0, false
		}
	}
}

// behindWhere are the words that clauses behind WHERE begin with; all are reserved.
var behindWhere = []string{"group", "having", "window", "union", "intersect", "except", "order", "limit", "offset", "fetch", "for", "returning"}

// ends says whether what stands at token i ends FROM and WHERE.
func (r *restrictor) ends(i int) bool {
	if i >= len(r.tokens) || r.is(i, ';') || r.word(i) == "on" && r.isWord(i+1, "conflict") {
		return true
	}
	f := spanFinder{tokenText: r.tokenText}
	return slices.Contains(behindWhere, r.word(i)) && f.begins(i)
}

// queryBegins says whether a query begins between token i and token end, outside parentheses.
func (r *restrictor) queryBegins(i, end int) bool {
	for i < end {
		switch r.word(i) {
		case "select", "update", "delete":
			return true
		}
		next, ok := r.past(i, len(r.tokens))
		if !ok {
			return false
		}
		i = next
	}
	return false
}

// wheres makes the additions of the WHERE clauses found.
func (r *restrictor) wheres() {
	for _, w := range r.found {
		var words []Word
		if w.there {
			r.insert(w.From, sqlWord("("))
			words = append(words, sqlWord(")"))
		}
		for k, i := range w.sites {
			before := "AND ("
			if k == 0 && !w.there {
				before = "WHERE ("
			}
			words = append(words, sqlWord(before), Word{Site: i}, sqlWord(")"))
		}
		r.insert(w.To, words...)
	}
}

// proved says whether the grammar makes of the text with the additions what it should.
func (r *restrictor) proved() bool {
	var edits []Edit
	for _, in := range r.out {
		words := make([]string, len(in.Words))
		for i, w := range in.Words {
			if words[i] = w.Text; w.Site >= 0 {
				words[i] = mark(w.Site)
			}
		}
		edits = append(edits, Edit{Span{in.At, in.At}, strings.Join(words, " ")})
	}
	spliced, err := Splice(r.src, edits)
	if err != nil {
		return false
	}
	got, err := parseOne(spliced)
	if err != nil {
		return false
	}
	want, err := parseOne(slices.Clone(r.src))
	if err != nil {
		return false
	}
	e := expected{restrictor: r, seen: make([]bool, len(r.sites))}
	e.visit(want.ProtoReflect())
	clearLocations(want.ProtoReflect())
	clearLocations(got.ProtoReflect())
	return !slices.Contains(e.seen, false) && proto.Equal(want, got)
}

// mark stands for the condition of a site.
func mark(site int) string { return "pgtier_site_" + strconv.Itoa(site) }

// expected puts conditions into a tree of the grammar's.
type expected struct {
	*restrictor
	seen []bool // by site
}

// visit puts them into a message and all inside it.
func (e *expected) visit(m protoreflect.Message) {
	switch s := m.Interface().(type) {
	case *pg.SelectStmt:
		s.WhereClause = e.restrict(s.WhereClause, s.FromClause, nil)
	case *pg.UpdateStmt:
		s.WhereClause = e.restrict(s.WhereClause, s.FromClause, s.Relation)
	case *pg.DeleteStmt:
		s.WhereClause = e.restrict(s.WhereClause, s.UsingClause, s.Relation)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				e.visit(v.List().Get(i).Message())
			}
		default:
			e.visit(v.Message())
		}
		return true
	})
}

// restrict is the condition of a query with those of the sites in its FROM.
func (e *expected) restrict(condition *pg.Node, from []*pg.Node, target *pg.RangeVar) *pg.Node {
	var sites []int
	if i := e.siteOf(target); i >= 0 {
		sites = append(sites, i)
	}
	for _, item := range from {
		sites = append(sites, e.item(item)...)
	}
	slices.Sort(sites)
	for _, i := range sites {
		one := column(mark(i))
		switch b := condition.GetBoolExpr(); {
		case condition == nil:
			condition = one
		case b != nil && b.Boolop == pg.BoolExprType_AND_EXPR: // as makeAndExpr of gram.y has it
			b.Args = append(b.Args, one)
		default:
			condition = &pg.Node{Node: &pg.Node_BoolExpr{BoolExpr: &pg.BoolExpr{Boolop: pg.BoolExprType_AND_EXPR, Args: []*pg.Node{condition, one}}}}
		}
	}
	return condition
}

func column(name string) *pg.Node {
	field := &pg.Node{Node: &pg.Node_String_{String_: &pg.String{Sval: name}}}
	return &pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: &pg.ColumnRef{Fields: []*pg.Node{field}}}}
}

// siteOf is the site of a table that has not been met yet, -1 if it has none.
func (e *expected) siteOf(table *pg.RangeVar) int {
	if table == nil {
		return -1
	}
	at := e.at(int(table.Location)) + 1
	i := slices.IndexFunc(e.sites, func(s Site) bool { return s.Source.place == at })
	if i < 0 || e.seen[i] {
		return -1
	}
	e.seen[i] = true
	return i
}

// item puts sub-selects into the place of tables, and returns the sites whose conditions stand in WHERE.
func (e *expected) item(n *pg.Node) (sites []int) {
	var table *pg.RangeVar
	switch v := n.GetNode().(type) {
	case *pg.Node_JoinExpr:
		return append(e.item(v.JoinExpr.Larg), e.item(v.JoinExpr.Rarg)...)
	case *pg.Node_RangeTableSample:
		table = v.RangeTableSample.Relation.GetRangeVar()
	case *pg.Node_RangeVar:
		table = v.RangeVar
	}
	i := e.siteOf(table)
	switch {
	case i < 0:
		return nil
	case !e.sites[i].Inside:
		return []int{i}
	}
	inner, err := parseOne([]byte("SELECT * FROM t WHERE " + mark(i)))
	if err != nil {
		return nil
	}
	inner.GetSelectStmt().FromClause = []*pg.Node{{Node: n.Node}}
	n.Node = &pg.Node_RangeSubselect{RangeSubselect: &pg.RangeSubselect{Subquery: inner, Alias: &pg.Alias{Aliasname: e.sites[i].Source.Alias}}}
	return nil
}
