package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// profile counts the system calls of each proxy and samples its stacks under select-only, and writes both into dir.
// What the machine has no program or no permission for is left out with a line that says so.
func (s *series) profile(ctx context.Context, todo []workload, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of profiles: %w", err)
	}
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	for _, w := range todo {
		for _, t := range s.targets {
			if t.pid == 0 {
				continue
			}
			base := filepath.Join(dir, "profile-"+w.name+"-"+t.name)
			if err := s.countCalls(ctx, w, t, base+".strace"); err != nil {
				s.say("%s: system calls not counted: %v", t.name, err)
			}
			if err := s.sampleStacks(ctx, w, t, base); err != nil {
				s.say("%s: stacks not sampled: %v", t.name, err)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// countCalls runs a workload under strace, which slows it down several times: only the counts mean something.
func (s *series) countCalls(ctx context.Context, w workload, t *target, path string) error {
	done, err := observed(ctx, func() (pgbenchResult, error) { return s.pgbench.run(ctx, w, t, s.seconds, nil) },
		"strace", "-c", "-f", "-p", strconv.Itoa(t.pid), "-o", path)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open strace's table: %w", err)
	}
	defer file.Close()
	calls, err := parseStrace(file)
	if err != nil {
		return err
	}
	var text strings.Builder
	total := 0.0
	for _, one := range calls {
		each := float64(one.calls) / float64(done.transactions)
		total += each
		if each >= 0.005 {
			fmt.Fprintf(&text, "  %s %.2f", one.name, each)
		}
	}
	s.say("%-20s %-10s system calls a transaction: %.2f =%s", w.name, t.name, total, text.String())
	return nil
}

// sampleStacks runs a workload under perf and prints where the proxy spends its time.
func (s *series) sampleStacks(ctx context.Context, w workload, t *target, base string) error {
	_, err := observed(ctx, func() (pgbenchResult, error) { return s.pgbench.run(ctx, w, t, s.seconds, nil) },
		"perf", "record", "-q", "-g", "-F", sampleRate, "-p", strconv.Itoa(t.pid), "-o", base+".perf")
	if err != nil {
		return err
	}
	for _, table := range []struct {
		by    string // perf's sort key
		what  string
		lines int
	}{{"dso", "program or library", 5}, {"symbol", "function", 25}} {
		out, err := exec.CommandContext(ctx, "perf", "report", "-i", base+".perf", "--stdio", "--no-children", "-g", "none", "--sort", table.by).Output()
		if err != nil {
			return fmt.Errorf("read perf's samples: %w", err)
		}
		s.say("%s %s, share of the processor time by %s:\n%s", w.name, t.name, table.what, perfLines(string(out), table.lines))
		if err := os.WriteFile(base+"."+table.by, out, 0o644); err != nil {
			return fmt.Errorf("write profile: %w", err)
		}
	}
	return nil
}

// perfLines are the first lines of perf's table, without its remarks.
func perfLines(table string, n int) string {
	var kept []string
	for line := range strings.Lines(table) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && len(kept) < n {
			kept = append(kept, "          "+line)
		}
	}
	return strings.Join(kept, "\n")
}

// sampleRate is a second's samples: enough for functions of one percent within seconds, few enough to disturb little.
const sampleRate = "1999"

// attachTime is how long strace and perf get to attach to every thread.
const attachTime = 500 * time.Millisecond

// observed does something while a program that watches a process runs.
func observed(ctx context.Context, act func() (pgbenchResult, error), program string, args ...string) (pgbenchResult, error) {
	watcher := exec.CommandContext(ctx, program, args...)
	watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var complaint strings.Builder
	watcher.Stderr = &complaint
	if err := watcher.Start(); err != nil {
		return pgbenchResult{}, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(attachTime):
	}
	result, err := act()
	// Both programs write what they have on an interrupt, and then end by that signal or with an error status.
	signalled := watcher.Process.Signal(os.Interrupt)
	if errors.Is(signalled, os.ErrProcessDone) {
		signalled = fmt.Errorf("%s ended too early: %s", program, firstLines(complaint.String(), 2))
	}
	_ = watcher.Wait()
	return result, errors.Join(err, signalled)
}

// systemCall is a line of strace -c.
type systemCall struct {
	name  string
	calls int
}

// parseStrace reads the table of strace -c: "% time  seconds  usecs/call  calls  [errors]  syscall".
func parseStrace(table io.Reader) ([]systemCall, error) {
	const callsField, fewestFields = 3, 5
	var all []systemCall
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < fewestFields || fields[len(fields)-1] == "total" {
			continue
		}
		calls, err := strconv.Atoi(fields[callsField])
		if err != nil {
			continue // a heading or a rule
		}
		all = append(all, systemCall{name: fields[len(fields)-1], calls: calls})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read strace's table: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("read strace's table: it names no system call")
	}
	return all, nil
}
