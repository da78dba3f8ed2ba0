package shard

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// edges are texts of a type at its ends and turning points, and other ways to write them. The server takes all of them.
func edges(t Type) []string {
	switch t {
	case Int2:
		return []string{"0", "1", "-1", "32767", "-32768", " 7 ", "+7", "007", "-0"}
	case Int4:
		return append(edges(Int2), "32768", "-32769", "2147483647", "-2147483648", "\t12\n")
	case Int8:
		return append(edges(Int4), "2147483648", "-2147483649", "4294967295", "4294967296", "-4294967296", "-4294967297", "9223372036854775807", "-9223372036854775808")
	case Bool:
		return []string{"t", "f", "true", "false", "TRUE", "tr", "fal", "yes", "y", "no", "n", "on", "off", "of", "1", "0", " true ", "oN"}
	case Text, Varchar, BPChar:
		return []string{"", " ", "   ", "a", "a ", " a", "abc", "abcd", "Grüße", "日本語", "🐘", "é", "e\u0301", "a\tb\n", `\x41`, "'quoted'", `"`,
			"0123456789a", "0123456789ab", "0123456789abc", strings.Repeat("x", 23), strings.Repeat("x", 24), strings.Repeat("long ", 500)}
	case UUID:
		return []string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
			"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11",
			"a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}"}
	case Bytea:
		return []string{"", `\x`, `\x00`, `\xDEADbeef`, `\xde ad`, "\\x de\nad\tbe\ref ", "abc", `a\\b`, `\000\377`, `\141\060`, `\x` + strings.Repeat("00ff", 300)}
	case Date:
		return []string{"2000-01-01", "1999-12-31", "2000-02-29", "1900-02-28", "0001-01-01", "9999-12-31", "2024-12-31", "infinity", "-infinity",
			"Infinity", " 2024-02-29 ", "4713-01-01 BC", "5874897-12-31", "12345-06-07"}
	case Timestamp:
		return []string{"2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2024-02-29 12:34:56.7", "2024-02-29T12:34:56", "0001-01-01 00:00:00",
			"9999-12-31 23:59:59.999999", "2024-01-01", "infinity", "-infinity", "-INFINITY", "2024-01-01 00:00:00.000001", "2024-01-01 00:00:00.5",
			"4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", " 2024-05-06 07:08:09.123 "}
	case TimestampTZ:
		return []string{"2000-01-01 00:00:00+00", "2000-01-01 00:00:00Z", "2024-02-29 12:34:56.7+05:30", "2024-02-29T12:34:56-08", "0001-01-01 00:00:00+15:59:59",
			"9999-12-31 23:59:59.999999-15:59", "infinity", "-infinity", "2024-01-01 00:00:00.000001+00:00:00", "4713-01-02 00:00:00+00 BC",
			"294276-12-31 23:59:59.999999+00", "1890-01-01 00:00:00+00:17:30", "2024-10-27 02:30:00+01"}
	case Numeric:
		return []string{"0", "-0", "0.000", "1", "-1", "1.0", "1.000000", "10", "100", "1000", "10000", "100000", "99999999", "100000000", "0.1", "0.01", "0.001",
			"0.0001", "0.00001", ".5", "5.", "+3.14", "-3.14", "1e3", "1E-3", "1e+10", "12.5e-2", "0e5", "1e100", "1e-100", "9223372036854775808",
			"123456789012345678901234567890.123456789", "NaN", "nan", "Infinity", "-Infinity", "inf", "+inf", "-INF", "00001.10000",
			strings.Repeat("9", 900), "0." + strings.Repeat("0", 500) + "1", "1" + strings.Repeat("0", 999), "1.005", "123.45", "12300", "-12345.67"}
	}
	return nil
}

// random returns a text of a type. The server takes it.
func random(r *rand.Rand, t Type) string {
	switch t {
	case Int2:
		return strconv.Itoa(int(int16(r.Uint32())))
	case Int4:
		return strconv.Itoa(int(int32(r.Uint32()) >> r.IntN(32)))
	case Int8:
		return strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10)
	case Bool:
		return edges(Bool)[r.IntN(len(edges(Bool)))]
	case Text, Varchar, BPChar:
		letters := []rune("abcXYZ019 _-.,'\"\\\t\nüßéñ→日本語🐘")
		text := make([]rune, r.IntN(40))
		for i := range text {
			text[i] = letters[r.IntN(len(letters))]
		}
		return string(text)
	case UUID:
		return randomUUID(r)
	case Bytea:
		return randomBytea(r)
	case Date:
		return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(9999), 1+r.IntN(12), 1+r.IntN(28))
	case Timestamp:
		return random(r, Date) + []string{" ", "T"}[r.IntN(2)] + fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60)) +
			[]string{"", fmt.Sprintf(".%06d", r.IntN(1000000)), fmt.Sprintf(".%d", r.IntN(1000))}[r.IntN(3)]
	case TimestampTZ:
		return random(r, Timestamp) + []string{"Z", "+00", fmt.Sprintf("+%02d:%02d", r.IntN(16), r.IntN(60)), fmt.Sprintf("-%02d", r.IntN(16)),
			fmt.Sprintf("-%02d:%02d:%02d", r.IntN(16), r.IntN(60), r.IntN(60))}[r.IntN(5)]
	case Numeric:
		return randomNumeric(r)
	}
	return ""
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func randomUUID(r *rand.Rand) string {
	text := hex.EncodeToString(randomBytes(r, uuidSize))
	switch r.IntN(4) {
	case 0:
		return text
	case 1:
		return "{" + strings.ToUpper(text) + "}"
	}
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

func randomBytea(r *rand.Rand) string {
	b := randomBytes(r, r.IntN(60))
	if r.IntN(2) == 0 {
		return `\x` + hex.EncodeToString(b)
	}
	var text strings.Builder
	for _, c := range b {
		if c < ' ' || c >= 0x7f || c == '\\' {
			fmt.Fprintf(&text, `\%03o`, c)
		} else {
			text.WriteByte(c)
		}
	}
	return text.String()
}

func randomNumeric(r *rand.Rand) string {
	digit := func(n int) string {
		text := make([]byte, n)
		for i := range text {
			text[i] = "0000123456789"[r.IntN(13)]
		}
		return string(text)
	}
	text := []string{"", "", "-", "+"}[r.IntN(4)] + digit(1+r.IntN(25))
	if r.IntN(2) == 0 {
		text += "." + digit(r.IntN(25))
	}
	if r.IntN(3) == 0 {
		text += fmt.Sprintf("e%d", r.IntN(100)-50)
	}
	return text
}

// odd are texts that a type's input function may take or not, or take in ways that settings change.
func odd(t Type) []string {
	common := append([]string{}, "", " ", "0", "1", "-1", "x", "null", "NULL", "\u00a01", "1\u00a0", "+", "-", ".", "1 2", "'1'", "１")
	switch t {
	case Int2, Int4, Int8:
		return append(common, "0x10", "0b1", "0o7", "1_000", "1.0", "1e3", "--1", "+-1", "- 1", "1-", "\v1\f", "32768", "-32769", "2147483648", "-2147483649",
			"9223372036854775808", "-9223372036854775809", "99999999999999999999", "00000000000000000000000000001", "１２", "1\x01")
	case Bool:
		return append(common, "o", "of", "off", "offf", "on", "onn", "tru", "truee", "yess", "ye", "no", "non", "01", "10", "T", "F", "\ttrue\v", "t rue", "é")
	case UUID:
		return append(common, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111", " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
			"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 ", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
			"(a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11)", "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11", "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
			"a0eebc999c0b4ef8bb6d6bb9bd380a11-", "a-0eebc999c0b4ef8bb6d6bb9bd380a11", "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
			"g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{}", "{", "}{", "{a0eebc999c0b4ef8bb6d6bb9bd380a11-}", "{{a0eebc999c0b4ef8bb6d6bb9bd380a11}}")
	case Bytea:
		return append(common, `\`, `\\`, `\\\`, `\X41`, `\x4`, `\x4 1`, `\x41 `, ` \x41`, `\x4g`, "\\x41\v42", `\400`, `\378`, `\12`, `\1`, `\0000`, `a\`, `é`, `\303\251`,
			`\x`+strings.Repeat("a", 999), "\\x\u00e9")
	case Date:
		return append(common, "yesterday", "today", "now", "epoch", "inf", "+infinity", "infinit", "2024-1-2", "24-01-02", "01-02-2024", "01/02/2024", "2024/01/02",
			"20240102", "2024-Jan-02", "Jan 2 2024", "2024-02-30", "2023-02-29", "2100-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "0000-01-01", "2024-01-02 BC",
			"2024-01-02 AD", "2024-01-02 00:00:00", "2024-01-02T10:00:00Z", "2024-01-02Z", "2024-01-02,", "2024-01-02-", "+2024-01-02", "-2024-01-02", "2024-01-02 +05",
			"2024.01.02", "J2451545", "99999-01-01", "2024-01-02\v", "2024-01-021", "2024-001-02", "2024-01", "2024", "2024-32", "2024.366", "infinity infinity", "- infinity",
			"10000-01-01", "12-13-14", "13-12-14", "99-02-03", "099-02-03")
	case Timestamp, TimestampTZ:
		return append(oddTimes(), common...)
	case Numeric:
		return append(common, "1e", "1e+", "1e 5", "1 e5", "e5", ".e5", "1.e5", ".1e5", "1..2", "1.2.3", "1_000", "0x10", "NaN1", "-NaN", "+NaN", "infinit", "infi", "- 1",
			"+-1", "1e1000", "1e1001", "1e-1000", "1e-1001", "1e99999", "1e-99999", "1e200000", "1e9999999999", "1e--5", strings.Repeat("1", 1001), strings.Repeat("0", 1001),
			"1e0x10", "1e+5 ", "1e5.5", "1,000", "$1", "1f", "0.0e99999", "1e1_0", "inf inf", "infin")
	}
	return append(common, edges(Text)...)
}

func oddTimes() []string {
	var all []string
	for _, day := range []string{"2024-03-10", "2024-02-30", "0000-01-01", "2024-1-1", "infinity", "epoch", "now", "today", ""} {
		for _, clock := range []string{"", " 02:30:00", "T02:30:00", "t02:30:00", "  02:30:00", "\t02:30:00", " 24:00:00", " 23:59:60", " 23:59:59.9999999", " 02:30",
			" 2:30:00", " 02:30:00.", " 02:30:00.1234567", " 02:30:00,5", " 023000", " 02:30:00 PM", " 12:60:00", " 25:00:00", " allballs", "T02", "02:30:00", " 00:00:00.0000005"} {
			for _, zone := range []string{"", "Z", "z", " Z", "+05", " +05", "+5", "+0530", "+05:30", "+05:30:15", "+05:3", "+15:59:59", "-15:59", "+16", "-16:00", "+05:60",
				" UTC", " EST", " America/New_York", "+05 BC", " BC", "+-5", "+", "Zulu", "+05:30:60", "-00:00"} {
				all = append(all, day+clock+zone)
			}
		}
	}
	return all
}

// mutate changes a text at one place.
func mutate(r *rand.Rand, text string) string {
	b := []rune(text)
	letters := []rune("0123456789-+:. TZeE{}\\xabt,_/é")
	at, c := r.IntN(len(b)+1), letters[r.IntN(len(letters))]
	switch {
	case at < len(b) && r.IntN(3) == 0:
		return string(append(b[:at:at], b[at+1:]...))
	case at < len(b) && r.IntN(2) == 0:
		b[at] = c
		return string(b)
	}
	return string(b[:at]) + string(c) + string(b[at:])
}

// surely tells whether a text that a server takes or gives must be read, rather than left alone.
func surely(t Type, text string) bool {
	switch t {
	case Date, Timestamp, TimestampTZ:
		text = strings.ToLower(strings.TrimSpace(text))
		return strings.HasSuffix(text, "infinity") || text[4] == '-' && !strings.HasSuffix(text, "bc")
	}
	return true
}

func quoteLiteral(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
