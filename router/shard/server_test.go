package shard

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// randomValues is how many random values of each type the server is asked about.
const randomValues = 1500

// seeded returns a source of chance, and says how to have the same again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("rand.NewPCG(%d, 0)", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// stored is a value as the server has it.
type stored struct {
	Text   string
	Binary []byte
	Bucket int64 // by Key.Expression
}

// Each value's bucket, read from the text that was sent, from the server's own text and from its binary format, is the one for which
// satisfies_hash_partition is true, and what Key.Expression gives.
func TestBucketIsThatOfTheServer(t *testing.T) {
	conn, r := connect(t), seeded(t)
	for _, d := range plain() {
		exec(t, conn, fmt.Sprintf("CREATE TABLE p_%s (k %s) PARTITION BY HASH (k)", d.sql, d.sql))
		k := key(t, Hash, MaxBuckets, d)
		sent := taken(t, conn, d.typ, edges(d.typ))
		for range randomValues {
			sent = append(sent, random(r, d.typ))
		}
		rows := queryRows[stored](t, conn, fmt.Sprintf("SELECT k::text, %s(k), %s FROM (SELECT s::%s AS k, o FROM unnest($1::text[]) WITH ORDINALITY AS x(s, o)) AS y ORDER BY o",
			d.send(), k.Expression(""), d.sql), sent)
		buckets := make([]int32, len(rows))
		for i, row := range rows {
			got, ok := k.Bucket(Parameter(d.typ, BinaryFormat, row.Binary))
			if !ok || int64(got) != row.Bucket {
				t.Errorf("%s %.80q: binary %x is in %d, %v, Expression gives %d", d.sql, sent[i], row.Binary, got, ok, row.Bucket)
			}
			buckets[i] = int32(got)
			for _, text := range []string{sent[i], row.Text} {
				if fromText, ok := k.Bucket(Literal(Unknown, []byte(text))); ok && fromText != got {
					t.Errorf("%s %.80q: text is in %d, binary in %d", d.sql, text, fromText, got)
				} else if !ok && surely(d.typ, text) {
					t.Errorf("%s %.80q: not sure of it", d.sql, text)
				}
			}
		}
		wrong := queryRows[struct{ Text string }](t, conn, fmt.Sprintf("SELECT s FROM unnest($1::text[], $2::int[]) AS x(s, b) WHERE NOT satisfies_hash_partition('p_%s'::regclass, %d, b, s::%s)",
			d.sql, MaxBuckets, d.sql), sent, buckets)
		for _, row := range wrong {
			t.Errorf("%s %.80q: the server has another remainder", d.sql, row.Text)
		}
	}
}

// Keys of several columns, NULL among them, have the server's buckets at every number of buckets.
func TestCompositeBucketIsThatOfTheServer(t *testing.T) {
	conn, r := connect(t), seeded(t)
	all := plain()
	for round := range 40 {
		columns := make([]declaration, 1+round%MaxColumns)
		definitions := make([]string, len(columns))
		for i := range columns {
			columns[i] = all[r.IntN(len(all))]
			definitions[i] = fmt.Sprintf("k%d %s", i, columns[i].sql)
		}
		if len(columns) == 1 {
			definitions[0] = "k " + columns[0].sql
		}
		k := key(t, Hash, 1<<r.IntN(bucketBits+1), columns...)
		table := fmt.Sprintf("composite_%d", round)
		exec(t, conn, fmt.Sprintf("CREATE TABLE %s (%s) PARTITION BY HASH (%s)", table, strings.Join(definitions, ", "), columnNames(k)))
		for range 25 {
			checkComposite(t, conn, r, k, table)
		}
	}
}

func columnNames(k *Key) string {
	var names []string
	for _, c := range k.Columns() {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

func checkComposite(t *testing.T, conn *pgx.Conn, r *rand.Rand, k *Key, table string) {
	t.Helper()
	var values []Value
	var constants []string
	for _, c := range k.Columns() {
		if r.IntN(4) == 0 {
			values, constants = append(values, Null()), append(constants, "NULL::"+c.Type.String())
			continue
		}
		text := random(r, c.Type)
		values, constants = append(values, Literal(Unknown, []byte(text))), append(constants, quoteLiteral(text)+"::"+c.Type.String())
	}
	bucket, ok := k.Bucket(values...)
	type answer struct {
		Expression int64
		Satisfies  bool
	}
	list := strings.Join(constants, ", ")
	got := queryRows[answer](t, conn, fmt.Sprintf("SELECT %s, satisfies_hash_partition('%s'::regclass, %d, %d, %s) FROM (SELECT %s) AS \"New\"(%s)",
		k.Expression("New"), table, k.Buckets(), bucket, list, list, columnNames(k)))
	if !ok || got[0].Expression != int64(bucket) || !got[0].Satisfies {
		t.Errorf("%v of %d: Bucket is %d, %v; Expression gives %d, satisfies_hash_partition %v", constants, k.Buckets(), bucket, ok, got[0].Expression, got[0].Satisfies)
	}
}

func TestModuloIsThatOfTheServer(t *testing.T) {
	conn, r := connect(t), seeded(t)
	for _, d := range plain()[:3] {
		for _, buckets := range []int{1, 2, 1024, MaxBuckets} {
			k := key(t, Modulo, buckets, d)
			sent := edges(d.typ)
			for range 200 {
				sent = append(sent, random(r, d.typ))
			}
			type answer struct{ Expression, Floor int64 }
			rows := queryRows[answer](t, conn, fmt.Sprintf("SELECT %s, (k::int8 %% %d + %d) %% %d FROM (SELECT s::%s AS k, o FROM unnest($1::text[]) WITH ORDINALITY AS x(s, o)) AS y ORDER BY o",
				k.Expression(""), buckets, buckets, buckets, d.sql), sent)
			for i, row := range rows {
				got, ok := k.Bucket(Literal(Unknown, []byte(sent[i])))
				if !ok || int64(got) != row.Floor || row.Expression != row.Floor {
					t.Errorf("%s %s modulo %d: Bucket is %d, %v; Expression gives %d, want %d", d.sql, sent[i], buckets, got, ok, row.Expression, row.Floor)
				}
			}
		}
	}
	k := key(t, Modulo, 16, of(Int8))
	got := queryRows[struct{ Bucket int64 }](t, conn, "SELECT "+k.Expression("")+" FROM (SELECT NULL::int8 AS k) AS x")
	if b, ok := k.Bucket(Null()); !ok || int64(b) != got[0].Bucket {
		t.Errorf("NULL is in %d, %v, Expression gives %d", b, ok, got[0].Bucket)
	}
}

// settings are what changes how input functions read times.
var settings = []string{
	"SET DateStyle = 'ISO, MDY'; SET TimeZone = 'UTC'", "SET DateStyle = 'SQL, DMY'; SET TimeZone = 'America/New_York'",
	"SET DateStyle = 'German, YMD'; SET TimeZone = 'Asia/Kolkata'", "SET DateStyle = 'Postgres, DMY'; SET TimeZone = 'Europe/Berlin'",
}

// Whenever a text is read, the server's input function takes it, under any settings, and as the same value.
func TestWhatIsReadIsReadAsTheServerDoes(t *testing.T) {
	conn, r := connect(t), seeded(t)
	for _, d := range plain() {
		exec(t, conn, fmt.Sprintf("CREATE FUNCTION try_%s(s text) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RETURN %s(s::%s); EXCEPTION WHEN others THEN RETURN NULL; END $$",
			d.sql, d.send(), d.sql))
		texts := append(odd(d.typ), edges(d.typ)...)
		for range 2000 {
			texts = append(texts, mutate(r, random(r, d.typ)))
			texts = append(texts, mutate(r, mutate(r, edges(d.typ)[r.IntN(len(edges(d.typ)))])))
		}
		texts = taken(t, conn, d.typ, texts)
		k := key(t, Hash, MaxBuckets, d)
		for _, set := range settings {
			exec(t, conn, set)
			rows := queryRows[struct{ Binary []byte }](t, conn, fmt.Sprintf("SELECT try_%s(s) FROM unnest($1::text[]) WITH ORDINALITY AS x(s, o) ORDER BY o", d.sql), texts)
			sure := 0
			for i, row := range rows {
				got, ok := k.Bucket(Literal(d.typ, []byte(texts[i])))
				if !ok {
					continue
				}
				sure++
				if want, ok := k.Bucket(Parameter(d.typ, BinaryFormat, row.Binary)); row.Binary == nil || !ok || got != want {
					t.Errorf("%s %.80q under %s: read as of bucket %d, the server has %x of %d", d.sql, texts[i], set, got, row.Binary, want)
				}
			}
			if sure < len(texts)/100 {
				t.Errorf("%s: only %d of %d texts are read", d.sql, sure, len(texts))
			}
			if d.typ < Date || d.typ > TimestampTZ {
				break // settings change nothing
			}
		}
	}
}

// A value of any type that has a bucket equals no row of another, and is stored in no other, in columns of any type and modifier.
func TestValuesOfOtherTypesMatchAndAreStoredInTheirBucketOnly(t *testing.T) {
	conn := connect(t)
	given := []Type{Unknown, Int2, Int4, Int8, Numeric, Text, Varchar, BPChar, Bool, Date, Timestamp, TimestampTZ, UUID, Bytea}
	pool := []string{"0", "1", "-1", "42", "42.0", "42.5", "1.234", "1.235", "100", "149", "150", "1e2", "32768", "-32769", "99999", "2147483648", "9223372036854775807",
		"9223372036854775808", "-9223372036854775808", "NaN", "Infinity", "", " ", "a", "a ", "a  ", "a    ", "abc", "abc ", "abc  ", "abcd", "ü  ", "üüü", "üüü ", "a\t", "t", "true ",
		"2024-01-02", "2024-01-02 00:00:00", "2024-01-02 03:04:05.6", "2024-01-02 03:04:05.6789", "2024-01-02 03:04:05.123456", "2024-01-02 03:04:05+00",
		"2024-01-02 03:04:05.5+02", "infinity", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", `\x61`, `\141`, "0.005", "0.0050", "-149", "12345.67", "123456"}
	for i, d := range declared(t, conn) {
		k := key(t, Hash, MaxBuckets, d)
		table := fmt.Sprintf("t%d", i)
		exec(t, conn, fmt.Sprintf("CREATE TABLE %s (k %s)", table, d.sql))
		for _, text := range pool {
			simple(t, conn, "INSERT INTO "+table+" VALUES ("+quoteLiteral(text)+")")
			simple(t, conn, "INSERT INTO "+table+" VALUES ("+quoteLiteral(text)+"::text)")
		}
		sure := 0
		for _, text := range pool {
			for _, g := range given {
				constant := quoteLiteral(text)
				if g != Unknown {
					constant += "::" + g.String()
				}
				sure += checkConstant(t, conn, k, table, constant, Literal(g, []byte(text)))
			}
			if strings.Trim(text, "0123456789.e") == "" && text != "" {
				sure += checkConstant(t, conn, k, table, text, Number(Unknown, []byte(text)))
				sure += checkConstant(t, conn, k, table, "-"+text, Number(Unknown, []byte("-"+text)))
				sure += checkConstant(t, conn, k, table, text+"::int8", Number(Int8, []byte(text)))
			}
		}
		if sure == 0 {
			t.Errorf("%s: no value has a bucket", d.sql)
		}
	}
}

// checkConstant compares and stores a constant, and returns 1 if it has a bucket.
func checkConstant(t *testing.T, conn *pgx.Conn, k *Key, table, constant string, v Value) int {
	t.Helper()
	bucket, ok := k.Bucket(v)
	if !ok {
		return 0
	}
	column := k.Columns()[0]
	if elsewhere, ok := simple(t, conn, fmt.Sprintf("SELECT k FROM %s WHERE k = %s AND %s <> %d LIMIT 1", table, constant, k.Expression(""), bucket)); ok && elsewhere != nil {
		t.Errorf("%s(%d) = %s: equals the row %q outside of bucket %d", column.Type, column.Modifier, constant, elsewhere, bucket)
	}
	want := fmt.Append(nil, bucket)
	if got, ok := simple(t, conn, fmt.Sprintf("INSERT INTO %s VALUES (%s) RETURNING %s", table, constant, k.Expression(table))); ok && !bytes.Equal(got, want) {
		t.Errorf("%s(%d): %s is stored in bucket %s, want %s", column.Type, column.Modifier, constant, got, want)
	}
	return 1
}

// simple runs a statement and returns its first value, nil for none; ok is false if the server refuses it.
func simple(t *testing.T, conn *pgx.Conn, sql string) (value []byte, ok bool) {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return nil, false
	case err != nil:
		t.Fatalf("%s: %v", sql, err)
	}
	if len(results[0].Rows) > 0 {
		value = results[0].Rows[0][0]
	}
	return value, true
}

// Servers take the expression where a resharder needs it: triggers, indexes, checks and row filters of publications.
func TestExpressionStandsWhereverServersNeedIt(t *testing.T) {
	conn := connect(t)
	exec(t, conn, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$")
	for _, d := range declared(t, conn) {
		k := key(t, Hash, DefaultBuckets, d)
		exec(t, conn, "CREATE TABLE t (k "+d.sql+" PRIMARY KEY)")
		exec(t, conn, "CREATE INDEX ON t (("+k.Expression("")+"))")
		exec(t, conn, "ALTER TABLE t ADD CHECK ("+k.Expression("t")+" < 1024)")
		exec(t, conn, "CREATE TRIGGER fence BEFORE INSERT ON t FOR EACH ROW WHEN ("+k.Expression("new")+" = 3) EXECUTE FUNCTION refuse()")
		if major(t, conn) >= 15 { // row filters are new there
			exec(t, conn, "CREATE PUBLICATION p FOR TABLE t WHERE ("+k.Expression("")+" = 3)")
			exec(t, conn, "DROP PUBLICATION p")
		}
		exec(t, conn, "DROP TABLE t")
	}
	odd, err := NewKey(Hash, 16, Column{Name: `Sel"ect #`, Type: Text, Modifier: NoModifier}, Column{Name: "user", Type: Date, Modifier: NoModifier})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `CREATE TABLE "a ""b" ("Sel""ect #" text, "user" date)`)
	exec(t, conn, "SELECT "+odd.Expression(`a "b`)+` FROM "a ""b"`)
}

// Collations change no bucket as long as they are deterministic.
func TestCollationsChangeNoBucket(t *testing.T) {
	conn := connect(t)
	exec(t, conn, `CREATE TABLE p (k text COLLATE "en-x-icu") PARTITION BY HASH (k)`)
	k := key(t, Hash, MaxBuckets, of(Text))
	for _, text := range edges(Text) {
		bucket, _ := k.Bucket(Literal(Unknown, []byte(text)))
		if got, ok := simple(t, conn, fmt.Sprintf("SELECT satisfies_hash_partition('p'::regclass, %d, %d, %s::text)", MaxBuckets, bucket, quoteLiteral(text))); string(got) != "t" || !ok {
			t.Errorf("%q is not in bucket %d: %s, %v", text, bucket, got, ok)
		}
	}
}

// What Outside says of a row is what its bucket says, however many spans there are, and whatever the search path finds first.
func TestOutsideIsWhatBucketsSay(t *testing.T) {
	conn, r := connect(t), seeded(t)
	exec(t, conn, `CREATE SCHEMA odd;
		CREATE FUNCTION odd.no(int8, int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT 1::int8';
		CREATE FUNCTION odd.no(int8, int4) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT 1::int8';
		CREATE FUNCTION odd.never(int8, int4) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false';
		CREATE OPERATOR odd.& (LEFTARG = int8, RIGHTARG = int8, FUNCTION = odd.no);
		CREATE OPERATOR odd.& (LEFTARG = int8, RIGHTARG = int4, FUNCTION = odd.no);
		CREATE OPERATOR odd.+ (LEFTARG = int8, RIGHTARG = int4, FUNCTION = odd.no);
		CREATE OPERATOR odd.>= (LEFTARG = int8, RIGHTARG = int4, FUNCTION = odd.never);
		CREATE DOMAIN odd.int8 AS text;
		SET search_path = odd, pg_catalog, public`)
	for _, d := range plain() {
		for _, function := range []Function{Hash, Modulo} {
			if function == Modulo && d.typ != Int2 && d.typ != Int4 && d.typ != Int8 {
				continue
			}
			for _, text := range []string{"3", "0-7", "0,15", "0,3-5,9,12-15", "0-15"} {
				k := key(t, function, 16, d)
				spans, err := ParseSpans(16, text)
				if err != nil {
					t.Fatal(err)
				}
				var sent []string
				for range 60 {
					sent = append(sent, random(r, d.typ))
				}
				rows := queryRows[struct {
					Binary  []byte
					Outside bool
				}](t, conn, fmt.Sprintf(`SELECT pg_catalog.%s(k), %s FROM (SELECT s::pg_catalog.%s AS k, o FROM unnest($1::text[]) WITH ORDINALITY AS x(s, o)) AS y ORDER BY o`,
					d.send(), k.Outside(k.ExpressionOf(`"y"."k"`), spans), d.sql), sent)
				for i, row := range rows {
					b, ok := k.Bucket(Parameter(d.typ, BinaryFormat, row.Binary))
					if !ok || row.Outside == InSpans(spans, b) {
						t.Errorf("%s %.80q is in bucket %d of %s: outside is %v", d.sql, sent[i], b, text, row.Outside)
					}
				}
			}
		}
	}
}
