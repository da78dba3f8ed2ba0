package auth

import (
	"crypto/rand"
	"crypto/sha256"
)

// Mock makes up secrets for users who have none, so that their login runs as
// any other and says nothing about whether the user exists. One Mock lives as
// long as the process: its salts must not change when the configuration is
// read again. It may be used by any number of goroutines.
type Mock struct {
	key [sha256.Size]byte
}

// NewMock returns a Mock with a key of its own.
func NewMock() *Mock {
	m := &Mock{}
	rand.Read(m.key[:])
	return m
}

// Secret returns the made up verifier of user: always the same, and matched by
// no password. iterations is the work factor it claims, that of real users.
func (m *Mock) Secret(user string, iterations int) Secret {
	v := &verifier{iterations: iterations, salt: m.salt(user)}
	copy(v.storedKey[:], mac(m.key[:], "stored key", user))
	copy(v.serverKey[:], mac(m.key[:], "server key", user))
	return Secret{&secretData{kind: SecretVerifier, verifier: v, mock: true}}
}

// salt is the salt that user's SCRAM exchange shows. Users with a plaintext
// secret get theirs here as well: it then stays the same from login to login
// and looks like a made up one.
func (m *Mock) salt(user string) []byte {
	return mac(m.key[:], "salt", user)[:saltLength]
}
