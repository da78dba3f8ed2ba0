package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"pgtier/configs"
)

func importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import PGBOUNCER.INI",
		Short: "Print the pgtier configuration equal to a PgBouncer one",
		Long: "Print the pgtier configuration equal to a PgBouncer one. What has no equal is listed on standard error;\n" +
			"the result can be checked with 'pgtier check'.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ini, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read PgBouncer's configuration: %w", err)
			}
			text, warnings, err := configs.ImportPgBouncer(string(ini))
			if err != nil {
				return fmt.Errorf("import %s: %w", args[0], err)
			}
			for _, warning := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "pgtier: %s: %s\n", args[0], warning)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
