package admin

// command is one kind of command. To add one: its line in commands, and a file
// with its run.
type command struct {
	name    string // in capitals; one or two words
	usage   string // how the argument is shown by SHOW HELP, "" if there is none
	needs   bool   // the argument is required
	options string // "|WORD|WORD|": the argument is one of these; "" for any
	open    bool   // stats users may run it too
	hidden  bool   // left out of SHOW HELP
	whole   bool   // the argument is the statement itself
	fold    bool   // the argument is not case sensitive
	tag     string // of CommandComplete
	columns []Column
	run     func(*call) error
}

// commands is the table of all commands. Columns, their order and their types
// are PgBouncer's, whose tools read them by name and by position.
func commands() []command {
	return []command{
		{name: "SHOW HELP", open: true, tag: "SHOW", run: showHelp},
		{name: "SHOW POOLS", open: true, tag: "SHOW", columns: poolColumns(), run: showPools},
		{name: "SHOW CLIENTS", open: true, tag: "SHOW", columns: socketColumns(), run: showClients},
		{name: "SHOW SERVERS", open: true, tag: "SHOW", columns: socketColumns(), run: showServers},
		{name: "SHOW SOCKETS", open: true, tag: "SHOW", columns: rawSocketColumns(), run: showSockets},
		{name: "SHOW ACTIVE_SOCKETS", open: true, tag: "SHOW", columns: rawSocketColumns(), run: showActiveSockets},
		{name: "SHOW DATABASES", open: true, tag: "SHOW", columns: databaseColumns(), run: showDatabases},
		{name: "SHOW USERS", open: true, tag: "SHOW", columns: userColumns(), run: showUsers},
		{name: "SHOW STATS", open: true, tag: "SHOW", columns: statsColumns(), run: showStats},
		{name: "SHOW STATS_TOTALS", open: true, tag: "SHOW", columns: totalsColumns(), run: showStatsTotals},
		{name: "SHOW STATS_AVERAGES", open: true, tag: "SHOW", columns: averagesColumns(), run: showStatsAverages},
		{name: "SHOW TOTALS", open: true, tag: "SHOW", columns: sumColumns(), run: showTotals},
		{name: "SHOW PINS", open: true, tag: "SHOW", columns: pinColumns(), run: showPins},
		{name: "SHOW SHARDS", open: true, tag: "SHOW", columns: shardColumns(), run: showShards},
		{name: "SHOW RESHARD", open: true, tag: "SHOW", columns: moveColumns(), run: showReshard},
		{name: "SHOW REPLICAS", open: true, tag: "SHOW", columns: hostColumns(), run: showHosts},
		{name: "SHOW PIPELINES", open: true, tag: "SHOW", columns: pipelineColumns(), run: showPipelines},
		{name: "SHOW CACHE", open: true, tag: "SHOW", columns: cacheColumns(), run: showCache},
		{name: "SHOW ROUTES", open: true, tag: "SHOW", columns: routeColumns(), run: showRoutes},
		{name: "SHOW CONFIG", open: true, tag: "SHOW", columns: configColumns(), run: showConfig},
		{name: "SHOW LISTS", open: true, tag: "SHOW", columns: listColumns(), run: showLists},
		{name: "SHOW MEM", open: true, tag: "SHOW", columns: memoryColumns(), run: showMemory},
		{name: "SHOW STATE", open: true, tag: "SHOW", columns: stateColumns(), run: showState},
		{name: "SHOW VERSION", open: true, tag: "SHOW", columns: []Column{{"version", Text}}, run: showVersion},
		{name: "SHOW PEERS", open: true, tag: "SHOW", columns: peerColumns(), run: showNothing},
		{name: "SHOW PEER_POOLS", open: true, tag: "SHOW", columns: peerPoolColumns(), run: showNothing},
		{name: "SHOW DNS_HOSTS", open: true, tag: "SHOW", columns: dnsHostColumns(), run: showNothing},
		{name: "SHOW DNS_ZONES", open: true, tag: "SHOW", columns: dnsZoneColumns(), run: showNothing},
		{name: "SHOW FDS", hidden: true, tag: "SHOW", run: noFDs},

		// What drivers ask every server for.
		{name: "SHOW CLIENT_ENCODING", open: true, hidden: true, tag: "SHOW", columns: []Column{{"client_encoding", Text}}, run: fixed("UTF8")},
		{name: "SHOW STANDARD_CONFORMING_STRINGS", open: true, hidden: true, tag: "SHOW", columns: []Column{{"standard_conforming_strings", Text}}, run: fixed("on")},
		{name: "SHOW DATESTYLE", open: true, hidden: true, tag: "SHOW", columns: []Column{{"datestyle", Text}}, run: fixed("ISO")},
		{name: "SHOW TIMEZONE", open: true, hidden: true, tag: "SHOW", columns: []Column{{"timezone", Text}}, run: fixed("GMT")},
		{name: "SHOW DEFAULT_TRANSACTION_ISOLATION", open: true, hidden: true, tag: "SHOW", columns: []Column{{"default_transaction_isolation", Text}}, run: fixed("read committed")},

		{name: "EXPLAIN ROUTE", usage: "[<db>:] <sql>", whole: true, open: true, tag: "EXPLAIN", columns: routeFactColumns(), run: explainRoute},
		{name: "PAUSE", usage: "[<db>]", tag: "PAUSE", run: pause},
		{name: "RESUME", usage: "[<db>]", tag: "RESUME", run: resume},
		{name: "DISABLE", usage: "<db>", needs: true, tag: "DISABLE", run: disable},
		{name: "ENABLE", usage: "<db>", needs: true, tag: "ENABLE", run: enable},
		{name: "RECONNECT", usage: "[<db>]", tag: "RECONNECT", run: reconnect},
		{name: "KILL", usage: "[<db>]", tag: "KILL", run: kill},
		{name: "KILL_CLIENT", usage: "<client_id>", needs: true, tag: "KILL_CLIENT", run: killClient},
		{name: "RESET CACHE", usage: "[<db> [<schema>.<table> [<column> = <value>]]]", whole: true, tag: "RESET", run: resetCache},
		{name: "RESHARD", usage: "verify|cutover|rollback|finish|cancel <db>", needs: true, whole: true, tag: "RESHARD", run: reshard},
		{name: "WAIT_CLOSE", usage: "[<db>]", tag: "WAIT_CLOSE", run: waitClose},
		{name: "RELOAD", tag: "RELOAD", run: reload},
		{name: "SHUTDOWN", usage: "[WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]", options: "|WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS|", fold: true, tag: "SHUTDOWN", run: shutdown},
		{name: "SUSPEND", hidden: true, tag: "SUSPEND", run: suspend},
		{name: "SET", whole: true, open: true, hidden: true, tag: "SET", run: set},

		// Of later versions.
		{name: "SHOW HOTKEYS", open: true, hidden: true, run: later("SHOW HOTKEYS")},
	}
}

// takes reports whether the command can have these words behind its name.
func (c *command) takes(args []word) bool {
	switch {
	case c.whole:
		return true
	case len(args) == 0:
		return !c.needs
	case len(args) > 1 || c.usage == "" || args[0].symbol:
		return false
	}
	return c.options == "" || oneOf(c.options, args[0].text)
}
