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
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/router/topology"
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

// TestServersThatAnswerGarbageAtLoginHurtTheirClientsAlone: clients of another database of the same proxy go on.
func TestServersThatAnswerGarbageAtLoginHurtTheirClientsAlone(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var says atomic.Pointer[[]byte]
	says.Store(new([]byte))
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write(*says.Load())
			_ = c.Close()
		}
	}()
	cfg := r.config(r.manager.Address(), pool.ModeTransaction, 2)
	cfg.Pool.LoginRetry, cfg.Pool.ServerDownWait = 5*time.Millisecond, faultLimit
	for name, mode := range map[string]string{"garbage": "disable", "garbage over TLS": "prefer"} {
		u, err := topology.ParseURL("postgres://postgres@" + l.Addr().String() + "/" + database + "?sslmode=" + mode)
		if err != nil {
			t.Fatal(err)
		}
		db := proxy.DefaultDatabase(cfg.Pool)
		db.Shards = []proxy.Shard{{Manager: u}}
		cfg.Databases[name] = db
	}
	core, logs := observer.New(zap.InfoLevel)
	p, err := proxy.New(cfg, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	address := p.Addrs()[0].String()
	other := connect(t, address)
	ok := frameOf('R', []byte{0, 0, 0, 0})
	for name, garbage := range map[string][]byte{
		"nothing":                     nil,
		"HTTP":                        []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"a length below 4":            {'R', 0, 0, 0, 3},
		"a length of 2 GiB":           {'R', 0x7f, 0xff, 0xff, 0xff, 1},
		"half a message":              ok[:7],
		"a method without its number": frameOf('R', []byte{0}),
		"a method that nobody knows":  frameOf('R', []byte{0, 0, 0, 99}),
		"a salt of two bytes":         frameOf('R', []byte{0, 0, 0, 5, 1, 2}),
		"SCRAM out of order":          frameOf('R', []byte{0, 0, 0, 12, 'v', '='}),
		"a row":                       frameOf('D', []byte{0, 0}),
		"ready before the login":      frameOf('Z', []byte{'I'}),
		"a key of one byte":           slices.Concat(ok, frameOf('K', []byte{1})),
		"a parameter without value":   slices.Concat(ok, frameOf('S', []byte("TimeZone"))),
		"more behind the end":         slices.Concat(ok, frameOf('Z', []byte{'I'}), frameOf('Z', []byte{'I'})),
		"an error without fields":     frameOf('E', nil),
		"no handshake":                []byte("S and no handshake behind it"),
	} {
		says.Store(&garbage)
		for _, target := range []string{"garbage", "garbage over TLS"} {
			c, err := dialPeer(address)
			if err != nil {
				t.Fatal(err)
			}
			frames, err := c.login("user=postgres", "database="+target)
			if got := lines(frames); err != nil || len(frames) != 1 || !strings.HasPrefix(got, `ErrorResponse V="FATAL" C="57P03"`) {
				t.Errorf("%s, %s: the client got %v\n%s, want FATAL 57P03 alone", name, target, err, got)
			}
			_ = c.nc.Close()
			if got, err := other.value("SELECT 'other'"); err != nil || got != "other" {
				t.Fatalf("%s, %s: a client of another database got %q, %v", name, target, got, err)
			}
			eventually(t, "the log says why", func() bool { return logs.FilterMessage("client ended").FilterFieldKey("error").Len() > 0 })
			logs.TakeAll()
		}
	}
}
