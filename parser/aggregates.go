package parser

import (
	"slices"
	"strings"
)

// aggregateNames are PostgreSQL's aggregates: those of version 15's pg_proc with prokind 'a', and behind them what came with 16 and 17.
var aggregateNames = strings.Fields(`array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp cume_dist
dense_rank every json_agg json_object_agg jsonb_agg jsonb_object_agg max min mode percent_rank percentile_cont percentile_disc
range_agg range_intersect_agg rank regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev
stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg
any_value json_agg_strict json_arrayagg json_arrayagg_strict json_object_agg_strict json_object_agg_unique
json_object_agg_unique_strict json_objectagg jsonb_agg_strict jsonb_object_agg_strict jsonb_object_agg_unique
jsonb_object_agg_unique_strict`)

// AggregateNames are the names of PostgreSQL's own aggregates. Some (rank) are window functions too, where OVER follows.
func AggregateNames() []string { return slices.Clone(aggregateNames) }

// IsAggregate says whether a function of this name is one of PostgreSQL's own aggregates. One that a user defined may have any name.
func IsAggregate(name string) bool { return slices.Contains(aggregateNames, name) }

// aggregates says whether the outputs, HAVING or ORDER BY of q itself call an aggregate.
func aggregates(q *Query) (found bool) {
	visit := func(e *Expr) bool {
		if e.Kind == ExprCall && e.Over == nil {
			found = found || IsAggregate(e.Name) || e.Filter != nil || e.Distinct || e.Ordered
		}
		return !found
	}
	for _, o := range q.Outputs {
		o.Expr.Walk(visit)
	}
	q.Having.Walk(visit)
	walkSorts(q.Order, visit)
	walkAll(q.DistinctOn, visit)
	for _, w := range q.WindowDefs {
		w.walk(visit)
	}
	return found
}
