package parser

import (
	"bytes"
	"fmt"
	"strings"
)

// hintNames are the settings that a hint may have, with the values allowed; none means any.
var hintNames = []struct {
	name   string
	values []string
}{
	{"consistency", []string{"session", "strong", "eventual", "manager"}},
	{"cache", []string{"on", "off"}},
	{"shard", nil},
	{"sharding_key", nil},
}

// readHints finds the hints in the comments that lead the text: /* pgtier: consistency=strong, cache=off */.
func (s *Statement) readHints(sql []byte) {
	l := lexer{src: sql}
	for t := l.next(); t.kind == tokenComment; t = l.next() {
		comment := sql[t.start:t.end]
		if !isHint(comment) {
			continue
		}
		_, body, _ := bytes.Cut(comment[:len(comment)-len("*/")], []byte("pgtier:"))
		r := hintReader{rest: strings.TrimSpace(string(body))}
		for r.rest != "" && s.HintError == "" {
			hint, err := r.next()
			if err == nil {
				err = checkHint(hint, s.Hints)
			}
			if err != nil {
				s.HintError = err.Error()
				return
			}
			s.Hints = append(s.Hints, hint)
		}
	}
}

// hintReader cuts the settings off a hint's text.
type hintReader struct{ rest string }

// next reads name=value and the comma behind it.
func (r *hintReader) next() (Hint, error) {
	name, rest, found := strings.Cut(r.rest, "=")
	name = strings.TrimSpace(name)
	if !found || name == "" || strings.ContainsAny(name, " \t\r\n,'") {
		return Hint{}, fmt.Errorf("hint %q is not name=value", r.rest)
	}
	r.rest = strings.TrimSpace(rest)
	value, err := r.value(name)
	if err != nil {
		return Hint{}, err
	}
	r.rest = strings.TrimSpace(r.rest)
	if r.rest == "" {
		return Hint{name, value}, nil
	}
	behind, comma := strings.CutPrefix(r.rest, ",")
	if !comma {
		return Hint{}, fmt.Errorf("hint %s=%s is followed by %q, want a comma or the end", name, value, r.rest)
	}
	r.rest = strings.TrimSpace(behind)
	if r.rest == "" {
		return Hint{}, fmt.Errorf("hint %s=%s is followed by a comma and nothing else", name, value)
	}
	return Hint{name, value}, nil
}

// value reads a word, or a string in single quotes that are doubled inside it.
func (r *hintReader) value(name string) (string, error) {
	if !strings.HasPrefix(r.rest, "'") {
		end := strings.IndexAny(r.rest, " \t\r\n,'")
		if end < 0 {
			end = len(r.rest)
		}
		value := r.rest[:end]
		r.rest = r.rest[end:]
		if value == "" {
			return "", fmt.Errorf("hint %s has no value", name)
		}
		return value, nil
	}
	for i := 1; i < len(r.rest); i++ {
		if r.rest[i] != '\'' {
			continue
		}
		if strings.HasPrefix(r.rest[i+1:], "'") {
			i++
			continue
		}
		value := strings.ReplaceAll(r.rest[1:i], "''", "'")
		r.rest = r.rest[i+1:]
		return value, nil
	}
	return "", fmt.Errorf("hint %s has a value without its closing quote", name)
}

// checkHint says what is wrong with a hint that stands behind others.
func checkHint(h Hint, before []Hint) error {
	for _, other := range before {
		if other.Name == h.Name {
			return fmt.Errorf("hint %s is given twice", h.Name)
		}
	}
	names := make([]string, 0, len(hintNames))
	for _, known := range hintNames {
		names = append(names, known.name)
		if known.name != h.Name {
			continue
		}
		if h.Value == "" {
			return fmt.Errorf("hint %s has no value", h.Name)
		}
		for _, v := range known.values {
			if v == h.Value {
				return nil
			}
		}
		if known.values != nil {
			return fmt.Errorf("hint %s is %q, want one of %s", h.Name, h.Value, strings.Join(known.values, ", "))
		}
		return nil
	}
	return fmt.Errorf("hint %q is unknown, want one of %s", h.Name, strings.Join(names, ", "))
}
