package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// mustSecret parses a secret that the test needs.
func mustSecret(t testing.TB, text string) Secret {
	t.Helper()
	secret, err := ParseSecret(text)
	if err != nil {
		t.Fatalf("ParseSecret: %v", err)
	}
	return secret
}

func mustVerifier(t testing.TB, password string, salt []byte, iterations int) Secret {
	t.Helper()
	secret, err := VerifierFromPassword(password, salt, iterations)
	if err != nil {
		t.Fatalf("VerifierFromPassword: %v", err)
	}
	return secret
}

func mustServer(t testing.TB, secret Secret, mechanism string, binding []byte) *ScramServer {
	t.Helper()
	server, err := NewScramServer(secret, mechanism, binding)
	if err != nil {
		t.Fatalf("NewScramServer: %v", err)
	}
	return server
}

func mustClient(t testing.TB, cred Credential, mechanisms []string, binding []byte) *ScramClient {
	t.Helper()
	client, err := NewScramClient(cred, mechanisms, binding)
	if err != nil {
		t.Fatalf("NewScramClient: %v", err)
	}
	return client
}

// login runs a whole exchange and returns the first error of either side.
func login(client *ScramClient, server *ScramServer) (ScramKeys, error) {
	serverFirst, err := server.First(client.First())
	if err != nil {
		return ScramKeys{}, err
	}
	clientFinal, err := client.Next(serverFirst)
	if err != nil {
		return ScramKeys{}, err
	}
	serverFinal, keys, err := server.Final(clientFinal)
	if err != nil {
		return ScramKeys{}, err
	}
	return keys, client.Verify(serverFinal)
}

// wantCode fails unless err is an *Error with the SQLSTATE and the words.
func wantCode(t *testing.T, err error, code, words string) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("error %v (%T), want an *Error with code %s", err, err, code)
	}
	if refused.SQLState() != code || !strings.Contains(refused.Error(), words) {
		t.Fatalf("error %s %q, want %s with %q", refused.SQLState(), refused.Error(), code, words)
	}
}

// The exchange of RFC 7677, section 3.
const (
	rfcPassword    = "pencil"
	rfcSalt        = "W22ZaJ0SNY7soEsUEjb6gQ=="
	rfcClientNonce = "rOprNGfwEbeRWgbNEkqO"
	rfcServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcClientFirst = "n,,n=user,r=" + rfcClientNonce
	rfcServerFirst = "r=" + rfcClientNonce + rfcServerNonce + ",s=" + rfcSalt + ",i=4096"
	rfcClientFinal = "c=biws,r=" + rfcClientNonce + rfcServerNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func rfcVerifier(t testing.TB) Secret {
	salt, err := base64.StdEncoding.DecodeString(rfcSalt)
	if err != nil {
		t.Fatal(err)
	}
	return mustVerifier(t, rfcPassword, salt, 4096)
}

func TestServerFollowsRFC7677(t *testing.T) {
	server := mustServer(t, rfcVerifier(t), ScramSHA256, nil)
	server.nonce = rfcServerNonce
	first, err := server.First([]byte(rfcClientFirst))
	if err != nil || string(first) != rfcServerFirst {
		t.Fatalf("First = %q, %v, want %q", first, err, rfcServerFirst)
	}
	final, _, err := server.Final([]byte(rfcClientFinal))
	if err != nil || string(final) != rfcServerFinal {
		t.Fatalf("Final = %q, %v, want %q", final, err, rfcServerFinal)
	}
}

func TestClientVerifiesServerSignature(t *testing.T) {
	for _, test := range []struct{ name, final, want string }{
		{"wrong signature", "v=" + base64.StdEncoding.EncodeToString(make([]byte, 32)), "signature is wrong"},
		{"short signature", "v=AAAA", "signature is wrong"},
		{"error of the server", "e=invalid-proof", "refused"},
		{"nothing", "", "empty"},
		{"garbage behind it", "v=AAAA,x=1", "nothing else"},
		{"other attribute", "r=AAAA", "nothing else"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := mustClient(t, PasswordCredential("pencil"), []string{ScramSHA256}, nil)
			server := mustServer(t, rfcVerifier(t), ScramSHA256, nil)
			first, err := server.First(client.First())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Next(first); err != nil {
				t.Fatal(err)
			}
			if err := client.Verify([]byte(test.final)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("Verify(%q) = %v, want %q", test.final, err, test.want)
			}
			if err := client.Verify([]byte(test.final)); err == nil {
				t.Fatal("a second Verify was accepted")
			}
		})
	}
}

func TestClientAndServerAgree(t *testing.T) {
	binding := []byte("hash of a certificate")
	plaintext := mustSecret(t, "pencil")
	for _, test := range []struct {
		name      string
		secret    Secret
		offered   []string
		binding   []byte // both sides
		mechanism string
	}{
		{"verifier", rfcVerifier(t), Mechanisms(false), nil, ScramSHA256},
		{"plaintext", plaintext, Mechanisms(false), nil, ScramSHA256},
		{"channel binding", rfcVerifier(t), Mechanisms(true), binding, ScramSHA256Plus},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := mustClient(t, PasswordCredential("pencil"), test.offered, test.binding)
			if client.Mechanism() != test.mechanism {
				t.Fatalf("client chose %s, want %s", client.Mechanism(), test.mechanism)
			}
			keys, err := login(client, mustServer(t, test.secret, client.Mechanism(), test.binding))
			if err != nil {
				t.Fatalf("right password: %v", err)
			}
			if want := deriveKeys("pencil", keys.Salt, keys.Iterations); keys.ClientKey != want.ClientKey || keys.ServerKey != want.ServerKey {
				t.Fatal("the keys of the exchange are not those of the password")
			}
			client = mustClient(t, PasswordCredential("pencils"), test.offered, test.binding)
			if _, err := login(client, mustServer(t, test.secret, client.Mechanism(), test.binding)); !errors.Is(err, ErrWrongPassword) {
				t.Fatalf("wrong password: %v, want ErrWrongPassword", err)
			}
		})
	}
}

func TestKeysOfOneLoginOpenAnother(t *testing.T) {
	verifier := rfcVerifier(t)
	keys, err := login(mustClient(t, PasswordCredential("pencil"), Mechanisms(false), nil), mustServer(t, verifier, ScramSHA256, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := login(mustClient(t, KeysCredential(keys), Mechanisms(false), nil), mustServer(t, verifier, ScramSHA256, nil)); err != nil {
		t.Fatalf("login with the keys: %v", err)
	}
	for name, other := range map[string]Secret{
		"salt":       mustVerifier(t, "pencil", []byte("another salt"), 4096),
		"iterations": mustVerifier(t, "pencil", keys.Salt, 4097),
	} {
		_, err := login(mustClient(t, KeysCredential(keys), Mechanisms(false), nil), mustServer(t, other, ScramSHA256, nil))
		if err == nil || !strings.Contains(err.Error(), "another salt or iteration count") {
			t.Errorf("other %s: %v, want an error that says so", name, err)
		}
	}
	other := mustVerifier(t, "other password", keys.Salt, 4096)
	if _, err := login(mustClient(t, KeysCredential(keys), Mechanisms(false), nil), mustServer(t, other, ScramSHA256, nil)); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("other password: %v, want ErrWrongPassword", err)
	}
}

func TestServerRefusesClientFirst(t *testing.T) {
	binding := []byte("hash")
	const notSupported = "0A000"
	for _, test := range []struct {
		name, mechanism string
		binding         []byte
		message         string
		code, words     string
	}{
		{"empty", ScramSHA256, nil, "", "08P01", "empty"},
		{"zero byte", ScramSHA256, nil, "n,,n=,r=a\x00", "08P01", "zero byte"},
		{"too long", ScramSHA256, nil, "n,,n=,r=" + strings.Repeat("a", 1024), "08P01", "longer"},
		{"downgrade: y while PLUS was offered", ScramSHA256, binding, "y,,n=,r=abc", "28000", "negotiation error"},
		{"PLUS without binding data", ScramSHA256Plus, binding, "n,,n=,r=abc", "08P01", "does not include channel binding data"},
		{"PLUS with y", ScramSHA256Plus, binding, "y,,n=,r=abc", "08P01", "does not include channel binding data"},
		{"p without PLUS", ScramSHA256, binding, "p=tls-server-end-point,,n=,r=abc", "08P01", "without channel binding"},
		{"other binding type", ScramSHA256Plus, binding, "p=tls-unique,,n=,r=abc", "08P01", "unsupported SCRAM channel-binding type"},
		{"other flag", ScramSHA256, nil, "x,,n=,r=abc", "08P01", "Unexpected channel-binding flag"},
		{"no comma behind flag", ScramSHA256, nil, "nn,,n=,r=abc", "08P01", `Comma expected, but found character "'n'"`},
		{"authorization identity", ScramSHA256, nil, "n,a=root,n=,r=abc", notSupported, "authorization identity"},
		{"mandatory extension", ScramSHA256, nil, "n,,m=x,n=,r=abc", notSupported, "extension"},
		{"no user attribute", ScramSHA256, nil, "n,,r=abc", "08P01", `Expected attribute "n" but found "'r'"`},
		{"no nonce", ScramSHA256, nil, "n,,n=user", "08P01", `Expected attribute "r" but found "0x00"`},
		{"empty nonce", ScramSHA256, nil, "n,,n=,r=", "08P01", "non-printable"},
		{"blank in nonce", ScramSHA256, nil, "n,,n=,r=a b", "08P01", "non-printable"},
		{"comma at the end", ScramSHA256, nil, "n,,n=,r=abc,", "08P01", "end of string"},
		{"bad extension", ScramSHA256, nil, "n,,n=,r=abc,1=x", "08P01", "invalid character"},
		{"extension without =", ScramSHA256, nil, "n,,n=,r=abc,xy", "08P01", "Expected character"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mustServer(t, rfcVerifier(t), test.mechanism, test.binding)
			_, err := server.First([]byte(test.message))
			wantCode(t, err, test.code, test.words)
			if _, _, err := server.Final([]byte(rfcClientFinal)); err == nil {
				t.Fatal("Final was accepted after First had failed")
			}
		})
	}
	if _, err := mustServer(t, rfcVerifier(t), ScramSHA256, nil).First([]byte("y,,n=x,r=abc,x=extension")); err != nil {
		t.Errorf("y without PLUS on offer and an optional extension: %v", err)
	}
}

func TestServerRefusesUnofferedMechanism(t *testing.T) {
	for _, mechanism := range []string{ScramSHA256Plus, "SCRAM-SHA-1", ""} {
		_, err := NewScramServer(rfcVerifier(t), mechanism, nil)
		wantCode(t, err, "08P01", "invalid SASL authentication mechanism")
	}
}

func TestServerRefusesTamperedClientFinal(t *testing.T) {
	binding := []byte("hash")
	for _, test := range []struct {
		name        string
		change      func(final string) string
		code, words string // code "" = ErrWrongPassword
	}{
		{"proof", func(f string) string { return flipProof(f) }, "", ""},
		{"nonce", func(f string) string { return strings.Replace(f, ",r=", ",r=x", 1) }, "08P01", "Nonce does not match"},
		{"nonce cut", func(f string) string { i := strings.Index(f, ",p="); return f[:i-1] + f[i:] }, "08P01", "Nonce does not match"},
		{"channel binding", func(f string) string { return "c=biws" + f[strings.Index(f, ",r="):] }, "28000", "channel binding check failed"},
		{"extension not signed", func(f string) string { return strings.Replace(f, ",p=", ",x=1,p=", 1) }, "", ""},
		{"no proof", func(f string) string { return f[:strings.Index(f, ",p=")] }, "08P01", "end of string"},
		{"short proof", func(f string) string { return f[:strings.Index(f, ",p=")] + ",p=AAAA" }, "08P01", "Malformed proof"},
		{"line break in proof", func(f string) string { return strings.Replace(f, ",p=", ",p=\n", 1) }, "08P01", "Malformed proof"},
		{"garbage", func(f string) string { return f + ",x=1" }, "08P01", "Garbage"},
		{"zero byte", func(f string) string { return f + "\x00" }, "08P01", "zero byte"},
		{"empty", func(string) string { return "" }, "08P01", "empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mustServer(t, rfcVerifier(t), ScramSHA256Plus, binding)
			client := mustClient(t, PasswordCredential("pencil"), Mechanisms(true), binding)
			first, err := server.First(client.First())
			if err != nil {
				t.Fatal(err)
			}
			final, err := client.Next(first)
			if err != nil {
				t.Fatal(err)
			}
			_, keys, err := server.Final([]byte(test.change(string(final))))
			if test.code == "" {
				if !errors.Is(err, ErrWrongPassword) {
					t.Fatalf("error %v, want ErrWrongPassword", err)
				}
			} else {
				wantCode(t, err, test.code, test.words)
			}
			if keys.Iterations != 0 || keys.ClientKey != [32]byte{} {
				t.Fatal("keys were given out for a failed login")
			}
			if _, _, err := server.Final(final); err == nil {
				t.Fatal("a second Final was accepted")
			}
		})
	}
}

// flipProof changes the proof's first byte.
func flipProof(final string) string {
	head, proof64, _ := strings.Cut(final, ",p=")
	proof, err := base64.StdEncoding.DecodeString(proof64)
	if err != nil {
		panic(err)
	}
	proof[0] ^= 1
	return head + ",p=" + base64.StdEncoding.EncodeToString(proof)
}

func TestOtherCertificateFailsChannelBinding(t *testing.T) {
	client := mustClient(t, PasswordCredential("pencil"), Mechanisms(true), []byte("certificate of the one between"))
	_, err := login(client, mustServer(t, rfcVerifier(t), ScramSHA256Plus, []byte("our certificate")))
	wantCode(t, err, "28000", "channel binding check failed")
}

func TestRemovedPlusOfferIsNoticed(t *testing.T) {
	client := mustClient(t, PasswordCredential("pencil"), []string{ScramSHA256}, []byte("certificate"))
	if !bytes.HasPrefix(client.First(), []byte("y,,")) {
		t.Fatalf("First = %q, want the flag y", client.First())
	}
	_, err := login(client, mustServer(t, rfcVerifier(t), ScramSHA256, []byte("certificate")))
	wantCode(t, err, "28000", "negotiation error")
}

func TestClientChoosesMechanism(t *testing.T) {
	plus, plain, cert := []string{ScramSHA256Plus, ScramSHA256}, []string{ScramSHA256}, []byte("certificate")
	password := PasswordCredential("x")
	for _, test := range []struct {
		name       string
		cred       Credential
		mechanisms []string
		binding    []byte
		mode       ChannelBinding
		want, flag string // of success
		err        string
	}{
		{"prefer, both can", password, plus, cert, BindingPrefer, ScramSHA256Plus, "p=tls-server-end-point,,", ""},
		{"prefer, no TLS", password, plus, nil, BindingPrefer, ScramSHA256, "n,,", ""},
		{"prefer, server cannot", password, plain, cert, BindingPrefer, ScramSHA256, "y,,", ""},
		{"disable", password, plus, cert, BindingDisable, ScramSHA256, "n,,", ""},
		{"require, both can", password, plus, cert, BindingRequire, ScramSHA256Plus, "p=tls-server-end-point,,", ""},
		{"require, no TLS", password, plus, nil, BindingRequire, "", "", "channel binding is required"},
		{"require, server cannot", password, plain, cert, BindingRequire, "", "", "does not offer SCRAM-SHA-256-PLUS"},
		{"nothing known", password, []string{"OAUTHBEARER"}, nil, BindingPrefer, "", "", "OAUTHBEARER"},
		{"only PLUS without TLS", password, []string{ScramSHA256Plus}, nil, BindingPrefer, "", "", "none of the SASL mechanisms"},
		{"no password", Credential{}, plain, nil, BindingPrefer, "", "", "no password is known"},
		{"md5 hash", mustCredential(t, md5Hash("xu")), plain, nil, BindingPrefer, "", "", "only an md5 hash"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, err := NewScramClientBinding(test.cred, test.mechanisms, test.binding, test.mode)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if client.Mechanism() != test.want || !bytes.HasPrefix(client.First(), []byte(test.flag)) {
				t.Fatalf("chose %s, %q, want %s, %q", client.Mechanism(), client.First(), test.want, test.flag)
			}
		})
	}
}

func mustCredential(t testing.TB, secret string) Credential {
	t.Helper()
	cred, ok := mustSecret(t, secret).Credential()
	if !ok {
		t.Fatal("the secret gives no credential")
	}
	return cred
}

func TestClientRefusesServerFirst(t *testing.T) {
	for _, test := range []struct{ name, message, want string }{ // NONCE stands for the client's
		{"empty", "", "empty"},
		{"other nonce", "r=abc,s=AAAA,i=4096", "does not extend"},
		{"nonce not extended", "r=NONCE,s=AAAA,i=4096", "does not extend"},
		{"no salt", "r=NONCEx,i=4096", `Expected attribute "s"`},
		{"empty salt", "r=NONCEx,s=,i=4096", "salt"},
		{"bad salt", "r=NONCEx,s=!,i=4096", "salt"},
		{"no iterations", "r=NONCEx,s=AAAA", `Expected attribute "i"`},
		{"zero iterations", "r=NONCEx,s=AAAA,i=0", "positive"},
		{"signed iterations", "r=NONCEx,s=AAAA,i=+4096", "positive"},
		{"endless iterations", "r=NONCEx,s=AAAA,i=2000000000", "above the limit"},
		{"garbage", "r=NONCEx,s=AAAA,i=1,x=1", "garbage"},
		{"mandatory extension", "m=1,r=NONCEx,s=AAAA,i=1", `Expected attribute "r"`},
		{"too long", "r=NONCE" + strings.Repeat("x", 4096) + ",s=AAAA,i=1", "longer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := mustClient(t, PasswordCredential("x"), Mechanisms(false), nil)
			client.First()
			_, err := client.Next([]byte(strings.ReplaceAll(test.message, "NONCE", client.nonce)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("Next = %v, want %q", err, test.want)
			}
			if err := client.Verify([]byte("v=")); err == nil {
				t.Fatal("Verify was accepted after Next had failed")
			}
		})
	}
}

func TestMockLooksLikeAUserAndNeverMatches(t *testing.T) {
	mock := NewMock()
	first := func(secret Secret) string {
		message, err := mustServer(t, secret, ScramSHA256, nil).First([]byte("n,,n=,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, parameters, _ := strings.Cut(string(message), ",")
		return parameters
	}
	a, again, b := first(mock.Secret("a", 4096)), first(mock.Secret("a", 4096)), first(mock.Secret("b", 4096))
	if a != again || a == b {
		t.Fatalf("salts: a %q, a again %q, b %q; want the same for one user and another for the next", a, again, b)
	}
	users := NewUsers(mock, 4096, []User{{Name: "a", Secret: mustSecret(t, "plaintext")}})
	user, _ := users.Lookup("a")
	if got := first(user.Secret); got != a {
		t.Fatalf("a user with a plaintext shows %q, a mock %q; want no difference", got, a)
	}
	if first(NewMock().Secret("a", 4096)) == a {
		t.Fatal("two processes share their mock key")
	}

	// Even somebody who guessed the made up keys gets nowhere.
	doomed := Secret{&secretData{kind: SecretVerifier, mock: true, verifier: rfcVerifier(t).data.verifier}}
	if _, err := login(mustClient(t, PasswordCredential("pencil"), Mechanisms(false), nil), mustServer(t, doomed, ScramSHA256, nil)); !errors.Is(err, ErrWrongPassword) {
		t.Fatalf("mock with a matching verifier: %v, want ErrWrongPassword", err)
	}
	for name, secret := range map[string]Secret{"none": {}, "md5": mustSecret(t, md5Hash("pencilu"))} {
		if _, err := login(mustClient(t, PasswordCredential("pencil"), Mechanisms(false), nil), mustServer(t, secret, ScramSHA256, nil)); !errors.Is(err, ErrWrongPassword) {
			t.Errorf("secret %s: %v, want ErrWrongPassword", name, err)
		}
	}
}
