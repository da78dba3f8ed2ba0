package wire

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dozePoll is an epoll set of its own, which the runtime's poller watches as it does a socket: waiting for it takes no thread.
// Sockets are in both sets; in this one an event disarms its socket until it dozes again.
type dozePoll struct {
	file *os.File
	raw  syscall.RawConn
}

// dozeEvents are what a doze ends by. They are told as long as they are so: what came before the doze counts.
const dozeEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT

func (p *dozePoll) open() bool {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not poll it
		_ = unix.Close(fd)
		return false
	}
	p.file = os.NewFile(uintptr(fd), "quiet connections")
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return false
	}
	return true
}

// add arms c's socket. Its descriptor leaves the set by itself when it is closed. The Dozer's mu is held.
func (p *dozePoll) add(c *Conn, id uint64) error {
	event := unix.EpollEvent{Events: dozeEvents, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	op := unix.EPOLL_CTL_ADD
	if c.known {
		op = unix.EPOLL_CTL_MOD
	}
	var failed error
	err := c.raw.Control(func(fd uintptr) {
		err := p.raw.Control(func(set uintptr) { failed = unix.EpollCtl(int(set), op, int(fd), &event) })
		if err != nil {
			failed = err
		}
	})
	err = errors.Join(err, failed)
	c.known = c.known || err == nil
	return err
}

// run tells ready the number of each socket that has something to say.
func (p *dozePoll) run(ready func(id uint64)) {
	events := make([]unix.EpollEvent, 256)
	for {
		n := 0
		err := p.raw.Read(func(set uintptr) bool {
			for {
				var err error
				if n, err = unix.EpollWait(int(set), events, 0); !errors.Is(err, unix.EINTR) {
					return n != 0
				}
			}
		})
		if err != nil || n < 0 {
			return // closed
		}
		for _, e := range events[:n] {
			ready(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
}

func (p *dozePoll) close() { _ = p.file.Close() }
