package proxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
)

// newTalk is newSpread with a plain database "whole" beside it, on the first shard's server, that has all the rows: what it
// says is what a client must hear.
func newTalk(t testing.TB, edit func(*proxy.Config)) (s *spread, p *running, whole *running) {
	t.Helper()
	s, p = newSpreadOf(t, localpg.Options{Shards: 3, Auth: "trust", Settings: map[string]string{"max_prepared_transactions": "20"}}, edit)
	at := s.cluster.Shards[0].Manager
	pgtest.Exec(t, at, "postgres", "CREATE DATABASE whole")
	pgtest.Exec(t, at, "whole", spreadSQL+"INSERT INTO accounts SELECT id, 'a' || id % 7, 100 FROM generate_series(0, 29) id;")
	return s, p, &running{address: at.Address(), database: "whole"}
}

// talk is a conversation: each line is a write of the client, made of messages with " ; " between them. A message is a letter
// and its fields, with "|" between them:
//
//	Q text · P name|text · B portal|statement|parameters… · D S|name · D P|portal · E portal|most · C S|name · C P|portal
//	S (Sync) · H (Flush) · d text (CopyData, with a line feed) · c (CopyDone) · f why (CopyFail)
//
// {a}, {b} and {c} are accounts of three shards.
type talk struct {
	name  string
	lines []string
}

// messages are those of one line.
func messages(t testing.TB, line string) (out []byte) {
	t.Helper()
	for _, m := range strings.Split(line, " ; ") {
		kind, rest, _ := strings.Cut(m, " ")
		fields := strings.Split(rest, "|")
		switch kind {
		case "Q":
			out = wire.AppendQuery(out, rest)
		case "P":
			out = wire.AppendParse(out, fields[0], []byte(fields[1]), nil)
		case "B":
			var at int
			out, at = wire.Begin(out, wire.MsgBind)
			out = wire.AppendString(wire.AppendString(out, fields[0]), fields[1])
			out = binary.BigEndian.AppendUint16(append(out, 0, 0), uint16(len(fields)-2))
			for _, p := range fields[2:] {
				out = append(binary.BigEndian.AppendUint32(out, uint32(len(p))), p...)
			}
			out = wire.End(append(out, 0, 0), at)
		case "D", "C":
			var at int
			out, at = wire.Begin(out, map[string]byte{"D": wire.MsgDescribe, "C": wire.MsgClose}[kind])
			out = wire.End(wire.AppendString(append(out, fields[0]...), fields[1]), at)
		case "E":
			most, _ := strconv.Atoi(fields[1])
			var at int
			out, at = wire.Begin(out, wire.MsgExecute)
			out = wire.End(binary.BigEndian.AppendUint32(wire.AppendString(out, fields[0]), uint32(most)), at)
		case "S":
			out = wire.AppendSync(out)
		case "H":
			out = wire.AppendEmpty(out, wire.MsgFlush)
		case "F": // a call of a function that is not there
			var at int
			out, at = wire.Begin(out, wire.MsgFunction)
			out = wire.End(append(out, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0), at)
		case "d":
			var at int
			out, at = wire.Begin(out, wire.MsgCopyData)
			out = wire.End(append(append(out, strings.ReplaceAll(rest, `\t`, "\t")...), '\n'), at)
		case "c":
			out = wire.AppendEmpty(out, wire.MsgCopyDone)
		case "f":
			var at int
			out, at = wire.Begin(out, wire.MsgCopyFail)
			out = wire.End(wire.AppendString(out, rest), at)
		default:
			t.Fatalf("message %q", m)
		}
	}
	return out
}

// hear reads most messages, or until nothing comes for as long as within; those that may come at any time are left out.
func (c *rawClient) hear(most int, within time.Duration) (out []string, err error) {
	defer func() { _ = c.nc.SetReadDeadline(time.Time{}) }()
	for len(out) < most {
		_ = c.nc.SetReadDeadline(time.Now().Add(within))
		kind, body, err := c.message()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		switch kind {
		case wire.MsgDataRow:
			fields, err := wire.RowFields(body)
			if err != nil {
				return out, err
			}
			out = append(out, "D:"+strings.Join(strings.Split(string(joinFields(fields)), "\x00"), ","))
		case wire.MsgCommandComplete:
			out = append(out, "C:"+string(body[:len(body)-1]))
		case wire.MsgErrorResponse:
			e := wire.ParseError(body)
			out = append(out, "E:"+e.Code)
			if os.Getenv("TALK") != "" {
				fmt.Println("   error:", e.Message, e.Detail)
			}
		case wire.MsgReadyForQuery:
			out = append(out, "Z:"+string(body))
		case wire.MsgRowDescription:
			out = append(out, fmt.Sprintf("T:%d", binary.BigEndian.Uint16(body)))
		case wire.MsgCopyData:
			out = append(out, "d:"+strings.TrimRight(string(body), "\n"))
		case wire.MsgParameterStatus, wire.MsgNotification:
		case wire.MsgNoticeResponse:
			out = append(out, "N:"+wire.ParseError(body).Code)
		default:
			out = append(out, string(kind))
		}
	}
	return out, nil
}

func joinFields(fields [][]byte) (out []byte) {
	for i, f := range fields {
		if i > 0 {
			out = append(out, 0)
		}
		out = append(out, f...)
	}
	return out
}

// answers is how many ReadyForQuery a line brings outside of a COPY.
func answers(line string) (n int) {
	for _, m := range strings.Split(line, " ; ") {
		switch m[0] {
		case 'Q', 'S', 'F', 'c', 'f':
			n++
		}
	}
	return n
}

// clean brings the rows back that a conversation begins with.
const clean = "DELETE FROM cards; UPDATE accounts SET owner = 'a' || id % 7, balance = 100; DELETE FROM accounts WHERE id >= 30; DELETE FROM rates; DELETE FROM notes;"

// same fails the test unless the client hears from the proxy what it hears from the whole database, and no more.
func (s *spread) same(t *testing.T, p, whole *running, conversations []talk) {
	ids := s.ids(t)
	for _, talk := range conversations {
		t.Run(talk.name, func(t *testing.T) {
			for i := range s.cluster.Shards {
				pgtest.Exec(t, s.cluster.Shards[i].Manager, s.database, clean)
			}
			pgtest.Exec(t, s.cluster.Shards[0].Manager, "whole", clean)
			one, other := whole.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
			for _, line := range append(talk.lines, "Q SELECT 'the end'", "Q SELECT id, owner, balance FROM accounts ORDER BY id") {
				line = ids.Replace(line)
				msgs := messages(t, line)
				one.write(t, msgs)
				var want []string
				for quiet := 0; ; {
					more, err := one.hear(1, 150*time.Millisecond)
					if err != nil {
						t.Fatalf("%s: the whole database said %q, %v", line, want, err)
					}
					if len(more) == 0 {
						if quiet++; quiet > 0 {
							break
						}
					}
					want = append(want, more...)
					if strings.Count(strings.Join(want, " "), "Z:") == answers(line) && answers(line) > 0 && !strings.Contains(line, "c ;") {
						break
					}
				}
				other.write(t, msgs)
				got, err := other.hear(len(want), 10*time.Second)
				for err == nil && len(plain(got)) < len(plain(want)) { // more ParseComplete and BindComplete than the whole says
					var more []string
					if more, err = other.hear(1, limit); len(more) == 0 {
						break
					}
					got = append(got, more...)
				}
				if fmt.Sprint(plain(got)) != fmt.Sprint(plain(want)) || err != nil {
					t.Fatalf("%s:\n got %q, %v\nwant %q", line, got, err, want)
				}
			}
		})
	}
}

// What several shards do is not asked before it is described or executed, so that ParseComplete and BindComplete come even
// where one server would say in their place what is wrong: plain leaves ParseComplete and BindComplete in front of errors out.
func plain(heard []string) (out []string) {
	for _, m := range heard {
		for strings.HasPrefix(m, "E:") && len(out) > 0 && (out[len(out)-1] == "1" || out[len(out)-1] == "2") {
			out = out[:len(out)-1]
		}
		out = append(out, m)
	}
	return out
}

// ids replaces {a}, {b}, {c} by accounts of the three shards.
func (s *spread) ids(t testing.TB) *strings.Replacer {
	t.Helper()
	var pairs []string
	for i, name := range []string{"{a}", "{b}", "{c}"} {
		pairs = append(pairs, name, s.on(t, i, "SELECT min(id) FROM accounts WHERE id < 30"))
	}
	return strings.NewReplacer(pairs...)
}
