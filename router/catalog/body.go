package catalog

import "strings"

// facts are what a function's body tells about the function.
type facts struct {
	// why the body itself is risky; "" if only what it names may be.
	why string
	// names are all words of the body, those in literals included: functions and relations that it may use are among them.
	names map[string]struct{}
	// calls are the functions that it calls by name, but for current_setting of a setting that is the same everywhere.
	calls map[string]struct{}
	// local is why its answer depends on the server, "" if only what it names may.
	local string
	// blind: what it writes cannot be seen.
	blind bool
	// changes: it has a statement that changes the catalog. Unlike schema, it does not look into literals and at names.
	changes bool
	// truncates: it may empty tables.
	truncates bool
	// writes: it may write rows, so triggers and defaults of the relations it names count.
	writes bool
	// schema: it may change the catalog, so event triggers count.
	schema bool
	// locks: it may lock rows or tables.
	locks bool
	// turnsDown: as a trigger it may return NULL, which keeps a row from being changed.
	turnsDown bool
}

// bodyScanner reads one body.
type bodyScanner struct {
	risks risks
	facts facts
}

// scanBody reads the body of a function in SQL or, if procedural, in plpgsql.
func scanBody(r risks, body string, procedural bool) facts {
	s := bodyScanner{risks: r, facts: facts{names: map[string]struct{}{}, calls: map[string]struct{}{}}}
	s.code(tokens(body), procedural, 0)
	return s.facts
}

func (s *bodyScanner) risky(why string) {
	if s.facts.why == "" {
		s.facts.why = why
	}
}

// blind is risky for what may also write unseen.
func (s *bodyScanner) blind(why string) {
	s.facts.blind = true
	s.risky(why)
}

// maxNesting bounds literals executed within executed literals. Nobody writes more than two.
const maxNesting = 4

// code judges every token with its neighbours.
func (s *bodyScanner) code(list []token, procedural bool, depth int) {
	if depth > maxNesting {
		s.blind("EXECUTE nested too deep")
		return
	}
	at := func(i int) token {
		if i < 0 || i >= len(list) {
			return token{}
		}
		return list[i]
	}
	for i, t := range list {
		switch t.kind {
		case tokenBad:
			s.blind("a body that cannot be read")
		case tokenLiteral, tokenEscaped:
			s.literal(t.text)
			if at(i - 1).is("do") {
				s.code(tokens(t.text), true, depth+1)
			}
		case tokenQuoted:
			s.name(t.text, at(i-1), list[i:])
		case tokenWord:
			s.name(t.text, at(i-1), list[i:])
			s.word(t.text, at(i-3), at(i-2), at(i-1), list[i:])
			if begins(list, i, procedural) {
				s.begins(t.text, at(i+1), at(i+2))
			}
			if t.text == "into" && !procedural { // SELECT INTO makes a table
				s.facts.schema = true
				s.facts.changes = s.facts.changes || !at(i-1).is("insert", "merge")
			}
			if t.text == "execute" {
				s.execute(list[i+1:], procedural, depth)
			}
		}
	}
}

// name notes a name and judges it if it is a function's that touches the session. rest begins with it.
func (s *bodyScanner) name(name string, before token, rest []token) {
	s.facts.names[name] = struct{}{}
	if len(rest) > 1 && rest[1].is("(") && !asksCarried(name, rest) || before.is(".") {
		s.facts.calls[name] = struct{}{}
	}
	if s.risks.word(name) && !(name == "set_config" && setsLocally(rest)) {
		s.risky(name)
	}
}

// literal notes the words of a literal: it may be executed somewhere, or name something.
func (s *bodyScanner) literal(text string) {
	for i := 0; i < len(text); {
		if !startsWord(text[i]) {
			i++
			continue
		}
		end := wordEnd(text, i)
		word := fold(text[i:end])
		s.facts.names[word] = struct{}{}
		if s.risks.word(word) {
			s.risky(word + " in a literal")
		}
		s.kind(word)
		i = end
	}
}

// kind notes that a word may begin a statement which writes or changes the catalog.
func (s *bodyScanner) kind(word string) {
	s.facts.truncates = s.facts.truncates || word == "truncate"
	switch word {
	case "insert", "update", "delete", "merge", "copy", "truncate", "refresh", "vacuum", "analyze", "cluster", "reindex":
		s.facts.writes = true
	}
	switch word {
	case "create", "alter", "drop", "comment", "grant", "revoke", "refresh", "reindex", "security", "import":
		s.facts.schema = true
		s.facts.writes = true // ALTER TABLE evaluates defaults and checks
	}
}

// word judges an unquoted word by its neighbours; rest begins with it.
func (s *bodyScanner) word(word string, before3, before2, before token, rest []token) {
	s.kind(word)
	after := token{}
	if len(rest) > 1 {
		after = rest[1]
	}
	switch word {
	case "temp", "temporary":
		if (before.is("create", "replace", "local", "global", "into") || after.is("table", "view", "sequence", "recursive")) &&
			!dropsOnCommit(rest) {
			s.risky("CREATE TEMP")
		}
	case "hold":
		if before.is("with") {
			s.risky("WITH HOLD")
		}
	case "pg_settings":
		if before.is("update", "only") || before2.is("update", "only") || before3.is("update", "only") {
			s.risky("UPDATE pg_settings") // a rule turns it into set_config()
		}
	case "for":
		s.facts.locks = s.facts.locks || after.is("update", "share", "no", "key")
	case "lock":
		s.facts.locks = true
	case "null":
		s.facts.turnsDown = s.facts.turnsDown || before.is("return", "=")
	case "do":
		if after.is("language") {
			s.blind("DO LANGUAGE")
		}
	}
}

// begins says whether a statement may begin with list[i].
func begins(list []token, i int, procedural bool) bool {
	if i == 0 {
		return true
	}
	before := list[i-1]
	if before.is(";") {
		return true
	}
	return procedural && (before.is("begin", "then", "else", "loop", "declare") || before.is(">") && i > 1 && list[i-2].is(">"))
}

// begins judges the first words of a statement.
func (s *bodyScanner) begins(word string, second, third token) {
	switch word {
	case "set", "reset", "discard", "listen", "unlisten", "prepare", "deallocate", "load":
	case "create", "alter", "drop", "comment", "grant", "revoke", "refresh", "reindex", "security", "import", "vacuum", "analyze", "cluster", "reassign":
		s.facts.changes = s.facts.changes || startsDDL(token{text: word}, second)
		return
	case "show", "explain":
		s.facts.local = strings.ToUpper(word)
		return
	default:
		return
	}
	switch {
	case second.is("=", ".", "["), second.is(":") && third.is("="):
		// an assignment to a variable of that name
	case word == "set" && second.is("local", "transaction", "constraints"):
		if third.is("seed") { // the random generator does not roll back
			s.risky("SET seed")
		}
	default:
		s.risky(strings.ToUpper(word))
	}
}

// startsDDL says whether a statement that begins with these two words changes the catalog. The first may be the name of a variable.
func startsDDL(first, second token) bool {
	switch {
	case second.is("=", ".", "[", ":"):
		return false
	case first.is("comment"):
		return second.is("on")
	case first.is("security"):
		return second.is("label")
	case first.is("import"):
		return second.is("foreign")
	case first.is("refresh"):
		return second.is("materialized")
	}
	return true
}

// execute judges what follows the word EXECUTE. Text that is wholly in the body is read like the body; of format() only
// quoted literals (%L) are let through, because any other argument may spell a statement or a function's name.
func (s *bodyScanner) execute(rest []token, procedural bool, depth int) {
	at := func(i int) token {
		if i < len(rest) {
			return rest[i]
		}
		return token{kind: tokenSymbol, text: ";"}
	}
	switch {
	case at(0).is("on") && !at(1).is(";"): // GRANT EXECUTE ON
		return
	case at(0).is("function", "procedure") && at(2).is("(", "."): // CREATE TRIGGER … EXECUTE FUNCTION name()
		return
	case !procedural:
		s.blind("EXECUTE")
		return
	case at(0).kind == tokenLiteral && ends(at(1)):
		s.code(tokens(at(0).text), false, depth+1)
		return
	case at(0).is("format") && at(1).is("(") && at(2).kind == tokenLiteral && ends(at(closing(rest, 1)+1)) && onlyLiterals(at(2).text):
		s.code(tokens(strings.ReplaceAll(at(2).text, "%L", "''")), false, depth+1)
		return
	}
	s.blind("EXECUTE of computed text")
}

// ends says whether t ends the text of EXECUTE.
func ends(t token) bool { return t.is(";", "into", "using", "loop") }

// closing is the index of the parenthesis that closes the one at open, or the list's length.
func closing(list []token, open int) int {
	depth := 0
	for i := open; i < len(list); i++ {
		if list[i].is("(") {
			depth++
		} else if list[i].is(")") {
			depth--
			if depth == 0 {
				return i
			}
		}
	}
	return len(list)
}

// onlyLiterals says whether the only placeholders of a format() text are %L, each apart from any word and quote.
func onlyLiterals(format string) bool {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		if i+1 >= len(format) || format[i+1] != 'L' {
			return false
		}
		if i > 0 && glues(format[i-1]) || i+2 < len(format) && glues(format[i+2]) {
			return false
		}
		i++
	}
	return true
}

func glues(c byte) bool { return continuesWord(c) || c == '\'' || c == '"' || c == '&' }

// setsLocally says whether the call of set_config at list[0] has a literal true as its third argument.
func setsLocally(list []token) bool {
	if len(list) < 2 || !list[1].is("(") {
		return false
	}
	end := closing(list, 1)
	depth, commas, third := 0, 0, 0
	for i := 2; i < end; i++ {
		switch {
		case list[i].is("(", "["):
			depth++
		case list[i].is(")", "]"):
			depth--
		case depth == 0 && list[i].is(","):
			commas++
			third = i + 1
		}
	}
	if commas != 2 || end >= len(list) || strings.EqualFold(list[2].text, "seed") {
		return false
	}
	value := list[third:end]
	if len(value) > 3 && value[1].is(":") && value[2].is(":") { // true::boolean
		value = value[:1]
	}
	return len(value) == 1 && (value[0].is("true") || value[0].kind == tokenLiteral && strings.EqualFold(value[0].text, "true"))
}

// dropsOnCommit says whether the statement has ON COMMIT DROP.
func dropsOnCommit(list []token) bool {
	for i := 0; i+2 < len(list) && !list[i].is(";"); i++ {
		if list[i].is("on") && list[i+1].is("commit") && list[i+2].is("drop") {
			return true
		}
	}
	return false
}

// asksCarried says whether rest begins with current_setting of a literal name of which every server has the same value.
func asksCarried(name string, rest []token) bool {
	return name == "current_setting" && len(rest) > 3 && rest[2].kind == tokenLiteral && rest[3].is(")", ",", ":") && carried(rest[2].text)
}
