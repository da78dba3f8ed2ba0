package localpg

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are drawn below 32768, where Linux's range for outgoing connections begins (ip_local_port_range), so that a
// port found free is not taken by somebody's outgoing connection before the server listens on it.
const (
	lowestPort  = 15000
	highestPort = 32000
)

// portAttempts bounds the search for a free port and the number of starts with another port.
const portAttempts = 50

// freePort returns a port of the loopback address on which nobody listens now. Others may be quicker to use it, so
// whoever uses it must be ready to come back.
func freePort() (int, error) {
	for range portAttempts {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("close probe of port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find a free port: %d random ports between %d and %d are all taken", portAttempts, lowestPort, highestPort)
}
