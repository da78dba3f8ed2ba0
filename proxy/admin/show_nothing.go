package admin

func peerColumns() []Column {
	return []Column{{"peer_id", Int4}, {"host", Text}, {"port", Int4}, {"pool_size", Int4}}
}

func peerPoolColumns() []Column {
	return []Column{
		{"peer_id", Int4}, {"cl_active_cancel_req", Int4}, {"cl_waiting_cancel_req", Int4}, {"sv_active_cancel", Int4}, {"sv_login", Int4},
	}
}

func dnsHostColumns() []Column { return []Column{{"hostname", Text}, {"ttl", Int8}, {"addrs", Text}} }

func dnsZoneColumns() []Column {
	return []Column{{"zonename", Text}, {"serial", Int8}, {"count", Int4}}
}

// showNothing is for what PgBouncer has and pgtier does without: cancels find
// their process without peers, and names are resolved anew for each connection.
func showNothing(*call) error { return nil }
