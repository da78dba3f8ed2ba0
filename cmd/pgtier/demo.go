package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pgtier/cmd/demo"
	"pgtier/cmd/localpg"
	"pgtier/configs"
	"pgtier/proxy"
	"pgtier/router/topology"
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
			"DATABASE_URL. With several shards the users are spread over them, with all that belongs to each. Each manager has as\n" +
			"many streaming replicas as asked for, which serve reads. Ctrl-C stops and removes everything.",
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
	set.IntVar(&flags.shards, "shards", 1, "managers to start")
	set.IntVar(&flags.replicas, "replicas", 0, "streaming replicas of each manager")
	set.StringVar(&flags.dir, "dir", "", "where the server's data goes (default a temporary directory)")
	set.BoolVar(&flags.keep, "keep", false, "leave the data in --dir")
	return command
}

// runDemo starts the servers, loads them and serves them until a signal.
func runDemo(ctx context.Context, flags demoFlags, out, logs io.Writer, signals <-chan os.Signal) (err error) {
	fmt.Fprintln(out, "starting PostgreSQL …")
	cluster, err := localpg.Start(ctx, localpg.Options{Dir: flags.dir, Keep: flags.keep, Shards: flags.shards, Replicas: flags.replicas})
	if err != nil {
		return fmt.Errorf("start the demo's server: %w", err)
	}
	defer func() {
		if stopErr := cluster.Stop(); err == nil && stopErr != nil {
			err = fmt.Errorf("stop the demo's server: %w", stopErr)
		}
	}()
	var shards []demoShard
	var urls []string // of the managers
	for _, shard := range cluster.Shards {
		if err := demo.CreateDatabase(ctx, shard.Manager.URL("", "", ""), demoDatabase, demoRole, demoPassword); err != nil {
			return err
		}
		one := demoShard{manager: shard.Manager.URL(demoDatabase, demoRole, demoPassword)}
		for _, replica := range shard.Replicas {
			one.replicas = append(one.replicas, replica.URL(demoDatabase, demoRole, demoPassword))
		}
		shards, urls = append(shards, one), append(urls, one.manager)
	}
	fmt.Fprintln(out, "loading the sample application …")
	if err := demo.Load(ctx, urls, nil); err != nil {
		return err
	}
	for _, shard := range cluster.Shards {
		if err := shard.CatchUp(ctx); err != nil { // or the first reads would find the shop half built
			return err
		}
	}
	load := func() (*configs.Config, error) { return demoConfig(shards, flags.listen) }
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	return serve(ctx, load, logs, signals, func(p *proxy.Proxy) {
		url := fmt.Sprintf("postgres://%s:%s@%s/%s", demoRole, demoPassword, p.Addrs()[0], demoDatabase)
		admin := strings.TrimSuffix(url, demoDatabase) + "pgtier"
		examples := demo.Examples(url)
		if flags.shards > 1 {
			examples = demo.ShardExamples(url)
		}
		fmt.Fprintf(out, "\nDATABASE_URL=%s\n\n%s\n", url, examples)
		if flags.replicas > 0 {
			fmt.Fprintln(out, demo.ReplicaExamples(url, admin, demoDatabase))
		}
		showServers(out, cluster)
		fmt.Fprintf(out, "# inside: pools, clients, pins; metrics and a page with the servers and pools\npsql '%s' -c 'SHOW POOLS' -c 'SHOW PINS'\nhttp://%s/\n\n",
			admin, p.HTTPAddr())
		fmt.Fprint(out, "Ctrl-C stops and removes everything.\n\n")
		wg.Go(func() { showTraffic(ctx, url, flags.shards > 1, out, p) }) // ends by cancel
	})
}

// demoShard is the URLs of a manager and of those that follow it.
type demoShard struct {
	manager  string
	replicas []string
}

// demoConfig serves the one database, sharded as it was loaded where there are several managers.
func demoConfig(shards []demoShard, listen string) (*configs.Config, error) {
	config, err := configs.FromURLs(shards[0].manager, shards[0].replicas, listen, "127.0.0.1:0", nil)
	if err != nil {
		return nil, err
	}
	config.Log = configs.Log{Level: "warn", Format: "console"}
	if len(shards) == 1 {
		return config, nil
	}
	database := config.Proxy.Databases[demoDatabase]
	for i, shard := range shards[1:] {
		one := proxy.Shard{Name: demo.ShardName(i + 1)}
		if one.Manager, err = topology.ParseURL(shard.manager); err != nil {
			return nil, fmt.Errorf("read the URL of shard %d: %w", i+1, err)
		}
		for _, url := range shard.replicas {
			replica, err := topology.ParseURL(url)
			if err != nil {
				return nil, fmt.Errorf("read the URL of a replica of shard %d: %w", i+1, err)
			}
			one.Replicas = append(one.Replicas, proxy.Replica{URL: replica, Weight: proxy.DefaultWeight})
		}
		database.Shards = append(database.Shards, one)
	}
	database.Sharding.Reference = demo.Reference()
	database.Sharding.Tables = map[string]proxy.Table{}
	for table, key := range demo.Keys() {
		database.Sharding.Tables[table] = proxy.Table{Key: []string{key}}
	}
	config.Proxy.Databases[demoDatabase] = database
	return config, config.Validate()
}

// showServers prints what there is beside the one server of the plain demo.
func showServers(out io.Writer, cluster *localpg.Cluster) {
	for _, shard := range cluster.Shards {
		if len(cluster.Shards) > 1 {
			fmt.Fprintf(out, "shard %s, past the proxy: %s\n", shard.Name, shard.Manager.URL(demoDatabase, demoRole, demoPassword))
		}
		for _, replica := range shard.Replicas {
			fmt.Fprintf(out, "replica of %s, past the proxy: %s\n", shard.Name, replica.URL(demoDatabase, demoRole, demoPassword))
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
			fmt.Fprintf(out, "%d clients on %d server connections; %ssample application: %d reads, %d writes, %d notifications, %d failures %s%s",
				clients, servers, replicaShare(p), counts.Reads, counts.Writes, counts.Notifications, counts.Failures, counts.LastError, end)
		}
	}
}

// replicaShare is the status line's part about replicas, "" while no read was proved.
func replicaShare(p *proxy.Proxy) string {
	proved, replicas := p.Reads()
	if proved == 0 {
		return ""
	}
	return fmt.Sprintf("replicas served %d %% of %d proved reads; ", 100*replicas/proved, proved)
}
