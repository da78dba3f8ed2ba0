package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"pgtier/cmd/localpg"
)

// suite is PostgreSQL's regression suite, ready to run.
type suite struct {
	major   string // of PostgreSQL, "15"
	version string // of the Debian package
	tests   string // src/test/regress of the source
	libs    string // what the tests load: regress.so and two of contrib
	bin     string // psql's directory
	driver  string // pg_regress
}

// prepare fetches and builds what is not there yet below out.
func prepare(ctx context.Context, out string) (suite, error) {
	binaries, err := localpg.FindBinaries()
	if err != nil {
		return suite{}, err
	}
	s := suite{bin: binaries.Dir}
	said, err := exec.CommandContext(ctx, binaries.Path("postgres"), "--version").Output()
	if err != nil {
		return s, fmt.Errorf("ask the server's version: %w", err)
	}
	found := regexp.MustCompile(`\) (\d+)`).FindSubmatch(said)
	if found == nil {
		return s, fmt.Errorf("ask the server's version: it says %q", said)
	}
	s.major = string(found[1])
	version, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", "postgresql-"+s.major).Output()
	if err != nil {
		return s, fmt.Errorf("find the version of Debian's package postgresql-%s: %w", s.major, err)
	}
	s.version = string(version)
	dir := filepath.Join(out, "postgresql-"+strings.ReplaceAll(s.version, ":", "_"))
	s.tests = filepath.Join(dir, "tree", "src", "test", "regress")
	s.libs = filepath.Join(dir, "lib")
	s.driver = filepath.Join(s.bin, "..", "lib", "pgxs", "src", "test", "regress", "pg_regress")
	if _, err := os.Stat(s.driver); err != nil {
		return s, fmt.Errorf("find pg_regress of package postgresql-%s: %w", s.major, err)
	}
	if _, err := os.Stat(filepath.Join(s.libs, "regress.so")); err == nil {
		return s, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, "tree"), 0o755); err != nil {
		return s, fmt.Errorf("make source directory: %w", err)
	}
	if err := s.fetch(ctx, dir); err != nil {
		return s, err
	}
	return s, s.build(ctx, dir)
}

// fetch downloads the source package and the server's headers, with package lists of our own, so that the system's
// stay as they are.
func (s suite) fetch(ctx context.Context, dir string) error {
	apt, err := newPrivateApt(filepath.Join(dir, "apt"))
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "fetching the source of postgresql-"+s.major, s.version)
	steps := [][]string{
		apt.command("update", "-qq"),
		apt.command("source", "-qq", "--download-only", "postgresql-"+s.major+"="+s.version),
		apt.command("download", "-qq", "postgresql-server-dev-"+s.major+"="+s.version),
	}
	for _, step := range steps {
		if err := command(ctx, dir, step...); err != nil {
			return err
		}
	}
	archive, err := one(filepath.Join(dir, "*.orig.tar.*"))
	if err != nil {
		return err
	}
	headers, err := one(filepath.Join(dir, "postgresql-server-dev-*.deb"))
	if err != nil {
		return err
	}
	if err := command(ctx, dir, "tar", "xf", archive, "-C", "tree", "--strip-components=1", "--wildcards", "*/src/test/regress/*"); err != nil {
		return err
	}
	return command(ctx, dir, "dpkg-deb", "-x", headers, "dev")
}

// build makes the libraries that the tests load.
func (s suite) build(ctx context.Context, dir string) error {
	if err := os.MkdirAll(s.libs, 0o755); err != nil {
		return fmt.Errorf("make library directory: %w", err)
	}
	for _, name := range []string{"autoinc.so", "refint.so"} {
		if err := copyFile(filepath.Join(s.libs, name), filepath.Join(s.bin, "..", "lib", name)); err != nil {
			return err
		}
	}
	include := filepath.Join(dir, "dev", "usr", "include", "postgresql", s.major, "server")
	library := filepath.Join(s.libs, "regress.so")
	return command(ctx, s.tests, "gcc", "-O1", "-fPIC", "-shared", "-I", include, "-o", library, "regress.c")
}

// privateApt is an apt whose lists and cache are a directory of ours.
type privateApt struct{ settings []string }

// newPrivateApt takes the machine's own mirrors, for sources too.
func newPrivateApt(dir string) (privateApt, error) {
	parts := filepath.Join(dir, "parts")
	for _, sub := range []string{parts, filepath.Join(dir, "lists", "partial"), filepath.Join(dir, "archives", "partial")} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return privateApt{}, fmt.Errorf("make apt directory: %w", err)
		}
	}
	files, err := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	if err != nil {
		return privateApt{}, fmt.Errorf("find package sources: %w", err)
	}
	lists, err := filepath.Glob("/etc/apt/sources.list.d/*.list")
	if err != nil {
		return privateApt{}, fmt.Errorf("find package sources: %w", err)
	}
	for _, file := range append(append(files, lists...), "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return privateApt{}, fmt.Errorf("read package sources: %w", err)
		}
		both := withSources(string(text))
		if err := os.WriteFile(filepath.Join(parts, filepath.Base(file)), []byte(both), 0o644); err != nil {
			return privateApt{}, fmt.Errorf("write package sources: %w", err)
		}
	}
	return privateApt{settings: []string{
		"Dir::Etc::sourcelist=/dev/null", "Dir::Etc::sourceparts=" + parts,
		"Dir::State::lists=" + filepath.Join(dir, "lists"), "Dir::Cache=" + dir,
		// apt's own user may not write below our directory.
		"APT::Sandbox::User=root",
	}}, nil
}

// withSources turns on source packages in either of apt's two formats.
func withSources(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "Types:") {
			line = "Types: deb deb-src\n"
		}
		b.WriteString(line)
		if source, ok := strings.CutPrefix(line, "deb "); ok {
			b.WriteString("deb-src " + source)
		}
	}
	return b.String()
}

func (a privateApt) command(args ...string) []string {
	line := []string{"apt-get"}
	for _, setting := range a.settings {
		line = append(line, "-o", setting)
	}
	return append(line, args...)
}

// command runs a program and shows its output only when it fails.
func command(ctx context.Context, dir string, line ...string) error {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", line[0], err, output)
	}
	return nil
}

// one returns the only file that matches.
func one(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("find %s: %d files: %w", pattern, len(found), err)
	}
	return found[0], nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy library (package postgresql-contrib): %w", err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("copy library: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// platform names the machine in the result.
func platform() string {
	return fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
}
