package main

// limits gives, for each test that is known to end differently through a proxy in transaction mode, the reason. A test
// stands here only when what differs is what pooling is: a client that sees the server process behind its session.
func limits() map[string]string {
	return map[string]string{
		"stats": "pg_stat_database.sessions counts server connections, and a client that reconnects through the proxy makes none",
	}
}
