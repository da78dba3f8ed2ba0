package proxy

import "pgtier/parser"

type noHazards struct{}

func (noHazards) Pins(*parser.Statement) string { return "" }
