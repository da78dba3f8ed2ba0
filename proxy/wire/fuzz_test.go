package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// maxFuzzFrame is the limit that FuzzFrame reads under, in bytes.
const maxFuzzFrame = 1 << 16

// dribble gives a stream in pieces of n bytes.
type dribble struct {
	b []byte
	n int
}

func (d *dribble) Read(p []byte) (int, error) {
	if len(d.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), d.n)], d.b)
	d.b = d.b[n:]
	return n, nil
}

// FuzzFrame holds that frames put together give the stream back whatever the
// pieces it comes in, and that a claimed length takes no memory beyond its limit.
func FuzzFrame(f *testing.F) {
	f.Add(AppendReady(AppendQuery(nil, "SELECT 1"), TxIdle), uint8(1))
	f.Add([]byte{'Q', 0xff, 0xff, 0xff, 0xff}, uint8(3))
	f.Add([]byte{'Q', 0, 0, 0, 3, 'x'}, uint8(2))
	f.Add([]byte{'D', 0x7f, 0xff, 0xff, 0xff}, uint8(5))
	f.Add(AppendSync(AppendParse(nil, "s", []byte("SELECT $1"), []uint32{23})), uint8(7))
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8) {
		var in Input
		bufs := NewBuffers()
		r := &dribble{b: stream, n: int(piece)%64 + 1}
		var got []byte
		for {
			frame, err := in.ReadFrame(r, bufs, maxFuzzFrame)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrBroken) && !errors.Is(err, ErrTooLong) {
					t.Fatalf("error of no known kind: %v", err)
				}
				break
			}
			if size, ok := FrameSize(frame.Raw); !ok || size != len(frame.Raw) || frame.Type != frame.Raw[0] {
				t.Fatalf("frame %q says %d bytes of type %q", frame.Raw, size, frame.Type)
			}
			got = append(got, frame.Raw...)
		}
		if !bytes.HasPrefix(stream, got) {
			t.Fatalf("frames give %q, the stream is %q", got, stream)
		}
		if in.buf != nil && len(in.buf.B) > LargeBuffer {
			t.Fatalf("%d bytes of memory for a message of at most %d", len(in.buf.B), maxFuzzFrame)
		}
		in.Drop()
	})
}

// FuzzStartup holds that a startup packet that is taken says what its bytes say,
// whatever the pieces it comes in.
func FuzzStartup(f *testing.F) {
	f.Add(AppendStartup(nil, Protocol30, []Param{{"user", "a"}, {"database", "b"}, {"user", "c"}}), uint8(1))
	f.Add(AppendStartup(nil, Protocol32, []Param{{"user", "a"}, {"_pq_.x", "1"}}), uint8(60))
	f.Add(AppendSSLRequest(nil), uint8(4))
	f.Add(AppendCancelRequest(nil, 7, []byte("1234")), uint8(9))
	f.Add([]byte{0, 0, 0, 9, 0, 3, 0, 0, 0}, uint8(2))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8) {
		var in Input
		got, err := in.ReadStartup(&dribble{b: stream, n: int(piece)%64 + 1}, NewBuffers())
		if err != nil {
			in.Drop()
			return
		}
		var again []byte
		switch got.Kind {
		case StartupSession:
			again = AppendStartup(nil, got.Version, got.Params)
		case StartupCancel:
			again = AppendCancelRequest(nil, got.PID, got.Secret)
		default:
			return
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatalf("%q was read as %+v, which is %q", stream, got, again)
		}
		in.Drop()
	})
}

// FuzzErrorFields holds that the walk over an error's fields ends inside it.
func FuzzErrorFields(f *testing.F) {
	f.Add(Fatal(CodeProtocolViolation, "no").Append(nil)[HeaderBytes:])
	f.Add([]byte("SERROR\x00C"))
	f.Add([]byte{'M'})
	f.Fuzz(func(t *testing.T, body []byte) {
		total := 0
		ErrorFields(body, func(_ byte, value string) { total += len(value) + 2 })
		if total > len(body) {
			t.Fatalf("%d bytes of fields in %d bytes", total, len(body))
		}
		_ = ParseError(body)
		_, _ = ParseParameterStatus(body)
		_, _, _ = ParseBackendKey(body)
		_, _ = RowFields(body)
		_, _, _ = ParseAuth(body)
	})
}
