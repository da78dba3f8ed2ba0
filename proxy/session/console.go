package session

import (
	"crypto/rand"
	"crypto/subtle"

	"pgtier/proxy/wire"
)

// Input is what was read from the client beyond its login. Whoever serves the
// client instead of a Session takes it over.
func (h *Hello) Input() *wire.Input { return &h.in }

// Addr is the client's address as the console shows it, "unix" for a unix socket.
func (h *Hello) Addr() string { return peer(h.Conn) }

// NextKey returns the number and the cancel key of a client that is no Session,
// from the series that numbers the sessions. version is the protocol's.
// Safe for concurrent use.
func (e *Env) NextKey(version uint32) (id uint64, key Key) {
	id = e.ids.Add(1)
	secret := make([]byte, secretBytes(version))
	_, _ = rand.Read(secret)
	return id, Key{PID: uint32(id), Secret: string(secret)}
}

// Matches reports whether both keys are the same, in constant time.
func (k Key) Matches(o Key) bool {
	return k.PID == o.PID && subtle.ConstantTimeCompare([]byte(k.Secret), []byte(o.Secret)) == 1
}
