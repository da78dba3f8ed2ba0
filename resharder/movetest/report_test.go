package movetest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
)

// witness is a test that tells on standard error at once what has gone wrong first, and where everything stood then: the logs of a test come at its end, and behind those of others.
type witness struct {
	testing.TB
	began time.Time

	mu   sync.Mutex
	told bool            // guarded by mu, as what follows
	tell []func() string // what there is to say, a line or several
}

// also has a first error come with what f says then, from any goroutine.
func (w *witness) also(f func() string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = append(w.tell, f)
}

// first tells about the first error, and of no other.
func (w *witness) first(text string) {
	w.mu.Lock()
	tell, told := w.tell, w.told
	w.told = true
	w.mu.Unlock()
	if told {
		return
	}
	lines := []string{fmt.Sprintf("%s went wrong after %.1f s: %s", w.Name(), time.Since(w.began).Seconds(), text)}
	for _, f := range tell {
		for line := range strings.SplitSeq(f(), "\n") {
			lines = append(lines, "    "+line)
		}
	}
	for i, line := range lines {
		lines[i] = fmt.Sprintf("%.*s", lineMost, line)
	}
	fmt.Fprintln(os.Stderr, strings.Join(lines, "\n"))
}

// lineMost is the longest line of a report, in letters.
const lineMost = 600

func (w *witness) Error(args ...any) {
	w.Helper()
	w.first(fmt.Sprint(args...))
	w.TB.Error(args...)
}

func (w *witness) Errorf(format string, args ...any) {
	w.Helper()
	w.first(fmt.Sprintf(format, args...))
	w.TB.Errorf(format, args...)
}

func (w *witness) Fatal(args ...any) {
	w.Helper()
	w.first(fmt.Sprint(args...))
	w.TB.Fatal(args...)
}

func (w *witness) Fatalf(format string, args ...any) {
	w.Helper()
	w.first(fmt.Sprintf(format, args...))
	w.TB.Fatalf(format, args...)
}

// askLimit bounds what is asked of one server for a report, or for where the job stands.
const askLimit = 5 * time.Second

// ask asks a server directly, and fails nothing.
func ask(url, sql string) (rows []string, err error) {
	ctx, stop := context.WithTimeout(context.Background(), askLimit)
	defer stop()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	found, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowTo[string])
}

// standing is where the job is, "" where nobody can say: it changes with every step, wish, member and group.
func (r *rig) standing() string {
	rows, err := ask(r.controlURL(), `SELECT format('job %s, step %s, wish %s, %s of %s groups cut over, version %s, error %L', number, step, wish,
	progress::jsonb->>'groups_done', progress::jsonb->>'groups', (SELECT max(version) FROM pgtier.map), left(error, 100)) FROM pgtier.job ORDER BY number DESC LIMIT 1`)
	if err != nil || len(rows) == 0 {
		return ""
	}
	return rows[0]
}

// report says who runs, where the job is and who waits for whom on the servers.
func (r *rig) report() string {
	var lines, runs []string
	for _, d := range r.proxies {
		runs = append(runs, d.name+" "+map[bool]string{false: "runs", true: "is down"}[d.away(time.Now())])
	}
	for _, s := range r.cluster.Servers() {
		runs = append(runs, s.Name+" "+map[bool]string{false: "runs", true: "is down"}[s.PID() == 0])
	}
	lines = append(lines, strings.Join(runs, ", "))
	add := func(who, url, sql string) {
		rows, err := ask(url, sql)
		if err != nil {
			rows = []string{err.Error()}
		}
		for _, row := range rows {
			lines = append(lines, who+": "+strings.ReplaceAll(row, "\n", " "))
		}
	}
	add("control", r.controlURL(), `SELECT format('job %s, step %s, wish %s, carried by %s, %s of %s groups cut over, %s misses; does %L; trouble %L; error %L', number, step, wish, mover,
	progress::jsonb->>'groups_done', progress::jsonb->>'groups', progress::jsonb->>'misses', left(progress::jsonb->>'doing', 100), left(progress::jsonb->>'trouble', 200), left(error, 200))
	FROM pgtier.job ORDER BY number DESC LIMIT 1`)
	add("control", r.controlURL(), `SELECT format('proxy %s acts by motion %s of %s, said %s s ago', p.name, p.number, m.number, extract(epoch FROM clock_timestamp() - p.at)::int)
	FROM pgtier.proxy AS p JOIN pgtier.motion AS m ON m.database = p.database WHERE p.at > clock_timestamp() - interval '1 minute' ORDER BY p.at DESC LIMIT 4`)
	for i, s := range r.cluster.Shards {
		add(s.Manager.Name, r.direct(i), waitsSQL)
	}
	return strings.Join(lines, "\n")
}

// waitsSQL are transactions that wait for others or for their client, and prepared ones, where that takes long.
const waitsSQL = `(SELECT format('process %s (%s) in its transaction for %s s, %s, behind %s: %s', pid, application_name, extract(epoch FROM clock_timestamp() - xact_start)::int, state, pg_blocking_pids(pid), left(query, 80))
	FROM pg_stat_activity WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '5 seconds' AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 3)
UNION ALL (SELECT format('prepared transaction %s for %s s', gid, extract(epoch FROM clock_timestamp() - prepared)::int)
	FROM pg_prepared_xacts WHERE database = current_database() AND prepared < clock_timestamp() - interval '5 seconds' ORDER BY prepared LIMIT 3)`

// controlURL is that of the control database.
func (r *rig) controlURL() string { return r.controlServer().URL(r.control, "", "") }

// controlServer is the last server.
func (r *rig) controlServer() *localpg.Server { return r.cluster.Shards[3].Manager }
