package parser

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// treeFields are the fields of PostgreSQL's nodes that the tree has words for, or that mean nothing to it. One that is set and not
// here is of a newer grammar, or of a use that is not known.
var treeFields = map[protoreflect.Name]string{
	"SelectStmt": `distinct_clause into_clause target_list from_clause where_clause group_clause group_distinct having_clause
		window_clause values_lists sort_clause limit_offset limit_count limit_option locking_clause with_clause op all larg rarg`,
	"InsertStmt":       `relation cols select_stmt on_conflict_clause returning_list with_clause override`,
	"UpdateStmt":       `relation target_list where_clause from_clause returning_list with_clause`,
	"DeleteStmt":       `relation using_clause where_clause returning_list with_clause`,
	"MergeStmt":        `relation source_relation join_condition merge_when_clauses with_clause`,
	"MergeWhenClause":  `matched command_type override condition target_list values`,
	"OnConflictClause": `action infer target_list where_clause location`,
	"InferClause":      `index_elems where_clause conname location`,
	"IndexElem":        `name expr collation opclass opclassopts ordering nulls_ordering`,
	"WithClause":       `ctes recursive location`,
	"CommonTableExpr":  `ctename aliascolnames ctematerialized ctequery search_clause cycle_clause location`,
	"RangeVar":         `catalogname schemaname relname inh relpersistence alias location`,
	"RangeSubselect":   `lateral subquery alias`,
	"RangeFunction":    `lateral ordinality is_rowsfrom functions alias coldeflist`,
	"RangeTableSample": `relation method args repeatable location`,
	"JoinExpr":         `jointype is_natural larg rarg using_clause join_using_alias quals alias`,
	"ResTarget":        `name indirection val location`,
	"SortBy":           `node sortby_dir sortby_nulls use_op location`,
	"MultiAssignRef":   `source colno ncolumns`,
	"WindowDef":        `name refname partition_clause order_clause frame_options start_offset end_offset location`,
	"FuncCall": `funcname args agg_order agg_filter over agg_within_group agg_star agg_distinct func_variadic funcformat
		location`,
	"ColumnRef":        `fields location`,
	"ParamRef":         `number location`,
	"A_Const":          `isnull ival fval boolval sval bsval location`,
	"A_Expr":           `kind name lexpr rexpr location`,
	"BoolExpr":         `boolop args location`,
	"NullTest":         `arg nulltesttype location`,
	"RowExpr":          `args row_format location`,
	"A_ArrayExpr":      `elements location`,
	"TypeCast":         `arg type_name location`,
	"TypeName":         `names setof pct_type typmods typemod array_bounds location`,
	"CaseExpr":         `arg args defresult location`,
	"CaseWhen":         `expr result location`,
	"CoalesceExpr":     `args location`,
	"CollateClause":    `arg collname location`,
	"SubLink":          `sub_link_type testexpr oper_name subselect location`,
	"SetToDefault":     `location`,
	"SQLValueFunction": `op typmod location`,
}

// treeFieldSets is treeFields by the single names, made when first asked for and never changed.
var treeFieldSets = sync.OnceValue(func() map[protoreflect.Name]map[protoreflect.Name]bool {
	sets := make(map[protoreflect.Name]map[protoreflect.Name]bool, len(treeFields))
	for message, list := range treeFields {
		set := make(map[protoreflect.Name]bool)
		for field := range strings.FieldsSeq(list) {
			set[protoreflect.Name(field)] = true
		}
		sets[message] = set
	}
	return sets
})

// known makes the tree opaque if a node has a field that it knows nothing of. m may be nil.
func (b *treeBuilder) known(node proto.Message) {
	m := node.ProtoReflect()
	if !m.IsValid() {
		return
	}
	set := treeFieldSets()[m.Descriptor().Name()]
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !set[f.Name()] {
			b.opaque(string(m.Descriptor().Name()) + " with " + string(f.Name()))
		}
		return true
	})
	if len(m.GetUnknown()) > 0 {
		b.opaque(string(m.Descriptor().Name()) + " of a newer grammar")
	}
}
