package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgtier/cmd/demo"
	"pgtier/cmd/localpg"
	"pgtier/configs"
	"pgtier/resharder"
	"pgtier/router/shard"
)

// demoConfig is the demo's configuration file, which it serves as anybody would: pgtier reshard reads it, too.
type demoConfig struct {
	file, listen string
	sharded      bool
}

// load reads the file, without the variables of the environment: they are for other proxies.
func (c demoConfig) load() (*configs.Config, error) { return configs.Load(c.file, nil) }

// write writes the file, for these shards.
func (c demoConfig) write(shards []*localpg.Shard) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# pgtier demo wrote this file, and serves it. It goes when the demo ends.
listen: [%q]
http: 127.0.0.1:0
log: {level: warn, format: console}
auth:
  users: [{name: %s, password: %s}]
  admins: [%[2]s]
databases:
  %[4]s:
    shards:
`, c.listen, demoRole, demoPassword, demoDatabase)
	for _, s := range shards {
		fmt.Fprintf(&b, "      - name: %s\n        manager: %q\n", s.Name, s.Manager.URL(demoDatabase, demoRole, demoPassword))
		for i, replica := range s.Replicas {
			if i == 0 {
				b.WriteString("        replicas:\n")
			}
			fmt.Fprintf(&b, "          - url: %q\n", replica.URL(demoDatabase, demoRole, demoPassword))
		}
	}
	if c.sharded {
		b.WriteString("    sharding:\n      tables:\n")
		keys := demo.Keys()
		for _, table := range slices.Sorted(maps.Keys(keys)) {
			fmt.Fprintf(&b, "        %s: {key: %s}\n", table, keys[table])
		}
		fmt.Fprintf(&b, "      reference: [%s]\n", strings.Join(demo.Reference(), ", "))
	}
	if err := os.WriteFile(c.file, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the demo's configuration: %w", err)
	}
	return nil
}

// spareLimit bounds each wait for what takes the proxy a second.
const spareLimit = 30 * time.Second

// offerSpare adds the last server to the configuration, as one would who wants to add a shard, and waits until pgtier reshard can. It must not be there from the
// beginning: the first map has all shards of the configuration.
func (c demoConfig) offerSpare(ctx context.Context, cluster *localpg.Cluster, d *daemon) error {
	var names []shard.Name
	for _, s := range cluster.Shards {
		names = append(names, shard.Name(s.Name))
	}
	last := len(names) - 1
	if err := c.awaitPlan(ctx, resharder.Goal{To: names[:last]}); err != nil { // the first map is made
		return err
	}
	if err := c.write(cluster.Shards); err != nil {
		return err
	}
	if _, err := d.reload(); err != nil {
		return fmt.Errorf("add the spare shard to the configuration: %w", err)
	}
	return c.awaitPlan(ctx, resharder.Goal{Add: names[last]})
}

// awaitPlan waits until nothing is in the way of a goal.
func (c demoConfig) awaitPlan(ctx context.Context, goal resharder.Goal) error {
	loaded, err := c.load()
	if err != nil {
		return err
	}
	config, err := reshardConfig(loaded.Proxy, demoDatabase, "pgtier demo", nil, zap.NewNop())
	if err != nil {
		return err
	}
	for end := time.Now().Add(spareLimit); ; {
		plan, err := resharder.MakePlan(ctx, config, goal)
		switch {
		case err == nil && plan.Possible():
			return nil
		case err == nil:
			err = fmt.Errorf("%s", plan.Findings[0])
		}
		if time.Now().After(end) {
			return fmt.Errorf("prepare for pgtier reshard %s: %w", goal, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}
