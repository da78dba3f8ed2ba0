package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestProcessStatusIsReadBehindAnyName(t *testing.T) {
	const line = "12246 (a) S 1 (b) S 12245 12246 12246 0 -1 4194560 5667 7385718 1 701 2 3 22088 23198 20 0 1 0 300053 5500928 1063 18446744073709551615 93867151593472\n"
	got, err := parseStat(line)
	want := processStat{state: 'S', parent: 12245, own: 50 * time.Millisecond, reaped: (22088 + 23198) * 10 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2 3"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

func TestMemoryIsReadInBytes(t *testing.T) {
	const rollup = "5610deb44000-7ffc2b884000 ---p 00000000 00:00 0                          [rollup]\nRss:                1816 kB\nPss:                 246 kB\nPss_Dirty:           112 kB\n"
	if got, err := parseMemory(rollup, "Pss"); err != nil || got != 246<<10 {
		t.Errorf("got %d, %v, want %d", got, err, 246<<10)
	}
	if got, err := parseMemory(rollup, "Swap"); err == nil {
		t.Errorf("a missing line: got %d, want an error", got)
	}
}

// A child's time must count while it runs and after it has ended, and never twice.
func TestTreeTimeKeepsTheTimeOfChildrenThatEnd(t *testing.T) {
	self := os.Getpid()
	before, err := treeTime(self)
	if err != nil {
		t.Fatal(err)
	}
	// The shell counts until its own clock says that it has worked for a while.
	child := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; read line")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Process.Kill()
	worked := func() time.Duration {
		stat, err := statOf(child.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return stat.own
	}
	deadline := time.Now().Add(30 * time.Second)
	for worked() < 5*tick {
		if time.Now().After(deadline) {
			t.Fatalf("the child has worked for %s only", worked())
		}
		time.Sleep(tick)
	}
	running, err := treeTime(self)
	if err != nil {
		t.Fatal(err)
	}
	if running-before < 5*tick {
		t.Errorf("while the child runs: got %s more, want at least %s", running-before, 5*tick)
	}
	input.Write([]byte("\n"))
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	ended, err := treeTime(self)
	if err != nil {
		t.Fatal(err)
	}
	used := child.ProcessState.UserTime() + child.ProcessState.SystemTime()
	if more := ended - before; more < used-2*tick || more > used+time.Second {
		t.Errorf("after the child's end: got %s more, want about the child's %s", more, used)
	}
}

// A proxy with a process for each client is the sum of them; what one has let go again was held once.
func TestPeakMemoryHoldsThatOfChildren(t *testing.T) {
	self := os.Getpid()
	if err := forgetPeaks(self); err != nil {
		t.Fatal(err)
	}
	before, err := treeMemory(self, peakMemory)
	if err != nil {
		t.Fatal(err)
	}
	const held = 32 << 20
	shell := exec.Command("/bin/sh", "-c", "x=$(head -c 33554432 /dev/zero | tr '\\0' x); x=; echo; read line")
	input, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	defer shell.Wait()
	defer input.Close()
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	after, err := treeMemory(self, peakMemory)
	if err != nil {
		t.Fatal(err)
	}
	if after-before < held {
		t.Errorf("with a child that has held %d bytes: got %d more", held, after-before)
	}
}

func TestTableOfStraceIsRead(t *testing.T) {
	const table = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 40.04    0.602808        1327       454           nanosleep
  7.57    0.113958           6     16328        38 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    1.505650          42     35202        76 total
`
	got, err := parseStrace(strings.NewReader(table))
	if want := []systemCall{{"nanosleep", 454}, {"recvfrom", 16328}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := parseStrace(strings.NewReader("strace: attach: Operation not permitted\n")); err == nil {
		t.Errorf("no table: got %v, want an error", got)
	}
}
