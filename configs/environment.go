package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// prefix leads every environment variable that is ours.
const prefix = "PGTIER_"

// maxVariableName bounds the search for the key that a name means, in bytes: four times the longest key's.
const maxVariableName = 256

// orchestrated matches the variables that Kubernetes and container links set for a service called pgtier. They are
// nobody's configuration, and refusing them would keep the proxy from starting beside such a service.
var orchestrated = regexp.MustCompile(`^PGTIER_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)$`)

// overlay writes the variables of env ("NAME=value") over tree, a tree of s, and returns what is wrong with them.
//
// The name is the key's path in capitals with _ between the parts: PGTIER_POOL_SIZE. Rows are numbered from 0:
// PGTIER_AUTH_USERS_0_NAME. A database that the file names is found whatever its spelling; any character but letters
// and digits stands as _. A database of the environment alone has a lower-case name. Lists are separated by commas.
func overlay(tree map[string]any, s *schema, env []string) []Problem {
	var found []Problem
	// Sorted, because the rows of a list must come in order.
	for _, entry := range slices.Sorted(slices.Values(env)) {
		name, text, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(name, prefix)
		if !ours || orchestrated.MatchString(name) {
			continue
		}
		if len(name) > maxVariableName {
			found = append(found, Problem{Path: clip(name), Text: "no key has such a long name"})
			continue
		}
		_, problem := assign(tree, s, rest, text)
		if problem != "" {
			found = append(found, Problem{Path: name, Text: problem})
		}
	}
	return found
}

// assign stores text at the place that name means below node (nil: not there yet) and returns the new node.
// The problem is "" when all went well.
func assign(node any, s *schema, name, text string) (changed any, problem string) {
	switch s.shape {
	case object:
		return assignKey(node, s, name, text)
	case names:
		return assignNamed(node, s, name, text)
	case rows:
		return assignRow(node, s, name, text)
	}
	if s.shape == list {
		values := []any{}
		for _, part := range strings.Split(text, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			v, err := parseScalar(s.leaf, part)
			if err != nil {
				return node, err.Error()
			}
			values = append(values, v)
		}
		return values, ""
	}
	v, err := parseScalar(s.leaf, text)
	if err != nil {
		return node, err.Error()
	}
	return v, ""
}

func assignKey(node any, s *schema, name, text string) (any, string) {
	tree, _ := node.(map[string]any)
	if tree == nil {
		tree = map[string]any{}
	}
	// Keys hold _ themselves, so several may fit the beginning; only one can fit the whole.
	for _, k := range s.keys {
		if rest, ok := after(name, k.name); ok && reaches(tree[k.name], k.schema, rest) {
			changed, problem := assign(tree[k.name], k.schema, rest, text)
			tree[k.name] = changed
			return tree, problem
		}
	}
	return node, "no key has this name; " + variableHint(name, s)
}

func assignNamed(node any, s *schema, name, text string) (any, string) {
	tree, _ := node.(map[string]any)
	if tree == nil {
		tree = map[string]any{}
	}
	chosen, rest, ok := splitName(tree, s, name)
	if !ok {
		return node, "no key has this name"
	}
	for other := range tree {
		if other != chosen && variablePart(other) == variablePart(chosen) {
			return node, fmt.Sprintf("means both %q and %q; set the key in the file", min(chosen, other), max(chosen, other))
		}
	}
	changed, problem := assign(tree[chosen], s.elem, rest, text)
	tree[chosen] = changed
	return tree, problem
}

func assignRow(node any, s *schema, name, text string) (any, string) {
	items, _ := node.([]any)
	index, rest, _ := rowIndex(name)
	if index > len(items) {
		return node, fmt.Sprintf("row %d without row %d before it; number the rows from 0", index, index-1)
	}
	var row any
	if index < len(items) {
		row = items[index]
	}
	changed, problem := assign(row, s.elem, rest, text)
	if problem != "" {
		return node, problem
	}
	items = slices.Clone(items)
	if index == len(items) {
		return append(items, changed), ""
	}
	items[index] = changed
	return items, ""
}

// reaches reports whether name leads from node to a scalar or list.
func reaches(node any, s *schema, name string) bool {
	switch s.shape {
	case object:
		tree, _ := node.(map[string]any)
		for _, k := range s.keys {
			if rest, ok := after(name, k.name); ok && reaches(tree[k.name], k.schema, rest) {
				return true
			}
		}
		return false
	case names:
		tree, _ := node.(map[string]any)
		_, _, ok := splitName(tree, s, name)
		return ok
	case rows:
		_, rest, ok := rowIndex(name)
		return ok && reaches(nil, s.elem, rest)
	}
	return name == ""
}

// splitName finds which of the user's names leads name: one that the tree has, the longest first, or a new one, the shortest that fits.
func splitName(tree map[string]any, s *schema, name string) (chosen, rest string, ok bool) {
	known := make([]string, 0, len(tree))
	for candidate := range tree {
		known = append(known, candidate)
	}
	slices.SortFunc(known, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, candidate := range known {
		if rest, ok := after(name, candidate); ok && reaches(tree[candidate], s.elem, rest) {
			return candidate, rest, true
		}
	}
	for i := 1; i < len(name); i++ {
		if name[i] == '_' && reaches(nil, s.elem, name[i+1:]) {
			return strings.ToLower(name[:i]), name[i+1:], true
		}
	}
	return "", "", false
}

// rowIndex splits "0_NAME". Three digits are more rows than anybody writes into variables.
func rowIndex(name string) (index int, rest string, ok bool) {
	digits, rest, ok := strings.Cut(name, "_")
	if !ok || len(digits) > 3 {
		return 0, "", false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return int(n), rest, err == nil
}

// after removes a key from the front of a variable's name.
func after(name, key string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(name, variablePart(key))
	if !ok || rest == "" {
		return "", ok
	}
	return strings.CutPrefix(rest, "_")
}

// variablePart is how a key is written in a variable's name.
func variablePart(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// variableHint names the nearest variable, or how variables are named.
func variableHint(name string, s *schema) string {
	var known []string
	var walk func(s *schema, path string)
	walk = func(s *schema, path string) {
		switch s.shape {
		case object:
			for _, k := range s.keys {
				walk(k.schema, path+"_"+variablePart(k.name))
			}
		case scalar, list:
			known = append(known, strings.ToLower(strings.TrimPrefix(path, "_")))
		}
	}
	walk(s, "")
	if near := nearest(strings.ToLower(name), known); near != "" {
		return "did you mean " + prefix + strings.ToUpper(near) + "?"
	}
	return "write the key's path in capitals, such as PGTIER_POOL_SIZE, or rename the variable"
}
