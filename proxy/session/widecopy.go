package session

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"pgtier/proxy/copyrows"
	"pgtier/proxy/wire"
	"pgtier/router/plan"
)

// copyIn is a COPY FROM STDIN under way whose rows go to the shards of their keys.
type copyIn struct {
	plan    *plan.Copy
	whole   bool             // all of it to all shards
	cutter  *copyrows.Cutter // nil if no row is looked into
	front   *copyrows.Front  // what rows get in front of their fields; nil for nothing
	taking  []*branch
	bufs    [][]byte    // by branch: rows to send
	lines   []copyLines // by branch
	shards  []int       // by branch
	count   lineCount   // of the client's stream
	rows    int64
	ascii   bool // keys beyond ASCII are not those that the server will have
	ended   bool // its end marker has come
	failure *wire.Error
	doomed  *wire.Error // a row was sent that no server may take
}

// copyFlush is how much is gathered for a shard before it is sent, in bytes.
const copyFlush = 32 << 10

// cutFormat is the format of a COPY as rows are cut by it.
func cutFormat(f *plan.CopyFormat) copyrows.Format {
	out := copyrows.Format{Delimiter: f.Delimiter, Quote: f.Quote, Escape: f.Escape, Null: f.Null, Header: f.Header, Match: f.Match}
	switch f.Name {
	case "csv":
		out.Kind = copyrows.CSV
	case "binary":
		out.Kind = copyrows.Binary
	}
	return out
}

// embedsASCII are client encodings in which a byte of another character may look like an ASCII one (PG_ENCODING_IS_CLIENT_ONLY
// in src/include/mb/pg_wchar.h).
var embedsASCII = map[string]bool{"SJIS": true, "BIG5": true, "GBK": true, "UHC": true, "GB18030": true, "JOHAB": true, "SHIFT_JIS_2004": true}

// beginCopy has all shards begin a COPY FROM STDIN, and the client send its rows.
func (x *wide) beginCopy(j *job) (refusal *wire.Error, err error) {
	if j.extended {
		return notWide("COPY FROM STDIN by the extended protocol", "Send it as a simple query."), nil
	}
	if embedsASCII[x.s.params.Value("client_encoding")] {
		return notWide("COPY in client_encoding "+x.s.params.Value("client_encoding"), "SET client_encoding = 'UTF8'."), nil
	}
	c := &copyIn{plan: j.plan.Copy, shards: x.shards(j), ascii: x.s.circumstances().ASCII}
	c.whole = c.plan == nil || len(c.plan.Key) == 0
	if !c.whole || c.plan != nil && len(c.plan.Clocks) > 0 {
		c.cutter = copyrows.New(cutFormat(&c.plan.Format), slices.Concat(c.plan.Key, c.plan.Clocks))
	}
	if refusal := x.stampRows(c, j); refusal != nil {
		return refusal, nil
	}
	text, err := c.plan.Text(j.text)
	if err != nil {
		return asRefusal(err)
	}
	for _, index := range c.shards {
		b, err := x.branch(index, true)
		if err != nil {
			return asRefusal(err)
		}
		c.taking = append(c.taking, b)
	}
	if x.stale() {
		return &wire.Error{Code: "40001", Message: "the map of buckets has changed", Cause: errStale}, nil
	}
	for _, b := range c.taking {
		b.wrote = true
	}
	x.changes(j, c.taking...)
	if refusal, err = x.asks(j, c.taking); refusal != nil || err != nil {
		return refusal, err
	}
	for i, b := range c.taking {
		if err := b.send(wire.AppendQuery(nil, string(text))); err != nil {
			return nil, err
		}
		if i == 0 || !c.whole {
			b.loud = x
		}
	}
	c.bufs, c.lines = make([][]byte, len(c.taking)), make([]copyLines, len(c.taking))
	for i, b := range c.taking {
		f, done, err := b.next(x.s)
		switch {
		case err != nil:
			return nil, err
		case b.failed != nil || done:
			return x.endCopies(c.taking, b.failed)
		case f.Type != wire.MsgCopyInResponse:
			b.c.Spoil("no answer to COPY")
			return nil, errGarbage
		case i == 0:
			x.out = appendCopyIn(x.out, f.Raw, c.front.Count())
		}
	}
	x.copying = c
	return nil, nil
}

// stampRows has each row of a COPY get the values of columns that it has not.
func (x *wide) stampRows(c *copyIn, j *job) *wire.Error {
	stamps := c.plan.Stamps()
	if len(stamps) == 0 {
		return nil
	}
	var names []string
	var values [][]byte
	for i, s := range stamps {
		if c.ascii && strings.ContainsFunc(s.Name, func(r rune) bool { return r > unicode.MaxASCII }) {
			return notWide("COPY whose rows' column "+s.Name+" gets a default, in another client_encoding than the database's own", "Copy the column too.")
		}
		value := []byte(j.stamps[i])
		if c.plan.Format.Name == "binary" {
			var err error
			if value, err = hex.DecodeString(j.stamps[i]); err != nil {
				return notWide("COPY whose rows' column "+s.Name+" gets a default that is not known", "Copy the column too.")
			}
		}
		names, values = append(names, s.Name), append(values, value)
	}
	front, err := copyrows.NewFront(cutFormat(&c.plan.Format), names, values)
	if err != nil {
		return notWide("COPY whose rows get a default that would be read as NULL", "Choose another text for NULL.")
	}
	c.front = front
	return nil
}

// appendCopyIn appends a CopyInResponse without the first fields, of which the client does not know.
func appendCopyIn(dst, raw []byte, without int) []byte {
	const counted = wire.HeaderBytes + 3 // behind the format of all and the number of fields
	if without == 0 || len(raw) < counted+2*without {
		return append(dst, raw...)
	}
	dst, at := wire.Begin(dst, wire.MsgCopyInResponse)
	dst = append(dst, raw[wire.HeaderBytes])
	dst = binary.BigEndian.AppendUint16(dst, binary.BigEndian.Uint16(raw[wire.HeaderBytes+1:])-uint16(without))
	return wire.End(append(dst, raw[counted+2*without:]...), at)
}

// endCopies ends copies that have begun on some shards because it could not on another.
func (x *wide) endCopies(taking []*branch, refusal *wire.Error) (*wire.Error, error) {
	for _, b := range taking {
		if !b.busy {
			continue
		}
		if err := b.c.Write(appendCopyFail(nil, "another shard has refused")); err != nil {
			return nil, err
		}
		if err := b.drain(x.s); err != nil {
			return nil, err
		}
	}
	return refusal, nil
}

func appendCopyFail(dst []byte, why string) []byte {
	dst, at := wire.Begin(dst, wire.MsgCopyFail)
	return wire.End(wire.AppendString(dst, why), at)
}

func appendCopyData(dst, data []byte) []byte {
	dst, at := wire.Begin(dst, wire.MsgCopyData)
	return wire.End(append(dst, data...), at)
}

// copyMore takes what the client has sent into a COPY. false ends the session.
func (s *Session) copyMore() bool {
	x := s.wide
	for s.in.Len() > 0 && x.copying != nil {
		b := s.in.Bytes()
		size, ok := wire.FrameSize(b)
		if ok && (size == 0 || size > s.env.limit().MaxMessage || size > copyrows.MaxRow) {
			s.refuse("invalid message length")
			return false
		}
		if !ok || len(b) < size {
			return true
		}
		done, err := x.copyMessage(b[:size])
		s.in.Skip(size)
		if err != nil {
			return x.lost(err)
		}
		if done {
			return s.endWide(x)
		}
	}
	return true
}

// copyMessage serves one message of a COPY. done tells that the query is answered.
func (x *wide) copyMessage(frame []byte) (done bool, err error) {
	c := x.copying
	switch frame[0] {
	case wire.MsgCopyData:
		if c.failure == nil && !c.ended {
			c.failure, err = x.copyData(c, frame[wire.HeaderBytes:])
		}
		return false, err
	case wire.MsgFlush, wire.MsgSync:
		return false, nil // a server that copies ignores them
	case wire.MsgCopyDone:
		if c.failure == nil && c.cutter != nil {
			if piece, part := c.cutter.Rest(); len(piece) > 0 && !c.ended {
				c.failure = x.copyPiece(c, piece, part)
			}
		}
		return true, x.finishCopy(c, "")
	case wire.MsgCopyFail:
		why, _, _ := cutZero(frame[wire.HeaderBytes:])
		return true, x.finishCopy(c, "COPY from stdin failed: "+string(why))
	}
	c.failure = &wire.Error{Code: wire.CodeProtocolViolation, Message: fmt.Sprintf("unexpected message type 0x%02X during COPY from stdin", frame[0])}
	return true, x.finishCopy(c, "")
}

// copyData hands out what the client has sent.
func (x *wide) copyData(c *copyIn, data []byte) (refusal *wire.Error, err error) {
	if c.cutter == nil {
		for i := range c.bufs {
			c.bufs[i] = append(c.bufs[i], data...)
		}
	} else {
		c.cutter.Add(data)
	}
	for refusal == nil && !c.ended && c.cutter != nil {
		piece, part, failed := c.cutter.Next()
		if failed != nil {
			return &wire.Error{Code: "22P04", Message: failed.Error()}, nil
		}
		if piece == nil {
			break
		}
		refusal = x.copyPiece(c, piece, part)
	}
	for i, b := range c.taking {
		if len(c.bufs[i]) < copyFlush {
			continue
		}
		if err := x.copySend(b, &c.bufs[i]); err != nil {
			return nil, err
		}
	}
	return refusal, nil
}

// copySend sends a shard the rows gathered for it. A server that has refused some already reads on, and says so at the end.
func (x *wide) copySend(b *branch, buf *[]byte) error {
	err := b.write(x.s, appendCopyData(nil, *buf))
	*buf = (*buf)[:0]
	return err
}

// copyPiece keeps a piece of the stream for the shards that it is for.
func (x *wide) copyPiece(c *copyIn, piece []byte, part copyrows.Part) *wire.Error {
	if c.plan.Format.Name != "binary" || part == copyrows.Row {
		c.count.add(piece, c.plan.Format.Name)
	}
	if part != copyrows.Row {
		c.ended = part == copyrows.End
		for i := range c.bufs {
			c.give(i, piece, part)
		}
		return nil
	}
	c.rows++
	fields := c.cutter.Fields()
	keys := len(c.plan.Key)
	for _, f := range fields[keys:] {
		if f.Given && c.plan.TellsTime(plan.CopyField{Null: f.Null, Value: f.Value}) {
			return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("row %d of COPY has 'now', 'today', 'tomorrow' or 'yesterday', which each shard reads by its own clock", c.rows),
				Hint: "Send the date or time itself."}
		}
	}
	if c.whole {
		for i := range c.bufs {
			c.bufs[i] = append(c.bufs[i], piece...)
		}
		return nil
	}
	key := make([]plan.CopyField, keys)
	for i, f := range fields[:keys] {
		if !f.Given { // the server says that the row is too short
			c.give(0, piece, part)
			return nil
		}
		key[i] = c.plan.Field(i, f.Null, f.Value)
	}
	if c.ascii && !c.plan.ASCII(key) {
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("the key of row %d of COPY has letters beyond ASCII, and client_encoding %s is not the database's own", c.rows, x.s.params.Value("client_encoding")),
			Hint: "SET client_encoding = '" + x.s.params.Value("server_encoding") + "', and send the rows in it."}
	}
	if why, certain := c.plan.NullKey(key); why != nil {
		if !certain {
			return planRefusal(why)
		}
		c.doomed = planRefusal(why)
		c.give(0, piece, part) // the server says which row it was
		return nil
	}
	at, ok := c.plan.Shard(key)
	if !ok {
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("the key of row %d of COPY cannot be read for certain", c.rows),
			Hint: "Write dates and numbers in their plain forms (2024-01-31, -12.5)."}
	}
	at = slices.Index(c.shards, at) // owners are among them
	c.give(at, piece, part)
	if n := len(piece); n > 0 && part == copyrows.Row && c.plan.Format.Name != "binary" && piece[n-1] != '\n' {
		c.bufs[at] = append(c.bufs[at], '\n') // the last line, behind which another shard's may come
	}
	return nil
}

// give keeps a piece for one shard.
func (c *copyIn) give(i int, piece []byte, part copyrows.Part) {
	c.bufs[i] = c.front.Append(c.bufs[i], piece, part)
	if c.plan.Format.Name != "binary" || part == copyrows.Row {
		c.lines[i].add(piece, c.plan.Format.Name, c.count.lines)
	}
}

// finishCopy ends the COPY on all shards; why it fails, "" if it does not.
func (x *wide) finishCopy(c *copyIn, why string) error {
	x.copying = nil
	refusal := c.failure
	if refusal == nil && why != "" {
		refusal = &wire.Error{Code: "57014", Message: why}
	}
	for i, b := range c.taking {
		end := append([]byte(nil), wire.MsgCopyDone, 0, 0, 0, 4)
		if refusal != nil {
			end = appendCopyFail(nil, refusal.Message)
		} else if len(c.bufs[i]) > 0 {
			end = append(appendCopyData(nil, c.bufs[i]), end...)
		}
		if err := b.write(x.s, end); err != nil {
			return err
		}
	}
	sum := int64(0)
	for i, b := range c.taking {
		if err := b.drain(x.s); err != nil {
			return err
		}
		if b.failed != nil && refusal == nil {
			refusal = b.failed
			if !c.whole {
				refusal = c.lines[i].told(refusal, c.front)
			}
		}
		if sum += counted(b.tag); c.whole {
			sum = counted(b.tag) // each has all rows
		}
	}
	if refusal == nil {
		refusal = c.doomed
	}
	if refusal != nil {
		x.refuse(refusal)
	} else {
		x.complete("COPY " + strconv.FormatInt(sum, 10))
	}
	return x.endQuery()
}

// copyOut sends the client the rows of a COPY TO STDOUT, of one shard after the other.
func (x *wide) copyOut(j *job) (refusal *wire.Error, err error) {
	if j.extended {
		return notWide("COPY TO STDOUT by the extended protocol", "Send it as a simple query."), nil
	}
	begins := !x.bare(j)
	var taking []*branch
	for _, index := range j.plan.Shards {
		b, err := x.branch(index, begins)
		if err != nil {
			return asRefusal(err)
		}
		taking = append(taking, b)
	}
	if x.stale() {
		return &wire.Error{Code: "40001", Message: "the map of buckets has changed", Cause: errStale}, nil
	}
	if refusal, err = x.bareLevels(begins, taking); refusal != nil || err != nil {
		return refusal, err
	}
	for i, b := range taking {
		text := j.text
		if j.plan.Parts != nil {
			if text, err = j.plan.Parts.Text(i, j.text); err != nil {
				return asRefusal(err)
			}
		}
		b.c.SetUnnamed(nil)
		if err := b.send(wire.AppendQuery(nil, string(text))); err != nil {
			return nil, err
		}
		b.loud = x
	}
	rows := int64(0)
	for i, b := range taking {
		if err := x.copyFrom(j.plan.Copy, b, i == 0, i == len(taking)-1); err != nil {
			return nil, err
		}
		if b.failed != nil {
			return b.failed, x.stopOthers()
		}
		rows += counted(b.tag)
	}
	x.out = wire.AppendEmpty(x.out, wire.MsgCopyDone)
	x.complete("COPY " + strconv.FormatInt(rows, 10))
	return nil, nil
}

// copyFrom sends the client one shard's rows. What begins a stream is taken from the first shard, what ends it from the last.
func (x *wide) copyFrom(c *plan.Copy, b *branch, first, last bool) error {
	binary, header := c != nil && c.Format.Name == "binary", c != nil && c.Format.Header
	begun := false
	for {
		f, done, err := b.next(x.s)
		if done || err != nil {
			return err
		}
		if f.Type == wire.MsgCopyOutResponse && first {
			x.out = append(x.out, f.Raw...)
		}
		if f.Type != wire.MsgCopyData {
			continue
		}
		data := f.Body()
		switch {
		case binary:
			data = binaryPart(data, !begun, first, last)
		case header && !begun && !first:
			data = nil
		}
		begun = true
		if len(data) > 0 || !binary && (first || !header) {
			x.out = appendCopyData(x.out, data)
		}
		if err := x.flush(); err != nil {
			return err
		}
	}
}

// binaryHead is the size of the header of a binary COPY, whose extension servers leave empty.
const binaryHead = 19

// binaryPart is what one message of a shard's binary COPY is to the whole. A server sends the header together with the
// first row, or with the end where there is none; and the end, a tuple of -1 fields, by itself behind rows.
func binaryPart(data []byte, begins, first, last bool) []byte {
	head, rest := data[:0], data
	if begins && len(data) >= binaryHead {
		head, rest = data[:binaryHead], data[binaryHead:]
	}
	if string(rest) == "\xff\xff" && !last {
		rest = nil
	}
	if first {
		return data[:len(head)+len(rest)]
	}
	return rest
}
