package session

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"pgtier/proxy/copyrows"
	"pgtier/proxy/wire"
)

// A shard that refuses a row of COPY tells its line, counted in what the shard was sent. The client knows its own lines.

// lineCount counts lines as a server does that reads a stream (CopyReadLineText in src/backend/commands/copyfromparse.c). Inside quotes of
// CSV it counts the character that its lines end with, which it knows from the first; of that one it counts carriage returns.
type lineCount struct {
	lines int64
	end   byte // 0 before the first line
}

// add counts one piece of the stream: a line with its end, in which others may be, or a row of binary.
func (c *lineCount) add(piece []byte, kind string) (lines int64) {
	if kind == "csv" {
		end := c.end
		if end == 0 {
			end = '\r'
		}
		inner := bytes.TrimSuffix(piece, []byte("\n"))
		crlf := len(inner) < len(piece) && bytes.HasSuffix(inner, []byte("\r"))
		if crlf {
			inner = inner[:len(inner)-1]
		}
		if lines = int64(bytes.Count(inner, []byte{end})); c.end == 0 {
			c.end = '\n'
			if crlf {
				c.end = '\r'
			}
		}
	}
	lines++
	c.lines += lines
	return lines
}

// copyLines are the client's lines behind those that a shard was sent, as far back as they are kept: a server reads what its socket holds.
type copyLines struct {
	count lineCount
	from  int64 // the client's line of the last one
	// steps are, for each row kept, how many lines further it ends, here and in the client's stream. start and startFrom are where they begin.
	steps            []byte
	start, startFrom int64
}

// maxCopySteps bounds the lines kept of a shard, in bytes: most take two.
const maxCopySteps = 1 << 20

// add notes a piece that the shard is sent, which ends at a line of the client's.
func (l *copyLines) add(piece []byte, kind string, from int64) {
	l.steps = binary.AppendUvarint(l.steps, uint64(l.count.add(piece, kind)))
	l.steps = binary.AppendUvarint(l.steps, uint64(from-l.from))
	l.from = from
	if len(l.steps) <= maxCopySteps {
		return
	}
	rest := l.steps
	for len(rest) > maxCopySteps/2 {
		rest = l.step(rest, &l.start, &l.startFrom)
	}
	l.steps = append(l.steps[:0], rest...)
}

// step takes the first step.
func (l *copyLines) step(steps []byte, line, from *int64) []byte {
	a, n := binary.Uvarint(steps)
	b, m := binary.Uvarint(steps[n:])
	*line += int64(a)
	*from += int64(b)
	return steps[n+m:]
}

// of is the client's line for one of the shard's; ok is false if that is not known.
func (l *copyLines) of(line int64) (from int64, ok bool) {
	at, from := l.start, l.startFrom
	for rest := l.steps; len(rest) > 0 && at < line; {
		rest = l.step(rest, &at, &from)
	}
	return from, at == line && at > l.start
}

// copyContext is what a server says of the place in a COPY. Other languages than English have another word for line.
var copyContext = regexp.MustCompile(`^(COPY .*?, line )(\d+)`)

// copyCounts are errors of COPY that count the fields of a row (copyfromparse.c). In other languages than English they count those in front of the client's too.
var copyCounts = regexp.MustCompile(`^(?:row field count is (\d+), expected (\d+)$|wrong number of fields in header line: got (\d+), expected (\d+)$|column name mismatch in header line field (\d+): )`)

// fewer takes n off the numbers of fields in such an error.
func fewer(message string, n int) string {
	places := copyCounts.FindStringSubmatchIndex(message)
	for i := len(places) - 2; n > 0 && i > 0; i -= 2 {
		if places[i] >= 0 {
			count, _ := strconv.Atoi(message[places[i]:places[i+1]])
			message = message[:places[i]] + strconv.Itoa(count-n) + message[places[i+1]:]
		}
	}
	return message
}

// told is the error of a shard with the client's line in its context, or without the place if that is not known. front is what the shard's rows had in
// front of the client's.
func (l *copyLines) told(e *wire.Error, front *copyrows.Front) *wire.Error {
	if e.Sent == nil {
		return e
	}
	out := *e
	out.Sent = nil
	wire.ErrorFields(e.Sent, func(field byte, v string) {
		switch field {
		case 'W':
			v = l.context(v, front)
		case 'M':
			v = fewer(v, front.Count())
		}
		if field != 'W' || v != "" {
			out.Sent = wire.AppendString(append(out.Sent, field), v)
		}
	})
	out.Sent = append(out.Sent, 0)
	return &out
}

// context is text, in which the first line about a COPY is about this one: a value that it shows may have lines of its own.
func (l *copyLines) context(text string, front *copyrows.Front) string {
	lines := strings.Split(text, "\n")
	for i, one := range lines {
		if !strings.HasPrefix(one, "COPY ") {
			continue
		}
		if m := copyContext.FindStringSubmatchIndex(one); m != nil {
			line, _ := strconv.ParseInt(one[m[4]:m[5]], 10, 64)
			if from, ok := l.of(line); ok {
				lines[i] = one[:m[4]] + strconv.FormatInt(from, 10) + front.Cut(one[m[5]:])
				return strings.Join(lines, "\n")
			}
		}
		return strings.Join(slices.Delete(lines, i, len(lines)), "\n")
	}
	return text
}
