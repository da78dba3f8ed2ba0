package parser

import "unsafe"

// Walk visits e and the expressions inside, those of sub-selects not. It does not go into an expression for which visit returns false. e may be nil.
func (e *Expr) Walk(visit func(*Expr) bool) {
	if e == nil || !visit(e) {
		return
	}
	walkAll(e.Args, visit)
	e.Filter.Walk(visit)
	walkSorts(e.Order, visit)
	e.Over.walk(visit)
}

func walkAll(list []*Expr, visit func(*Expr) bool) {
	for _, e := range list {
		e.Walk(visit)
	}
}

func walkSorts(list []*Sort, visit func(*Expr) bool) {
	for _, s := range list {
		s.Expr.Walk(visit)
	}
}

func walkAssigns(list []*Assign, visit func(*Expr) bool) {
	for _, a := range list {
		walkAll(a.Subscripts, visit)
		a.Value.Walk(visit)
	}
}

func (w *Window) walk(visit func(*Expr) bool) {
	if w == nil {
		return
	}
	walkAll(w.Partition, visit)
	walkSorts(w.Order, visit)
	walkAll(w.Args, visit)
}

// Walk visits s and the sources that it joins.
func (s *Source) Walk(visit func(*Source)) {
	if s == nil {
		return
	}
	visit(s)
	s.Left.Walk(visit)
	s.Right.Walk(visit)
}

// Exprs visits every expression of q itself, those inside others too: not those of its WITH, of sub-selects, and of the sides of a set
// operation. An expression may come more than once.
func (q *Query) Exprs(visit func(*Expr)) {
	q.walk(func(e *Expr) bool {
		visit(e)
		return true
	})
}

func (q *Query) walk(visit func(*Expr) bool) {
	for _, o := range q.Outputs {
		o.Expr.Walk(visit)
	}
	for _, f := range q.From {
		f.Walk(func(s *Source) {
			s.On.Walk(visit)
			walkAll(s.Calls, visit)
			walkAll(s.Args, visit)
		})
	}
	q.Where.Walk(visit)
	walkAll(q.DistinctOn, visit)
	walkAll(q.Group, visit)
	q.Having.Walk(visit)
	for _, w := range q.WindowDefs {
		w.walk(visit)
	}
	walkSorts(q.Order, visit)
	q.Limit.Walk(visit)
	q.Offset.Walk(visit)
	for _, r := range q.Rows {
		walkAll(r.Values, visit)
	}
	q.walkWrites(visit)
}

// walkWrites visits the expressions that only INSERT, UPDATE and MERGE have.
func (q *Query) walkWrites(visit func(*Expr) bool) {
	walkAssigns(q.Assigns, visit)
	if c := q.Conflict; c != nil {
		walkAll(c.Args, visit)
		walkAssigns(c.Assigns, visit)
		c.Where.Walk(visit)
	}
	q.On.Walk(visit)
	for _, a := range q.Actions {
		a.Condition.Walk(visit)
		walkAssigns(a.Assigns, visit)
		walkAll(a.Values, visit)
	}
}

// Queries visits the queries that stand in q: of its WITH, the sides of a set operation, INSERT's source, those in FROM and in expressions. It does
// not go into them. One may come more than once.
func (q *Query) Queries(visit func(*Query)) {
	for _, w := range q.With {
		visit(w.Query)
	}
	for _, side := range []*Query{q.Left, q.Right, q.Source} {
		if side != nil {
			visit(side)
		}
	}
	for _, f := range q.From {
		f.Walk(func(s *Source) {
			if s.Query != nil {
				visit(s.Query)
			}
		})
	}
	q.Exprs(func(e *Expr) {
		if e.Query != nil {
			visit(e.Query)
		}
	})
}

// Walk visits every query of the statement once, each before those inside it.
func (t *Tree) Walk(visit func(*Query)) {
	seen := make(map[*Query]bool)
	var each func(*Query)
	each = func(q *Query) {
		if !seen[q] {
			seen[q] = true
			visit(q)
			q.Queries(each)
		}
	}
	each(t.Query)
}

// Bytes estimates the memory of the tree, for caches that are bounded in bytes. A long INSERT has a third of a kilobyte for each constant.
func (t *Tree) Bytes() int64 {
	n := int64(unsafe.Sizeof(*t)) + pointerBytes*int64(len(t.Calls)+len(t.Sources))
	t.Walk(func(q *Query) {
		n += int64(unsafe.Sizeof(*q)) + int64(len(q.Outputs))*int64(unsafe.Sizeof(Output{})) + int64(len(q.Rows))*int64(unsafe.Sizeof(Row{}))
		n += int64(len(q.Assigns)) * int64(unsafe.Sizeof(Assign{}))
		for _, f := range q.From {
			f.Walk(func(s *Source) { n += int64(unsafe.Sizeof(*s)) + int64(len(s.Schema)+len(s.Name)+len(s.Alias)) })
		}
		q.Exprs(func(e *Expr) {
			n += int64(unsafe.Sizeof(*e)) + pointerBytes + int64(len(e.Schema)+len(e.Name)+len(e.Value.Text))
			n += int64(len(e.Order)) * int64(unsafe.Sizeof(Sort{}))
			for _, part := range e.Qualifier {
				n += int64(unsafe.Sizeof(part)) + int64(len(part))
			}
		})
	})
	return n
}

// pointerBytes is what a place in a list of pointers takes.
const pointerBytes = int64(unsafe.Sizeof(uintptr(0)))
