package admin

func numerics(names ...string) []Column {
	var out []Column
	for _, name := range names {
		out = append(out, Column{name, Numeric})
	}
	return out
}

func statsColumns() []Column {
	return append([]Column{{"database", Text}}, numerics(
		"total_server_assignment_count", "total_xact_count", "total_query_count", "total_received", "total_sent",
		"total_xact_time", "total_query_time", "total_wait_time", "total_client_parse_count", "total_server_parse_count", "total_bind_count",
		"avg_server_assignment_count", "avg_xact_count", "avg_query_count", "avg_recv", "avg_sent",
		"avg_xact_time", "avg_query_time", "avg_wait_time", "avg_client_parse_count", "avg_server_parse_count", "avg_bind_count")...)
}

func showStats(k *call) error {
	for _, s := range k.view.Stats() {
		k.row(append(append([]any{s.Database}, s.Now.figures()...), s.averages()...)...)
	}
	return nil
}

func totalsColumns() []Column {
	return append([]Column{{"database", Text}}, numerics(
		"server_assignment_count", "xact_count", "query_count", "bytes_received", "bytes_sent",
		"xact_time", "query_time", "wait_time", "client_parse_count", "server_parse_count", "bind_count")...)
}

func showStatsTotals(k *call) error {
	for _, s := range k.view.Stats() {
		k.row(append([]any{s.Database}, s.Now.figures()...)...)
	}
	return nil
}

// averagesColumns are named as PgBouncer names them, half of them without avg_.
func averagesColumns() []Column {
	return append([]Column{{"database", Text}}, numerics(
		"server_assignment_count", "xact_count", "query_count", "bytes_received", "bytes_sent",
		"xact_time", "query_time", "wait_time", "avg_client_parse_count", "avg_server_parse_count", "avg_bind_count")...)
}

func showStatsAverages(k *call) error {
	for _, s := range k.view.Stats() {
		k.row(append([]any{s.Database}, s.averages()...)...)
	}
	return nil
}

func sumColumns() []Column { return []Column{{"name", Text}, {"value", Numeric}} }

// showTotals sums all databases. Its lines are named after PgBouncer's own variables.
func showTotals(k *call) error {
	var sum Stats
	for _, s := range k.view.Stats() {
		sum.Now, sum.Old, sum.Span = sum.Now.Add(s.Now), sum.Old.Add(s.Old), s.Span
	}
	names := []string{"server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes",
		"xact_time", "query_time", "wait_time", "ps_client_parse_count", "ps_server_parse_count", "ps_bind_count"}
	for i, v := range sum.Now.figures() {
		k.row("total_"+names[i], v)
	}
	for i, v := range sum.averages() {
		k.row("avg_"+names[i], v)
	}
	return nil
}
