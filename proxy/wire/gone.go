package wire

import (
	"crypto/tls"
	"net"
	"syscall"
)

// PeerGone reports, without reading anything, whether the other side has closed
// its end. false where the platform cannot tell. Safe for concurrent use.
func (c *Conn) PeerGone() bool {
	nc := c.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	return socketGone(nc)
}

func socketGone(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) { gone = hungUp(int(fd)) })
	return err != nil || gone
}
