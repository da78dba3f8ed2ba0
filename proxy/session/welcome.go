package session

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"pgtier/proxy/auth"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// Credential is what the client proved to know, for logging in to servers as
// it; the zero Credential if that is nothing reusable.
func (h *Hello) Credential() auth.Credential { return h.secret }

// Replication reports whether the client asks for a replication connection.
func (h *Hello) Replication() bool {
	switch strings.ToLower(h.Startup.Value("replication")) {
	case "", "false", "off", "no", "0":
		return false
	}
	return true
}

// Settings are the session settings in the startup packet: every parameter that
// is not about the connection itself, over those inside options, whatever their
// order (PostgreSQL's process_startup_options).
func (h *Hello) Settings() ([]wire.Param, error) {
	out, err := parseOptions(h.Startup.Value("options"))
	if err != nil {
		return nil, err
	}
	for _, p := range h.Startup.Params {
		switch p.Name {
		case "user", "database", "replication", "options":
		default:
			if !strings.HasPrefix(p.Name, "_pq_.") {
				out = append(out, wire.Param{Name: strings.ToLower(p.Name), Value: p.Value})
			}
		}
	}
	return out, nil
}

// serverOptions are the option letters that PostgreSQL takes (process_postgres_switches).
const serverOptions = "BbCDdEeFfhijklNnOPprSsTtvW"

// parseOptions reads the command-line options that PostgreSQL takes in a
// startup packet, as far as they set parameters: -c name=value and --name=value.
func parseOptions(s string) ([]wire.Param, error) {
	var out []wire.Param
	words := splitOptions(s)
	for i := 0; i < len(words); i++ {
		word := words[i]
		var assign, dash string
		switch {
		case word == "-c" && i+1 < len(words):
			i++
			dash, assign = "-c ", words[i]
		case strings.HasPrefix(word, "-c") && len(word) > 2:
			dash, assign = "-c ", word[2:]
		case strings.HasPrefix(word, "--"):
			dash, assign = "--", word[2:]
		case len(word) > 1 && word[0] == '-' && strings.IndexByte(serverOptions, word[1]) >= 0:
			return nil, &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("startup option %q is not supported", word),
				Hint: "Use -c name=value."}
		default:
			return nil, &wire.Error{Code: wire.CodeSyntaxError, Message: "invalid command-line argument for server process: " + word}
		}
		name, value, ok := strings.Cut(assign, "=")
		if !ok {
			return nil, &wire.Error{Code: wire.CodeSyntaxError, Message: dash + assign + " requires a value"}
		}
		out = append(out, wire.Param{Name: strings.ToLower(strings.ReplaceAll(name, "-", "_")), Value: value})
	}
	return out, nil
}

// splitOptions splits at spaces that no backslash precedes (PostgreSQL's pg_split_opts).
func splitOptions(s string) []string {
	var words []string
	var word []byte
	in := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if in {
				words, word, in = append(words, string(word)), nil, false
			}
		case c == '\\' && i+1 < len(s):
			i++
			word, in = append(word, s[i]), true
		default:
			word, in = append(word, c), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words
}

// Welcomes remembers, for one pool, what servers made of startup settings, so
// that a client that logs in like one before needs no server. Safe for
// concurrent use.
type Welcomes struct {
	mu sync.Mutex
	m  map[uint64]*welcome
}

type welcome struct {
	asked    *backend.Settings
	settings *backend.Settings // as the server spells them
	params   *backend.Params
}

// maxWelcomes bounds the remembered kinds of login; application_name may carry
// anything.
const maxWelcomes = 1000

func (w *Welcomes) find(asked *backend.Settings) *welcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.m[asked.Fingerprint()]; got != nil && got.asked.Equal(asked) {
		return got
	}
	return nil
}

func (w *Welcomes) keep(got *welcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil || len(w.m) >= maxWelcomes {
		w.m = make(map[uint64]*welcome)
	}
	w.m[got.asked.Fingerprint()] = got
}

// Forget drops everything remembered, after a reload or a reconnect.
func (w *Welcomes) Forget() {
	w.mu.Lock()
	w.m = nil
	w.mu.Unlock()
}

// New makes the session of an authenticated client. The client is welcomed by Open.
func New(env *Env, db *Database, h *Hello, p *pool.Pool[*backend.Conn]) *Session {
	s := &Session{
		id: env.ids.Add(1), env: env, db: db, at: db, role: h.User, client: h.Conn, began: time.Now(),
		protocol: h.Version, servers: servers{login: p, home: p, pool: p}, appName: h.Startup.Value("application_name"), tx: wire.TxIdle, waiter: pool.NewWaiter[*backend.Conn](),
	}
	if state, ok := h.Conn.TLS(); ok {
		s.tls = tls.VersionName(state.Version) + "/" + tls.CipherSuiteName(state.CipherSuite)
	}
	s.in, h.in = h.in, wire.Input{}
	s.work = newWork(s)
	secret := make([]byte, secretBytes(h.Version))
	_, _ = rand.Read(secret)
	s.key = Key{PID: uint32(s.id), Secret: string(secret)}
	s.enter(StateIdle)
	return s
}

// secretBytes is the size of a cancel secret: 4 bytes in protocol 3.0, as many
// as we like up to 256 in 3.2.
func secretBytes(version uint32) int {
	if version >= wire.Protocol32 {
		return 32
	}
	return 4
}

func peer(c *wire.Conn) string {
	if a := c.RemoteAddr(); a != nil && a.String() != "" && a.String() != "@" {
		return a.String()
	}
	return "unix"
}

// Open settles the startup settings with a server, if this kind of login is
// new, and welcomes the client. An error has not been told to the client.
func (s *Session) Open(settings []wire.Param, known *Welcomes) error {
	if e := checkLogin(settings); e != nil {
		return e
	}
	asked := backend.NewSettings(settings)
	w := known.find(asked)
	if w == nil {
		var err error
		if w, err = s.settleStartup(asked); err != nil {
			return err
		}
		known.keep(w)
	}
	s.startup, s.settings, s.params = w.settings, w.settings, w.params
	s.settings = s.takeOwn(s.settings)
	out := wire.AppendAuth(nil, wire.AuthOK, nil)
	out = w.params.AppendChanges(out, nil)
	out = wire.AppendBackendKey(out, s.key.PID, []byte(s.key.Secret))
	if s.db.Config().Mode == pool.ModeSession {
		s.raw = true
		s.followAnew()
		s.mu.Lock()
		s.pin, s.pinTime = "session pooling", time.Now()
		s.mu.Unlock()
	}
	if !s.send(wire.AppendReady(out, wire.TxIdle)) {
		return errors.New("client left during login")
	}
	return nil
}

// settleStartup has a server accept the settings and spell them.
func (s *Session) settleStartup(asked *backend.Settings) (*welcome, error) {
	for _, p := range asked.All() {
		if !utf8.ValidString(p.Value) || !utf8.ValidString(p.Name) {
			return nil, wire.Fatal(wire.CodeInvalidParameter, "invalid byte sequence in startup parameter "+strconv.Quote(p.Name))
		}
	}
	c, err := s.acquire(pool.Want[*backend.Conn]{})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.server = c
	s.mu.Unlock()
	defer s.release(c)
	w := &welcome{asked: asked}
	// From the server's own defaults: a value such as DateStyle's "SQL" keeps the
	// part it does not name.
	for _, want := range []*backend.Settings{nil, asked} {
		msgs, needed := c.AppendAdopt(nil, want)
		if !needed {
			continue
		}
		if err := c.Exec(msgs, adoptTimeout, nil); err != nil {
			return nil, err
		}
		c.Adopted(want)
	}
	w.settings, err = s.spelled(c, asked)
	if err != nil {
		c.Spoil("startup settings could not be read back")
		return nil, err
	}
	c.SettingsAre(w.settings)
	w.params = c.Params()
	return w, nil
}

// spelled asks c for the values of the settings just made.
func (s *Session) spelled(c *backend.Conn, asked *backend.Settings) (*backend.Settings, error) {
	if len(asked.All()) == 0 {
		return nil, nil
	}
	var names []string
	for _, p := range asked.All() {
		names = append(names, p.Name)
	}
	s.settings = asked
	if err := s.capture(c, names); err != nil {
		return nil, err
	}
	return s.settings, nil
}
