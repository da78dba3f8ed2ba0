package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// ClientTLS builds what the proxy shows to clients. nil without a certificate:
// TLS is then declined. verify-ca and verify-full ask for a client certificate;
// with a CA and a weaker mode one is verified if given, for HBA's cert method.
func (c TLSConfig) ClientTLS() (*tls.Config, error) {
	if c.EffectiveMode() == TLSDisable || c.Cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s: %w", c.Cert, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		// No client that looks would come in; the one in force may still be good.
		return nil, fmt.Errorf("load certificate %s: it expired on %s", c.Cert, end.Format(time.RFC3339))
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{ALPN}}
	if c.CA != "" {
		if conf.ClientCAs, err = loadPool(c.CA); err != nil {
			return nil, err
		}
		conf.ClientAuth = tls.VerifyClientCertIfGiven
	}
	switch c.EffectiveMode() {
	case TLSVerifyCA, TLSVerifyFull:
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// ALPN is the protocol name that direct TLS must agree on.
const ALPN = "postgresql"

// ServerTLS builds what the proxy asks of the server called host; nil in mode disable.
func (c TLSConfig) ServerTLS(host string) (*tls.Config, error) {
	mode := c.EffectiveMode()
	if mode == TLSDisable {
		return nil, nil
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{ALPN}}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("load certificate %s: %w", c.Cert, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	if c.CA != "" {
		pool, err := loadPool(c.CA)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = pool
	}
	switch {
	case mode == TLSVerifyFull:
	case mode == TLSVerifyCA || c.CA != "":
		// libpq: with a root certificate every weaker mode verifies like verify-ca
		// where it speaks TLS, and prefer then goes on without.
		roots := conf.RootCAs
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, roots) }
	default:
		conf.InsecureSkipVerify = true
	}
	return conf, nil
}

// verifyChain checks the signature chain but not the name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("server sent no certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(opts)
	return err
}

func loadPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificate authorities: %s holds no certificate in PEM form", path)
	}
	return pool, nil
}
