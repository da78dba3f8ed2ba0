package plan

import (
	"slices"
	"strconv"

	"pgtier/parser"
	"pgtier/router/shard"
)

// Route completes the plan with the values that the statement is carried out with. It does not allocate for plans of one shard whose key is one value.
func (p *Statement) Route(v *Values, c *Circumstances) Plan {
	return p.route(v, c, nil)
}

// Numbered is Route for a plan that Needs numbers: those are the next values of its sequence, as many as it asked for.
func (p *Statement) Numbered(v *Values, c *Circumstances, numbers []int64) Plan {
	return p.route(v, c, numbers)
}

func (p *Statement) route(v *Values, c *Circumstances, numbers []int64) Plan {
	if c == nil {
		c = &p.schema.calm
	}
	if p.shardHint != "" || p.keyHint != "" || c.Shard != "" || c.ShardingKey != "" {
		if plan, ok := p.hintedPlan(v, c); ok {
			plan.Hinted = true
			return plan
		}
	}
	return p.unhinted(v, c, numbers)
}

// unhinted is the plan where no hint decides.
func (p *Statement) unhinted(v *Values, c *Circumstances, numbers []int64) Plan {
	switch {
	case p.refusal != nil:
		return p.refused(p.refusal)
	case p.copies && p.kind == Everywhere && v.SQL != nil && clockValue(v):
		return p.refused(refuseClock())
	case p.kind != One:
		return p.fixed()
	}
	if c.Backslashes && p.backslash && !p.settled() {
		return p.refused(refuse("literal with a backslash that standard_conforming_strings or client_encoding may have read otherwise", "Send it as a parameter, or write it as E'…'."))
	}
	if p.open(v) {
		return Plan{Kind: One, Shard: p.schema.config.Home, Open: true, Reason: "not known before its parameters are", Write: p.write, Explain: p.explain}
	}
	if p.simple != nil {
		if b, ok := p.simply(v, c); ok {
			return p.one(p.schema.owner(b), Touches{Reach: OneBucket, Bucket: b})
		}
	}
	var buckets []shard.Bucket
	r := reader{schema: p.schema, values: v, c: c, textual: p.textual, buckets: &buckets}
	if p.insert != nil && !p.insert.whole {
		return p.routeRows(&r, numbers)
	}
	for _, row := range p.checks {
		for i, v := range row.row {
			if k, ok := r.value(v); ok && k.IsNull() {
				return p.refused(nullKey(row.table, row.table.keyColumn(i).Name))
			}
		}
	}
	return p.routePins(&r)
}

// open says whether nothing is known before the values of parameters are.
func (p *Statement) open(v *Values) bool { return len(p.params) > 0 && !v.Known && !p.settled() }

// simply finds the bucket of the one value that decides, without memory of its own.
func (p *Statement) simply(v *Values, c *Circumstances) (b shard.Bucket, ok bool) {
	var key shard.Value
	switch {
	case p.simple.Kind == parser.ValueParam:
		key, ok = param(p.simple, v)
	case p.simple.Literal < 0 || p.simple.Negative || p.textual:
		return 0, false
	default:
		var room [8]parser.Literal
		list, _ := parser.Literals(v.SQL, room[:0])
		if p.simple.Literal >= len(list) {
			return 0, false
		}
		key, ok = literal(p.simple, list[p.simple.Literal]), true
	}
	if !ok || key.IsNull() || c.ASCII && !key.ASCII() {
		return 0, false
	}
	return p.pins[0].table.key.Bucket(key)
}

// settled says whether no value decides where the statement goes.
func (p *Statement) settled() bool { return len(p.pins) == 0 && p.loose == "" && p.insert == nil }

// refused is the plan that refuses.
func (p *Statement) refused(r *Refusal) Plan {
	return Plan{Kind: Refused, Shard: -1, Refusal: r, Reason: r.Message, Explain: p.explain}
}

// fixed is the plan of what does not depend on values.
func (p *Statement) fixed() Plan {
	plan := Plan{Kind: p.kind, Shard: p.schema.config.Home, Reason: p.reason, Write: p.write, Explain: p.explain, Outside: p.outside, Apart: p.apart, Copy: p.copy, Mixed: p.mixed,
		Touches: p.reach(), References: p.references()}
	switch p.kind {
	case Everywhere, CopyIn, CopyOut:
		plan.Shards = p.schema.list
		if p.kind == Everywhere || p.kind == CopyIn && p.copies {
			plan.Shards = p.schema.members
		}
		if p.write && !p.outside && len(p.schema.members) > 1 {
			plan.Locks = p.locks
		}
		if p.empties {
			plan.Parts = &Parts{full: p.schema.config.Home, empties: true}
		}
	case Session:
		plan.Shard, plan.Mixed = -1, false
	}
	if p.kind == CopyOut {
		return p.owned(plan)
	}
	return plan
}

// one is the plan for one shard.
func (p *Statement) one(i int, touches Touches) Plan {
	if p.home && i != p.schema.config.Home {
		return p.refused(refuse("tables of the home shard together with sharded tables", hintPin))
	}
	return Plan{Kind: One, Shard: i, Reason: p.reason, Write: p.write, Explain: p.explain, Mixed: p.mixed, Touches: touches}
}

// routePins finds the shards of all pins: the statement goes to one if that is all.
func (p *Statement) routePins(r *reader) Plan {
	var all set
	loose := p.loose != ""
	for i := range p.pins {
		found, ok := p.pins[i].shards(r)
		if !ok {
			loose = true
			break
		}
		all.union(&found)
	}
	switch n := all.len(); {
	case loose && p.schema.sole >= 0:
		if p.home && p.schema.sole != p.schema.config.Home {
			return p.one(p.schema.sole, Touches{}) // a refusal
		}
		return p.alone(p.schema.sole, "one shard owns all buckets")
	case loose:
		return p.widely(r, Touches{Reach: AnyBucket})
	case n > 1:
		return p.widely(r, r.touched())
	case n == 1:
		return p.one(all.first(), r.touched())
	case len(p.pins) == 0:
		return p.one(p.schema.config.Home, Touches{})
	}
	plan := p.one(p.schema.config.Home, r.touched())
	plan.Reason = "no row can match"
	return plan
}

// hintedPlan is the plan for the shard that a hint or a setting names; ok is false if it does not concern the statement.
func (p *Statement) hintedPlan(v *Values, c *Circumstances) (plan Plan, ok bool) {
	if p.kind == Session && p.refusal == nil {
		return plan, false
	}
	if p.kind == CopyIn && p.refusal == nil { // each row goes where it belongs
		return plan, false
	}
	i, about, r := p.hintedShard(c)
	switch {
	case r != nil && p.kind == Any && p.refusal == nil && r.Code == notSupported:
		return plan, false
	case r != nil:
		return p.refused(r), true
	case p.refusal != nil && !p.hinted:
		return plan, false
	case p.copies:
		return p.refused(refuse("write to a reference table on one shard", "Leave the hint and the settings pgtier.shard and pgtier.sharding_key out.")), true
	}
	if r := p.astray(i, v); r != nil {
		return p.refused(r), true
	}
	if p.inserts {
		return p.hintedRows(i, v, c), true
	}
	return p.hinted1(i, about, v, c), true
}

// hinted1 is the plan for the shard of a hint. What it reads are that shard's own rows. about is as hintedShard has it: what touches no rows may lock for those of
// a key, as advisory locks do.
func (p *Statement) hinted1(i int, about Touches, v *Values, c *Circumstances) Plan {
	plan := Plan{Kind: One, Shard: i, Reason: "hint", Write: p.write, Explain: p.explain, Mixed: p.mixed}
	switch {
	case p.refusal == nil && (p.kind == Any || p.kind == One && p.settled()):
		plan.Touches = about
		return plan
	case p.clean && p.kind != Everywhere:
		return plan
	}
	plan.Touches.Reach = AnyBucket
	switch {
	case len(p.schema.foreign[i]) == 0 || p.clean:
		return plan
	case p.open(v):
		plan.Open = true
		return plan
	case p.refusal == nil && p.kind == One:
		calm := *c
		calm.Shard, calm.ShardingKey = "", ""
		if keyed := p.unhinted(v, &calm, nil); keyed.Kind == One && keyed.Shard == i {
			plan.Touches = keyed.Touches
			return plan
		}
	}
	if p.own == nil {
		return p.refused(p.unrestricted())
	}
	return p.alone(i, "hint")
}

// hintedRows is the plan for new rows that a hint sends to a shard: only if they belong there, or else nobody would find them.
func (p *Statement) hintedRows(i int, v *Values, c *Circumstances) Plan {
	calm := *c
	calm.Shard, calm.ShardingKey = "", ""
	plan := p.unhinted(v, &calm, nil)
	switch {
	case plan.Kind == Refused, plan.Open, plan.Kind == One && plan.Shard == i:
		return plan
	case plan.Kind == Spread && p.insert == nil && slices.Contains(plan.Shards, i): // each shard makes rows of its own
		return p.alone(i, "hint")
	}
	return p.refused(refuse("new rows on shard \""+string(p.schema.config.Shards[i])+"\" that do not all belong there",
		"Leave the hint and the settings pgtier.shard and pgtier.sharding_key out."))
}

// hintedShard is the shard that hints, or else settings, name, and the bucket of the key by which they do.
func (p *Statement) hintedShard(c *Circumstances) (int, Touches, *Refusal) {
	name, key := p.shardHint, p.keyHint
	if name == "" && key == "" {
		name, key = c.Shard, c.ShardingKey
	}
	if name != "" {
		i := slices.Index(p.schema.config.Shards, shard.Name(name))
		if i < 0 {
			return 0, Touches{}, &Refusal{Code: "22023", Message: "there is no shard \"" + name + "\"", Hint: "SHOW SHARDS in the admin database lists them."}
		}
		if !p.schema.member.has(i) {
			return 0, Touches{}, &Refusal{Code: "22023", Message: "shard \"" + name + "\" has no part of the database yet", Hint: "It joins when buckets are moved to it: pgtier reshard start."}
		}
		return i, Touches{}, nil
	}
	t := p.keyed
	if t == nil {
		t = p.schema.anyKeyed()
	}
	if t == nil || len(t.columns) != 1 {
		return 0, Touches{}, refuse("sharding key given for tables without one key column", "Name the shard with pgtier.shard.")
	}
	value := shard.Literal(shard.Unknown, []byte(key))
	switch {
	case value.ASCII():
	case c.ASCII:
		return 0, Touches{}, refuse("sharding key with letters beyond ASCII in another encoding than the database's", "Use its encoding for client_encoding, or name the shard with pgtier.shard.")
	case p.keyHint == "": // it may have been set under another client_encoding than now
		return 0, Touches{}, refuse("setting pgtier.sharding_key with letters beyond ASCII", "Write the key in a hint, /* pgtier: sharding_key=… */, or name the shard with pgtier.shard.")
	}
	b, ok := t.key.Bucket(value)
	if !ok {
		return 0, Touches{}, &Refusal{Code: "22023", Message: "sharding key \"" + key + "\" is no value for " + t.name + "." + t.keyNames(), Hint: "Name the shard with pgtier.shard."}
	}
	return p.schema.owner(b), Touches{Reach: OneBucket, Bucket: b}, nil
}

// anyKeyed is a sharded table if the keys of all are of one family.
func (s *Schema) anyKeyed() (found *table) {
	for _, list := range s.tables {
		for _, t := range list {
			switch {
			case !t.sharded():
			case len(t.columns) != 1:
				return nil
			case found == nil:
				found = t
			case familyOf(found.keyColumn(0).Type) != familyOf(t.keyColumn(0).Type):
				return nil
			}
		}
	}
	return found
}

// routeRows spreads the rows of an INSERT.
func (p *Statement) routeRows(r *reader, numbers []int64) Plan {
	in := p.insert
	missing := 0
	shards := make([]int, len(in.rows))
	given := make([]int64, len(in.rows))
	for i, row := range in.rows {
		if row[0] == nil {
			if missing < len(numbers) {
				given[i] = numbers[missing]
			}
			missing++
			if numbers == nil {
				continue
			}
			b, ok := in.table.key.Bucket(shard.Number(shard.Int8, strconv.AppendInt(nil, given[i], 10)))
			if !ok || missing > len(numbers) {
				return p.refused(refuse("INSERT whose key is a number that the column does not take", "Give every row a value for the sharding key."))
			}
			shards[i] = r.owner(b)
			continue
		}
		s, refusal := p.rowShard(r, row)
		if refusal != nil {
			return p.refused(refusal)
		}
		shards[i] = s
	}
	if missing > 0 && numbers == nil {
		return Plan{Kind: Spread, Shard: -1, Reason: p.reason, Write: true, Needs: &Numbers{in.sequence, missing}, Touches: Touches{Reach: AnyBucket}}
	}
	return p.rowPlan(r, shards, given, missing > 0)
}

// rowShard is the shard of one row.
func (p *Statement) rowShard(r *reader, row []*value) (int, *Refusal) {
	t := p.insert.table
	key := make([]shard.Value, len(row))
	for i, v := range row {
		k, ok := r.value(v)
		if !ok {
			return 0, refuse("INSERT whose key cannot be read for certain", "Send the key as a parameter or a constant of the column's type.")
		}
		if k.IsNull() {
			return 0, nullKey(t, t.keyColumn(i).Name)
		}
		key[i] = k
	}
	b, ok := t.key.Bucket(key...)
	if !ok {
		return 0, refuse("INSERT whose key cannot be read for certain", "Send the key as a parameter or a constant of the column's type.")
	}
	return r.owner(b), nil
}

// rowPlan is the plan of an INSERT whose rows go to these shards.
func (p *Statement) rowPlan(r *reader, shards []int, numbers []int64, filled bool) Plan {
	var all set
	for _, s := range shards {
		all.add(s)
	}
	if p.loose != "" && p.schema.sole < 0 { // and narrow says that it reads rows of several shards
		return p.refused(p.narrow)
	}
	for i := range p.pins {
		found, ok := p.pins[i].shards(r)
		if !ok {
			return p.refused(p.narrow)
		}
		all.union(&found)
	}
	if all.len() == 1 && !filled {
		return p.one(all.first(), r.touched())
	}
	if p.home {
		return p.refused(refuse("tables of the home shard together with sharded tables", hintPin))
	}
	if p.narrow != nil && all.len() > 1 {
		return p.refused(p.narrow)
	}
	if all.len() > 1 && clockValue(r.values) {
		return p.refused(refuseClock())
	}
	list := all.list()
	rows := &rowParts{insert: p.insert, rows: make([][]int, len(list)), numbers: numbers}
	for i, s := range shards {
		at := slices.Index(list, s)
		rows.rows[at] = append(rows.rows[at], i)
	}
	return Plan{Kind: Spread, Shard: -1, Shards: list, Reason: p.reason, Write: true, Parts: &Parts{rows: rows}, Untyped: p.untyped(r.values), Touches: r.touched()}
}
