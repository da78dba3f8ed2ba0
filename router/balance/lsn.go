package balance

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in a server's write-ahead log, in bytes from its beginning. 0 is "unknown" and below every real one.
// Positions of different timelines compare only up to the point where the timelines part.
type LSN uint64

// ParseLSN reads a position as PostgreSQL prints it: two hexadecimal halves of at most eight digits (pg_lsn.c,
// pg_lsn_in_internal).
func ParseLSN(text string) (LSN, error) {
	high, low, ok := strings.Cut(text, "/")
	if ok {
		h, errHigh := parseHalf(high)
		l, errLow := parseHalf(low)
		if errHigh == nil && errLow == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("%q is not a WAL position; write it as 16/B374D848", text)
}

func parseHalf(text string) (uint64, error) {
	if strings.HasPrefix(text, "+") || len(text) > 8 {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(text, 16, 32)
}

// String returns the position as PostgreSQL prints it: "16/B374D848".
func (l LSN) String() string {
	return strings.ToUpper(strconv.FormatUint(uint64(l>>32), 16) + "/" + strconv.FormatUint(uint64(l&0xFFFFFFFF), 16))
}
