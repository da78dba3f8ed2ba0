package proxy_test

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy"
	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// TestMapIsKeptOverTheProxysOwnConnections has the maps' objects made and asked for as the proxy asks its servers.
func TestMapIsKeptOverTheProxysOwnConnections(t *testing.T) {
	r := newRig(t)
	cfg := r.config(t, func(cfg *proxy.Config) {
		d := cfg.Databases[r.database]
		d.Sharding.Tables = map[string]proxy.Table{"users": {Key: []string{"id"}}}
		cfg.Databases[r.database] = d
	})
	p := r.start(t, cfg)
	wantValue(t, p.client(t), "SELECT 1", "1") // a login gives the role
	q, err := p.QuerierOf(r.database)
	if err != nil {
		t.Fatal(err)
	}
	database := cfg.Databases[r.database]
	config, err := database.MapConfig(r.database, "test")
	if err != nil {
		t.Fatal(err)
	}
	w := shardmap.New(config, q, map[shard.Name]shardmap.Querier{"s0": q}, time.Hour, zap.NewNop())
	if err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := w.State()
	if s.Refusal != nil || len(s.Unprepared) > 0 || s.Map.String() != "0-1023:s0" {
		t.Fatalf("got %+v", s)
	}
	next, err := s.Map.Moved(2, "s0", 0)
	if err != nil {
		t.Fatal(err)
	}
	mover := shardmap.NewMover(config, q, map[shard.Name]shardmap.Querier{"s0": q})
	now, err := mover.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	then := &shardmap.Current{Map: next, Members: now.Members}
	if got, err := mover.Change(t.Context(), now, then); err != nil || got.Map.Version() != 2 || got.Motion.Number != 1 {
		t.Errorf("change: %+v, %v", got, err)
	}
	if _, err := mover.Change(t.Context(), now, then); err == nil {
		t.Error("version 2 comes twice")
	}
	wantValue(t, p.client(t), "SELECT count(*) FROM pg_tables WHERE schemaname = 'pgtier'", "7")
}
