package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgtier/router/shard"
)

// TestBothDirectionsAtOnceEndAlike writes on both sides, in different buckets as groups are on different sides after some cuts, and streams both ways.
func TestBothDirectionsAtOnceEndAlike(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.fill(200)
	forward := p.prepare(p.forward())
	reverse := p.prepare(p.reverse())
	reverse.Close()
	p.copy(forward)
	a, stopA, hopelessA := run(t, p.forward())
	b, stopB, hopelessB := run(t, p.reverse())
	// Users of moved buckets, half written here and half there.
	key := p.tables(p.target)[0].Key
	here := fmt.Sprintf("SELECT count(*) FROM users WHERE %s", inSpans(key.Expression(""), p.spans[:1]))
	if got := p.target.value(here); got == "0" {
		t.Fatal("no users in the first span")
	}
	write := func(s *side, spans []shard.Span, n int) {
		for i := range n {
			s.exec(fmt.Sprintf(`UPDATE users SET name = 'at %[1]s %[2]d' WHERE %[3]s; INSERT INTO log SELECT id, 'at %[1]s', NULL, %[2]d FROM users WHERE %[3]s LIMIT 5;
DELETE FROM log WHERE ctid IN (SELECT log.ctid FROM log JOIN users u ON u.id = log.user_id WHERE %[4]s LIMIT 3)`, s.Name, i, inSpans(key.Expression(""), spans), inSpans(key.Expression("u"), spans)))
		}
	}
	done := make(chan struct{})
	go func() { // ends after its writes; it is waited for below
		defer close(done)
		write(p.source, p.spans[:1], 30)
	}()
	write(p.target, p.spans[1:], 30)
	<-done
	settled(t, a, hopelessA)
	settled(t, b, hopelessB)
	settled(t, a, hopelessA)
	p.same()
	rows := a.Status().Rows + b.Status().Rows
	// Nothing goes round: what came from the other side is passed over, not applied again.
	settled(t, a, hopelessA)
	settled(t, b, hopelessB)
	if now := a.Status().Rows + b.Status().Rows; now != rows || a.Status().Ignored == 0 || b.Status().Ignored == 0 || rows == 0 {
		t.Errorf("rows went from %d to %d without a write; forward %+v, reverse %+v", rows, now, a.Status(), b.Status())
	}
	stopA()
	stopB()
}

// TestRowsThatAreCopiedAndDeletedStayOutOfTheOtherStream has the reverse slot from before the copy, as moves have.
func TestRowsThatAreCopiedAndDeletedStayOutOfTheOtherStream(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.fill(200)
	p.prepare(p.reverse()).Close()
	before := p.rowsOf(p.source, p.tables(p.source)[0])
	p.copy(p.prepare(p.forward()))
	p.same()
	n, err := DeleteBuckets(contextFor(t), p.target.Server, p.tables(p.target), p.spans, nil)
	must(t, err)
	if n < 300 {
		t.Errorf("%d rows deleted", n)
	}
	b, _, hopeless := run(t, p.reverse())
	settled(t, b, hopeless)
	if got := p.rowsOf(p.source, p.tables(p.source)[0]); got != before {
		t.Errorf("the reverse stream has taken rows from the source: %.200q instead of %.200q", got, before)
	}
	if s := b.Status(); s.Rows != 0 || s.Ignored == 0 {
		t.Errorf("status %+v", s)
	}
}

func TestDeleteLeavesOtherBucketsAlone(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.fill(3000)
	users := p.tables(p.source)[0]
	p.source.exec("CREATE TRIGGER no BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION refuse()")
	total := p.source.value("SELECT count(*) FROM users")
	moved, err := Count(contextFor(t), p.source.Server, users, p.spans)
	must(t, err)
	calls := int64(0)
	n, err := DeleteBuckets(contextFor(t), p.source.Server, []*Table{users}, p.spans, func(_ context.Context, rows int64) error { calls += rows; return nil })
	must(t, err)
	left, err := Count(contextFor(t), p.source.Server, users, p.spans)
	must(t, err)
	if got := p.source.value("SELECT count(*) + " + fmt.Sprint(n) + " FROM users"); n != moved || n == 0 || left != 0 || got != total || calls != n {
		t.Errorf("%d of %d rows deleted, throttle told of %d, %d left; %s rows of %s in all", n, moved, calls, left, got, total)
	}
}

func TestMarkersComeAfterWhatIsBeforeThem(t *testing.T) {
	p := newPair(t, schemaSQL, testLayout())
	p.copy(p.prepare(p.forward()))
	a, stop, _ := run(t, p.forward())
	must(t, a.Barrier(contextFor(t)))
	conn, err := p.source.connect(contextFor(t))
	must(t, err)
	defer hangUp(conn)
	ctx := contextFor(t)
	for i := range 50 {
		marker := NewMarker()
		_, err := query(ctx, conn, fmt.Sprintf("BEGIN; INSERT INTO public.countries VALUES ('%d', 'x')", i))
		must(t, err)
		must(t, Emit(ctx, conn, marker))
		_, err = query(ctx, conn, "COMMIT")
		must(t, err)
		must(t, a.Await(ctx, marker))
		if got := p.target.value(fmt.Sprintf("SELECT count(*) FROM countries WHERE code = '%d'", i)); got != "1" {
			t.Fatalf("marker %d came before its row", i)
		}
	}
	// One of a transaction that is rolled back never comes.
	lost := NewMarker()
	_, err = query(ctx, conn, "BEGIN")
	must(t, err)
	must(t, Emit(ctx, conn, lost))
	_, err = query(ctx, conn, "ROLLBACK")
	must(t, err)
	awaited := make(chan error, 1)
	go func() { awaited <- a.Await(ctx, lost) }() // ends when the stream does
	must(t, a.Barrier(ctx))
	time.Sleep(50 * time.Millisecond)
	stop()
	if err := <-awaited; !errors.Is(err, ErrDetached) {
		t.Errorf("a marker that is lost: %v, want %v", err, ErrDetached)
	}
	// From before the next attachment, and after it.
	early := NewMarker()
	must(t, Emit(ctx, conn, early))
	again, _, _ := run(t, p.forward())
	must(t, again.Await(ctx, early))
	must(t, again.Barrier(ctx))
}
