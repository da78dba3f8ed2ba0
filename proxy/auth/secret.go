package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

const (
	// DefaultIterations is the PBKDF2 work factor of new verifiers
	// (PostgreSQL, scram-common.h, SCRAM_DEFAULT_ITERATIONS).
	DefaultIterations = 4096
	// maxIterations bounds what a server or a stored verifier can make us
	// compute: five million rounds are about two seconds of one core.
	maxIterations = 5_000_000
	// saltLength is the length in bytes of salts made here (SCRAM_DEFAULT_SALT_LEN).
	saltLength = 16
	// maxSaltLength bounds salts made elsewhere, in bytes.
	maxSaltLength = 1024

	verifierPrefix = "SCRAM-SHA-256$"
	redacted       = "[secret]"
)

// SecretKind tells what is known of a user's password.
type SecretKind uint8

// The kinds of secrets. The zero kind is no secret at all.
const (
	SecretNone      SecretKind = iota // no password: every password login fails
	SecretPlaintext                   // the password itself
	SecretMD5                         // md5(password + user)
	SecretVerifier                    // a SCRAM-SHA-256 verifier
)

// Secret is what the proxy holds to check a user's password with. It never
// shows itself: fmt and the encoders print a placeholder, and only Reveal
// returns the text. The zero Secret belongs to a user without a password.
// A Secret may be used by any number of goroutines.
type Secret struct {
	data *secretData // behind a pointer, so that %+v of an outer struct prints no field
}

type secretData struct {
	kind     SecretKind
	text     *string   // SecretPlaintext, SecretMD5: as given; see credentialData
	verifier *verifier // SecretVerifier
	mock     bool      // made up for a user without a secret; no password matches

	// A plaintext's verifier takes a millisecond to derive, so it is derived
	// when first needed, with a salt chosen in advance.
	salt       []byte
	iterations int
	once       sync.Once
	derived    *verifier
}

// verifier is the parsed form of PostgreSQL's SCRAM-SHA-256 secret.
type verifier struct {
	iterations int
	salt       []byte
	storedKey  [sha256.Size]byte
	serverKey  [sha256.Size]byte
}

// ParseSecret reads a secret as pg_authid and PgBouncer's userlist.txt hold it:
// a SCRAM verifier, an md5 hash, or else a plaintext password. The empty text
// is the zero Secret. A text that begins like a verifier and is none is an
// error, since nobody's password is meant to look so. Errors hold no part of the text.
func ParseSecret(text string) (Secret, error) {
	switch {
	case text == "":
		return Secret{}, nil
	case strings.HasPrefix(text, verifierPrefix):
		v, err := parseVerifier(text)
		if err != nil {
			return Secret{}, fmt.Errorf("read SCRAM verifier: %w", err)
		}
		return Secret{&secretData{kind: SecretVerifier, verifier: v}}, nil
	case isMD5Hash(text):
		return Secret{&secretData{kind: SecretMD5, text: &text}}, nil
	case strings.IndexByte(text, 0) >= 0:
		return Secret{}, errors.New("password contains a zero byte")
	}
	salt := make([]byte, saltLength)
	rand.Read(salt)
	return plaintextSecret(text, salt, DefaultIterations), nil
}

// VerifierFromPassword derives the verifier that PostgreSQL would store for
// password. An empty salt means a random one of 16 bytes; iterations 0 means
// DefaultIterations.
func VerifierFromPassword(password string, salt []byte, iterations int) (Secret, error) {
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if iterations < 1 || iterations > maxIterations {
		return Secret{}, fmt.Errorf("derive SCRAM verifier: iterations must be between 1 and %d, not %d", maxIterations, iterations)
	}
	if len(salt) > maxSaltLength {
		return Secret{}, fmt.Errorf("derive SCRAM verifier: salt is longer than %d bytes", maxSaltLength)
	}
	if len(salt) == 0 {
		salt = make([]byte, saltLength)
		rand.Read(salt)
	}
	return Secret{&secretData{kind: SecretVerifier, verifier: deriveKeys(password, salt, iterations).verifier()}}, nil
}

func plaintextSecret(password string, salt []byte, iterations int) Secret {
	return Secret{&secretData{kind: SecretPlaintext, text: &password, salt: salt, iterations: iterations}}
}

// withSalt returns a plaintext secret whose verifier will use salt and
// iterations; other kinds are returned as they are.
func (s Secret) withSalt(salt []byte, iterations int) Secret {
	if s.Kind() != SecretPlaintext {
		return s
	}
	return plaintextSecret(*s.data.text, salt, iterations)
}

// Kind tells what the secret is. A mock secret is a SecretVerifier.
func (s Secret) Kind() SecretKind {
	if s.data == nil {
		return SecretNone
	}
	return s.data.kind
}

// Mock tells whether the secret was made up for a user who has none.
func (s Secret) Mock() bool { return s.data != nil && s.data.mock }

// scramVerifier returns what SCRAM checks against, or nil for kinds that
// cannot do SCRAM.
func (s Secret) scramVerifier() *verifier {
	switch s.Kind() {
	case SecretVerifier:
		return s.data.verifier
	case SecretPlaintext:
		s.data.once.Do(func() {
			s.data.derived = deriveKeys(*s.data.text, s.data.salt, s.data.iterations).verifier()
		})
		return s.data.derived
	}
	return nil
}

// Reveal returns the text that ParseSecret reads. It must not reach a log or an
// error.
func (s Secret) Reveal() string {
	switch s.Kind() {
	case SecretPlaintext, SecretMD5:
		return *s.data.text
	case SecretVerifier:
		return s.data.verifier.encode()
	}
	return ""
}

// Credential returns what logs this user in to a server, and false where the
// secret alone cannot: a verifier proves others and not oneself.
func (s Secret) Credential() (Credential, bool) {
	switch s.Kind() {
	case SecretPlaintext:
		return PasswordCredential(*s.data.text), true
	case SecretMD5:
		return Credential{&credentialData{md5: s.data.text}}, true
	}
	return Credential{}, false
}

// String returns a placeholder.
func (Secret) String() string { return redacted }

// Format prints a placeholder for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText returns a placeholder, so that JSON and YAML show nothing.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (v *verifier) encode() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s%d:%s$%s:%s", verifierPrefix, v.iterations, b64(v.salt), b64(v.storedKey[:]), b64(v.serverKey[:]))
}

// parseVerifier reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
func parseVerifier(text string) (*verifier, error) {
	parameters, keys, ok := strings.Cut(strings.TrimPrefix(text, verifierPrefix), "$")
	if !ok {
		return nil, errors.New("expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
	}
	count, salt64, ok1 := strings.Cut(parameters, ":")
	stored64, server64, ok2 := strings.Cut(keys, ":")
	if !ok1 || !ok2 {
		return nil, errors.New("expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
	}
	var v verifier
	var err error
	if v.iterations, err = parseIterations(count); err != nil {
		return nil, err
	}
	if v.salt, err = decodeBase64(salt64); err != nil || len(v.salt) == 0 || len(v.salt) > maxSaltLength {
		return nil, errors.New("salt is not valid base64")
	}
	if !decodeKey(&v.storedKey, stored64) || !decodeKey(&v.serverKey, server64) {
		return nil, errors.New("StoredKey and ServerKey must be base64 of 32 bytes")
	}
	return &v, nil
}

// parseIterations accepts digits only: Atoi alone would let a sign through.
func parseIterations(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("iteration count is not a positive number")
	}
	if n > maxIterations {
		return 0, fmt.Errorf("iteration count %d is above the limit of %d", n, maxIterations)
	}
	return int(n), nil
}

func decodeKey(key *[sha256.Size]byte, text string) bool {
	raw, err := decodeBase64(text)
	return err == nil && copy(key[:], raw) == sha256.Size && len(raw) == sha256.Size
}

// decodeBase64 is strict: Go's decoder would skip line breaks.
func decodeBase64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("line break in base64")
	}
	return base64.StdEncoding.Strict().DecodeString(text)
}

// deriveKeys hashes a password (RFC 5802, section 3).
func deriveKeys(password string, salt []byte, iterations int) *ScramKeys {
	salted, err := pbkdf2.Key(sha256.New, preparePassword(password), salt, iterations, sha256.Size)
	if err != nil {
		// Only a key length beyond the hash's range or FIPS-only mode with a
		// short salt can fail; neither depends on what a peer sends.
		panic(fmt.Sprintf("derive SCRAM keys: %v", err))
	}
	keys := &ScramKeys{Salt: salt, Iterations: iterations}
	copy(keys.ClientKey[:], mac(salted, "Client Key"))
	copy(keys.ServerKey[:], mac(salted, "Server Key"))
	return keys
}

func (k *ScramKeys) verifier() *verifier {
	return &verifier{iterations: k.Iterations, salt: k.Salt, storedKey: sha256.Sum256(k.ClientKey[:]), serverKey: k.ServerKey}
}

// mac is HMAC-SHA-256 over the parts in order.
func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		io.WriteString(h, part)
	}
	return h.Sum(nil)
}
