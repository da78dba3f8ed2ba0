package admin

func configColumns() []Column {
	return []Column{{"key", Text}, {"value", Text}, {"default", Text}, {"changeable", Text}}
}

func showConfig(k *call) error {
	for _, s := range k.view.Settings() {
		changeable := "no"
		if s.Changeable {
			changeable = "yes"
		}
		k.row(s.Key, s.Value, s.Default, changeable)
	}
	return nil
}
