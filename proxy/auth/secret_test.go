package auth

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestParseSecret(t *testing.T) {
	const verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	for _, test := range []struct {
		text string
		kind SecretKind
	}{
		{"", SecretNone},
		{"hunter2", SecretPlaintext},
		{"md5", SecretPlaintext},
		{"md5" + strings.Repeat("0", 32), SecretMD5},
		{"md5" + strings.Repeat("A", 32), SecretPlaintext}, // PostgreSQL writes lower case only
		{verifier, SecretVerifier},
	} {
		secret, err := ParseSecret(test.text)
		if err != nil || secret.Kind() != test.kind {
			t.Errorf("ParseSecret(%q) = kind %d, %v, want kind %d", test.text, secret.Kind(), err, test.kind)
		}
		if secret.Reveal() != test.text {
			t.Errorf("Reveal = %q, want %q", secret.Reveal(), test.text)
		}
	}
	if got := rfcVerifier(t).Reveal(); got != verifier {
		t.Errorf("verifier of RFC 7677's password is %s, want %s", got, verifier)
	}

	parts := strings.SplitN(verifier, ":", 3)
	for name, bad := range map[string]string{
		"nothing":        "SCRAM-SHA-256$",
		"no keys":        parts[0] + ":" + "W22ZaJ0SNY7soEsUEjb6gQ==",
		"no server key":  parts[0] + ":" + parts[1],
		"bad count":      strings.Replace(verifier, "4096", "-1", 1),
		"huge count":     strings.Replace(verifier, "4096", "99999999", 1),
		"empty salt":     strings.Replace(verifier, "W22ZaJ0SNY7soEsUEjb6gQ==", "", 1),
		"short key":      strings.Replace(verifier, "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", "AAAA", 1),
		"behind the end": verifier + "AAAA",
		"zero byte":      "pass\x00word",
	} {
		if _, err := ParseSecret(bad); err == nil {
			t.Errorf("%s: ParseSecret accepted %q", name, bad)
		} else if strings.Contains(err.Error(), "W22Z") || strings.Contains(err.Error(), "pass\x00") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	keys := ScramKeys{Salt: []byte("hunter2")}
	copy(keys.ClientKey[:], "hunter2")
	type inner struct {
		Shown  Secret
		hidden Secret
		cred   Credential
	}
	secret := mustSecret(t, "hunter2")
	values := []any{
		secret, &secret, PasswordCredential("hunter2"), keys, &keys, KeysCredential(keys),
		inner{secret, secret, PasswordCredential("hunter2")},
		User{Name: "u", Secret: secret},
		UserConfig{Name: "u", Password: "hunter2"},
		Config{Users: []UserConfig{{Name: "u", Password: "hunter2"}}},
		NewUsers(NewMock(), 4096, []User{{Name: "u", Secret: secret}}),
		Decision{Secret: secret},
	}
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			text := fmt.Sprintf(verb, value)
			if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") || strings.Contains(text, "104 117 110") {
				t.Errorf("%s of %T shows the secret: %s", verb, value, text)
			}
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Errorf("json of %T: %v", value, err)
		}
		if strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "aHVudGVyMg") {
			t.Errorf("json of %T shows the secret: %s", value, text)
		}
	}
}

func TestVerifierFromPasswordBounds(t *testing.T) {
	for _, iterations := range []int{-1, maxIterations + 1} {
		if _, err := VerifierFromPassword("x", nil, iterations); err == nil {
			t.Errorf("%d iterations were accepted", iterations)
		}
	}
	if _, err := VerifierFromPassword("x", make([]byte, maxSaltLength+1), 1); err == nil {
		t.Error("a salt beyond the limit was accepted")
	}
	a, b := mustVerifier(t, "x", nil, 0), mustVerifier(t, "x", nil, 0)
	if a.Reveal() == b.Reveal() || !strings.HasPrefix(a.Reveal(), "SCRAM-SHA-256$4096:") {
		t.Errorf("two verifiers with random salts: %s and %s", a.Reveal(), b.Reveal())
	}
}

func TestCheckPassword(t *testing.T) {
	for name, secret := range map[string]Secret{
		"plaintext": mustSecret(t, "pencil"),
		"md5":       mustSecret(t, md5Hash("pencil"+"user")),
		"verifier":  rfcVerifier(t),
	} {
		if !CheckPassword(secret, "user", "pencil") {
			t.Errorf("%s: the right password was refused", name)
		}
		for _, wrong := range []string{"", "pencil ", "Pencil", "penci", secret.Reveal() + "x"} {
			if CheckPassword(secret, "user", wrong) {
				t.Errorf("%s: password %q was accepted", name, wrong)
			}
		}
	}
	if CheckPassword(mustSecret(t, md5Hash("pencil"+"user")), "other", "pencil") {
		t.Error("an md5 hash was accepted for another user")
	}
	if CheckPassword(Secret{}, "user", "") || CheckPassword(Secret{}, "user", "x") {
		t.Error("a user without a password got in")
	}
	mock := Secret{&secretData{kind: SecretVerifier, mock: true, verifier: rfcVerifier(t).data.verifier}}
	if CheckPassword(mock, "user", "pencil") {
		t.Error("a mock secret was matched")
	}
}

func TestMD5(t *testing.T) {
	salt := [4]byte{1, 2, 3, 4}
	const user = "user"
	hash := md5Hash("pencil" + user)
	for name, cred := range map[string]Credential{"password": PasswordCredential("pencil"), "hash": mustCredential(t, hash)} {
		response, err := MD5Response(cred, user, salt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for kind, secret := range map[string]Secret{"plaintext": mustSecret(t, "pencil"), "hash": mustSecret(t, hash)} {
			if !CheckMD5(secret, user, salt, response) {
				t.Errorf("response from a %s was refused by a %s", name, kind)
			}
			if CheckMD5(secret, user, [4]byte{1, 2, 3, 5}, response) {
				t.Errorf("response from a %s was accepted by a %s with another salt", name, kind)
			}
		}
		for kind, secret := range map[string]Secret{"other password": mustSecret(t, "pencils"), "verifier": rfcVerifier(t), "none": {}} {
			if CheckMD5(secret, user, salt, response) {
				t.Errorf("response from a %s was accepted by secret %s", name, kind)
			}
		}
	}
	for _, response := range []string{"", "md5", hash, strings.Repeat("x", 35)} {
		if CheckMD5(mustSecret(t, "pencil"), user, salt, response) {
			t.Errorf("response %q was accepted", response)
		}
	}
	// What CheckMD5 hashes for a user without a secret must not be a way in.
	if CheckMD5(Secret{}, user, salt, md5Hash(md5Hash(user)[3:]+string(salt[:]))) {
		t.Error("the made up hash of a user without a secret was matched")
	}
	for name, cred := range map[string]Credential{"none": {}, "keys": KeysCredential(ScramKeys{Iterations: 1})} {
		if _, err := MD5Response(cred, user, salt); err == nil {
			t.Errorf("credential %s answered md5", name)
		}
	}
}
