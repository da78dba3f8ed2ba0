package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// ScramServer checks one client's SCRAM login (RFC 5802, 7677) the way
// PostgreSQL 15 does (auth-scram.c). Call First, then Final, once each. It
// belongs to one goroutine.
type ScramServer struct {
	// fixed after New
	verifier *verifier
	doomed   bool // no proof can match: a mock, or a secret that cannot do SCRAM
	plus     bool // the client chose SCRAM-SHA-256-PLUS
	binding  []byte
	nonce    string

	// owned by First and Final
	step        scramStep
	gs2Header   []byte // "n,,", "y,," or "p=tls-server-end-point,,"
	clientNonce []byte
	clientBare  []byte
	serverFirst []byte
}

// scramStep is the message that an exchange waits for.
type scramStep uint8

const (
	stepFirst scramStep = iota
	stepFinal
	stepDone
)

// NewScramServer starts a login. mechanism is the one the client chose;
// channelBinding is what TLSServerEndPoint says of the certificate this very
// connection was encrypted with, nil without TLS. A secret that cannot do
// SCRAM gives an exchange that ends in ErrWrongPassword; for one that looks the
// same every time use Mock. A mechanism that was not offered is an *Error.
func NewScramServer(secret Secret, mechanism string, channelBinding []byte) (*ScramServer, error) {
	if !slices.Contains(Mechanisms(channelBinding != nil), mechanism) {
		return nil, &Error{Code: codeProtocolViolation, Message: "client selected an invalid SASL authentication mechanism"}
	}
	s := &ScramServer{
		verifier: secret.scramVerifier(),
		doomed:   secret.Mock(),
		plus:     mechanism == ScramSHA256Plus,
		binding:  channelBinding,
		nonce:    newNonce(),
	}
	if s.verifier == nil {
		s.doomed = true
		s.verifier = &verifier{iterations: DefaultIterations, salt: make([]byte, saltLength)}
		rand.Read(s.verifier.salt)
	}
	return s, nil
}

// First takes the client-first-message and returns the server-first-message.
// Errors are *Error.
func (s *ScramServer) First(clientFirst []byte) (serverFirst []byte, err error) {
	if s.step != stepFirst {
		return nil, errors.New("client-first-message in the wrong place")
	}
	s.step = stepDone // after an error nothing more is taken
	if err := checkMessage(clientFirst, maxClientMessage); err != nil {
		return nil, err
	}
	bare, err := s.readGS2Header(clientFirst)
	if err != nil {
		return nil, err
	}
	if err := s.readClientBare(bare); err != nil {
		return nil, err
	}
	s.serverFirst = fmt.Appendf(nil, "r=%s%s,s=%s,i=%d", s.clientNonce, s.nonce,
		base64.StdEncoding.EncodeToString(s.verifier.salt), s.verifier.iterations)
	s.step = stepFinal
	return s.serverFirst, nil
}

// readGS2Header checks the client's idea of channel binding against ours and
// returns the rest of the message. A client that says "y" could bind and
// believes that we cannot; where we can, somebody took our offer out of the way.
func (s *ScramServer) readGS2Header(message []byte) (bare []byte, err error) {
	var rest []byte
	switch message[0] {
	case 'n', 'y':
		if s.plus {
			return nil, malformed("The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.")
		}
		if message[0] == 'y' && s.binding != nil {
			return nil, &Error{
				Code: codeInvalidAuthorization, Message: "SCRAM channel binding negotiation error",
				Detail: "The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
			}
		}
		if found := firstByte(message[1:]); found != ',' {
			return nil, malformed(`Comma expected, but found character "%s".`, shown(found))
		}
		rest = message[2:]
	case 'p':
		if !s.plus {
			return nil, malformed("The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.")
		}
		var kind []byte
		if kind, rest, err = attribute(message, 'p'); err != nil {
			return nil, err
		}
		if string(kind) != channelBindingType {
			return nil, &Error{Code: codeProtocolViolation, Message: fmt.Sprintf("unsupported SCRAM channel-binding type %.30q", kind)}
		}
	default:
		return nil, malformed(`Unexpected channel-binding flag "%s".`, shown(message[0]))
	}
	switch next := firstByte(rest); next {
	case ',':
	case 'a':
		return nil, &Error{Code: codeNotSupported, Message: "client uses authorization identity, but it is not supported"}
	default:
		return nil, malformed(`Unexpected attribute "%s" in client-first-message.`, shown(next))
	}
	bare = rest[1:]
	s.gs2Header = bytes.Clone(message[:len(message)-len(bare)])
	return bare, nil
}

// readClientBare takes the client's nonce. The user name is read over: the one
// of the startup packet counts, as in PostgreSQL.
func (s *ScramServer) readClientBare(bare []byte) error {
	if firstByte(bare) == 'm' {
		return &Error{Code: codeNotSupported, Message: "client requires an unsupported SCRAM extension"}
	}
	_, rest, err := attribute(bare, 'n')
	if err != nil {
		return err
	}
	nonce, rest, err := attribute(rest, 'r')
	if err != nil {
		return err
	}
	if !printable(nonce) {
		return &Error{Code: codeProtocolViolation, Message: "non-printable characters in SCRAM nonce"}
	}
	for len(rest) > 0 { // extensions that need no answer
		if _, _, rest, err = anyAttribute(rest); err != nil {
			return err
		}
	}
	s.clientNonce, s.clientBare = bytes.Clone(nonce), bytes.Clone(bare)
	return nil
}

// Final takes the client-final-message. If the proof matches it returns the
// server-final-message and the keys that the proof revealed, also where only a
// verifier is known. Errors are ErrWrongPassword or *Error.
func (s *ScramServer) Final(clientFinal []byte) (serverFinal []byte, keys ScramKeys, err error) {
	if s.step != stepFinal {
		return nil, ScramKeys{}, errors.New("client-final-message in the wrong place")
	}
	s.step = stepDone
	if err := checkMessage(clientFinal, maxClientMessage); err != nil {
		return nil, ScramKeys{}, err
	}
	proof, withoutProof, err := s.readClientFinal(clientFinal)
	if err != nil {
		return nil, ScramKeys{}, err
	}

	message := []string{string(s.clientBare), ",", string(s.serverFirst), ",", string(withoutProof)}
	clientKey := xor(proof, mac(s.verifier.storedKey[:], message...))
	storedKey := sha256.Sum256(clientKey)
	signature := mac(s.verifier.serverKey[:], message...)
	if match := subtle.ConstantTimeCompare(storedKey[:], s.verifier.storedKey[:]) == 1; !match || s.doomed {
		return nil, ScramKeys{}, ErrWrongPassword
	}
	keys = ScramKeys{ServerKey: s.verifier.serverKey, Salt: s.verifier.salt, Iterations: s.verifier.iterations}
	copy(keys.ClientKey[:], clientKey)
	return append([]byte("v="), base64.StdEncoding.EncodeToString(signature)...), keys, nil
}

// readClientFinal checks channel binding and nonce, and cuts the proof off.
func (s *ScramServer) readClientFinal(message []byte) (proof, withoutProof []byte, err error) {
	binding, rest, err := attribute(message, 'c')
	if err != nil {
		return nil, nil, err
	}
	input := s.gs2Header
	if s.plus {
		input = slices.Concat(s.gs2Header, s.binding)
	}
	want := base64.StdEncoding.EncodeToString(input)
	if subtle.ConstantTimeCompare(binding, []byte(want)) != 1 {
		if s.plus {
			return nil, nil, &Error{Code: codeInvalidAuthorization, Message: "SCRAM channel binding check failed"}
		}
		return nil, nil, &Error{Code: codeProtocolViolation, Message: "unexpected SCRAM channel-binding attribute in client-final-message"}
	}
	nonce, rest, err := attribute(rest, 'r')
	if err != nil {
		return nil, nil, err
	}
	if subtle.ConstantTimeCompare(nonce, append(bytes.Clone(s.clientNonce), s.nonce...)) != 1 {
		return nil, nil, &Error{Code: codeProtocolViolation, Message: "invalid SCRAM response", Detail: "Nonce does not match."}
	}
	for {
		before := len(message) - len(rest) - 1 // the comma in front of this attribute
		name, value, after, err := anyAttribute(rest)
		if err != nil {
			return nil, nil, err
		}
		rest = after
		if name != 'p' {
			continue
		}
		proof, err = decodeBase64(string(value))
		if err != nil || len(proof) != sha256.Size {
			return nil, nil, malformed("Malformed proof in client-final-message.")
		}
		if len(rest) > 0 {
			return nil, nil, malformed("Garbage found at the end of client-final-message.")
		}
		return proof, message[:before], nil
	}
}
