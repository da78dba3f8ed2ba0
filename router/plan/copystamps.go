package plan

import (
	"fmt"
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// Stamp is a column that the rows of a COPY leave to a default that is one value for all of them.
type Stamp struct {
	Name string
	// Value is an expression for that value, as the rows' format has it: a text that is read alike under all settings, or, for binary, the hexadecimal
	// digits of its bytes.
	Value string
}

// stamp finds the columns that the rows of a COPY leave to such defaults; a refusal if their values cannot be put into the rows.
func (c *Copy) stamp(text *copyText) *Refusal {
	columns := text.columnsOf(c.table)
	for i := range c.table.relation.Columns {
		column := &c.table.relation.Columns[i]
		if !column.DefaultShared || slices.Contains(columns, column.Name) {
			continue
		}
		forced := slices.ContainsFunc([][]string{text.forceNull, text.forceNotNull, text.forceQuote}, func(list []string) bool {
			return slices.Contains(list, column.Name) || slices.Contains(list, "*")
		})
		if column.DefaultValue == "" || text.columns == nil || forced || text.format.Name == "binary" && sends[column.Type] == "" {
			return refuse("COPY into sharded table \""+c.table.name+"\" whose column "+column.Name+" gets a default that is one value for all rows", "Copy the column too.")
		}
		c.stamps.list = text.list
		c.stamps.columns = append(c.stamps.columns, column)
	}
	if len(c.stamps.columns) > 0 {
		c.rows = rowsOf(c.table, append(names(c.stamps.columns), columns...))
	}
	return nil
}

// sends are the functions that give the binary form of a type (pg_type.dat, typsend), with the type's name.
var sends = map[uint32]string{1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1266: "timetz"}

// names are those of columns.
func names(columns []*catalog.Column) (list []string) {
	for _, c := range columns {
		list = append(list, c.Name)
	}
	return list
}

// Stamps are the columns whose values each row needs in front of its own, one value for all rows: ask the home shard in the transaction.
func (c *Copy) Stamps() (list []Stamp) {
	if c == nil {
		return nil
	}
	for _, column := range c.stamps.columns {
		value := column.DefaultValue
		if c.Format.Name == "binary" {
			name := sends[column.Type]
			value = fmt.Sprintf("pg_catalog.encode(pg_catalog.%s_send((%s)::pg_catalog.%s), 'hex')", name, value, name)
		}
		list = append(list, Stamp{Name: column.Name, Value: value})
	}
	return list
}

// Text is what each shard is sent for the client's text: it names the columns of Stamps in front of the others.
func (c *Copy) Text(sql []byte) ([]byte, error) {
	if c == nil || len(c.stamps.columns) == 0 {
		return sql, nil
	}
	return parser.Splice(sql, []parser.Edit{c.stamps.edit()})
}
