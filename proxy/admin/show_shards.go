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
	Fault                   string        // why nothing is sent there, "" if it is
	InDoubt                 int64         // prepared transactions on all shards of the database
	Member                  bool          // statements may go there; true where nothing is sharded
	Moving, Held            string        // of its buckets, those that change hands, and those whose statements wait: "0-340,1000"
	Motion                  int64         // number of what moves of buckets ask now; 0: nothing has moved yet
	OldestInDoubt           time.Duration // of those InDoubt, when they were counted; 0 if there is none
}

func shardColumns() []Column {
	return []Column{
		{"database", Text}, {"shard", Text}, {"manager", Text}, {"home", Text}, {"buckets", Int4}, {"ranges", Text},
		{"map_version", Int8}, {"map_age_ms", Int8}, {"in_doubt", Int8}, {"fault", Text},
		{"member", Text}, {"moving", Text}, {"held", Text}, {"motion", Int8}, {"in_doubt_oldest_ms", Int8},
	}
}

// showShards lists the shards of every database in the order of the configuration.
func showShards(k *call) error {
	for _, s := range k.view.Shards() {
		var version, age, motion, oldest any
		if s.InDoubt > 0 {
			oldest = s.OldestInDoubt.Milliseconds()
		}
		if s.Version > 0 {
			version, age, motion = int64(s.Version), s.Age.Milliseconds(), s.Motion
		}
		k.row(s.Database, s.Name, s.Manager, yes(s.Home), s.Buckets, known(s.Ranges), version, age, s.InDoubt, known(s.Fault),
			yes(s.Member), known(s.Moving), known(s.Held), motion, oldest)
	}
	return nil
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
