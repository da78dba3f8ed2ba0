package admin

import "time"

// Shard is a shard of a database.
type Shard struct {
	Database, Name, Manager string
	Home                    bool   // it holds what is not sharded
	Buckets                 int    // that it owns; 0 where nothing is sharded
	Ranges                  string // of those: "0-340,1000"
	Version                 uint64 // of the map; 0 where there is none
	Age                     time.Duration
	Fault                   string // why nothing is sent there, "" if it is
	InDoubt                 int64  // prepared transactions on all shards of the database
}

func shardColumns() []Column {
	return []Column{
		{"database", Text}, {"shard", Text}, {"manager", Text}, {"home", Text}, {"buckets", Int4}, {"ranges", Text},
		{"map_version", Int8}, {"map_age_ms", Int8}, {"in_doubt", Int8}, {"fault", Text},
	}
}

// showShards lists the shards of every database in the order of the configuration.
func showShards(k *call) error {
	for _, s := range k.view.Shards() {
		var version, age any
		if s.Version > 0 {
			version, age = int64(s.Version), s.Age.Milliseconds()
		}
		home := "no"
		if s.Home {
			home = "yes"
		}
		k.row(s.Database, s.Name, s.Manager, home, s.Buckets, known(s.Ranges), version, age, s.InDoubt, known(s.Fault))
	}
	return nil
}
