package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"
)

// ScramKeys are what one SCRAM login reveals to the side that checks it, and
// all that another login with the same salt and iterations needs: with them the
// proxy opens server connections for a user whose password it never saw. They
// are as secret as the password; fmt prints a placeholder.
type ScramKeys struct {
	ClientKey  [sha256.Size]byte
	ServerKey  [sha256.Size]byte
	Salt       []byte
	Iterations int
}

// String returns a placeholder.
func (ScramKeys) String() string { return redacted }

// Format prints a placeholder for every verb.
func (ScramKeys) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText returns a placeholder, so that JSON and YAML show nothing.
func (ScramKeys) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Credential is what the proxy logs in to a server with: a password, an md5
// hash, or SCRAM keys. It never shows itself. The zero Credential logs in only
// where the server asks for nothing.
type Credential struct {
	data *credentialData // behind a pointer, so that %+v of an outer struct prints no field
}

// One field is set. Each is a pointer, since fmt follows the one to the struct
// where an outer struct is printed with a verb that pointers do not have.
type credentialData struct {
	password *string
	md5      *string // "md5" and 32 hex digits
	keys     *ScramKeys
}

// PasswordCredential holds a plaintext password, which satisfies every method.
// The empty password is the zero Credential.
func PasswordCredential(password string) Credential {
	if password == "" {
		return Credential{}
	}
	return Credential{&credentialData{password: &password}}
}

// KeysCredential holds SCRAM keys, taken from a client's own login. They fit
// servers whose verifier has the same salt and iterations.
func KeysCredential(keys ScramKeys) Credential {
	keys.Salt = slices.Clone(keys.Salt)
	return Credential{&credentialData{keys: &keys}}
}

// Zero tells whether the credential holds nothing.
func (c Credential) Zero() bool { return c.data == nil }

// Equal tells whether both credentials hold the same. It takes as long whatever
// they hold, except that kinds are compared first.
func (c Credential) Equal(o Credential) bool {
	if c.data == nil || o.data == nil {
		return c.data == o.data
	}
	same := func(a, b *string) bool {
		if a == nil || b == nil {
			return a == b
		}
		return subtle.ConstantTimeCompare([]byte(*a), []byte(*b)) == 1
	}
	if !same(c.data.password, o.data.password) || !same(c.data.md5, o.data.md5) || (c.data.keys == nil) != (o.data.keys == nil) {
		return false
	}
	k, l := c.data.keys, o.data.keys
	return k == nil || subtle.ConstantTimeCompare(k.ClientKey[:], l.ClientKey[:]) == 1 && k.Iterations == l.Iterations && bytes.Equal(k.Salt, l.Salt)
}

// Password returns the plaintext for a server that asks for it, and false where
// only a hash or keys are known.
func (c Credential) Password() (string, bool) {
	if c.data == nil || c.data.password == nil {
		return "", false
	}
	return *c.data.password, true
}

// String returns a placeholder.
func (Credential) String() string { return redacted }

// Format prints a placeholder for every verb.
func (Credential) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText returns a placeholder, so that JSON and YAML show nothing.
func (Credential) MarshalText() ([]byte, error) { return []byte(redacted), nil }
