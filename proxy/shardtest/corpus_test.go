package shardtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// statement is one statement of the corpus or of the generator.
type statement struct {
	kind  string // the file's name, or what the generator made
	place string // file and line, or seed and number
	sql   string // "$1" stands for the first of params
	note  string // what it is there to catch

	params []param
	// must: refusing it is a failure.
	must bool
	// order of rows; rows without one are compared as a multiset.
	order order
	// loose: neither rows nor command tag are compared, because they differ from server to server or from run to run.
	loose bool
	// approximate: floating-point values may differ in the last digits, because the order of additions is nobody's.
	approximate bool
	// simple: by the simple protocol only, because it is several statements or has none of the extended protocol's.
	simple bool
	// fails is the SQLSTATE that one server gives; "" for success. It is checked by the run of one server against another.
	fails string
	// vague: message and detail of the error are not compared, because they tell what was looked at first.
	vague bool
	// anyError: where one server fails, any error will do, because a statement has several mistakes.
	anyError bool
	// data is what COPY FROM is fed.
	data string
}

// param is one parameter as text.
type param struct {
	text   string
	null   bool
	quoted bool // written in quotes: a string literal where parameters stand in the text
}

// order says what the order of a statement's rows is.
type order struct {
	total bool  // the rows have one order
	keys  []int // they are in order by these columns, counted from 0; those equal in all of them stand in any order
}

// mode is a way to send a statement.
type mode int

const (
	simpleText mode = iota // one Query, parameters as literals
	unnamed                // Parse, Bind, Describe, Execute, Sync: parameters in text and without types, results in text
	prepared               // a named statement, described first; parameters with types, they and the results in binary
	described              // the same without declared types: parameters in binary, of the types that the server has told
	modes
)

func (m mode) String() string { return [...]string{"simple", "unnamed", "prepared", "described"}[m] }

// runs reports whether the statement can be sent so.
func (s *statement) runs(m mode) bool { return m == simpleText || !s.simple }

// placeholder is a parameter in a text of the corpus, which has no dollar signs else.
var placeholder = regexp.MustCompile(`\$[1-9][0-9]*`)

// literal is the text with the parameters written into it.
func (s *statement) literal() string {
	if len(s.params) == 0 {
		return s.sql
	}
	return placeholder.ReplaceAllStringFunc(s.sql, func(name string) string {
		n, err := strconv.Atoi(name[1:])
		if err != nil || n > len(s.params) {
			return name
		}
		p := s.params[n-1]
		switch {
		case p.null:
			return "NULL"
		case p.quoted:
			return "'" + strings.ReplaceAll(p.text, "'", "''") + "'"
		case strings.HasPrefix(p.text, "-"):
			return "(" + p.text + ")"
		}
		return p.text
	})
}

// reads reports whether the statement leaves the tables as they are, as far as its first word tells.
func (s *statement) reads() bool {
	word, _, _ := strings.Cut(strings.ToUpper(strings.TrimLeft(s.sql, "( \t\n")), " ")
	switch strings.TrimRight(word, ";\n") {
	case "SELECT":
		return !strings.Contains(s.sql, " INTO ")
	case "VALUES", "TABLE", "SHOW":
		return true
	}
	return false
}

// String is the statement as a failure shows it.
func (s *statement) String() string {
	text := s.kind + " " + s.place + ": " + s.sql
	if len(s.params) > 0 {
		text += fmt.Sprintf("\n-- as a literal: %s", s.literal())
	}
	if s.note != "" {
		text += "\n-- " + s.note
	}
	return text
}

// readCorpus reads the files of a folder of testdata in the order of their names.
func readCorpus(folder string) (all [][]*statement, err error) {
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.sql"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no files in testdata/%s", folder)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		file, err := parseCorpus(strings.TrimSuffix(filepath.Base(path), ".sql"), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, file)
	}
	return all, nil
}

// parseCorpus reads one file. A statement ends with a semicolon at the end of a line; comment lines before it are
// directives (see directive), or else say what it is there for. A line "--" alone ends a comment that is about no statement.
func parseCorpus(kind, text string) (all []*statement, err error) {
	current := &statement{kind: kind}
	var sql []string
	for i, line := range strings.Split(text, "\n") {
		place := fmt.Sprintf("%s.sql:%d", kind, i+1)
		comment, isComment := strings.CutPrefix(line, "--")
		switch {
		case isComment && len(sql) == 0:
			if comment == "" {
				current = &statement{kind: kind}
			} else if err := current.directive(strings.TrimPrefix(comment, " ")); err != nil {
				return nil, fmt.Errorf("%s: %w", place, err)
			}
		case strings.TrimSpace(line) == "" && len(sql) == 0:
		default:
			if len(sql) == 0 {
				current.place = place
			}
			sql = append(sql, line)
			if !strings.HasSuffix(line, ";") {
				continue
			}
			current.sql = strings.TrimSuffix(strings.Join(sql, "\n"), ";")
			if err := current.check(); err != nil {
				return nil, fmt.Errorf("%s: %w", current.place, err)
			}
			all = append(all, current)
			current, sql = &statement{kind: kind}, nil
		}
	}
	if len(sql) > 0 {
		return nil, fmt.Errorf("%s.sql ends inside a statement: %s", kind, sql[0])
	}
	return all, nil
}

// directive reads one comment line.
func (s *statement) directive(line string) error {
	word, rest, _ := strings.Cut(line, ":")
	rest = strings.TrimSpace(rest)
	switch word {
	case "must":
		s.must = true
	case "ordered":
		if rest == "" {
			s.order.total = true
		}
		for _, key := range strings.Fields(rest) {
			n, err := strconv.Atoi(key)
			if err != nil || n < 1 {
				return fmt.Errorf("ordered: %q is no column's number", key)
			}
			s.order.keys = append(s.order.keys, n-1)
		}
	case "params":
		return s.readParams(rest)
	case "loose":
		s.loose = true
	case "approximate":
		s.approximate = true
	case "simple":
		s.simple = true
	case "vague":
		s.vague = true
	case "fails":
		s.fails = rest
	case "data":
		s.data += strings.NewReplacer(`\t`, "\t", `\\`, `\`).Replace(rest) + "\n"
	default:
		s.note = strings.TrimSpace(s.note + " " + line)
	}
	return nil
}

// readParams reads "7, 'a word', NULL": quotes inside quotes are doubled.
func (s *statement) readParams(list string) error {
	for list != "" {
		var p param
		if strings.HasPrefix(list, "'") {
			p.quoted = true
			end := 1
			for end < len(list) && (list[end] != '\'' || strings.HasPrefix(list[end:], "''")) {
				if list[end] == '\'' {
					end++
				}
				end++
			}
			if end >= len(list) {
				return fmt.Errorf("params: no end of %s", list)
			}
			p.text, list = strings.ReplaceAll(list[1:end], "''", "'"), list[end+1:]
		} else {
			var word string
			word, list, _ = strings.Cut(list, ",")
			p.text, p.null, list = strings.TrimSpace(word), strings.TrimSpace(word) == "NULL", ","+list
		}
		s.params = append(s.params, p)
		list = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(list), ","))
	}
	return nil
}

// topOrder is an ORDER BY that no parenthesis closes after.
var topOrder = regexp.MustCompile(`(?i)\border\s+by\b[^)]*$`)

// check refuses a statement that says something the test would not look at.
func (s *statement) check() error {
	switch {
	case topOrder.MatchString(s.sql) && !s.order.total && s.order.keys == nil && !s.loose && s.fails == "" && s.reads():
		return fmt.Errorf("has an ORDER BY: say \"ordered\" with the columns, or without if no two rows are equal in it")
	case strings.Contains(s.sql, ";") && !s.simple:
		return fmt.Errorf("is several statements: say \"simple\"")
	}
	for _, name := range placeholder.FindAllString(s.sql, -1) {
		if n, err := strconv.Atoi(name[1:]); err != nil || n > len(s.params) {
			return fmt.Errorf("%s has no value in params", name)
		}
	}
	return nil
}
