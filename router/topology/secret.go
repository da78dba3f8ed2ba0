package topology

// secretMask stands wherever a secret would have been printed.
const secretMask = "****"

// Secret is a password. Printing, logging or marshalling it yields "****"; only Reveal gives the text.
// The zero value is "no password". Secrets compare with ==.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text, for the one place that proves our identity to a server.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no password.
func (s Secret) IsZero() bool { return s.text == "" }

// String returns "****", or "" when there is no password.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return secretMask
}

// GoString keeps %#v from printing the text.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText keeps JSON, YAML and the logger from writing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as it stands in a configuration.
func (s *Secret) UnmarshalText(text []byte) error {
	s.text = string(text)
	return nil
}
