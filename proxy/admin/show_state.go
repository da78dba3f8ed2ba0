package admin

func listColumns() []Column { return []Column{{"list", Text}, {"items", Int4}} }

// showLists has PgBouncer's lines. Nothing is kept for reuse between
// connections here, and names are resolved by the system, hence the zeros.
func showLists(k *call) error {
	n := k.view.Counts()
	for _, line := range []struct {
		name  string
		items int
	}{
		{"databases", len(k.view.Databases())}, {"users", n.Users}, {"peers", 0}, {"pools", n.Pools}, {"peer_pools", 0},
		{"free_clients", 0}, {"used_clients", len(k.view.Clients())}, {"login_clients", n.Greeting},
		{"free_servers", 0}, {"used_servers", len(k.view.Servers())},
		{"dns_names", 0}, {"dns_zones", 0}, {"dns_queries", 0}, {"dns_pending", 0},
	} {
		k.row(line.name, line.items)
	}
	return nil
}

func stateColumns() []Column { return []Column{{"key", Text}, {"value", Text}} }

func showState(k *call) error {
	active, paused := "yes", "no"
	if k.view.Paused() {
		active, paused = "no", "yes"
	}
	k.row("active", active)
	k.row("paused", paused)
	k.row("suspended", "no")
	return nil
}

func memoryColumns() []Column {
	return []Column{{"name", Text}, {"size", Int4}, {"used", Int4}, {"free", Int4}, {"memtotal", Int4}}
}

// showMemory keeps to PgBouncer's four-byte columns: more than they hold is shown as the most.
func showMemory(k *call) error {
	const most = 1<<31 - 1
	for _, m := range k.view.Memory() {
		k.row(m.Name, m.Size, m.Used, m.Free, min(m.Total, most))
	}
	return nil
}

func showVersion(k *call) error {
	k.row("PgBouncer " + bouncerVersion + " console of pgtier " + k.version)
	return nil
}

// fixed answers with one value.
func fixed(value string) func(*call) error {
	return func(k *call) error {
		k.row(value)
		return nil
	}
}
