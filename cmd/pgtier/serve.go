package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"pgtier/configs"
	"pgtier/proxy"
)

// serveFlags are the flags of serve; a file, or everything else.
type serveFlags struct {
	config, manager, listen, http string
	replicas                      []string
}

func serveCommand() *cobra.Command {
	var flags serveFlags
	command := &cobra.Command{
		Use:   "serve (--config FILE | --manager URL [--replica URL]… [--listen ADDR] [--http ADDR])",
		Short: "Run the proxy in the foreground",
		Long: "Run the proxy in the foreground. SIGHUP re-reads the configuration; SIGTERM or SIGINT stops taking clients and lets\n" +
			"transactions end, a second one stops now.\n\n" +
			"With --manager there is no file: one shard, the database name and credentials of the URL; any other role is looked up\n" +
			"on the manager. Reads that are proved to be reads go to the replicas, whose URLs need no role and no database.\n" +
			"PGTIER_… variables hold in both forms, and alone are enough where they name a database.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			load, err := flags.loader(os.Environ())
			if err != nil {
				return err
			}
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(signals)
			leaveCores()
			return serve(cmd.Context(), load, logOutput(cmd.ErrOrStderr()), signals, nil)
		},
	}
	set := command.Flags()
	set.StringVar(&flags.config, "config", "", "the configuration file")
	set.StringVar(&flags.manager, "manager", "", "the URL of the server that takes writes, instead of a file")
	set.StringArrayVar(&flags.replicas, "replica", nil, "the URL of a replica; may be repeated")
	set.StringVar(&flags.listen, "listen", "", "where clients connect, with --manager (default 127.0.0.1:6432)")
	set.StringVar(&flags.http, "http", "", "where metrics and health are, with --manager; off for nowhere (default 127.0.0.1:6433)")
	return command
}

// leaveCores halves GOMAXPROCS unless the environment sets it. A relay spends its time in system calls that cannot
// block; a second thread per relayed byte adds wake-ups between cores, not work done: 20 against 24 µs a transaction on
// two cores (ARCHITECTURE.md, Decisions).
func leaveCores() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}

// logOutput is w, or a duplicate of it where w is standard error: the SQL grammar's library redirects descriptor 2
// while it parses, and a line logged at that moment would be lost.
func logOutput(w io.Writer) io.Writer {
	if w != io.Writer(os.Stderr) {
		return w
	}
	fd, err := syscall.Dup(int(os.Stderr.Fd()))
	if err != nil {
		return w
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "log")
}

// loader returns what reads the configuration, now and at each reload.
func (f serveFlags) loader(env []string) (func() (*configs.Config, error), error) {
	named := slices.ContainsFunc(env, func(entry string) bool { return strings.HasPrefix(entry, "PGTIER_DATABASES_") })
	switch {
	case f.config != "" && (f.manager != "" || f.listen != "" || f.http != "" || len(f.replicas) > 0):
		return nil, usageError{errors.New("--config does not go with --manager, --replica, --listen and --http; write them into the file")}
	case f.manager != "":
		return func() (*configs.Config, error) {
			return configs.FromURLs(f.manager, f.replicas, f.listen, f.http, env)
		}, nil
	case f.listen != "" || f.http != "" || len(f.replicas) > 0:
		return nil, usageError{errors.New("--manager is missing; --listen, --http and --replica go with it")}
	case f.config == "" && !named:
		return nil, usageError{errors.New("--config FILE or --manager URL is missing")}
	}
	return func() (*configs.Config, error) { return configs.Load(f.config, env) }, nil
}

// daemon is a proxy with what it was configured from.
type daemon struct {
	// Fixed after newDaemon.
	load  func() (*configs.Config, error)
	log   *zap.Logger
	level zap.AtomicLevel
	proxy *proxy.Proxy
	moves *resharding

	// reloading admits one reload at a time and guards current.
	reloading sync.Mutex
	current   *configs.Config
}

func newDaemon(load func() (*configs.Config, error), stderr io.Writer) (*daemon, error) {
	config, err := load()
	if err != nil {
		return nil, err
	}
	d := &daemon{load: load, current: config}
	if d.level, err = zap.ParseAtomicLevel(config.Log.Level); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	d.log = newLogger(config, d.level, stderr)
	d.moves = newResharding(d.log)
	if d.proxy, err = proxy.New(config.Proxy, d.log, proxy.WithReload(d.reload), proxy.WithVersion(version), proxy.WithMoves(d.moves)); err != nil {
		return nil, fmt.Errorf("set up the proxy: %w", err)
	}
	return d, nil
}

// newLogger writes to stderr in the configured format.
func newLogger(config *configs.Config, level zap.AtomicLevel, stderr io.Writer) *zap.Logger {
	keys := zap.NewProductionEncoderConfig()
	keys.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder := zapcore.NewJSONEncoder(keys)
	if config.Log.Format == "console" {
		keys.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(keys)
	}
	log := zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(stderr)), level))
	if config.Proxy.Zone != "" {
		log = log.With(zap.String("zone", config.Proxy.Zone))
	}
	return log
}

// reload reads the configuration again and returns what changed. An error changes nothing.
func (d *daemon) reload() ([]string, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	config, err := d.load()
	if err != nil {
		return nil, err
	}
	changes := []string{}
	for _, change := range configs.Diff(d.current, config) {
		changes = append(changes, change.String())
	}
	if err := d.proxy.Reload(config.Proxy); err != nil {
		return nil, err
	}
	d.moves.configure(config.Proxy)
	if level, err := zapcore.ParseLevel(config.Log.Level); err == nil {
		d.level.SetLevel(level)
	}
	d.current = config
	return changes, nil
}

// serve runs the proxy until a signal or ctx ends it. started, unless nil, is called when the proxy takes clients; its error ends it.
func serve(ctx context.Context, load func() (*configs.Config, error), stderr io.Writer, signals <-chan os.Signal, started func(*daemon) error) error {
	d, err := newDaemon(load, stderr)
	if err != nil {
		return err
	}
	defer d.proxy.Close()
	config := d.current.Proxy // a reload may replace it from here on
	if err := d.proxy.Start(ctx); err != nil {
		return fmt.Errorf("start the proxy: %w", err)
	}
	defer d.moves.start(ctx, config, d.proxy.ShardManager)()
	d.log.Info("serving", zap.String("version", version), zap.Strings("listen", config.Listen), zap.String("http", config.HTTP))
	if started != nil {
		if err := started(d); err != nil {
			return err
		}
	}
	return d.untilStopped(ctx, signals)
}

// untilStopped obeys signals until the proxy has drained or must stop now.
func (d *daemon) untilStopped(ctx context.Context, signals <-chan os.Signal) error {
	draining, cancel := context.WithCancel(ctx)
	drained := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stopping := false
	for {
		select {
		case <-ctx.Done():
			d.log.Info("stopping now")
			return nil
		case <-d.proxy.ShutdownRequested():
			d.log.Info("stopping: SHUTDOWN by an admin")
			return nil
		case err := <-drained:
			d.log.Info("all clients are gone, stopping")
			return err
		case received := <-signals:
			switch {
			case received == syscall.SIGHUP:
				d.reloadOnSignal()
			case stopping:
				d.log.Info("second signal, stopping now", zap.Stringer("signal", received))
				return nil
			default:
				stopping = true
				d.log.Info("draining: clients leave when their transactions end, a second signal stops now", zap.Stringer("signal", received))
				wg.Go(func() { drained <- d.proxy.Drain(draining) }) // ends when the clients are gone, or by cancel
			}
		}
	}
}

func (d *daemon) reloadOnSignal() {
	changes, err := d.reload()
	if err != nil {
		d.log.Error("configuration not reloaded, the old one stays in force", zap.Error(err))
		return
	}
	d.log.Info("configuration reloaded", zap.Strings("changes", changes))
}
