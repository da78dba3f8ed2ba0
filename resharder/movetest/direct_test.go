package movetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// goPast has somebody write entries past the proxies, to any server that is a shard or becomes one, until end. Who does not own the account's bucket must refuse that at every moment, and
// what a server has taken must be there in the end. It returns how many were refused by the fence.
func (l *load) goPast(random *rand.Rand) (fenced func() int) {
	n := 0
	l.work.Go(func() { // ends with stop
		conns := make([]*pgx.Conn, len(l.r.cluster.Shards))
		defer func() {
			for _, conn := range conns {
				if conn != nil {
					_ = conn.Close(context.Background())
				}
			}
		}()
		for i := 0; !l.stopped(); i++ {
			at, name := random.IntN(len(conns)), fmt.Sprintf("past/%d", i)
			ctx, stop := context.WithTimeout(context.Background(), operationLimit)
			var err error
			if conns[at] == nil {
				if conns[at], err = pgx.Connect(ctx, l.r.direct(at)); err != nil {
					l.wrong("past the proxies: %v", err)
				}
			}
			guarded := at == 0
			if err == nil && !guarded { // a server that is no shard yet takes what it is given
				err = conns[at].QueryRow(ctx, "SELECT count(*) > 0 FROM pg_trigger WHERE tgname = 'zzz_pgtier_guard_insert' AND tgrelid = to_regclass('entries')").Scan(&guarded)
				if err != nil {
					l.wrong("past the proxies: %v", err)
				}
			}
			if err == nil && guarded {
				l.token("entries", name)
				_, err = conns[at].Exec(ctx, "INSERT INTO entries (account, id, amount) VALUES ($1, $2, 0)", random.IntN(accounts), name)
				switch code := stateOf(err); {
				case err == nil:
					l.settle(happened, "entries", name)
				case code == "PT001":
					l.mu.Lock()
					n++
					l.mu.Unlock()
					l.settle(refused, "entries", name)
				default:
					l.wrong("past the proxies, to s%d: %v", at, err)
				}
			}
			stop()
			time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond)
		}
	})
	return func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return n
	}
}
