package merge

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

var servers = pgtest.Share(localpg.Options{})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// settings are those that connect sets.
var settings = Settings{DateStyle: "ISO, MDY", IntervalStyle: "postgres", ByteaOutput: "hex", ExtraFloatDigits: 1}

// dial opens a session of the settings in a database of its own.
func dial(t testing.TB) *pgconn.PgConn {
	t.Helper()
	server := servers.Cluster(t).Shards[0].Manager
	conn, err := pgconn.Connect(t.Context(), server.URL(pgtest.Database(t, server), "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn.Close(ctx)
	})
	exec(t, conn, "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = postgres; SET bytea_output = hex; SET extra_float_digits = 1; SET TimeZone = 'Europe/Berlin'")
	return conn
}

func exec(t testing.TB, conn *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%v in %.300s", err, sql)
	}
}

// rows returns the bodies of the DataRows of a query.
func rows(t testing.TB, conn *pgconn.PgConn, sql string, formats []int16) ([][]byte, error) {
	t.Helper()
	result := conn.ExecParams(t.Context(), sql, nil, nil, nil, formats)
	var all [][]byte
	for result.NextRow() {
		all = append(all, body(result.Values()...))
	}
	_, err := result.Close()
	return all, err
}

// body makes the body of a DataRow.
func body(values ...[]byte) []byte {
	row := binary.BigEndian.AppendUint16(nil, uint16(len(values)))
	for _, value := range values {
		row = appendValue(row, value)
	}
	return row
}

// show makes a row readable.
func show(row []byte) string {
	values := make([][]byte, binary.BigEndian.Uint16(row))
	if err := split(row, values); err != nil {
		return err.Error()
	}
	parts := make([]string, 0, len(values))
	for _, value := range values {
		if value == nil {
			parts = append(parts, "NULL")
			continue
		}
		parts = append(parts, fmt.Sprintf("%q", value))
	}
	return strings.Join(parts, " ")
}

// column is a column of the table of random data: how it is declared and how a value is made.
type column struct {
	name, declared string
	oid            uint32
	make           func(r *rand.Rand) string
}

// pick returns one of some values, or what make gives.
func pick(r *rand.Rand, special []string, make func() string) string {
	if r.IntN(4) == 0 {
		return special[r.IntN(len(special))]
	}
	return make()
}

func randomText(r *rand.Rand, longest int) string {
	letters := []rune("aABb _-éß1zZ.")
	text := make([]rune, r.IntN(longest))
	for i := range text {
		text[i] = letters[r.IntN(len(letters))]
	}
	return string(text)
}

func randomInterval(r *rand.Rand) string {
	return fmt.Sprintf("%d mons %d days %d.%06d secs", r.IntN(40)-20, r.IntN(80)-40, r.IntN(400000)-200000, r.IntN(1000000))
}

// columns are one for each kind, and for some kinds one whose equal values all look the same.
func columns() []column {
	integers := func(bits int) func(r *rand.Rand) string {
		low, high := -(int64(1) << (bits - 1)), int64(1)<<(bits-1)-1
		special := []string{"0", "1", "-1", fmt.Sprint(low), fmt.Sprint(high)}
		return func(r *rand.Rand) string {
			return pick(r, special, func() string { return fmt.Sprint(int64(r.Uint64()) >> (64 - bits + r.IntN(bits))) })
		}
	}
	floats := func(r *rand.Rand) string {
		return pick(r, []string{"NaN", "Infinity", "-Infinity", "0", "-0", "1e30", "-1e-30", "1.5"}, func() string {
			return fmt.Sprintf("%.*g", 1+r.IntN(7), r.NormFloat64()*float64(uint64(1)<<r.IntN(60)))
		})
	}
	return []column{
		{"c_bool", "boolean", oidBool, func(r *rand.Rand) string { return []string{"t", "f"}[r.IntN(2)] }},
		{"c_int2", "smallint", oidInt2, integers(16)},
		{"c_int4", "integer", oidInt4, integers(32)},
		{"c_int8", "bigint", oidInt8, integers(64)},
		{"c_oid", "oid", oidOid, func(r *rand.Rand) string {
			return pick(r, []string{"0", "4294967295", "2147483648"}, func() string { return fmt.Sprint(r.Uint32() >> r.IntN(32)) })
		}},
		{"c_float4", "real", oidFloat4, floats},
		{"c_float8", "double precision", oidFloat8, floats},
		{"c_numeric", "numeric", oidNumeric, func(r *rand.Rand) string {
			return pick(r, []string{"NaN", "Infinity", "-Infinity", "0", "0.000", "1.0", "1.00", "1", "-1.50", "-1.5", "10000", "9999", "9999.9999",
				"1e40", "-1e40", "1e-30", "0.00010", "0.0001", "100000000.0000"}, func() string {
				return fmt.Sprintf("%d.%0*d", r.IntN(2000)-1000, 1+r.IntN(6), r.IntN(1+r.IntN(10)))
			})
		}},
		{"c_plain", "numeric", oidNumeric, func(r *rand.Rand) string { // one text for each value
			return fmt.Sprintf("%d.%d", r.Int64()>>r.IntN(60), 1+r.IntN(9))
		}},
		{"c_date", "date", oidDate, func(r *rand.Rand) string {
			return pick(r, []string{"infinity", "-infinity", "2000-01-01", "0001-01-01", "0001-12-31 BC", "4713-01-01 BC", "5874897-12-31", "2000-02-29", "0001-02-29 BC", "10000-03-01"},
				func() string {
					return time.Unix(r.Int64N(1<<36)-1<<35, 0).UTC().Format("2006-01-02")
				})
		}},
		{"c_time", "time", oidTime, func(r *rand.Rand) string {
			return pick(r, []string{"00:00", "24:00", "12:00:00.000001"}, func() string {
				return time.UnixMicro(r.Int64N(86400_000_000)).UTC().Format("15:04:05.999999")
			})
		}},
		{"c_timestamp", "timestamp", oidTimestamp, randomMoment},
		{"c_timestamptz", "timestamptz", oidTimestamptz, randomMoment},
		{"c_interval", "interval", oidInterval, func(r *rand.Rand) string {
			return pick(r, []string{"1 mon", "30 days", "720:00:00", "-1 mon", "-30 days", "0", "1 day", "24:00:00", "1 day -24:00:00",
				"178956970 years 7 mons", "-178956970 years -8 mons", "2147483647 days", "-2147483648 days"}, func() string { return randomInterval(r) })
		}},
		{"c_short", "interval", oidInterval, func(r *rand.Rand) string { return fmt.Sprintf("%d.%06d secs", r.IntN(80000), r.IntN(1000000)) }},
		{"c_uuid", "uuid", oidUUID, func(r *rand.Rand) string {
			return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", r.Uint32()>>r.IntN(32), r.IntN(3), r.IntN(1<<16), r.IntN(1<<16), r.Int64N(1<<48))
		}},
		{"c_bytea", "bytea", oidBytea, func(r *rand.Rand) string {
			value := make([]byte, r.IntN(4))
			for i := range value {
				value[i] = byte(r.IntN(256))
			}
			return fmt.Sprintf(`\x%x`, value)
		}},
		{"c_text", `text COLLATE "C"`, oidText, func(r *rand.Rand) string { return randomText(r, 6) }},
		{"c_varchar", `varchar(8) COLLATE "C"`, oidVarchar, func(r *rand.Rand) string { return randomText(r, 6) }},
		{"c_bpchar", `char(6) COLLATE "C"`, oidBpchar, func(r *rand.Rand) string { return randomText(r, 5) }},
		{"c_name", "name", oidName, func(r *rand.Rand) string { return randomText(r, 6) }},
		{"c_char", `"char"`, oidChar, func(r *rand.Rand) string { return string(rune('!' + r.IntN(90))) }},
		// Sums of these are exact in any order.
		{"s_float4", "real", oidFloat4, func(r *rand.Rand) string { return fmt.Sprint(float64(r.IntN(400)-200) / 4) }},
		{"s_float8", "double precision", oidFloat8, func(r *rand.Rand) string { return fmt.Sprint(float64(r.IntN(1<<30)-1<<29) / 1024) }},
		{"s_int4", "integer", oidInt4, func(r *rand.Rand) string { return fmt.Sprint(r.IntN(2000) - 1000) }},
		{"s_int8", "bigint", oidInt8, integers(64)},
		{"s_numeric", "numeric", oidNumeric, func(r *rand.Rand) string {
			return fmt.Sprintf("%d.%0*d", int64(r.Uint64())>>r.IntN(63), 1+r.IntN(12), r.IntN(10))
		}},
		{"s_interval", "interval", oidInterval, randomInterval},
	}
}

func randomMoment(r *rand.Rand) string {
	return pick(r, []string{"infinity", "-infinity", "2000-01-01", "1999-12-31 23:59:59.999999", "0044-03-15 12:00 BC", "294276-12-31 23:59:59", "4713-12-01 BC", "2024-10-27 02:30:00"},
		func() string {
			return time.UnixMicro(r.Int64N(1<<52) - 1<<51).UTC().Format("2006-01-02 15:04:05.999999")
		})
}

// parts is over how many shards the rows are spread.
const parts = 3

// fill makes the table t of rows with an id, a group of few and one of many, and a value of each column or NULL; t0, t1 and t2 are its parts.
func fill(t testing.TB, conn *pgconn.PgConn, count int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	all := columns()
	declared := []string{"id integer", "few integer", "many integer"}
	for _, c := range all {
		declared = append(declared, c.name+" "+c.declared)
	}
	exec(t, conn, "CREATE TABLE t ("+strings.Join(declared, ", ")+")")
	for done := 0; done < count; done += 500 {
		var sql strings.Builder
		sql.WriteString("INSERT INTO t VALUES ")
		for i := range 500 {
			if i > 0 {
				sql.WriteString(", ")
			}
			fmt.Fprintf(&sql, "(%d, %d, %d", done+i, r.IntN(6), r.IntN(300))
			for _, c := range all {
				value := c.make(r)
				if r.IntN(12) == 0 {
					sql.WriteString(", NULL")
					continue
				}
				sql.WriteString(", '" + strings.ReplaceAll(value, "'", "''") + "'")
			}
			sql.WriteString(")")
		}
		exec(t, conn, sql.String())
	}
	for part := range parts {
		exec(t, conn, fmt.Sprintf("CREATE VIEW t%d AS SELECT * FROM t WHERE hashint4(id) & 7 IN (%d, %d)", part, part, part+3)) // 6 and 7 go to the first
	}
	exec(t, conn, "CREATE OR REPLACE VIEW t0 AS SELECT * FROM t WHERE hashint4(id) & 7 IN (0, 3, 6, 7)")
}
