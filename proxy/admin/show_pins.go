package admin

func pinColumns() []Column {
	return []Column{
		{"session", Int8}, {"database", Text}, {"user", Text}, {"addr", Text}, {"port", Int4}, {"server_pid", Int4},
		{"reason", Text}, {"since", Text},
	}
}

// showPins lists the clients that keep their server connection between
// transactions, and why they must.
func showPins(k *call) error {
	pids := map[uint64]int{}
	for _, s := range k.view.Servers() {
		pids[s.ID] = s.PID
	}
	for _, s := range k.view.Clients() {
		if s.Pin != "" {
			k.row(s.ID, s.Database, s.User, s.Addr, s.Port, pids[s.Link], s.Pin, moment(s.Pinned))
		}
	}
	return nil
}
