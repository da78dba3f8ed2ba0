package localpg

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is how long the certificates are valid: longer than any demo, shorter than anybody could rely on.
const certificateLife = 30 * 24 * time.Hour

// Certificates is a certificate authority of our own with one certificate for the servers; more can be issued.
// All are ECDSA P-256 with SHA-256, so that SCRAM channel binding uses SHA-256. Safe for concurrent use.
type Certificates struct {
	Dir        string // where every file lives
	CAFile     string // the authority's certificate, for sslrootcert
	ServerCert string // valid for 127.0.0.1, ::1 and localhost
	ServerKey  string
	Roots      *x509.CertPool // holds the authority only

	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
}

// NewCertificates makes an authority and a server certificate in dir, which is created when missing. The authority's
// key is never written.
func NewCertificates(dir string) (*Certificates, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make certificate directory: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate authority key: %w", err)
	}
	template, err := certificateTemplate("pgtier local authority")
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign authority: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read authority back: %w", err)
	}
	c := &Certificates{Dir: dir, CAFile: filepath.Join(dir, "ca.crt"), Roots: x509.NewCertPool(), ca: ca, caKey: key}
	c.Roots.AddCert(ca)
	if err := writePEM(c.CAFile, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	c.ServerCert, c.ServerKey, err = c.IssueServer("server", "localhost", loopback, "::1")
	if err != nil {
		return nil, err
	}
	return c, nil
}

// IssueServer makes a server certificate for host names and IP addresses, in <file>.crt and <file>.key of the
// directory, and returns both paths. A certificate of that name is replaced.
func (c *Certificates) IssueServer(file string, hosts ...string) (certFile, keyFile string, err error) {
	if len(hosts) == 0 {
		return "", "", fmt.Errorf("issue server certificate %s: no host names", file)
	}
	template, err := certificateTemplate(hosts[0])
	if err != nil {
		return "", "", err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return c.issue(file, template)
}

// IssueClient makes a client certificate whose common name is the role, in client-<role>.crt and .key of the
// directory, and returns both paths.
func (c *Certificates) IssueClient(role string) (certFile, keyFile string, err error) {
	template, err := certificateTemplate(role)
	if err != nil {
		return "", "", err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return c.issue("client-"+role, template)
}

func (c *Certificates) issue(file string, template *x509.Certificate) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("generate key of %s: %w", file, err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca, key.Public(), c.caKey)
	if err != nil {
		return "", "", fmt.Errorf("sign %s: %w", file, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("encode key of %s: %w", file, err)
	}
	certFile = filepath.Join(c.Dir, file+".crt")
	keyFile = filepath.Join(c.Dir, file+".key")
	if err := writePEM(keyFile, "PRIVATE KEY", keyDER); err != nil {
		return "", "", err
	}
	return certFile, keyFile, writePEM(certFile, "CERTIFICATE", der)
}

func certificateTemplate(commonName string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-time.Hour), // clocks of containers differ
		NotAfter:     now.Add(certificateLife),
	}, nil
}

func writePEM(path, kind string, der []byte) error {
	// libpq and PostgreSQL both refuse a key that others can read.
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
