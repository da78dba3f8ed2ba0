package follow

import (
	"os"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// shared is for tests that leave their server as it is.
var shared = pgtest.Share(localpg.Options{})

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
