package proxy

import (
	"strings"
	"testing"

	"pgtier/router/topology"
)

func TestParseListen(t *testing.T) {
	for entry, want := range map[string]string{
		"127.0.0.1:6432":    "tcp 127.0.0.1:6432",
		"[::1]:0":           "tcp [::1]:0",
		":6432":             "tcp :6432",
		"unix:/run/pgtier":  "unix /run/pgtier/.s.PGSQL.6432",
		"unix:/run/pgtier/": "unix /run/pgtier/.s.PGSQL.6432",
		"unix:/tmp:5432":    "unix /tmp/.s.PGSQL.5432",
	} {
		network, address, err := ParseListen(entry)
		if got := network + " " + address; err != nil || got != want {
			t.Errorf("%q: got %s, %v; want %s", entry, got, err, want)
		}
	}
	for entry, want := range map[string]string{
		"localhost":          "host:port",
		"localhost:postgres": "0 to 65535",
		"h:65536":            "0 to 65535",
		"unix:tmp":           "absolute directory",
		"unix:/tmp:0":        "1 to 65535",
		"unix:/tmp:x":        "1 to 65535",
		"":                   "host:port",
	} {
		if _, _, err := ParseListen(entry); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", entry, err, want)
		}
	}
}

func TestSizeReadsWhatItPrints(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "512B": 512, "64KiB": 64 << 10, "16MiB": 16 << 20, "1GiB": 1 << 30, "8191PiB": -1, "1TiB": 1 << 40, "1500B": 1500,
		"16": -1, "16MB": -1, "-1MiB": -1, "1.5GiB": -1, "MiB": -1, "": -1, "9999999999GiB": -1, " 1MiB": -1,
	} {
		var got Size
		err := got.UnmarshalText([]byte(text))
		switch {
		case want < 0 && err == nil:
			t.Errorf("%q: accepted as %d", text, got)
		case want >= 0 && (err != nil || got != want || got.String() != text):
			t.Errorf("%q: got %d (%s), %v; want %d", text, got, got, err, want)
		}
	}
}

func TestDefaultsWithOneDatabaseAreValid(t *testing.T) {
	config := DefaultConfig()
	if err := config.Validate(); err == nil || !strings.Contains(err.Error(), "databases: no database") {
		t.Errorf("without a database: got %v", err)
	}
	database := DefaultDatabase(config.Pool)
	database.Shards = []Shard{{Manager: topology.Server{Host: "h", Port: 1}}}
	config.Databases = map[string]Database{"app": database}
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
}

func TestTopologyNamesServersAndFillsInDatabases(t *testing.T) {
	database := Database{Shards: []Shard{
		{Manager: topology.Server{Host: "a"}, Replicas: []Replica{{URL: topology.Server{Host: "b", Database: "other"}, Zone: "z", Weight: 2}}},
		{Name: "x", Manager: topology.Server{Host: "c", Database: "theirs"}, Replicas: []Replica{{URL: topology.Server{Host: "d"}}}},
	}}
	got := database.Topology("app")
	replica := got.Shards[0].Replicas[0]
	if got.Name != "app" || got.Shards[0].Name != "s0" || got.Shards[0].Manager.Name != "s0" || got.Shards[0].Manager.Database != "app" ||
		got.Shards[1].Name != "x" || replica.Name != "s0-r1" || replica.Database != "other" || replica.Zone != "z" || replica.Weight != 2 {
		t.Errorf("got %+v", got)
	}
	if name := got.Shards[1].Replicas[0].Database; name != "theirs" {
		t.Errorf("the database of a replica whose URL names none: got %q, want its manager's", name)
	}
	if any := database.Topology(AnyDatabase).Shards[0].Manager.Database; any != "" {
		t.Errorf("the fallback's database: got %q", any)
	}
}
