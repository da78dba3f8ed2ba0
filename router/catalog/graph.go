package catalog

import "strings"

// place is what a node of the graph stands for.
type place uint8

const (
	inFunction place = iota // calling the function
	inRead                  // reading the relation
	inWrite                 // writing the relation
	inTruncate              // truncating the relation
	inSchema                // changing the catalog; oid 0
	inAll                   // any statement; oid 0
)

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
	extension    bool
	one, row     bool // one argument is enough to call it; that may be a row
	body         string
	facts        facts
}

// relation is a row of pg_class.
type relation struct {
	schema, name string
	kind         byte
}

// object identifies a row of any catalog.
type object struct{ class, oid uint32 }

// part is a catalog row that ties functions to relations.
type part struct {
	kind, name string
	relation   uint32
	// detail: trigger, whether it fires on TRUNCATE; rule, its event; default, whether the column is generated; foreign key,
	// whether it has an action that writes.
	detail string
	// other: trigger and event trigger, the function; check, the domain; foreign key, the referenced relation; inherits, the parent.
	other uint32
}

// edge leads from a cause to what it makes risky.
type edge struct {
	to  node
	why string // "" takes the cause's name
}

// graph finds what risky functions reach. It is built, solved and thrown away by Load.
type graph struct {
	risks     risks
	functions map[uint32]*function
	relations map[uint32]relation
	edges     map[node][]edge
	// mentions are the functions whose body has the name of a function or relation.
	mentions map[string][]*function
	why      map[node]string
	queue    []node
}

func newGraph() *graph {
	return &graph{
		risks:     newRisks(),
		functions: map[uint32]*function{},
		relations: map[uint32]relation{},
		edges:     map[node][]edge{},
		mentions:  map[string][]*function{},
		why:       map[node]string{},
	}
}

// mark makes n risky, for the first reason given.
func (g *graph) mark(n node, why string) {
	if _, ok := g.why[n]; ok {
		return
	}
	g.why[n] = why
	g.queue = append(g.queue, n)
}

func (g *graph) edge(from, to node, why string) {
	g.edges[from] = append(g.edges[from], edge{to, why})
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
	for _, f := range g.functions {
		f.facts = g.judge(f)
		for name := range f.facts.names {
			if _, ok := names[name]; ok {
				g.mentions[name] = append(g.mentions[name], f)
			}
		}
		if f.facts.why != "" {
			g.mark(node{inFunction, f.oid}, f.facts.why)
		}
		if f.facts.schema {
			g.edge(node{place: inSchema}, node{inFunction, f.oid}, "")
		}
		f.body, f.facts.names = "", nil
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
			return facts{why: "code inside the server that is unknown"}
		}
		for _, name := range strings.Fields(f.body) {
			if g.risks.word(name) {
				return facts{why: name}
			}
		}
		return facts{}
	case "c":
		switch {
		case g.risks.compiled(f.name):
			return facts{why: "known to touch the session"}
		case !f.extension:
			return facts{why: "compiled code of no extension"}
		}
		return facts{}
	}
	return facts{why: "language " + f.language + " cannot be proved harmless"}
}

// part adds the edges of one row of queryParts and returns the nodes that are risky if an expression of it is.
func (g *graph) part(p part) []node {
	read, write := node{inRead, p.relation}, node{inWrite, p.relation}
	name := p.kind + " " + p.name + ": "
	switch p.kind {
	case "trigger":
		to := write
		if p.detail == "true" {
			to = node{inTruncate, p.relation}
			g.edge(to, write, "")
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
		if p.detail == "true" {
			g.edge(write, node{inWrite, p.other}, name)
		}
		g.edge(node{inTruncate, p.relation}, node{inTruncate, p.other}, name)
		g.edge(node{inTruncate, p.other}, node{inWrite, p.other}, "")
	case "inherits":
		for _, place := range []place{inRead, inWrite, inTruncate} {
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
	case catalogClass: // a partition key
		return []node{{inRead, o.oid}, {inWrite, o.oid}}
	case catalogRewrite, catalogTrigger, catalogAttrdef, catalogConstraint, catalogPolicy, catalogEventTrigger:
		return nil // switched off, or handled with its part
	}
	return []node{{place: inAll}}
}

// depend adds the edges of one row of queryDepends.
func (g *graph) depend(parts map[object][]node, from, to object) {
	for _, n := range g.owner(parts, from) {
		if to.class == catalogProc {
			g.edge(node{inFunction, to.oid}, n, "")
			continue
		}
		g.edge(node{inRead, to.oid}, n, "")
		if n.place != inRead {
			g.edge(node{inWrite, to.oid}, n, "")
		}
	}
}

// solve follows the edges until nothing new is risky.
func (g *graph) solve() {
	for len(g.queue) > 0 {
		n := g.queue[0]
		g.queue = g.queue[1:]
		cause := g.cause(n)
		for _, e := range g.edges[n] {
			g.mark(e.to, e.why+cause)
		}
		switch n.place {
		case inFunction:
			if f, ok := g.functions[n.oid]; ok {
				g.mentioned(f.name, cause, false)
			}
		case inRead, inWrite:
			if r, ok := g.relations[n.oid]; ok {
				g.mentioned(r.name, cause, n.place == inWrite)
			}
		}
	}
}

// mentioned makes the functions risky whose body has the name.
func (g *graph) mentioned(name, cause string, onlyWriters bool) {
	for _, f := range g.mentions[name] {
		if !onlyWriters || f.facts.writes {
			g.mark(node{inFunction, f.oid}, cause)
		}
	}
}

// cause names n as the reason of what it makes risky.
func (g *graph) cause(n node) string {
	switch n.place {
	case inFunction:
		if f, ok := g.functions[n.oid]; ok {
			return "calls " + f.schema + "." + f.name + "()"
		}
	case inRead, inWrite, inTruncate:
		if r, ok := g.relations[n.oid]; ok {
			return "uses " + r.schema + "." + r.name
		}
	}
	return "changes the catalog, " + g.why[n]
}
