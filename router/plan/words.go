package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// words are the tokens of a statement: names and keywords in lower case, quoted names without their quotes and folded no more.
type words struct {
	text []string
	// quoted are those of quoted names.
	quoted []bool
}

// wordsOf cuts a statement into its tokens.
func wordsOf(sql []byte) (w words) {
	for _, t := range parser.Tokens(sql, nil) {
		text := string(sql[t.Start:t.End])
		quoted := text[0] == '"'
		switch {
		case quoted && len(text) > 1:
			text = strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
		case text[0] != '\'' && text[0] != '$':
			text = strings.ToLower(text)
		}
		w.text = append(w.text, text)
		w.quoted = append(w.quoted, quoted)
	}
	return w
}

// is says whether the i-th token is one of these words, unquoted.
func (w *words) is(i int, list ...string) bool {
	return i >= 0 && i < len(w.text) && !w.quoted[i] && slices.Contains(list, w.text[i])
}

// begins says whether the statement begins with these words.
func (w *words) begins(list ...string) bool {
	for i, word := range list {
		if !w.is(i, word) {
			return false
		}
	}
	return true
}

// has says whether a word stands anywhere.
func (w *words) has(list ...string) bool {
	for i := range w.text {
		if w.is(i, list...) {
			return true
		}
	}
	return false
}

// names says whether a name stands anywhere, quoted or not.
func (w *words) names(name string) bool { return slices.Contains(w.text, name) }
