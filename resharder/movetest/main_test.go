package movetest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
)

// patience bounds every wait of these tests; the machine may be busy with others.
const patience = 3 * time.Minute

// program is the pgtier that all tests run. It is built once.
var program struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	status := m.Run()
	if program.dir != "" {
		_ = os.RemoveAll(program.dir) // below the system's temporary directory
	}
	os.Exit(status)
}

// build returns the path of pgtier, with the race detector if this test has it.
func build(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "pgtier-moves-"); program.err != nil {
			return
		}
		program.path = filepath.Join(program.dir, "pgtier")
		program.err = pgtest.BuildPgtier(program.path, buildFlags...)
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// number is an environment variable's value, for runs longer than those of every change.
func number(t testing.TB, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// randomly is a source of random choices.
func (r *rig) randomly() func() *rand.Rand {
	stream := uint64(0)
	return func() *rand.Rand {
		stream++
		return rand.New(rand.NewPCG(uint64(r.seed), stream))
	}
}

// eventually waits until is returns "", which is what is in the way.
func eventually(t testing.TB, limit time.Duration, is func() string) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		why := is()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s: %s", limit, why)
		}
	}
}
