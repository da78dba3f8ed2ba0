package parser

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// piece is a part of a statement that should, parsed by itself, give what the tree of the statement has.
type piece struct {
	before string // what makes a statement of it; "SELECT " for none
	span   Span
	want   *pg.SelectStmt // what it must give, but for what a SELECT without anything has
	set    *Span          // gets span if it is proved
	then   func()         // is called then; nil for nothing
}

const (
	// maxPieces is how many times its own length a statement may be parsed again: calls and sub-selects nest, so that all pieces
	// together may be longer than the text by any factor.
	maxPieces = 8
	// maxRetries bounds how many pieces are parsed one by one, where one of them is an error to the grammar.
	maxRetries = 64
)

// expect notes something to prove.
func (f *spanFinder) expect(p piece) {
	if p.before == "" {
		p.before = "SELECT "
	}
	if p.span.From < p.span.To {
		f.pieces = append(f.pieces, p)
	}
}

// check proves the pieces, all in one parse, and sets their spans. Those behind the bound stay unproved.
func (f *spanFinder) check() {
	f.bound()
	if len(f.pieces) == 0 {
		return
	}
	got := f.parsePieces(f.pieces)
	if got == nil {
		got = f.parseEach()
	}
	for i, p := range f.pieces {
		if len(got) > 0 && got[i+1] != nil && p.proves(got[0], got[i+1]) {
			*p.set = p.span
			if p.then != nil {
				p.then()
			}
		}
	}
}

// bound drops the pieces that are too much to parse.
func (f *spanFinder) bound() {
	tokens, bytes := min(maxPieces*len(f.tokens), maxTokens), min(maxPieces*len(f.src), maxPieces*MaxText)
	for i, p := range f.pieces {
		tokens -= p.span.To - p.span.From
		bytes -= f.tokens[p.span.To-1].end - f.tokens[p.span.From].start
		if tokens < 0 || bytes < 0 {
			f.pieces = f.pieces[:i]
			return
		}
	}
}

// parseEach parses the pieces one by one, behind an empty SELECT, with nil for those that are errors. It gives nothing if there are too many.
func (f *spanFinder) parseEach() []*pg.SelectStmt {
	if len(f.pieces) > maxRetries {
		return nil
	}
	out := f.parsePieces(nil)
	for i := range f.pieces {
		var one *pg.SelectStmt
		if got := f.parsePieces(f.pieces[i : i+1]); got != nil {
			one = got[1]
		}
		out = append(out, one)
	}
	return out
}

// parsePieces parses an empty SELECT and the pieces, nil if that is an error. Locations are cleared.
func (f *spanFinder) parsePieces(pieces []piece) []*pg.SelectStmt {
	var text strings.Builder
	text.WriteString("SELECT")
	for _, p := range pieces {
		text.WriteString(";\n" + p.before + f.text(p.span))
	}
	result, err := parse(text.String())
	if err != nil || len(result.Stmts) != len(pieces)+1 {
		return nil
	}
	out := make([]*pg.SelectStmt, 0, len(result.Stmts))
	for _, raw := range result.Stmts {
		clearLocations(raw.ProtoReflect())
		out = append(out, raw.Stmt.GetSelectStmt())
	}
	return out
}

// proves says whether got is what p should give.
func (p *piece) proves(bare, got *pg.SelectStmt) bool {
	want := proto.Clone(bare).(*pg.SelectStmt)
	proto.Merge(want, p.want)
	return proto.Equal(want, got)
}

// isQuery says whether s by itself is this query.
func (f *spanFinder) isQuery(s Span, query *pg.Node) bool {
	result, err := parse(f.text(s))
	if err != nil || len(result.Stmts) != 1 {
		return false
	}
	want := proto.Clone(query)
	clearLocations(want.ProtoReflect())
	clearLocations(result.Stmts[0].ProtoReflect())
	return proto.Equal(want, result.Stmts[0].Stmt)
}

// locations are the fields that say where something stands.
var locations = []protoreflect.Name{"location", "stmt_location", "stmt_len"}

// clearLocations makes trees of equal statements equal wherever they stand.
func clearLocations(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
			if slices.Contains(locations, f.Name()) {
				m.Clear(f)
			}
		case f.IsList():
			for i := range v.List().Len() {
				clearLocations(v.List().Get(i).Message())
			}
		default:
			clearLocations(v.Message())
		}
		return true
	})
}
