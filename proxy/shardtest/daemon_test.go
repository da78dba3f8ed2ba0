package shardtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"pgtier/cmd/localpg/pgtest"
)

// daemon is `pgtier serve` as a process of its own, which can be killed. Its address stays the same.
type daemon struct {
	url     string
	address string
	program string
	config  string

	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	log   *lockedBuffer
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

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// newDaemon builds the program and writes its configuration, in which %s is the address.
func newDaemon(t *testing.T, config string) *daemon {
	t.Helper()
	d := &daemon{address: pgtest.FreeAddress(t), program: filepath.Join(t.TempDir(), "pgtier"), log: &lockedBuffer{}}
	d.url = fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&connect_timeout=5", d.address, database)
	if err := pgtest.BuildPgtier(d.program); err != nil {
		t.Fatal(err)
	}
	d.config = filepath.Join(filepath.Dir(d.program), "pgtier.yaml")
	if err := os.WriteFile(d.config, fmt.Appendf(nil, config, d.address), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log)
		}
	})
	return d
}

// start starts the daemon and waits until it listens.
func (d *daemon) start(t *testing.T) {
	t.Helper()
	d.cmd = exec.Command(d.program, "serve", "--config", d.config)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, ended := d.cmd, make(chan struct{})
	d.ended = ended
	go func() { // ends with the daemon
		_ = cmd.Wait() // how it ended stands in its log
		close(ended)
	}()
	eventually(t, stepLimit, "the daemon listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("the daemon ended:\n%s", d.log)
		default:
		}
		c, err := net.Dial("tcp", d.address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// kill kills the daemon, as kill -9 does, and waits until it is gone.
func (d *daemon) kill() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.ended
	d.cmd = nil
}
