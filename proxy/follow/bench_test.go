package follow

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"pgtier/cmd/localpg/pgtest"
)

// BenchmarkDecode is a row of two columns, of which as many are kept as fit, in transactions of ten and of a million.
func BenchmarkDecode(b *testing.B) {
	cfg := DefaultConfig()
	row := changeOf('U', 1, tupleOf('N', "123456", "some text of a usual length"))
	for name, rows := range map[string]int{"ten": 10, "million": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			d := newDecoder(&cfg, &counters{})
			if _, err := d.message(relationOf(1, "id", "v")); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%rows == 0 {
					if n > 0 {
						_, _ = d.message(commit(uint64(n + 100)))
					}
					_, _ = d.message(begin(1))
				}
				if _, err := d.message(row); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
	}
}

// benchSink says when Changed comes.
type benchSink struct{ changed chan time.Time }

func (s benchSink) Changing(*Commit) {}
func (s benchSink) Changed(*Commit)  { s.changed <- time.Now() }
func (s benchSink) Resumed(*Tables)  {}
func (s benchSink) Lost()            {}

// BenchmarkPulse is one question for what is visible, over a socket.
func BenchmarkPulse(b *testing.B) {
	server := shared.Cluster(b).Shards[0].Manager
	cfg := DefaultConfig()
	a, err := openAsker(b.Context(), dialTo(server, "postgres", ""), &cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer a.close()
	for b.Loop() {
		if _, err := a.pulse(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSurvey is one look at a thousand tables.
func BenchmarkSurvey(b *testing.B) {
	server := shared.Cluster(b).Shards[0].Manager
	database := pgtest.Database(b, server)
	pgtest.Exec(b, server, database, "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', i); END LOOP; END $$; ANALYZE pg_class")
	cfg := DefaultConfig()
	a, err := openAsker(b.Context(), dialTo(server, database, ""), &cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer a.close()
	for b.Loop() {
		if _, err := a.survey("none"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit is a commit of one row until it was told as changed; late is the part after its session heard of it.
func BenchmarkCommit(b *testing.B) {
	server := shared.Cluster(b).Shards[0].Manager
	database := pgtest.Database(b, server)
	pgtest.Exec(b, server, database, "CREATE TABLE a (id serial PRIMARY KEY)")
	s := benchSink{make(chan time.Time, 1000)}
	f := New(DefaultConfig(), dialTo(server, database, ""), s, zap.NewNop())
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ended by cancel
		f.Run(ctx)
		close(ended)
	}()
	defer func() { cancel(); <-ended }()
	for f.Stats().Tables == 0 {
		time.Sleep(time.Millisecond)
	}
	cfg := DefaultConfig()
	a, err := openAsker(b.Context(), dialTo(server, database, ""), &cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer a.close()
	var late time.Duration
	n := 0
	for b.Loop() {
		if err := a.run("INSERT INTO public.a DEFAULT VALUES", nil); err != nil {
			b.Fatal(err)
		}
		heard := time.Now()
		late += max(0, (<-s.changed).Sub(heard))
		n++
	}
	b.ReportMetric(float64(late.Microseconds())/float64(n), "late-µs")
}
