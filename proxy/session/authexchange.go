package session

import (
	"crypto/rand"
	"errors"
	"fmt"

	"pgtier/proxy/auth"
	"pgtier/proxy/wire"
)

// maxAuthMessage bounds a message before login (PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH).
const maxAuthMessage = 65535

// exchangeAuth drives one authentication.
type exchangeAuth struct {
	d        *Door
	h        *Hello
	decision auth.Decision
}

func (x *exchangeAuth) run() error {
	secret := x.decision.Secret
	switch x.decision.Method {
	case auth.MethodTrust, auth.MethodCert:
		if x.decision.Known {
			x.h.secret = secretCredential(secret)
		}
		return nil
	case auth.MethodPassword:
		return x.password(secret)
	case auth.MethodMD5:
		return x.md5(secret)
	case auth.MethodScram:
		return x.scram(secret)
	}
	return auth.PasswordFailed(x.h.User)
}

// secretCredential is what a known secret is worth at a server.
func secretCredential(s auth.Secret) auth.Credential {
	c, _ := s.Credential()
	return c
}

func (x *exchangeAuth) read() ([]byte, error) {
	f, err := x.h.in.ReadFrame(x.h.Conn, x.d.Env.Bufs, maxAuthMessage)
	if err != nil {
		return nil, err
	}
	if f.Type != wire.MsgPassword {
		return nil, wire.Fatal(wire.CodeProtocolViolation, fmt.Sprintf("expected password response, got message type %d", f.Type))
	}
	return f.Body(), nil
}

func (x *exchangeAuth) readPassword() (string, error) {
	body, err := x.read()
	if err != nil {
		return "", err
	}
	text, rest, ok := cutZero(body)
	if !ok || len(rest) != 0 {
		return "", wire.Fatal(wire.CodeProtocolViolation, "invalid password packet size")
	}
	if len(text) == 0 {
		return "", auth.PasswordFailed(x.h.User)
	}
	return string(text), nil
}

func (x *exchangeAuth) password(secret auth.Secret) error {
	if err := x.h.Conn.Write(wire.AppendAuth(nil, wire.AuthCleartext, nil)); err != nil {
		return err
	}
	password, err := x.readPassword()
	if err != nil {
		return err
	}
	if !auth.CheckPassword(secret, x.h.User, password) {
		return auth.PasswordFailed(x.h.User)
	}
	x.h.secret = auth.PasswordCredential(password)
	return nil
}

func (x *exchangeAuth) md5(secret auth.Secret) error {
	var salt [4]byte
	_, _ = rand.Read(salt[:])
	if err := x.h.Conn.Write(wire.AppendAuth(nil, wire.AuthMD5, salt[:])); err != nil {
		return err
	}
	response, err := x.readPassword()
	if err != nil {
		return err
	}
	if !auth.CheckMD5(secret, x.h.User, salt, response) {
		return auth.PasswordFailed(x.h.User)
	}
	x.h.secret = secretCredential(secret)
	return nil
}

func (x *exchangeAuth) scram(secret auth.Secret) error {
	var binding []byte
	if _, secured := x.h.Conn.TLS(); secured {
		binding = x.d.endPoint()
	}
	if err := x.h.Conn.Write(wire.AppendAuthSASL(nil, auth.Mechanisms(binding != nil))); err != nil {
		return err
	}
	body, err := x.read()
	if err != nil {
		return err
	}
	mechanism, rest, ok := cutZero(body)
	if !ok || len(rest) < 4 {
		return fmt.Errorf("read SASLInitialResponse: %w", wire.ErrBroken)
	}
	first := rest[4:]
	if n := int32(uint32(rest[0])<<24 | uint32(rest[1])<<16 | uint32(rest[2])<<8 | uint32(rest[3])); n != int32(len(first)) {
		return fmt.Errorf("read SASLInitialResponse: %w", wire.ErrBroken)
	}
	server, err := auth.NewScramServer(secret, string(mechanism), binding)
	if err != nil {
		return err
	}
	reply, err := server.First(first)
	if err != nil {
		return x.failed(err)
	}
	if err := x.h.Conn.Write(wire.AppendAuth(nil, wire.AuthSASLContinue, reply)); err != nil {
		return err
	}
	if body, err = x.read(); err != nil {
		return err
	}
	reply, keys, err := server.Final(body)
	if err != nil {
		return x.failed(err)
	}
	x.h.secret = secretCredential(secret)
	if x.h.secret.Zero() {
		x.h.secret = auth.KeysCredential(keys)
	}
	return x.h.Conn.Write(wire.AppendAuth(nil, wire.AuthSASLFinal, reply))
}

// failed gives every wrong proof the same answer.
func (x *exchangeAuth) failed(err error) error {
	if errors.Is(err, auth.ErrWrongPassword) {
		return auth.PasswordFailed(x.h.User)
	}
	return err
}

// endPoint is the channel binding data of the certificate that clients see.
func (d *Door) endPoint() []byte {
	conf := d.TLS()
	if conf == nil || len(conf.Certificates) == 0 {
		return nil
	}
	leaf := conf.Certificates[0].Leaf
	if leaf == nil {
		return nil
	}
	return auth.TLSServerEndPoint(leaf)
}
