package wiretest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// word is one word of a conversation line.
type word struct {
	text   string
	quoted bool
}

// splitWords splits at spaces. A word may be a Go string literal, and a literal
// may be repeated: "ab"*1000.
func splitWords(line string) ([]word, error) {
	var words []word
	for {
		line = strings.TrimLeft(line, " ")
		if line == "" {
			return words, nil
		}
		if line[0] != '"' && line[0] != '`' {
			text, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word{text: text}), rest
			continue
		}
		literal, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("string literal in %q: %w", line, err)
		}
		text, err := strconv.Unquote(literal)
		if err != nil {
			return nil, fmt.Errorf("string literal %s: %w", literal, err)
		}
		line = line[len(literal):]
		if strings.HasPrefix(line, "*") {
			count, rest, _ := strings.Cut(line[1:], " ")
			n, err := strconv.Atoi(count)
			if err != nil {
				return nil, fmt.Errorf("repeat count: %w", err)
			}
			text, line = strings.Repeat(text, n), rest
		}
		words = append(words, word{text: text, quoted: true})
	}
}

// frameOf makes a message: its type, its body, its length.
func frameOf(typ byte, body []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4))
	return append(out, body...)
}

func cstring(s string) []byte { return append([]byte(s), 0) }

func queryMessage(sql string) []byte { return frameOf('Q', cstring(sql)) }

// simpleTypes are the messages without a body.
func simpleTypes() map[string]byte {
	return map[string]byte{"Sync": 'S', "Flush": 'H', "Terminate": 'X', "CopyDone": 'c'}
}

// encode builds the message of one line of a conversation.
func encode(line string) ([]byte, error) {
	words, err := splitWords(line)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("no message")
	}
	name, args := words[0].text, words[1:]
	if typ, ok := simpleTypes()[name]; ok {
		return frameOf(typ, nil), nil
	}
	arg := func(i int) string {
		if i < len(args) {
			return args[i].text
		}
		return ""
	}
	switch name {
	case "Query":
		return queryMessage(arg(0)), nil
	case "Parse":
		return encodeParse(args)
	case "Bind":
		return encodeBind(args)
	case "Describe", "Close":
		return frameOf(name[0:1][0], append([]byte(arg(0)), cstring(arg(1))...)), nil
	case "Execute":
		n, err := strconv.Atoi("0" + arg(1))
		return frameOf('E', binary.BigEndian.AppendUint32(cstring(arg(0)), uint32(n))), err
	case "CopyData":
		return frameOf('d', []byte(arg(0))), nil
	case "CopyFail":
		return frameOf('f', cstring(arg(0))), nil
	case "Function":
		return encodeFunction(args)
	case "Raw":
		return hex.DecodeString(arg(0))
	}
	return nil, fmt.Errorf("unknown message %q", name)
}

// encodeParse: Parse "name" "sql" oid…
func encodeParse(args []word) ([]byte, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("write: Parse name sql [oid …]")
	}
	body := append(cstring(args[0].text), cstring(args[1].text)...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(args)-2))
	for _, a := range args[2:] {
		oid, err := strconv.ParseUint(a.text, 10, 32)
		if err != nil {
			return nil, err
		}
		body = binary.BigEndian.AppendUint32(body, uint32(oid))
	}
	return frameOf('P', body), nil
}

// encodeBind: Bind "portal" "statement" value… [formats n…] [results n…]. A
// value is a literal, NULL, or x and hexadecimal digits.
func encodeBind(args []word) ([]byte, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("write: Bind portal statement [value …] [formats n …] [results n …]")
	}
	var values, formats, results []byte
	counts := [3]uint16{}
	part := 0
	for _, a := range args[2:] {
		if !a.quoted && a.text == "formats" {
			part = 1
			continue
		}
		if !a.quoted && a.text == "results" {
			part = 2
			continue
		}
		counts[part]++
		if part > 0 {
			n, err := strconv.ParseInt(a.text, 10, 16)
			if err != nil {
				return nil, err
			}
			target := map[int]*[]byte{1: &formats, 2: &results}[part]
			*target = binary.BigEndian.AppendUint16(*target, uint16(n))
			continue
		}
		var err error
		if values, err = appendValue(values, a); err != nil {
			return nil, err
		}
	}
	body := append(cstring(args[0].text), cstring(args[1].text)...)
	body = append(binary.BigEndian.AppendUint16(body, counts[1]), formats...)
	body = append(binary.BigEndian.AppendUint16(body, counts[0]), values...)
	body = append(binary.BigEndian.AppendUint16(body, counts[2]), results...)
	return frameOf('B', body), nil
}

func appendValue(dst []byte, a word) ([]byte, error) {
	if !a.quoted && a.text == "NULL" {
		return binary.BigEndian.AppendUint32(dst, ^uint32(0)), nil
	}
	value := []byte(a.text)
	if !a.quoted {
		digits, ok := strings.CutPrefix(a.text, "x")
		if !ok {
			return nil, fmt.Errorf("value %q is neither a literal, NULL nor x…", a.text)
		}
		var err error
		if value, err = hex.DecodeString(digits); err != nil {
			return nil, err
		}
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...), nil
}

// encodeFunction: Function oid value…, everything as text.
func encodeFunction(args []word) ([]byte, error) {
	if len(args) < 1 {
		return nil, fmt.Errorf("write: Function oid [value …]")
	}
	oid, err := strconv.ParseUint(args[0].text, 10, 32)
	if err != nil {
		return nil, err
	}
	body := binary.BigEndian.AppendUint32(nil, uint32(oid))
	body = binary.BigEndian.AppendUint16(body, 0)
	body = binary.BigEndian.AppendUint16(body, uint16(len(args)-1))
	for _, a := range args[1:] {
		if body, err = appendValue(body, a); err != nil {
			return nil, err
		}
	}
	return frameOf('F', binary.BigEndian.AppendUint16(body, 0)), nil
}
