package plan

import (
	"strings"

	"pgtier/parser"
)

// Unkept is why an answer must not be kept that depends on rows of the tables, "schema.name" each: "" if it may.
func (s *Schema) Unkept(tables []string) string {
	for _, name := range tables {
		if strings.HasPrefix(name, ownSchema) {
			return "reads " + name + ", which pgtier itself writes"
		}
		switch t := s.byName(name); {
		case t == nil:
			return "reads " + name + ", which is not in the catalog that shards are planned by"
		case t.place != placeSharded && t.place != placeHome && t.place != placeReference:
			return "reads " + name + ", and where its rows are is not certain"
		}
	}
	return ""
}

// UnkeptStatement is why the answer of a statement is not kept because of the tables that it reads; "" if it may be.
func (s *Schema) UnkeptStatement(st *parser.Statement) string {
	return s.Unkept(s.catalog.Keeping(st).Tables)
}

// ownSchema begins the names of what pgtier keeps in the databases.
const ownSchema = "pgtier."

// References appends those of the tables of which each member has a copy.
func (s *Schema) References(dst, tables []string) []string {
	for _, name := range tables {
		if t := s.byName(name); t != nil && t.place == placeReference {
			dst = append(dst, name)
		}
	}
	return dst
}
