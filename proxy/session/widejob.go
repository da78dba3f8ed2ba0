package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/merge"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/catalog"
	"pgtier/router/plan"
)

// job is one statement to run on several shards.
type job struct {
	st    *parser.Statement
	text  []byte
	types []uint32 // of parameters, as declared
	// head are the parameters as they stand in a Bind; params the same taken apart.
	head     []byte
	params   []plan.Param
	formats  []byte // of results, as they stand in a Bind
	describe bool   // the client wants to hear of the columns
	extended bool   // it came by the extended protocol
	plan     plan.Plan
	stamps   []string // values of what the plan stamps rows with
}

// resultFormats are the formats that the client asks for.
func (j *job) resultFormats() []int16 { return formatsOf(j.formats) }

// formatsOf are formats as they stand in a Bind.
func formatsOf(formats []byte) []int16 {
	out := make([]int16, len(formats)/2)
	for i := range out {
		out[i] = formatOf(formats[2*i:2*i+2], 0)
	}
	return out
}

// part are the messages for the i-th of j's shards, whose text may mention fewer parameters.
func (j *job) part(i int, text []byte, formats []int16) []byte {
	if j.plan.Parts == nil {
		return appendJob(nil, j, text, formats)
	}
	unused, err := j.plan.Parts.Unused(i, j.text)
	if err != nil || len(unused) == 0 { // Text has made the same text without an error
		return appendJob(nil, j, text, formats)
	}
	fewer := *j
	fewer.types = make([]uint32, len(j.params))
	copy(fewer.types, j.types)
	params := slices.Clone(j.params)
	for _, n := range unused {
		if n >= 1 && n <= len(params) {
			fewer.types[n-1], params[n-1] = textOID, plan.Param{Null: true}
		}
	}
	fewer.head = appendParams(nil, params)
	return appendJob(nil, &fewer, text, formats)
}

// textOID is the type that is declared for parameters which a text does not mention.
const textOID = 25

// number takes the values of a sequence that an INSERT without its key needs, from the home shard, and plans again.
func (x *wide) number(j *job) (refusal *wire.Error, err error) {
	if j.plan.Needs == nil {
		return nil, nil
	}
	n := j.plan.Needs
	b, err := x.branch(x.l.Home, true)
	if err != nil {
		return asRefusal(err)
	}
	x.changes(j, b)
	var numbers []int64
	sql := fmt.Sprintf("SELECT pg_catalog.nextval(%s) FROM pg_catalog.generate_series(1, %d)", quoteLiteral(n.Sequence), n.Count)
	err = b.query(x.s, sql, func(fields [][]byte) error {
		v, err := strconv.ParseInt(string(fields[0]), 10, 64)
		numbers = append(numbers, v)
		return err
	})
	if err != nil {
		return asRefusal(err)
	}
	if len(numbers) != n.Count {
		return nil, errGarbage
	}
	values := plan.Values{SQL: j.text, Params: j.params, Known: true}
	j.plan = x.l.Schema.Statement(j.st, j.text).Numbered(&values, x.s.circumstances(), numbers)
	if j.plan.Kind == plan.Refused {
		return planRefusal(j.plan.Refusal), nil
	}
	return nil, nil
}

// stamp asks the home shard for the defaults that are one value for all rows of an INSERT or a COPY, such as now().
func (x *wide) stamp(j *job) (refusal *wire.Error, err error) {
	stamps := j.plan.Parts.Stamps()
	for _, s := range j.plan.Copy.Stamps() {
		stamps = append(stamps, s.Value)
	}
	if len(stamps) == 0 {
		return nil, nil
	}
	b, err := x.branch(x.l.Home, true)
	if err != nil {
		return asRefusal(err)
	}
	x.changes(j, b)
	var values []string
	err = b.query(x.s, "SELECT "+strings.Join(stamps, ", "), func(fields [][]byte) error {
		for _, f := range fields {
			if f == nil {
				return notWide("rows of several shards that get a default which is NULL now", "Give the rows a value.")
			}
			values = append(values, string(f))
		}
		return nil
	})
	if err != nil {
		return asRefusal(err)
	}
	if len(values) != len(stamps) {
		return nil, errGarbage
	}
	if j.plan.Parts != nil {
		j.plan.Parts = j.plan.Parts.Stamped(values)
	}
	j.stamps = values
	return nil, nil
}

// appendJob appends the messages that run text with j's parameters.
func appendJob(dst []byte, j *job, text []byte, formats []int16) []byte {
	dst = wire.AppendParse(dst, "", text, j.types)
	dst = appendBound(dst, j.head, formats)
	dst = appendDescribePortal(dst)
	return wire.AppendSync(wire.AppendExecute(dst))
}

func appendDescribePortal(dst []byte) []byte {
	return append(dst, wire.MsgDescribe, 0, 0, 0, 6, 'P', 0)
}

func appendDescribeStatement(dst []byte) []byte {
	return append(dst, wire.MsgDescribe, 0, 0, 0, 6, 'S', 0)
}

// statement plans and runs one statement. A refusal is for the client and leaves the session; an error ends it.
func (x *wide) statement(j *job) (refusal *wire.Error, err error) {
	if refusal := x.refuses(j); refusal != nil {
		return refusal, nil
	}
	if done, refusal, err := x.control(j); done {
		return refusal, err
	}
	if x.failed {
		return failedTransaction(), nil
	}
	h := holding{s: x.s, cluster: x.cluster}
	defer x.endHold(&h)
	alone, mark := x.begins(), len(x.out)
	for {
		if refusal, err = x.plan(j, &h); refusal != nil || err != nil {
			return refusal, err
		}
		refusal, err = x.carryOut(j)
		switch {
		case err != nil || refusal == nil:
			return refusal, err
		case errors.Is(refusal.Cause, errStale): // nothing of it was sent
		case errors.Is(refusal.Cause, errFenced) && alone && !x.told: // of COPY FROM STDIN no row has been asked for
			if refusal, err = x.fenced(&h, refusal); refusal != nil || err != nil {
				return refusal, err
			}
		default:
			return refusal, nil
		}
		x.out = x.out[:min(mark, len(x.out))]
	}
}

// carryOut runs a statement that is planned.
func (x *wide) carryOut(j *job) (refusal *wire.Error, err error) {
	x.told = false
	switch {
	case j.plan.Kind == plan.Refused && j.st.Unparsed:
		return x.syntax(j, planRefusal(j.plan.Refusal))
	case j.plan.Kind == plan.Refused:
		return planRefusal(j.plan.Refusal), nil
	case j.plan.Kind == plan.Any && x.s.db.Hazards.Reading(j.st).Verdict != catalog.Read:
		j.plan.Kind, j.plan.Shard = plan.One, x.l.Home
	case j.plan.Kind == plan.Session && j.st.Effects&(parser.Listens|parser.Unlistens|parser.Notifies) != 0:
		j.plan.Kind, j.plan.Shard = plan.One, x.l.Home
	case j.plan.Kind == plan.Session, j.plan.Kind == plan.Any:
		j.plan.Kind, j.plan.Shard = plan.One, x.cursorShard(j)
	case j.plan.Mixed:
		return notWide("several statements with transaction control in one request", "Send them one by one."), nil
	}
	if pin := x.s.note(j.st); pin != "" {
		return notWide("a statement that needs a connection of its own ("+pin+")", "SET pgtier.shard names one shard for the session."), nil
	}
	if refusal, err = x.number(j); refusal != nil || err != nil {
		return refusal, err
	}
	if refusal, err = x.stamp(j); refusal != nil || err != nil {
		return refusal, err
	}
	if refusal, err = x.typeParameters(j); refusal != nil || err != nil {
		return refusal, err
	}
	if done, refusal, err := x.settings(j); done {
		return refusal, err
	}
	x.s.story.add(j.st, j.text)
	x.s.routeShards(x.l, &j.plan, x.shards(j)...)
	if j.plan.Copy != nil && !j.extended {
		if refusal, err := x.copyColumns(j); refusal != nil || err != nil {
			return refusal, err
		}
	}
	switch j.plan.Kind {
	case plan.CopyIn:
		return x.beginCopy(j)
	case plan.CopyOut:
		return x.copyOut(j)
	}
	if j.st.Effects&(parser.CopyIn|parser.CopyOut) != 0 {
		return notWide("this COPY inside a transaction over several shards", "Run it by itself."), nil
	}
	if j.plan.Outside || j.plan.Apart && !x.explicit && x.single {
		return x.outside(j)
	}
	mark := len(x.out)
	for tries := 1; ; tries++ {
		refusal, err = x.run(j)
		switch {
		case tries >= maxTries:
			return refusal, err
		case err != nil && x.repeats(j, err):
			x.close()
		case err == nil && refusal != nil && x.refusedByReplica(j):
			x.managers = true
			if err := x.rollback(); err != nil {
				return nil, err
			}
		default:
			if refusal == nil && err == nil && j.st.Effects&parser.Unlistens != 0 {
				x.s.txn.unlistened = true
			}
			return refusal, err
		}
		x.s.db.Stats.Repeated.Add(1)
		x.out, x.away = x.out[:mark], false
		x.s.wideRests()
	}
}

// refusedByReplica reports whether the managers are to be asked instead: for a read by itself of which the client has heard nothing.
func (x *wide) refusedByReplica(j *job) bool {
	if !x.bare(j) || x.told {
		return false
	}
	for _, b := range x.branches {
		if b.replica == "" || b.failed == nil {
			continue
		}
		again, distrust := b.db.refusedByReplica(b.failed.Code, b.failed.Sent)
		if again && distrust {
			b.db.distrusts(j.st)
		}
		return again
	}
	return false
}

// refuses says what is not served where there are shards, and what the session's settings cannot take. One shard's session
// hears the same of inspect and survey.
func (x *wide) refuses(j *job) *wire.Error {
	if x.failed {
		return nil // it has only errors to come, and its end
	}
	if e := refused(router.CheckOwn(j.st)); e != nil {
		return e
	}
	if e := x.s.surveyOwn(x.l, j.st); e != nil {
		return e
	}
	if e := x.needsBlock(j.st); e != nil {
		return e
	}
	return x.l.unnumbered(j.st)
}

// needsBlock refuses outside a transaction block what is of use only inside one: the server would see a block of ours.
func (x *wide) needsBlock(st *parser.Statement) *wire.Error {
	if x.explicit || len(st.Commands) != 1 {
		return nil
	}
	var what string
	switch st.Commands[0].Kind {
	case parser.Lock:
		what = "LOCK TABLE"
	case parser.Savepoint:
		what = "SAVEPOINT"
	case parser.Release:
		what = "RELEASE SAVEPOINT"
	case parser.RollbackTo:
		what = "ROLLBACK TO SAVEPOINT"
	default:
		return nil
	}
	return &wire.Error{Code: "25P01", Message: what + " can only be used in transaction blocks"}
}

// settings serves what changes settings by functions: what has no tables runs on every branch. done is false for other
// statements.
func (x *wide) settings(j *job) (done bool, refusal *wire.Error, err error) {
	changes := false
	for i := range j.st.Commands {
		changes = changes || changesSettings(&j.st.Commands[i])
	}
	if !changes || j.plan.Kind == plan.One && len(x.branches) == 0 && !x.explicit {
		return false, nil, nil
	}
	if len(j.st.Commands) != 1 || !onlySettings(&j.st.Commands[0]) {
		return true, notWide("a change of settings that depends on rows", "Change them in a statement of its own."), nil
	}
	refusal, err = x.everyBranch(j, &j.st.Commands[0])
	return true, refusal, err
}

// outside runs what no transaction block may have on one shard after the other. The client is told how far it came.
func (x *wide) outside(j *job) (refusal *wire.Error, err error) {
	if x.explicit || !x.single {
		return &wire.Error{Code: "25001", Message: "this statement cannot run inside a transaction block"}, nil
	}
	if changesSchema(j.st) {
		b, refusal, err := x.holdSchema(j)
		if refusal != nil || err != nil {
			return refusal, err
		}
		defer x.freeSchema(b)
	}
	if j.describe && j.extended {
		x.out = wire.AppendEmpty(x.out, wire.MsgNoData)
	}
	for i, index := range x.shards(j) {
		b, err := x.branch(index, false)
		if err != nil {
			return asRefusal(err)
		}
		x.changes(j, b)
		b.claims() // it commits by itself
		err = b.send(wire.AppendQuery(nil, string(j.text)))
		if err == nil {
			err = x.pass(b, j, i == 0)
		}
		switch {
		case errors.Is(err, errClientGone):
			return nil, err
		case err != nil:
			e := fateUnknown()
			e.Detail, e.Cause = "It was lost on "+b.db.Shard()+"; the shards before it have carried it out.", err
			return nil, e
		case b.failed == nil:
			continue
		}
		refusal := *b.failed
		refusal.Sent = nil
		refusal.Detail = strings.TrimSpace(refusal.Detail + " It failed on " + b.db.Shard() + "; the shards before it have carried it out.")
		return &refusal, nil
	}
	x.complete(x.branches[0].tag)
	return nil, nil
}

// repeats reports whether a statement whose server was lost may be sent again: a read by itself of which the client has heard
// nothing.
func (x *wide) repeats(j *job, err error) bool {
	return x.bare(j) && !x.told && !errors.Is(err, errSessionEnds) && !errors.Is(err, errClientGone)
}

// cursorShard is the shard of the cursor that a statement names, else any.
func (x *wide) cursorShard(j *job) int {
	if len(j.st.Commands) == 1 && j.st.Effects&parser.UsesCursor != 0 {
		if at, ok := x.cursors[j.st.Commands[0].Name]; ok {
			return at
		}
	}
	return x.anyShard()
}

// declared notes where a cursor is.
func (x *wide) declared(j *job) {
	if j.plan.Kind != plan.One || len(j.st.Commands) != 1 || j.st.Commands[0].Kind != parser.Declare {
		return
	}
	if x.cursors == nil {
		x.cursors = make(map[string]int)
	}
	x.cursors[j.st.Commands[0].Name] = j.plan.Shard
}

// anyShard is one of those that take part, or the home shard.
func (x *wide) anyShard() int {
	if len(x.branches) > 0 {
		return x.branches[0].index
	}
	return x.l.Home
}

// bare reports whether j needs no transaction: it is a read, and the only statement of its request.
func (x *wide) bare(j *job) bool {
	return !x.explicit && x.single && !j.plan.Write && x.s.db.Hazards.Reading(j.st).Verdict == catalog.Read
}

// shards are those that j goes to.
func (x *wide) shards(j *job) []int {
	switch j.plan.Kind {
	case plan.One:
		return []int{j.plan.Shard}
	}
	return j.plan.Shards
}

// run sends j to its shards and makes one answer of theirs.
func (x *wide) run(j *job) (refusal *wire.Error, err error) {
	x.told = false
	mark := len(x.out)
	begins := !x.bare(j)
	writes := j.plan.Write || x.s.db.Hazards.Reading(j.st).Verdict != catalog.Read
	shards := x.shards(j)
	taking := make([]*branch, len(shards))
	for i, index := range shards {
		if taking[i], err = x.branch(index, begins); err != nil {
			return asRefusal(err)
		}
	}
	if x.stale() {
		return &wire.Error{Code: "40001", Message: "the map of buckets has changed", Cause: errStale}, nil
	}
	for _, b := range taking {
		b.wrote = b.wrote || writes
	}
	if writes {
		x.changes(j, taking...)
	}
	if refusal, err = x.bareLevels(begins, taking); refusal != nil || err != nil {
		return refusal, err
	}
	x.follows(taking)
	if refusal, err = x.asks(j, taking); refusal != nil || err != nil {
		return refusal, err
	}
	if len(j.plan.Locks) > 0 && x.stale() { // it has waited for others, and there may be one more copy to write
		return &wire.Error{Code: "40001", Message: "the map of buckets has changed", Cause: errStale}, nil
	}
	if len(j.st.Commands) > 1 && !j.extended {
		refusal, err = x.texts(j, taking)
		x.told = true // what came before an error stands
	} else {
		refusal, err = x.answer(j, taking)
	}
	if refusal != nil && j.plan.Parts != nil {
		refusal = refusal.WithoutPosition()
	}
	x.declared(j)
	if err == nil && refusal != nil {
		err = x.stopOthers()
		if !x.told {
			x.out = x.out[:mark]
		}
	}
	return refusal, err
}

// asks the shards whether j may run there as it was planned, and has what it relies on stay until its transaction ends.
func (x *wide) asks(j *job, taking []*branch) (refusal *wire.Error, err error) {
	if refusal, err = x.stay(j, taking); refusal == nil && err == nil {
		refusal, err = x.lockCopies(j, taking)
	}
	if refusal != nil && err == nil {
		err = x.stopOthers()
	}
	return refusal, err
}

// follows notes on connections what the statement under way may leave there.
func (x *wide) follows(taking []*branch) {
	s := x.s
	for _, b := range taking {
		if s.advances {
			s.advanced(b.c)
		}
		if s.notifies {
			b.db.notifier(b.c.PID(), s.key.PID)
		}
	}
	s.advances, s.notifies = false, false
}

// texts runs a text of several statements on one shard, or on all one after the other, of which the first answers and the others must agree.
func (x *wide) texts(j *job, taking []*branch) (refusal *wire.Error, err error) {
	var first []string
	for i, b := range taking {
		tags, err := x.textsOn(j, b, i == 0)
		switch {
		case err != nil:
			return nil, err
		case b.failed != nil:
			return b.failed, nil
		case i == 0:
			first = tags
		case !slices.Equal(tags, first):
			return disagree(taking[0], strings.Join(first, ", "), b, strings.Join(tags, ", ")), nil
		}
	}
	return nil, nil
}

// textsOn runs a text of several statements on one shard, and returns their tags.
func (x *wide) textsOn(j *job, b *branch, shown bool) (tags []string, err error) {
	if err := b.send(wire.AppendQuery(nil, string(j.text))); err != nil {
		return nil, err
	}
	if shown {
		b.loud = x
	}
	for {
		f, done, err := b.next(x.s)
		if done || err != nil {
			return tags, err
		}
		if f.Type == wire.MsgCommandComplete {
			tags = append(tags, b.tag)
		}
		if !shown {
			continue
		}
		switch f.Type {
		case wire.MsgCommandComplete:
			x.tagged = len(x.out)
			fallthrough
		case wire.MsgRowDescription, wire.MsgDataRow, wire.MsgEmptyQueryResponse:
			x.out = append(x.out, f.Raw...)
		}
		if err := x.flush(); err != nil {
			return nil, err
		}
	}
}

// answer makes one answer of those of the branches.
func (x *wide) answer(j *job, taking []*branch) (refusal *wire.Error, err error) {
	shape, err := x.shape(j, taking[0])
	if err != nil {
		return asRefusal(err)
	}
	inTurn := len(taking) > 1 && x.inTurn(j)
	for i, b := range taking {
		text := j.text
		if j.plan.Parts != nil {
			if text, err = j.plan.Parts.Text(i, j.text); err != nil {
				return asRefusal(err)
			}
		}
		b.c.SetUnnamed(nil)
		if err := b.send(j.part(i, text, shape.formats)); err != nil {
			return nil, err
		}
		if i == 0 || j.plan.Kind != plan.Everywhere {
			b.loud = x
		}
		if !inTurn {
			continue
		}
		if refusal, err = x.begun(b); refusal != nil || err != nil {
			return refusal, err
		}
	}
	var rows int64
	for i, b := range taking {
		if inTurn {
			break
		}
		if refusal, err = x.head(b); refusal != nil || err != nil {
			if refusal != nil && refusal.Code == wire.CodeProtocolViolation && i > 0 { // there are not as many columns as formats
				refusal = unlike(b.db.Shard() + " has other columns than " + taking[0].db.Shard())
			}
			return refusal, err
		}
	}
	if refusal, err = agreeInColumns(taking); refusal != nil || err != nil {
		return refusal, err
	}
	returns := taking[0].fields != nil
	if returns {
		if rows, err = x.merge(j, taking, shape); err != nil {
			return asRefusal(err)
		}
	} else if j.describe && j.extended {
		x.out = wire.AppendEmpty(x.out, wire.MsgNoData)
	}
	for _, b := range taking {
		if err := b.drain(x.s); err != nil {
			return nil, err
		}
		if b.failed != nil {
			return b.failed, nil
		}
	}
	tag, refusal := j.tag(taking, rows, returns)
	if refusal != nil {
		return refusal, nil
	}
	if tag != "" {
		x.complete(tag)
	} else {
		x.out = wire.AppendEmpty(x.out, wire.MsgEmptyQueryResponse)
	}
	return nil, nil
}

// inTurn reports whether the shards carry j out one after the other, in their order: those of which two may take locks that both
// want. At once, each would begin on another shard, and they would wait for each other for ever where one server would have
// let the second wait for the first. What only inserts rows locks none that others want, but by its unique keys.
func (x *wide) inTurn(j *job) bool {
	if x.s.db.Hazards.Reading(j.st).Verdict == catalog.Read {
		return false
	}
	if j.plan.Kind == plan.Everywhere {
		return true
	}
	for i := range j.st.Commands {
		cmd := &j.st.Commands[i]
		if cmd.Kind != parser.Insert {
			return true
		}
		for _, t := range cmd.Tables { // of ON CONFLICT, and of WITH
			if t.Access&parser.Alters != 0 && t.Access&parser.Reads != 0 {
				return true
			}
		}
	}
	return false
}

// begun is head, and waits until the shard has carried the statement out, or for the first of many rows.
func (x *wide) begun(b *branch) (refusal *wire.Error, err error) {
	if refusal, err = x.head(b); refusal != nil || err != nil {
		return refusal, err
	}
	if err = b.look(x.s); err != nil {
		return nil, err
	}
	return b.failed, nil
}

// head reads a branch's answer up to the description of its columns, or to its end.
func (x *wide) head(b *branch) (refusal *wire.Error, err error) {
	for {
		f, done, err := b.next(x.s)
		switch {
		case err != nil:
			return nil, err
		case b.failed != nil:
			return b.failed, b.drain(x.s)
		case done, f.Type == wire.MsgRowDescription, f.Type == wire.MsgNoData:
			if f.Type == wire.MsgRowDescription {
				b.described = append(b.described[:0], f.Raw...)
			}
			return nil, nil
		}
	}
}

// disagree is the error where two shards have different copies of a table.
func disagree(one *branch, tag string, other *branch, others string) *wire.Error {
	return &wire.Error{Code: "XX001", Message: "shards do not agree on a table of which each has a whole copy",
		Detail: fmt.Sprintf("%s answers %q, %s answers %q.", one.db.Shard(), tag, other.db.Shard(), others), Hint: "pgtier check compares them."}
}

// tag is what completes the answer: counts of rows are added up, and reference tables must agree.
func (j *job) tag(taking []*branch, rows int64, returns bool) (string, *wire.Error) {
	first := taking[0].tag
	if len(taking) == 1 || j.plan.Explain {
		return first, nil
	}
	if j.plan.Kind == plan.Everywhere && j.plan.Parts != nil { // one shard has the rows
		return taking[j.plan.Shard].tag, nil
	}
	if j.plan.Kind == plan.Everywhere {
		for _, b := range taking[1:] {
			if b.tag != first {
				return "", disagree(taking[0], first, b, b.tag)
			}
		}
		return first, nil
	}
	word, _, _ := strings.Cut(first, " ")
	if word == "SELECT" && returns {
		return "SELECT " + strconv.FormatInt(rows, 10), nil
	}
	sum := int64(0)
	for _, b := range taking {
		sum += counted(b.tag)
	}
	at := strings.LastIndexByte(first, ' ')
	if last := first[len(first)-1:]; at < 0 || last < "0" || last > "9" {
		return first, nil
	}
	return first[:at+1] + strconv.FormatInt(sum, 10), nil
}

// counted is the number of rows at the end of a command tag, 0 if there is none.
func counted(tag string) int64 {
	n, err := strconv.ParseInt(tag[strings.LastIndexByte(tag, ' ')+1:], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// rowSource gives a branch's rows to a merge.
type rowSource struct {
	x *wide
	b *branch
}

// Next is the next row; io.EOF ends them. A refusal of the server is the error.
func (r *rowSource) Next() ([]byte, error) {
	for r.b.busy {
		f, done, err := r.b.next(r.x.s)
		switch {
		case err != nil:
			return nil, err
		case r.b.failed != nil:
			if err := r.b.drain(r.x.s); err != nil {
				return nil, err
			}
			return nil, r.b.failed
		case done:
			return nil, io.EOF
		case f.Type == wire.MsgDataRow:
			return f.Body(), nil
		case f.Type == wire.MsgCopyOutResponse, f.Type == wire.MsgCopyInResponse:
			return nil, errGarbage
		}
	}
	return nil, io.EOF
}

// merge makes one answer of the rows.
func (x *wide) merge(j *job, taking []*branch, shape *shape) (rows int64, err error) {
	sources := make([]merge.Source, len(taking))
	for i, b := range taking {
		sources[i] = &rowSource{x, b}
	}
	if j.plan.Explain && len(taking) > 1 {
		return x.explained(j, taking, sources)
	}
	if j.plan.Kind == plan.Everywhere {
		sources = sources[:1]
	}
	in, out, description, err := shape.columns(taking[0])
	if err != nil {
		return 0, err
	}
	spec := j.plan.Merge
	if spec == nil {
		spec = &merge.Spec{}
	}
	m, err := merge.New(spec, in, out, x.mergeConfig())
	if err != nil {
		return 0, err
	}
	if shape.groups != nil {
		if _, err = m.Run(sources, shape.groups.Add); err != nil {
			return 0, err
		}
		return x.final(j, taking[0], shape, description)
	}
	if j.describe {
		x.out = append(x.out, description...)
	}
	if j.plan.Kind == plan.Spread && j.plan.Parts != nil && j.plan.Parts.Rows(0) != nil {
		return x.inserted(j, sources, x.row)
	}
	return m.Run(sources, x.row)
}

// row gives the client a row.
func (x *wide) row(row []byte) error {
	var at int
	x.out, at = wire.Begin(x.out, wire.MsgDataRow)
	x.out = wire.End(append(x.out, row...), at)
	return x.flush()
}

// explained gives the plans of all shards, each under a line with its name.
func (x *wide) explained(j *job, taking []*branch, sources []merge.Source) (rows int64, err error) {
	if len(taking[0].fields) != 1 || taking[0].fields[0].oid != textOID {
		return 0, notWide("EXPLAIN in this format", "Use FORMAT TEXT or YAML, or name one shard with /* pgtier: shard=… */.")
	}
	if j.describe {
		x.out = append(x.out, taking[0].described...)
	}
	line := func(text []byte) error {
		var at int
		x.out, at = wire.Begin(x.out, wire.MsgDataRow)
		x.out = binary.BigEndian.AppendUint16(x.out, 1)
		x.out = binary.BigEndian.AppendUint32(x.out, uint32(len(text)))
		x.out = wire.End(append(x.out, text...), at)
		rows++
		return x.flush()
	}
	if err := line([]byte(j.plan.Kind.String() + ": " + j.plan.Reason)); err != nil {
		return 0, err
	}
	for i, b := range taking {
		if err := line([]byte("Shard " + b.db.Shard())); err != nil {
			return 0, err
		}
		for {
			row, err := sources[i].Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, err
			}
			fields, err := wire.RowFields(row)
			if err != nil || len(fields) != 1 {
				return 0, errGarbage
			}
			if err := line(append([]byte("  "), fields[0]...)); err != nil {
				return 0, err
			}
		}
	}
	return rows, nil
}

// inserted gives the rows that an INSERT returns in the order in which the client gave its rows, where each of them is
// returned; where some are left out by ON CONFLICT nobody knows which, and they come shard by shard. The rows are held until
// all are there, as the request was.
func (x *wide) inserted(j *job, sources []merge.Source, emit func([]byte) error) (rows int64, err error) {
	var ordered [][]byte
	var loose [][]byte
	for i, source := range sources {
		places, n := j.plan.Parts.Rows(i), 0
		var these [][]byte
		for {
			row, err := source.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, err
			}
			these, n = append(these, bytes.Clone(row)), n+1
		}
		if n != len(places) {
			loose = append(loose, these...)
			continue
		}
		for k, place := range places {
			for len(ordered) <= place {
				ordered = append(ordered, nil)
			}
			ordered[place] = these[k]
		}
	}
	for _, row := range append(ordered, loose...) {
		if row == nil {
			continue
		}
		if err := emit(row); err != nil {
			return rows, err
		}
		rows++
	}
	return rows, nil
}

// planRefusal tells a client of a plan that is none.
func planRefusal(r *plan.Refusal) *wire.Error {
	return &wire.Error{Code: r.Code, Message: r.Message, Detail: r.Detail, Hint: r.Hint}
}
