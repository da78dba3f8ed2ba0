package admin

func userColumns() []Column {
	return []Column{
		{"name", Text}, {"pool_size", Text}, {"reserve_pool_size", Text}, {"pool_mode", Text},
		{"max_user_connections", Int4}, {"current_connections", Int4},
		{"max_user_client_connections", Int4}, {"current_client_connections", Int4},
	}
}

// showUsers has no sizes or modes of users, which pgtier does not know.
func showUsers(k *call) error {
	for _, u := range k.view.Users() {
		k.row(u.Name, nil, nil, nil, u.MaxConnections, u.Connections, u.MaxClients, u.Clients)
	}
	return nil
}
