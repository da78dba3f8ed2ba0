package catalog

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// changes is the reason why the answer of f itself may change without a write, "" if only what it names may.
func (g *graph) changes(f *function) string {
	switch {
	case f.volatility == 'v':
		return "declared volatile"
	case g.answers.values[node{inFunction, f.oid}]:
		return "takes or returns values that are read or printed by names of the catalogs, or by the clock"
	}
	switch f.language {
	case "sql", "plpgsql":
		return g.answers.body(f)
	case "aggregate", "internal":
		return "" // what they call counts
	}
	if f.volatility != 'i' && !(f.language == "c" && f.owner != 0 && matches(keptExtensions, f.name)) {
		return "stable code of language " + f.language + " that cannot be looked into"
	}
	return ""
}

// body judges a body by its words. That one which is declared immutable does not read dates from text is left to its author.
func (a *answers) body(f *function) string {
	list := tokens(f.body)
	if why := a.code(list, f, 0); why != "" {
		return why
	}
	n := node{inFunction, f.oid}
	if f.language == "plpgsql" && f.volatility != 'i' && (a.datedFunctions[n] || a.declaresDate(list)) {
		return "its variables: " + readsDate
	}
	if asksZone(list) && (a.timed[n] || a.namesTime(list)) {
		return "AT TIME ZONE of a time, by the offset of today"
	}
	return ""
}

// clockWords are words of bodies that give an answer which no catalog and no row decides.
const clockWords = `current_date current_time current_timestamp localtime localtimestamp session_user current_schema tablesample xmltable json_table json_value json_query`

func (a *answers) code(list []token, f *function, depth int) string {
	at := func(i int) token {
		if i < 0 || i >= len(list) {
			return token{}
		}
		return list[i]
	}
	for i, t := range list {
		switch t.kind {
		case tokenBad:
			return "a body that cannot be read"
		case tokenLiteral, tokenEscaped:
			if why := a.literal(t, at(i-1), f, depth); why != "" {
				return why
			}
		case tokenWord, tokenQuoted:
			switch {
			case t.kind == tokenWord && matches(clockWords, t.text):
				return strings.ToUpper(t.text)
			case matches(systemColumns, t.text):
				return "how rows are stored: " + t.text
			case a.named[t.text], t.is("time") && withZone(list[i:]):
				return "type " + t.text + ", of values that are read or printed by names of the catalogs, or by the clock"
			case f.volatility != 'i' && f.language == "sql" && a.convertsDate(list, i):
				return readsDate
			}
		}
	}
	return ""
}

// literal judges a literal behind another token.
func (a *answers) literal(t, before token, f *function, depth int) string {
	text := t.text
	if before.kind == tokenLiteral || before.kind == tokenEscaped { // they may be one
		text = before.text + text
	}
	switch {
	case parser.TimeWord([]byte(text)):
		return "a literal that may say now"
	case t.kind == tokenEscaped && (strings.Contains(text, `\x`) || strings.Contains(text, `\u`) || strings.Contains(text, `\U`) || strings.ContainsAny(text, "01234567")):
		return "a literal with escapes that may say now"
	}
	for _, word := range strings.FieldsFunc(text, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') }) {
		if word = strings.ToLower(word); matches(clockWords, word) || matches(systemColumns, word) || matches(loginSettings, word) || a.named[word] {
			return word + " in a literal"
		}
	}
	if before.is("execute") && depth < maxNesting {
		return a.code(tokens(t.text), f, depth+1)
	}
	return ""
}

// withZone says whether list, which begins with the word time, goes on WITH TIME ZONE.
func withZone(list []token) bool {
	i := 1
	if len(list) > 1 && list[1].is("(") {
		i = closing(list, 1) + 1
	}
	return i < len(list) && list[i].is("with")
}

// convertsDate says whether list[i] is a type that a value, not a literal, is converted to: x::date, CAST(x AS date), date(x).
func (a *answers) convertsDate(list []token, i int) bool {
	scalar, ok := a.dated[list[i].text]
	if !ok {
		return false
	}
	at := func(i int) token {
		if i < 0 || i >= len(list) {
			return token{}
		}
		return list[i]
	}
	if at(i+1).is("(") && scalar {
		return true
	}
	from := i - 1
	if at(from).is(".") {
		if at(from - 1).is(")") { // (x).date
			return true
		}
		from -= 2
	}
	switch {
	case at(from).is(":"):
		from -= 2
	case at(from).is("as") && at(i+1).is(")", "[", "(", "array", "with", "without"):
		from--
	default:
		return false
	}
	return at(from).kind != tokenLiteral
}

// declaresDate says whether a body in plpgsql may have variables of dated types.
func (a *answers) declaresDate(list []token) bool {
	declares := false
	for i, t := range list {
		switch {
		case t.is("declare"):
			declares = true
		case t.is("begin"):
			declares = false
		case t.is("type", "rowtype") && i > 0 && list[i-1].is("%"):
			return true
		}
		if t.kind != tokenWord && t.kind != tokenQuoted {
			continue
		}
		if scalar, ok := a.dated[t.text]; ok && (scalar || declares) {
			return true
		}
	}
	return false
}

// asksZone says whether a body has AT TIME ZONE.
func asksZone(list []token) bool {
	for i := 2; i < len(list); i++ {
		if list[i].is("zone") && list[i-1].is("time") && list[i-2].is("at") {
			return true
		}
	}
	return false
}

// namesTime says whether a body names type time, or something that has values of it.
func (a *answers) namesTime(list []token) bool {
	return slices.ContainsFunc(list, func(t token) bool {
		return (t.kind == tokenWord || t.kind == tokenQuoted) && (a.timedNames[t.text] || t.text == "make_time")
	}) || slices.ContainsFunc(indexes(list, "time"), func(i int) bool { return i+1 >= len(list) || !list[i+1].is("zone") })
}

// indexes are the places of a word.
func indexes(list []token, word string) (places []int) {
	for i, t := range list {
		if t.is(word) {
			places = append(places, i)
		}
	}
	return places
}
