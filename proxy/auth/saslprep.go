package auth

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// preparePassword is SASLprep (RFC 4013) as PostgreSQL applies it before
// hashing (saslprep.c, pg_saslprep): ASCII stays as it is, and a password that
// SASLprep refuses is used byte for byte. PRECIS is no substitute: it
// normalizes with NFC and knows newer Unicode versions, and would turn users
// with such passwords away.
func preparePassword(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	mapped := make([]rune, 0, len(password))
	for _, r := range password {
		switch {
		case inRanges(r, saslSpace):
			mapped = append(mapped, ' ')
		case inRanges(r, saslNothing):
		default:
			mapped = append(mapped, r)
		}
	}
	if len(mapped) == 0 || !allowedBySASLprep(mapped) {
		return password
	}
	return norm.NFKC.String(string(mapped))
}

// allowedBySASLprep checks prohibited characters and the rules for text of two
// directions. PostgreSQL checks before it normalizes, so this does too.
func allowedBySASLprep(text []rune) bool {
	rightToLeft, leftToRight := false, false
	for _, r := range text {
		if inRanges(r, saslProhibited) || inRanges(r, saslUnassigned) {
			return false
		}
		rightToLeft = rightToLeft || inRanges(r, saslRightToLeft)
		leftToRight = leftToRight || inRanges(r, saslLeftToRight)
	}
	if !rightToLeft {
		return true
	}
	return !leftToRight && inRanges(text[0], saslRightToLeft) && inRanges(text[len(text)-1], saslRightToLeft)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

func inRanges(r rune, ranges [][2]rune) bool {
	_, found := slices.BinarySearchFunc(ranges, r, func(span [2]rune, r rune) int {
		switch {
		case span[1] < r:
			return -1
		case span[0] > r:
			return 1
		}
		return 0
	})
	return found
}
