package fleet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"pgtier/proxy/backend"
	"pgtier/router/balance"
)

// SQLSTATEs that say what a refusal means (errcodes.txt).
const (
	tooManyConnections = "53300"
	cannotConnectNow   = "57P03"
	insufficientRight  = "42501"
)

// failure is why a server did not answer.
type failure struct {
	state  balance.State
	reason string
	// closed says that the server refused us for who we are, so it may serve others: its role is unproved, not disproved.
	closed bool
	// silent says that nothing came within the limit, so what others wait for there may never come either.
	silent bool
}

// classify says what an error of a dial or a question means.
func classify(err error, limit time.Duration) failure {
	var login *backend.LoginError
	var timeout net.Error
	switch {
	case errors.As(err, &login):
		message := login.ServerMessage()
		switch code := login.SQLState(); {
		case code == tooManyConnections:
			return failure{state: balance.Full, reason: message}
		case code == cannotConnectNow || strings.HasPrefix(code, "57P"):
			return failure{state: balance.Starting, reason: message}
		default:
			return failure{state: balance.Down, reason: "does not let pgtier in: " + message, closed: true}
		}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return failure{state: balance.Down, reason: fmt.Sprintf("no answer within %s", limit), silent: true}
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return failure{state: balance.Down, reason: "refuses connections"}
	default:
		return failure{state: balance.Down, reason: err.Error()}
	}
}

// silent reports whether err is an answer that did not come in time.
func silent(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// sqlState is the code of a server's error, "" if err is none.
func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}
