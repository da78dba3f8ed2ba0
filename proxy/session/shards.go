package session

// Cluster is what the shards of one database share.
type Cluster struct{}
