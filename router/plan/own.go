package plan

import (
	"slices"
	"strconv"
	"strings"

	"pgtier/parser"
	"pgtier/router/shard"
)

// While buckets move, their rows may stand on two shards. A plan without a proved bucket has each shard leave out those of buckets that it does not own.

// inMotion is the SQLSTATE of what must wait until no buckets move: object_in_use.
const inMotion = "55006"

const (
	hintMoving = "Compare the sharding key with a value, wait until the move of buckets is over, or end it with pgtier reshard cancel."
	hintFrozen = "Wait until the move of buckets is over, or end it with pgtier reshard cancel."
	// reasonMoving is added to the reason of plans whose texts are restricted.
	reasonMoving = "; buckets move, so each shard leaves out rows of buckets that it does not own"
)

// refuseMoving is why a statement has to wait until no buckets move.
func refuseMoving(construct string) *Refusal {
	return &Refusal{Code: inMotion, Message: construct + " while buckets move", Hint: hintMoving}
}

// refuseFrozen is why a change of the schema has to wait.
func refuseFrozen(construct string) *Refusal {
	return &Refusal{Code: inMotion, Message: construct + " while buckets move", Hint: hintFrozen}
}

// own is how a text has each shard leave out rows that it does not own. Immutable.
type own struct {
	schema *Schema
	edits  []ownEdit
	sites  []ownSite
}

// ownEdit replaces tokens by words, of which some are conditions.
type ownEdit struct {
	span  parser.Span
	words []parser.Word
}

// ownSite is a table whose rows are restricted.
type ownSite struct {
	key *shard.Key
	// bucket is that of a row, in SQL.
	bucket string
}

// ownOf is how the rows of tables are restricted in a text with these additions.
func (s *Schema) ownOf(additions []parser.Addition, sites []ownSite) *own {
	o := &own{schema: s, sites: sites}
	for _, a := range additions {
		o.edits = append(o.edits, ownEdit{parser.Span{From: a.At, To: a.At}, a.Words})
	}
	return o
}

// texts are the edits for one shard; none if it has no rows of others.
func (o *own) texts(i int) (list []parser.Edit) {
	foreign := o.schema.foreign[i]
	if len(foreign) == 0 {
		return nil
	}
	conditions := make([]string, len(o.sites))
	for i, s := range o.sites {
		conditions[i] = s.key.Outside(s.bucket, foreign)
	}
	for _, e := range o.edits {
		words := make([]string, len(e.words))
		for i, w := range e.words {
			if words[i] = w.Text; w.Site >= 0 {
				words[i] = conditions[w.Site]
			}
		}
		list = append(list, parser.Edit{Span: e.span, Text: strings.Join(words, " ")})
	}
	return list
}

// site is a table whose rows are restricted by a condition.
func (t *table) site(columns []string, relation string) ownSite {
	references := make([]string, len(t.columns))
	for i, name := range columns {
		references[i] = quoteName(name)
		if relation != "" {
			references[i] = quoteName(relation) + "." + references[i]
		}
	}
	return ownSite{t.key, t.key.ExpressionOf(references...)}
}

// owned has the shards of a plan leave out rows that are not theirs.
func (p *Statement) owned(plan Plan) Plan {
	if len(p.schema.moving) == 0 || !slices.ContainsFunc(plan.Shards, func(i int) bool { return len(p.schema.foreign[i]) > 0 }) {
		return plan
	}
	if p.own == nil {
		return p.refused(p.unrestricted())
	}
	parts := Parts{}
	if plan.Parts != nil {
		parts = *plan.Parts
	}
	parts.own, parts.shards = p.own, plan.Shards
	plan.Parts = &parts
	plan.Reason += reasonMoving
	return plan
}

// alone is the plan for one shard that is not found by keys: because it owns all buckets, or a hint names it.
func (p *Statement) alone(i int, reason string) Plan {
	one := Plan{Kind: One, Shard: i, Reason: reason, Write: p.write, Explain: p.explain, Mixed: p.mixed, Touches: Touches{Reach: AnyBucket}}
	if len(p.schema.foreign[i]) == 0 {
		return one
	}
	if p.byItself == One {
		return p.refused(p.unrestricted())
	}
	return p.owned(Plan{Kind: p.byItself, Shard: -1, Shards: []int{i}, Reason: reason, Write: p.write, Explain: p.explain, Copy: p.copy, Touches: one.Touches})
}

// unrestricted is why the statement's rows cannot be restricted.
func (p *Statement) unrestricted() *Refusal {
	if p.whole != "" {
		return refuseMoving(p.whole)
	}
	return refuseMoving("statement over rows of several buckets that cannot be restricted to those of each shard")
}

// restrict finds how the rows of the statement's tables are restricted, once it is known whether it goes to several shards.
func (w *work) restrict() {
	if len(w.schema.moving) == 0 {
		return
	}
	switch w.command.Kind {
	case parser.Select:
		if w.byItself = Scatter; w.write {
			w.whole, w.byItself = "SELECT with WITH queries that write", One
			return
		}
	case parser.Insert, parser.Update, parser.Delete:
		w.byItself = Spread
	case parser.Copy:
		w.byItself = CopyOut
	default:
		w.whole = upper(w.command.Kind) + " over rows of several buckets"
		return
	}
	nodes := append(slices.Clone(w.bind.uses), w.updated()...)
	if w.wide != nil && w.narrow == nil && len(w.wide.roots) > 0 {
		nodes = w.wide.roots
	}
	o, why := w.restricted(nodes)
	if why != "" {
		w.whole = why
		return
	}
	w.own = o
}

// restricted finds how rows of these uses of tables are restricted, or why they cannot be.
func (w *work) restricted(nodes []*node) (o *own, why string) {
	var sites []parser.Site
	var owned []ownSite
	for _, n := range nodes {
		if n.table == nil || !n.table.sharded() || slices.ContainsFunc(sites, func(s parser.Site) bool { return s.Source == n.source }) {
			continue
		}
		q, inside := w.whereIs(n)
		if q == nil {
			return nil, "table \"" + n.table.name + "\" in a place that is not looked into"
		}
		if why := w.restrictable(q, n, inside); why != "" {
			return nil, why
		}
		sites = append(sites, parser.Site{Source: n.source, Inside: inside})
		names := make([]string, len(n.table.columns))
		for i, c := range n.table.columns {
			names[i] = n.columns[c].name
		}
		owned = append(owned, n.table.site(names, n.source.Alias))
	}
	additions, err := parser.Restrict(w.sql, sites)
	if err != nil {
		return nil, "statement over rows of several buckets in whose text they cannot be told apart"
	}
	return w.schema.ownOf(additions, owned), ""
}

// whereIs is the query in whose FROM a table stands, and whether WHERE does not do to leave out rows of it: it has its rows made up to those of a join.
func (w *work) whereIs(n *node) (in *query, inside bool) {
	var find func(q *query, at *node, hidden bool)
	find = func(q *query, at *node, hidden bool) {
		switch {
		case at == nil:
		case at == n:
			in, inside = q, hidden
		case at.left != nil:
			s := at.source
			hidden = hidden || s.Aliased
			find(q, at.left, hidden || s.Join == parser.JoinRight || s.Join == parser.JoinFull)
			find(q, at.right, hidden || s.Join == parser.JoinLeft || s.Join == parser.JoinFull)
		}
	}
	w.root.walk(func(q *query) {
		for _, at := range q.from {
			find(q, at, false)
		}
	})
	return in, inside
}

// restrictable says why rows of a table cannot be left out by a condition on its key, "" if they can.
func (w *work) restrictable(q *query, n *node, inside bool) string {
	alias := n.source.Alias
	count := 0
	for _, i := range q.scope.items {
		if i.alias == alias && !i.joined {
			count++
		}
	}
	switch {
	case count > 1 || alias == "":
		return "table \"" + n.table.name + "\" whose name stands for several tables"
	case !inside:
		return ""
	case q.tree.Locks:
		return "FOR UPDATE with outer joins"
	case w.wholeRow(alias):
		return "whole row or system column of \"" + alias + "\" in an outer join"
	case q.leans(n):
		return "GROUP BY of outer joins with columns that are not grouped"
	}
	return ""
}

// wholeRow says whether the statement may name a table's row as a whole, or a system column of it: a sub-select's row is of another type, and has none.
func (w *work) wholeRow(alias string) (found bool) {
	w.tree.Walk(func(q *parser.Query) {
		q.Exprs(func(e *parser.Expr) {
			found = found || e.Kind == parser.ExprColumn && (len(e.Qualifier) == 0 && e.Name == alias || slices.Contains(systemColumns, e.Name))
		})
	})
	return found
}

// leans says whether q returns columns of a table that are not grouped, which the server takes if it finds that they depend on a unique key: of a sub-select it does not.
func (q *query) leans(n *node) bool {
	t := q.tree
	if len(t.Group) == 0 {
		return false
	}
	var grouped []*variable
	for _, g := range t.Group {
		if g.Kind == parser.ExprConstant {
			if at, err := strconv.Atoi(g.Value.Text); err == nil && at >= 1 && at <= len(t.Outputs) {
				g = t.Outputs[at-1].Expr
			}
		} else if v := q.scope.resolve(g); v == nil {
			for _, o := range t.Outputs {
				if o.Name == g.Name && g.Kind == parser.ExprColumn {
					g = o.Expr
				}
			}
		}
		grouped = append(grouped, q.scope.resolve(g))
	}
	leans := false
	visit := func(e *parser.Expr) bool {
		if e.Kind == parser.ExprStar {
			leans = true
		}
		if v := q.scope.resolve(e); v != nil && !slices.Contains(grouped, v) {
			leans = leans || slices.ContainsFunc(n.columns, func(c column) bool { return c.variable == v })
		}
		return e.Kind != parser.ExprCall || !parser.IsAggregate(e.Name)
	}
	for _, o := range t.Outputs {
		o.Expr.Walk(visit)
	}
	t.Having.Walk(visit)
	for _, s := range t.Order {
		s.Expr.Walk(visit)
	}
	return leans
}
