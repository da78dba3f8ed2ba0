package merge

import "strings"

// Settings are those of the session's settings that text depends on, as the server shows them. A zero value is one that is not known:
// what depends on it is refused.
type Settings struct {
	DateStyle     string
	IntervalStyle string
	ByteaOutput   string
	// Foreign: client_encoding is not the database's own, so that bytes tell neither how text compares there, nor for certain whether it is equal.
	Foreign          bool
	ExtraFloatDigits int // 1 to 3: shortest exact text; others are refused where text of floats is compared or written here
}

// isISO: DateStyle begins with ISO (its second word is for input).
func isISO(s *Settings) bool { return strings.HasPrefix(strings.ToUpper(s.DateStyle), "ISO") }

func isIntervalPostgres(s *Settings) bool { return strings.EqualFold(s.IntervalStyle, "postgres") }

func isByteaHex(s *Settings) bool { return strings.EqualFold(s.ByteaOutput, "hex") }

// isShortest: floats are written as the shortest text that reads back as the same value.
func isShortest(s *Settings) bool { return s.ExtraFloatDigits >= 1 }

func isOwn(s *Settings) bool { return !s.Foreign }
