package pgtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreeAddress is an address of the loopback, host:port, on which nobody listens now. It is below the ports of localpg's servers and of outgoing
// connections, so that it is still free when a killed daemon starts again.
func FreeAddress(t testing.TB) string {
	t.Helper()
	const lowest, highest, attempts = 10000, 14999, 50
	for range attempts {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(highest-lowest)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}
