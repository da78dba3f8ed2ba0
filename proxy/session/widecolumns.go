package session

import (
	"encoding/binary"
	"fmt"

	"pgtier/proxy/wire"
)

// column is what of a column every shard must say alike, as a RowDescription has it.
type column struct {
	name   string
	oid    uint32
	size   int16
	typmod int32
}

// firstUserOID is where the numbers of types that users make begin (FirstNormalObjectId in PostgreSQL's access/transam.h). They are
// other ones on each shard.
const firstUserOID = 16384

// describedColumns reads a RowDescription.
func describedColumns(raw []byte) ([]column, error) {
	if len(raw) < wire.HeaderBytes+2 {
		return nil, errGarbage
	}
	body := raw[wire.HeaderBytes:]
	out := make([]column, binary.BigEndian.Uint16(body))
	body = body[2:]
	for i := range out {
		name, rest, ok := cutZero(body)
		if !ok || len(rest) < 18 {
			return nil, errGarbage
		}
		out[i] = column{name: string(name), oid: min(binary.BigEndian.Uint32(rest[6:]), firstUserOID), size: int16(binary.BigEndian.Uint16(rest[10:])),
			typmod: int32(binary.BigEndian.Uint32(rest[12:]))}
		body = rest[18:]
	}
	return out, nil
}

func (c column) String() string {
	if c.oid >= firstUserOID {
		return fmt.Sprintf("%q of a type of its own", c.name)
	}
	return fmt.Sprintf("%q of type %d, modifier %d", c.name, c.oid, c.typmod)
}

// agreeInColumns refuses answers that differ in their columns, before a row of them is passed on: rows of one table whose columns stand otherwise on
// another shard would be wrong ones.
func agreeInColumns(taking []*branch) (refusal *wire.Error, err error) {
	var first []column
	for i, b := range taking {
		var these []column
		if b.fields != nil {
			if these, err = describedColumns(b.described); err != nil {
				return nil, err
			}
		}
		if i == 0 {
			first = these
			continue
		}
		if why := disagreement(taking[0].db.Shard(), b.db.Shard(), first, these); why != "" {
			return unlike(why), nil
		}
	}
	return nil, nil
}

// unlike is the refusal of answers that differ in their columns.
func unlike(why string) *wire.Error {
	return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "shards answer with different columns: " + why, Detail: "Their tables are not alike.",
		Hint: "pgtier check says where. Change the tables until all shards have the same columns in the same order."}
}

// disagreement says which column of two shards differs, "" if none does.
func disagreement(one, other string, a, b []column) string {
	if len(a) != len(b) {
		return fmt.Sprintf("%s has %d, %s has %d", one, len(a), other, len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			return fmt.Sprintf("column %d is %s on %s, %s on %s", i+1, a[i], one, b[i], other)
		}
	}
	return ""
}

// copyColumns asks the shards of a COPY, whose answers do not say it, which columns its rows have there.
func (x *wide) copyColumns(j *job) (refusal *wire.Error, err error) {
	text := j.plan.Copy.Rows(j.text)
	if text == "" || len(j.plan.Shards) < 2 {
		return nil, nil
	}
	begins := !x.bare(j)
	taking := make([]*branch, len(j.plan.Shards))
	for i, index := range j.plan.Shards {
		if taking[i], err = x.branch(index, begins); err != nil {
			return asRefusal(err)
		}
	}
	if refusal, err = x.bareLevels(begins, taking); refusal != nil || err != nil { // all have joined: it may ask them
		return refusal, err
	}
	for _, b := range taking {
		if err := b.send(wire.AppendSync(appendDescribeStatement(wire.AppendParse(nil, "", []byte(text), nil)))); err != nil {
			return nil, err
		}
	}
	for _, b := range taking {
		for done := false; !done; {
			var f wire.Frame
			if f, done, err = b.next(x.s); err != nil {
				return nil, err
			}
			if f.Type == wire.MsgRowDescription && !done {
				b.described = append(b.described[:0], f.Raw...)
			}
		}
	}
	for _, b := range taking {
		if b.failed != nil {
			return b.failed.WithoutPosition(), nil
		}
	}
	return agreeInColumns(taking)
}
