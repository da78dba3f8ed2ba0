package tags

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"pgtier/parser"
	"pgtier/router/shard"
)

// statement is a text made of a template of testdata, with values: literals in it, and parameters.
type statement struct {
	template, sql string
	given         []given
	// types are those declared, 0 for none; params what is sent, once the server has told its types.
	types    []uint32
	params   []shard.Param
	prepared string
	st       *parser.Statement
}

// given is a value for a parameter.
type given struct{ kind, value string }

// kinds are the values and declared types of the placeholders of templates.
var kinds = map[string]struct {
	values []string
	types  []uint32
}{
	"int":     {[]string{"1", "2", "3", "4", "5", "6", "-1"}, []uint32{0, 0, 0, 20, 21, 23, 1700, 701}},
	"num":     {[]string{"1.5", "2", "3", "-3", "2.0", "1.50", "4"}, []uint32{0, 0, 1700, 701}},
	"stamp":   {[]string{"11", "1011"}, []uint32{0, 23}},
	"two":     {[]string{"4", "5"}, []uint32{0, 20, 23}},
	"odd":     {[]string{"101", "100"}, []uint32{0, 25}},
	"email":   {[]string{"a@x", "b@x", "z@x"}, []uint32{0, 25, 1043}},
	"owner":   {[]string{"a", "b", "c", "d"}, []uint32{0, 25}},
	"counter": {[]string{"all", "other"}, []uint32{0, 25}},
	"code":    {[]string{"aa", "bb", "cc", "aa ", "7", "1000", "101"}, []uint32{0, 0, 25, 1043, 1042}},
	"date":    {[]string{"2024-01-01", "2024-01-02", "2024-01-03"}, []uint32{0, 1082, 1114}},
	"uuid":    {[]string{"00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b", "00000000-0000-0000-0000-00000000000d"}, []uint32{0, 2950}},
}

var placeholder = regexp.MustCompile(`\{(?:(\w+):)?(\w+)\}`)

// fill makes a statement of a template. With simple all values are literals.
func fill(random *rand.Rand, cache *parser.Cache, template string, simple bool) *statement {
	s := &statement{template: template}
	named := map[string]string{}
	s.sql = placeholder.ReplaceAllStringFunc(template, func(m string) string {
		parts := placeholder.FindStringSubmatch(m)
		name, kind := parts[1], parts[2]
		if text, ok := named[name]; ok && name != "" {
			return text
		}
		value := kinds[kind].values[random.IntN(len(kinds[kind].values))]
		text := literal(random, kind, value)
		if !simple && random.IntN(4) > 0 {
			s.given = append(s.given, given{kind, value})
			types := kinds[kind].types
			s.types = append(s.types, types[random.IntN(len(types))])
			text = "$" + strconv.Itoa(len(s.given))
		}
		named[name] = text
		return text
	})
	s.st = cache.Statement([]byte(s.sql))
	return s
}

// literal writes a value in one of the ways that SQL has for it.
func literal(random *rand.Rand, kind, value string) string {
	quoted := "'" + value + "'"
	var ways []string
	switch kind {
	case "int", "stamp", "two":
		ways = []string{value, value, value, quoted, value + ".0", "(" + value + ")", "' " + value + "'"}
	case "num":
		ways = []string{value, quoted, value + "e0"}
	case "uuid":
		ways = []string{quoted, strings.ToUpper(quoted), "'{" + value + "}'"}
	case "date":
		ways = []string{quoted, "'" + strings.ReplaceAll(value, "-", "") + "'"}
	default:
		ways = []string{quoted, quoted, "$$" + value + "$$", "E" + quoted, "N" + quoted}
	}
	return ways[random.IntN(len(ways))]
}

// prepare prepares a statement with parameters under a name, and encodes them as the server then expects them; false if the server refuses it.
func (s *statement) prepare(ctx context.Context, random *rand.Rand, conn *pgconn.PgConn, name string) bool {
	if len(s.given) == 0 {
		return true
	}
	d, err := conn.Prepare(ctx, name, s.sql, s.types)
	if err != nil {
		return false
	}
	s.prepared = name
	for i, g := range s.given {
		p := shard.Param{OID: s.types[i], Value: []byte(g.value)}
		if random.IntN(2) == 0 {
			if data, ok := binaryOf(g, d.ParamOIDs[i]); ok {
				p.Binary, p.Value = true, data
			}
		} else if random.IntN(20) == 0 {
			p.Null, p.Value = true, nil
		}
		s.params = append(s.params, p)
	}
	return true
}

// binaryOf is a value in the binary format of a type.
func binaryOf(g given, oid uint32) ([]byte, bool) {
	var value any = g.value
	switch oid {
	case 20, 21, 23:
		n, err := strconv.ParseInt(g.value, 10, 64)
		if err != nil {
			return nil, false
		}
		value = n
	case 701:
		f, err := strconv.ParseFloat(g.value, 64)
		if err != nil {
			return nil, false
		}
		value = f
	case 1700:
		var n pgtype.Numeric
		if n.Scan(g.value) != nil {
			return nil, false
		}
		value = n
	case 1082, 1114:
		var d pgtype.Date
		if d.Scan(g.value) != nil {
			return nil, false
		}
		value = d
		if oid == 1114 {
			value = d.Time
		}
	case 2950:
		var u pgtype.UUID
		if u.Scan(g.value) != nil {
			return nil, false
		}
		value = u
	}
	data, err := pgtype.NewMap().Encode(oid, pgtype.BinaryFormatCode, value, []byte{})
	return data, err == nil
}

// run carries a statement out and returns its rows, sorted, in text.
func (s *statement) run(ctx context.Context, conn *pgconn.PgConn) (rows []string, err error) {
	if strings.HasPrefix(s.sql, "COPY") {
		_, err := conn.CopyTo(ctx, io.Discard, s.sql)
		return nil, err
	}
	add := func(r *pgconn.ResultReader) {
		for r.NextRow() {
			rows = append(rows, fmt.Sprintf("%q", r.Values()))
		}
	}
	if s.prepared == "" {
		results := conn.Exec(ctx, s.sql)
		for results.NextResult() {
			add(results.ResultReader())
		}
		err = results.Close()
	} else {
		var values [][]byte
		var formats []int16
		for _, p := range s.params {
			values = append(values, p.Value)
			formats = append(formats, 0)
			if p.Binary {
				formats[len(formats)-1] = 1
			}
		}
		r := conn.ExecPrepared(ctx, s.prepared, values, formats, nil)
		add(r)
		_, err = r.Close()
	}
	slices.Sort(rows)
	return rows, err
}

func (s *statement) values() Values { return Values{SQL: []byte(s.sql), Params: s.params} }

func (s *statement) String() string {
	text := s.sql
	for i, p := range s.params {
		text += fmt.Sprintf(" | $%d = %s (type %d, binary %v, null %v)", i+1, s.given[i].value, p.OID, p.Binary, p.Null)
	}
	return text
}

// randomRead makes a template of joins with comparisons in random places.
func randomRead(random *rand.Rand) string {
	compare := func(alias string) string {
		columns := map[string][]string{"u": {"id = {int}", "id IN ({int}, {int})", "email = {email}", "age > {int}"},
			"o": {"id = {int}", "user_id = {int}", "{int} = user_id", "note IS NOT NULL"}, "i": {"order_id = {int}", "id = {uuid}", "qty > {int}"}}[alias]
		text := columns[random.IntN(len(columns))]
		if rest, swapped := strings.CutPrefix(text, "{int} = "); swapped {
			return "{int} = " + alias + "." + rest
		}
		return alias + "." + text
	}
	tables := []struct{ name, alias, on string }{{"users u", "u", ""}, {"orders o", "o", "o.user_id = u.id"}, {"items i", "i", "i.order_id = o.id"}}
	joins := []string{"JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"}
	n := 1 + random.IntN(len(tables))
	any := func(n int) string { return tables[random.IntN(n)].alias }
	from := tables[0].name
	for i := 1; i < n; i++ {
		on := tables[i].on
		if random.IntN(2) == 0 {
			on += " AND " + compare(any(i+1))
		}
		from = "(" + from + " " + joins[random.IntN(len(joins))] + " " + tables[i].name + " ON " + on + ")"
	}
	if n == 3 && random.IntN(2) == 0 {
		inner := "orders o " + joins[random.IntN(len(joins))] + " items i ON i.order_id = o.id AND " + compare([]string{"o", "i"}[random.IntN(2)])
		from = "users u " + joins[random.IntN(len(joins))] + " (" + inner + ") ON o.user_id = u.id"
	}
	outputs := []string{"count(*)", "u.name", "u.id, u.name, u.age", "max(u.age), min(u.name)"}
	if n > 1 {
		outputs = append(outputs, "u.name, o.note", "o.total", "sum(o.total)")
	}
	if n > 2 {
		outputs = append(outputs, "u.name, i.qty", "i.qty, o.note")
	}
	sql := "SELECT " + outputs[random.IntN(len(outputs))] + " FROM " + from
	for i := range random.IntN(4) {
		sql += []string{" WHERE ", " AND ", " AND ", " OR "}[min(i, 1)+i*random.IntN(2)]
		if random.IntN(8) == 0 {
			sql += "NOT "
		}
		sql += compare(any(n))
	}
	if random.IntN(6) == 0 {
		sql += " UNION ALL " + "SELECT " + strings.Join(slices.Repeat([]string{"NULL"}, 1), "") + " FROM orders o WHERE " + compare("o")
	}
	return sql
}

// mixed are the templates of the reads of a round: those of testdata, and as many made up.
func mixed(t testing.TB, random *rand.Rand) (templates []string) {
	templates = lines(t, "testdata/reads.sql")
	for range templates {
		templates = append(templates, randomRead(random))
	}
	return templates
}
