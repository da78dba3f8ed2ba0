package balance

import (
	"fmt"
	"strings"
)

// Policy is how Choose decides between servers that all may take a read. The zero value is LeastLatency.
type Policy uint8

// The policies.
const (
	// LeastLatency draws two servers and takes the one whose latency × (statements in flight + 1) is lower. Two draws are
	// enough to keep away from a slow server, and unlike the best of all they do not send every read of a moment to one
	// (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
	LeastLatency Policy = iota
	// RoundRobin goes through the servers by Ask.Turn.
	RoundRobin
	// Random draws evenly.
	Random
	// Weighted draws by Host.Weight.
	Weighted
)

// policyNames is in the order of the constants; these are the words of the configuration.
func policyNames() [4]string { return [4]string{"least_latency", "round_robin", "random", "weighted"} }

// ParsePolicy reads a word of the configuration.
func ParsePolicy(text string) (Policy, error) {
	names := policyNames()
	for i, name := range names {
		if text == name {
			return Policy(i), nil
		}
	}
	return 0, fmt.Errorf("unknown policy %q; use one of %s", text, strings.Join(names[:], ", "))
}

// String returns the configuration's word.
func (p Policy) String() string {
	if names := policyNames(); int(p) < len(names) {
		return names[p]
	}
	return "unknown"
}
