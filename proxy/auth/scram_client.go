package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ChannelBinding says how much a login to a server must be bound to its TLS
// connection. The zero value is BindingPrefer, as in libpq.
type ChannelBinding uint8

// libpq's three words for channel_binding.
const (
	BindingPrefer  ChannelBinding = iota // where both sides can
	BindingRequire                       // or not at all
	BindingDisable                       // never
)

// ParseChannelBinding reads libpq's words; the empty word is BindingPrefer.
func ParseChannelBinding(word string) (ChannelBinding, error) {
	switch word {
	case "", "prefer":
		return BindingPrefer, nil
	case "require":
		return BindingRequire, nil
	case "disable":
		return BindingDisable, nil
	}
	return 0, fmt.Errorf("channel_binding %q is not one of prefer, require, disable", word)
}

// ScramClient logs in to one server. Call First, Next and Verify in this order,
// once each; the login counts only when Verify returns nil. It belongs to one
// goroutine.
type ScramClient struct {
	// fixed after New
	cred      Credential
	mechanism string
	gs2Header string
	binding   []byte // sent with PLUS only
	nonce     string

	// owned by First, Next and Verify
	step      clientStep
	signature []byte // that the server must send
}

// clientStep is the call that a login to a server waits for.
type clientStep uint8

const (
	clientFirst clientStep = iota
	clientNext
	clientVerify
	clientDone
)

// NewScramClient starts a login with channel binding preferred. mechanisms are
// those the server offers; channelBinding is TLSServerEndPoint of its
// certificate, nil without TLS. Credentials that cannot do SCRAM are an error.
func NewScramClient(cred Credential, mechanisms []string, channelBinding []byte) (*ScramClient, error) {
	return NewScramClientBinding(cred, mechanisms, channelBinding, BindingPrefer)
}

// NewScramClientBinding is NewScramClient with a choice of channel binding.
func NewScramClientBinding(cred Credential, mechanisms []string, channelBinding []byte, mode ChannelBinding) (*ScramClient, error) {
	if cred.data == nil {
		return nil, errors.New("server asks for a SCRAM login and no password is known for this role")
	}
	if cred.data.password == nil && cred.data.keys == nil {
		return nil, errors.New("server asks for a SCRAM login, but only an md5 hash is known for this role: configure its password")
	}
	c := &ScramClient{cred: cred, nonce: newNonce()}
	able := channelBinding != nil && mode != BindingDisable
	switch offered := slices.Contains(mechanisms, ScramSHA256Plus); {
	case able && offered:
		c.mechanism, c.gs2Header, c.binding = ScramSHA256Plus, "p="+channelBindingType+",,", channelBinding
		return c, nil
	case mode == BindingRequire && channelBinding == nil:
		return nil, errors.New("channel binding is required, but the connection has none: it needs TLS and a server certificate signed with a hash function")
	case mode == BindingRequire:
		return nil, errors.New("channel binding is required, but the server does not offer SCRAM-SHA-256-PLUS")
	case able:
		// We could and the server seems not to: it will notice if its offer was taken away.
		c.gs2Header = "y,,"
	default:
		c.gs2Header = "n,,"
	}
	if !slices.Contains(mechanisms, ScramSHA256) {
		return nil, fmt.Errorf("server offers none of the SASL mechanisms known here (it offers %.200q)", strings.Join(mechanisms, ", "))
	}
	c.mechanism = ScramSHA256
	return c, nil
}

// Mechanism is the one that was chosen.
func (c *ScramClient) Mechanism() string { return c.mechanism }

// First returns the client-first-message. Its user name is empty, as libpq's.
func (c *ScramClient) First() []byte {
	c.step = clientNext
	return []byte(c.gs2Header + c.bare())
}

func (c *ScramClient) bare() string { return "n=,r=" + c.nonce }

// Next takes the server-first-message and returns the client-final-message with
// the proof. With a password it derives keys, which takes about a millisecond
// at 4096 iterations. With SCRAM keys it is an error if the server's salt or
// iterations are others than those of the keys.
func (c *ScramClient) Next(serverFirst []byte) (clientFinal []byte, err error) {
	if c.step != clientNext {
		return nil, errors.New("SCRAM: server-first-message in the wrong place")
	}
	c.step = clientDone // after an error nothing more is taken
	nonce, salt, iterations, err := c.readServerFirst(serverFirst)
	if err != nil {
		return nil, fmt.Errorf("read the server's first SCRAM message: %w", err)
	}
	keys, err := c.keys(salt, iterations)
	if err != nil {
		return nil, err
	}

	input := slices.Concat([]byte(c.gs2Header), c.binding)
	withoutProof := "c=" + base64.StdEncoding.EncodeToString(input) + ",r=" + nonce
	message := []string{c.bare(), ",", string(serverFirst), ",", withoutProof}
	storedKey := sha256.Sum256(keys.ClientKey[:])
	proof := xor(keys.ClientKey[:], mac(storedKey[:], message...))
	c.signature = mac(keys.ServerKey[:], message...)
	c.step = clientVerify
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

func (c *ScramClient) readServerFirst(message []byte) (nonce string, salt []byte, iterations int, err error) {
	if err := checkMessage(message, maxServerMessage); err != nil {
		return "", nil, 0, err
	}
	rawNonce, rest, err := attribute(message, 'r')
	if err != nil {
		return "", nil, 0, err
	}
	if !printable(rawNonce) || !bytes.HasPrefix(rawNonce, []byte(c.nonce)) || len(rawNonce) == len(c.nonce) {
		return "", nil, 0, errors.New("the nonce does not extend ours")
	}
	salt64, rest, err := attribute(rest, 's')
	if err != nil {
		return "", nil, 0, err
	}
	if salt, err = decodeBase64(string(salt64)); err != nil || len(salt) == 0 || len(salt) > maxSaltLength {
		return "", nil, 0, errors.New("the salt is not valid base64")
	}
	count, rest, err := attribute(rest, 'i')
	if err != nil {
		return "", nil, 0, err
	}
	if len(rest) > 0 {
		return "", nil, 0, errors.New("garbage at the end")
	}
	iterations, err = parseIterations(string(count))
	return string(rawNonce), salt, iterations, err
}

// keys derives or checks the keys for the server's salt and iterations.
func (c *ScramClient) keys(salt []byte, iterations int) (*ScramKeys, error) {
	known := c.cred.data.keys
	if known == nil {
		return deriveKeys(*c.cred.data.password, salt, iterations), nil
	}
	if iterations != known.Iterations || !bytes.Equal(salt, known.Salt) {
		return nil, errors.New("the server's SCRAM verifier of this role has another salt or iteration count than the one the client logged in with: " +
			"use the same verifier on both (copy rolpassword of pg_authid), or configure the role's password")
	}
	return known, nil
}

// Verify takes the server-final-message. An error means that the server refused
// or could not prove that it knows the verifier: it may be an impostor, and the
// connection must be closed.
func (c *ScramClient) Verify(serverFinal []byte) error {
	if c.step != clientVerify {
		return errors.New("SCRAM: server-final-message in the wrong place")
	}
	c.step = clientDone
	if err := checkMessage(serverFinal, maxServerMessage); err != nil {
		return fmt.Errorf("read the server's final SCRAM message: %w", err)
	}
	name, value, rest, err := anyAttribute(serverFinal)
	switch {
	case err != nil:
		return fmt.Errorf("read the server's final SCRAM message: %w", err)
	case name == 'e':
		return fmt.Errorf("server refused the SCRAM login: %.100q", value)
	case name != 'v' || len(rest) > 0:
		return errors.New("read the server's final SCRAM message: expected a signature and nothing else")
	}
	signature, err := decodeBase64(string(value))
	if err != nil || !hmac.Equal(signature, c.signature) {
		return errors.New("the server's SCRAM signature is wrong: it does not know this role's verifier")
	}
	return nil
}
