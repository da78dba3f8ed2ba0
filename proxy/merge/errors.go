package merge

import (
	"fmt"

	"pgtier/proxy/wire"
)

// codeConfigurationLimit is configuration_limit_exceeded, what PostgreSQL raises when temp_file_limit is.
const codeConfigurationLimit = "53400"

// SQLSTATEs of PostgreSQL's own errors that arithmetic and clauses raise here as they do there (src/backend/utils/errcodes.txt).
const (
	codeNumericOutOfRange  = "22003"
	codeIntervalOutOfRange = "22008"
	codeInvalidLimit       = "2201W"
	codeInvalidOffset      = "2201X"
)

// hintRefused is the hint of what is refused without a better one.
const hintRefused = "Restrict the statement to one shard by its sharding key."

// refuse is the error of what cannot be done exactly; construct names it.
func refuse(construct, why, hint string) *wire.Error {
	e := wire.NewError(wire.CodeFeatureNotSupported, construct+" is not supported across shards", hint)
	e.Detail = why
	return e
}

// internal is the error of a Spec that contradicts itself or the shards' columns: a fault of its maker.
func internal(format string, args ...any) *wire.Error {
	return wire.NewError(wire.CodeInternal, "merge plan: "+fmt.Sprintf(format, args...), "")
}

// malformed is the error of a value that a server cannot have sent.
func malformed(name string) *wire.Error {
	return wire.NewError(wire.CodeProtocolViolation, "a shard sent a malformed value of type "+name, "")
}

func brokenRow() *wire.Error {
	return wire.NewError(wire.CodeProtocolViolation, "a shard sent a malformed row", "")
}

func outOfRange(name string) *wire.Error {
	if name == nameInterval {
		return wire.NewError(codeIntervalOutOfRange, "interval out of range", "")
	}
	return wire.NewError(codeNumericOutOfRange, name+" out of range", "")
}

// floatOverflow is float_overflow_error.
func floatOverflow() *wire.Error {
	return wire.NewError(codeNumericOutOfRange, "value out of range: overflow", "")
}

func outOfMemory(what string, bound int64) *wire.Error {
	e := wire.NewError(codeConfigurationLimit, what+" need more memory than a merge may use",
		"Ask for fewer groups or rows, or restrict the statement to one shard by its sharding key.")
	e.Detail = fmt.Sprintf("The bound is %d bytes.", bound)
	return e
}
