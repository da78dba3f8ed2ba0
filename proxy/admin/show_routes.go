package admin

func routeColumns() []Column {
	return []Column{{"database", Text}, {"cause", Text}, {"count", Int8}}
}

// showRoutes counts requests by why they went to the server they went to.
func showRoutes(k *call) error {
	for _, r := range k.view.Routes() {
		k.row(r.Database, r.Cause, r.Count)
	}
	return nil
}
