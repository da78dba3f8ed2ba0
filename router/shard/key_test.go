package shard

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestFunctionWords(t *testing.T) {
	for f := Hash; f <= Modulo; f++ {
		if got, err := ParseFunction(f.String()); err != nil || got != f {
			t.Errorf("ParseFunction(%q) = %v, %v", f, got, err)
		}
	}
	for _, word := range []string{"", "HASH", "md5"} {
		if got, err := ParseFunction(word); err == nil {
			t.Errorf("ParseFunction(%q) = %v, want an error", word, got)
		}
	}
}

func TestKeysThatCannotBeAreRefused(t *testing.T) {
	id := Column{"id", Int8, NoModifier}
	name := Column{"name", Text, NoModifier}
	for want, tc := range map[string]struct {
		function Function
		buckets  int
		columns  []Column
	}{
		"0 buckets":               {Hash, 0, []Column{id}},
		"3 buckets":               {Hash, 3, []Column{id}},
		"131072 buckets":          {Hash, 1 << 17, []Column{id}},
		"-2 buckets":              {Hash, -2, []Column{id}},
		"not 0":                   {Hash, 16, nil},
		"not 8":                   {Hash, 16, make([]Column, 8)},
		`"id" stands twice`:       {Hash, 16, []Column{id, name, id}},
		`"" is not a column`:      {Hash, 16, []Column{{"", Int8, NoModifier}}},
		`"a\x00" is not a column`: {Hash, 16, []Column{{"a\x00", Int8, NoModifier}}},
		"type 114 cannot be":      {Hash, 16, []Column{{"j", 114, NoModifier}}},
		"unknown cannot be":       {Hash, 16, []Column{{"u", Unknown, NoModifier}}},
		"int8 has no modifier 0":  {Hash, 16, []Column{{"id", Int8, 0}}},
		"varchar has no modifier": {Hash, 16, []Column{{"v", Varchar, 0}}},
		"bpchar has no modifier":  {Hash, 16, []Column{{"c", BPChar, 4}}},
		"numeric has no modifier": {Hash, 16, []Column{{"n", Numeric, 0}}},
		"timestamp has no":        {Hash, 16, []Column{{"t", Timestamp, 7}}},
		"one column":              {Modulo, 16, []Column{id, name}},
		"not text":                {Modulo, 16, []Column{name}},
		"function 7 does not":     {7, 16, []Column{id}},
	} {
		if k, err := NewKey(tc.function, tc.buckets, tc.columns...); err == nil || k != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, %v, want an error that says %q", tc, k, err, want)
		}
	}
}

func TestKeySaysWhatItWasMadeOf(t *testing.T) {
	columns := []Column{{"tenant", Varchar, 14}, {"id", Int4, NoModifier}}
	k, err := NewKey(Hash, 512, columns...)
	if err != nil {
		t.Fatal(err)
	}
	got := k.Columns()
	if k.Function() != Hash || k.Buckets() != 512 || len(got) != 2 || got[0] != columns[0] || got[1] != columns[1] {
		t.Errorf("got %v, %d, %v", k.Function(), k.Buckets(), got)
	}
	got[0].Name, columns[0].Name = "changed", "changed"
	if k.Columns()[0].Name != "tenant" {
		t.Error("the key changes with its caller's slices")
	}
}

func TestUnreadableValuesHaveNoBucket(t *testing.T) {
	for name, tc := range map[string]struct {
		column declaration
		values []Value
	}{
		"zero value":                  {of(Int8), []Value{{}}},
		"no values":                   {of(Int8), nil},
		"too many values":             {of(Int8), []Value{Number(Unknown, []byte("1")), Number(Unknown, []byte("1"))}},
		"type 0":                      {of(Int8), []Value{Parameter(0, TextFormat, []byte("1"))}},
		"unknown in binary":           {of(Int8), []Value{Parameter(Unknown, BinaryFormat, make([]byte, 8))}},
		"format 2":                    {of(Int8), []Value{Parameter(Int8, 2, make([]byte, 8))}},
		"text in format 2":            {of(Text), []Value{Parameter(Text, 2, []byte("a"))}},
		"int8 of 4 bytes":             {of(Int8), []Value{Parameter(Int8, BinaryFormat, make([]byte, 4))}},
		"int4 of 8 bytes":             {of(Int8), []Value{Parameter(Int4, BinaryFormat, make([]byte, 8))}},
		"int8 beyond an int2 column":  {of(Int2), []Value{Parameter(Int8, BinaryFormat, []byte{0, 0, 0, 0, 0, 0, 0x80, 0})}},
		"uuid of 15 bytes":            {of(UUID), []Value{Parameter(UUID, BinaryFormat, make([]byte, 15))}},
		"bool of 2 bytes":             {of(Bool), []Value{Parameter(Bool, BinaryFormat, make([]byte, 2))}},
		"text with a zero":            {of(Text), []Value{Literal(Text, []byte("a\x00b"))}},
		"number for a text column":    {of(Text), []Value{Number(Unknown, []byte("7"))}},
		"number cast to text":         {of(Text), []Value{Number(Text, []byte("007"))}},
		"text for an int8 column":     {of(Int8), []Value{Literal(Text, []byte("7"))}},
		"timestamptz for a timestamp": {of(Timestamp), []Value{Parameter(TimestampTZ, BinaryFormat, make([]byte, 8))}},
		"timestamp for a timestamptz": {of(TimestampTZ), []Value{Parameter(Timestamp, BinaryFormat, make([]byte, 8))}},
		"date for a timestamp":        {of(Timestamp), []Value{Parameter(Date, BinaryFormat, make([]byte, 4))}},
		"no zone for a timestamptz":   {of(TimestampTZ), []Value{Literal(Unknown, []byte("2024-01-01 00:00:00"))}},
		"zone for a timestamp":        {of(Timestamp), []Value{Literal(Unknown, []byte("2024-01-01 00:00:00+02"))}},
		"a fraction that is rounded":  {declaration{"", Timestamp, 0}, []Value{Literal(Unknown, []byte("2024-01-01 00:00:00.5"))}},
		"1.5 for an int8 column":      {of(Int8), []Value{Number(Unknown, []byte("1.5"))}},
		"1.234 for numeric(6,2)":      {declaration{"", Numeric, 6<<16 + 2 + modifierHeader}, []Value{Number(Unknown, []byte("1.234"))}},
		"blanks beyond varchar(1)":    {declaration{"", Varchar, 1 + modifierHeader}, []Value{Literal(Unknown, []byte("a "))}},
		"bpchar for a varchar":        {of(Varchar), []Value{Literal(BPChar, []byte("a"))}},
		"date out of range":           {of(Date), []Value{Parameter(Date, BinaryFormat, []byte{0x80, 0, 0, 1})}},
		"timestamp out of range":      {of(Timestamp), []Value{Parameter(Timestamp, BinaryFormat, []byte{0x80, 0, 0, 0, 0, 0, 0, 1})}},
		"bytea beyond ASCII":          {of(Bytea), []Value{Literal(Unknown, []byte("ü"))}},
		"numeric cut off by a scale":  {of(Numeric), []Value{Parameter(Numeric, BinaryFormat, []byte{0, 1, 0xFF, 0xFF, 0, 0, 0, 1, 0, 1})}},
		"numeric of a wrong sign":     {of(Numeric), []Value{Parameter(Numeric, BinaryFormat, []byte{0, 0, 0, 0, 0x12, 0x34, 0, 0})}},
		"numeric of a wrong digit":    {of(Numeric), []Value{Parameter(Numeric, BinaryFormat, []byte{0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10})}},
		"numeric that is cut short":   {of(Numeric), []Value{Parameter(Numeric, BinaryFormat, []byte{0, 2, 0, 0, 0, 0, 0, 0, 0, 1})}},
		"numeric with more digits":    {of(Numeric), []Value{Parameter(Numeric, BinaryFormat, append([]byte{0xFF, 0xFF, 0, 0, 0, 0, 0, 0}, make([]byte, 2*0xFFFF)...))}},
	} {
		if bucket, ok := key(t, Hash, 1024, tc.column).Bucket(tc.values...); ok {
			t.Errorf("%s: is in %d", name, bucket)
		}
	}
}

func TestNullAddsNothing(t *testing.T) {
	if !Null().IsNull() || !Parameter(Int8, TextFormat, nil).IsNull() || Parameter(Text, TextFormat, []byte{}).IsNull() || Literal(Text, nil).IsNull() {
		t.Error("NULL and the empty text are mixed up")
	}
	pair := key(t, Hash, MaxBuckets, of(Int8), of(Text))
	one, _ := key(t, Hash, MaxBuckets, of(Text)).Bucket(Literal(Unknown, []byte("a")))
	if got, ok := pair.Bucket(Null(), Literal(Unknown, []byte("a"))); !ok || got != one {
		t.Errorf("(NULL, a) is in %d, %v, want the bucket %d of a", got, ok, one)
	}
	if got, ok := pair.Bucket(Null(), Null()); !ok || got != 0 {
		t.Errorf("(NULL, NULL) is in %d, %v, want 0", got, ok)
	}
	if _, ok := pair.Bucket(Null(), Value{}); ok {
		t.Error("(NULL, unreadable) has a bucket")
	}
}

func TestASCIISaysWhichValuesEveryEncodingHasAlike(t *testing.T) {
	for _, tc := range []struct {
		value Value
		want  bool
	}{
		{Literal(Unknown, []byte("abc")), true}, {Literal(Unknown, []byte("ü")), false}, {Parameter(Text, BinaryFormat, []byte("ü")), false},
		{Parameter(Int4, BinaryFormat, []byte{0xFF, 0xFF, 0xFF, 0xFF}), true}, {Parameter(Bytea, BinaryFormat, []byte{0xFF}), true}, {Null(), true},
	} {
		if got := tc.value.ASCII(); got != tc.want {
			t.Errorf("%v: got %v", tc.value, got)
		}
	}
}

// commonKeys are the values whose way to a bucket must not allocate.
func commonKeys(t testing.TB) map[string]struct {
	key   *Key
	value Value
} {
	id := []byte("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	raw, _ := parseUUID(id)
	type keyed = struct {
		key   *Key
		value Value
	}
	int8s, texts, uuids := key(t, Hash, 1024, of(Int8)), key(t, Hash, 1024, of(Text)), key(t, Hash, 1024, of(UUID))
	return map[string]keyed{
		"int8/text":        {int8s, Parameter(Int8, TextFormat, []byte("1234567890"))},
		"int8/binary":      {int8s, Parameter(Int8, BinaryFormat, binary.BigEndian.AppendUint64(nil, 1234567890))},
		"int8/number":      {int8s, Number(Unknown, []byte("1234567890"))},
		"int8/modulo":      {key(t, Modulo, 1024, of(Int8)), Parameter(Int8, TextFormat, []byte("1234567890"))},
		"text/text":        {texts, Literal(Unknown, []byte("customer-0001234567"))},
		"text/binary":      {texts, Parameter(Text, BinaryFormat, []byte("customer-0001234567"))},
		"uuid/text":        {uuids, Literal(Unknown, id)},
		"uuid/binary":      {uuids, Parameter(UUID, BinaryFormat, raw[:])},
		"numeric/text":     {key(t, Hash, 1024, of(Numeric)), Number(Unknown, []byte("1234567890.25"))},
		"timestamptz/text": {key(t, Hash, 1024, of(TimestampTZ)), Literal(Unknown, []byte("2024-02-29 12:34:56.789+05:30"))},
		"bytea/text":       {key(t, Hash, 1024, of(Bytea)), Literal(Unknown, []byte(`\xdeadbeef00112233`))},
	}
}

func TestBucketAllocatesNothing(t *testing.T) {
	m, err := Even(1, 1024, "s0", "s1", "s2")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range commonKeys(t) {
		if n := testing.AllocsPerRun(100, func() {
			bucket, ok := tc.key.Bucket(tc.value)
			if _, owned := m.Owner(bucket); !ok || !owned {
				t.Errorf("%s: has no bucket", name)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkBucket(b *testing.B) {
	for name, tc := range commonKeys(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := tc.key.Bucket(tc.value); !ok {
					b.Fatal("no bucket")
				}
			}
		})
	}
}
