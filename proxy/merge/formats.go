package merge

// Formats says in which format each of the shards' columns is to be asked for (0 text, 1 binary), for clients that get out. Of in only
// the types count. A column that is only passed on comes in the client's format, so that it need not be looked at; one that is only
// compared or calculated with in binary, which depends on no setting. One that is both comes in the client's format where that can be
// read, else in binary where it can be written. Where neither can be New refuses: then the shards have to send the column twice, one copy
// hidden as the key.
func (s *Spec) Formats(in, out []Field, settings Settings) ([]int16, error) {
	if err := s.check(len(in), len(out)); err != nil {
		return nil, err
	}
	outputs := s.allOutputs(len(in))
	read, shown := make([]bool, len(in)), make([]bool, len(in))
	ordered := make([]bool, len(in))
	formats := make([]int16, len(in))
	for _, k := range s.Group {
		read[k.Column] = true
	}
	for i, o := range outputs {
		switch o.Function {
		case First, Beside, Min, Max:
			if i < len(out) && !shown[o.Column] {
				shown[o.Column], formats[o.Column] = true, out[i].Format
			}
			extreme := o.Function == Min || o.Function == Max
			read[o.Column], ordered[o.Column] = read[o.Column] || extreme, ordered[o.Column] || extreme
		default:
			read[o.Column] = true
			if o.Function == Avg {
				read[o.Second] = true
			}
		}
	}
	for _, k := range s.Sort {
		read[outputs[k.Column].Column], ordered[outputs[k.Column].Column] = true, true
	}
	for _, k := range s.Distinct {
		read[outputs[k.Column].Column] = true
	}
	s.Having.outputs(func(i int) {
		if i >= 0 && i < len(outputs) {
			read[outputs[i].Column] = true
		}
	})
	for i := range formats {
		if read[i] {
			formats[i] = chooseFormat(in[i].OID, formats[i], shown[i], ordered[i], &settings)
		}
	}
	return formats, nil
}

// chooseFormat is the format of a column that is read here, and perhaps shown in a format.
func chooseFormat(oid uint32, format int16, shown, ordered bool, settings *Settings) int16 {
	k := kindOf(oid)
	if !shown || k == nil {
		if shown {
			return format
		}
		return formatBinary
	}
	if !k.comparable(format, ordered, settings) && k.comparable(formatBinary, ordered, settings) && k.convertible(formatBinary, settings) {
		return formatBinary
	}
	return format
}

// outputs visits the outputs that a condition looks at; c may be nil.
func (c *Condition) outputs(visit func(output int)) {
	if c == nil {
		return
	}
	for _, part := range c.Args {
		part.outputs(visit)
	}
	for _, operand := range []Operand{c.Left, c.Right} {
		if !operand.Constant {
			visit(operand.Index)
		}
	}
}
