package plan

import (
	"strings"

	"pgtier/parser"
)

// copyText is what the text of a COPY says.
type copyText struct {
	query, from, stdio, where bool
	schema, table             string
	// target are the tokens of the table with its columns.
	target  parser.Span
	columns []string
	// list is the token behind the parenthesis that opens the columns.
	list                    int
	format                  CopyFormat
	forceNull, forceNotNull []string
	forceQuote              []string
	// given are the options that the text gives, for defaults that depend on the format.
	given map[string]bool
}

// copyReader reads the tokens of a COPY.
type copyReader struct {
	words
	sql []byte
	at  int
	out copyText
}

// readCopy reads a COPY (copy.sgml and gram.y, CopyStmt). ok is false if something in it is not known here.
func readCopy(sql []byte) (*copyText, bool) {
	r := copyReader{words: wordsOf(sql), sql: sql, out: copyText{given: map[string]bool{}}}
	ok := r.take("copy") && r.target() && r.direction() && r.options() && r.condition() && r.end()
	r.defaults()
	return &r.out, ok
}

// take moves behind a word if it is there.
func (r *copyReader) take(list ...string) bool {
	if !r.is(r.at, list...) {
		return false
	}
	r.at++
	return true
}

// name reads a name.
func (r *copyReader) name() (string, bool) {
	if r.at >= len(r.text) || !r.quoted[r.at] && !isName(r.text[r.at]) {
		return "", false
	}
	r.at++
	return r.text[r.at-1], true
}

func isName(text string) bool {
	c := text[0]
	return c == '_' || c >= 'a' && c <= 'z' || c >= 0x80
}

// target reads the table with its columns, or the query in parentheses.
func (r *copyReader) target() bool {
	if r.is(r.at, "(") {
		r.out.query = true
		depth := 0
		for ; r.at < len(r.text); r.at++ {
			if r.is(r.at, "(") {
				depth++
			}
			if r.is(r.at, ")") {
				if depth--; depth == 0 {
					r.at++
					return true
				}
			}
		}
		return false
	}
	if r.is(r.at, "binary") { // before the table, in the syntax of version 7.2
		return false
	}
	from := r.at
	name, ok := r.name()
	if ok && r.take(".") {
		r.out.schema = name
		name, ok = r.name()
	}
	r.out.table = name
	if ok && r.is(r.at, "(") {
		r.out.list = r.at + 1
		r.out.columns, ok = r.list()
	}
	r.out.target = parser.Span{From: from, To: r.at}
	return ok
}

// list reads names in parentheses.
func (r *copyReader) list() (names []string, ok bool) {
	if !r.take("(") {
		return nil, false
	}
	for {
		name, ok := r.name()
		if !ok {
			return nil, false
		}
		names = append(names, name)
		if r.take(")") {
			return names, true
		}
		if !r.take(",") {
			return nil, false
		}
	}
}

func (r *copyReader) direction() bool {
	switch {
	case r.take("from"):
		r.out.from = true
		r.out.stdio = r.take("stdin")
	case r.take("to"):
		r.out.stdio = r.take("stdout")
	default:
		return false
	}
	if r.out.stdio {
		return true
	}
	if r.take("program") {
		return r.constant() != ""
	}
	return r.constant() != ""
}

// constant reads a plain literal with its quotes, "" if there is none.
func (r *copyReader) constant() string {
	if r.at >= len(r.text) || r.text[r.at][0] != '\'' {
		return ""
	}
	r.at++
	return r.text[r.at-1]
}

// options reads WITH (…), or the words of versions before 9.0.
func (r *copyReader) options() bool {
	r.out.format.Name = "text"
	r.take("with")
	if !r.take("(") {
		return r.oldOptions()
	}
	for {
		name, ok := r.name()
		if !ok || !r.option(name) {
			return false
		}
		if r.take(")") {
			return true
		}
		if !r.take(",") {
			return false
		}
	}
}

// option reads the value of an option.
func (r *copyReader) option(name string) bool {
	f := &r.out.format
	r.out.given[name] = true
	switch name {
	case "format":
		value := r.word()
		f.Name = value
		return value == "text" || value == "csv" || value == "binary"
	case "delimiter":
		return r.single(&f.Delimiter)
	case "quote":
		return r.single(&f.Quote)
	case "escape":
		return r.single(&f.Escape)
	case "null":
		value, ok := r.value()
		f.Null = value
		return ok
	case "header":
		return r.header()
	case "force_null", "force_not_null":
		list := &r.out.forceNull
		if name == "force_not_null" {
			list = &r.out.forceNotNull
		}
		if r.take("*") {
			*list = []string{"*"}
			return true
		}
		names, ok := r.list()
		*list = names
		return ok
	case "force_quote":
		names, ok := []string{"*"}, r.take("*")
		if !ok {
			names, ok = r.list()
		}
		r.out.forceQuote = names
		return ok
	}
	return false
}

// word reads a name or a literal without its quotes.
func (r *copyReader) word() string {
	if value, ok := r.value(); ok {
		return strings.ToLower(value)
	}
	name, _ := r.name()
	return name
}

// value reads a plain literal without its quotes. E'…' and those with backslashes are not read.
func (r *copyReader) value() (string, bool) {
	text := r.constant()
	if len(text) < 2 || text[len(text)-1] != '\'' || strings.Contains(text[1:len(text)-1], "''''") {
		return r.escaped()
	}
	return strings.ReplaceAll(text[1:len(text)-1], "''", "'"), true
}

// escaped reads E'\t' and others of one letter.
func (r *copyReader) escaped() (string, bool) {
	if r.at >= len(r.text) {
		return "", false
	}
	value, ok := map[string]string{`e'\t'`: "\t", `e'\\n'`: `\n`, `e'\\'`: `\`}[r.text[r.at]]
	if ok {
		r.at++
	}
	return value, ok
}

// single reads a literal of one byte.
func (r *copyReader) single(to *byte) bool {
	value, ok := r.value()
	if !ok || len(value) != 1 {
		return false
	}
	*to = value[0]
	return true
}

func (r *copyReader) header() bool {
	f := &r.out.format
	f.Header = true
	switch {
	case r.is(r.at, ",", ")"), r.take("true", "on", "1"):
		return true
	case r.take("match"):
		f.Match = true
		return true
	case r.take("false", "off", "0"):
		f.Header = false
		return true
	}
	return false
}

// oldOptions reads the words of COPY's older syntax.
func (r *copyReader) oldOptions() bool {
	f := &r.out.format
	for r.at < len(r.text) && !r.is(r.at, "where", ";") {
		word, ok := r.name()
		if !ok {
			return false
		}
		r.out.given[word] = true
		switch word {
		case "binary", "csv":
			f.Name = word
		case "header":
			f.Header = true
		case "delimiter", "delimiters":
			r.out.given["delimiter"] = true
			r.take("as")
			ok = r.single(&f.Delimiter)
		case "null":
			r.take("as")
			f.Null, ok = r.value()
		case "quote":
			r.take("as")
			ok = r.single(&f.Quote)
		case "escape":
			r.take("as")
			ok = r.single(&f.Escape)
		default:
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}

// condition notes WHERE and moves to the end.
func (r *copyReader) condition() bool {
	if r.is(r.at, "where") {
		r.out.where = true
		r.at = len(r.text)
	}
	return true
}

func (r *copyReader) end() bool {
	r.take(";")
	return r.at >= len(r.text)
}

// defaults fills in what the text leaves out.
func (r *copyReader) defaults() {
	f, given := &r.out.format, r.out.given
	if f.Name == "binary" {
		return
	}
	csv := f.Name == "csv"
	if !given["delimiter"] {
		f.Delimiter = '\t'
		if csv {
			f.Delimiter = ','
		}
	}
	if !given["null"] && !csv {
		f.Null = `\N`
	}
	if csv && !given["quote"] {
		f.Quote = '"'
	}
	if csv && !given["escape"] {
		f.Escape = f.Quote
	}
}
