package session

import (
	"errors"
	"io"
	"slices"

	"pgtier/proxy/merge"
	"pgtier/router/plan"
)

// gathered are the columns that the merge makes where a server makes the answer of them: all in binary, which loses nothing under any setting.
func (sh *shape) gathered(j *job, config merge.Config) ([]merge.Field, error) {
	if len(sh.known.parts) != j.plan.Columns {
		return nil, unlike("not those that were planned for")
	}
	for _, at := range j.plan.Final.Columns() {
		sh.values = append(sh.values, merge.Field{OID: sh.known.parts[at].oid, Format: 1})
	}
	var err error
	sh.groups, err = merge.NewArrays(sh.values, config)
	return sh.values, err
}

// final has b's server make the answer of the groups that the merge has made of the shards' parts, which are parameters behind the client's own.
func (x *wide) final(j *job, b *branch, sh *shape, description []byte) (rows int64, err error) {
	last, text, err := j.last(sh.groups)
	if err != nil {
		return 0, err
	}
	if err := b.send(appendJob(nil, last, text, j.resultFormats())); err != nil {
		return 0, err
	}
	b.loud = x
	refusal, err := x.head(b)
	switch {
	case err != nil:
		return 0, err
	case refusal != nil:
		return 0, refusal
	case !slices.EqualFunc(b.fields, sh.known.whole, func(a, b field) bool { return a.oid == b.oid }):
		return 0, notWide("an expression over aggregates whose type is another one there", "Return the aggregates by themselves, or group by the sharding key.")
	}
	if j.describe {
		x.out = append(x.out, description...)
	}
	for source := (&rowSource{x, b}); ; rows++ {
		row, err := source.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err == nil {
			err = x.row(row)
		}
		if err != nil {
			return rows, err
		}
	}
}

// last is j with the groups as parameters, and the text for that.
func (j *job) last(groups *merge.Arrays) (*job, []byte, error) {
	part, err := j.plan.Parts.Text(0, j.text)
	if err != nil {
		return nil, nil, err
	}
	n := len(j.params)
	text, err := j.plan.Final.Text(part, j.text, n+1)
	if err != nil {
		return nil, nil, err
	}
	last := *j
	last.types = make([]uint32, n, n+len(groups.Types()))
	copy(last.types, j.types)
	params := slices.Clone(j.params)
	for _, unused := range j.plan.Final.Unused(text, n) {
		last.types[unused-1], params[unused-1] = textOID, plan.Param{Null: true}
	}
	last.types = append(last.types, groups.Types()...)
	for _, value := range groups.Values() {
		params = append(params, plan.Param{Binary: true, Value: value})
	}
	last.head = appendParams(nil, params)
	return &last, text, nil
}
