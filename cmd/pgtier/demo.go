package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"pgtier/cmd/demo"
	"pgtier/cmd/localpg"
	"pgtier/configs"
	"pgtier/proxy"
)

const (
	demoDatabase = "shop"
	demoRole     = "app"
	// The demo listens on loopback only and is gone afterwards, so a password that can be typed is worth more than a strong one.
	demoPassword = "app"
	// demoRate is the sample application's requests a second: enough to see, too little to be in the way.
	demoRate = 20
	// demoStatus is how often the status line is renewed.
	demoStatus = 2 * time.Second
)

// demoFlags are the flags of demo.
type demoFlags struct {
	listen, dir string
	keep        bool
}

func demoCommand() *cobra.Command {
	var flags demoFlags
	command := &cobra.Command{
		Use:   "demo [--listen ADDR] [--dir DIR] [--keep]",
		Short: "Start a local PostgreSQL server with sample data and serve it",
		Long: "Start a real local PostgreSQL server from the installed binaries, load a sample application, serve it and print the\n" +
			"DATABASE_URL. Ctrl-C stops and removes everything.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(signals)
			return runDemo(cmd.Context(), flags, cmd.OutOrStdout(), cmd.ErrOrStderr(), signals)
		},
	}
	set := command.Flags()
	set.StringVar(&flags.listen, "listen", "127.0.0.1:6432", "where clients connect")
	set.StringVar(&flags.dir, "dir", "", "where the server's data goes (default a temporary directory)")
	set.BoolVar(&flags.keep, "keep", false, "leave the data in --dir")
	return command
}

// runDemo starts the server, loads it and serves it until a signal.
func runDemo(ctx context.Context, flags demoFlags, out, logs io.Writer, signals <-chan os.Signal) (err error) {
	fmt.Fprintln(out, "starting PostgreSQL …")
	cluster, err := localpg.Start(ctx, localpg.Options{Dir: flags.dir, Keep: flags.keep})
	if err != nil {
		return fmt.Errorf("start the demo's server: %w", err)
	}
	defer func() {
		if stopErr := cluster.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("stop the demo's server: %w", stopErr)
		}
	}()
	manager := cluster.Shards[0].Manager
	if err := demo.CreateDatabase(ctx, manager.URL("", "", ""), demoDatabase, demoRole, demoPassword); err != nil {
		return err
	}
	url := manager.URL(demoDatabase, demoRole, demoPassword)
	fmt.Fprintln(out, "loading the sample application …")
	if err := demo.Load(ctx, []string{url}, nil); err != nil {
		return err
	}
	load := func() (*configs.Config, error) {
		config, err := configs.FromURLs(url, nil, flags.listen, "off", nil)
		if err == nil {
			config.Log = configs.Log{Level: "warn", Format: "console"}
		}
		return config, err
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	return serve(ctx, load, logs, signals, func(p *proxy.Proxy) {
		url := fmt.Sprintf("postgres://%s:%s@%s/%s", demoRole, demoPassword, p.Addrs()[0], demoDatabase)
		fmt.Fprintf(out, "\nDATABASE_URL=%s\n\n%s\nCtrl-C stops and removes everything.\n\n", url, demo.Examples(url))
		wg.Go(func() { showTraffic(ctx, url, out) }) // ends by cancel
	})
}

// showTraffic runs the sample application and keeps a line about it up to date until ctx ends.
func showTraffic(ctx context.Context, url string, out io.Writer) {
	traffic, err := demo.NewTraffic(url, demoRate)
	if err != nil {
		fmt.Fprintf(out, "no sample traffic: %v\n", err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { traffic.Run(ctx) }) // ends with ctx
	ticker := time.NewTicker(demoStatus)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			counts := traffic.Counts()
			fmt.Fprintf(out, "sample application: %d reads, %d writes, %d notifications, %d failures %s\n", counts.Reads, counts.Writes, counts.Notifications, counts.Failures, counts.LastError)
		}
	}
}
