package admin

import (
	"strings"

	"pgtier/proxy/wire"
)

func routeFactColumns() []Column {
	return []Column{{"item", Text}, {"value", Text}, {"reason", Text}}
}

// explainRoute says where a statement would go and why. The admin database is no database with tables, so the one that is
// meant stands in front of the statement, with a colon; where only one is served it may be left out.
func explainRoute(k *call) error {
	database, sql := named(behind(k.arg, 2))
	if strings.TrimSpace(sql) == "" {
		return wire.NewError(codeSyntax, "EXPLAIN ROUTE explains a statement", "EXPLAIN ROUTE SELECT 1, or EXPLAIN ROUTE app: SELECT 1.")
	}
	facts, err := k.view.Explain(k.ctx, database, sql)
	if err != nil {
		return err
	}
	for _, f := range facts {
		k.row(f.Item, f.Value, known(f.Reason))
	}
	return nil
}

// named cuts a name and a colon off the text's begin. No SQL statement begins so.
func named(text string) (name, rest string) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", ""
	}
	w, size := nextWord(text)
	if w.symbol || blank(text) > 0 {
		return "", text
	}
	after := strings.TrimLeft(text[size:], " \t\r\n")
	if !strings.HasPrefix(after, ":") || strings.HasPrefix(after, "::") {
		return "", text
	}
	return w.text, strings.TrimSpace(after[1:])
}
