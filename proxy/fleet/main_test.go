package fleet

import (
	"os"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// shared is for tests that leave their servers as they are.
var shared = pgtest.Share(localpg.Options{Replicas: 2})

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
