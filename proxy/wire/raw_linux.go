package wire

import (
	"syscall"
	"unsafe"
)

// rawCalls says that this platform reads and writes sockets by raw calls.
const rawCalls = true

// rawRead reads from a non-blocking descriptor without telling the scheduler:
// the call cannot block, and leaving and entering the runtime around it costs
// more than the call (bench/results, figures on raw calls).
func rawRead(fd int, p []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT, 0, 0)
		if e == 0 {
			return int(n), nil
		}
		if e != syscall.EINTR {
			return -1, errnoErr(e)
		}
	}
}

// rawWrite is rawRead's counterpart. It may write less than all of p.
func rawWrite(fd int, p []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if e == 0 {
			return int(n), nil
		}
		if e != syscall.EINTR {
			return -1, errnoErr(e)
		}
	}
}

// Boxed once, so that the usual outcome of a raw call costs no allocation.
var errAgain error = syscall.EAGAIN

func errnoErr(e syscall.Errno) error {
	if e == syscall.EAGAIN {
		return errAgain
	}
	return e
}

// rawPending reports whether a read would not block: data, the peer's end or an error is there.
func rawPending(fd int, b *[1]byte) bool {
	_, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(b)), 1,
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return e != syscall.EAGAIN
}

// rawLowWater has the socket be readable only when n bytes are there, or its end or an error.
func rawLowWater(fd, n int) error {
	v := int32(n)
	_, _, e := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT,
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	if e != 0 {
		return errnoErr(e)
	}
	return nil
}
