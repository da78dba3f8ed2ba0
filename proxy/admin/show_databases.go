package admin

import "time"

func databaseColumns() []Column {
	return []Column{
		{"name", Text}, {"host", Text}, {"port", Int4}, {"database", Text}, {"force_user", Text},
		{"pool_size", Int4}, {"min_pool_size", Int4}, {"reserve_pool_size", Int4}, {"server_lifetime", Int4},
		{"pool_mode", Text}, {"load_balance_hosts", Text}, {"max_connections", Int4}, {"current_connections", Int4},
		{"max_client_connections", Int4}, {"current_client_connections", Int4}, {"paused", Int4}, {"disabled", Int4},
	}
}

func showDatabases(k *call) error {
	for _, d := range k.view.Databases() {
		k.row(d.Name, known(d.Host), d.Port, d.Database, known(d.ForceUser), d.PoolSize, d.MinPoolSize, d.ReserveSize,
			int64(d.Lifetime/time.Second), known(d.Mode), nil, d.MaxConnections, d.Connections, d.MaxClients, d.Clients,
			d.Paused, d.Disabled)
	}
	return nil
}

// known is NULL for "".
func known(s string) any {
	if s == "" {
		return nil
	}
	return s
}
