package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

func (p *pair) verify(barrier func(context.Context) error) *Verify {
	return &Verify{Source: p.source.Server, Target: p.target.Server, Tables: p.tables(p.source), Spans: p.spans, Barrier: barrier}
}

// settled waits until all changes so far are applied, and fails if the stream cannot go on.
func settled(t *testing.T, a *Applier, hopeless <-chan *Hopeless) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(contextFor(t))
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() { // ends with the test's part
		select {
		case h := <-hopeless:
			cancel(h)
		case <-done:
		}
	}()
	must(t, a.Barrier(ctx))
}

func TestVerifyFindsPlantedRowsAndNothingElse(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.fill(600)
	slot := p.prepare(p.forward())
	p.copy(slot)
	a, _, hopeless := run(t, p.forward())
	settled(t, a, hopeless)
	// The target's columns may stand in another order.
	p.target.exec("ALTER TABLE countries RENAME TO old; CREATE TABLE countries (name text, code text PRIMARY KEY); INSERT INTO countries SELECT name, code FROM old")
	for _, barrier := range []func(context.Context) error{nil, a.Barrier} {
		v := p.verify(barrier)
		if found, err := v.Run(contextFor(t)); err != nil || len(found) != 0 || v.Unsettled != 0 {
			t.Fatalf("equal sides: %v, %v, %d unsettled", found, err, v.Unsettled)
		}
	}
	in := "WHERE " + inSpans(p.tables(p.target)[0].Key.Expression(""), p.spans)
	id := p.target.value("SELECT id FROM users " + in + " ORDER BY id LIMIT 1")
	extra := p.source.value("SELECT i FROM (SELECT i AS id, i FROM generate_series(100000, 200000) i) q " + in + " ORDER BY 1 LIMIT 1")
	gone := p.target.value("SELECT id FROM users " + in + " ORDER BY id DESC LIMIT 1")
	p.target.exec(fmt.Sprintf(`SET session_replication_role = replica; UPDATE users SET n = n + 0.00 WHERE id = %s; INSERT INTO users (id) VALUES (%s); DELETE FROM users WHERE id = %s;
UPDATE log SET line = 'two that are alike' WHERE user_id = (SELECT min(user_id) FROM log); UPDATE countries SET name = 'Italy' WHERE code = 'fr'`, id, extra, gone))
	p.target.exec("UPDATE users SET n = 1.10 WHERE id = " + id)
	p.source.exec("UPDATE users SET n = 1.1 WHERE id = 0") // nothing: the stream goes on
	for _, barrier := range []func(context.Context) error{nil, a.Barrier} {
		v := p.verify(barrier)
		found, err := v.Run(contextFor(t))
		must(t, err)
		text := fmt.Sprint(found)
		for _, want := range []string{"(" + id + ")", "(" + extra + ")", "(" + gone + ")", "table public.log", "table public.countries, bucket -1, chunk 0: 1 rows differ, among them (fr)"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not among what was found: %s", want, text)
			}
		}
		rows := 0
		for _, d := range found {
			rows += d.Rows
		}
		if rows != 6 || v.Unsettled != 0 {
			t.Errorf("%d rows found instead of 6: %s; %d unsettled", rows, text, v.Unsettled)
		}
	}
}

func TestVerifyUnderLoadIsNotMisled(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.fill(400)
	slot := p.prepare(p.forward())
	p.copy(slot)
	a, _, hopeless := run(t, p.forward())
	stop := p.load(p.source, 2, 1, 400)
	settled(t, a, hopeless)
	v := p.verify(a.Barrier)
	found, err := v.Run(contextFor(t))
	if err != nil || len(found) != 0 {
		t.Errorf("equal sides under load: %v, %v", found, err)
	}
	in := "WHERE " + inSpans(p.tables(p.target)[0].Key.Expression(""), p.spans)
	id := p.target.value("SELECT id FROM users " + in + " AND big IS NOT NULL ORDER BY id LIMIT 1")
	p.target.exec("SET session_replication_role = replica; UPDATE users SET big = 'wrong' WHERE id = " + id)
	p.source.exec("UPDATE users SET name = 'not to be touched by the load', at = 'infinity' WHERE id = " + id)
	found, err = v.Run(contextFor(t))
	if err != nil || len(found) != 1 || found[0].Rows != 1 || found[0].Keys[0] != "("+id+")" {
		t.Errorf("a wrong row under load: %v, %v; want that of user %s", found, err, id)
	}
	stop()
	settled(t, a, hopeless)
	p.target.exec("SET session_replication_role = replica; UPDATE users SET big = " + literal(p.source.value("SELECT big FROM users WHERE id = "+id)) + " WHERE id = " + id)
	p.same()
}

// TestVerifyWaitsForTheTarget holds the target up by a lock: what it does not have yet is not missing.
func TestVerifyWaitsForTheTarget(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.fill(100)
	p.copy(p.prepare(p.forward()))
	a, _, hopeless := run(t, p.forward())
	settled(t, a, hopeless)
	conn, err := p.target.connect(contextFor(t))
	must(t, err)
	defer hangUp(conn)
	_, err = query(contextFor(t), conn, "BEGIN; LOCK TABLE public.users IN EXCLUSIVE MODE")
	must(t, err)
	p.source.exec("UPDATE users SET name = 'held up'; INSERT INTO users (id) SELECT generate_series(1000, 1100); DELETE FROM events")
	released := make(chan struct{})
	defer func() { <-released }()
	go func() { // ends by itself
		defer close(released)
		time.Sleep(time.Second)
		_, _ = query(context.Background(), conn, "COMMIT")
	}()
	v := p.verify(a.Barrier)
	if found, err := v.Run(contextFor(t)); err != nil || len(found) != 0 || v.Unsettled != 0 {
		t.Errorf("found %v, %v, %d unsettled", found, err, v.Unsettled)
	}
}

// TestVerifyLeavesWhatNeverRests has a row that is another at the source whenever it is looked at.
func TestVerifyLeavesWhatNeverRests(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.fill(100)
	p.copy(p.prepare(p.forward()))
	id := p.target.value("SELECT min(id) FROM users")
	version := 0
	write := func(sides ...*side) {
		version++
		for _, s := range sides {
			s.exec(fmt.Sprintf("SET session_replication_role = replica; UPDATE users SET name = 'version %d' WHERE id = %s", version, id))
		}
	}
	write(p.source)
	v := p.verify(func(context.Context) error { write(p.source, p.target); write(p.source); return nil })
	if found, err := v.Run(contextFor(t)); err != nil || len(found) != 0 || v.Unsettled != 1 {
		t.Errorf("found %v, %v, %d unsettled", found, err, v.Unsettled)
	}
}
