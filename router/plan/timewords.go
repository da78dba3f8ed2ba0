package plan

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"pgtier/parser"
)

// clockWords are words in texts of dates and times that each shard reads by its own clock.
var clockWords = strings.Fields("now today tomorrow yesterday")

// dateWords are other words of more than five letters that such a text may have: keywords (datetktbl in src/backend/utils/adt/datetime.c) and names of time
// zones without a slash. Shorter ones may all be abbreviations.
var dateWords = strings.Fields(`january february march april august september october november december sunday monday tuesday wednesday thursday friday saturday
	tuesd wednes thurs isodow isoyear julian allballs infinity undefined minute minutes second seconds timezone century decade millennium
	factory greenwich hongkong iceland israel jamaica kwajalein navajo poland portugal singapore turkey universal mexico brazil chile canada america`)

// maxDateText is the most bytes that a text of one date or time has (MAXDATELEN in src/include/utils/datetime.h).
const maxDateText = 128

// jsonObject begins texts that are JSON and no array or row: what they say is no date.
var jsonObject = regexp.MustCompile(`^\s*\{\s*"(?:[^"\\]|\\.)*"\s*:`)

// tellsTime says whether a text may be a date or time that is read by the clock: one of the words alone or with what else such a text has, in any order, or
// inside an array, a range or a row.
func tellsTime(text []byte) bool {
	if !parser.TimeWord(text) { // as of most, at no cost
		return false
	}
	whole := bytes.ToLower(text)
	if !slices.ContainsFunc(clockWords, func(word string) bool { return bytes.Contains(whole, []byte(word)) }) {
		return false
	}
	trimmed := bytes.TrimLeft(whole, " \t\n\r\v\f")
	inside := len(trimmed) > 0 && strings.IndexByte("{[(", trimmed[0]) >= 0
	if inside && jsonObject.Match(trimmed) || !inside && len(bytes.TrimSpace(whole)) > maxDateText {
		return false
	}
	clock, prose := false, false
	words := bytes.FieldsFunc(whole, func(r rune) bool { return (r < 'a' || r > 'z') && r < 0x80 })
	for _, word := range words {
		switch {
		case slices.Contains(clockWords, string(word)):
			clock = true
		case len(word) > 5 && !slices.Contains(dateWords, string(word)) && bytes.IndexByte(whole, '/') < 0:
			prose = true
		}
	}
	return clock && (inside || !prose)
}
