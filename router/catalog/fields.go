package catalog

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// statementFields finds the functions of fields, a map such as evidence.fields, that column notation in the text may call. Instead of them it may
// return the reading of a text that cannot be searched. The commands say which names stand behind a point, the text before it whether that is a table's
// column: u.age calls no function that takes a number.
func statementFields(st *parser.Statement, fields map[string]bool) ([]string, *Reading) {
	var found []string
	for i := range st.Commands {
		c := &st.Commands[i]
		found = append(found, commandFields(c, fields)...)
		if c.Explained != nil {
			found = append(found, commandFields(c.Explained, fields)...)
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	if st.Template == "" {
		return nil, readingLong
	}
	bad := false
	found = slices.DeleteFunc(found, func(name string) bool {
		called, certain := calledBehindPoint(st.Template, name, fields[name])
		bad = bad || !certain
		return !called
	})
	if bad {
		return nil, readingField
	}
	return found, nil
}

// calledBehindPoint says whether the text has .name where that may call a function; row says that a table's name may stand before it. What only the
// server should read is not certain.
func calledBehindPoint(text, name string, row bool) (called, certain bool) {
	for i := 0; ; {
		dot := strings.IndexByte(text[i:], '.')
		if dot < 0 {
			return false, true
		}
		dot += i
		i = dot + 1
		found, certain := nameAt(text, i)
		if !certain {
			return false, false
		}
		if found == name && (row || !followsName(text, dot)) {
			return true, true
		}
	}
}

// commandFields does the same for a command without its text. It takes any name behind a point for a function's, if there is one.
func commandFields(c *parser.Command, fields map[string]bool) []string {
	var found []string
	for _, name := range c.Attributes {
		if _, ok := fields[name]; ok {
			found = append(found, name)
		}
	}
	return found
}
