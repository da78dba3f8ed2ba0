package wiretest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// firstUserOID is PostgreSQL's FirstNormalObjectId: what users make is numbered from here.
const firstUserOID = 16384

// maxShown is how much of a long value a golden file shows, in bytes.
const maxShown = 120

// backendNames are the messages whose body is empty or shown as it is.
func backendNames() map[byte]string {
	return map[byte]string{'1': "ParseComplete", '2': "BindComplete", '3': "CloseComplete", 'n': "NoData",
		's': "PortalSuspended", 'I': "EmptyQueryResponse", 'c': "CopyDone", 'K': "BackendKeyData",
		'C': "CommandComplete", 'S': "ParameterStatus", 'G': "CopyInResponse", 'H': "CopyOutResponse", 'W': "CopyBothResponse",
		'd': "CopyData", 't': "ParameterDescription", 'V': "FunctionCallResponse", 'R': "Authentication", 'v': "NegotiateProtocolVersion"}
}

// render is one backend message as a line of a golden file.
func render(frame []byte) string {
	body := frame[5:]
	switch frame[0] {
	case 'E':
		return "ErrorResponse " + renderFields(body)
	case 'N':
		return "NoticeResponse " + renderFields(body)
	case 'Z':
		return "ReadyForQuery " + string(body)
	case 'T':
		return "RowDescription" + renderColumns(body)
	case 'D':
		return "DataRow" + renderRow(body)
	case 'A':
		parts := bytes.Split(body[4:], []byte{0})
		return fmt.Sprintf("NotificationResponse %q %q", parts[0], parts[1])
	case 'C', 'S':
		out := backendNames()[frame[0]]
		for _, part := range bytes.Split(bytes.TrimSuffix(body, []byte{0}), []byte{0}) {
			out += " " + strconv.Quote(string(part))
		}
		return out
	case 'd':
		return "CopyData " + short(body)
	}
	name := backendNames()[frame[0]]
	if name == "" {
		name = fmt.Sprintf("Unknown%q", frame[0])
	}
	if len(body) == 0 || frame[0] == 'K' {
		return name
	}
	return name + fmt.Sprintf(" %x", body)
}

// renderFields shows what an error says, without where in PostgreSQL's sources
// it was raised.
func renderFields(body []byte) string {
	var out []string
	for len(body) > 1 {
		value, rest, ok := bytes.Cut(body[1:], []byte{0})
		if !ok {
			return fmt.Sprintf("broken %q", body)
		}
		switch body[0] {
		case 'S', 'F', 'L', 'R':
		default:
			out = append(out, string(body[0])+"="+short(value))
		}
		body = rest
	}
	return strings.Join(out, " ")
}

func renderColumns(body []byte) string {
	var out strings.Builder
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range n {
		name, rest, _ := bytes.Cut(body, []byte{0})
		fmt.Fprintf(&out, " %s:%d:%d", name, binary.BigEndian.Uint32(rest[6:]), int16(binary.BigEndian.Uint16(rest[16:])))
		body = rest[18:]
	}
	return out.String()
}

func renderRow(body []byte) string {
	var out strings.Builder
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range n {
		size := int32(binary.BigEndian.Uint32(body))
		body = body[4:]
		if size < 0 {
			out.WriteString(" NULL")
			continue
		}
		out.WriteString(" " + short(body[:size]))
		body = body[size:]
	}
	return out.String()
}

func short(b []byte) string {
	if len(b) <= maxShown {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q…%d bytes, crc %08x", b[:20], len(b), crc32.ChecksumIEEE(b))
}

// normalise makes equal, in place, what may differ between two runs.
func normalise(frame []byte) []byte {
	switch frame[0] {
	case 'K':
		return []byte{'K', 0, 0, 0, 4}
	case 'A':
		copy(frame[5:9], []byte{0, 0, 0, 0})
	case 'T':
		body := frame[5:]
		n := int(binary.BigEndian.Uint16(body))
		body = body[2:]
		for range n {
			rest := body[bytes.IndexByte(body, 0)+1:]
			for _, at := range []int{0, 6} {
				if binary.BigEndian.Uint32(rest[at:]) >= firstUserOID {
					binary.BigEndian.PutUint32(rest[at:], 0)
				}
			}
			body = rest[18:]
		}
	}
	return frame
}

// loosen leaves of an error only its severity and SQLSTATE.
func loosen(frame []byte) []byte {
	if frame[0] != 'E' && frame[0] != 'N' {
		return frame
	}
	var body []byte
	for rest := frame[5:]; len(rest) > 1; {
		value, after, ok := bytes.Cut(rest[1:], []byte{0})
		if !ok {
			return frame
		}
		if rest[0] == 'S' || rest[0] == 'V' || rest[0] == 'C' {
			body = append(append(append(body, rest[0]), value...), 0)
		}
		rest = after
	}
	return frameOf(frame[0], append(body, 0))
}
