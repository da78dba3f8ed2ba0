package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"go.uber.org/zap"

	"pgtier/cmd/localpg"
	"pgtier/proxy"
	"pgtier/router/topology"
)

// The two ways to run the suite.
const (
	sideDirect = "direct"
	sideProxy  = "proxy"
)

// superuser runs the tests. Its name appears in no expected output.
const superuser = "postgres"

// database is what pg_regress calls it, and what expected outputs name.
const database = "regression"

// runSide runs the suite on a fresh server and leaves pg_regress's files in dir.
func runSide(ctx context.Context, s suite, side, dir string, o options) error {
	fmt.Fprintln(os.Stderr, "running", side)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the last run: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make output directory: %w", err)
	}
	// Some tests make the server write beside psql's results, and it runs as another user.
	for _, open := range []string{dir, filepath.Join(dir, "results")} {
		if err := errors.Join(os.MkdirAll(open, 0o755), os.Chmod(open, 0o777)); err != nil {
			return fmt.Errorf("open output directory: %w", err)
		}
	}
	cluster, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = cluster.Stop() }()
	manager := cluster.Shards[0].Manager
	address := manager.Address()
	if side == sideProxy {
		p, err := startProxy(ctx, manager, filepath.Join(dir, "proxy.log"), o.poolSize)
		if err != nil {
			return err
		}
		defer p.Close()
		address = p.Addrs()[0].String()
	}
	return drive(ctx, s, dir, address, o.schedule)
}

// startServer starts what "make check" would: PostgreSQL's own defaults, fsync off.
func startServer(ctx context.Context) (*localpg.Cluster, error) {
	cluster, err := localpg.Start(ctx, localpg.Options{
		Auth: "trust", Superuser: superuser, Production: true,
		Settings: map[string]string{"fsync": "off", "wal_level": "replica", "max_prepared_transactions": "2"},
	})
	if err != nil {
		return nil, err
	}
	manager := cluster.Shards[0].Manager
	for _, sql := range databaseStatements() {
		if err := manager.Exec(ctx, "postgres", sql); err != nil {
			return nil, errors.Join(fmt.Errorf("make database: %w", err), cluster.Stop())
		}
	}
	return cluster, nil
}

// databaseStatements makes the database as pg_regress does (pg_regress.c, create_database); it is not left to
// pg_regress because both sides must find the same.
func databaseStatements() []string {
	list := []string{"CREATE DATABASE " + database + " TEMPLATE template0"}
	for _, setting := range []string{"lc_messages TO 'C'", "lc_monetary TO 'C'", "lc_numeric TO 'C'", "lc_time TO 'C'",
		"bytea_output TO 'hex'", "timezone_abbreviations TO 'Default'"} {
		list = append(list, "ALTER DATABASE "+database+" SET "+setting)
	}
	return list
}

// startProxy starts a proxy that lets in whom the server lets in.
func startProxy(ctx context.Context, manager *localpg.Server, logFile string, poolSize int) (*proxy.Proxy, error) {
	url, err := topology.ParseURL(manager.URL(database, "", ""))
	if err != nil {
		return nil, fmt.Errorf("read server URL: %w", err)
	}
	cfg := proxy.DefaultConfig()
	cfg.Listen, cfg.HTTP = []string{"127.0.0.1:0"}, ""
	cfg.Auth.Method = "trust"
	cfg.Pool.Size = poolSize
	db := proxy.DefaultDatabase(cfg.Pool)
	db.Shards = []proxy.Shard{{Manager: url}}
	cfg.Databases = map[string]proxy.Database{database: db}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
	conf := zap.NewDevelopmentConfig()
	conf.OutputPaths = []string{logFile}
	log, err := conf.Build()
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	p, err := proxy.New(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("make proxy: %w", err)
	}
	if err := p.Start(ctx); err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	return p, nil
}

// drive runs pg_regress and keeps what it prints, which says how each test ended.
func drive(ctx context.Context, s suite, dir, address, schedule string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("split address: %w", err)
	}
	if schedule == "" {
		schedule = filepath.Join(s.tests, "parallel_schedule")
	}
	var printed bytes.Buffer
	cmd := exec.CommandContext(ctx, s.driver, "--use-existing", "--dbname="+database, "--user="+superuser,
		"--host="+host, "--port="+port, "--bindir="+s.bin, "--dlpath="+s.libs,
		"--inputdir="+s.tests, "--outputdir="+dir, "--schedule="+schedule,
		// Expected outputs allow for 20 clients at once; the machine may have few cores.
		"--max-connections="+strconv.Itoa(maxClients))
	cmd.Dir = dir
	cmd.Stdout = io.MultiWriter(&printed, os.Stderr)
	cmd.Stderr = os.Stderr
	err = cmd.Run()
	var failed *exec.ExitError
	if err != nil && !(errors.As(err, &failed) && failed.ExitCode() == 1) {
		return fmt.Errorf("run pg_regress: %w", err) // 1 says that tests failed
	}
	if err := os.WriteFile(filepath.Join(dir, outcomeFile), printed.Bytes(), 0o644); err != nil {
		return fmt.Errorf("keep outcome: %w", err)
	}
	return nil
}

// maxClients is the number of tests at once, as in parallel_schedule's own rule.
const maxClients = 20
