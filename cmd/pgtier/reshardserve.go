package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy"
	"pgtier/proxy/admin"
	"pgtier/proxy/wire"
	"pgtier/resharder"
)

// statusEvery is how old what the console and the metrics tell of jobs may be.
const statusEvery = 2 * time.Second

// resharding carries on the jobs of a serving process's databases, and tells console and metrics of them (proxy.Moves). Safe for concurrent use.
type resharding struct {
	// fixed after start
	log *zap.Logger
	now managers
	ctx context.Context // ends with the process

	mu   sync.Mutex
	jobs map[string]*carried // guarded by mu; by database, of the sharded ones
}

// carried is one database's jobs.
type carried struct {
	// fixed
	basis   any // what it was made of
	config  resharder.Config
	control *resharder.Control
	cancel  context.CancelFunc

	running sync.WaitGroup
	status  atomic.Pointer[resharder.Status] // nil: there is none, or it is not known
}

func newResharding(log *zap.Logger) *resharding {
	return &resharding{log: log, jobs: map[string]*carried{}}
}

// start begins to carry jobs on; stop ends that.
func (r *resharding) start(ctx context.Context, config proxy.Config, now managers) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.ctx, r.now = ctx, now
	r.configure(config)
	return func() {
		cancel()
		r.configure(proxy.Config{})
	}
}

// configure carries on the jobs of the databases of a configuration, and of no others. It waits for those that end.
func (r *resharding) configure(config proxy.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil { // before start
		return
	}
	wanted := map[string]any{}
	for name, database := range config.Databases {
		if database.Sharded() {
			wanted[name] = []any{database.Topology(name), database.Sharding, config.ControlOf(name), config.TLS.Server}
		}
	}
	for name, c := range r.jobs {
		if basis, ok := wanted[name]; !ok || !reflect.DeepEqual(basis, c.basis) {
			c.end()
			delete(r.jobs, name)
		}
	}
	for name, basis := range wanted {
		if r.jobs[name] != nil {
			continue
		}
		if c := r.begin(config, name, basis); c != nil {
			r.jobs[name] = c
		}
	}
}

// begin carries on the jobs of one database.
func (r *resharding) begin(config proxy.Config, name string, basis any) *carried {
	made, err := reshardConfig(config, name, whoCarries(), r.now, r.log)
	if err != nil { // Validate has refused such a file
		r.log.Error("moves of buckets are not carried on", zap.String("database", name), zap.Error(err))
		return nil
	}
	c := &carried{basis: basis, config: made, control: resharder.NewControl(made)}
	ctx, cancel := context.WithCancel(r.ctx)
	c.cancel = cancel
	c.running.Go(func() { resharder.Run(ctx, made) }) // ends by end, which waits
	c.running.Go(func() { c.look(ctx) })              // the same
	return c
}

func (c *carried) end() {
	c.cancel()
	c.running.Wait()
	c.control.Close()
}

// look keeps status current until ctx ends.
func (c *carried) look(ctx context.Context) {
	for {
		status, err := c.control.Status(ctx)
		switch {
		case err == nil:
			c.status.Store(status)
		case errors.Is(err, resharder.ErrNoJob):
			c.status.Store(nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(statusEvery):
		}
	}
}

// Moves implements proxy.Moves.
func (r *resharding) Moves() (out []admin.Move) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.jobs)) {
		if s := r.jobs[name].status.Load(); s != nil {
			out = append(out, movesOf(name, s)...)
		}
	}
	return out
}

// movesOf are the moves of a job as the console shows them.
func movesOf(database string, s *resharder.Status) (out []admin.Move) {
	p := &s.Progress
	for i := range s.Job.Moves {
		m := &s.Job.Moves[i]
		row := admin.Move{Database: database, Job: s.Number, Goal: s.Goal.String(), Step: string(s.Step), Wish: string(s.Wish), Error: s.Error, Doing: p.Doing, Mover: s.Mover,
			Number: m.Number, Source: string(m.Source), Target: string(m.Target), Groups: len(m.Groups), Misses: p.Misses,
			Held50: p.HeldQuantile(0.5), Held99: p.HeldQuantile(0.99), HeldMost: p.HeldQuantile(1)}
		if !s.UnderWay() {
			row.Doing, row.Error = "", ""
		}
		for _, now := range p.Moves {
			if now.Number == m.Number {
				row.State, row.GroupsDone, row.Rows, row.Bytes = now.State, now.GroupsDone, now.Rows, now.Bytes
				row.ExpectedRows, row.ExpectedBytes, row.Lag, row.ReverseLag = now.ExpectedRows, now.ExpectedBytes, now.Lag, now.ReverseLag
				row.Retained, row.Deleted = now.Retained+now.ReverseRetained, now.Deleted
				if now.Throttled != "" && s.UnderWay() {
					row.Doing = "throttled: " + now.Throttled
				}
			}
		}
		out = append(out, row)
	}
	return out
}

// reshardWishes are those of the console.
func reshardWishes() []resharder.Wish {
	return []resharder.Wish{resharder.WishVerify, resharder.WishCutover, resharder.WishRollback, resharder.WishFinish, resharder.WishCancel}
}

// Reshard implements proxy.Moves.
func (r *resharding) Reshard(ctx context.Context, wish, database string) error {
	r.mu.Lock()
	c := r.jobs[database]
	r.mu.Unlock()
	if c == nil {
		return wire.NewError(wire.CodeInvalidDatabase, "there is no sharded database \""+database+"\"", "SHOW SHARDS lists them.")
	}
	if !slices.Contains(reshardWishes(), resharder.Wish(wish)) {
		return wire.NewError(wire.CodeInvalidParameter, "there is no wish \""+wish+"\"", "Use verify, cutover, rollback, finish or cancel; a job is begun by pgtier reshard start.")
	}
	if _, err := c.control.Journal().Ask(ctx, resharder.Wish(wish), false); err != nil {
		return wire.NewError(wire.CodeNotInState, err.Error(), "SHOW RESHARD has how far the job is.")
	}
	return nil
}

// whoCarries names this process in journals and maps.
func whoCarries() string {
	host, _ := os.Hostname() // a name for people; "" is one
	return fmt.Sprintf("pgtier serve on %s, process %d", host, os.Getpid())
}
