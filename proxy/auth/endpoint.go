package auth

import (
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512 of certificate signatures
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
)

// TLSServerEndPoint returns the channel binding data of a server certificate
// (RFC 5929, section 4.1): its hash with the signature's own hash function, or
// SHA-256 where that is MD5 or SHA-1. It is nil where the signature names no
// hash (Ed25519), and such a connection offers no channel binding.
func TLSServerEndPoint(cert *x509.Certificate) []byte {
	var hash crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.DSAWithSHA256, x509.ECDSAWithSHA256, x509.SHA256WithRSAPSS:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil)
}

// CertificateName returns the common name that a client certificate speaks for.
// It is empty, and thus matches nobody, where the certificate has none or
// several: which of several counts differs between libraries.
func CertificateName(cert *x509.Certificate) string {
	var subject pkix.RDNSequence
	if rest, err := asn1.Unmarshal(cert.RawSubject, &subject); err != nil || len(rest) > 0 {
		return ""
	}
	name, count := "", 0
	for _, rdn := range subject {
		for _, attribute := range rdn {
			if attribute.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) {
				name, _ = attribute.Value.(string)
				count++
			}
		}
	}
	if count != 1 || strings.IndexByte(name, 0) >= 0 {
		return ""
	}
	return name
}
