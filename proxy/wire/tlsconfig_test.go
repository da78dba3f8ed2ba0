package wire

import (
	"strings"
	"testing"
)

func TestTLSConfigValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config TLSConfig
		side   Side
		want   []string // the key of each expected problem, in order
	}{
		{"zero value serves both sides", TLSConfig{}, ClientSide, nil},
		{"unknown mode", TLSConfig{Mode: "on"}, ClientSide, []string{"tls.x.mode: unknown mode \"on\""}},
		{"key without cert", TLSConfig{Key: "k"}, ServerSide, []string{"tls.x.cert: is missing"}},
		{"cert without key", TLSConfig{Cert: "c"}, ServerSide, []string{"tls.x.key: is missing"}},
		{"clients need a certificate to require TLS", TLSConfig{Mode: TLSRequire}, ClientSide, []string{"tls.x.cert: is missing"}},
		{"servers need none", TLSConfig{Mode: TLSRequire}, ServerSide, nil},
		{"client certificates need an authority", TLSConfig{Mode: TLSVerifyCA, Cert: "c", Key: "k"}, ClientSide, []string{"tls.x.ca: is missing"}},
		{"all at once", TLSConfig{Mode: TLSVerifyFull}, ClientSide, []string{"tls.x.cert:", "tls.x.ca:"}},
		{"the system's authorities for servers", TLSConfig{Mode: TLSVerifyFull}, ServerSide, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.config.Validate("tls.x", tc.side)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tc.want[i]) {
					t.Errorf("problem %d: got %q, want it to begin with %q", i, got[i], tc.want[i])
				}
			}
		})
	}
}
