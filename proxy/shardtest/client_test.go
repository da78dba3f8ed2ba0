package shardtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// stepLimit bounds one statement; the machine may be busy.
const stepLimit = 60 * time.Second

// outcome is all that a client is told about one statement.
type outcome struct {
	results []result
	err     *pgconn.PgError // nil: none
	notices []string
	// describes is what Describe told of a prepared statement: types of parameters, then the columns.
	describes []string
	status    byte  // of the transaction afterwards: I, T or E
	lost      error // the connection was lost, or the protocol broken
}

// result is the answer of one statement of a request.
type result struct {
	fields []pgconn.FieldDescription
	rows   [][][]byte
	tag    string
}

// refused reports whether pgtier said that it does not do this.
func (o *outcome) refused() bool { return o.err != nil && o.err.Code == "0A000" }

// state is the SQLSTATE, "" for success.
func (o *outcome) state() string {
	if o.err == nil {
		return ""
	}
	return o.err.Code
}

// runner is who answers statements: a server, pgtier, or what stands in for it.
type runner interface {
	run(s *statement, m mode, values *values) outcome
	// again connects anew after a lost connection.
	again() error
	close()
}

// values are the parameters of a statement in both formats, with their types.
type values struct {
	text, binary [][]byte
	types        []uint32
}

// client is a runner over one connection.
type client struct {
	url     string
	conn    *pgconn.PgConn
	notices []string
	names   int
}

func connect(url string) (*client, error) {
	c := &client{url: url}
	return c, c.again()
}

func (c *client) again() error {
	if c.conn != nil {
		c.close()
	}
	config, err := pgconn.ParseConfig(c.url)
	if err != nil {
		return err
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		c.notices = append(c.notices, n.Severity+" "+n.Code+" "+n.Message)
	}
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	c.conn, err = pgconn.ConnectConfig(ctx, config)
	return err
}

func (c *client) close() {
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	_ = c.conn.Close(ctx)
}

// copies recognises COPY with the client. COPY inside a request of several statements is not used.
var copies = regexp.MustCompile(`(?is)^\s*COPY\s.*\b(FROM STDIN|TO STDOUT)\b`)

func (c *client) run(s *statement, m mode, v *values) outcome {
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	c.notices = nil
	var o outcome
	var err error
	copying := copies.FindStringSubmatch(s.sql)
	switch {
	case copying != nil && strings.EqualFold(copying[1], "FROM STDIN"):
		var tag pgconn.CommandTag
		tag, err = c.conn.CopyFrom(ctx, strings.NewReader(s.data), s.sql)
		o.results = []result{{tag: tag.String()}}
	case copying != nil:
		var out bytes.Buffer
		var tag pgconn.CommandTag
		tag, err = c.conn.CopyTo(ctx, &out, s.sql)
		o.results = []result{{tag: tag.String(), rows: copiedRows(out.Bytes())}}
	case m == simpleText:
		var all []*pgconn.Result
		all, err = c.conn.Exec(ctx, s.literal()).ReadAll()
		o.results = resultsOf(all...)
	case m == unnamed:
		one := c.conn.ExecParams(ctx, s.sql, v.text, nil, nil, nil).Read()
		o.results, err = resultsOf(one), one.Err
	case m == described:
		err = c.runPrepared(ctx, s, v, nil, &o)
	default:
		err = c.runPrepared(ctx, s, v, v.types, &o)
	}
	if err != nil && !errors.As(err, &o.err) {
		o.lost = err
	}
	if o.err != nil && len(o.results) == 1 {
		o.results = nil // what came before the error is not the answer; how much did is nobody's promise
	}
	o.notices = c.notices
	o.status = c.conn.TxStatus()
	if c.conn.IsClosed() && o.lost == nil {
		o.lost = errors.New("the connection was closed")
	}
	return o
}

// runPrepared runs the statement twice, because the second time is served from what the first has left.
func (c *client) runPrepared(ctx context.Context, s *statement, v *values, types []uint32, o *outcome) error {
	c.names++
	name := fmt.Sprintf("stmt%d", c.names)
	described, err := c.conn.Prepare(ctx, name, s.sql, types)
	if err != nil {
		return err
	}
	for _, t := range described.ParamOIDs {
		o.describes = append(o.describes, fmt.Sprint(typeName(t)))
	}
	for _, f := range described.Fields {
		o.describes = append(o.describes, fieldText(f))
	}
	formats := make([]int16, len(v.binary))
	for i := range formats {
		formats[i] = 1
	}
	one := c.conn.ExecPrepared(ctx, name, v.binary, formats, []int16{1}).Read()
	o.results = resultsOf(one)
	if one.Err == nil && s.reads() {
		one = c.conn.ExecPrepared(ctx, name, v.binary, formats, []int16{1}).Read()
		o.results = append(o.results, resultsOf(one)...)
	}
	if c.conn.TxStatus() == 'E' || c.conn.IsClosed() {
		return one.Err
	}
	return errors.Join(one.Err, c.conn.Deallocate(ctx, name))
}

func resultsOf(all ...*pgconn.Result) []result {
	results := make([]result, len(all))
	for i, r := range all {
		results[i] = result{fields: r.FieldDescriptions, rows: r.Rows, tag: r.CommandTag.String()}
	}
	return results
}

// copyHeader is what binary COPY begins with (the manual's page on COPY, "Binary Format"), before two numbers of 4 bytes.
var copyHeader = []byte("PGCOPY\n\xff\r\n\x00")

// copiedRows cuts what COPY gave into rows of one value. Text with line breaks inside quotes is cut there too, which
// does not matter: both sides are cut alike.
func copiedRows(out []byte) (rows [][][]byte) {
	body, binary := bytes.CutPrefix(out, copyHeader)
	if !binary {
		for line := range bytes.SplitAfterSeq(out, []byte("\n")) {
			if len(line) > 0 {
				rows = append(rows, [][]byte{line})
			}
		}
		return rows
	}
	const numbers = 8 // flags, and the length of an extension, which is 0
	for body = body[min(numbers, len(body)):]; len(body) >= 2; {
		row := tupleLength(body)
		rows, body = append(rows, [][]byte{body[:row]}), body[row:]
	}
	return rows
}

// tupleLength is the length of the first row of a binary COPY.
func tupleLength(body []byte) int {
	fields := int(int16(uint16(body[0])<<8 | uint16(body[1])))
	at := 2
	for range max(fields, 0) {
		if at+4 > len(body) {
			return len(body)
		}
		length := int(int32(uint32(body[at])<<24 | uint32(body[at+1])<<16 | uint32(body[at+2])<<8 | uint32(body[at+3])))
		at += 4 + max(length, 0)
	}
	return min(at, len(body))
}

// encoder makes the binary form of parameters by asking a server.
type encoder struct {
	conn  *pgconn.PgConn
	known map[string][]byte // by type and text
}

// values finds the types that a server gives the statement's parameters, and their values in both formats. A statement
// that cannot be prepared gets its values as text only.
func (e *encoder) values(s *statement) *values {
	v := &values{}
	for _, p := range s.params {
		text := []byte(p.text)
		if p.null {
			text = nil
		}
		v.text = append(v.text, text)
	}
	if len(s.params) == 0 {
		return v
	}
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	described, err := e.conn.Prepare(ctx, "", s.sql, nil)
	if err != nil || len(described.ParamOIDs) != len(s.params) {
		v.binary = slices.Clone(v.text)
		return v
	}
	v.types = described.ParamOIDs
	for i, text := range v.text {
		binary, err := e.encode(ctx, v.types[i], text)
		if v.types[i] >= firstUserOID {
			v.types[i] = 0 // it has another number on another server
		}
		if err != nil {
			binary = text // it is no value of the type: let the servers say so
		}
		v.binary = append(v.binary, binary)
	}
	return v
}

func (e *encoder) encode(ctx context.Context, oid uint32, text []byte) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	at := fmt.Sprint(oid, " ", string(text))
	if known, ok := e.known[at]; ok {
		return known, nil
	}
	r := e.conn.ExecParams(ctx, "SELECT $1", [][]byte{text}, []uint32{oid}, nil, []int16{1}).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	e.known[at] = slices.Clone(r.Rows[0][0])
	return e.known[at], nil
}
