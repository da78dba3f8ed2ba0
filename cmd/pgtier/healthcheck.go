package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// healthcheckTimeout is shorter than the 5 s that the image's HEALTHCHECK allows, so that the reason is still printed.
const healthcheckTimeout = 3 * time.Second

// healthcheckCommand asks a running proxy whether it is ready. It is hidden: it exists for images without curl.
func healthcheckCommand() *cobra.Command {
	var address string
	command := &cobra.Command{
		Use:    "healthcheck [--http ADDR]",
		Short:  "Ask a running proxy whether it is ready",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := http.Client{Timeout: healthcheckTimeout}
			request, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, "http://"+address+"/readyz", nil)
			if err != nil {
				return usageError{fmt.Errorf("--http %q is not host:port", address)}
			}
			response, err := client.Do(request)
			if err != nil {
				return fmt.Errorf("ask for readiness: %w", err)
			}
			defer response.Body.Close()
			// Enough for the reason, bounded in case something else listens there.
			body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
			if err != nil {
				return fmt.Errorf("read readiness: %w", err)
			}
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("not ready: %s: %s", response.Status, body)
			}
			return nil
		},
	}
	command.Flags().StringVar(&address, "http", "127.0.0.1:6433", "the proxy's HTTP address")
	return command
}
