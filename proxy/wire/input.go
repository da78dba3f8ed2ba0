package wire

import (
	"errors"
	"fmt"
	"io"
)

// ErrTooLong is wrapped by errors about a message above its limit.
var ErrTooLong = errors.New("message too long")

// ErrBroken is wrapped by errors about a length or type that cannot be.
var ErrBroken = errors.New("invalid message")

// Input is the unread part of a stream in a pooled buffer. The zero value holds
// no memory; neither does an Input that has been read to its end and Released.
// Owned by one goroutine.
type Input struct {
	buf  *Buffer
	r, w int
}

// Bytes returns what is unread; valid until the next call of a method.
func (in *Input) Bytes() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf.B[in.r:in.w]
}

// Len is the number of unread bytes.
func (in *Input) Len() int { return in.w - in.r }

// Skip drops n unread bytes.
func (in *Input) Skip(n int) { in.r += n }

// Release gives the buffer back if nothing is unread.
func (in *Input) Release() {
	if in.buf != nil && in.r == in.w {
		in.buf.Free()
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// Keep is Release for a stream that goes on soon: a buffer of the usual size stays. Drop or Release must follow in the end.
func (in *Input) Keep() {
	if in.buf != nil && len(in.buf.B) > SmallBuffer {
		in.Release()
	} else if in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// Drop forgets everything unread and gives the buffer back.
func (in *Input) Drop() {
	in.r = in.w
	in.Release()
}

// Space returns room to read into, making the buffer at least want bytes large
// in total (unread bytes included) and moving the unread bytes to its start.
func (in *Input) Space(bufs *Buffers, want int) []byte {
	if in.buf == nil {
		in.buf, in.r, in.w = bufs.Get(max(want, 1)), 0, 0
		return in.buf.B
	}
	if want > len(in.buf.B) {
		next := bufs.Get(want)
		n := copy(next.B, in.buf.B[in.r:in.w])
		in.buf.Free()
		in.buf, in.r, in.w = next, 0, n
		return in.buf.B[in.w:]
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if in.r > 0 && (want > len(in.buf.B)-in.r || in.w == len(in.buf.B)) {
		in.w = copy(in.buf.B, in.buf.B[in.r:in.w])
		in.r = 0
	}
	return in.buf.B[in.w:]
}

// Added tells that n bytes were read into the last Space.
func (in *Input) Added(n int) { in.w += n }

// ReadFrame reads one whole message, blocking on r. max bounds the message's
// size in bytes. The frame is valid until the next call. It is for the login
// phase and the console, where messages come one at a time.
func (in *Input) ReadFrame(r io.Reader, bufs *Buffers, max int) (Frame, error) {
	for {
		size, ok := FrameSize(in.Bytes())
		if ok && size == 0 {
			return Frame{}, fmt.Errorf("read message: %w: length", ErrBroken)
		}
		if ok && size > max {
			return Frame{}, fmt.Errorf("read message of %d bytes: %w: the limit is %d", size, ErrTooLong, max)
		}
		if ok && in.Len() >= size {
			raw := in.Bytes()[:size]
			in.Skip(size)
			return Frame{Type: raw[0], Raw: raw}, nil
		}
		n, err := r.Read(in.Space(bufs, size))
		in.Added(n)
		if n == 0 && err != nil {
			if err == io.EOF && in.Len() > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Frame{}, err
		}
	}
}
