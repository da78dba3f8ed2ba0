package auth

import (
	"crypto/sha256"
	"crypto/subtle"
)

// CheckPassword checks a cleartext password against any kind of secret. It
// derives SCRAM keys once whatever the kind, so that the time it takes
// (about a millisecond) tells nothing about the user.
func CheckPassword(secret Secret, user, password string) bool {
	salt, iterations := make([]byte, saltLength), DefaultIterations
	if v := secret.data; v != nil && v.kind == SecretVerifier {
		salt, iterations = v.verifier.salt, v.verifier.iterations
	} else if v != nil && v.kind == SecretPlaintext {
		salt, iterations = v.salt, v.iterations
	}
	keys := deriveKeys(password, salt, iterations)

	match := false
	switch secret.Kind() {
	case SecretVerifier:
		match = subtle.ConstantTimeCompare(keys.ServerKey[:], secret.data.verifier.serverKey[:]) == 1
	case SecretMD5:
		match = subtle.ConstantTimeCompare([]byte(md5Hash(password+user)), []byte(*secret.data.text)) == 1
	case SecretPlaintext:
		// Hashes, so that the time does not depend on where or in what length they differ.
		got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(*secret.data.text))
		match = subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}
	return match && password != "" && !secret.Mock()
}
