package session

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
	"pgtier/router/shard"
)

// asked asks over a connection.
type asked struct{ conn *pgconn.PgConn }

func (q asked) Query(ctx context.Context, sql string, visit func([][]byte) error) error {
	results, err := q.conn.Exec(ctx, sql).ReadAll()
	for _, result := range results {
		for _, row := range result.Rows {
			if err := visit(row); err != nil {
				return err
			}
		}
	}
	return err
}

// surveyed are sessions of a database whose accounts are spread over three shards by id, each with requests that one shard
// answers.
func surveyed(t testing.TB) (*Layout, map[string]*Session, map[string][]byte) {
	t.Helper()
	server := pgtest.Start(t, localpg.Options{}).Shards[0].Manager
	name := pgtest.Database(t, server)
	pgtest.Exec(t, server, name, "CREATE TABLE accounts (id int PRIMARY KEY, balance int)")
	conn, err := pgconn.Connect(t.Context(), server.URL(name, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	watcher := catalog.NewWatcher(asked{conn}, time.Hour, zap.NewNop(), catalog.Relations)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		watcher.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		_ = conn.Close(context.Background())
	})
	if err := watcher.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := &plan.Config{Shards: []shard.Name{"s0", "s1", "s2"}, Buckets: 1024, Tables: map[string][]string{"accounts": {"id"}}}
	m, err := shard.Even(1, config.Buckets, config.Shards...)
	if err != nil {
		t.Fatal(err)
	}
	schema, _, err := plan.NewSchema(config, watcher.Snapshot(), plan.Placement{Map: m})
	if err != nil {
		t.Fatal(err)
	}
	l := &Layout{Schema: schema}
	for _, name := range config.Shards {
		l.Shards = append(l.Shards, &Database{Hazards: watcher, Shard: func() string { return string(name) }})
	}
	const sql = "SELECT balance FROM accounts WHERE id = $1"
	id := "4711"
	cache := parser.NewCache(1 << 20)
	simple := wire.AppendQuery(nil, "SELECT balance FROM accounts WHERE id = 4711")
	bind := wire.AppendBindText(nil, "named", []*string{&id})
	run := wire.AppendSync(wire.AppendExecute(bind))
	sessions := map[string]*Session{
		"simple":   {work: &work{items: []item{{typ: wire.MsgQuery, size: len(simple), end: true, st: cache.Statement([]byte("SELECT balance FROM accounts WHERE id = 4711"))}}}},
		"prepared": {work: &work{items: []item{{typ: wire.MsgBind, size: len(bind)}, {typ: wire.MsgExecute, off: len(bind), size: 10}, {typ: wire.MsgSync, off: len(run) - 5, size: 5, end: true}}}},
	}
	facts := cache.Statement([]byte(sql))
	sessions["prepared"].names = map[string]*backend.Statement{"named": {Text: []byte(sql), Facts: facts, Runs: facts}}
	for _, s := range sessions {
		s.db, s.at, s.tx = l.Shards[0], l.Shards[0], wire.TxIdle
	}
	return l, sessions, map[string][]byte{"simple": simple, "prepared": run}
}

// surveyOnce does what sharding adds to a turn that one shard answers, but for the choice of its pool.
func surveyOnce(tb testing.TB, s *Session, l *Layout, req []byte) {
	v := s.survey(l, req)
	if v.refusal != nil || v.wide || v.at < 0 {
		tb.Fatalf("refused %v, wide %v, shard %d", v.refusal, v.wide, v.at)
	}
	s.tell(&v)
	s.routeShards(l, &v.why, v.at)
}

func TestSurveyAllocatesNothing(t *testing.T) {
	l, sessions, requests := surveyed(t)
	for name, s := range sessions {
		if n := testing.AllocsPerRun(1000, func() { surveyOnce(t, s, l, requests[name]) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkSurvey(b *testing.B) {
	l, sessions, requests := surveyed(b)
	for name, s := range sessions {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				surveyOnce(b, s, l, requests[name])
			}
		})
	}
}
