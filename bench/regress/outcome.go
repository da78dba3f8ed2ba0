package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
)

// outcomeFile holds what pg_regress printed.
const outcomeFile = "pg_regress.out"

// outcome is how one run ended.
type outcome struct {
	dir    string
	order  []string // the tests as they ran
	passed map[string]bool
}

// readOutcome reads the last run in dir.
func readOutcome(dir string) (outcome, error) {
	o := outcome{dir: dir, passed: map[string]bool{}}
	printed, err := os.ReadFile(filepath.Join(dir, outcomeFile))
	if err != nil {
		return o, fmt.Errorf("read outcome: %w", err)
	}
	line := regexp.MustCompile(`^(?:test|    ) (\S+) +\.\.\. (ok|FAILED|failed \(ignored\))`)
	lines := bufio.NewScanner(bytes.NewReader(printed))
	for lines.Scan() {
		if found := line.FindStringSubmatch(lines.Text()); found != nil {
			o.order = append(o.order, found[1])
			o.passed[found[1]] = found[2] == "ok"
		}
	}
	if len(o.order) == 0 {
		return o, fmt.Errorf("read outcome: %s tells of no test", filepath.Join(dir, outcomeFile))
	}
	return o, lines.Err()
}

// failures lists the tests that failed, in their order.
func (o outcome) failures() []string {
	return slices.DeleteFunc(slices.Clone(o.order), func(name string) bool { return o.passed[name] })
}

func (o outcome) output(test string) string { return filepath.Join(o.dir, "results", test+".out") }

// sameOutput reports whether a test printed the same on both sides.
func sameOutput(a, b outcome, test string) bool {
	left, errLeft := os.ReadFile(a.output(test))
	right, errRight := os.ReadFile(b.output(test))
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

// diff is what the two sides printed differently.
func diff(a, b outcome, test string) ([]byte, error) {
	text, err := exec.Command("diff", "-u", "--label", test+" direct", "--label", test+" through the proxy", a.output(test), b.output(test)).Output()
	if err != nil && len(text) == 0 {
		return nil, fmt.Errorf("compare outputs of %s: %w", test, err)
	}
	return text, nil
}
