package catalog

import "strings"

// QualifiedName is "schema.name", which SplitName takes apart again. A schema that has a dot or a quote in its own name stands in quotes.
func QualifiedName(schema, name string) string {
	if strings.ContainsAny(schema, `."`) {
		schema = `"` + strings.ReplaceAll(schema, `"`, `""`) + `"`
	}
	return schema + "." + name
}

// SplitName returns schema and name of a QualifiedName.
func SplitName(qualified string) (schema, name string) {
	if !strings.HasPrefix(qualified, `"`) {
		schema, name, _ = strings.Cut(qualified, ".")
		return schema, name
	}
	var s strings.Builder
	for i := 1; i < len(qualified); i++ {
		if qualified[i] != '"' {
			s.WriteByte(qualified[i])
			continue
		}
		if i++; i >= len(qualified) || qualified[i] != '"' {
			return s.String(), strings.TrimPrefix(qualified[i:], ".")
		}
		s.WriteByte('"')
	}
	return "", qualified // no QualifiedName
}
