package backend

import (
	"testing"

	"pgtier/proxy/wire"
)

// notification is a NotificationResponse of process 1 on channel "c".
func notification(payload string) []byte {
	dst, at := wire.Begin(nil, wire.MsgNotification)
	dst = append(dst, 0, 0, 0, 1)
	return wire.End(wire.AppendString(wire.AppendString(dst, "c"), payload), at)
}

func TestNotificationsBehindAnAnswerAreHeard(t *testing.T) {
	var heard []string
	c := &Conn{bufs: wire.NewBuffers()}
	c.Heard = func(f wire.Frame) { heard = append(heard, string(f.Raw)) }
	one, two := notification("one"), notification("two")
	c.Afterwards(append(append([]byte(nil), one...), two[:7]...)) // as one read may bring them
	var in wire.Input
	c.Resume(&in)
	if got := string(in.Bytes()); got != string(two[:7]) {
		t.Errorf("the beginning of the next message is %q, want %q", got, two[:7])
	}
	if len(heard) != 1 || heard[0] != string(one) {
		t.Errorf("heard %q, want the first notification only", heard)
	}
	if c.Spoiled() != "" {
		t.Errorf("the connection is spoiled: %s", c.Spoiled())
	}
}
