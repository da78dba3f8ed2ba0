package pool

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes. In a configuration it is written as 512B, 64KiB, 16MiB or 1GiB.
type Size int64

// sizeUnits is ordered from the largest, so that String finds the shortest form.
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

type sizeUnit struct {
	name  string
	bytes int64
}

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, unit := range sizeUnits() {
		if int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalText reads a size of 0 or more; only 0 needs no unit.
func (s *Size) UnmarshalText(text []byte) error {
	value := string(text)
	if value == "0" {
		*s = 0
		return nil
	}
	for _, unit := range sizeUnits() {
		digits, ok := strings.CutSuffix(value, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > (1<<63-1)/unit.bytes {
			break
		}
		*s = Size(n * unit.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size; write a whole number with its unit: B, KiB, MiB, GiB or TiB", value)
}
