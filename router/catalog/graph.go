package catalog

import "strings"

// place is what a node of the graph stands for.
type place uint8

const (
	inFunction place = iota // calling the function
	inRead                  // reading the relation
	inWrite                 // writing the relation
	inChange                // changing or deleting rows that are there; a kind of inWrite
	inUpdate                // changing rows that are there by UPDATE, keys of theirs that others refer to included; a kind of inWrite
	inTruncate              // truncating the relation; a kind of inWrite
	inOperator              // using the operator
	inSchema                // changing the catalog; oid 0
	inAll                   // any statement; oid 0
	inRest                  // what works unnamed, but not in a query: foreign data wrappers, languages, defaults of domains; oid 0
)

// ofRelation says whether the oid of a node of this place is a relation's.
func (p place) ofRelation() bool {
	return p == inRead || p == inWrite || p == inChange || p == inUpdate || p == inTruncate
}

// node is something that a statement can do.
type node struct {
	place place
	oid   uint32
}

// function is a row of pg_proc.
type function struct {
	oid          uint32
	schema, name string
	language     string
	one, row     bool   // one argument is enough to call it; that may be a row
	volatility   byte   // i, s or v
	hidden       bool   // only the server can call it: it takes or returns something internal
	owner        uint32 // the extension that owns it, 0 for none
	body         string
	facts        facts
	words        map[string]struct{} // of the body, if only the server can call it: a trigger's
}

// relation is a row of pg_class.
type relation struct {
	schema, name string
	kind         byte
	persistence  byte   // p or u
	owner        uint32 // the extension that owns it, 0 for none
}

// operator is a row of pg_operator.
type operator struct{ schema, name string }

// object identifies a row of any catalog.
type object struct{ class, oid uint32 }

// part is a catalog row that ties functions to relations.
type part struct {
	kind, name string
	relation   uint32
	// detail: trigger, truncate if it fires on that, before if it does so for each row before it is updated or deleted; rule, its event; default, whether the column is generated; foreign key,
	// d if it has an action on DELETE that writes, u if on UPDATE.
	detail string
	// other: trigger and event trigger, the function; check, the domain; foreign key, the referenced relation; inherits, the parent.
	other uint32
}

// edge leads from a cause to what it concerns.
type edge struct {
	to  node
	why string // "" takes the cause's name
	// planned: only the planner evaluates the expression for a reader, and of that only calls of immutable functions.
	planned bool
}

// graph holds what leads from functions to what statements name. Load builds it, runs over it with several kinds of sources (see run),
// and keeps what evidence needs.
type graph struct {
	risks     risks
	functions map[uint32]*function
	builtins  map[uint32]*builtin
	relations map[uint32]relation
	operators map[uint32]operator
	shadows   bool // see Snapshot.ShadowsEqual
	// locks are what locks rows by an expression that is stored: views, rules, bodies of functions.
	locks map[node]struct{}
	// before are the tables whose rows are locked when a trigger's function is called, which may turn their change down.
	before map[uint32][]node
	// keys are the columns of a table that an UPDATE has to set for a foreign key to act, "" for any.
	keys  map[uint32][]string
	edges map[node][]edge
	// mentions are the functions whose body has the name of a function or relation; calls are those whose body calls a built-in function.
	mentions map[string][]*function
	calls    map[string][]*function
	// sources of session state, of answers that depend on the server, of what is no reading, and of answers that change without a write; those
	// are there if answers is.
	session, local, unproved, changing []source
	answers                            *answers
}

// source is where a run begins.
type source struct {
	node
	why string
}

func newGraph() *graph {
	return &graph{
		risks:     newRisks(),
		functions: map[uint32]*function{},
		builtins:  map[uint32]*builtin{},
		relations: map[uint32]relation{},
		operators: map[uint32]operator{},
		locks:     map[node]struct{}{},
		before:    map[uint32][]node{},
		keys:      map[uint32][]string{},
		edges:     map[node][]edge{},
		mentions:  map[string][]*function{},
		calls:     map[string][]*function{},
	}
}

func (g *graph) edge(from, to node, why string) {
	g.edges[from] = append(g.edges[from], edge{to: to, why: why})
}

// readBodies judges every function by itself and notes what it mentions.
func (g *graph) readBodies() {
	names := map[string]struct{}{}
	for _, f := range g.functions {
		names[f.name] = struct{}{}
	}
	for _, r := range g.relations {
		names[r.name] = struct{}{}
	}
	builtins := map[string]struct{}{}
	for _, b := range g.builtins {
		builtins[b.name] = struct{}{}
	}
	for _, f := range g.functions {
		f.facts = g.judge(f)
		index(g.mentions, f, f.facts.names, names)
		index(g.calls, f, f.facts.calls, builtins)
		if f.hidden {
			f.words = f.facts.names
		}
		f.facts.names, f.facts.calls = nil, nil
		if f.facts.schema {
			g.edge(node{place: inSchema}, node{inFunction, f.oid}, "")
		}
	}
	g.gatherSources()
}

// index notes f under those of its words that are names.
func index(list map[string][]*function, f *function, words, names map[string]struct{}) {
	for word := range words {
		if _, ok := names[word]; ok {
			list[word] = append(list[word], f)
		}
	}
}

// judge reads one function's body by its language.
func (g *graph) judge(f *function) facts {
	switch f.language {
	case "sql":
		return scanBody(g.risks, f.body, false)
	case "plpgsql":
		return scanBody(g.risks, f.body, true)
	case "aggregate":
		return facts{} // pg_depend leads to its parts
	case "internal":
		if f.body == "" {
			return facts{why: "code inside the server that is unknown", blind: true}
		}
		found := facts{calls: map[string]struct{}{}}
		for _, name := range strings.Fields(f.body) {
			found.calls[name] = struct{}{}
			if g.risks.word(name) {
				found.why = name
			}
		}
		return found
	case "c":
		switch {
		case g.risks.compiled(f.name):
			return facts{why: "known to touch the session", blind: true}
		case f.owner == 0:
			return facts{why: "compiled code of no extension", blind: true}
		}
		return facts{blind: f.volatility == 'v' && !harmlessExtension(f.name) && !matches(harmlessTriggers, f.name)}
	}
	return facts{why: "language " + f.language + " cannot be proved harmless", blind: true}
}

// turnsDownUpdates is suppress_redundant_updates_trigger (src/include/catalog/pg_proc.dat).
const turnsDownUpdates = 1291

// part adds the edges of one row of queryParts and returns the nodes that are risky if an expression of it is.
func (g *graph) part(p part) []node {
	read, write := node{inRead, p.relation}, node{inWrite, p.relation}
	name := p.kind + " " + p.name + ": "
	switch p.kind {
	case "trigger":
		to := write
		switch p.detail {
		case "truncate":
			to = node{inTruncate, p.relation}
			g.edge(to, write, "")
		case "before":
			g.before[p.other] = append(g.before[p.other], write)
		}
		g.edge(node{inFunction, p.other}, to, name)
		return []node{to}
	case "rule":
		if p.detail != "1" { // an event other than SELECT
			return []node{write}
		}
		if g.relations[p.relation].kind == 'm' {
			return []node{write} // REFRESH runs it, reading does not
		}
		return []node{read, write}
	case "default":
		if p.detail != "true" {
			return []node{write}
		}
	case "check":
		if p.other != 0 {
			return []node{{place: inAll}}
		}
	case "foreign key":
		if change := (node{inChange, p.other}); p.detail != "" {
			g.edge(write, change, name)
			g.edge(node{inChange, p.relation}, change, name)
			g.edge(change, node{inWrite, p.other}, "")
		}
		if update := (node{inUpdate, p.other}); strings.Contains(p.detail, "u") {
			g.edge(write, update, name)
			g.edge(node{inUpdate, p.relation}, update, name)
		}
		g.edge(node{inTruncate, p.relation}, node{inTruncate, p.other}, name)
		g.edge(node{inTruncate, p.other}, node{inWrite, p.other}, "")
	case "inherits":
		for _, place := range []place{inRead, inWrite, inChange, inUpdate, inTruncate} {
			g.edge(node{place, p.relation}, node{place, p.other}, "")
		}
		g.edge(node{inTruncate, p.other}, node{inWrite, p.other}, "")
	case "event trigger":
		g.edge(node{inFunction, p.other}, node{place: inSchema}, name)
	}
	return []node{read, write}
}

// owner finds what becomes risky when an object of a class does. Whatever is not a function or a part of a relation
// (casts, operators, operator classes, types) works without being named, so everything does.
func (g *graph) owner(parts map[object][]node, o object) []node {
	if o.class == catalogProc {
		return []node{{inFunction, o.oid}}
	}
	if nodes, ok := parts[o]; ok {
		return nodes
	}
	switch o.class {
	case serverView, catalogClass: // catalogClass: a partition key
		return []node{{inRead, o.oid}, {inWrite, o.oid}}
	case catalogRewrite, catalogTrigger, catalogAttrdef, catalogConstraint, catalogPolicy, catalogEventTrigger:
		return nil // switched off, or handled with its part
	case catalogOperator:
		return []node{{inOperator, o.oid}}
	case domainDefault, catalogLanguage, catalogWrapper, catalogServer, catalogMethod, catalogTransform, catalogConversion, catalogStatistics,
		catalogDictionary, catalogParser, catalogConfiguration, catalogTemplate, catalogPublication:
		return []node{{place: inRest}}
	}
	return []node{{place: inAll}}
}

// onlyReads says whether n, of the object from, writes to none of the relations that its expression names: policies, and queries of materialized views.
func (g *graph) onlyReads(from object, n node) bool {
	return from.class == catalogPolicy || from.class == catalogRewrite && g.relations[n.oid].kind == 'm'
}

// depend adds the edges of one row of queryDepends: from depends on to.
func (g *graph) depend(parts map[object][]node, from, to object) {
	var cause node
	switch to.class {
	case catalogProc:
		cause = node{inFunction, to.oid}
	case catalogOperator:
		cause = node{inOperator, to.oid}
	default:
		cause = node{inRead, to.oid}
	}
	planned := from.class == catalogConstraint || from.class == catalogClass || from.class == catalogAttrdef
	for _, n := range g.owner(parts, from) {
		// Every policy depends on its own table, whose row it judges. One that looks at other rows of it is an error when it is applied (infinite recursion).
		if from.class == catalogPolicy && n == cause {
			continue
		}
		g.edges[cause] = append(g.edges[cause], edge{to: n, planned: planned && n.place == inRead})
		if cause.place == inRead && n.place != inRead && !g.onlyReads(from, n) {
			g.edge(node{inWrite, to.oid}, n, "")
			g.edge(node{inChange, to.oid}, n, "")
		}
	}
}
