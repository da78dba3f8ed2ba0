package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// Source transactions and rows that one transaction of the target takes at most while more wait.
	batchTransactions = 200
	batchRows         = 5000
	// relationsMost bounds what is remembered of tables' descriptions; a source has at most so many in one publication here.
	relationsMost = 100_000
)

// attachment is a stream that runs. It belongs to Run's goroutine.
type attachment struct {
	a      *Applier
	source *source
	sink   *sink
	// What the catalogs say, and what the stream has said.
	sourceTables, targetTables []*Table
	relations                  map[uint32]*target

	// The source's transaction under way.
	inside bool
	ignore bool     // it is passed over
	rows   int      // of it
	marks  []string // in it

	// The target's transaction under way.
	transactions, batch int // of the source, rows
	batchMarks          []string

	at       LSN       // the end of the last transaction of the source that was read whole
	when     time.Time // it was committed
	applied  LSN       // committed at the target
	durable  LSN
	idle     LSN // a keepalive's: nothing came up to there
	dirty    bool
	hardened time.Time
}

// Run attaches and applies until ctx ends or something fails; its error is never nil. Run it again after a rest, unless the error is a *Hopeless.
func (a *Applier) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	at, err := a.attach(ctx)
	if err != nil {
		return fmt.Errorf("attach stream of slot %s: %w", a.config.Slot, err)
	}
	defer at.source.close()
	defer at.sink.close()
	a.turn()
	defer a.turn()
	return fmt.Errorf("stream of slot %s: %w", a.config.Slot, at.follow(ctx))
}

// attach takes the origin first: who has it is alone, and its progress stands still.
func (a *Applier) attach(ctx context.Context) (*attachment, error) {
	at := &attachment{a: a, relations: map[uint32]*target{}, hardened: time.Now()}
	var err error
	if at.sink, err = openSink(ctx, a.config.Target, a.config.Origin); err != nil {
		return nil, err
	}
	if err = at.describe(ctx); err == nil {
		at.source, err = openSource(ctx, a.config.Source, a.config.Slot, a.config.Publication, at.sink.origin)
	}
	if err != nil {
		at.sink.close()
		return nil, err
	}
	// What the origin says may not be on the disk yet, if the last one to apply was killed: it is confirmed when it is.
	at.at, at.applied, at.dirty = at.sink.origin, at.sink.origin, true
	return at, nil
}

// describe reads both catalogs.
func (at *attachment) describe(ctx context.Context) (err error) {
	c := &at.a.config
	if at.sourceTables, err = Describe(ctx, c.Source, c.Layout); err != nil {
		return err
	}
	if at.targetTables, err = Describe(ctx, c.Target, c.Layout); err != nil {
		return err
	}
	if problems := Problems(c.Layout, at.sourceTables, at.targetTables); len(problems) > 0 {
		return &Hopeless{SchemaChanged, problems[0].Table, errors.New(problems[0].Message + "; " + problems[0].Hint)}
	}
	return nil
}

// follow applies what comes. Statuses are sent at intervals, whatever comes.
func (at *attachment) follow(ctx context.Context) error {
	tick := time.NewTicker(at.a.config.durable())
	defer tick.Stop()
	if err := at.tell(); err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		messages, err := at.source.in.take()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := at.take(m); err != nil {
				return err
			}
			select {
			case <-tick.C:
				if err := at.tell(); err != nil {
					return err
				}
			default:
			}
		}
		if len(messages) > 0 {
			continue
		}
		// Nothing waits: what is whole is committed at once.
		if err := at.commit(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-at.source.in.ready:
		case <-tick.C:
			if err := at.tell(); err != nil {
				return err
			}
		}
	}
}

// take takes a CopyData.
func (at *attachment) take(b []byte) error {
	f, err := unframe(b)
	if err != nil {
		return err
	}
	if f.message == nil {
		if !at.inside {
			at.idle = max(at.idle, f.end)
		}
		at.a.heard(f.end)
		return nil
	}
	m, err := decode(f.message)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case beginMessage:
		if at.inside {
			return fmt.Errorf("%w: a transaction begins inside another", errMalformed)
		}
		at.inside, at.ignore, at.rows, at.marks = true, false, 0, nil
		return nil
	case relationMessage:
		return at.relate(&m)
	case nil:
		return nil
	}
	if !at.inside {
		return fmt.Errorf("%w: a %T outside a transaction", errMalformed, m)
	}
	switch m := m.(type) {
	case originMessage:
		at.ignore = at.ignore || slices.Contains(at.a.config.Ignore, m.name)
	case logicalMessage:
		at.note(&m)
	case rowMessage:
		return at.row(&m)
	case truncateMessage:
		return at.truncated(&m)
	case commitMessage:
		return at.end(&m)
	}
	return nil
}

// note takes a logical message. One that says that the transaction is local comes before its rows.
func (at *attachment) note(m *logicalMessage) {
	if m.prefix != MessagePrefix {
		return
	}
	if m.content == contentLocal && at.rows == 0 {
		at.ignore = true
	}
	if name, ok := strings.CutPrefix(m.content, contentMarker); ok {
		at.marks = append(at.marks, name)
	}
}

// relate takes the description of a table: it must be what the catalogs say.
func (at *attachment) relate(m *relationMessage) error {
	name := m.schema + "." + m.name
	changed := func(what string) error {
		return &Hopeless{SchemaChanged, name, fmt.Errorf("%s since the move began; cancel the move and begin it anew", what)}
	}
	is := func(t *Table) bool { return t.Schema == m.schema && t.Name == m.name }
	s, d := slices.IndexFunc(at.sourceTables, is), slices.IndexFunc(at.targetTables, is)
	if len(at.relations) >= relationsMost {
		return fmt.Errorf("%w: more than %d tables", errMalformed, relationsMost)
	}
	if s < 0 || d < 0 {
		// Partitions are described too, although their rows come as those of their table.
		at.relations[m.id] = &target{stranger: changed("it has come into the publication, or was renamed,")}
		return nil
	}
	columns := at.sourceTables[s].Columns
	if len(columns) != len(m.columns) {
		return changed("columns were added or dropped")
	}
	for i, c := range columns {
		if r := m.columns[i]; r.name != c.Name || r.oid != c.oid || r.modifier != c.modifier || r.key != c.InIdentity {
			return changed(fmt.Sprintf("column %q was changed", r.name))
		}
	}
	at.relations[m.id] = newTarget(at.targetTables[d], m)
	return nil
}

// row takes a change of a row.
func (at *attachment) row(m *rowMessage) error {
	at.rows++
	if at.ignore {
		return nil
	}
	if err := at.check(m); err != nil {
		return err
	}
	t := at.relations[m.id]
	st, err := t.statement(m)
	if err != nil {
		return &Hopeless{Unsendable, t.table.String(), err}
	}
	if st == nil {
		return nil
	}
	at.batch++
	return at.sink.change(t, st, m.kind)
}

// check holds a change against the description of its table.
func (at *attachment) check(m *rowMessage) error {
	t := at.relations[m.id]
	switch {
	case t == nil:
		return fmt.Errorf("%w: a change of table %d, which was not described", errMalformed, m.id)
	case t.stranger != nil:
		return t.stranger
	case m.new != nil && len(m.new) != len(t.columns), m.old != nil && len(m.old) != len(t.columns), m.kind == 'D' && m.old == nil, m.kind != 'D' && m.new == nil:
		return fmt.Errorf("%w: a row of table %s has another number of columns", errMalformed, t.table)
	case m.kind == 'U' && m.old == nil && t.table.Identity == IdentityFull:
		return fmt.Errorf("%w: an UPDATE of table %s without the row before", errMalformed, t.table)
	}
	return nil
}

func (at *attachment) truncated(m *truncateMessage) error {
	if at.ignore {
		return nil
	}
	var names []string
	for _, id := range m.ids {
		if t := at.relations[id]; t != nil && t.stranger == nil {
			names = append(names, t.table.String())
		}
	}
	return &Hopeless{Truncated, strings.Join(names, ", "), errors.New("it was truncated at the source while its rows were moved; cancel the move, or finish it and truncate again")}
}

// end takes the end of a source's transaction.
func (at *attachment) end(m *commitMessage) error {
	at.inside, at.at, at.when = false, m.end, m.at
	at.batchMarks = append(at.batchMarks, at.marks...)
	at.transactions++
	at.a.count(at.rows, at.ignore)
	// A marker is waited for.
	if len(at.batchMarks) > 0 || at.transactions >= batchTransactions || at.batch >= batchRows {
		return at.commit()
	}
	return nil
}

// commit commits what is whole. A marker is told when it is on the disk, and all before it: who waits for it may give the rows to clients then, and a target that
// crashes must not take back what it had.
func (at *attachment) commit() error {
	if at.inside || at.applied == at.at && len(at.batchMarks) == 0 {
		return nil
	}
	sync := len(at.batchMarks) > 0 || time.Since(at.hardened) >= at.a.config.durable()
	if at.sink.open {
		if err := at.sink.commit(at.at, at.when, sync); err != nil {
			return err
		}
		at.dirty = !sync
		if sync {
			at.hardened = time.Now()
		}
	} else if at.dirty && len(at.batchMarks) > 0 {
		if err := at.harden(); err != nil {
			return err
		}
	}
	at.applied = at.at
	if !at.dirty {
		at.durable = at.applied
	}
	at.a.advance(at.applied, at.durable, at.when, at.batchMarks)
	at.transactions, at.batch, at.batchMarks = 0, 0, nil
	return nil
}

// harden makes durable what is applied.
func (at *attachment) harden() error {
	if err := at.sink.harden(); err != nil {
		return err
	}
	at.dirty, at.hardened, at.durable = false, time.Now(), at.applied
	return nil
}

// tell makes durable what is applied, and tells the source.
func (at *attachment) tell() error {
	if !at.sink.open && at.dirty {
		if err := at.harden(); err != nil {
			return err
		}
	}
	confirm := at.durable
	if !at.inside && !at.dirty && !at.sink.open && at.applied == at.at {
		confirm = max(confirm, at.idle)
	}
	at.a.advance(max(at.applied, confirm), confirm, at.when, nil)
	return at.source.confirm(confirm)
}
