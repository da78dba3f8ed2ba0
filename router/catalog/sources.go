package catalog

import (
	"cmp"
	"slices"
)

// gatherSources lists where the runs begin: what bodies tell, what volatility tells, and relations that a replica cannot read.
func (g *graph) gatherSources() {
	for _, f := range g.functions {
		n := node{inFunction, f.oid}
		if f.facts.why != "" {
			g.session = append(g.session, source{n, f.facts.why})
		}
		if why := f.local(); why != "" {
			g.local = append(g.local, source{n, why})
		}
		if f.volatility == 'v' && f.language != "c" && !f.hidden {
			g.unproved = append(g.unproved, source{n, "declared volatile"})
		}
	}
	for _, b := range g.builtins {
		n := node{inFunction, b.oid}
		if _, ok := g.risks.builtin[b.name]; ok {
			g.session = append(g.session, source{n, "touches the session"})
		}
		if why := b.local(); why != "" {
			g.local = append(g.local, source{n, why})
		}
		if why := b.unproved(); why != "" {
			g.unproved = append(g.unproved, source{n, why})
		}
	}
	for oid, r := range g.relations {
		n := node{inRead, oid}
		switch {
		case r.kind == 'f':
			g.unproved = append(g.unproved, source{n, "foreign table"})
		case r.kind == 'S':
			g.local = append(g.local, source{n, "state of a sequence"})
		case r.persistence == 'u':
			g.local = append(g.local, source{n, "unlogged, so replicas do not have it"})
		}
	}
	if g.answers != nil {
		g.gatherChanging()
	}
	// The first reason found is kept, so that its order is what makes reasons the same each time.
	for _, list := range [][]source{g.session, g.local, g.unproved, g.changing} {
		slices.SortStableFunc(list, func(a, b source) int { return a.compare(b.node) })
	}
	for _, list := range []map[string][]*function{g.mentions, g.calls} {
		for _, users := range list {
			slices.SortFunc(users, func(a, b *function) int { return cmp.Compare(a.oid, b.oid) })
		}
	}
}

func (n node) compare(m node) int {
	return cmp.Or(cmp.Compare(n.place, m.place), cmp.Compare(n.oid, m.oid))
}

// gatherChanging lists what makes an answer change though no row that a statement reads does.
func (g *graph) gatherChanging() {
	add := func(n node, why string) {
		if why != "" {
			g.changing = append(g.changing, source{n, why})
		}
	}
	for _, f := range g.functions {
		if !f.hidden {
			add(node{inFunction, f.oid}, g.changes(f))
		}
	}
	for _, b := range g.builtins {
		add(node{inFunction, b.oid}, b.changing())
	}
	for oid, r := range g.relations {
		n := node{inRead, oid}
		if r.kind == 'm' {
			g.answers.stored[r.schema+"."+r.name] = true
		}
		switch {
		case serverSchema(r.schema):
			add(n, "a catalog of the server")
		case r.kind == 'f':
			add(n, "foreign table")
		case r.kind == 'S':
			add(n, "state of a sequence")
		case r.persistence != 'p':
			add(n, "unlogged")
		case g.answers.values[n]:
			add(n, "has a column whose values are read or printed by names of the catalogs, or by the clock")
		}
	}
	g.changing = append(g.changing, g.answers.shown...)
}

// serverSchema says whether the server's own catalogs and views are there.
func serverSchema(schema string) bool {
	return schema == "pg_catalog" || schema == "information_schema"
}

// local is the reason why f itself may depend on its server. Whatever cannot be looked into might.
func (f *function) local() string {
	switch {
	case f.facts.why != "":
		return f.facts.why
	case f.facts.local != "":
		return f.facts.local
	case f.language == "c" && f.volatility == 'v' && !f.hidden && !harmlessExtension(f.name):
		return "volatile code of an extension"
	}
	return ""
}
