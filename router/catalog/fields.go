package catalog

import (
	"strings"

	"pgtier/parser"
)

// statementFields finds the functions of evidence.fields that column notation in the text may call. Instead of them it may
// return the reading of a text that cannot be searched.
func (e *evidence) statementFields(st *parser.Statement) ([]string, *Reading) {
	if len(e.fields) == 0 {
		return nil, nil
	}
	text := st.Template
	if text == "" {
		return nil, readingLong
	}
	var found []string
	for i := 0; ; {
		dot := strings.IndexByte(text[i:], '.')
		if dot < 0 {
			return found, nil
		}
		dot += i
		i = dot + 1
		name, certain := nameAt(text, i)
		if !certain {
			return nil, readingField
		}
		if row, ok := e.fields[name]; ok && (row || !followsName(text, dot)) {
			found = append(found, name)
		}
	}
}

// findDoubtful fills doubtful.
func (e *evidence) findDoubtful() {
	for name := range e.fields {
		for _, m := range e.functions[name] {
			_, local := e.local[m.node]
			_, unproved := e.unproved[m.node]
			if m.schema != "pg_catalog" && (local || unproved) && (e.doubtful == "" || name < e.doubtful) {
				e.doubtful = name
			}
		}
	}
	if e.doubtful != "" {
		e.doubtful = "may call " + e.doubtful + "() in column notation"
	}
}
