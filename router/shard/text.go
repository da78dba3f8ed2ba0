package shard

import "bytes"

// hashText hashes a value for a column of text or varchar.
func hashText(c *Column, v Value) (uint64, bool) {
	text, ok := readText(v)
	if !ok {
		return 0, false
	}
	if v.typ == BPChar {
		// text = bpchar compares as text, which bpchar becomes without its trailing blanks (rtrim1 in pg_cast.dat). But varchar = bpchar
		// compares as bpchar: rows whose varchar has trailing blanks, and so other buckets, are equal too.
		if c.Type != Text {
			return 0, false
		}
		text = trimBlanks(text)
	}
	return hashBytes(text), keepsLength(c, text)
}

// hashBPChar hashes a value for a column of bpchar: its trailing blanks do not count (varchar.c, hashbpcharextended), so neither does
// its padding to the column's length.
func hashBPChar(_ *Column, v Value) (uint64, bool) {
	text, ok := readText(v)
	if !ok {
		return 0, false
	}
	return hashBytes(trimBlanks(text)), true
}

// readText returns the bytes of a text, which are the same in both formats.
func readText(v Value) ([]byte, bool) {
	if v.typ != Text && v.typ != Varchar && v.typ != BPChar || v.format != TextFormat && v.format != BinaryFormat {
		return nil, false
	}
	return v.data, bytes.IndexByte(v.data, 0) < 0
}

// trimBlanks cuts off what varchar.c's bpchartruelen does: blanks, no other white space.
func trimBlanks(text []byte) []byte {
	for len(text) > 0 && text[len(text)-1] == ' ' {
		text = text[:len(text)-1]
	}
	return text
}

// keepsLength reports whether a column stores text as it is, or refuses it. varchar(n) cuts trailing blanks beyond n characters off
// (varchar.c, varchar_input); a text of at most n bytes has at most n characters in any encoding.
func keepsLength(c *Column, text []byte) bool {
	return c.Modifier == NoModifier || len(text) <= int(c.Modifier)-modifierHeader || text[len(text)-1] != ' '
}
