package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
)

// SASL mechanisms that PostgreSQL speaks (scram.h).
const (
	ScramSHA256     = "SCRAM-SHA-256"
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS" // bound to the TLS connection
)

const (
	// channelBindingType is the only one PostgreSQL knows.
	channelBindingType = "tls-server-end-point"
	// rawNonceLength is the number of random bytes in a nonce
	// (scram-common.h, SCRAM_RAW_NONCE_LEN).
	rawNonceLength = 18
	// maxClientMessage bounds a SASL message from a client, in bytes
	// (auth-sasl.c, PG_MAX_SASL_MESSAGE_LENGTH).
	maxClientMessage = 1024
	// maxServerMessage bounds a SASL message from a server, in bytes: a client
	// nonce, a server nonce and the longest salt we take.
	maxServerMessage = 4096
)

// Mechanisms lists what to offer to a client, preferred first. tls tells that
// the connection has channel binding data (TLSServerEndPoint is not nil).
func Mechanisms(tls bool) []string {
	if tls {
		return []string{ScramSHA256Plus, ScramSHA256}
	}
	return []string{ScramSHA256}
}

// attribute cuts the attribute name=value off the front of a SCRAM message.
func attribute(message []byte, name byte) (value, rest []byte, err error) {
	if found := firstByte(message); found != name {
		return nil, nil, malformed(`Expected attribute "%c" but found "%s".`, name, shown(found))
	}
	_, value, rest, err = anyAttribute(message)
	return value, rest, err
}

// firstByte is 0 at the end of a message; messages hold no zero bytes.
func firstByte(message []byte) byte {
	if len(message) == 0 {
		return 0
	}
	return message[0]
}

// shown prints a byte of a peer's message as PostgreSQL does (sanitize_char).
func shown(c byte) string {
	if c >= 0x21 && c <= 0x7e {
		return fmt.Sprintf("'%c'", c)
	}
	return fmt.Sprintf("0x%02x", c)
}

// anyAttribute cuts an attribute of any name off the front of a SCRAM message.
// A message that ends in a comma has an empty attribute, which is an error.
func anyAttribute(message []byte) (name byte, value, rest []byte, err error) {
	if len(message) == 0 {
		return 0, nil, nil, malformed("Attribute expected, but found end of string.")
	}
	name = message[0]
	if (name < 'a' || name > 'z') && (name < 'A' || name > 'Z') {
		return 0, nil, nil, malformed(`Attribute expected, but found invalid character "%s".`, shown(name))
	}
	if len(message) < 2 || message[1] != '=' {
		return 0, nil, nil, malformed(`Expected character "=" for attribute "%c".`, name)
	}
	value, rest, more := bytes.Cut(message[2:], []byte{','})
	if more && len(rest) == 0 {
		return 0, nil, nil, malformed("Attribute expected, but found end of string.")
	}
	return name, value, rest, nil
}

// checkMessage refuses what no parser should see.
func checkMessage(message []byte, limit int) error {
	switch {
	case len(message) == 0:
		return malformed("The message is empty.")
	case len(message) > limit:
		return malformed("The message is longer than %d bytes.", limit)
	case bytes.IndexByte(message, 0) >= 0:
		return malformed("The message contains a zero byte.")
	}
	return nil
}

// printable tells whether a nonce keeps to the grammar: visible ASCII without a comma.
func printable(nonce []byte) bool {
	return len(nonce) > 0 && !slices.ContainsFunc(nonce, func(c byte) bool { return c < 0x21 || c > 0x7e || c == ',' })
}

func newNonce() string {
	raw := make([]byte, rawNonceLength)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// xor returns a ^ b; both have the length of a key.
func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}
