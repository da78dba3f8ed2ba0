package merge

import (
	"fmt"
)

// output is an Output that is known to be possible.
type output struct {
	Output
	field   Field     // type of the value, and its format inside the merge
	add     adder     // with Aggregate, but for Beside
	finish  finisher  // nil: the value is state.value
	convert converter // to the client's format; nil: it has it
}

// New makes a Merger. in are the shards' columns, as each shard's RowDescription tells the types and the executor asked for the
// formats; they must be the same for all shards. out are the columns that the client gets. Whatever the rows may need is checked
// here: a *wire.Error of code 0A000 names what cannot be done exactly. The Spec is not kept.
func New(spec *Spec, in, out []Field, config Config) (*Merger, error) {
	if err := spec.check(len(in), len(out)); err != nil {
		return nil, err
	}
	if err := checkLimits(spec); err != nil {
		return nil, err
	}
	m := &Merger{settings: config.Settings, memory: config.Memory, columns: len(in), visible: len(out), aggregate: spec.Aggregate,
		limited: spec.Limited, limit: spec.Limit, offset: spec.Offset}
	if m.memory == 0 {
		m.memory = DefaultMemory
	}
	c := &checker{spec: spec, in: in, m: m}
	for _, step := range []func() error{c.makeOutputs, func() error { return c.matchClient(out) }, c.makeGroup, c.makeSort, c.makeDistinct, c.makeHaving} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// allOutputs are the Spec's, or the shards' columns.
func (s *Spec) allOutputs(columns int) []Output {
	if s.Outputs != nil {
		return s.Outputs
	}
	all := make([]Output, columns)
	for i := range all {
		all[i].Column = i
	}
	return all
}

// check says how a Spec contradicts itself, or the numbers of columns.
func (s *Spec) check(columns, visible int) error {
	outputs := s.allOutputs(columns)
	if s.Hidden < 0 || len(outputs)-s.Hidden != visible {
		return internal("%d values, %d of them hidden, for %d columns", len(outputs), s.Hidden, visible)
	}
	if s.Aggregate && s.Outputs == nil || !s.Aggregate && (len(s.Group) > 0 || s.Having != nil) {
		return internal("groups without aggregates")
	}
	for i, o := range outputs {
		if o.Column < 0 || o.Column >= columns || o.Function > BitXor || !s.Aggregate && o.Function != First {
			return internal("value %d", i)
		}
		switch o.Function {
		case Avg:
			if o.Second < 0 || o.Second >= columns {
				return internal("the count of value %d", i)
			}
		case Beside:
			if o.Second < 0 || o.Second >= len(outputs) || outputs[o.Second].Function != Min && outputs[o.Second].Function != Max {
				return internal("value %d stands beside nothing", i)
			}
		}
	}
	for _, keys := range []struct {
		keys  []Key
		count int
	}{{s.Group, columns}, {s.Sort, len(outputs)}, {s.Distinct, len(outputs)}} {
		for _, k := range keys.keys {
			if k.Column < 0 || k.Column >= keys.count || k.Collation > CollationDeterministic {
				return internal("key of value %d", k.Column)
			}
		}
	}
	return nil
}

// checker fills in a Merger.
type checker struct {
	spec *Spec
	in   []Field
	m    *Merger
}

// makeOutputs finds for each output how it is made.
func (c *checker) makeOutputs() error {
	c.m.same = !c.spec.Aggregate
	for i, o := range c.spec.allOutputs(len(c.in)) {
		made, err := c.makeOutput(o)
		if err != nil {
			return err
		}
		c.m.outputs = append(c.m.outputs, made)
		c.m.same = c.m.same && o.Column == i
	}
	return nil
}

func (c *checker) makeOutput(o Output) (output, error) {
	field := c.in[o.Column]
	made := output{Output: o, field: field, add: addFirst}
	if o.Function == First || o.Function == Beside {
		return made, nil
	}
	name := functionName(o.Function)
	k, err := c.readable(field, o.Function == Min || o.Function == Max, name)
	if err != nil {
		return made, err
	}
	decode := k.in(field.Format).decode
	made.field.Format = formatBinary
	switch o.Function {
	case Count:
		if field.OID != oidInt8 {
			return made, internal("a count of type %s", typeName(field.OID))
		}
		made.add, made.finish = integersAdder(decode), integerFinisher(8)
	case Sum:
		made.add, made.finish = sumFunctions(field, decode)
	case Avg:
		made.field.OID, made.add, made.finish, err = c.average(o, decode)
		if err != nil {
			return made, err
		}
	case Min, Max:
		sign := 1
		if o.Function == Min {
			sign = -1
		}
		made.field.Format = field.Format
		made.add = extremeAdder(decode, k.class, sign, field.OID == oidBpchar)
		if k.collated {
			if err := checkCollation(o.Collation, true, name+" of type "+k.name); err != nil {
				return made, err
			}
		}
	default:
		made.add, made.finish = bitFunctions(o.Function, field.OID, decode)
	}
	if made.add == nil {
		return made, refuse(name+" of type "+k.name, "How shards' results become one is not known here.", hintRefused)
	}
	return made, nil
}

// sumFunctions are those of partial sums; nil for types that sum has none of.
func sumFunctions(field Field, decode decoder) (adder, finisher) {
	switch field.OID {
	case oidInt8:
		return integersAdder(decode), integerFinisher(8)
	case oidNumeric:
		return decimalsAdder(field.OID, field.Format), decimalFinisher
	case oidFloat4:
		return floatsAdder(decode, 4, false), floatFinisher(4)
	case oidFloat8:
		return floatsAdder(decode, 8, false), floatFinisher(8)
	case oidInterval:
		return addInterval, intervalFinisher
	}
	return nil, nil
}

// average returns the type and the functions of an average of sums of a type; a nil adder for types without.
func (c *checker) average(o Output, decode decoder) (uint32, adder, finisher, error) {
	field, count := c.in[o.Column], c.in[o.Second]
	if count.OID != oidInt8 {
		return 0, nil, nil, internal("a count of type %s", typeName(count.OID))
	}
	k, err := c.readable(count, false, functionName(o.Function))
	if err != nil {
		return 0, nil, nil, err
	}
	counts := k.in(count.Format).decode
	switch field.OID {
	case oidInt8, oidNumeric:
		return oidNumeric, averageAdder(decimalsAdder(field.OID, field.Format), counts), decimalAverage, nil
	case oidFloat8:
		return oidFloat8, averageAdder(floatAveragesAdder(decode, counts), counts), floatAverage, nil
	case oidInterval:
		return oidInterval, averageAdder(addInterval, counts), intervalAverage, nil
	}
	return 0, nil, nil, nil
}

// bitFunctions are those of booleans and of bits; nil for types that the function has none of.
func bitFunctions(function Function, oid uint32, decode decoder) (adder, finisher) {
	size := integerSize(oid)
	switch {
	case function == BoolAnd && oid == oidBool:
		return bitsAdder(decode, bitAnd), boolFinisher
	case function == BoolOr && oid == oidBool:
		return bitsAdder(decode, bitOr), boolFinisher
	case function == BitAnd && size > 0:
		return bitsAdder(decode, bitAnd), integerFinisher(size)
	case function == BitOr && size > 0:
		return bitsAdder(decode, bitOr), integerFinisher(size)
	case function == BitXor && size > 0:
		return bitsAdder(decode, bitXor), integerFinisher(size)
	}
	return nil, nil
}

// functionName is a function as SQL writes it.
func functionName(f Function) string {
	return [...]string{First: "value", Count: "count", Sum: "sum", Avg: "avg", Min: "min", Max: "max", Beside: "value",
		BoolAnd: "bool_and", BoolOr: "bool_or", BitAnd: "bit_and", BitOr: "bit_or", BitXor: "bit_xor"}[f]
}

// readable returns what is known of a column's type, if its values can be compared or calculated with in their format.
func (c *checker) readable(field Field, order bool, construct string) (*kind, error) {
	k := kindOf(field.OID)
	if k == nil {
		return nil, refuse(construct+" of type "+typeName(field.OID), "What its values mean is not known to the proxy.", hintRefused)
	}
	if k.comparable(field.Format, order, &c.m.settings) {
		return k, nil
	}
	if k.collated && c.m.settings.Foreign {
		return nil, refuse(construct+" of type "+k.name+" in another encoding than the database's", "How text compares is known in the database's encoding only.",
			"SET client_encoding to what SHOW server_encoding tells.")
	}
	if field.Format == formatText && field.OID == oidTimestamptz {
		return nil, refuse(construct+" of type "+k.name+" in text", "Its text depends on TimeZone, and tells two hours of a year by one name.",
			"Ask for results in binary, or for extract(epoch FROM …) of it.")
	}
	if field.Format == formatText && k.comparable(formatBinary, order, &c.m.settings) {
		return nil, refuse(construct+" of type "+k.name+" in text", "Its text depends on settings that differ from what the proxy can read.",
			"Set DateStyle to ISO, IntervalStyle to postgres and extra_float_digits to 1, or ask for results in binary.")
	}
	return nil, refuse(construct+" of type "+k.name, "How its values compare is not known to the proxy.", hintRefused)
}

// makeKey makes a Key of a value that comparisons can use: for order, or for equality only.
func (c *checker) makeKey(k Key, field Field, order bool, construct string) (key, error) {
	known, err := c.readable(field, order, construct)
	if err != nil {
		return key{}, err
	}
	if known.collated {
		if err := checkCollation(k.Collation, order, construct+" of type "+known.name); err != nil {
			return key{}, err
		}
	}
	return key{column: k.Column, class: known.class, decode: known.in(field.Format).decode, desc: k.Desc, nullsFirst: k.NullsFirst}, nil
}

// checkCollation refuses text whose collation makes it compare otherwise than by bytes.
func checkCollation(collation Collation, order bool, construct string) error {
	if collation == CollationBytes || collation == CollationDeterministic && !order {
		return nil
	}
	return refuse(construct+" under this collation", "How text compares there is known to the servers only.", `Add COLLATE "C", or restrict the statement to one shard by its sharding key.`)
}

// matchClient finds what must be converted for the client.
func (c *checker) matchClient(out []Field) error {
	converts := false
	for i := range out {
		o := &c.m.outputs[i]
		if o.field.OID != out[i].OID {
			return refuse(fmt.Sprintf("column %d of type %s", i+1, typeName(out[i].OID)),
				"The shards' results make a value of type "+typeName(o.field.OID)+".", hintRefused)
		}
		if o.field.Format == out[i].Format {
			continue
		}
		k := kindOf(o.field.OID)
		if k == nil || !k.convertible(o.field.Format, &c.m.settings) {
			name := [2]string{"text", "binary"}[out[i].Format&1]
			return refuse(fmt.Sprintf("column %d of type %s in %s", i+1, typeName(o.field.OID), name),
				"The proxy would have to write it under the session's settings.",
				"Set IntervalStyle to postgres and extra_float_digits to 1, or ask for results in binary.")
		}
		o.convert = k.in(o.field.Format).convert
		converts = true
	}
	c.m.same = c.m.same && !converts
	c.m.whole = c.m.same && c.spec.Hidden == 0
	return nil
}

// makeGroup makes the keys of the groups, which stream if the rows come in an order that is known here.
func (c *checker) makeGroup() error {
	if !c.spec.Aggregate {
		return nil
	}
	ordered := c.spec.GroupSorted && len(c.spec.Group) > 0
	for _, k := range c.spec.Group {
		if one, err := c.makeKey(k, c.in[k.Column], ordered, "GROUP BY"); err == nil {
			c.m.group = append(c.m.group, one)
			continue
		} else if !ordered {
			return err
		}
		// The order is not known, but equality may be.
		ordered = false
		one, err := c.makeKey(k, c.in[k.Column], false, "GROUP BY")
		if err != nil {
			return err
		}
		c.m.group = append(c.m.group, one)
	}
	if ordered {
		c.m.streaming, c.m.merge = true, c.m.group
	}
	return nil
}

// makeSort makes the order of the answer: of the shards' rows if each is one of the answer, else of the groups.
func (c *checker) makeSort() error {
	keys := make([]key, 0, len(c.spec.Sort))
	for _, k := range c.spec.Sort {
		one, err := c.makeKey(k, c.m.outputs[k.Column].field, true, "ORDER BY")
		if err != nil {
			return err
		}
		keys = append(keys, one)
	}
	switch {
	case len(keys) == 0:
	case !c.spec.Aggregate:
		for i := range keys {
			keys[i].column = c.m.outputs[keys[i].column].Column
		}
		c.m.merge = keys
	case !c.groupsComeSorted():
		c.m.sort = keys
	}
	return nil
}

// groupsComeSorted says whether streaming groups come in the order of Sort already: its keys are those of Group, and behind all of them
// nothing matters.
func (c *checker) groupsComeSorted() bool {
	if !c.m.streaming {
		return false
	}
	for i, k := range c.spec.Sort[:min(len(c.spec.Sort), len(c.spec.Group))] {
		g, o := c.spec.Group[i], c.m.outputs[k.Column]
		if o.Function != First || o.Column != g.Column || k.Desc != g.Desc || k.NullsFirst != g.NullsFirst {
			return false
		}
	}
	return true
}

// makeDistinct makes the keys of DISTINCT, which need no memory if the answer comes sorted by them first.
func (c *checker) makeDistinct() error {
	missing := map[int]bool{}
	for _, k := range c.spec.Distinct {
		one, err := c.makeKey(k, c.m.outputs[k.Column].field, false, "DISTINCT")
		if err != nil {
			return err
		}
		c.m.distinct = append(c.m.distinct, one)
		missing[k.Column] = true
	}
	for _, k := range c.spec.Sort {
		if len(missing) == 0 || !missing[k.Column] {
			break
		}
		delete(missing, k.Column)
	}
	c.m.adjacent = len(missing) == 0
	return nil
}

func (c *checker) makeHaving() (err error) {
	if c.spec.Having != nil {
		c.m.having, err = c.condition(c.spec.Having, 0)
	}
	return err
}
