package follow

import (
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
)

// watchMemory returns a function that tells by how many bytes the heap has grown at most since.
func (r *rig) watchMemory() func() int64 {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	runtime.GC()
	before, most := heap(), int64(0)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends when done is closed
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				most = max(most, heap()-before)
			}
		}
	}()
	return func() int64 {
		close(done)
		<-ended
		return most
	}
}

// Messages of pgoutput, as PostgreSQL writes them (logicalproto.c).
func begin(xid uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{'B'}, make([]byte, 16)...), xid)
}

func commit(end uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'C', 0}, end-8)
	return append(binary.BigEndian.AppendUint64(b, end), make([]byte, 8)...)
}

func relationOf(oid uint32, columns ...string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'R'}, oid)
	b = append(b, "s\x00t\x00d"...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
	for i, c := range columns {
		flags := byte(0)
		if i == 0 {
			flags = 1
		}
		b = append(append(append(b, flags), c...), 0)
		b = append(b, make([]byte, 8)...)
	}
	return b
}

func tupleOf(letter byte, values ...string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{letter}, uint16(len(values)))
	for _, v := range values {
		if v == "n" || v == "u" {
			b = append(b, v[0])
			continue
		}
		b = append(binary.BigEndian.AppendUint32(append(b, 't'), uint32(len(v))), v...)
	}
	return b
}

func changeOf(kind byte, oid uint32, tuples ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, oid)
	for _, t := range tuples {
		b = append(b, t...)
	}
	return b
}

func truncateOf(oids ...uint32) []byte {
	b := append(binary.BigEndian.AppendUint32([]byte{'T'}, uint32(len(oids))), 0)
	for _, oid := range oids {
		b = binary.BigEndian.AppendUint32(b, oid)
	}
	return b
}

// wellFormed is one of each message.
func wellFormed() [][]byte {
	return [][]byte{begin(7), relationOf(1, "id", "v"), changeOf('I', 1, tupleOf('N', "12", "n")), changeOf('U', 1, tupleOf('N', "12", "u")),
		changeOf('U', 1, tupleOf('K', "12", "n"), tupleOf('N', "13", "x")), changeOf('U', 1, tupleOf('O', "12", "a"), tupleOf('N', "13", "x")),
		changeOf('D', 1, tupleOf('K', "13", "n")), changeOf('D', 1, tupleOf('O', "13", "")), truncateOf(1), {'O'}, {'Y'}, {'M'}, commit(100)}
}

func TestMessagesBecomeACommit(t *testing.T) {
	d := newDecoder(&Config{MaxRows: 100, MaxBytes: 10_000}, &counters{})
	var got *Commit
	for i, m := range wellFormed() {
		c, err := d.message(m)
		if err != nil {
			t.Fatalf("message %d %q: %v", i, m, err)
		}
		got = c
	}
	if got == nil || got.XID != 7 || got.End != 100 || len(got.Tables) != 1 || got.Tables[0].OID != 1 || got.Tables[0].Schema != "s" || got.Whole {
		t.Fatalf("commit %+v", got)
	}
	want := "insert t new id=12 v=NULL; update t new id=12 v=unchanged; update t old id=12 v=absent new id=13 v=x; " +
		"update t old id=12 v=a new id=13 v=x; delete t old id=13 v=absent; delete t old id=13 v=; truncate t"
	if text := render(got); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestBrokenStreamsAreRefused(t *testing.T) {
	open := [][]byte{begin(1), relationOf(1, "id")}
	row := changeOf('I', 1, tupleOf('N', "1"))
	huge := append([]byte{}, row...)
	binary.BigEndian.PutUint32(huge[len(huge)-5:], math.MaxUint32) // a value of 4 GiB
	manyTables := append(binary.BigEndian.AppendUint32([]byte{'T'}, math.MaxUint32), 0)
	for name, messages := range map[string][][]byte{
		"a row outside a transaction":      {relationOf(1, "id"), row},
		"a row of an undescribed table":    {begin(1), row},
		"a transaction inside another":     {begin(1), begin(2)},
		"a commit outside a transaction":   {commit(100)},
		"more columns than the table has":  append(open, changeOf('I', 1, tupleOf('N', "1", "2"))),
		"a value longer than its message":  append(open, huge),
		"more tables than the message has": append(open, manyTables),
		"bytes behind a row":               append(open, append(append([]byte{}, row...), 0)),
		"an unknown type":                  {{'?'}},
		"a streamed transaction":           {{'S', 0, 0, 0, 1, 1}},
		"a binary value":                   append(open, changeOf('I', 1, []byte{'N', 0, 1, 'b', 0, 0, 0, 1, 7})),
	} {
		d := newDecoder(&Config{MaxRows: 100, MaxBytes: 10_000}, &counters{})
		var err error
		for _, m := range messages {
			if _, err = d.message(m); err != nil {
				break
			}
		}
		if !errors.Is(err, errMalformed) {
			t.Errorf("%s: error %v, want one of malformed messages", name, err)
		}
	}
}

func TestDescriptionsOfTablesAreBounded(t *testing.T) {
	d := newDecoder(&Config{MaxRows: 100, MaxBytes: 10_000}, &counters{})
	name := strings.Repeat("c", 60)
	columns := make([]string, 1600)
	for i := range columns {
		columns[i] = name
	}
	for range 10_000 { // the same one again replaces itself
		if _, err := d.message(relationOf(1, "id")); err != nil {
			t.Fatal(err)
		}
	}
	for oid := uint32(2); oid < 10_000; oid++ {
		if _, err := d.message(relationOf(oid, columns...)); err != nil {
			return
		}
	}
	t.Error("a server may describe tables without end")
}

func FuzzMessagesThatPassTheCheckAreReadSafely(f *testing.F) {
	for _, m := range wellFormed() {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if check(b) == nil {
			_, _ = pglogrepl.Parse(b) // any error will do; a panic or a gigabyte would not
		}
		d := newDecoder(&Config{MaxRows: 100, MaxBytes: 10_000}, &counters{})
		for _, m := range [][]byte{begin(1), relationOf(1, "id", "v"), b} {
			_, _ = d.message(m)
		}
	})
}

func TestSnapshotsAreReadAsTheServerReadsThem(t *testing.T) {
	s, err := parseSnapshot("10:20:12,15")
	if err != nil {
		t.Fatal(err)
	}
	for xid, want := range map[uint64]bool{9: true, 10: true, 11: true, 12: false, 15: false, 19: true, 20: false, 21: false} {
		if got := s.ended(xid); got != want {
			t.Errorf("ended(%d) = %v, want %v", xid, got, want)
		}
	}
	for _, text := range []string{"", "10:20", "a:b:", "20:10:", "10:20:15,12", "10:20:x"} {
		if _, err := parseSnapshot(text); err == nil {
			t.Errorf("%q is taken for a snapshot", text)
		}
	}
}

func TestShortIdsAreWidened(t *testing.T) {
	const epoch = 1 << 32
	for _, tc := range []struct {
		short uint32
		near  uint64
		want  uint64
	}{{5, 3, 5}, {3, 5, 3}, {1, epoch - 1, epoch + 1}, {math.MaxUint32, epoch + 1, epoch - 1}, {7, 5*epoch + 9, 5*epoch + 7}} {
		if got := widen(tc.short, tc.near); got != tc.want {
			t.Errorf("widen(%d, %d) = %d, want %d", tc.short, tc.near, got, tc.want)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := Config{MaxRows: -1, MaxRetained: 1, Nudge: -1}.Validate()
	for _, key := range []string{"ask", "settle", "survey", "silence", "retry", "unfit_rest", "max_rows", "max_retained", "nudge"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("nothing is said of %s: %v", key, err)
		}
	}
}
