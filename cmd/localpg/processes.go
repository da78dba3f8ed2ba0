package localpg

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Every backend is the leader of its own session (InitPostmasterChild calls setsid), so a signal to the postmaster's
// process group reaches nobody else: the children must be found and signalled one by one.

// killPatience is how long processes may take to vanish after SIGKILL; one that sleeps in the kernel takes a while.
const killPatience = 10 * time.Second

// Pause freezes the server: it keeps its connections and its listening socket, and never answers.
func (s *Server) Pause() error {
	p := s.current()
	if p == nil || !p.running() {
		return fmt.Errorf("%s: pause: it does not run", s.Name)
	}
	if _, err := freeze(p.pid); err != nil {
		return fmt.Errorf("%s: pause: %w", s.Name, err)
	}
	return nil
}

// Continue wakes a paused server up. One that is not paused does not notice.
func (s *Server) Continue() error {
	p := s.current()
	if p == nil || !p.running() {
		return fmt.Errorf("%s: continue: it does not run", s.Name)
	}
	children, err := childrenOf(p.pid)
	if err != nil {
		return fmt.Errorf("%s: continue: %w", s.Name, err)
	}
	if err := signalAll(append(children, p.pid), syscall.SIGCONT); err != nil {
		return fmt.Errorf("%s: continue: %w", s.Name, err)
	}
	return nil
}

// Kill ends every process of the server at once with SIGKILL, as a power failure would, and returns when they are gone.
// Start brings it back. Nothing happens when it does not run.
func (s *Server) Kill() error {
	p := s.current()
	if p == nil || !p.running() {
		return nil
	}
	// Frozen first, the postmaster cannot start another child while we count them.
	children, err := freeze(p.pid)
	if err != nil {
		return fmt.Errorf("%s: kill: %w", s.Name, err)
	}
	if err := signalAll(append(children, p.pid), syscall.SIGKILL); err != nil {
		return fmt.Errorf("%s: kill: %w", s.Name, err)
	}
	deadline := time.After(killPatience)
	select {
	case <-p.done:
	case <-deadline:
		return fmt.Errorf("%s: kill: process %d is still there after %s", s.Name, p.pid, killPatience)
	}
	for _, child := range children {
		for alive(child, s.DataDir) {
			select {
			case <-deadline:
				return fmt.Errorf("%s: kill: process %d is still there after %s", s.Name, child, killPatience)
			case <-time.After(pollInterval):
			}
		}
	}
	return s.removeSharedMemory()
}

// removeSharedMemory removes the System V segment by which PostgreSQL guards its data directory. A killed server
// leaves it, and the machine has few of them (kernel.shmmni).
func (s *Server) removeSharedMemory() error {
	const segmentLine = 6 // "key id"; LOCK_FILE_LINE_SHMEM_KEY of pidfile.h counts from 1
	content, err := os.ReadFile(s.lockFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil // killed before it had one
	}
	if err != nil {
		return fmt.Errorf("%s: read lock file: %w", s.Name, err)
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) <= segmentLine {
		return nil
	}
	fields := strings.Fields(lines[segmentLine])
	if len(fields) != 2 {
		return nil
	}
	id, err := strconv.Atoi(fields[1])
	if err != nil {
		return fmt.Errorf("%s: read shared memory id: %w", s.Name, err)
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	// EINVAL: somebody has removed it already.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIDRM) {
		return fmt.Errorf("%s: remove shared memory segment %d: %w", s.Name, id, err)
	}
	return nil
}

// freeze stops a postmaster and then its children, and returns the children. One that has ended meanwhile is no error.
func freeze(postmaster int) ([]int, error) {
	if err := signalAll([]int{postmaster}, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	// The signal is on its way when kill returns; a child forked until it arrives must be counted too.
	deadline := time.Now().Add(killPatience)
	for {
		status, err := readStatus(postmaster)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil, nil // it ended by itself, and its children follow it
		}
		if err != nil {
			return nil, err
		}
		if status.state == 'T' || status.state == 'Z' {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("process %d does not stop: state %c", postmaster, status.state)
		}
		time.Sleep(time.Millisecond)
	}
	children, err := childrenOf(postmaster)
	if err != nil {
		return nil, err
	}
	return children, signalAll(children, syscall.SIGSTOP)
}

// signalAll signals every process that still exists.
func signalAll(pids []int, signal syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %s to process %d: %w", signal, pid, err)
		}
	}
	return nil
}

// alive tells whether a process with the server's working directory has this id. One that has ended and that nobody
// has reaped (state Z) has no working directory.
func alive(pid int, dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && cwd == dir
}

// processStatus is what /proc/<pid>/stat says about a process (man 5 proc).
type processStatus struct {
	state  byte // 'T' stopped, 'Z' ended and not yet reaped, …
	parent int
}

func readStatus(pid int) (processStatus, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processStatus{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The name stands in parentheses and may hold anything, so read from the last one on.
	_, rest, _ := cutLast(string(content), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return processStatus{}, fmt.Errorf("look at process %d: unreadable status %q", pid, content)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return processStatus{}, fmt.Errorf("look at process %d: read parent: %w", pid, err)
	}
	return processStatus{state: fields[0][0], parent: parent}, nil
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var children []int
	for _, e := range entries {
		candidate, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		// One that ends while we look is no child any more.
		if status, err := readStatus(candidate); err == nil && status.parent == pid {
			children = append(children, candidate)
		}
	}
	return children, nil
}
