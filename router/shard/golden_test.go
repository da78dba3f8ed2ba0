package shard

import (
	"bufio"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

var update = flag.Bool("update", false, "ask a server for the vectors of testdata/buckets.golden again")

const (
	goldenFile = "testdata/buckets.golden"
	goldenHead = `# Keys and their buckets, as a PostgreSQL server gives them. Written by: go test ./router/shard -run TestGolden -update
# bucket of 65536, and for each column its type, the value's text, and its binary format in hexadecimal; or NULL
`
)

// goldenValue is a value of a vector.
type goldenValue struct {
	typ    Type
	null   bool
	text   string
	binary []byte
}

// goldenKeys are the keys of the vectors: each edge alone, and some together.
func goldenKeys() [][]goldenValue {
	var keys [][]goldenValue
	for _, d := range plain() {
		keys = append(keys, []goldenValue{{typ: d.typ, null: true}})
		for _, text := range edges(d.typ) {
			keys = append(keys, []goldenValue{{typ: d.typ, text: text}})
		}
	}
	for first, d := range plain() {
		for size := 2; size <= MaxColumns; size++ {
			var k []goldenValue
			for i := range size {
				other := plain()[(first+i*size)%len(plain())]
				texts := edges(other.typ)
				k = append(k, goldenValue{typ: other.typ, text: texts[(first+i+size)%len(texts)], null: (first+i)%5 == 4})
			}
			k[0] = goldenValue{typ: d.typ, text: edges(d.typ)[size%len(edges(d.typ))]}
			keys = append(keys, k)
		}
	}
	return keys
}

func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	file, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, read := bufio.NewScanner(file), 0
	for lines.Scan() {
		if line := lines.Text(); line != "" && line[0] != '#' {
			checkGolden(t, line)
			read++
		}
	}
	if want := len(goldenKeys()); read != want || lines.Err() != nil {
		t.Errorf("read %d vectors, %v, want %d", read, lines.Err(), want)
	}
}

func checkGolden(t *testing.T, line string) {
	t.Helper()
	fields := strings.Split(line, "\t")
	want, err := strconv.ParseUint(fields[0], 10, bucketBits)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	var columns []declaration
	var texts, binaries []Value
	sure := true
	for _, field := range fields[1:] {
		v := parseGolden(t, field)
		columns = append(columns, of(v.typ))
		if v.null {
			texts, binaries = append(texts, Null()), append(binaries, Parameter(v.typ, BinaryFormat, nil))
			continue
		}
		texts, binaries = append(texts, Literal(Unknown, []byte(v.text))), append(binaries, Parameter(v.typ, BinaryFormat, v.binary))
		sure = sure && surely(v.typ, v.text)
	}
	k := key(t, Hash, MaxBuckets, columns...)
	if got, ok := k.Bucket(binaries...); !ok || uint64(got) != want {
		t.Errorf("binary: got %d, %v, want %.200s", got, ok, line)
	}
	if got, ok := k.Bucket(texts...); ok != sure || ok && uint64(got) != want {
		t.Errorf("text: got %d, %v, want %.200s", got, ok, line)
	}
}

func parseGolden(t *testing.T, field string) (v goldenValue) {
	t.Helper()
	name, rest, _ := strings.Cut(field, " ")
	for _, d := range plain() {
		if d.sql == name {
			v.typ = d.typ
		}
	}
	if rest == "NULL" {
		v.null = true
		return v
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err == nil {
		v.text, err = strconv.Unquote(quoted)
	}
	if err == nil {
		v.binary, err = hex.DecodeString(strings.TrimSpace(rest[len(quoted):]))
	}
	if err != nil || v.typ == 0 {
		t.Fatalf("%q: %v", field, err)
	}
	if v.binary == nil {
		v.binary = []byte{}
	}
	return v
}

// remainderFunction finds the remainder of a key by asking satisfies_hash_partition for one bit after the other.
const remainderFunction = `CREATE FUNCTION remainder(parent regclass, list text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE r int := 0; satisfied bool;
BEGIN
	FOR bit IN 0..15 LOOP
		EXECUTE format('SELECT satisfies_hash_partition(%L::regclass, %s, %s, %s)', parent, 2 << bit, r, list) INTO satisfied;
		IF NOT satisfied THEN r := r + (1 << bit); END IF;
	END LOOP;
	RETURN r;
END $$`

// writeGolden asks a server for every vector.
func writeGolden(t *testing.T) {
	t.Helper()
	conn := connect(t)
	exec(t, conn, remainderFunction)
	var out strings.Builder
	out.WriteString(goldenHead)
	for _, values := range goldenKeys() {
		out.WriteString(goldenLine(t, conn, values) + "\n")
	}
	if err := os.WriteFile(goldenFile, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func goldenLine(t *testing.T, conn *pgx.Conn, values []goldenValue) string {
	t.Helper()
	var definitions, names, constants, fields []string
	for i, v := range values {
		d, name := of(v.typ), fmt.Sprintf("k%d", i)
		definitions, names = append(definitions, name+" "+d.sql), append(names, name)
		if v.null {
			constants, fields = append(constants, "NULL::"+d.sql), append(fields, d.sql+" NULL")
			continue
		}
		constant := quoteLiteral(v.text) + "::" + d.sql
		binary := queryRows[struct{ Binary []byte }](t, conn, "SELECT "+d.send()+"("+constant+")")[0].Binary
		constants, fields = append(constants, constant), append(fields, strings.TrimSpace(d.sql+" "+strconv.Quote(v.text)+" "+hex.EncodeToString(binary)))
	}
	exec(t, conn, "CREATE TABLE golden ("+strings.Join(definitions, ", ")+") PARTITION BY HASH ("+strings.Join(names, ", ")+")")
	bucket := queryRows[struct{ Bucket int32 }](t, conn, "SELECT remainder('golden', $1)", strings.Join(constants, ", "))[0].Bucket
	exec(t, conn, "DROP TABLE golden")
	return fmt.Sprintf("%d\t%s", bucket, strings.Join(fields, "\t"))
}
