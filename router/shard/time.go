package shard

import (
	"encoding/binary"
	"math"
)

const (
	// epochDays is 2000-01-01, from which PostgreSQL counts, in days since 0000-03-01 (POSTGRES_EPOCH_JDATE in timestamp.h).
	epochDays = 730425
	// minDate and endDate bound the finite dates, in days since 2000 (datetime.h and timestamp.h, IS_VALID_DATE).
	minDate, endDate = -2451545, 2147483494 - 2451545
	// minTimestamp and endTimestamp bound the finite times, in microseconds since 2000 (timestamp.h, IS_VALID_TIMESTAMP).
	minTimestamp, endTimestamp = -211813488000000000, 9223371331200000000
	// secondMicros and dayMicros are lengths in microseconds (timestamp.h, USECS_PER_SEC and USECS_PER_DAY).
	secondMicros, dayMicros = 1000000, 86400 * secondMicros
	// maxTimestampDigits is the digits of a microsecond (timestamp.h, MAX_TIMESTAMP_PRECISION).
	maxTimestampDigits = 6
	// maxZoneHours is the largest offset of a time zone (timestamp.h, MAX_TZDISP_HOUR).
	maxZoneHours = 15
)

// hashDate hashes a value for a column of date.
func hashDate(_ *Column, v Value) (uint64, bool) {
	days, ok := readDate(v)
	return hashInteger(int64(days)), ok
}

// hashTimestamp hashes a value for a column of timestamp or timestamptz. The two are not compared with one another without TimeZone.
func hashTimestamp(c *Column, v Value) (uint64, bool) {
	if v.typ != c.Type {
		return 0, false
	}
	micros, ok := readTimestamp(v)
	return hashInteger(micros), ok && keepsFraction(c, micros)
}

// keepsFraction reports whether a column stores a time as it is: it rounds to its digits (timestamp.c, AdjustTimestampForTypmod).
func keepsFraction(c *Column, micros int64) bool {
	if c.Modifier == NoModifier || micros == math.MinInt64 || micros == math.MaxInt64 {
		return true
	}
	step := int64(1)
	for range maxTimestampDigits - c.Modifier {
		step *= 10
	}
	return micros%step == 0
}

// readDate reads a date as days since 2000; the infinite ones are the ends of int32 (date.h, DATEVAL_NOBEGIN and DATEVAL_NOEND).
func readDate(v Value) (int32, bool) {
	switch {
	case v.typ != Date:
		return 0, false
	case v.format == TextFormat:
		data := trimSpace(v.data)
		if sign := infinity(data); sign != 0 {
			return pick(sign, int32(math.MinInt32), math.MaxInt32), true
		}
		days, rest, ok := parseDate(data)
		return days, ok && len(rest) == 0
	case v.format == BinaryFormat && len(v.data) == 4:
		days := int32(binary.BigEndian.Uint32(v.data))
		return days, days >= minDate && days < endDate || days == math.MinInt32 || days == math.MaxInt32
	}
	return 0, false
}

// readTimestamp reads a timestamp or timestamptz as microseconds since 2000; the infinite ones are the ends of int64 (timestamp.h,
// DT_NOBEGIN and DT_NOEND).
func readTimestamp(v Value) (int64, bool) {
	switch {
	case v.format == TextFormat:
		data := trimSpace(v.data)
		if sign := infinity(data); sign != 0 {
			return pick(sign, int64(math.MinInt64), math.MaxInt64), true
		}
		return parseTimestamp(data, v.typ == TimestampTZ)
	case v.format == BinaryFormat && len(v.data) == 8:
		micros := int64(binary.BigEndian.Uint64(v.data))
		return micros, micros >= minTimestamp && micros < endTimestamp || micros == math.MinInt64 || micros == math.MaxInt64
	}
	return 0, false
}

// infinity returns 1 for infinity, -1 for -infinity, 0 for anything else.
func infinity(data []byte) int {
	switch {
	case equalFold(data, "infinity"):
		return 1
	case equalFold(data, "-infinity"):
		return -1
	}
	return 0
}

func pick[T any](sign int, below, above T) T {
	if sign < 0 {
		return below
	}
	return above
}

// parseDate reads YYYY-MM-DD, which every DateStyle reads alike, and returns what follows. The years are 0001 to 9999.
func parseDate(data []byte) (days int32, rest []byte, ok bool) {
	if len(data) < 10 || data[4] != '-' || data[7] != '-' {
		return 0, nil, false
	}
	year, okYear := digits(data[:4])
	month, okMonth := digits(data[5:7])
	day, okDay := digits(data[8:10])
	if !okYear || !okMonth || !okDay || year < 1 || month < 1 || month > 12 || day < 1 || day > monthDays(year, month) {
		return 0, nil, false
	}
	return daysSince2000(year, month, day), data[10:], true
}

func monthDays(year, month int32) int32 {
	switch {
	case month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	case month == 2:
		return 28
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	}
	return 31
}

// daysSince2000 counts by years that begin in March, so that the leap day is a year's last. The year is positive.
func daysSince2000(year, month, day int32) int32 {
	month -= 3
	if month < 0 {
		month += 12
		year--
	}
	return year*365 + year/4 - year/100 + year/400 + (153*month+2)/5 + day - 1 - epochDays
}

// parseTimestamp reads YYYY-MM-DD[( |T)HH:MM:SS[.ffffff]], for a timestamptz with a time and an offset behind.
func parseTimestamp(data []byte, zoned bool) (micros int64, ok bool) {
	days, data, ok := parseDate(data)
	if !ok {
		return 0, false
	}
	micros = int64(days) * dayMicros
	if len(data) == 0 {
		return micros, !zoned
	}
	if data[0] != ' ' && data[0] != 'T' {
		return 0, false
	}
	seconds, data, ok := parseClock(data[1:])
	if !ok {
		return 0, false
	}
	fraction, data, ok := parseFraction(data)
	if !ok {
		return 0, false
	}
	micros += seconds*secondMicros + fraction
	if !zoned {
		return micros, len(data) == 0
	}
	offset, ok := parseZone(data)
	return micros - offset*secondMicros, ok
}

// parseClock reads HH:MM:SS as seconds. PostgreSQL also takes 24:00:00 and a second 60.
func parseClock(data []byte) (seconds int64, rest []byte, ok bool) {
	if len(data) < 8 || data[2] != ':' || data[5] != ':' {
		return 0, nil, false
	}
	hour, okHour := digits(data[:2])
	minute, okMinute := digits(data[3:5])
	second, okSecond := digits(data[6:8])
	ok = okHour && okMinute && okSecond && hour < 24 && minute < 60 && second < 60
	return int64(hour*3600 + minute*60 + second), data[8:], ok
}

// parseFraction reads a point and up to six digits as microseconds. More digits would be rounded.
func parseFraction(data []byte) (micros int64, rest []byte, ok bool) {
	if len(data) == 0 || data[0] != '.' {
		return 0, data, true
	}
	data = data[1:]
	n := 0
	for n < len(data) && isDigit(data[n]) {
		n++
	}
	if n == 0 || n > maxTimestampDigits {
		return 0, nil, false
	}
	value, ok := digits(data[:n])
	for range maxTimestampDigits - n {
		value *= 10
	}
	return int64(value), data[n:], ok
}

// parseZone reads Z or an offset from UTC, (+|-)hh[:mm[:ss]], as seconds. It takes nothing else: names depend on settings.
func parseZone(data []byte) (seconds int64, ok bool) {
	if len(data) == 1 && lower(data[0]) == 'z' {
		return 0, true
	}
	if len(data) != 3 && len(data) != 6 && len(data) != 9 || data[0] != '+' && data[0] != '-' {
		return 0, false
	}
	hours, ok := digits(data[1:3])
	if !ok || hours > maxZoneHours {
		return 0, false
	}
	seconds = int64(hours) * 3600
	for i, unit := 3, int64(60); i < len(data); i, unit = i+3, 1 {
		part, ok := digits(data[i+1 : i+3])
		if !ok || data[i] != ':' || part > 59 {
			return 0, false
		}
		seconds += int64(part) * unit
	}
	if data[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// digits reads a number of at most nine decimal digits.
func digits(data []byte) (n int32, ok bool) {
	for _, c := range data {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int32(c-'0')
	}
	return n, true
}
