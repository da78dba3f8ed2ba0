package main

// limits gives, for each test that is known to end differently through a proxy in transaction mode, the reason. A test
// stands here only when what differs is what pooling is: a client that sees the server process behind its session.
func limits() map[string]string {
	return map[string]string{
		"stats": "pg_stat_database.sessions counts server connections, and a client that reconnects through the proxy makes none",
		"temp":  "a server process that once held temporary objects keeps its empty schema, so PREPARE TRANSACTION is not refused for having just made one",
		"guc":   "pg_listening_channels() answers for the server connection, while LISTEN is held on the shared listening connection",
	}
}
