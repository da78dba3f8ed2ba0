package wiretest

import (
	"bytes"
	"net"
	"testing"

	"pgtier/proxy/pool"
)

// silentClients is how many connections say nothing while others work.
const silentClients = 1000

func TestSilentConnectionsDisturbNobody(t *testing.T) {
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 2))
	for i := range silentClients {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = c.Write([]byte{0, 0, 0, 50, 0, 3}) // half a startup packet
		}
	}
	r.checkUntouched(t, address, "beside silent clients")
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
			frames, err := p.readUntil("E", 1)
			if name == "half a message" {
				if err == nil || isTimeout(err) {
					t.Errorf("half a message was completed: %v, %q", err, frames)
				}
				return
			}
			if name == "two answers" && err == nil || err == nil && bytes.Contains(frames[len(frames)-1], []byte("C08")) {
				return
			}
			if name != "two answers" || err == nil {
				t.Errorf("the client got %v\n%s, want an error of class 08", err, lines(frames))
			}
		})
	}
}
