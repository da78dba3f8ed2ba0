package session

import (
	"encoding/binary"
	"slices"

	"pgtier/proxy/wire"
)

// typeParameters declares the parameters for what a server takes them in the client's text, where it may take them for something else in the texts that
// the shards are sent.
func (x *wide) typeParameters(j *job) (refusal *wire.Error, err error) {
	if !j.plan.Untyped || !j.extended {
		return nil, nil
	}
	b, err := x.branch(x.anyShard(), x.explicit)
	if err != nil {
		return asRefusal(err)
	}
	b.c.SetUnnamed(nil)
	if err := b.send(wire.AppendSync(appendDescribeStatement(wire.AppendParse(nil, "", j.text, j.types)))); err != nil {
		return nil, err
	}
	for {
		f, done, err := b.next(x.s)
		switch {
		case err != nil:
			return nil, err
		case done:
			return b.failed, nil
		case f.Type == wire.MsgParameterDescription:
			told, err := parameterTypes(f.Raw)
			if err != nil {
				return nil, err
			}
			j.types = declare(j.types, told)
		}
	}
}

// declare are the types that the client has declared, and those that a server tells of the other parameters. Types that users make have other numbers on
// other shards.
func declare(types, told []uint32) []uint32 {
	all := slices.Clone(told)
	for i := range all {
		switch {
		case i < len(types) && types[i] != 0:
			all[i] = types[i]
		case all[i] >= firstUserOID:
			all[i] = 0
		}
	}
	return all
}

// parameterTypes reads a ParameterDescription.
func parameterTypes(frame []byte) (types []uint32, err error) {
	body := frame[min(wire.HeaderBytes, len(frame)):]
	if len(body) < 2 || len(body) != 2+4*int(binary.BigEndian.Uint16(body)) {
		return nil, errGarbage
	}
	for body = body[2:]; len(body) > 0; body = body[4:] {
		types = append(types, binary.BigEndian.Uint32(body))
	}
	return types, nil
}
