package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxIncludeDepth bounds files that include files
	// (PostgreSQL, conffiles.h, CONF_FILE_MAX_DEPTH).
	maxIncludeDepth = 10
	// maxRuleFileSize bounds one rule, map or user file, in bytes.
	maxRuleFileSize = 16 << 20
	// maxRuleLines bounds all lines and all list tokens that one rule file brings in with
	// its includes, since includes can multiply.
	maxRuleLines = 200_000
	// maxRuleFiles bounds the files that one rule file brings in, counted as
	// often as they are read.
	maxRuleFiles = 1000
	// maxReportedErrors keeps the report of a file in the wrong format readable.
	maxReportedErrors = 20
)

// A token is one word of a pg_hba.conf or pg_ident.conf line. Quoted words lose
// their special meaning ("all" is then a database called all).
type token struct {
	text   string
	quoted bool
}

func (t token) is(keyword string) bool { return !t.quoted && t.text == keyword }

// A ruleLine is one logical line: fields, each a comma separated list of tokens.
type ruleLine struct {
	file   string
	line   int // of its first physical line, from 1
	fields [][]token
}

// errorf is an error at this line.
func (l *ruleLine) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", l.file, l.line, fmt.Errorf(format, args...))
}

// one returns field i, which must be a single word; what names it in the error.
func (l *ruleLine) one(i int, what string) (token, error) {
	switch {
	case i >= len(l.fields):
		return token{}, l.errorf("the line ends before %s", what)
	case len(l.fields[i]) != 1:
		return token{}, l.errorf("%s must be one word, not a list: use a line for each", what)
	}
	return l.fields[i][0], nil
}

// ruleReader reads rule files with their includes. It takes its file functions
// as fields so that a fuzzer reads from memory. It belongs to one goroutine.
type ruleReader struct {
	readFile func(path string) ([]byte, error)
	listDir  func(path string) ([]string, error) // names, sorted
	lines    []ruleLine
	files    int // read so far
	tokens   int // expanded so far
	errs     []error
}

func newRuleReader() *ruleReader {
	return &ruleReader{readFile: readBounded, listDir: listDir}
}

// readBounded reads a whole file of a reasonable size.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > maxRuleFileSize {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", path, info.Size(), maxRuleFileSize)
	}
	return os.ReadFile(path)
}

func listDir(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	var names []string
	for _, entry := range entries {
		if !entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, err
}

// read reads one file, unless too many were read already.
func (r *ruleReader) read(path string) ([]byte, error) {
	if r.files++; r.files > maxRuleFiles {
		return nil, fmt.Errorf("%s: more than %d files are included", path, maxRuleFiles)
	}
	return r.readFile(path)
}

// file adds the lines of a file and of what it includes. Errors are gathered,
// so that the user sees them all at once.
func (r *ruleReader) file(path string, depth int, optional bool) {
	text, err := r.read(path)
	if err != nil {
		if !optional || !errors.Is(err, fs.ErrNotExist) {
			r.errs = append(r.errs, err)
		}
		return
	}
	physical := strings.Split(string(text), "\n")
	for i := 0; i < len(physical); i++ {
		line := ruleLine{file: path, line: i + 1}
		var logical strings.Builder
		for {
			part, continued := strings.CutSuffix(strings.TrimSuffix(physical[i], "\r"), `\`)
			logical.WriteString(part)
			if !continued || i+1 == len(physical) {
				break
			}
			i++
		}
		line.fields, err = splitFields(logical.String())
		if err != nil {
			r.errs = append(r.errs, line.errorf("%w", err))
			continue
		}
		if len(line.fields) > 0 {
			r.line(line, depth)
		}
	}
}

// line adds one line, or the lines of the files it includes.
func (r *ruleReader) line(line ruleLine, depth int) {
	if len(r.lines) >= maxRuleLines || r.files > maxRuleFiles {
		return // check reports it
	}
	first := line.fields[0][0]
	if len(line.fields[0]) != 1 || !(first.is("include") || first.is("include_if_exists") || first.is("include_dir")) {
		r.lines = append(r.lines, line)
		return
	}
	name, err := line.one(1, "the file to include")
	if err == nil && len(line.fields) > 2 {
		err = line.errorf("unexpected words after the file to include")
	}
	if err == nil && depth >= maxIncludeDepth {
		err = line.errorf("includes are nested more than %d deep: does the file include itself?", maxIncludeDepth)
	}
	if err != nil {
		r.errs = append(r.errs, err)
		return
	}
	path := beside(line.file, name.text)
	switch first.text {
	case "include_dir":
		names, err := r.listDir(path)
		if err != nil {
			r.errs = append(r.errs, line.errorf("include_dir: %w", err))
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".conf") && !strings.HasPrefix(name, ".") {
				r.file(filepath.Join(path, name), depth+1, false)
			}
		}
	default:
		r.file(path, depth+1, first.text == "include_if_exists")
	}
}

// beside resolves a name in a file against that file's directory.
func beside(file, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(file), name)
}

// expand replaces unquoted @file tokens by the tokens in that file, which may
// be separated by blanks, commas and line ends.
func (r *ruleReader) expand(line *ruleLine, tokens []token, file string, depth int) ([]token, error) {
	var out []token
	for _, t := range tokens {
		if r.tokens++; r.tokens > maxRuleLines {
			return nil, line.errorf("more than %d names", maxRuleLines)
		}
		if t.quoted || len(t.text) < 2 || t.text[0] != '@' {
			out = append(out, t)
			continue
		}
		if depth >= maxIncludeDepth {
			return nil, line.errorf("files of names are nested more than %d deep: does %s include itself?", maxIncludeDepth, t.text[1:])
		}
		path := beside(file, t.text[1:])
		text, err := r.read(path)
		if err != nil {
			return nil, line.errorf("file of names: %w", err)
		}
		for n, row := range strings.Split(string(text), "\n") {
			fields, err := splitFields(strings.TrimSuffix(row, "\r"))
			if err != nil {
				return nil, line.errorf("%s:%d: %w", path, n+1, err)
			}
			for _, field := range fields {
				names, err := r.expand(line, field, path, depth+1)
				if err != nil {
					return nil, err
				}
				out = append(out, names...)
			}
		}
	}
	return out, nil
}

// check returns all errors met so far, or nil.
func (r *ruleReader) check() error {
	if len(r.lines) >= maxRuleLines {
		r.errs = append(r.errs, fmt.Errorf("more than %d lines", maxRuleLines))
	}
	if len(r.errs) > maxReportedErrors {
		r.errs = append(r.errs[:maxReportedErrors:maxReportedErrors], errors.New("and more"))
	}
	return errors.Join(r.errs...)
}

// splitFields cuts a logical line into fields and tokens (hba.c, next_token):
// blanks separate fields, a comma continues the list, # starts a comment, and
// inside double quotes everything is text and "" is a quote.
func splitFields(line string) ([][]token, error) {
	var fields [][]token
	continued := false
	for {
		line = strings.TrimLeft(line, ", \t\r\f\v")
		if line == "" || line[0] == '#' {
			return fields, nil
		}
		t, rest, comma, err := nextToken(line)
		if err != nil {
			return nil, err
		}
		if continued {
			last := len(fields) - 1
			fields[last] = append(fields[last], t)
		} else {
			fields = append(fields, []token{t})
		}
		line, continued = rest, comma
	}
}

// nextToken reads one token; comma tells that another one of the same field follows.
func nextToken(line string) (t token, rest string, comma bool, err error) {
	var text strings.Builder
	t.quoted = line[0] == '"'
	inQuote := false
	i := 0
	for ; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"' && inQuote && i+1 < len(line) && line[i+1] == '"':
			text.WriteByte('"')
			i++
		case c == '"':
			inQuote = !inQuote
		case inQuote:
			text.WriteByte(c)
		case c == ',':
			t.text = text.String()
			return t, line[i+1:], true, nil
		case c == '#':
			t.text = text.String()
			return t, "", false, nil
		case strings.IndexByte(" \t\r\f\v", c) >= 0:
			t.text = text.String()
			return t, line[i+1:], false, nil
		default:
			text.WriteByte(c)
		}
	}
	if inQuote {
		return t, "", false, errors.New(`a quoted name does not end: expected another "`)
	}
	t.text = text.String()
	return t, "", false, nil
}
