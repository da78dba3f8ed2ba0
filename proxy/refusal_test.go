package proxy_test

import (
	"errors"
	"testing"
	"time"

	"pgtier/proxy/wire"
)

// TestARefusalSkipsToSync: what the proxy refuses itself is answered as a server does that fails at the first message.
func TestARefusalSkipsToSync(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, nil)
	c := p.rawDial(t, wire.Protocol30)
	_ = c.nc.SetDeadline(time.Now().Add(limit))
	bad := wire.AppendQuery(wire.AppendParse(nil, "", []byte("SELECT 1"), nil), "SET pgtier.consistency = 'never'")
	next := wire.AppendQuery(nil, "SELECT 'next'")
	if _, err := c.nc.Write(append(wire.AppendSync(bad), next...)); err != nil {
		t.Fatal(err)
	}
	var told *wire.Error
	if err := c.ready(); !errors.As(err, &told) || told.Code != "22023" {
		t.Errorf("the refused request ended with %v, want 22023", err)
	}
	if kind, body, err := c.message(); err != nil || kind != wire.MsgRowDescription {
		t.Errorf("behind it came %q %q, %v; want the next request's answer", kind, body, err)
	}
	if err := c.ready(); err != nil {
		t.Error(err)
	}
	if _, err := c.nc.Write(bad); err != nil { // nobody knows which answer its Sync would have
		t.Fatal(err)
	}
	c.wantFarewell(t, "22023")
}
