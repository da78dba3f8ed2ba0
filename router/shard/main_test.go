package shard

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

var servers = pgtest.Share(localpg.Options{})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// connect makes a database and returns a connection to it.
func connect(t testing.TB) *pgx.Conn {
	t.Helper()
	manager := servers.Cluster(t).Shards[0].Manager
	conn, err := pgx.Connect(t.Context(), manager.URL(pgtest.Database(t, manager), "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// major is the server's major version. The tests run on 13 too, which lacks some of what 15 has.
func major(t testing.TB, conn *pgx.Conn) int {
	t.Helper()
	return int(queryRows[struct{ Number int32 }](t, conn, "SELECT current_setting('server_version_num')::int")[0].Number) / 10000
}

// taken leaves out what the server cannot take yet: numeric has infinities since version 14.
func taken(t testing.TB, conn *pgx.Conn, typ Type, texts []string) []string {
	t.Helper()
	if typ == Numeric && major(t, conn) < 14 {
		return slices.DeleteFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), "inf") })
	}
	return texts
}

// declared leaves out what the server cannot declare yet: numeric has negative scales since version 15.
func declared(t testing.TB, conn *pgx.Conn) []declaration {
	t.Helper()
	all := declarations()
	if major(t, conn) < 15 {
		return slices.DeleteFunc(all, func(d declaration) bool { return d.sql == "numeric(3,-2)" })
	}
	return all
}

func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// queryRows returns the rows as T, whose fields are the columns in order.
func queryRows[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

// declaration is a column as CREATE TABLE has it, and as a Key has it.
type declaration struct {
	sql      string
	typ      Type
	modifier int32
}

// declarations are columns of every type, those without a modifier first and one for each type.
func declarations() []declaration {
	return []declaration{
		{"int2", Int2, NoModifier}, {"int4", Int4, NoModifier}, {"int8", Int8, NoModifier}, {"bool", Bool, NoModifier},
		{"text", Text, NoModifier}, {"varchar", Varchar, NoModifier}, {"bpchar", BPChar, NoModifier}, {"uuid", UUID, NoModifier},
		{"bytea", Bytea, NoModifier}, {"date", Date, NoModifier}, {"timestamp", Timestamp, NoModifier},
		{"timestamptz", TimestampTZ, NoModifier}, {"numeric", Numeric, NoModifier},
		{"varchar(3)", Varchar, 3 + modifierHeader}, {"char(3)", BPChar, 3 + modifierHeader},
		{"timestamp(0)", Timestamp, 0}, {"timestamp(3)", Timestamp, 3}, {"timestamptz(0)", TimestampTZ, 0}, {"timestamptz(6)", TimestampTZ, 6},
		{"numeric(6,2)", Numeric, 6<<16 + 2 + modifierHeader}, {"numeric(5)", Numeric, 5<<16 + modifierHeader},
		{"numeric(3,-2)", Numeric, 3<<16 + (-2 & 0x7ff) + modifierHeader},
	}
}

// plain are the declarations without a modifier.
func plain() []declaration { return declarations()[:13] }

func (d declaration) column(name string) Column {
	return Column{Name: name, Type: d.typ, Modifier: d.modifier}
}

// send is the function that gives the binary format of the type.
func (d declaration) send() string {
	switch d.typ {
	case Date, Timestamp, TimestampTZ, Numeric, UUID:
		return d.typ.String() + "_send"
	}
	return d.typ.String() + "send"
}

// key makes a key of columns named k, or k0, k1 and so on where there are several.
func key(t testing.TB, function Function, buckets int, columns ...declaration) *Key {
	t.Helper()
	var named []Column
	for i, d := range columns {
		name := "k"
		if len(columns) > 1 {
			name += string(rune('0' + i))
		}
		named = append(named, d.column(name))
	}
	k, err := NewKey(function, buckets, named...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// of returns the declaration without a modifier.
func of(t Type) declaration {
	for _, d := range plain() {
		if d.typ == t {
			return d
		}
	}
	return declaration{}
}
