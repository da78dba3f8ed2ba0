package wiretest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgtier/proxy/pool"
)

// How many connections never log in while others work, and how long they may try.
const (
	silentClients   = 2000
	halfClients     = 200
	strangersLimit  = 2 * time.Second
	tooLongPassword = 1 << 20
)

// stranger is a connection that does not come to log in.
type stranger struct {
	name string
	says []byte // at once
	asks bool   // is asked for a password, and then
	then []byte // says this
	code string // how it is told to go
}

// strangers say nothing, too little or too much.
func strangers() []stranger {
	unknown := startupPacket([]string{"user=nobody", "database=" + database})
	return []stranger{
		{name: "half a startup packet", says: unknown[:len(unknown)/2], code: "57014"},
		{name: "half a length", says: unknown[:2], code: "57014"},
		{name: "oversized startup packet", says: []byte{0, 0, 0x27, 0x11, 0, 3, 0, 0}, code: "08P01"},
		{name: "startup packet of 2 GiB", says: []byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0}, code: "08P01"},
		{name: "no password", says: unknown, asks: true, code: "57014"},
		{name: "half a password message", says: unknown, asks: true, then: frameOf('p', cstring("SCRAM-SHA-256"))[:9], code: "57014"},
		{name: "oversized password message", says: unknown, asks: true, then: frameOf('p', make([]byte, tooLongPassword))[:9], code: "08P01"},
	}
}

// come connects and says what s has to say.
func (s *stranger) come(address string) (*peer, error) {
	p, err := dialPeer(address)
	if err != nil {
		return nil, err
	}
	if err := p.write(s.says); err != nil || !s.asks {
		return p, err
	}
	if frames, err := p.readUntil("R", 1); err != nil {
		return p, fmt.Errorf("wait to be asked for a password: %w\n%s", err, lines(frames))
	}
	return p, p.write(s.then)
}

func TestStrangersDisturbNobodyAndAreSentAway(t *testing.T) {
	r := newRig(t)
	cfg := r.config(r.manager.Address(), pool.ModeTransaction, 2)
	cfg.Auth.Method, cfg.Auth.HBAFile = "hba", filepath.Join(t.TempDir(), "hba.conf")
	if err := os.WriteFile(cfg.Auth.HBAFile, []byte("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Pool.ClientLoginTimeout = strangersLimit
	p, address := start(t, cfg)
	r.checkUntouched(t, address, "before strangers")
	before := runtime.NumGoroutine()
	all := slices.Repeat([]stranger{{name: "silent", code: "57014"}}, silentClients)
	for kinds := strangers(); len(all) < silentClients+halfClients; {
		all = append(all, kinds[len(all)%len(kinds)])
	}
	peers := make([]*peer, len(all))
	for i := range all {
		var err error
		if peers[i], err = all[i].come(address); err != nil {
			t.Fatalf("%s: %v", all[i].name, err)
		}
		defer peers[i].nc.Close()
	}
	for range 20 {
		r.checkUntouched(t, address, "beside strangers")
	}
	for i, s := range all {
		frames, err := peers[i].readUntil("close", 1)
		if got := lines(frames); err != nil || len(frames) != 1 || !strings.HasPrefix(got, `ErrorResponse V="FATAL" C="`+s.code+`"`) {
			t.Fatalf("%s: got %v\n%s, want FATAL %s and the end", s.name, err, got, s.code)
		}
	}
	eventually(t, "nothing is left of the strangers", func() bool {
		return len(p.Sessions()) == 0 && runtime.NumGoroutine() <= before+2
	})
	r.checkUntouched(t, address, "after strangers")
}

func TestClientsThatVanishAreRolledBack(t *testing.T) {
	r := newRig(t)
	p, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
	for _, last := range []string{"SELECT 1", "SELECT pg_sleep(20)", "COPY sink FROM STDIN", "SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
		"INSERT INTO sink VALUES (2); SELECT 1/0", "CREATE TEMP TABLE mine (id int)", "SELECT pg_advisory_lock(1)", "LISTEN news", "DECLARE c CURSOR FOR SELECT 1"} {
		c := connect(t, address)
		if _, err := c.ask("BEGIN; SET search_path = other; INSERT INTO public.sink VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		if err := c.write(queryMessage(last)); err != nil {
			t.Fatal(err)
		}
		_ = c.nc.Close()
		r.checkUntouched(t, address, "client gone behind "+last)
	}
	r.atRest(t)
	eventually(t, "all sessions are gone", func() bool { return len(p.Sessions()) == 0 })
}

func TestServersThatAnswerGarbageHurtOneRequest(t *testing.T) {
	login := append(append(frameOf('R', []byte{0, 0, 0, 0}), frameOf('K', []byte{0, 0, 0, 1, 0, 0, 0, 2})...), frameOf('Z', []byte{'I'})...)
	for name, garbage := range map[string][]byte{
		"unknown type":          frameOf('?', []byte("x")),
		"length below 4":        {'D', 0, 0, 0, 3},
		"length of 2 GiB":       {'D', 0x7f, 0xff, 0xff, 0xff, 1},
		"no state in Z":         frameOf('Z', nil),
		"two answers":           bytes.Repeat(frameOf('Z', []byte{'I'}), 2),
		"half a message":        {'D', 0, 0, 0, 50, 1},
		"HTTP":                  []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"authentication, again": login[:9],
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() { // ends with the listener
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					b := make([]byte, 4096)
					_, _ = c.Read(b)
					_, _ = c.Write(login)
					_, _ = c.Read(b)
					_, _ = c.Write(garbage)
					_ = c.Close()
				}
			}()
			cfg := (&rig{}).config(l.Addr().String(), pool.ModeTransaction, 1)
			_, address := start(t, cfg)
			p := connect(t, address)
			if err := p.write(queryMessage("SELECT 1")); err != nil {
				t.Fatal(err)
			}
			if name == "two answers" { // the second belongs to nobody, least of all to the next request
				for range 3 {
					frames, err := p.readUntil("Z", 1)
					if err != nil || len(frames) != 1 {
						t.Fatalf("the client got %v\n%s, want one ReadyForQuery", err, lines(frames))
					}
					if err := p.write(queryMessage("SELECT 2")); err != nil {
						t.Fatal(err)
					}
				}
				return
			}
			frames, err := p.readUntil("E", 1)
			if name == "half a message" {
				if err == nil || isTimeout(err) {
					t.Errorf("half a message was completed: %v, %q", err, frames)
				}
				return
			}
			if err != nil || !bytes.Contains(frames[len(frames)-1], []byte("C08")) {
				t.Errorf("the client got %v\n%s, want an error of class 08", err, lines(frames))
			}
		})
	}
}
