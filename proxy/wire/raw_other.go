//go:build !linux

package wire

import "syscall"

// rawCalls is false here: Conn uses the net package's own reads and writes.
const rawCalls = false

func rawRead(int, []byte) (int, error)  { return -1, syscall.ENOSYS }
func rawWrite(int, []byte) (int, error) { return -1, syscall.ENOSYS }

func rawPending(int, *[1]byte) bool { return false }

func rawLowWater(int, int) error { return syscall.ENOSYS }
