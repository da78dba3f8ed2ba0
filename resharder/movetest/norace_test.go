//go:build !race

package movetest

// buildFlags build pgtier as these tests are built.
var buildFlags []string
