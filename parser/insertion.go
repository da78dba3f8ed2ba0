package parser

import (
	"unsafe"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// insertion reads what an INSERT inserts, nil if that is no VALUES, or too much.
func (w *walker) insertion(s *pg.InsertStmt) *Insertion {
	values := s.SelectStmt.GetSelectStmt()
	if values == nil || !isPlainValues(values) || w.text.shortened {
		return nil
	}
	in := &Insertion{Overriding: overrides(s.Override)}
	for _, n := range s.Cols {
		t := n.GetResTarget()
		if len(t.GetIndirection()) > 0 { // a part of a column
			return nil
		}
		in.Columns = append(in.Columns, t.GetName())
	}
	count := 0
	for _, n := range values.ValuesLists {
		items := n.GetList().GetItems()
		if count += len(items); count > maxInserted {
			return nil
		}
		row := make([]Value, 0, len(items))
		for _, item := range items {
			v, ok := w.constant(item)
			if !ok {
				v = Value{Literal: -1}
			}
			row = append(row, v)
		}
		in.Rows = append(in.Rows, row)
	}
	return in
}

// bytes estimates the memory of the values.
func (in *Insertion) bytes() (n int64) {
	if in == nil {
		return 0
	}
	n = int64(unsafe.Sizeof(*in))
	for _, c := range in.Columns {
		n += int64(unsafe.Sizeof(c)) + int64(len(c))
	}
	for _, row := range in.Rows {
		n += int64(unsafe.Sizeof(row))
		for _, v := range row {
			n += v.bytes()
		}
	}
	return n
}
