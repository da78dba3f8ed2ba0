package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileSize bounds what is read as a configuration, in bytes: a thousand databases take a tenth of it.
const maxFileSize = 4 << 20

// document is a configuration file, checked against the schema.
type document struct {
	// tree holds map[string]any, []any and, at the leaves, values of the types that the Config structs hold.
	tree map[string]any
	// lines is where each path stands.
	lines    map[string]int
	problems []Problem
	// unreadable is set when the tree says nothing about what the file was meant to hold.
	unreadable bool
}

// readFile returns the file's text.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxFileSize {
		return nil, fmt.Errorf("read configuration %s: longer than %d bytes; is it the right file?", path, maxFileSize)
	}
	return text, nil
}

// parseDocument reads YAML. What does not fit the schema becomes a problem; the rest of the tree is still returned.
func parseDocument(text []byte, s *schema) document {
	doc := document{tree: map[string]any{}, lines: map[string]int{}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return doc
	case err != nil:
		doc.problems, doc.unreadable = append(doc.problems, yamlProblem(err)), true
		return doc
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		doc.problem(0, "", "the file goes on after the first YAML document; remove the line ---")
		doc.unreadable = true
		return doc
	}
	top := root.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return doc
	}
	if tree, ok := doc.value(top, s, "").(map[string]any); ok {
		doc.tree = tree
	}
	return doc
}

// yamlProblem takes the line out of the parser's message.
func yamlProblem(err error) Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`^line (\d+): (.*)$`).FindStringSubmatch(text); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil {
			return Problem{Line: line, Text: "not valid YAML: " + m[2]}
		}
	}
	return Problem{Text: "not valid YAML: " + text}
}

func (d *document) problem(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{line, path, fmt.Sprintf(format, args...)})
}

// value converts node, which stands at path, and returns nil where it does not fit.
func (d *document) value(node *yaml.Node, s *schema, path string) any {
	d.lines[path] = node.Line
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		// Expanded aliases can grow a small file without bound, and a value written twice is easier to read.
		d.problem(node.Line, path, "anchors and aliases are not taken; write the value out")
		return nil
	}
	switch s.shape {
	case object, names:
		if node.Kind != yaml.MappingNode {
			d.problem(node.Line, path, "is %s where keys with values belong", describe(node))
			return nil
		}
		return d.mapping(node, s, path)
	case rows, list:
		if s.single && node.Kind == yaml.ScalarNode {
			if v := d.value(node, &schema{shape: scalar, leaf: s.leaf}, path); v != nil {
				return []any{v}
			}
			return nil
		}
		if node.Kind != yaml.SequenceNode {
			d.problem(node.Line, path, "is %s where a list belongs; write [value, value]", describe(node))
			return nil
		}
		elem := s.elem
		if s.shape == list {
			elem = &schema{shape: scalar, leaf: s.leaf}
		}
		items := []any{}
		for i, item := range node.Content {
			if v := d.value(item, elem, fmt.Sprintf("%s[%d]", path, i)); v != nil {
				items = append(items, v)
			}
		}
		return items
	}
	if node.Kind != yaml.ScalarNode {
		d.problem(node.Line, path, "is %s where one value belongs", describe(node))
		return nil
	}
	if node.Tag == "!!null" {
		d.problem(node.Line, path, "has no value; write one or leave the key out")
		return nil
	}
	v, err := parseScalar(s.leaf, node.Value)
	if err != nil {
		d.problem(node.Line, path, "%s", err)
		return nil
	}
	return v
}

func (d *document) mapping(node *yaml.Node, s *schema, path string) map[string]any {
	tree := map[string]any{}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, child := node.Content[i], node.Content[i+1]
		at := join(path, name.Value)
		if name.Kind != yaml.ScalarNode {
			d.problem(name.Line, path, "has a key that is %s; write a name", describe(name))
			continue
		}
		if first, twice := seen[name.Value]; twice {
			d.problem(name.Line, at, "stands on line %d already; remove one", first)
			continue
		}
		seen[name.Value] = name.Line
		below := s.elem
		if s.shape == object {
			k, ok := s.lookup(name.Value)
			if !ok {
				d.problem(name.Line, at, "%s", unknownKey(name.Value, s.keyNames()))
				continue
			}
			below = k.schema
		}
		if v := d.value(child, below, at); v != nil {
			tree[name.Value] = v
		}
		d.lines[at] = name.Line
	}
	return tree
}

// describe names what a node is, in a reader's words.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a group of keys"
	case yaml.SequenceNode:
		return "a list"
	}
	if node.Tag == "!!null" {
		return "empty"
	}
	return "a single value"
}

// join appends a key to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
