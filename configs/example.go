package configs

import _ "embed"

//go:embed pgtier.yaml
var example string

// Example returns the reference configuration file: every key with its default, its unit and what it does.
func Example() string { return example }
