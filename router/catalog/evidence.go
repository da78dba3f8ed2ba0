package catalog

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// evidence is what the proofs of readings and the search for written tables rest on. It is immutable.
type evidence struct {
	// local, unproved and changing are the reasons why something depends on its server, is no reading, or answers otherwise without a write.
	local, unproved, changing map[node]string
	// What a name may mean, by its last part.
	functions map[string][]meaning
	relations map[string][]meaning
	operators map[string][]meaning
	// uses are the edges against their direction: what a node sets off.
	uses map[node][]node
	// tables are the names, with schema, of all relations that hold rows.
	tables map[uint32]string
	calls  map[uint32]callable
	// keys are the columns of a table that an UPDATE has to set for a foreign key to act, "" for any.
	keys map[uint32][]string
	// always holds what any statement sets off, with the tables that it reads and writes.
	always                    map[node]struct{}
	alwaysReads, alwaysWrites []string
	alwaysBlind               bool // any statement may write what cannot be seen
	alwaysMade                bool // any statement may run what is made of text
	// locks are the nodes that may lock by themselves; alwaysLocks: any statement may.
	locks       map[node]locking
	alwaysLocks bool
	// fields are functions that column notation may call: a.f is f(a). The value says whether a may be a whole row.
	fields map[string]bool
	// answers are nil unless asked for, and changing is empty then. timely are as fields, for answers.
	answers *answers
	timely  map[string]bool
	known   map[string]struct{} // names that may be called, the server's own and of types
}

// meaning is one thing of a name.
type meaning struct {
	schema string
	node   node
	args   arity // of built-in functions; others take any number
	kind   byte  // of relations
}

// locking is how a node may lock.
type locking byte

const (
	locksNothing locking = iota
	locksByName          // a text that names it is known to
	locksInside
)

// callable is what is known of a function that is not the server's.
type callable struct {
	schema, name string
	volatile     bool
	blind        bool                // what it writes cannot be seen
	changes      bool                // its body has a statement that changes the catalog
	made         bool                // its body is text, which may be made anew under those that run it
	words        map[string]struct{} // of a trigger's body
}

// newEvidence solves the graph for readings.
func newEvidence(g *graph, known map[string]struct{}) *evidence {
	e := &evidence{
		local:     g.solve(g.local, true),
		unproved:  g.solve(g.unproved, true),
		changing:  g.solve(g.changing, true),
		answers:   g.answers,
		functions: map[string][]meaning{},
		relations: map[string][]meaning{},
		operators: map[string][]meaning{},
		uses:      map[node][]node{},
		tables:    map[uint32]string{},
		calls:     map[uint32]callable{},
		keys:      g.keys,
		locks:     map[node]locking{},
		fields:    map[string]bool{},
		known:     known,
	}
	for n := range g.locks {
		e.locks[n] = locksInside
	}
	for oid, tables := range g.before {
		if f := g.functions[oid]; oid != turnsDownUpdates && (f == nil || !f.facts.turnsDown) {
			continue
		}
		for _, n := range tables {
			e.locks[n] = locksInside
		}
	}
	for _, f := range g.functions {
		e.functions[f.name] = append(e.functions[f.name], meaning{schema: f.schema, node: node{inFunction, f.oid}, args: arity{0, manyArguments}})
		e.calls[f.oid] = callable{f.schema, f.name, f.volatility == 'v', f.facts.blind || f.facts.changes, f.facts.changes, f.language != "c" && f.language != "internal", f.words}
		if f.facts.locks && f.volatility == 'v' { // others must not (check_locking_clause and CommandIsReadOnly of the server)
			e.locks[node{inFunction, f.oid}] = locksInside
		}
		if f.one {
			e.fields[f.name] = e.fields[f.name] || f.row
		}
	}
	for _, b := range g.builtins {
		if b.name == zoneFunction {
			continue // what AT TIME ZONE calls, of which Keeping judges by the types of columns
		}
		e.functions[b.name] = append(e.functions[b.name], meaning{schema: "pg_catalog", node: node{inFunction, b.oid}, args: b.args})
		if b.args.takes(1) && (b.local() != "" || b.unproved() != "") {
			if _, ok := e.fields[b.name]; !ok {
				e.fields[b.name] = false
			}
		}
		if matches(lockingBuiltins, b.name) {
			e.locks[node{inFunction, b.oid}] = locksByName
		}
		if matches(writingBuiltins, b.name) {
			e.calls[b.oid] = callable{schema: "pg_catalog", name: b.name, volatile: true, blind: true}
		}
	}
	for oid, r := range g.relations {
		e.relations[r.name] = append(e.relations[r.name], meaning{schema: r.schema, node: node{inRead, oid}, kind: r.kind})
		if strings.IndexByte("rpmf", r.kind) >= 0 {
			e.tables[oid] = r.schema + "." + r.name
		}
	}
	for oid, o := range g.operators {
		e.operators[o.name] = append(e.operators[o.name], meaning{schema: o.schema, node: node{inOperator, oid}})
	}
	for _, names := range []map[string][]meaning{e.functions, e.relations, e.operators} {
		for _, list := range names { // the first reason counts, so let it be the same each time
			slices.SortFunc(list, func(a, b meaning) int { return a.node.compare(b.node) })
		}
	}
	e.findTimely(g)
	e.reverse(g)
	e.findAlways()
	return e
}

// reverse notes what each node sets off.
func (e *evidence) reverse(g *graph) {
	for from, list := range g.edges {
		for _, edge := range list {
			// An edge from truncating or changing to writing says that a write may be one. Which it is, is known here.
			if (from.place == inTruncate || from.place == inChange) && edge.to.place == inWrite && from.oid == edge.to.oid {
				continue
			}
			// Functions that are not volatile cannot write by themselves (init_execution_state in src/backend/executor/functions.c).
			if f, ok := g.functions[edge.to.oid]; ok && edge.to.place == inFunction && (from.place == inWrite || from.place == inChange || from.place == inUpdate) && f.volatility != 'v' {
				continue
			}
			e.uses[edge.to] = append(e.uses[edge.to], from)
		}
	}
	for name, list := range g.mentions {
		for _, f := range list {
			e.mention(f, name)
		}
	}
	for name, list := range g.calls {
		for _, f := range list {
			for _, m := range e.functions[name] {
				e.use(f, m.node)
			}
		}
	}
	e.extensions(g)
}

// extensions adds the uses that only compiled code knows of, and those of operators in bodies.
func (e *evidence) extensions(g *graph) {
	owned := map[uint32][]uint32{}
	for oid, r := range g.relations {
		if r.owner != 0 {
			owned[r.owner] = append(owned[r.owner], oid)
		}
	}
	for _, f := range g.functions {
		if f.owner == 0 || f.language != "c" {
			continue
		}
		for _, oid := range owned[f.owner] { // compiled code most likely reads the tables of its own extension, if any
			e.use(f, node{inRead, oid})
		}
	}
	plain := func(n node) bool {
		f, ok := g.functions[n.oid]
		return ok && f.language == "c" && len(owned[f.owner]) == 0
	}
	for oid, o := range g.operators {
		n := node{inOperator, oid}
		if !slices.ContainsFunc(e.uses[n], func(n node) bool { return !plain(n) }) {
			continue // most operators; the search below is not cheap
		}
		if implied(o.name) {
			e.uses[node{place: inAll}] = append(e.uses[node{place: inAll}], n)
		}
		for _, f := range g.spelling(o.name) {
			e.use(f, n)
		}
	}
}

// mention notes that a function's body has a name.
func (e *evidence) mention(f *function, name string) {
	for _, m := range e.functions[name] {
		e.use(f, m.node)
	}
	for _, m := range e.relations[name] {
		e.use(f, m.node)
		if f.facts.writes && f.volatility == 'v' {
			e.use(f, node{inWrite, m.node.oid})
			e.use(f, node{inChange, m.node.oid})
		}
		if f.facts.truncates && f.volatility == 'v' {
			e.use(f, node{inTruncate, m.node.oid})
		}
	}
}

func (e *evidence) use(f *function, n node) {
	from := node{inFunction, f.oid}
	if n != from {
		e.uses[from] = append(e.uses[from], n)
	}
}

// spelling finds the functions whose body has an operator, or may have it.
func (g *graph) spelling(operator string) []*function {
	var list []*function
	for _, f := range g.functions {
		if f.language != "c" && f.language != "internal" && strings.Contains(f.body, operator) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *function) int { return cmp.Compare(a.oid, b.oid) })
	return list
}

// findAlways fills always.
func (e *evidence) findAlways() {
	e.always = map[node]struct{}{}
	found := map[node]struct{}{}
	reads, writes := map[string]struct{}{}, map[string]struct{}{}
	e.reach([]node{{place: inAll}}, func(n node) bool {
		found[n] = struct{}{}
		e.reads(n, reads)
		e.alwaysBlind = e.writes(n, writes) || e.alwaysBlind
		e.alwaysLocks = e.alwaysLocks || e.locks[n] != locksNothing
		e.alwaysMade = e.alwaysMade || e.isMade(n)
		return true
	})
	e.always, e.alwaysReads, e.alwaysWrites = found, slices.Sorted(maps.Keys(reads)), slices.Sorted(maps.Keys(writes))
}

// reads adds the table that n reads, if it does, to names.
func (e *evidence) reads(n node, names map[string]struct{}) {
	if name, ok := e.tables[n.oid]; ok && n.place == inRead {
		names[name] = struct{}{}
	}
}

// reach visits everything that the nodes set off, themselves included, but for what is in always. It stops when visit returns false.
func (e *evidence) reach(from []node, visit func(n node) bool) {
	seen := make(map[node]struct{}, 4*len(from))
	queue := slices.Clone(from)
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		_, old := seen[n]
		_, all := e.always[n]
		if old || all {
			continue
		}
		seen[n] = struct{}{}
		if !visit(n) {
			return
		}
		queue = append(queue, e.uses[n]...)
	}
}
