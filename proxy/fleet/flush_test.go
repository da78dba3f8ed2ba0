package fleet

import (
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/balance"
)

func TestFlushIsDue(t *testing.T) {
	const ms = time.Millisecond
	began := time.Now()
	type look struct {
		after               time.Duration
		epoch               uint64
		sought, visible, at balance.LSN
		flush               balance.LSN // carried out then, up to here; 0: not
	}
	for name, tc := range map[string]struct {
		looks []look
		want  time.Duration // after began; 0: not due
	}{
		"nobody waits":                       {[]look{{0, 1, 0, 10, 20, 0}}, 0},
		"all that was sought is visible":     {[]look{{0, 1, 20, 20, 30, 0}}, 0},
		"somebody waits":                     {[]look{{0, 1, 20, 10, 30, 0}}, flushAfter},
		"and goes on to":                     {[]look{{0, 1, 20, 10, 30, 0}, {40 * ms, 1, 25, 10, 30, 0}}, flushAfter},
		"one after the other":                {[]look{{0, 1, 20, 10, 30, 0}, {40 * ms, 1, 25, 20, 30, 0}}, 40*ms + flushAfter},
		"it was flushed":                     {[]look{{0, 1, 20, 10, 30, 40}, {60 * ms, 1, 20, 10, 40, 0}}, 0},
		"it was flushed, and more written":   {[]look{{0, 1, 20, 10, 30, 40}, {60 * ms, 1, 20, 10, 50, 0}}, flushRest},
		"beyond the log":                     {[]look{{0, 1, 1000, 30, 30, 0}}, 0},
		"beyond the log, which is not shown": {[]look{{0, 1, 1000, 10, 30, 0}}, flushAfter},
		"another manager":                    {[]look{{0, 1, 20, 10, 30, 40}, {60 * ms, 2, 20, 10, 30, 0}}, 60*ms + flushAfter},
	} {
		var f flusher
		var due time.Time
		var is bool
		for _, l := range tc.looks {
			due, is = f.due(began.Add(l.after), l.epoch, l.sought, l.visible, l.at)
			if l.flush != 0 {
				f.flushed, f.next = l.flush, began.Add(l.after+flushRest)
			}
		}
		if is != (tc.want != 0) || is && due.Sub(began) != tc.want {
			t.Errorf("%s: due %t, after %s; want %s", name, is, due.Sub(began), tc.want)
		}
	}
}

// openWrite starts a fleet over a manager whose commits wait for its one replica, and leaves a transaction open there that
// has written. It returns a position that includes the write, which is not flushed.
func openWrite(t *testing.T, user string) (r *rig, written balance.LSN) {
	t.Helper()
	r = start(t, localpg.Options{Replicas: 1, Settings: map[string]string{"autovacuum": "off"}}, quickConfig(), user)
	manager := r.shard.Manager
	pgtest.Exec(t, manager, "postgres", "CREATE TABLE t (id int)")
	admin := session(t, manager)
	run(t, admin, "REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC")
	if user == "weak" {
		run(t, admin, "GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO weak")
	}
	run(t, admin, "ALTER SYSTEM SET synchronous_standby_names = '"+r.shard.Replicas[0].Name+"'")
	run(t, admin, "SELECT pg_reload_conf()")
	until(t, "the manager waits for the standby", func() bool { return value(t, admin, "SHOW synchronous_standby_names") != "" })
	catchUp(t, r.shard)
	writer := session(t, manager)
	run(t, writer, "BEGIN")
	run(t, writer, "INSERT INTO t VALUES (1)")
	if value(t, writer, "SELECT (pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn())::text") != "true" {
		t.Fatal("what was written is flushed: the test proves nothing")
	}
	return r, lsn(t, writer, "SELECT pg_current_wal_insert_lsn()::text")
}

// TestVisiblePassesWhatNobodyFlushes: replicas cannot tell of an open transaction whose records they do not get.
func TestVisiblePassesWhatNobodyFlushes(t *testing.T) {
	for name, user := range map[string]string{"superuser": "", "ordinary role": "weak"} {
		t.Run(name, func(t *testing.T) {
			r, written := openWrite(t, user)
			began := time.Now()
			until(t, "the position is visible", func() bool { r.Seek(written - longHeader); return r.Visible() >= written-longHeader })
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			} else {
				t.Logf("it took %s", took)
			}
		})
	}
}

// TestNothingIsWrittenWhileNobodyWaits: also not while there would be something to flush.
func TestNothingIsWrittenWhileNobodyWaits(t *testing.T) {
	r, _ := openWrite(t, "")
	admin := session(t, r.shard.Manager)
	const next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text" // the server itself writes without ids
	before := value(t, admin, next)
	reached := r.Visible() // asks for the running transactions, but waits for nothing
	for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(10 * time.Millisecond) {
		r.Visible()
		r.Seek(min(reached, r.Visible()))
	}
	if after := value(t, admin, next); after != before {
		t.Errorf("the next transaction id went from %s to %s", before, after)
	}
}

// TestRoleMayNotFlush: without the right all goes on as if there were no flush.
func TestRoleMayNotFlush(t *testing.T) {
	r, written := openWrite(t, "barred")
	admin := session(t, r.shard.Manager)
	const monitors = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE application_name = 'pgtier monitor'"
	before := value(t, admin, monitors)
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(time.Millisecond) {
		r.Seek(written - longHeader)
	}
	if after := value(t, admin, monitors); after != before {
		t.Errorf("the monitor's connection was %s and is %s", before, after)
	}
	pgtest.Exec(t, r.shard.Manager, "postgres", "CREATE TABLE other (id int)") // whose commit flushes
	until(t, "the position is visible", func() bool { r.Seek(written - longHeader); return r.Visible() >= written-longHeader })
	if v := r.View(); v.Manager != 0 || v.Epoch != 1 {
		t.Errorf("the manager was given up:\n%s", show(v))
	}
}
