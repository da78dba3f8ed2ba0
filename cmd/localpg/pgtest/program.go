package pgtest

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
)

// BuildPgtier builds the program as path, with flags for `go build`. A test that runs it knows nothing of its sources, so go would take the result of a run before
// they changed for one of today: they are looked at here, which makes go remember the result with them.
func BuildPgtier(path string, flags ...string) error {
	ctx := context.Background()
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env GOMOD: %w", err)
	}
	look := func(_ string, _ fs.DirEntry, err error) error { return err }
	for _, dir := range []string{"cmd", "parser", "proxy", "resharder", "router"} {
		if err := filepath.WalkDir(filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), dir), look); err != nil {
			return err
		}
	}
	args := append([]string{"build", "-o", path}, flags...)
	if said, err := exec.CommandContext(ctx, "go", append(args, "pgtier/cmd/pgtier")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build pgtier: %w\n%s", err, said)
	}
	return nil
}
