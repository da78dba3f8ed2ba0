package admin

import "fmt"

func pipelineColumns() []Column {
	return []Column{
		{"database", Text}, {"pipelines", Int4}, {"under_way", Int8}, {"requests", Int8}, {"batches", Int8}, {"average_batch", Text},
		{"sent_again", Int8}, {"evicted", Int8},
	}
}

// showPipelines shows what reads share server connections for.
func showPipelines(k *call) error {
	for _, p := range k.view.Pipelines() {
		average := 0.0
		if p.Batches > 0 {
			average = float64(p.Requests) / float64(p.Batches)
		}
		k.row(p.Database, p.Open, p.UnderWay, p.Requests, p.Batches, fmt.Sprintf("%.2f", average), p.SentAgain, p.Evicted)
	}
	return nil
}
