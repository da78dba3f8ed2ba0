// Command regress runs PostgreSQL's own regression suite (src/test/regress) twice, against a server and through the
// proxy in transaction mode, and compares. A test that fails only through the proxy is something that a client could
// notice; it makes the command fail unless limits.go gives the reason.
//
// It needs Debian's packages of PostgreSQL. Their source is fetched once into bench/out, without touching the system.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// options are the command line.
type options struct {
	out      string // where sources, outputs and differences go
	result   string // the directory of the Markdown file
	schedule string // a schedule of pg_regress; "" is parallel_schedule
	poolSize int
	only     string // "direct" or "proxy" runs one side and compares with the other's last run
}

func main() {
	var o options
	flag.StringVar(&o.out, "out", "bench/out/regress", "directory for sources and outputs")
	flag.StringVar(&o.result, "result", "bench/regress/results", "directory for the result")
	flag.StringVar(&o.schedule, "schedule", "", "schedule file (default the suite's parallel_schedule)")
	flag.IntVar(&o.poolSize, "pool", 20, "server connections of a pool")
	flag.StringVar(&o.only, "only", "", "run one side, direct or proxy, and compare with the last run of the other")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "regress:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	out, err := filepath.Abs(o.out)
	if err != nil {
		return fmt.Errorf("find output directory: %w", err)
	}
	suite, err := prepare(ctx, out)
	if err != nil {
		return err
	}
	var sides [2]outcome
	for i, side := range []string{sideDirect, sideProxy} {
		dir := filepath.Join(out, side)
		if o.only == "" || o.only == side {
			if err := runSide(ctx, suite, side, dir, o); err != nil {
				return fmt.Errorf("run %s: %w", side, err)
			}
		}
		if sides[i], err = readOutcome(dir); err != nil {
			return fmt.Errorf("read outcome of %s: %w", side, err)
		}
	}
	r := compare(suite, sides[0], sides[1])
	r.date, r.poolSize = time.Now().UTC(), o.poolSize
	if err := r.saveDiffs(filepath.Join(out, "diffs")); err != nil {
		return err
	}
	name := filepath.Join(o.result, "postgresql-"+suite.major+".md")
	if err := os.WriteFile(name, r.markdown(), 0o644); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	fmt.Print(string(r.markdown()))
	if unexplained := r.unexplained(); len(unexplained) > 0 {
		return fmt.Errorf("%d tests fail only through the proxy, differences in %s: %v", len(unexplained), filepath.Join(out, "diffs"), unexplained)
	}
	return nil
}
