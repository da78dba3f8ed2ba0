package localpg

import (
	_ "embed"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

//go:embed watchdog.sh
var watchdogScript string

// What the watchdog does with the cluster's directory once the servers are gone.
const (
	removeDir = "remove" // we made it: remove it
	emptyDir  = "empty"  // it was there before us: remove what is in it
	keepDir   = "keep"
)

// watchdog is a small shell process that outlives us by a moment: when we die without a goodbye (panic, kill -9,
// Ctrl-C twice) it stops the servers and removes the directories.
//
// The kernel's parent death signal is no substitute: it is bound to the thread that forked, not to the process, so it
// fires too early whenever the Go runtime lets that thread go, and it would not remove anything.
type watchdog struct {
	cmd *exec.Cmd
	// pipe's other end is the script's input. It is close-on-exec, so no server keeps it open after us.
	pipe io.WriteCloser
}

func startWatchdog(dir, after, socketDir string) (*watchdog, error) {
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "pgtier-localpg-watchdog", dir, after, socketDir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C in our terminal must not reach it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make watchdog pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	return &watchdog{cmd: cmd, pipe: pipe}, nil
}

// dismiss ends the watchdog when everything has been stopped in order.
func (w *watchdog) dismiss() error {
	if _, err := io.WriteString(w.pipe, "done\n"); err != nil {
		return fmt.Errorf("dismiss watchdog: %w", err)
	}
	if err := w.pipe.Close(); err != nil {
		return fmt.Errorf("close watchdog pipe: %w", err)
	}
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("wait for watchdog: %w", err)
	}
	return nil
}
