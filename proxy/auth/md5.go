package auth

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"
)

// MD5Response answers a server's AuthenticationMD5Password. The password and
// the md5 hash will do; SCRAM keys will not, which is an error.
func MD5Response(cred Credential, user string, salt [4]byte) (string, error) {
	switch {
	case cred.data != nil && cred.data.password != nil:
		return md5Hash(md5Hash(*cred.data.password + user)[3:] + string(salt[:])), nil
	case cred.data != nil && cred.data.md5 != nil:
		return md5Hash((*cred.data.md5)[3:] + string(salt[:])), nil
	case cred.Zero():
		return "", errors.New("server asks for an md5 password and none is known for this role")
	}
	return "", errors.New("server asks for an md5 password, but only SCRAM keys are known for this role: configure its password")
}

// CheckMD5 checks a client's answer to AuthenticationMD5Password in constant
// time. Secrets that md5 cannot check (none, SCRAM verifiers, mocks) never match.
func CheckMD5(secret Secret, user string, salt [4]byte, response string) bool {
	possible := 1
	var hash string
	switch secret.Kind() {
	case SecretMD5:
		hash = *secret.data.text
	case SecretPlaintext:
		hash = md5Hash(*secret.data.text + user)
	default:
		// Hash something all the same, so that the answer takes as long.
		possible, hash = 0, md5Hash(user)
	}
	want := md5Hash(hash[3:] + string(salt[:]))
	return subtle.ConstantTimeCompare([]byte(want), []byte(response))&possible == 1
}

// md5Hash is PostgreSQL's notation: "md5" and 32 lower case hex digits.
func md5Hash(text string) string {
	sum := md5.Sum([]byte(text))
	return "md5" + hex.EncodeToString(sum[:])
}

func isMD5Hash(text string) bool {
	return len(text) == 35 && strings.HasPrefix(text, "md5") && strings.Trim(text[3:], "0123456789abcdef") == ""
}
