package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoBinaries is returned (wrapped) when no usable PostgreSQL server is installed.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries found")

// required are the programs that a bin directory must hold to be usable here.
var required = [...]string{"postgres", "initdb"}

// Binaries is one installed PostgreSQL. It is immutable.
type Binaries struct {
	Dir   string // the directory that holds postgres, initdb, psql, …
	Major int    // major version, 15 for 15.18
}

// Path returns the absolute path of a program in the directory; the program need not exist.
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// FindBinaries looks for an installed PostgreSQL server: $PGTIER_PG_BIN (and nothing else when it is set), then what
// pg_config names, then the newest version under Debian's /usr/lib/postgresql, then PATH.
func FindBinaries() (Binaries, error) {
	if dir := os.Getenv("PGTIER_PG_BIN"); dir != "" {
		b, err := binariesIn(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("PGTIER_PG_BIN=%s: %w", dir, err)
		}
		return b, nil
	}
	for _, dir := range candidateDirs() {
		if b, err := binariesIn(dir); err == nil {
			return b, nil
		}
	}
	return Binaries{}, fmt.Errorf("%w: install them (apt-get install postgresql) or set PGTIER_PG_BIN to their directory", ErrNoBinaries)
}

// candidateDirs lists the directories to try, best first. They need not exist.
func candidateDirs() []string {
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	// Glob fails only on a malformed pattern.
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(installed, func(a, b string) int { return debianMajor(b) - debianMajor(a) })
	dirs = append(dirs, installed...)
	if postgres, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(postgres))
	}
	return dirs
}

// debianMajor reads the 15 of /usr/lib/postgresql/15/bin; 0 when it is not a number.
func debianMajor(binDir string) int {
	major, _ := strconv.Atoi(filepath.Base(filepath.Dir(binDir)))
	return major
}

func binariesIn(dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("resolve directory: %w", err)
	}
	b := Binaries{Dir: dir}
	for _, program := range required {
		if _, err := exec.LookPath(b.Path(program)); err != nil {
			return Binaries{}, fmt.Errorf("%w: %s", ErrNoBinaries, b.Path(program))
		}
	}
	out, err := exec.Command(b.Path("postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask %s for its version: %w", b.Path("postgres"), err)
	}
	if b.Major, err = majorVersion(string(out)); err != nil {
		return Binaries{}, err
	}
	return b, nil
}

// majorVersion reads 15 out of "postgres (PostgreSQL) 15.18 (Debian …)"; betas look like "19beta1".
func majorVersion(banner string) (int, error) {
	_, version, found := strings.Cut(banner, "(PostgreSQL) ")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if !found || end <= 0 {
		return 0, fmt.Errorf("read PostgreSQL version from %q", banner)
	}
	return strconv.Atoi(version[:end])
}
