//go:build !linux

package wire

import "errors"

// dozePoll is none: every connection keeps its goroutine.
type dozePoll struct{}

func (*dozePoll) open() bool              { return false }
func (*dozePoll) add(*Conn, uint64) error { return errors.ErrUnsupported }
func (*dozePoll) run(func(uint64))        {}
func (*dozePoll) close()                  {}
