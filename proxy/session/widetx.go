package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgtier/parser"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
)

// control serves what begins and ends transactions, and what has to be done on all their shards. done is false for other
// statements.
func (x *wide) control(j *job) (done bool, refusal *wire.Error, err error) {
	if !controls(j.st) {
		return false, nil, nil
	}
	cmd := &j.st.Commands[0]
	switch cmd.Kind {
	case parser.Begin:
		switch {
		case x.failed:
			return true, failedTransaction(), nil
		case x.explicit:
			x.warn("25001", "there is already a transaction in progress")
		default:
			x.explicit, x.begin = true, string(j.text)
			x.s.story.inside = true
		}
		x.complete(cmp.Or(beginTag(j.text), "BEGIN"))
	case parser.Commit, parser.Rollback:
		refusal, err = x.end(cmd)
	case parser.Deallocate, parser.DeallocateAll:
		refusal = x.deallocate(cmd)
	case parser.PrepareTransaction:
		refusal = notWide("PREPARE TRANSACTION", "Only pgtier prepares transactions of a sharded database.")
	default:
		refusal, err = x.everyBranch(j, cmd)
	}
	return true, refusal, err
}

// controls reports whether control serves st.
func controls(st *parser.Statement) bool {
	if len(st.Commands) != 1 {
		return false
	}
	switch st.Commands[0].Kind {
	case parser.Begin, parser.Commit, parser.Rollback, parser.Deallocate, parser.DeallocateAll, parser.PrepareTransaction,
		parser.Savepoint, parser.Release, parser.RollbackTo, parser.Set, parser.Reset, parser.ResetAll, parser.SetTransaction, parser.SetConstraints:
		return true
	}
	return false
}

// notWide refuses what cannot be done on several shards.
func notWide(what, hint string) *wire.Error {
	return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: what + " is not supported across shards", Hint: hint}
}

func (x *wide) complete(tag string) {
	x.tagged = len(x.out)
	x.out = wire.AppendCommandComplete(x.out, tag)
}

func (x *wide) warn(code, message string) {
	x.out = (&wire.Error{Severity: "WARNING", Code: code, Message: message}).AppendNotice(x.out)
}

// deallocate forgets prepared statements.
func (x *wide) deallocate(cmd *parser.Command) *wire.Error {
	s := x.s
	switch st := s.names[cmd.Name]; {
	case x.failed:
		return failedTransaction()
	case cmd.Kind == parser.DeallocateAll:
		s.forgetNames()
		x.complete("DEALLOCATE ALL")
		return nil
	case st == nil:
		return &wire.Error{Code: wire.CodeInvalidStatement, Message: fmt.Sprintf("prepared statement %q does not exist", cmd.Name)}
	default:
		s.setName(cmd.Name, nil)
		s.forget(st)
	}
	x.complete("DEALLOCATE")
	return nil
}

// end serves COMMIT and ROLLBACK.
func (x *wide) end(cmd *parser.Command) (refusal *wire.Error, err error) {
	tag := "COMMIT"
	if cmd.Kind == parser.Rollback {
		tag = "ROLLBACK"
	}
	if !x.explicit {
		if cmd.Chain {
			return &wire.Error{Code: "25P01", Message: tag + " AND CHAIN can only be used in transaction blocks"}, nil
		}
		x.warn("25P01", "there is no transaction in progress")
	}
	like := x.s.story.characteristics()
	if cmd.Kind == parser.Rollback || x.failed {
		tag = "ROLLBACK"
		err = x.rollback()
	} else {
		refusal, err = x.commit()
	}
	x.failed = false
	x.dropPortals()
	x.chain(cmd.Chain && refusal == nil, like)
	if refusal == nil && err == nil {
		x.complete(tag)
	}
	return refusal, err
}

// chain goes on behind the end of a transaction: in another that is like it, or in none.
func (x *wide) chain(on bool, like []told) {
	s := x.s
	x.explicit, s.story.inside = on, on
	s.wideRests() // what comes of the same request is judged by it
	if !on {
		x.begin = ""
		return
	}
	s.story.told = like
	if cluster := s.db.Cluster.Load(); cluster != nil { // the map may have changed meanwhile
		if l, err := cluster.Layout(); err == nil {
			x.cluster, x.l = cluster, l
		}
	}
}

// everyBranch runs a statement on all branches that take part, and notes it for those to come.
func (x *wide) everyBranch(j *job, cmd *parser.Command) (refusal *wire.Error, err error) {
	if x.failed && cmd.Kind != parser.RollbackTo {
		return failedTransaction(), nil
	}
	if len(x.s.restored(cmd)) > 0 {
		return notWide("RESET of a setting given at login, inside a transaction over several shards,", "SET the value, or RESET outside the transaction."), nil
	}
	if pin := x.s.note(j.st); pin != "" {
		return notWide(cmd.Kind.String()+" that needs a connection of its own ("+pin+")", ""), nil
	}
	if len(x.branches) == 0 { // somebody must say whether it is right
		if _, err := x.branch(x.l.Home, true); err != nil {
			return asRefusal(err)
		}
	}
	for _, b := range slices.Clone(x.branches) { // one that has only read is outside the transaction, whose end would undo nothing there
		if b.tx == wire.TxIdle {
			if _, err := x.branch(b.index, true); err != nil {
				return asRefusal(err)
			}
		}
	}
	for _, b := range x.branches {
		if err := b.send(appendJob(nil, j, j.text, j.resultFormats())); err != nil {
			return nil, err
		}
	}
	for i, b := range x.branches {
		if err := x.pass(b, j, i == 0); err != nil {
			return nil, err
		}
		if refusal == nil {
			refusal = b.failed
		}
	}
	if refusal != nil {
		return refusal, nil
	}
	x.s.story.add(j.st, j.text)
	if cmd.Kind == parser.RollbackTo {
		x.failed, x.s.txn.unlistened = false, false // a notification too many harms less than one missed
	}
	if refusal, err = x.changedLevel(j.text); refusal != nil || err != nil {
		return refusal, err
	}
	x.complete(x.branches[0].tag)
	return nil, nil
}

// pass reads a branch's answer to its end; shown is what the client gets of it.
func (x *wide) pass(b *branch, j *job, shown bool) error {
	if shown {
		b.loud = x
	}
	for {
		f, done, err := b.next(x.s)
		if done || err != nil {
			return err
		}
		if shown && (f.Type == wire.MsgDataRow || f.Type == wire.MsgRowDescription && j.describe) {
			x.out = append(x.out, f.Raw...)
			if err := x.flush(); err != nil {
				return err
			}
		}
	}
}

func failedTransaction() *wire.Error {
	return &wire.Error{Code: codeFailedTransaction, Message: "current transaction is aborted, commands ignored until end of transaction block"}
}

// asRefusal tells errors for the client from those that end the session.
func asRefusal(err error) (*wire.Error, error) {
	var e *wire.Error
	if errors.As(err, &e) && e.Severity != "FATAL" && e.Severity != "PANIC" {
		return e, nil
	}
	return nil, err
}

// rollback undoes the transaction on all branches and gives them back.
func (x *wide) rollback() error {
	x.unbind()
	for _, b := range x.branches {
		if b.tx == wire.TxIdle {
			continue
		}
		if err := b.exec(x.s, wire.AppendQuery(nil, "ROLLBACK")); err != nil {
			b.c.Spoil("rollback failed: " + err.Error())
		}
	}
	return x.release()
}

// unbind has what is left of the transaction, which touches no rows, answered by whom it may be.
func (x *wide) unbind() {
	for _, b := range x.branches {
		b.c.Bind(nil)
	}
}

// commit makes the transaction durable on all branches or on none, and gives them back. A refusal means none.
func (x *wide) commit() (refusal *wire.Error, err error) {
	x.unbind()
	for _, b := range x.branches {
		b.claims()
	}
	var writers, readers []*branch
	for _, b := range x.branches {
		switch {
		case b.tx == wire.TxIdle:
		case b.wrote:
			writers = append(writers, b)
		default:
			readers = append(readers, b)
		}
	}
	if x.readOnly() { // whatever its functions are, they have changed nothing
		readers, writers = append(readers, writers...), nil
	}
	if refusal, err = x.unfit(writers); err != nil {
		return nil, err
	}
	for _, b := range readers {
		if refusal == nil {
			refusal, err = x.commitOne(b)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case refusal != nil:
	case len(writers) == 1:
		refusal, err = x.commitOne(writers[0])
	case len(writers) > 1:
		refusal, err = x.commitSeveral(writers)
	}
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		x.spoilChanged(readers)
		return refusal, x.rollback()
	}
	if t := &x.s.txn; t.unlistened {
		t.unlistened, t.silenced = false, true
	}
	if err := x.release(); err != nil { // it is committed, and the client is not told so
		x.unread = true
		return nil, fateUnknown()
	}
	return nil, nil
}

// unfit refuses a change of the schema after which statements would be refused that were not before, as no shard by itself
// would: it knows nothing of the others' rows.
func (x *wide) unfit(writers []*branch) (refusal *wire.Error, err error) {
	at := slices.IndexFunc(writers, func(b *branch) bool { return b.index == x.l.Home })
	if at < 0 || !x.s.txn.ddl || x.s.circumstances().ASCII { // names in another encoding are not those that are known
		return nil, nil
	}
	var all []catalog.Querier
	if len(writers) == len(x.l.Members) {
		for _, index := range x.l.Members {
			if at := slices.IndexFunc(writers, func(b *branch) bool { return b.index == index }); at >= 0 {
				all = append(all, branchQuerier{x.s, writers[at]})
			}
		}
	}
	return asRefusal(x.l.Fits(context.Background(), branchQuerier{x.s, writers[at]}, all))
}

// branchQuerier reads the catalog as a branch's transaction sees it.
type branchQuerier struct {
	s *Session
	b *branch
}

// Query implements catalog.Querier. It goes on until the server has answered or the session ends, whatever ctx does.
func (q branchQuerier) Query(_ context.Context, sql string, visit func(fields [][]byte) error) error {
	return q.b.query(q.s, sql, visit)
}

// spoilChanged gives up those that have made the transaction's settings last, though it is undone.
func (x *wide) spoilChanged(branches []*branch) {
	if x.s.txn.empty() {
		return
	}
	for _, b := range branches {
		if b.tx == wire.TxIdle {
			b.c.Spoil("has the settings of a transaction that was undone")
		}
	}
}

// readOnly reports whether the transaction was read-only from its beginning to its end.
func (x *wide) readOnly() bool {
	s := x.s
	if x.begin == "" || s.story.untold != "" {
		return false
	}
	st := s.facts([]byte(x.begin))
	if len(st.Commands) == 0 {
		return false
	}
	t := &st.Commands[0].Transaction
	on, _ := s.settings.Value("default_transaction_read_only")
	if !t.ReadOnly && (t.ReadWrite || on != "on") {
		return false
	}
	for _, told := range s.story.told {
		switch told.kind {
		case parser.SetTransaction, parser.Set, parser.Reset, parser.ResetAll:
			text := strings.ToLower(told.text)
			if strings.Contains(text, "write") || strings.Contains(text, "transaction_read_only") || told.kind == parser.ResetAll {
				return false
			}
		}
	}
	return true
}

// commitOne commits on one branch.
func (x *wide) commitOne(b *branch) (refusal *wire.Error, err error) {
	if err = b.send(wire.AppendQuery(nil, "COMMIT")); err == nil {
		b.loud = x
		err = b.drain(x.s)
	}
	switch {
	case b.failed != nil && b.c.Spoiled() == "":
		return b.failed, nil
	case err != nil && b.wrote:
		return nil, fateUnknown()
	case err != nil:
		return nil, err
	case b.tag == "ROLLBACK":
		return failedTransaction(), nil
	}
	return nil, nil
}

// commitSeveral commits in two phases, without a log of its own: all but one branch prepare, then the anchor commits its
// data together with the row that says so, then the others carry it out. Whoever finds one of them prepared later asks
// the anchor's row.
func (x *wide) commitSeveral(writers []*branch) (refusal *wire.Error, err error) {
	anchor, others := x.anchor(writers)
	gid := x.identifier(anchor)
	decision, err := x.cluster.Decision(gid)
	if err != nil {
		return asRefusal(err)
	}
	if refusal, err = x.prepare(others, gid); refusal != nil || err != nil {
		return refusal, err
	}
	if anchor.index == x.l.Home {
		defer x.s.db.Listener.Hold(anchor.c.PID())() // until the others show it
	}
	decided := anchor.exec(x.s, wire.AppendQuery(nil, decision+"; COMMIT"))
	switch {
	case anchor.failed != nil && anchor.c.Spoiled() == "":
		x.finish(others, "ROLLBACK PREPARED", gid)
		return anchor.failed, nil
	case decided != nil:
		x.cluster.Unsettled()
		return nil, fateUnknown()
	}
	x.finish(others, "COMMIT PREPARED", gid)
	return nil, nil
}

// anchor chooses the branch that decides: one that cannot prepare if there is one.
func (x *wide) anchor(writers []*branch) (anchor *branch, others []*branch) {
	anchor = writers[0]
	for _, b := range writers {
		if b.index == x.l.Home && (x.s.txn.notified || x.s.txn.listening || len(x.s.txn.unlisten) > 0) {
			anchor = b
		}
	}
	for _, b := range writers {
		if b != anchor {
			others = append(others, b)
		}
	}
	return anchor, others
}

// identifier names a prepared transaction so that another process knows where it was decided.
func (x *wide) identifier(anchor *branch) string {
	var id [12]byte // unique for as long as there are computers
	_, _ = rand.Read(id[:])
	return fmt.Sprintf("%s%s:%x", x.cluster.Prefix, anchor.db.Shard(), id)
}

// maxIdentity bounds a database's part of identifiers, in bytes: with the longest names of two shards they stay below 200
// (GIDSIZE in src/include/access/xact.h).
const maxIdentity = 36

// IdentifierPrefix begins the identifiers of a database's prepared transactions. A name that means something else in another
// encoding, between quotes or to those who take identifiers apart, or that is long, is there as its hash.
func IdentifierPrefix(database string) string {
	plain := database != "" && len(database) <= maxIdentity
	for _, c := range []byte(database) {
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.')
	}
	if !plain {
		hash := sha256.Sum256([]byte(database))
		database = "=" + hex.EncodeToString(hash[:16])
	}
	return "pgtier:" + database + ":"
}

// part names the branch's part of a transaction: several shards may be databases of one server, where such names are unique.
func (b *branch) part(gid string) string { return partOf(gid, b.db.Shard()) }

// partOf names a shard's part.
func partOf(gid, shard string) string { return gid + ":" + shard }

// quoteLiteral writes text as a string literal.
func quoteLiteral(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// prepare prepares branches. On a refusal those that have are rolled back again.
func (x *wide) prepare(branches []*branch, gid string) (refusal *wire.Error, err error) {
	first := x.leaveRole()
	for _, b := range branches {
		b.writing.part = b.part(gid)
		first := first
		if len(b.c.Holds) > 0 {
			first = "SELECT " + shardmap.KeepSQL(b.c.Holds...) + "; " + first
		}
		if err := b.send(wire.AppendQuery(nil, first+"PREPARE TRANSACTION "+quoteLiteral(b.part(gid)))); err != nil {
			x.cluster.Unsettled()
			return nil, err
		}
	}
	var prepared []*branch
	for _, b := range branches {
		switch lost := b.drain(x.s); {
		case lost != nil:
			x.cluster.Unsettled()
			err = lost
		case b.failed != nil:
			refusal, b.writing.part = b.failed, ""
		case b.tag != "PREPARE TRANSACTION":
			refusal, b.writing.part = failedTransaction(), ""
		default:
			prepared = append(prepared, b)
			b.c.Holds = nil
		}
	}
	if refusal != nil || err != nil {
		x.finish(prepared, "ROLLBACK PREPARED", gid)
	}
	if refusal != nil && refusal.Code == "55000" {
		refusal.Sent = nil
		refusal.Hint = "Set max_prepared_transactions on every shard; pgtier check says to how much."
	}
	return refusal, err
}

// leaveRole is what comes in front of PREPARE TRANSACTION where the transaction may be another role's than the login's:
// only the role that prepares can carry it out, and nobody may be able to log in as that one. What is deferred is checked
// as the role before.
func (x *wide) leaveRole() string {
	s := x.s
	role, _ := s.settings.Value(roleSetting)
	changes := role != "" || s.story.untold != "" || slices.Contains(s.txn.capture, roleSetting)
	for _, told := range s.story.told {
		changes = changes || strings.Contains(strings.ToLower(told.text), roleSetting)
	}
	if !changes {
		return ""
	}
	return "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL ROLE NONE; "
}

// finishTries bounds the attempts to carry out what was decided, where a cancel or a time limit for the client's statement
// strikes it.
const finishTries = 3

// finish carries out what was decided. What cannot be done now is left to recovery.
func (x *wide) finish(branches []*branch, act, gid string) {
	var left []string
	if x.leaveRole() != "" { // for good this time, because that was for the transaction
		for _, b := range branches {
			b.alone = true
			_ = b.exec(x.s, wire.AppendQuery(nil, "SET ROLE NONE"))
		}
	}
	for _, b := range branches {
		_ = b.send(wire.AppendQuery(nil, act+" "+quoteLiteral(b.part(gid)))) // b is spoiled then
	}
	for _, b := range branches {
		if b.busy {
			_ = b.drain(x.s)
		}
		for i := 1; i < finishTries && b.failed != nil && b.failed.Code == wire.CodeQueryCanceled && b.c.Spoiled() == ""; i++ {
			_ = b.exec(x.s, wire.AppendQuery(nil, act+" "+quoteLiteral(b.part(gid))))
		}
		if b.failed != nil || b.c.Spoiled() != "" {
			left = append(left, b.db.Shard())
			b.c.Spoil("the second phase of a commit failed")
			continue
		}
		b.writing.part = ""
	}
	if act == "ROLLBACK PREPARED" {
		x.spoilChanged(branches)
	}
	if len(left) == 0 {
		return
	}
	if act == "COMMIT PREPARED" {
		left = x.insist(left, gid)
		for _, b := range branches {
			if !slices.Contains(left, b.db.Shard()) {
				b.writing.part = ""
			}
		}
		if len(left) == 0 {
			return
		}
	}
	x.s.logger().Warn("a transaction over several shards is left to recovery", zap.String("gid", gid), zap.Strings("shards", left))
	x.cluster.Unsettled()
	if act == "COMMIT PREPARED" {
		x.warn("01000", "the transaction is committed, but is not visible yet on "+strings.Join(left, ", "))
	}
}

// insist carries out a commit on shards that were lost in the middle of it, before the client hears that it is committed: until then what is read there is
// from before. It waits for a shard as long as statements do, and returns those that have not come back.
func (x *wide) insist(shards []string, gid string) (left []string) {
	s := x.s
	ctx, done := s.stoppable(time.Now().Add(s.db.Reads().Failover))
	defer done()
	for _, shard := range shards {
		if err := x.cluster.Finish(ctx, shard, s.role, partOf(gid, shard)); err != nil {
			left = append(left, shard)
		}
	}
	return left
}

// release gives all branches back, in the settings that the transaction has left.
func (x *wide) release() error {
	s := x.s
	branches := x.settling()
	x.branches = nil
	left := s.txn
	if s.keep.defines && slices.ContainsFunc(branches, func(b *branch) bool { return b.writing.write.Claimed() }) {
		s.db.OnDDL() // before any of them lets go: see changed
	}
	s.keep.defines = false
	settled, err := false, error(nil)
	for _, b := range branches {
		s.resume(b)
		s.tx = b.tx
		switch {
		case b.c.Spoiled() != "":
		case b.alone:
			b.c.SettingsAre(s.settings.Without(roleSetting))
		case settled:
			b.c.SettingsAre(s.settings)
		default: // the next one tells as well if this cannot
			s.txn = left
			told := x.settle(b)
			if settled = told == nil; err == nil || !left.listening { // of which the first knows alone
				err = told
			}
		}
		if b.c.Spoiled() == "" && s.freesLocks(b.c) != nil {
			b.c.Spoil("locks that moves of buckets wait for could not be let go")
		}
		s.tx = wire.TxIdle
		var wrote written
		if b.wrote {
			wrote = left.wrote
			wrote.any = true
		}
		s.seeing(&wrote)
		x.shows(b)
		s.changedFor(b.c)
		s.release(b.c)
	}
	s.txn.clear()
	s.story.clear()
	s.trail.clear()
	s.db.Stats.Transactions.Add(1)
	return err
}

// settling are the branches in the order in which they are given back: first the one that tells what the transaction has
// left, which is the home shard's where it has LISTENed, and none that has left the session's role.
func (x *wide) settling() []*branch {
	branches := slices.Clone(x.branches)
	first := func(b *branch) int {
		switch {
		case b.alone:
			return 2
		case b.index == x.l.Home && x.s.txn.listening:
			return 0
		}
		return 1
	}
	slices.SortStableFunc(branches, func(a, b *branch) int { return first(a) - first(b) })
	return branches
}

// settle reads back what the transaction has left in the session, from one branch for all.
func (x *wide) settle(b *branch) error {
	s := x.s
	notified := s.txn.notified
	s.txn.wrote = written{}
	if !s.txn.empty() {
		if err := s.readBack(b.c); err != nil {
			b.c.Spoil("settings could not be read back")
			return err
		}
	}
	s.txn.reads = reading{}
	s.tellParams(b.c, x.write)
	if notified && len(s.listens) > 0 {
		ctx, stop := context.WithTimeout(context.Background(), readBackTimeout)
		defer stop()
		_ = s.db.Listener.Barrier(ctx)
	}
	return nil
}
