package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor times in /proc (USER_HZ, 100 on every Linux that Go runs on).
const tick = 10 * time.Millisecond

// The fields of /proc/<pid>/stat that follow the name in parentheses, counted from 0 (man 5 proc_pid_stat).
const (
	statParent = 1
	statUser   = 11
	statSystem = 12
	statReaped = 13 // user time of children that have ended and were waited for; system time follows
)

// processStat is the part of /proc/<pid>/stat that we need.
type processStat struct {
	state  byte // 'Z': ended, and its parent has not noticed
	parent int
	own    time.Duration // processor time of all its threads
	reaped time.Duration // processor time of its children that have ended
}

// parseStat reads the text of /proc/<pid>/stat.
func parseStat(text string) (processStat, error) {
	// The name may hold anything, parentheses included, so read from the last one on.
	end := strings.LastIndex(text, ") ")
	if end < 0 {
		return processStat{}, fmt.Errorf("read process status %q: no name", text)
	}
	fields := strings.Fields(text[end+2:])
	if len(fields) <= statReaped+1 {
		return processStat{}, fmt.Errorf("read process status %q: %d fields", text, len(fields))
	}
	var numbers [statReaped + 2]int64
	for i := statParent; i < len(numbers); i++ {
		var err error
		if numbers[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil && (i == statParent || i >= statUser) {
			return processStat{}, fmt.Errorf("read process status: %w", err)
		}
	}
	return processStat{
		state:  fields[0][0],
		parent: int(numbers[statParent]),
		own:    time.Duration(numbers[statUser]+numbers[statSystem]) * tick,
		reaped: time.Duration(numbers[statReaped]+numbers[statReaped+1]) * tick,
	}, nil
}

func statOf(pid int) (processStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processStat{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return parseStat(string(text))
}

// treeTime is the processor time of a process with its children, those that have ended included. For a postmaster
// that is the whole server: backends are its children and have none themselves. A proxy may work the same way.
//
// A child that ends moves from its own line to its parent's while we look, and would be missed or counted twice. So
// it looks again until the parent reaped nobody meanwhile.
func treeTime(pid int) (time.Duration, error) {
	const attempts = 1000 // each takes about a millisecond
	for range attempts {
		before, err := statOf(pid)
		if err != nil {
			return 0, err
		}
		children, err := childrenOf(pid)
		if err != nil {
			return 0, err
		}
		after, err := statOf(pid)
		if err != nil {
			return 0, err
		}
		total, complete := after.own+after.reaped, before.reaped == after.reaped
		for _, c := range children {
			total += c.own
			complete = complete && c.state != 'Z' // nobody was just ending
		}
		if complete {
			return total, nil
		}
	}
	return 0, fmt.Errorf("add up the processor time of process %d: its children end all the time", pid)
}

// child is a process and what /proc says of it.
type child struct {
	pid int
	processStat
}

// childrenOf lists the processes that a process has started itself and that have not ended.
func childrenOf(pid int) ([]child, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []child
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		stat, err := statOf(id)
		if err != nil || stat.parent != pid {
			continue // ended, and if it was ours the parent's line tells
		}
		all = append(all, child{pid: id, processStat: stat})
	}
	return all, nil
}

// sockets counts those that a process has open; 0 when it has ended.
func sockets(pid int) int {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // the process may be gone
	count := 0
	for _, entry := range entries {
		if to, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			count++
		}
	}
	return count
}

// memoryField reads one line of a file of /proc/<pid>, which gives kB, and returns bytes.
func memoryField(pid int, file, field string) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
	if err != nil {
		return 0, fmt.Errorf("look at the memory of process %d: %w", pid, err)
	}
	return parseMemory(string(text), field)
}

// parseMemory finds "<field>: <n> kB" and returns bytes.
func parseMemory(text, field string) (int64, error) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, field+":")
		if !found {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", field, err)
		}
		return kilobytes << 10, nil
	}
	return 0, fmt.Errorf("read %s: no such line", field)
}

// proportionalMemory is the memory of one process with its part of what is shared (PSS), in bytes.
func proportionalMemory(pid int) (int64, error) { return memoryField(pid, "smaps_rollup", "Pss") }

// peakMemory is the most that one process has held since forgetPeak, in bytes: PSS now, and what it has let go since
// its peak (VmHWM). The peak itself is known only with all that is shared, which many processes would count many times.
func peakMemory(pid int) (int64, error) {
	now, err := proportionalMemory(pid)
	if err != nil {
		return 0, err
	}
	peak, err := memoryField(pid, "status", "VmHWM")
	if err != nil {
		return 0, err
	}
	resident, err := memoryField(pid, "status", "VmRSS")
	return now + max(peak-resident, 0), err
}

// treeMemory adds up what a measure says of a process and of its children; it leaves out children that end meanwhile.
func treeMemory(pid int, measure func(pid int) (int64, error)) (int64, error) {
	total, err := measure(pid)
	if err != nil {
		return 0, err
	}
	children, err := childrenOf(pid)
	if err != nil {
		return 0, err
	}
	for _, c := range children {
		if bytes, err := measure(c.pid); err == nil {
			total += bytes
		}
	}
	return total, nil
}

// forgetPeaks makes the peaks of a process and its children start from now. Where the kernel does not permit it they are those
// since the start, which are higher: an error in nobody's favour.
func forgetPeaks(pid int) error {
	children, err := childrenOf(pid)
	if err != nil {
		return err
	}
	for _, c := range append(children, child{pid: pid}) {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", c.pid), []byte("5"), 0)
	}
	return nil
}
