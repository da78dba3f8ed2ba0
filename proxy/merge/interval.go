package merge

import (
	"encoding/binary"
	"math"
	"strconv"
)

// Months and days (src/include/datatype/timestamp.h): how comparisons and divisions take an interval's parts for each other.
const (
	monthsYear    = 12
	daysMonth     = 30
	secondsDay    = 86400
	intervalBytes = 16
)

// interval is an interval's parts as a server keeps them.
type interval struct {
	microseconds int64
	days, months int32
}

// readInterval reads the binary format.
func readInterval(raw []byte) (interval, error) {
	if len(raw) != intervalBytes {
		return interval{}, malformed(nameInterval)
	}
	return interval{int64(binary.BigEndian.Uint64(raw)), int32(binary.BigEndian.Uint32(raw[8:])), int32(binary.BigEndian.Uint32(raw[12:]))}, nil
}

// appendBinary adds the binary format.
func (v interval) appendBinary(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.microseconds))
	dst = binary.BigEndian.AppendUint32(dst, uint32(v.days))
	return binary.BigEndian.AppendUint32(dst, uint32(v.months))
}

// infinite: PostgreSQL 17 and later take these parts for infinity, older ones for numbers like others
// (src/include/datatype/timestamp.h, INTERVAL_NOT_FINITE).
func (v interval) infinite() bool {
	return v == interval{math.MaxInt64, math.MaxInt32, math.MaxInt32} || v == interval{math.MinInt64, math.MinInt32, math.MinInt32}
}

// decodeInterval reads the binary format as interval_cmp_value does, with days of 24 hours and months of 30 days: whole days, and
// microseconds of a day from 0 on. Its 128 bits are not needed where the two are apart.
func decodeInterval(raw []byte, d *datum) error {
	v, err := readInterval(raw)
	if err != nil {
		return err
	}
	d.number = v.microseconds/microsecondsDay + int64(v.months)*daysMonth + int64(v.days)
	d.second = v.microseconds % microsecondsDay
	if d.second < 0 {
		d.number, d.second = d.number-1, d.second+microsecondsDay
	}
	return nil
}

// add is interval_pl (src/backend/utils/adt/timestamp.c). Infinite ones are refused, because what they are depends on the server's version.
func (v interval) add(other interval) (interval, error) {
	if v.infinite() || other.infinite() {
		return v, refuse("adding infinite intervals", "", hintRefused)
	}
	days, months := int64(v.days)+int64(other.days), int64(v.months)+int64(other.months)
	sum := interval{v.microseconds + other.microseconds, int32(days), int32(months)}
	if int64(sum.days) != days || int64(sum.months) != months ||
		v.microseconds < 0 == (other.microseconds < 0) && sum.microseconds < 0 != (v.microseconds < 0) || sum.infinite() {
		return v, outOfRange(nameInterval)
	}
	return sum, nil
}

// roundMicro is TSROUND (src/include/datatype/timestamp.h): to a millionth, half to even.
func roundMicro(x float64) float64 { return math.RoundToEven(x*1e6) / 1e6 }

// divide is interval_div (src/backend/utils/adt/timestamp.c). The conversions to float64 keep the compiler from fusing a
// multiplication and an addition into one rounding.
func (v interval) divide(count int64) (interval, error) {
	if v.infinite() {
		return v, refuse("dividing infinite intervals", "", hintRefused)
	}
	factor := float64(count)
	months, days := int32(float64(v.months)/factor), int32(float64(v.days)/factor)
	restDays := roundMicro(float64((float64(v.months)/factor - float64(months)) * daysMonth))
	restSeconds := float64((float64(v.days)/factor - float64(days) + restDays - float64(int32(restDays))) * secondsDay)
	restSeconds = roundMicro(restSeconds)
	sum := int64(days)
	if math.Abs(restSeconds) >= secondsDay {
		whole := int32(restSeconds / secondsDay)
		sum += int64(whole)
		restSeconds -= float64(float64(whole) * secondsDay)
	}
	sum += int64(int32(restDays))
	microseconds := math.RoundToEven(float64(float64(v.microseconds)/factor) + float64(restSeconds*microsecondsSecond))
	if sum != int64(int32(sum)) || microseconds < math.MinInt64 || microseconds >= math.MaxInt64 {
		return v, outOfRange(nameInterval)
	}
	return interval{int64(microseconds), int32(sum), months}, nil
}

// appendText adds the text of IntervalStyle postgres (EncodeInterval, src/backend/utils/adt/datetime.c).
func (v interval) appendText(dst []byte) []byte {
	zero, before := true, false
	for _, part := range [3]struct {
		value int32
		unit  string
	}{{v.months / monthsYear, "year"}, {v.months % monthsYear, "mon"}, {v.days, "day"}} {
		if part.value == 0 {
			continue
		}
		if !zero {
			dst = append(dst, ' ')
		}
		if before && part.value > 0 {
			dst = append(dst, '+')
		}
		dst = append(strconv.AppendInt(dst, int64(part.value), 10), ' ')
		dst = append(dst, part.unit...)
		if part.value != 1 {
			dst = append(dst, 's')
		}
		zero, before = false, part.value < 0
	}
	if !zero && v.microseconds == 0 {
		return dst
	}
	if !zero {
		dst = append(dst, ' ')
	}
	rest := uint64(v.microseconds)
	switch {
	case v.microseconds < 0:
		dst, rest = append(dst, '-'), -rest
	case before:
		dst = append(dst, '+')
	}
	return appendClock(dst, rest)
}

// appendClock adds hh:mm:ss[.ffffff].
func appendClock(dst []byte, microseconds uint64) []byte {
	dst = append(appendTwo(dst, microseconds/microsecondsHour), ':')
	dst = append(appendTwo(dst, microseconds/microsecondsMinute%60), ':')
	dst = appendTwo(dst, microseconds/microsecondsSecond%60)
	fraction := microseconds % microsecondsSecond
	if fraction == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := uint64(microsecondsSecond / 10); fraction > 0; unit /= 10 {
		dst, fraction = append(dst, '0'+byte(fraction/unit)), fraction%unit
	}
	return dst
}

// appendTwo adds a number with two digits at least.
func appendTwo(dst []byte, number uint64) []byte {
	if number < 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendUint(dst, number, 10)
}

func intervalToText(dst, raw []byte, _ *Settings) ([]byte, error) {
	v, err := readInterval(raw)
	if err != nil {
		return dst, err
	}
	if v.infinite() {
		return dst, refuse("writing infinite intervals", "", hintRefused)
	}
	return v.appendText(dst), nil
}
