package resharder

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgtier/proxy/shardmap"
)

// TestSequencesOfANewShardGiveOtherNumbers has clients take numbers all the time, some in transactions that stay open for longer than the mover waits at a time.
func TestSequencesOfANewShardGiveOtherNumbers(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	r.exec("s0", `CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, small serial, "Odd one" bigint DEFAULT nextval('serials_n_seq'))`)
	r.config.Map.Tables = append(r.config.Map.Tables, shardmap.Table{Name: "numbered", Key: []string{"id"}})
	ctx, stop := context.WithCancel(r.ctx())
	taken, waited := make(chan string, 1<<16), make(chan time.Duration, 1<<16)
	for i := range 3 {
		go func() { // ends with ctx
			l := r.link("s0")
			if err := l.run(ctx, "SET search_path = public"); err != nil {
				t.Error(err)
			}
			for ctx.Err() == nil {
				began := time.Now()
				err := l.Query(ctx, "BEGIN; SELECT nextval('public.numbered_id_seq')", func(fields [][]byte) error {
					taken <- string(fields[0])
					return nil
				})
				waited <- time.Since(began)
				if i == 0 {
					time.Sleep(150 * time.Millisecond)
				}
				if err == nil {
					err = l.run(ctx, "COMMIT")
				}
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
			}
		}()
	}
	r.start(Goal{To: r.names[:2]})
	r.carry()
	r.untilFollowing()
	stop()
	seen := map[string]bool{}
	for len(taken) > 0 {
		n := <-taken
		if seen[n] {
			t.Errorf("%s was given twice", n)
		}
		seen[n] = true
	}
	for _, name := range []string{"numbered_id_seq", "numbered_small_seq", "serials_n_seq", "pgtier.ids"} {
		given := map[string]bool{}
		for _, at := range r.names[:2] {
			for range 20 {
				n := r.value(at, fmt.Sprintf("SELECT nextval('%s')", name))
				if given[n] || name == "numbered_id_seq" && seen[n] {
					t.Errorf("%s gives %s twice", name, n)
				}
				given[n] = true
			}
		}
	}
	for len(waited) > 0 {
		if w := <-waited; w > 5*time.Second {
			t.Errorf("a client waited %s for a number", w)
		}
	}
}
