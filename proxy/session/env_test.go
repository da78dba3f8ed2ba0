package session

import (
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestAPanicBesideASessionEndsWhatItWorkedFor(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	env := &Env{Log: zap.New(core)}
	for name, work := range map[string]func() error{
		"pipeline": func() error { return (&pipeline{env: env}).serve(nil) },
		"duplex":   func() error { return (&Session{env: env}).relayDuplex(&duplex{}) },
	} {
		if err := work(); !errors.Is(err, errPanicked) {
			t.Errorf("%s without a connection: %v, want %v", name, err, errPanicked)
		}
		if got := logs.TakeAll(); len(got) != 1 || got[0].ContextMap()["stack"] == "" {
			t.Errorf("%s: the log says %v", name, got)
		}
	}
}
