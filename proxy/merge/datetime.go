package merge

import (
	"bytes"
	"math"
)

// Days and microseconds (src/include/datatype/timestamp.h).
const (
	microsecondsSecond = 1_000_000
	microsecondsMinute = 60 * microsecondsSecond
	microsecondsHour   = 60 * microsecondsMinute
	microsecondsDay    = 24 * microsecondsHour
	// daysEpoch are the days from 0000-03-01 to 2000-01-01, PostgreSQL's epoch.
	daysEpoch = 730425
	// maxYear is above every year that a server writes: timestamps end in 294276, dates in 5874897.
	maxYear = 5_874_897
)

// cutNumber takes a number of min to max digits off the front.
func cutNumber(text []byte, min, max int) (number int64, rest []byte, ok bool) {
	end := 0
	for end < len(text) && end < max && text[end] >= '0' && text[end] <= '9' {
		number = number*10 + int64(text[end]-'0')
		end++
	}
	return number, text[end:], end >= min
}

// cutByte takes c off the front.
func cutByte(text []byte, c byte) (rest []byte, ok bool) {
	if len(text) == 0 || text[0] != c {
		return text, false
	}
	return text[1:], true
}

// cutDate takes an ISO date off the front: its year, counted without regard to BC, its month and its day.
func cutDate(text []byte) (year, month, day int64, rest []byte, ok bool) {
	year, rest, ok = cutNumber(text, 4, 7)
	if !ok || year < 1 || year > maxYear {
		return 0, 0, 0, nil, false
	}
	if rest, ok = cutByte(rest, '-'); !ok {
		return 0, 0, 0, nil, false
	}
	if month, rest, ok = cutNumber(rest, 2, 2); !ok || month < 1 || month > 12 {
		return 0, 0, 0, nil, false
	}
	if rest, ok = cutByte(rest, '-'); !ok {
		return 0, 0, 0, nil, false
	}
	day, rest, ok = cutNumber(rest, 2, 2)
	return year, month, day, rest, ok && day >= 1
}

// daysIn are the days of a month; year as astronomers count, with a year 0.
func daysIn(year, month int64) int64 {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// epochDays are the days since 2000-01-01 in the Gregorian calendar. BC years come as they are written.
func epochDays(year, month, day int64, bc bool) (int64, bool) {
	if bc {
		year = 1 - year
	}
	if day > daysIn(year, month) {
		return 0, false
	}
	// Years begin with March, so that the leap day is the last; eras have 400 years.
	if month <= 2 {
		year--
	}
	era := year / 400
	if year%400 < 0 {
		era--
	}
	ofEra := year - era*400
	ofYear := (153*((month+9)%12)+2)/5 + day - 1
	return era*146097 + ofEra*365 + ofEra/4 - ofEra/100 + ofYear - daysEpoch, true
}

// cutTime takes hh:mm:ss[.ffffff] off the front.
func cutTime(text []byte) (microseconds int64, rest []byte, ok bool) {
	hour, rest, ok := cutNumber(text, 2, 2)
	if !ok || hour > 24 {
		return 0, nil, false
	}
	if rest, ok = cutByte(rest, ':'); !ok {
		return 0, nil, false
	}
	minute, rest, ok := cutNumber(rest, 2, 2)
	if !ok || minute > 59 {
		return 0, nil, false
	}
	if rest, ok = cutByte(rest, ':'); !ok {
		return 0, nil, false
	}
	second, rest, ok := cutNumber(rest, 2, 2)
	if !ok || second > 59 {
		return 0, nil, false
	}
	microseconds = hour*microsecondsHour + minute*microsecondsMinute + second*microsecondsSecond
	if after, point := cutByte(rest, '.'); point {
		fraction, tail, ok := cutNumber(after, 1, 6)
		if !ok {
			return 0, nil, false
		}
		for range 6 - (len(after) - len(tail)) {
			fraction *= 10
		}
		microseconds, rest = microseconds+fraction, tail
	}
	return microseconds, rest, microseconds <= microsecondsDay
}

// endsEra reads what may stand behind a date or a timestamp.
func endsEra(rest []byte) (bc, ok bool) {
	if bytes.Equal(rest, []byte(" BC")) {
		return true, true
	}
	return false, len(rest) == 0
}

func decodeDateText(raw []byte, d *datum) error {
	switch string(raw) {
	case "infinity":
		d.number = math.MaxInt32
		return nil
	case "-infinity":
		d.number = math.MinInt32
		return nil
	}
	year, month, day, rest, ok := cutDate(raw)
	bc, ends := endsEra(rest)
	if !ok || !ends {
		return malformed("date")
	}
	if d.number, ok = epochDays(year, month, day, bc); !ok {
		return malformed("date")
	}
	return nil
}

func decodeTimeText(raw []byte, d *datum) error {
	microseconds, rest, ok := cutTime(raw)
	if !ok || len(rest) != 0 {
		return malformed("time")
	}
	d.number = microseconds
	return nil
}

func decodeTimestampText(raw []byte, d *datum) error {
	switch string(raw) {
	case "infinity":
		d.number = math.MaxInt64
		return nil
	case "-infinity":
		d.number = math.MinInt64
		return nil
	}
	year, month, day, rest, ok := cutDate(raw)
	if !ok || year > 294276 {
		return malformed("timestamp")
	}
	if rest, ok = cutByte(rest, ' '); !ok {
		return malformed("timestamp")
	}
	microseconds, rest, ok := cutTime(rest)
	bc, ends := endsEra(rest)
	if !ok || !ends || bc && year > 4714 {
		return malformed("timestamp")
	}
	days, ok := epochDays(year, month, day, bc)
	if !ok {
		return malformed("timestamp")
	}
	d.number = days*microsecondsDay + microseconds
	return nil
}

func dateToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	err := decodeDateText(raw, &d)
	return appendInteger(dst, d.number, 4), err
}

func timeToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	err := decodeTimeText(raw, &d)
	return appendInteger(dst, d.number, 8), err
}

func timestampToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	err := decodeTimestampText(raw, &d)
	return appendInteger(dst, d.number, 8), err
}
