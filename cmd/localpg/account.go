package localpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the operating system user that the servers run as. PostgreSQL refuses to run as root, so root steps down
// to another user; everybody else stays who they are. The zero value is the current user.
type account struct {
	credential *syscall.Credential // nil: the current user
	name       string
}

// serverAccount chooses the account: "postgres" or, where that does not exist, "nobody" when we are root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("read uid of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("read gid of %s: %w", name, err)
		}
		return account{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, name: name}, nil
	}
	return account{}, fmt.Errorf("PostgreSQL does not run as root and there is no user postgres or nobody to run it as")
}

// own gives a file or directory to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Chown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// makeDir creates a private directory that belongs to the account.
func (a account) makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return a.own(path)
}

// writeFile writes a private file that belongs to the account.
func (a account) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return a.own(path)
}

// prepare makes cmd run as the account, in dir, in a session of its own and with an environment that holds nothing of ours.
//
// The session keeps a terminal's Ctrl-C away: the program above decides the order in which things stop. The directory
// matters too: the watchdog recognises our processes by it.
func (a account) prepare(cmd *exec.Cmd, dir string) {
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: a.credential}
	// PGPORT, PGDATA, PGOPTIONS, LC_ALL, … of the caller must not reach the servers: they would change what is tested.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
}

// run runs a short-lived program to its end and returns its output inside the error when it fails.
func (a account) run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	a.prepare(cmd, dir)
	out, err := cmd.CombinedOutput()
	if os.IsPermission(err) && a.credential != nil {
		return fmt.Errorf("run %s as user %s in %s: %w (every directory above it must be open to that user)", program, a.name, dir, err)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", program, err, out)
	}
	return nil
}
