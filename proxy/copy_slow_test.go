package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"pgtier/proxy/wire"
)

// TestCopyIntoShardsWaitsForTheRestOfAMessage sends a row in two parts with a pause between them, behind which messages of
// other requests are sent on without their Sync.
func TestCopyIntoShardsWaitsForTheRestOfAMessage(t *testing.T) {
	_, p := newSpread(t)
	c := p.rawDial(t, wire.Protocol30)
	send := func(b []byte) {
		t.Helper()
		if _, err := c.nc.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	send(wire.AppendQuery(nil, "COPY accounts FROM STDIN"))
	rows := ""
	for i := range 40 {
		rows += fmt.Sprintf("%d\tslow\t1\n", 1000+i)
	}
	data, at := wire.Begin(nil, wire.MsgCopyData)
	data = wire.End(append(data, rows...), at)
	done, at := wire.Begin(nil, wire.MsgCopyDone)
	done = wire.End(done, at)
	for i := range 4 { // the pause counts from the first part on
		send(data[i*len(data)/4 : (i+1)*len(data)/4])
		time.Sleep(400 * time.Millisecond)
	}
	send(done)
	if err := c.ready(); err != nil {
		t.Fatal(err)
	}
	var count int
	if err := p.client(t).QueryRow(t.Context(), "SELECT count(*) FROM accounts WHERE owner = 'slow'").Scan(&count); err != nil {
		t.Fatal(err)
	}
	if count != 40 {
		t.Errorf("%d rows, want 40", count)
	}
}
