package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
)

// selfSigned makes a certificate with one of the signature algorithms.
func selfSigned(t *testing.T, key crypto.Signer, algorithm x509.SignatureAlgorithm, subject pkix.Name) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, SignatureAlgorithm: algorithm}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestTLSServerEndPointFollowsTheSignature(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum256 := func(raw []byte) []byte { sum := sha256.Sum256(raw); return sum[:] }
	sum384 := func(raw []byte) []byte { sum := sha512.Sum384(raw); return sum[:] }
	sum512 := func(raw []byte) []byte { sum := sha512.Sum512(raw); return sum[:] }
	for _, test := range []struct {
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
		want      func([]byte) []byte
	}{
		{rsaKey, x509.SHA256WithRSA, sum256},
		{rsaKey, x509.SHA384WithRSA, sum384},
		{rsaKey, x509.SHA512WithRSAPSS, sum512},
		{ecKey, x509.ECDSAWithSHA256, sum256},
		{ecKey, x509.ECDSAWithSHA384, sum384},
		{edKey, x509.PureEd25519, func([]byte) []byte { return nil }},
	} {
		cert := selfSigned(t, test.key, test.algorithm, pkix.Name{CommonName: "x"})
		if got, want := TLSServerEndPoint(cert), test.want(cert.Raw); !bytes.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%s: %x, want %x", test.algorithm, got, want)
		}
	}
	// Nobody signs with these any more, so the certificate is only labelled so.
	for _, weak := range []x509.SignatureAlgorithm{x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1} {
		cert := &x509.Certificate{Raw: []byte("certificate"), SignatureAlgorithm: weak}
		if got := TLSServerEndPoint(cert); !bytes.Equal(got, sum256(cert.Raw)) {
			t.Errorf("%s: %x, want SHA-256", weak, got)
		}
	}
}

func TestCertificateName(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	commonName := asn1.ObjectIdentifier{2, 5, 4, 3}
	for name, test := range map[string]struct {
		subject pkix.Name
		want    string
	}{
		"one":     {pkix.Name{CommonName: "app user", Organization: []string{"corp"}}, "app user"},
		"none":    {pkix.Name{Organization: []string{"corp"}}, ""},
		"several": {pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: commonName, Value: "app"}, {Type: commonName, Value: "root"}}}, ""},
		"zero":    {pkix.Name{CommonName: "root\x00.example.com"}, ""},
	} {
		if got := CertificateName(selfSigned(t, key, x509.ECDSAWithSHA256, test.subject)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
