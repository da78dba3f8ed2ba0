package wiretest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// peer is one client connection that speaks bytes.
type peer struct {
	nc    net.Conn
	in    *bufio.Reader
	key   []byte // body of BackendKeyData
	chunk int    // bytes a write, 0 for all
}

func dialPeer(address string) (*peer, error) {
	nc, err := net.DialTimeout("tcp", address, stepLimit)
	if err != nil {
		return nil, err
	}
	return &peer{nc: nc, in: bufio.NewReaderSize(nc, 1<<16)}, nil
}

// startupPacket is protocol 3.0 unless params hold "protocol".
func startupPacket(params []string) []byte {
	version := uint64(3 << 16)
	var body []byte
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		if name == "protocol" {
			version, _ = strconv.ParseUint(value, 0, 32)
			continue
		}
		body = append(append(append(append(body, name...), 0), value...), 0)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(body)+9))
	out = binary.BigEndian.AppendUint32(out, uint32(version))
	return append(append(out, body...), 0)
}

// login sends a startup packet and returns the answer up to ReadyForQuery or
// the end. Servers and proxies of these tests trust everybody.
func (p *peer) login(params ...string) ([][]byte, error) {
	if err := p.write(startupPacket(params)); err != nil {
		return nil, err
	}
	frames, err := p.readUntil("Z", 1)
	first := slices.IndexFunc(frames, func(f []byte) bool { return f[0] == 'S' })
	last := first
	for last >= 0 && last < len(frames) && frames[last][0] == 'S' {
		last++
	}
	if first >= 0 {
		slices.SortFunc(frames[first:last], func(a, b []byte) int { return bytes.Compare(a[5:], b[5:]) })
	}
	if errors.Is(err, io.EOF) && len(frames) > 0 && frames[len(frames)-1][0] == 'E' {
		err = nil
	}
	return frames, err
}

func (p *peer) write(b []byte) error {
	_ = p.nc.SetWriteDeadline(time.Now().Add(stepLimit))
	chunk := len(b)
	if p.chunk > 0 {
		chunk = max(p.chunk, len(b)/200) // long messages would take for ever
	}
	for len(b) > 0 {
		n := min(chunk, len(b))
		if _, err := p.nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// readFrame reads one message.
func (p *peer) readFrame() ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(p.in, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > 1<<28 {
		return nil, fmt.Errorf("message %q of %d bytes", head[0], size)
	}
	frame := make([]byte, 1+size)
	copy(frame, head)
	if _, err := io.ReadFull(p.in, frame[5:]); err != nil {
		return nil, err
	}
	if frame[0] == 'K' {
		p.key = frame[5:]
	}
	return frame, nil
}

// readUntil reads to the n-th message of type typ, or to the end for "close".
func (p *peer) readUntil(typ string, n int) ([][]byte, error) {
	_ = p.nc.SetReadDeadline(time.Now().Add(stepLimit))
	var frames [][]byte
	for n > 0 {
		f, err := p.readFrame()
		if err != nil {
			if typ == "close" && !isTimeout(err) {
				return frames, nil
			}
			return frames, err
		}
		frames = append(frames, f)
		if typ[0] == f[0] && typ != "close" {
			n--
		}
	}
	return frames, nil
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// ask runs one simple query and returns the frames of its answer.
func (p *peer) ask(sql string) ([][]byte, error) {
	if err := p.write(queryMessage(sql)); err != nil {
		return nil, err
	}
	return p.readUntil("Z", 1)
}

// value runs one simple query and returns the first field, or what is wrong.
func (p *peer) value(sql string) (string, error) {
	frames, err := p.ask(sql)
	if err != nil {
		return "", err
	}
	for _, f := range frames {
		if f[0] == 'E' {
			return "", errors.New(render(f))
		}
		if f[0] == 'D' && len(f) >= 11 {
			size := int32(binary.BigEndian.Uint32(f[7:]))
			return string(f[11 : 11+max(size, 0)]), nil
		}
	}
	return "", nil
}

// close says goodbye.
func (p *peer) close() {
	_ = p.write(frameOf('X', nil))
	_ = p.nc.Close()
}

// runner runs conversations against one address.
type runner struct {
	address string
	params  []string // of every login
	chunk   int
	between func() // before each send; nil for nothing
	direct  func(sql string) (string, error)
}

// run returns what was read, as far as it came.
func (r *runner) run(c *conversation) (transcript, error) {
	peers := map[string]*peer{}
	defer func() {
		for _, p := range peers {
			p.close()
		}
	}()
	t := transcript{}
	var now *peer
	loosely := false
	for i, s := range c.steps {
		var err error
		switch s.verb {
		case "conn", "dial":
			name := s.args[0].text
			if now = peers[name]; now != nil {
				break
			}
			if now, err = dialPeer(r.address); err != nil {
				break
			}
			peers[name] = now
			now.chunk = r.chunk
			if s.verb == "conn" {
				params := slices.Clone(r.params)
				for _, a := range s.args[1:] {
					params = append(params, a.text)
				}
				t[i], err = now.login(params...)
			}
		case "send":
			if r.between != nil {
				r.between()
			}
			err = now.write(s.send)
		case "loosely":
			loosely = true
			continue
		case "read":
			t[i], err = now.read(s.args)
		case "await":
			err = r.await(s.args[0].text)
		case "cancel":
			err = sendCancel(r.address, peers[s.args[0].text].key)
		case "hangup":
			_ = now.nc.Close()
		}
		if loosely && s.verb == "conn" { // a refusal may come before or behind AuthenticationOk
			t[i] = slices.DeleteFunc(t[i], func(f []byte) bool { return f[0] == 'R' })
		}
		for j, f := range t[i] {
			t[i][j] = normalise(f)
			if loosely {
				t[i][j] = loosen(t[i][j])
			}
		}
		loosely = false
		if err != nil {
			return t, fmt.Errorf("%s:%d: %w", c.path, s.line+1, err)
		}
	}
	return t, nil
}

func (p *peer) read(args []word) ([][]byte, error) {
	if args[0].text == "byte" {
		_ = p.nc.SetReadDeadline(time.Now().Add(stepLimit))
		b, err := p.in.ReadByte()
		return [][]byte{frameOf('b', []byte{b})}, err
	}
	n := 1
	if len(args) > 1 {
		var err error
		if n, err = strconv.Atoi(args[1].text); err != nil {
			return nil, err
		}
	}
	if args[0].text == "end" {
		frames, err := p.readUntil("close", 1)
		return slices.DeleteFunc(frames, func(f []byte) bool { return f[0] == 'E' && bytes.Contains(f, []byte("VFATAL\x00")) }), err
	}
	if args[0].text == "Z+A" {
		return p.readNotified(n)
	}
	return p.readUntil(args[0].text, n)
}

// readNotified reads a ReadyForQuery and n notifications in any order, and puts the notifications last.
func (p *peer) readNotified(n int) (frames [][]byte, err error) {
	var notes [][]byte
	for ready := false; !ready || len(notes) < n; {
		f, err := p.readFrame()
		if err != nil {
			return append(frames, notes...), err
		}
		if f[0] == 'A' {
			notes = append(notes, f)
			continue
		}
		frames, ready = append(frames, f), ready || f[0] == 'Z'
	}
	return append(frames, notes...), nil
}

// await asks the server until it says t.
func (r *runner) await(sql string) error {
	deadline := time.Now().Add(stepLimit)
	for {
		got, err := r.direct(sql)
		if err == nil && got == "t" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("await %s: %q, %w", sql, got, err)
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
}

// sendCancel sends a CancelRequest and waits until it has been taken.
func sendCancel(address string, key []byte) error {
	p, err := dialPeer(address)
	if err != nil {
		return err
	}
	defer p.nc.Close()
	out := binary.BigEndian.AppendUint32(nil, uint32(8+len(key)))
	out = append(binary.BigEndian.AppendUint32(out, 80877102), key...)
	if err := p.write(out); err != nil {
		return err
	}
	_, err = p.readUntil("close", 1)
	return err
}
