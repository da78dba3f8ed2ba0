package merge

import (
	"fmt"
	"slices"
	"testing"
)

// TestArraysGiveAServerItsValuesBack hands values of every type back to the server that has sent them.
func TestArraysGiveAServerItsValuesBack(t *testing.T) {
	conn := dial(t)
	examples := map[uint32]string{
		oidBool: "true", oidBytea: `'\x00ff'`, oidChar: "'c'", oidName: "'a name'", oidInt2: "-7", oidInt4: "7", oidText: "'größe'", oidBpchar: "'ab '", oidVarchar: "''",
		oidInt8: "9007199254740993", oidFloat4: "0.1", oidFloat8: "0.1", oidOid: "3000000000", oidTimestamp: "'2024-01-01 00:00:00.000001'", oidDate: "'infinity'",
		oidTime: "'24:00'", oidTimestamptz: "'2024-10-27 02:30+01'", oidInterval: "'1 mon -3 days 4.5 sec'", oidNumeric: "1.500", oidUUID: "'0d2a1f04-3c2b-4c8e-9d61-0e6a3f7b9c21'",
		oidJSON: `'{"a":  1, "a": 2}'`, oidJSONB: `'{"a": 1}'`, oidMoney: "12.34", oidTimetz: "'12:00+02'", oidInet: "'10.0.0.1/8'", oidCidr: "'10.0.0.0/8'",
		oidMacaddr: "'08:00:2b:01:02:03'", oidBit: "B'1'", oidVarbit: "B'10110'",
	}
	for oid, array := range arrayTypes {
		name, err := rows(t, conn, fmt.Sprintf("SELECT typname, typarray FROM pg_type WHERE oid = %d", oid), nil)
		if err != nil || len(name) != 1 {
			t.Fatal(oid, name, err)
		}
		values := make([][]byte, 2)
		if err := split(name[0], values); err != nil {
			t.Fatal(err)
		}
		if string(values[1]) != fmt.Sprint(array) {
			t.Errorf("%s: got array type %d, want %s", values[0], array, values[1])
		}
		typ := "pg_catalog.\"" + string(values[0]) + "\""
		for _, list := range [][]string{nil, {examples[oid]}, {"NULL"}, {examples[oid], "NULL", examples[oid]}} {
			sql := "SELECT NULL::" + typ + " WHERE false"
			for _, v := range list {
				sql += " UNION ALL SELECT " + v + "::" + typ
			}
			sent, err := rows(t, conn, sql, []int16{formatBinary})
			if err != nil {
				t.Fatal(err)
			}
			a, err := NewArrays([]Field{{OID: oid, Format: formatBinary}}, Config{Settings: settings})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range sent {
				if err := a.Add(row); err != nil {
					t.Fatal(err)
				}
			}
			result := conn.ExecParams(t.Context(), "SELECT * FROM ROWS FROM (pg_catalog.unnest($1))", a.Values(), a.Types(), []int16{formatBinary}, []int16{formatBinary})
			var got [][]byte
			for result.NextRow() {
				got = append(got, body(result.Values()...))
			}
			if _, err := result.Close(); err != nil || !slices.EqualFunc(got, sent, slices.Equal) {
				t.Errorf("%s %v: got %q, want %q, %v", values[0], list, got, sent, err)
			}
		}
	}
}

// TestArraysRefuse holds what cannot be handed back, and the bound of memory.
func TestArraysRefuse(t *testing.T) {
	foreign := settings
	foreign.Foreign = true
	for _, c := range []struct {
		oid      uint32
		settings Settings
	}{{oidUnknown, settings}, {1007, settings}, {16400, settings}, {oidText, foreign}, {oidJSONB, foreign}} {
		if _, err := NewArrays([]Field{{OID: c.oid, Format: formatBinary}}, Config{Settings: c.settings}); err == nil {
			t.Errorf("type %d with %+v is taken", c.oid, c.settings)
		}
	}
	a, err := NewArrays([]Field{{OID: oidInt4, Format: formatBinary}}, Config{Settings: foreign, Memory: 90})
	if err != nil {
		t.Fatal(err)
	}
	row := body([]byte{0, 0, 0, 1})
	if err := a.Add(row); err != nil {
		t.Error(err)
	}
	if err := a.Add(row); err != nil {
		t.Error(err)
	}
	if err := a.Add(row); err == nil {
		t.Error("takes more memory than it may")
	}
}
