package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Querier runs one SQL statement and gives visit each row's values as text, nil for NULL. The fields are valid only during the call. An error of visit
// ends the query and is returned. The connection must be in the database that the snapshot is for, with standard_conforming_strings on and the server's
// own search_path.
type Querier interface {
	Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error
}

// Version returns a text that differs after any change of the database that Load with these extras would see, and after few others. It costs
// 1 to 2 µs for each function that is not the server's own, and with each of the extras 1 µs for each column.
func Version(ctx context.Context, q Querier, extras ...Extra) (string, error) {
	queries := []string{queryVersion}
	if slices.Contains(extras, Relations) {
		queries = append(queries, queryShapesVersion)
	}
	if slices.Contains(extras, Answers) {
		queries = append(queries, queryAnswersVersion)
	}
	var version []string
	for _, sql := range queries {
		err := q.Query(ctx, sql, func(fields [][]byte) error {
			version = append(version, string(fields[0])+":"+string(fields[1]))
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("read catalog version: %w", err)
		}
	}
	return strings.Join(version, "/"), nil
}

// Load reads the database's functions and what leads to them, and what extras ask for. DDL that commits meanwhile may be seen in part: the version of
// the snapshot is read before the rest, so that the next poll tells.
func Load(ctx context.Context, q Querier, extras ...Extra) (*Snapshot, error) {
	version, err := Version(ctx, q, extras...)
	if err != nil {
		return nil, err
	}
	l := loader{ctx: ctx, q: q, g: newGraph(), parts: map[object][]node{}, known: map[string]struct{}{}}
	if slices.Contains(extras, Answers) {
		l.g.answers = newAnswers()
	}
	for _, step := range []struct {
		act string
		run func() error
	}{
		{"read functions", l.functions},
		{"read names of built-in functions", l.names},
		{"read built-in functions", l.builtins},
		{"read relations", l.relations},
		{"read operators", l.operators},
		{"read triggers, rules and constraints", l.readParts},
		{"read keys that actions follow", l.keys},
		{"read dependencies", l.depends},
		{"find what expressions use of the server's own", l.trees},
		{"read types that answers depend on", l.readAnswers},
		{"find what expressions take from elsewhere", l.readShown},
	} {
		if err := step.run(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.act, err)
		}
	}
	l.g.readBodies()
	s := newSnapshot(l.g, maps.Clone(l.known), version)
	s.evidence = newEvidence(l.g, l.known)
	s.shadows = l.g.shadows
	if slices.Contains(extras, Relations) {
		if s.shapes, err = l.shapes(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// loader fills a graph.
type loader struct {
	ctx   context.Context
	q     Querier
	g     *graph
	parts map[object][]node
	known map[string]struct{}
	// server is its server_version_num, known after trees.
	server int
}

// rows runs a query whose rows have n columns.
func (l *loader) rows(sql string, n int, visit func(f []string) error) error {
	values := make([]string, n)
	return l.q.Query(l.ctx, sql, func(fields [][]byte) error {
		if len(fields) != n {
			return fmt.Errorf("got %d columns, want %d", len(fields), n)
		}
		for i, f := range fields {
			values[i] = string(f)
		}
		return visit(values)
	})
}

func (l *loader) functions() error {
	return l.rows(queryFunctions, 10, func(v []string) error {
		oid, err := oids(v[0], v[4])
		if err != nil {
			return err
		}
		if v[7] == "" {
			return fmt.Errorf("function %d has no volatility", oid[0])
		}
		l.g.functions[oid[0]] = &function{oid: oid[0], schema: v[1], name: v[2], language: v[3],
			owner: oid[1], one: v[5] == "t", row: v[6] == "t", volatility: v[7][0], hidden: v[8] == "t", body: v[9]}
		return nil
	})
}

func (l *loader) names() error {
	return l.rows(queryKnown, 1, func(v []string) error {
		l.known[v[0]] = struct{}{}
		return nil
	})
}

func (l *loader) builtins() error {
	names, patterns := listedNames()
	volatilities := "'v'"
	if l.g.answers != nil {
		volatilities = "'v', 's'"
	}
	return l.rows(fmt.Sprintf(queryBuiltins, volatilities, names, patterns), 7, func(v []string) error {
		id, err := oids(v[0], v[3], v[4], v[5])
		if err != nil {
			return err
		}
		if v[2] == "" {
			return fmt.Errorf("function %d has no volatility", id[0])
		}
		b := &builtin{oid: id[0], name: v[1], volatility: v[2][0], args: arity{int(id[1]), int(id[2])}, first: id[3], hidden: v[6] == "t"}
		if b.volatility == 'v' || b.listed() || l.g.answers != nil && b.changing() != "" {
			l.g.builtins[id[0]] = b
		}
		return nil
	})
}

func (l *loader) relations() error {
	return l.rows(queryRelations, 6, func(v []string) error {
		oid, err := oids(v[0], v[5])
		if err != nil {
			return err
		}
		if v[3] == "" || v[4] == "" {
			return fmt.Errorf("relation %d has no kind", oid[0])
		}
		l.g.relations[oid[0]] = relation{schema: v[1], name: v[2], kind: v[3][0], persistence: v[4][0], owner: oid[1]}
		return nil
	})
}

func (l *loader) operators() error {
	return l.rows(queryOperators, 4, func(v []string) error {
		oid, err := oids(v[0])
		if err != nil {
			return err
		}
		l.g.operators[oid[0]] = operator{schema: v[1], name: v[2]}
		l.g.shadows = l.g.shadows || v[2] == "=" && v[3] == "t"
		return nil
	})
}

func (l *loader) readParts() error {
	classes := map[string]uint32{"trigger": catalogTrigger, "rule": catalogRewrite, "default": catalogAttrdef, "check": catalogConstraint,
		"foreign key": catalogConstraint, "policy": catalogPolicy, "index": catalogClass, "event trigger": catalogEventTrigger}
	return l.rows(queryParts, 6, func(v []string) error {
		id, err := oids(v[1], v[3], v[5])
		if err != nil {
			return err
		}
		nodes := l.g.part(part{kind: v[0], name: v[2], relation: id[1], detail: v[4], other: id[2]})
		if class, ok := classes[v[0]]; ok {
			l.parts[object{class, id[0]}] = nodes
		}
		return nil
	})
}

func (l *loader) keys() error {
	return l.rows(queryKeys, 2, func(v []string) error {
		id, err := oids(v[0])
		if err == nil {
			l.g.keys[id[0]] = append(l.g.keys[id[0]], v[1])
		}
		return err
	})
}

func (l *loader) depends() error {
	return l.rows(queryDepends, 4, func(v []string) error {
		id, err := oids(v...)
		if err != nil {
			return err
		}
		l.g.depend(l.parts, object{id[0], id[1]}, object{id[2], id[3]})
		return nil
	})
}

func (l *loader) trees() error {
	more := ""
	err := l.rows(queryServer, 1, func(v []string) (err error) {
		l.server, err = strconv.Atoi(v[0])
		return err
	})
	if err != nil {
		return err
	}
	if l.server >= bodiesSince {
		more = queryBodies
	}
	watched := make([]string, 0, len(l.g.builtins))
	for oid := range l.g.builtins {
		watched = append(watched, strconv.FormatUint(uint64(oid), 10))
	}
	found := newTrees()
	err = l.rows(fmt.Sprintf(queryTrees, more, strings.Join(watched, ",")), 4, func(v []string) error {
		id, err := oids(v[0], v[1])
		if err != nil {
			return err
		}
		return found.add(object{id[0], id[1]}, v[2], v[3])
	})
	if err != nil {
		return err
	}
	found.connect(l.g, l.parts)
	return nil
}

// oids reads object identifiers.
func oids(texts ...string) ([]uint32, error) {
	out := make([]uint32, len(texts))
	for i, text := range texts {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read object identifier: %w", err)
		}
		out[i] = uint32(n)
	}
	return out, nil
}
