//go:build !linux

package wire

// hungUp is not known here: a client that left is noticed when its statement ends.
func hungUp(int) bool { return false }
