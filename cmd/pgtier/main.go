// Command pgtier is the daemon and its tools. main answers: what did the user ask for, and did it work?
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	var usage usageError
	var silent silentError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "pgtier: %v\nRun '%s --help' for usage.\n", err, command.CommandPath())
		return exitUsage
	case errors.As(err, &silent):
		return exitFailed
	}
	fmt.Fprintf(stderr, "pgtier: %v\n", err)
	return exitFailed
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// silentError ends a command that has already said what failed.
type silentError struct{}

func (silentError) Error() string { return "failed" }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "pgtier",
		Short: "A PostgreSQL proxy that an application cannot tell from PostgreSQL",
		Long: "pgtier stands between an application and its PostgreSQL servers. The application changes host and port\n" +
			"in its DATABASE_URL and nothing else.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return usageError{fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(near, " or "))}
			}
			return usageError{fmt.Errorf("unknown command %q", args[0])}
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageError{errors.New("a command is missing")}
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	for _, command := range commands() {
		command.Args = usageArgs(command.Args)
		root.AddCommand(command)
	}
	return root
}

// commands is every command; one file each.
func commands() []*cobra.Command {
	return []*cobra.Command{serveCommand(), demoCommand(), checkCommand(), explainCommand(), reshardCommand(), importCommand(), versionCommand(), healthcheckCommand()}
}

// usageArgs makes what check refuses a matter of usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
