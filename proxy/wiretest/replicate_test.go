package wiretest

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/pool"
)

// replicationSlot is what the stream tests decode through, with test_decoding's
// text: it shows which change came.
const replicationSlot = "wiretest"

// stream makes the slot over p and starts streaming from it.
func stream(t *testing.T, r *rig, p *peer) {
	t.Helper()
	frames, err := p.ask("CREATE_REPLICATION_SLOT " + replicationSlot + " LOGICAL test_decoding")
	if err != nil || !strings.Contains(lines(frames), `DataRow "`+replicationSlot) {
		t.Fatalf("make a slot: %v\n%s", err, lines(frames))
	}
	t.Cleanup(func() {
		eventually(t, "the slot can be dropped", func() bool {
			_, err := r.direct("SELECT pg_drop_replication_slot('" + replicationSlot + "')")
			return err == nil
		})
	})
	if err := p.write(queryMessage("START_REPLICATION SLOT " + replicationSlot + " LOGICAL 0/0")); err != nil {
		t.Fatal(err)
	}
	if frames, err = p.readUntil("W", 1); err != nil || len(frames) != 1 {
		t.Fatalf("start replication: %v\n%s", err, lines(frames))
	}
}

// changes reads CopyData until a change holds want.
func (p *peer) changes(want string) error {
	for {
		frames, err := p.readUntil("d", 1)
		if err != nil {
			return err
		}
		if body := frames[len(frames)-1][5:]; body[0] == 'w' && strings.Contains(string(body), want) {
			return nil
		}
	}
}

func TestLogicalReplicationStreamsThroughTheProxy(t *testing.T) {
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
	p := connect(t, address, "replication=database")
	frames, err := p.ask("IDENTIFY_SYSTEM")
	want := pgtest.Value(t, r.manager, database, "SELECT system_identifier FROM pg_control_system()")
	if err != nil || !strings.Contains(lines(frames), `DataRow "`+want+`"`) || !strings.Contains(lines(frames), `"app"`) {
		t.Fatalf("IDENTIFY_SYSTEM: %v\n%s, want system %s and database app", err, lines(frames), want)
	}
	stream(t, r, p)
	other := connect(t, address) // replication takes nothing from the pool
	if _, err := other.ask("INSERT INTO sink VALUES (7, 'streamed')"); err != nil {
		t.Fatal(err)
	}
	if err := p.changes("id[integer]:7 name[text]:'streamed'"); err != nil {
		t.Fatalf("the change did not come: %v", err)
	}
	status := append([]byte{'r'}, binary.BigEndian.AppendUint64(make([]byte, 24), 0)...)
	if err := p.write(append(frameOf('d', append(status, 0)), frameOf('c', nil)...)); err != nil {
		t.Fatal(err)
	}
	frames, err = p.readUntil("Z", 1)
	frames = slices.DeleteFunc(frames, func(f []byte) bool { return f[0] == 'd' }) // keepalives
	if got := lines(frames); err != nil || !strings.HasPrefix(got, "CopyDone\nCommandComplete ") || strings.Contains(got, "ErrorResponse") {
		t.Errorf("the stream ended with %v\n%s, want CopyDone, CommandComplete and ReadyForQuery", err, got)
	}
	if got, err := p.value("SELECT 'and on'"); err != nil || got != "and on" {
		t.Errorf("after the stream a statement gave %q, %v", got, err)
	}
}

func TestACancelEndsAReplicationStream(t *testing.T) {
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
	p := connect(t, address, "replication=database")
	stream(t, r, p)
	if err := sendCancel(address, p.key); err != nil {
		t.Fatal(err)
	}
	frames, err := p.readUntil("E", 1)
	if err != nil || !strings.Contains(lines(frames), `C="57014"`) {
		t.Errorf("a cancelled stream ended with %v\n%s, want 57014", err, lines(frames))
	}
}

func TestUnknownProtocolOptionsAreNegotiatedAway(t *testing.T) {
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
	for protocol, newest := range map[string]uint32{"0x30000": 3 << 16, "0x30001": 3 << 16, "0x30002": 3<<16 | 2, "0x30009": 3<<16 | 2} {
		p, err := dialPeer(address)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		frames, err := p.login("user=postgres", "database="+database, "protocol="+protocol, "_pq_.unknown=1")
		want := binary.BigEndian.AppendUint32(nil, newest)
		want = append(binary.BigEndian.AppendUint32(want, 1), cstring("_pq_.unknown")...)
		if err != nil || frames[len(frames)-1][0] != 'Z' || string(frames[0]) != string(frameOf('v', want)) {
			t.Errorf("protocol %s: %v, answer begins with %q, want NegotiateProtocolVersion %q", protocol, err, frames[0], want)
			continue
		}
		if secret := len(p.key) - 4; secret != 4 && newest == 3<<16 {
			t.Errorf("protocol %s: a secret of %d bytes, want 4", protocol, secret)
		}
		if got, err := p.value("SELECT 'in'"); err != nil || got != "in" {
			t.Errorf("protocol %s: a statement gave %q, %v", protocol, got, err)
		}
	}
}
