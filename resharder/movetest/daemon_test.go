package movetest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is `pgtier serve` as a process of its own, which can be killed. Its address stays the same. start and kill are not for several goroutines at once.
type daemon struct {
	// fixed
	name    string
	address string
	config  string
	program string
	log     *lockedBuffer

	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended

	mu     sync.Mutex
	life   life      // guarded by mu; the process that runs, or ran last
	killed time.Time // guarded by mu; when that was last
	up     time.Time // guarded by mu; since when it is known to listen again
	down   bool      // guarded by mu
}

// life is one process of a daemon. What a proxy keeps begins and ends with it.
type life struct {
	of    string
	n     int
	began time.Time // before the process was there
}

// lives is the process that runs, or ran last.
func (d *daemon) lives() life {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.life
}

// away reports whether the daemon was down at any moment since, or may have been: who has tried to connect to it since may have been refused.
func (d *daemon) away(since time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down || d.up.After(since)
}

// fell reports whether the daemon is down, or has been killed since.
func (d *daemon) fell(since time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down || d.killed.After(since)
}

func (d *daemon) mark(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down = down; down {
		d.killed = time.Now()
	} else {
		d.up = time.Now()
	}
}

// lockedBuffer is written by the goroutine of exec that copies, and read by the test.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// tail is the end of what was written.
func (b *lockedBuffer) tail(lines int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Split(b.text.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// has reports whether something was written.
func (b *lockedBuffer) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.text.Bytes(), []byte(text))
}

// newDaemon is one that does not run yet.
func newDaemon(t testing.TB, name, address, config string) *daemon {
	d := &daemon{name: name, address: address, config: config, program: build(t), log: &lockedBuffer{}}
	t.Cleanup(func() {
		d.kill()
		if d.log.has("DATA RACE") {
			t.Errorf("%s has a data race", name)
		}
		if d.log.has("panic") {
			t.Errorf("%s has panicked", name)
		}
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, d.log.tail(200))
		}
	})
	return d
}

// url is how a database is reached through the daemon.
func (d *daemon) url(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&connect_timeout=20", d.address, database)
}

// environment is ours without what is meant for tests: pgtier refuses keys that it does not know.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PGTIER_") })
}

// start starts the daemon and waits until it listens.
func (d *daemon) start(ctx context.Context) error {
	d.cmd = exec.Command(d.program, "serve", "--config", d.config)
	d.cmd.Env = append(environment(), "PGTIER_LISTEN="+d.address)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.mu.Lock()
	d.life = life{of: d.name, n: d.life.n + 1, began: time.Now()}
	d.mu.Unlock()
	if err := d.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := d.cmd, make(chan struct{})
	d.ended = ended
	go func() { // ends with the daemon
		_ = cmd.Wait() // how it ended stands in its log
		close(ended)
	}()
	for {
		select {
		case <-ended:
			return fmt.Errorf("%s ended: %s", d.name, d.log.tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w", d.name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
		c, err := net.Dial("tcp", d.address)
		if err == nil {
			d.mark(false)
			return c.Close()
		}
	}
}

// kill kills the daemon, as kill -9 does, and waits until it is gone.
func (d *daemon) kill() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	d.mark(true)
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.ended
	d.cmd = nil
}

// reload has it read its configuration again.
func (d *daemon) reload() error { return d.cmd.Process.Signal(syscall.SIGHUP) }
