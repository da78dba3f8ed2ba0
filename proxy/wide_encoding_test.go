package proxy_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/proxy"
)

// TestKeysInAnotherEncoding has clients speak another encoding than the database: rows lie where the server's own bytes say, or
// the client is told.
func TestKeysInAnotherEncoding(t *testing.T) {
	t.Parallel()
	_, p := newSpreadWith(t, onDatabase(func(d *proxy.Database) {
		d.Sharding.Tables = map[string]proxy.Table{"accounts": {Key: []string{"id"}}, "cards": {Key: []string{"id"}}, "people": {Key: []string{"name"}}}
	}))
	c := p.client(t)
	mustExec(t, c, "CREATE TABLE people (name text COLLATE \"C\" PRIMARY KEY, seen int)")
	in := func(text string) string { // LATIN2
		return strings.NewReplacer("é", "\xe9", "á", "\xe1", "Ą", "\xa1").Replace(text)
	}
	copyIn := func(c *pgx.Conn, sql, rows string) error {
		_, err := c.PgConn().CopyFrom(bounded(t), strings.NewReader(rows), sql)
		return err
	}
	foreign := p.client(t, "client_encoding=LATIN2")
	names := []string{"Léa", "Zoé", "Ada", "Bob", "Cyd"}
	for _, sql := range []string{"COPY people FROM STDIN", "COPY people FROM STDIN WITH (FORMAT csv, DELIMITER E'\\t')"} {
		err := copyIn(foreign, strings.Replace(sql, "E'\\t'", "'\t'", 1), "Ada\t1\nBob\t1\n"+in("Léa\t1\n"))
		wantError(t, err, "0A000", "the key of row 3 of COPY has letters beyond ASCII, and client_encoding LATIN2 is not the database's own")
	}
	head := "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	err := copyIn(foreign, "COPY people FROM STDIN (FORMAT binary)", head+"\x00\x02\x00\x00\x00\x03"+in("Léa")+"\x00\x00\x00\x04\x00\x00\x00\x01\xff\xff")
	wantError(t, err, "0A000", "the key of row 1 of COPY has letters beyond ASCII")
	wantValue(t, c, "SELECT count(*) FROM people", "0")

	if err := copyIn(foreign, "COPY people FROM STDIN", "Ada\t1\nBob\t1\nCyd\t1\n"); err != nil {
		t.Error(err)
	}
	_, err = foreign.PgConn().Exec(bounded(t), in("INSERT INTO people VALUES ('Léa', 1)")).ReadAll()
	wantError(t, err, "0A000", "")
	if err := copyIn(c, "COPY people FROM STDIN", "Léa\t1\nZoé\t1\n"); err != nil {
		t.Error(err)
	}
	for _, name := range names { // looked for everywhere, where the key is not read
		if got, err := value(foreign, in(fmt.Sprintf("SELECT seen FROM people WHERE name = '%s'", name))); err != nil || got != "1" {
			wantError(t, err, "0A000", "text with bytes that are no UTF-8")
		}
		wantValue(t, c, fmt.Sprintf("SELECT seen FROM people WHERE name = '%s'", name), "1")
		result := foreign.PgConn().ExecParams(bounded(t), "UPDATE people SET seen = seen WHERE name = $1", [][]byte{[]byte(in(name))}, []uint32{25}, nil, nil).Read()
		if result.CommandTag.String() != "UPDATE 1" || result.Err != nil {
			t.Errorf("%s: %s, %v", name, result.CommandTag, result.Err)
		}
	}
	_, err = foreign.PgConn().Exec(bounded(t), "/* pgtier: sharding_key=Léa */ SELECT seen FROM people WHERE name > 'x'").ReadAll() // other letters there
	wantError(t, err, "0A000", "sharding key with letters beyond ASCII")
	mustExec(t, c, "SET pgtier.sharding_key = 'Léa'")
	_, err = c.Exec(bounded(t), "SELECT seen FROM people WHERE name > 'x'")
	wantError(t, err, "0A000", "setting pgtier.sharding_key with letters beyond ASCII")
	mustExec(t, c, "RESET pgtier.sharding_key")
	wantValue(t, c, "/* pgtier: sharding_key=Léa */ SELECT seen FROM people WHERE name = 'Léa'", "1")

	// Text is merged as the database's own bytes compare, not as those of the client do.
	mustExec(t, c, `INSERT INTO people VALUES ('á', 2), ('Ą', 2)`)
	got := column(t, c, "SELECT name FROM people WHERE seen = 2 ORDER BY name")
	if want := []string{"á", "Ą"}; !sort.StringsAreSorted(want) || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, sql := range []string{"SELECT name FROM people ORDER BY name", "SELECT max(name) FROM people", "SELECT DISTINCT left(name, 1) FROM people"} {
		_, err = foreign.PgConn().Exec(bounded(t), sql).ReadAll()
		wantError(t, err, "0A000", "in another encoding than the database's")
	}
}

// column returns the first column of an answer.
func column(t testing.TB, c *pgx.Conn, sql string) (out []string) {
	t.Helper()
	results, err := c.PgConn().Exec(bounded(t), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	for _, row := range results[0].Rows {
		out = append(out, string(row[0]))
	}
	return out
}
