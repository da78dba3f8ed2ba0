package merge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// TestConversionsAreTheServers turns the values of a server from each format into the other.
func TestConversionsAreTheServers(t *testing.T) {
	conn := dial(t)
	fill(t, conn, 4000, 7)
	for _, c := range columns() {
		sql := "SELECT " + c.name + " FROM t WHERE " + c.name + " IS NOT NULL ORDER BY id"
		var both [2][][]byte
		for format := range both {
			var err error
			if both[format], err = rows(t, conn, sql, []int16{int16(format)}); err != nil {
				t.Fatal(err)
			}
		}
		k := kindOf(c.oid)
		for format := range both {
			if !k.convertible(int16(format), &settings) {
				continue
			}
			for i, row := range both[format] {
				got, err := k.in(int16(format)).convert(nil, row[6:], &settings)
				if want := both[1-format][i][6:]; err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s from format %d: got %q (%v), want %q of %q", c.name, format, got, err, want, row[6:])
				}
			}
		}
	}
}

// answers sends values as the text of an array parameter and returns the answers as text.
func answers(t *testing.T, sql string, values []string) []string {
	t.Helper()
	conn := dial(t)
	result := conn.ExecParams(t.Context(), sql, [][]byte{[]byte(`{"` + strings.Join(values, `","`) + `"}`)}, nil, nil, nil)
	var all []string
	for result.NextRow() {
		all = append(all, string(result.Values()[0]))
	}
	if _, err := result.Close(); err != nil {
		t.Fatal(err)
	}
	if len(all) != len(values) {
		t.Fatalf("%d answers for %d values", len(all), len(values))
	}
	return all
}

func TestFloatsAreWrittenAsTheServerDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	for _, bits := range []int{32, 64} {
		var floats []float64
		add := func(value float64) {
			if bits == 32 {
				value = float64(float32(value))
			}
			floats = append(floats, value, -value)
		}
		for exponent := -330; exponent < 310; exponent++ {
			value, _ := strconv.ParseFloat("1e"+strconv.Itoa(exponent), bits)
			add(value)
			value, _ = strconv.ParseFloat(fmt.Sprintf("%de%d", 1+r.Int64N(1<<53), exponent-8), bits)
			add(value)
		}
		for exponent := -1074; exponent < 1024; exponent++ { // the neighbours of a power of two are not at the same distance
			value := math.Ldexp(1, exponent)
			add(value)
			add(math.Nextafter(value, 0))
			add(math.Nextafter(value, math.Inf(1)))
		}
		for range 20000 {
			if bits == 32 {
				add(float64(math.Float32frombits(r.Uint32())))
			} else {
				add(math.Float64frombits(r.Uint64()))
			}
			add(float64(r.Int64N(1<<62)>>r.IntN(60)) / float64(int64(1)<<r.IntN(12)))
			add(float64(r.Uint64()) * math.Ldexp(1, r.IntN(30))) // where midpoints have few digits
		}
		add(math.Inf(1))
		add(math.NaN())
		var sent, got []string
		for _, value := range floats {
			sent = append(sent, strconv.FormatFloat(value, 'g', 17, 64))
			got = append(got, string(appendFloatText(nil, value, bits)))
		}
		for i, want := range answers(t, fmt.Sprintf("SELECT v::text FROM unnest($1::float%d[]) AS v", bits/8), sent) {
			if got[i] != want {
				t.Errorf("real of %d bits: got %s, want %s, sent %s", bits, got[i], want, sent[i])
			}
		}
	}
}

func TestNumericsAreDividedAsTheServerDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	var sent, got []string
	for range 20000 {
		number := strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10)
		switch r.IntN(4) {
		case 0:
			number += "." + strings.Repeat("0", r.IntN(6)) + strconv.Itoa(r.IntN(100000))
		case 1:
			number += strings.Repeat("0", r.IntN(40))
		case 2:
			number = fmt.Sprintf("0.%0*d", 1+r.IntN(30), r.IntN(1000))
		}
		count := 1 + r.Int64N(1<<r.IntN(62))
		value, err := parseDecimal([]byte(number))
		if err != nil {
			t.Fatal(err)
		}
		binary, err := value.divide(count).appendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := numericToText(nil, binary, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent, got = append(sent, number+"/"+strconv.FormatInt(count, 10)), append(got, string(text))
	}
	sql := "SELECT split_part(v, '/', 1)::numeric / split_part(v, '/', 2)::bigint FROM unnest($1::text[]) AS v"
	for i, want := range answers(t, sql, sent) {
		if got[i] != want {
			t.Fatalf("got %s, want %s for %s", got[i], want, sent[i])
		}
	}
}

func TestIntervalsAreDividedAndWrittenAsTheServerDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 1))
	var sent, got []string
	for range 20000 {
		v := interval{int64(r.Uint64()) >> (10 + r.IntN(50)), int32(r.Uint32()) >> (4 + r.IntN(28)), int32(r.Uint32()) >> (4 + r.IntN(28))}
		count := 1 + r.Int64N(1<<r.IntN(30))
		text := fmt.Sprintf("%d mons %d days %d microseconds", v.months, v.days, v.microseconds)
		result, err := v.divide(count)
		if err != nil {
			t.Fatalf("%v of %s", err, text)
		}
		sent, got = append(sent, text+"/"+strconv.FormatInt(count, 10)), append(got, string(v.appendText(nil))+"/"+string(result.appendText(nil)))
	}
	sql := "SELECT split_part(v, '/', 1)::interval || '/' || split_part(v, '/', 1)::interval / split_part(v, '/', 2)::float8 FROM unnest($1::text[]) AS v"
	for i, want := range answers(t, sql, sent) {
		if got[i] != want {
			t.Fatalf("got %s, want %s for %s", got[i], want, sent[i])
		}
	}
}

func TestPlainNumericsAreReadAsTheServerDoes(t *testing.T) {
	values := []string{".5", "5.", "-.5", "1e3", "1E-3", "12.5e1", "12.5e-4", "0e5", "-1.50", "007.10", "1e-400", "123456789.123456789e5"}
	for i, want := range answers(t, "SELECT v::numeric FROM unnest($1::text[]) AS v", values) {
		got, err := parseDecimal(plainNumeric([]byte(values[i])))
		if err != nil {
			t.Errorf("%s: %v", values[i], err)
			continue
		}
		server, err := parseDecimal([]byte(want))
		if err != nil || got.compare(server) != 0 {
			t.Errorf("%s: got %s, want %s", values[i], got.appendText(nil), want)
		}
	}
	for _, bad := range []string{"", ".", "1e", "e5", "1e500", "1_0", "0x10", "--1", " 1", "1e999999999999999999999"} {
		if got, err := parseDecimal(plainNumeric([]byte(bad))); err == nil {
			t.Errorf("%q was read as %s", bad, got.appendText(nil))
		}
	}
}

// TestMalformedValuesAreErrors gives decoders and converters what no server sends.
func TestMalformedValuesAreErrors(t *testing.T) {
	for _, c := range columns() {
		k := kindOf(c.oid)
		if k.class == classBytes && k.collated || c.oid == oidChar {
			continue // any bytes are text
		}
		for format, values := range [2][]string{
			{"", "x", "-", "1x", "+1", "1e", "--1", "99999999999999999999999999x", "2024-13-01", "2024-02-30", "2024-1-01", "25:00:00", "24:00:01", "2024-01-01 00:00", "2024-01-01 00:00:00.", "NULL", "0x1p3", "1_000",
				"6ba7b810-9dad-11d1-80b4-00c04fd430cX", `\x1`, `\xzz`, "inf"},
			{"x", "abc", "12345", "1234567890", "12345678901234567", "\x00\x01\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x01\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\xff\xff", "\x00\x01\x00\x00\x00\x00\x00\x00\x27\x10"},
		} {
			f := k.in(int16(format))
			for _, value := range values {
				var d datum
				if c.oid == oidBytea && format == formatBinary || f.decode == nil {
					continue
				}
				if k.decodes(int16(format), value) {
					continue
				}
				if err := f.decode([]byte(value), &d); err == nil {
					t.Errorf("%s of format %d: %q was read", c.name, format, value)
				}
				if f.convert != nil {
					if _, err := f.convert(nil, []byte(value), &settings); err == nil {
						t.Errorf("%s of format %d: %q was converted", c.name, format, value)
					}
				}
			}
		}
	}
}

// decodes says which of the malformed values are good for a kind after all.
func (k *kind) decodes(format int16, value string) bool {
	return format == formatBinary && (k.name == "boolean" && value == "\x01" || k.name == "numeric" && value == "\x00\x00\x00\x00\x00\x00\x00\x00") ||
		format == formatBinary && len(value) == 8 && k.class != classNumeric && k.class != classPair
}

func TestHostileNumericsAreBounded(t *testing.T) {
	for _, header := range [][4]int{{1, 32767, 0, 0x3fff}, {1, -32768, 0, 0}, {1, -32768, 0, 0x3fff}, {0, 32767, 0, 0}, {1, 0, 0x8000, 0}} {
		raw := appendNumericHeader(nil, header[0], header[1], header[2], header[3])
		if header[0] == 1 {
			raw = binary.BigEndian.AppendUint16(raw, 1)
		}
		value, err := readDecimal(raw, oidNumeric, formatBinary)
		if err == nil {
			_, _ = value.appendBinary(nil)
			_ = value.appendText(nil)
			_, _ = value.divide(3).appendBinary(nil)
		}
	}
	big, err := parseDecimal([]byte(strings.Repeat("9", 131072)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := big.appendBinary(nil); err != nil {
		t.Error(err)
	}
	big.add(big)
	if got, err := big.appendBinary(nil); err == nil {
		t.Errorf("a numeric above the greatest was written in %d bytes", len(got))
	}
}
