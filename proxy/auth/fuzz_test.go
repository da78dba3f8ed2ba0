package auth

import (
	"errors"
	"strings"
	"testing"
)

// fuzzServer is a server with a fixed nonce, so that inputs can go on from one message to the next.
func fuzzServer(t *testing.T, plus bool) *ScramServer {
	mechanism, binding := ScramSHA256, []byte(nil)
	if plus {
		mechanism, binding = ScramSHA256Plus, []byte("hash")
	}
	server := mustServer(t, rfcSecret, mechanism, binding)
	server.nonce = rfcServerNonce
	return server
}

// rfcSecret is derived once: a fuzzer has no time for more.
var rfcSecret = func() Secret {
	secret, err := ParseSecret("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
	if err != nil {
		panic(err)
	}
	return secret
}()

func FuzzScramServerFirst(f *testing.F) {
	for _, seed := range []string{rfcClientFirst, "y,,n=,r=abc", "p=tls-server-end-point,,n=,r=abc,x=1", "n,a=u,n=,r=abc", "n,,m=1", ""} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, message []byte, plus bool) {
		server := fuzzServer(t, plus)
		first, err := server.First(message)
		var refused *Error
		switch {
		case err != nil && !errors.As(err, &refused):
			t.Fatalf("First(%q): %v is not an *Error", message, err)
		case err == nil && (len(first) > 2*maxClientMessage || !strings.Contains(string(first), rfcServerNonce+",s=")):
			t.Fatalf("First(%q) = %q", message, first)
		case err == nil && plus != (message[0] == 'p'):
			t.Fatalf("First(%q) with PLUS %v was accepted", message, plus)
		}
	})
}

func FuzzScramServerFinal(f *testing.F) {
	for _, seed := range []string{rfcClientFinal, strings.Replace(rfcClientFinal, ",p=", ",x=1,p=", 1), "c=biws", "c=biws,r=,p=", ""} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, message []byte, plus bool) {
		server, first := fuzzServer(t, plus), rfcClientFirst
		if plus {
			first = "p=tls-server-end-point" + first[1:]
		}
		if _, err := server.First([]byte(first)); err != nil {
			t.Fatal(err)
		}
		_, _, err := server.Final(message)
		var refused *Error
		switch {
		case err == nil && string(message) != rfcClientFinal:
			t.Fatalf("Final(%q) was accepted", message)
		case err != nil && !errors.Is(err, ErrWrongPassword) && !errors.As(err, &refused):
			t.Fatalf("Final(%q): %v is neither ErrWrongPassword nor an *Error", message, err)
		}
	})
}

func FuzzScramClient(f *testing.F) {
	f.Add([]byte(rfcServerFirst), []byte(rfcServerFinal))
	f.Add([]byte("r=x,s=AAAA,i=4096"), []byte("e=other-error"))
	f.Add([]byte("r="+rfcClientNonce+"x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), []byte("v=AAAA"))
	keys := deriveKeys(rfcPassword, rfcSecret.data.verifier.salt, 4096)
	f.Fuzz(func(t *testing.T, first, final []byte) {
		// Keys and not a password: deriving them would only slow the fuzzer down.
		client := mustClient(t, KeysCredential(*keys), Mechanisms(false), nil)
		client.nonce = rfcClientNonce
		client.First()
		answer, err := client.Next(first)
		if err != nil {
			if client.Verify(final) == nil {
				t.Fatalf("Verify(%q) was accepted after Next(%q) had failed", final, first)
			}
			return
		}
		if len(answer) > 2*maxServerMessage {
			t.Fatalf("Next(%q) = %d bytes", first, len(answer))
		}
		if client.Verify(final) == nil && !strings.HasPrefix(string(final), "v=") {
			t.Fatalf("Verify(%q) was accepted", final)
		}
	})
}

func FuzzHBA(f *testing.F) {
	for _, seed := range []string{
		"local all all trust\nhost all all 127.0.0.1/32 scram-sha-256 # x\n",
		"hostssl \"a b\",/^x$ u,@names 10.0.0.0 255.0.0.0 cert map=m\n",
		"include other\ninclude_dir d\ninclude_if_exists x\n", "host all \\\n all all md5", "host @pg_hba.conf all all md5", `host "`, ",,, #",
	} {
		f.Add(seed)
	}
	conn := tcp("127.0.0.1", "d", "u")
	f.Fuzz(func(t *testing.T, text string) {
		files := map[string]string{"/pg_hba.conf": text, "/other": "local all all trust", "/names": "a, b", "/d/x.conf": text}
		hba, err := parseHBA(memoryReader(files), "/pg_hba.conf")
		if (err == nil) != (hba != nil) {
			t.Fatalf("parseHBA(%q) = %v, %v", text, hba, err)
		}
		if err == nil {
			if rule, ok := hba.Match(conn); ok && (rule.kind == kindLocal || rule.Line < 1) {
				t.Fatalf("parseHBA(%q): TCP matches %+v", text, rule)
			}
		}
		if ident, err := parseIdent(memoryReader(files), "/pg_hba.conf"); err == nil {
			for name := range ident.maps {
				ident.UserAllowed(name, "certificate", "u")
			}
		}
	})
}

func FuzzUserList(f *testing.F) {
	for _, seed := range []string{
		"\"u\" \"secret\" more\n; comment\n", "\"a\"\"b\" \"md500000000000000000000000000000000\"", "\"u\" \"" + rfcSecret.Reveal() + "\"", "\"u\"", "\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		users, err := parseUserList("userlist.txt", text)
		if err != nil && users != nil {
			t.Fatalf("parseUserList(%q) = users and %v", text, err)
		}
		for _, user := range users {
			if user.Name == "" || len(user.Name) > maxUserName || len(user.Secret.Reveal()) > 2*maxSecretText {
				t.Fatalf("parseUserList(%q) has user %q", text, user.Name)
			}
			again, err := ParseSecret(user.Secret.Reveal())
			if err != nil || again.Kind() != user.Secret.Kind() {
				t.Fatalf("secret %q does not survive: %v", user.Secret.Reveal(), err)
			}
		}
	})
}
