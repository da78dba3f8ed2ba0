package parser

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// stateful are the words that begin a statement which may leave state behind, or runs code which may. Some are judged by what follows.
var stateful = map[string]bool{
	"set": true, "reset": true, "discard": true, "prepare": true, "execute": true, "deallocate": true, "listen": true,
	"unlisten": true, "load": true, "do": true, "call": true, "declare": true,
}

// wordReader judges code that has no tree by its words: the body of a DO block, or a text that the grammar rejects.
type wordReader struct {
	c     *Command
	text  []byte
	where string // closes the reason of a pin, such as " in DO"
	// body: plpgsql, where words such as THEN begin a statement too, and EXECUTE anywhere runs text.
	body bool
}

// read looks at every token with its neighbours.
func (r *wordReader) read() {
	l := lexer{src: r.text}
	before, schema := token{}, token{}
	first := true
	t := l.nextCode()
	for t.kind != tokenEnd {
		next := l.nextCode()
		if t.kind == tokenBad && r.body {
			r.c.pin("code that cannot be read" + r.where)
			r.c.hidesSettings()
		}
		if isName(t) {
			r.word(t, before, schema, next, first)
		}
		first = r.beginsAfter(t)
		if t.kind == tokenSelf && r.text[t.start] == '.' {
			schema = before
		} else {
			schema = token{}
		}
		before, t = t, next
	}
}

// beginsAfter says whether a statement may begin behind t.
func (r *wordReader) beginsAfter(t token) bool {
	switch t.kind {
	case tokenSelf:
		return r.text[t.start] == ';'
	case tokenOperator:
		return r.body && string(r.text[t.start:t.end]) == ">>"
	case tokenIdent:
		if !r.body {
			return false
		}
		switch strings.ToLower(string(r.text[t.start:t.end])) {
		case "begin", "then", "else", "loop", "declare":
			return true
		}
	}
	return false
}

// word judges a name by itself, its position and its neighbours.
func (r *wordReader) word(t, before, schema, next token, first bool) {
	name := r.fold(t)
	nextWord := r.fold(next)
	if first && t.kind == tokenIdent {
		r.begins(name, nextWord)
	}
	if t.kind == tokenIdent {
		switch {
		case name == "temp", name == "temporary":
			r.c.pin(strings.ToUpper(name) + r.where)
		case name == "execute" && r.body:
			r.c.Effects |= RunsOpaqueCode
			r.c.pin("EXECUTE" + r.where)
			r.c.hidesSettings()
		case name == "hold" && r.fold(before) == "with":
			r.c.pin("WITH HOLD" + r.where)
		case name == "pg_settings" && r.fold(before) == "update":
			r.c.pin("UPDATE pg_settings" + r.where)
		}
	}
	r.setting(name, r.fold(before))
	if isTempSchema([]byte(name)) || t.kind == tokenUnicode {
		r.c.pin(pinTempSchema + r.where)
	}
	switch r.fold(before) {
	case "from", "join", "into", "update", "only", "table", "using", ".":
		r.c.Relations = appendNew(r.c.Relations, name)
	}
	if next.kind == tokenSelf && r.text[next.start] == '(' {
		r.call(r.fold(schema), name)
	}
}

// call judges name followed by a parenthesis, which may be a call.
func (r *wordReader) call(schema, name string) {
	if name == "set_config" {
		r.c.hidesSettings()
	}
	old := r.c.Pin
	r.c.called(schema, name)
	if old == "" && r.c.Pin != "" {
		r.c.Pin += r.where
	}
	if _, slot := makesSlot(name); slot || name == "set_config" {
		r.c.pin(callPin(name) + r.where)
	}
	if r.body && r.c.Effects&ReadsSequenceState != 0 {
		r.c.pin(callPin(name) + r.where)
	}
}

// setting judges a name that may be part of SET or RESET, which may stand anywhere. UPDATE … SET a = DEFAULT looks the same.
func (r *wordReader) setting(name, before string) {
	switch name {
	case "reset", "discard":
		r.c.RestoresAny = true
	case "default":
		switch before {
		case "to", "=", "zone", "authorization", "names": // SET TIME ZONE DEFAULT and its kind
			r.c.RestoresAny = true
		}
	case "local":
		r.c.LocalsAny = true
		r.c.RestoresAny = r.c.RestoresAny || before == "zone"
	case "pg_settings":
		r.c.RestoresAny = true // an UPDATE of it is set_config()
	}
}

// begins judges the first words of a statement.
func (r *wordReader) begins(name, next string) {
	switch {
	case name == "set" && (next == "local" || next == "constraints" || next == "transaction"):
	case name == "declare" && r.body: // variables
	case name == "create" && (next == "local" || next == "global"): // CREATE LOCAL TEMP
		r.c.pin("CREATE " + strings.ToUpper(next) + r.where)
	case stateful[name]:
		r.c.pin(strings.ToUpper(name) + r.where)
	}
	switch name {
	case "insert", "update", "delete", "merge", "copy", "truncate":
		r.c.Effects |= Writes | AdvancesSequence
	case "create", "alter", "drop", "grant", "revoke", "comment":
		r.c.Effects |= DDL
	case "commit", "rollback", "begin", "start", "savepoint", "release", "end", "abort":
		if !r.body {
			r.c.Effects |= TransactionControl
		}
	}
}

// fold is a name as the server folds it, or a token's own text.
func (r *wordReader) fold(t token) string {
	text := string(r.text[t.start:t.end])
	switch t.kind {
	case tokenIdent:
		return strings.ToLower(text)
	case tokenQuoted:
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
	}
	return text
}

// guess reads a text that the grammar rejects. The server will probably reject it as well; if it is of a
// newer version it may not, so that whatever could make state pins.
func guess(src []byte) []Command {
	c := Command{Effects: Writes | AdvancesSequence, Incomplete: true}
	r := wordReader{c: &c, text: src, where: " in a statement that the parser does not know"}
	r.read()
	return []Command{c}
}

// changing are the words that begin statements which change the catalog, or truncate.
var changing = []string{"create", "alter", "drop", "grant", "revoke", "comment", "security", "reassign", "import", "truncate"}

// glance looks for changes of the catalog, TRUNCATE among them, in a text that is too large to be looked into: such a text has no Commands. It goes by the words
// that begin statements, and by the INTO of SELECT.
func glance(src []byte) Effects {
	l := lexer{src: src}
	first, before := true, token{}
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		begins := first && slices.ContainsFunc(changing, func(word string) bool { return isWord(src, t, word) })
		if begins || isWord(src, t, "into") && !isWord(src, before, "insert") && !isWord(src, before, "merge") {
			return DDL | TransactionControl // which may stand before it
		}
		first, before = t.kind == tokenSelf && src[t.start] == ';', t
	}
	return 0
}

// do reads DO: the body's words tell what it may do.
func (c *Command) do(s *pg.DoStmt) {
	c.Kind = Do
	c.Effects |= RunsOpaqueCode | Writes | AdvancesSequence
	body, language := "", "plpgsql"
	for _, arg := range s.Args {
		switch d := arg.GetDefElem(); d.GetDefname() {
		case "as":
			body = defString(d)
		case "language":
			language = defString(d)
		}
	}
	if language != "plpgsql" {
		c.pin("DO in language " + language)
		c.hidesSettings()
		return
	}
	r := wordReader{c: c, text: []byte(body), where: " in DO", body: true}
	r.read()
}

// defString is the string of an option, "" if it is none.
func defString(d *pg.DefElem) string { return d.GetArg().GetString_().GetSval() }
