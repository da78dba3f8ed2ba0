package wire

import "golang.org/x/sys/unix"

// hungUp asks as PostgreSQL's client_connection_check_interval does: the end of
// the stream shows even behind input that nobody has read (WL_SOCKET_CLOSED).
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
