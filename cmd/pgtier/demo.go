package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pgtier/cmd/demo"
	"pgtier/cmd/localpg"
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
	listen, dir      string
	shards, replicas int
	keep             bool
}

func demoCommand() *cobra.Command {
	var flags demoFlags
	command := &cobra.Command{
		Use:   "demo [--shards N] [--replicas N] [--listen ADDR] [--dir DIR] [--keep]",
		Short: "Start local PostgreSQL servers with sample data and serve them",
		Long: "Start real local PostgreSQL servers from the installed binaries, load a sample application, serve it and print the\n" +
			"DATABASE_URL. With several shards the users are spread over them, with all that belongs to each, and one more server is\n" +
			"there to be added while the demo runs. Each manager has as many streaming replicas as asked for, which serve reads.\n" +
			"Ctrl-C stops and removes everything; --keep leaves the data.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(signals)
			if flags.shards < 1 || flags.replicas < 0 {
				return usageError{errors.New("--shards takes a number from 1, --replicas one from 0")}
			}
			return runDemo(cmd.Context(), flags, cmd.OutOrStdout(), cmd.ErrOrStderr(), signals)
		},
	}
	set := command.Flags()
	set.StringVar(&flags.listen, "listen", "127.0.0.1:6432", "where clients connect")
	set.IntVar(&flags.shards, "shards", 1, "managers to spread the users over; from 2 on another one is started, to be added by pgtier reshard")
	set.IntVar(&flags.replicas, "replicas", 0, "streaming replicas of each manager")
	set.StringVar(&flags.dir, "dir", "", "where the server's data goes (default a temporary directory)")
	set.BoolVar(&flags.keep, "keep", false, "leave the data in --dir")
	return command
}

// runDemo starts the servers, loads them and serves them until a signal.
func runDemo(ctx context.Context, flags demoFlags, out, logs io.Writer, signals <-chan os.Signal) (err error) {
	fmt.Fprintln(out, "starting PostgreSQL …")
	servers := flags.shards
	if flags.shards > 1 {
		servers++ // the spare
	}
	cluster, err := localpg.Start(ctx, localpg.Options{Dir: flags.dir, Keep: flags.keep, Shards: servers, Replicas: flags.replicas})
	if err != nil {
		return fmt.Errorf("start the demo's server: %w", err)
	}
	defer func() {
		if stopErr := cluster.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("stop the demo's server: %w", stopErr)
		}
	}()
	if err := loadDemo(ctx, cluster, flags.shards, out); err != nil {
		return err
	}
	config := demoConfig{file: filepath.Join(cluster.Dir, "pgtier.yaml"), listen: flags.listen, sharded: flags.shards > 1}
	if err := config.write(cluster.Shards[:flags.shards]); err != nil {
		return err
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	return serve(ctx, config.load, logs, signals, func(d *daemon) error {
		url := fmt.Sprintf("postgres://%s:%s@%s/%s", demoRole, demoPassword, d.proxy.Addrs()[0], demoDatabase)
		admin := strings.TrimSuffix(url, demoDatabase) + "pgtier"
		examples := demo.Examples(url)
		if config.sharded {
			if err := config.offerSpare(ctx, cluster, d); err != nil {
				return err
			}
			examples = demo.ShardExamples(url)
		}
		fmt.Fprintf(out, "\nDATABASE_URL=%s\n\n%s\n", url, examples)
		if flags.replicas > 0 {
			fmt.Fprintln(out, demo.ReplicaExamples(url, admin, demoDatabase))
		}
		showServers(out, cluster, flags.shards)
		if config.sharded {
			fmt.Fprintln(out, demo.MoveExamples(thisProgram(), config.file, admin, demoDatabase, demo.ShardName(flags.shards)))
		}
		fmt.Fprintf(out, "# inside: pools, clients, pins; metrics and a page with the servers and pools\npsql '%s' -c 'SHOW POOLS' -c 'SHOW PINS'\nhttp://%s/\n\n",
			admin, d.proxy.HTTPAddr())
		if flags.keep {
			fmt.Fprintf(out, "Ctrl-C stops everything. The data stays in %s.\n\n", cluster.Dir)
		} else {
			fmt.Fprint(out, "Ctrl-C stops and removes everything.\n\n")
		}
		wg.Go(func() { showTraffic(ctx, url, config.sharded, out, d.proxy) }) // ends by cancel
		return nil
	})
}

// loadDemo makes the database on all servers, and fills it on the first so many.
func loadDemo(ctx context.Context, cluster *localpg.Cluster, shards int, out io.Writer) error {
	var urls []string // of the managers to fill
	for i, s := range cluster.Shards {
		if err := demo.CreateDatabase(ctx, s.Manager.URL("", "", ""), demoDatabase, demoRole, demoPassword); err != nil {
			return err
		}
		if len(cluster.Shards) > 1 {
			if err := demo.AllowMoves(ctx, s.Manager.URL(demoDatabase, "", ""), demoRole); err != nil {
				return err
			}
		}
		if i < shards {
			urls = append(urls, s.Manager.URL(demoDatabase, demoRole, demoPassword))
		}
	}
	fmt.Fprintln(out, "loading the sample application …")
	if err := demo.Load(ctx, urls, nil); err != nil {
		return err
	}
	for _, s := range cluster.Shards {
		if err := s.CatchUp(ctx); err != nil { // or the first reads would find the shop half built
			return err
		}
	}
	return nil
}

// thisProgram is how this program is called from a shell.
func thisProgram() string {
	if !strings.Contains(os.Args[0], "/") {
		return os.Args[0] // found by PATH
	}
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// showServers prints what there is beside the one server of the plain demo. Of several shards the first so many are filled.
func showServers(out io.Writer, cluster *localpg.Cluster, shards int) {
	for i, one := range cluster.Shards {
		switch url := one.Manager.URL(demoDatabase, demoRole, demoPassword); {
		case i >= shards:
			fmt.Fprintf(out, "%s, empty and no member yet, past the proxy: %s\n", one.Name, url)
		case shards > 1:
			fmt.Fprintf(out, "shard %s, past the proxy: %s\n", one.Name, url)
		}
		for _, replica := range one.Replicas {
			fmt.Fprintf(out, "replica of %s, past the proxy: %s\n", one.Name, replica.URL(demoDatabase, demoRole, demoPassword))
		}
	}
}

// showTraffic runs the sample application and keeps a line about it up to date until ctx ends.
func showTraffic(ctx context.Context, url string, sharded bool, out io.Writer, p *proxy.Proxy) {
	traffic, err := demo.NewTraffic(url, demoRate, sharded)
	if err != nil {
		fmt.Fprintf(out, "no sample traffic: %v\n", err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { traffic.Run(ctx) }) // ends with ctx
	ticker := time.NewTicker(demoStatus)
	defer ticker.Stop()
	end := "\n"
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		end = "\x1b[K\r" // one line, renewed in place
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			counts := traffic.Counts()
			clients, servers := p.Load()
			fmt.Fprintf(out, "%d clients on %d server connections; %ssample application: %d reads, %d writes, %d notifications, %s%d failures %s%s",
				clients, servers, replicaShare(p), counts.Reads, counts.Writes, counts.Notifications, repeated(counts), counts.Failures, counts.LastError, end)
		}
	}
}

// repeated is the status line's part about transactions that were told to come again, "" while there are none.
func repeated(counts demo.Counts) string {
	if counts.Repeated == 0 {
		return ""
	}
	return fmt.Sprintf("%d transactions made again (40001), ", counts.Repeated)
}

// replicaShare is the status line's part about replicas, "" while no read was proved.
func replicaShare(p *proxy.Proxy) string {
	proved, replicas := p.Reads()
	if proved == 0 {
		return ""
	}
	return fmt.Sprintf("replicas served %d %% of %d proved reads; ", 100*replicas/proved, proved)
}
