package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// report compares two runs.
type report struct {
	suite         suite
	direct, proxy outcome
	differing     []difference
	date          time.Time
	poolSize      int
}

// difference is a test that ended, or that fails and printed, differently.
type difference struct {
	test              string
	okDirect, okProxy bool
	reason            string // "" when nothing explains it
}

func compare(s suite, direct, proxied outcome) report {
	r := report{suite: s, direct: direct, proxy: proxied}
	for _, test := range direct.order {
		okDirect, okProxy := direct.passed[test], proxied.passed[test]
		if okDirect == okProxy && (okDirect || sameOutput(direct, proxied, test)) {
			continue
		}
		r.differing = append(r.differing, difference{test, okDirect, okProxy, limits()[test]})
	}
	return r
}

// unexplained lists the tests that fail only through the proxy for no documented reason.
func (r report) unexplained() []string {
	var names []string
	for _, d := range r.differing {
		if d.okDirect && !d.okProxy && d.reason == "" {
			names = append(names, d.test)
		}
	}
	for _, test := range r.direct.order {
		if !slices.Contains(r.proxy.order, test) {
			names = append(names, test+" (did not run)")
		}
	}
	return names
}

// saveDiffs writes what each differing test printed differently.
func (r report) saveDiffs(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove old differences: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of differences: %w", err)
	}
	for _, d := range r.differing {
		text, err := diff(r.direct, r.proxy, d.test)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, d.test+".diff"), text, 0o644); err != nil {
			return fmt.Errorf("write difference: %w", err)
		}
	}
	return nil
}

// markdown is the file for bench/regress/results.
func (r report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# PostgreSQL %s's regression suite through the proxy\n\n", r.suite.major)
	fmt.Fprintf(&b, "`make regress`, %s, Debian's postgresql-%s %s, %s.\n\n", r.date.Format("2006-01-02"), r.suite.major, r.suite.version, platform())
	fmt.Fprintf(&b, "The suite (`parallel_schedule`) ran with psql on a fresh server, and on another one through the proxy in transaction mode\n"+
		"with %d server connections a pool.\n\n", r.poolSize)
	b.WriteString("| | tests | ok | failed |\n|---|---|---|---|\n")
	for _, side := range []struct {
		name string
		o    outcome
	}{{"direct", r.direct}, {"through the proxy", r.proxy}} {
		failures := side.o.failures()
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", side.name, len(side.o.order), len(side.o.order)-len(failures), len(failures))
	}
	b.WriteString("\n")
	if failures := r.direct.failures(); len(failures) > 0 {
		fmt.Fprintf(&b, "Failing directly: %v.\n\n", failures)
	}
	if len(r.differing) == 0 {
		b.WriteString("No test ends differently through the proxy.\n")
		return b.Bytes()
	}
	b.WriteString("| differing test | direct | proxy | reason |\n|---|---|---|---|\n")
	for _, d := range r.differing {
		reason := d.reason
		if reason == "" {
			reason = "not explained"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", d.test, word(d.okDirect), word(d.okProxy), reason)
	}
	return b.Bytes()
}

func word(ok bool) string {
	if ok {
		return "ok"
	}
	return "failed"
}
