package merge

import (
	"encoding/binary"
)

// arrayTypes are the arrays of types (typarray in src/include/catalog/pg_type.dat). Types that are missing cannot be handed back to a server.
var arrayTypes = map[uint32]uint32{
	oidBool: 1000, oidBytea: 1001, oidChar: 1002, oidName: 1003, oidInt2: 1005, oidInt4: 1007, oidText: 1009, oidBpchar: 1014, oidVarchar: 1015, oidInt8: 1016,
	oidFloat4: 1021, oidFloat8: 1022, oidOid: 1028, oidTimestamp: 1115, oidDate: 1182, oidTime: 1183, oidTimestamptz: 1185, oidInterval: 1187, oidNumeric: 1231,
	oidUUID: 2951, oidJSON: 199, oidJSONB: 3807, oidMoney: 791, oidTimetz: 1270, oidInet: 1041, oidCidr: 651, oidMacaddr: 1040, oidBit: 1561, oidVarbit: 1563,
}

// OIDs of types of which a merge knows no more than that.
const (
	oidJSON    = 114
	oidCidr    = 650
	oidMoney   = 790
	oidMacaddr = 829
	oidInet    = 869
	oidTimetz  = 1266
	oidBit     = 1560
	oidVarbit  = 1562
	oidJSONB   = 3802
)

// encoded reports whether values of a type are in client_encoding, in binary too.
func encoded(oid uint32) bool {
	switch oid {
	case oidText, oidVarchar, oidBpchar, oidName, oidChar, oidJSON, oidJSONB:
		return true
	}
	return false
}

// Arrays gather the rows of a merge as parameters for a query that works on them: for each column an array of its values in the binary format, which no
// setting changes. They are for one goroutine.
type Arrays struct {
	fields       []Field
	types        []uint32
	columns      [][]byte // elements, each behind its length
	nulls        []bool
	values       [][]byte // of a row
	rows         uint32
	used, memory int64
}

// copies is how often a row stands in memory until it is sent: in a group, in Arrays, among their Values and in the message of these.
const copies = 4

// NewArrays makes Arrays for rows with these columns, all in binary. An error of code 0A000 names the type that cannot be handed back to a server.
func NewArrays(fields []Field, config Config) (*Arrays, error) {
	a := &Arrays{fields: fields, columns: make([][]byte, len(fields)), nulls: make([]bool, len(fields)), values: make([][]byte, len(fields)), memory: config.Memory}
	if a.memory == 0 {
		a.memory = DefaultMemory
	}
	for i, f := range fields {
		array, known := arrayTypes[f.OID]
		switch {
		case f.Format != formatBinary:
			return nil, internal("column %d of an array in text", i+1)
		case !known:
			return nil, refuse("value of type "+typeName(f.OID)+" beside expressions over aggregates", "How it is handed back to a server is not known to the proxy.",
				hintRefused)
		case config.Settings.Foreign && encoded(f.OID):
			return nil, refuse("value of type "+typeName(f.OID)+" beside expressions over aggregates in another encoding than the database's",
				"A server may not get back what it has sent.", "SET client_encoding to what SHOW server_encoding tells.")
		}
		a.types = append(a.types, array)
	}
	return a, nil
}

// Add adds the body of a DataRow.
func (a *Arrays) Add(row []byte) error {
	if err := split(row, a.values); err != nil {
		return err
	}
	if a.used += copies * int64(len(row)); a.used > a.memory {
		return outOfMemory("groups", a.memory)
	}
	for i, value := range a.values {
		a.nulls[i] = a.nulls[i] || value == nil
		a.columns[i] = appendValue(a.columns[i], value)
	}
	a.rows++
	return nil
}

// Types are the types of the parameters, by column.
func (a *Arrays) Types() []uint32 { return a.types }

// Values are the parameters in binary (array_recv in src/backend/utils/adt/arrayfuncs.c), by column.
func (a *Arrays) Values() [][]byte {
	out := make([][]byte, len(a.columns))
	for i, elements := range a.columns {
		dimensions, flags := uint32(1), uint32(0)
		if a.rows == 0 {
			dimensions = 0
		}
		if a.nulls[i] {
			flags = 1
		}
		value := make([]byte, 0, 20+len(elements))
		for _, n := range []uint32{dimensions, flags, a.fields[i].OID} {
			value = binary.BigEndian.AppendUint32(value, n)
		}
		if a.rows > 0 {
			value = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(value, a.rows), 1)
		}
		out[i] = append(value, elements...)
	}
	return out
}
