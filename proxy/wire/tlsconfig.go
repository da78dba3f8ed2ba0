package wire

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Side says which of its two faces the proxy shows on a connection.
type Side uint8

const (
	// ClientSide is the face towards clients, where the proxy is the TLS server.
	ClientSide Side = iota
	// ServerSide is the face towards PostgreSQL servers, where the proxy is the TLS client.
	ServerSide
)

// String returns "client" or "server", the words of the configuration.
func (s Side) String() string {
	if s == ClientSide {
		return "client"
	}
	return "server"
}

// The TLS modes, in libpq's words and from the weakest to the strongest. Towards servers they mean what libpq's
// sslmode means. Towards clients "allow" and "prefer" both take a client with or without TLS, "require" refuses
// a client without it, "verify-ca" asks for a certificate that the ca signed, and "verify-full" asks in addition
// that the certificate's common name is the role that logs in.
const (
	TLSDisable    = "disable"
	TLSAllow      = "allow"
	TLSPrefer     = "prefer"
	TLSRequire    = "require"
	TLSVerifyCA   = "verify-ca"
	TLSVerifyFull = "verify-full"
)

// TLSModes returns every TLS mode from the weakest to the strongest.
func TLSModes() []string {
	return []string{TLSDisable, TLSAllow, TLSPrefer, TLSRequire, TLSVerifyCA, TLSVerifyFull}
}

// TLSConfig says how one side of the proxy speaks TLS. The zero value is mode "prefer" without a certificate:
// clients are then told that TLS is not available, servers are asked for it and believed unseen.
type TLSConfig struct {
	// Mode is one of TLSModes; "" means "prefer".
	Mode string `mapstructure:"mode"`
	// Cert is the path of a PEM file with the proxy's certificate and the chain above it.
	Cert string `mapstructure:"cert"`
	// Key is the path of the PEM file with the private key of Cert.
	Key string `mapstructure:"key"`
	// CA is the path of a PEM file with the authorities that may have signed the other side's certificate;
	// "" means the system's.
	CA string `mapstructure:"ca"`
}

// EffectiveMode returns Mode with its default filled in.
func (c TLSConfig) EffectiveMode() string {
	if c.Mode == "" {
		return TLSPrefer
	}
	return c.Mode
}

// Validate reports everything that is wrong with c as one joined error, each part led by its key below keyPath
// (for example "tls.client"). It reads no files: whoever loads the certificates reports what is wrong in them.
func (c TLSConfig) Validate(keyPath string, side Side) error {
	var problems []error
	report := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s.%s: "+format, append([]any{keyPath, key}, args...)...))
	}
	mode := c.EffectiveMode()
	rank := slices.Index(TLSModes(), mode)
	if rank < 0 {
		report("mode", "unknown mode %q; use one of %s", mode, strings.Join(TLSModes(), ", "))
		return errors.Join(problems...)
	}
	if c.Cert != "" && c.Key == "" {
		report("key", "is missing although cert is set; name the file with the certificate's private key")
	}
	if c.Key != "" && c.Cert == "" {
		report("cert", "is missing although key is set; name the file with the key's certificate")
	}
	if side == ClientSide {
		if rank >= slices.Index(TLSModes(), TLSRequire) && c.Cert == "" && c.Key == "" {
			report("cert", "is missing and mode %q needs it; name a certificate and its key, or set mode to prefer", mode)
		}
		if rank >= slices.Index(TLSModes(), TLSVerifyCA) && c.CA == "" {
			report("ca", "is missing and mode %q needs it; name the file of the authority that signs client certificates", mode)
		}
	}
	return errors.Join(problems...)
}
