package parser

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the parser says now into testdata")

// effectNames is in the order of the bits.
var effectNames = strings.Fields(`BeginsTransaction EndsTransaction TransactionControl ChangesSettings ResetsAll DiscardsAll
DiscardsPlans DiscardsTemp DiscardsSequences SQLPrepare SQLExecute SQLDeallocate Listens Unlistens Notifies AdvancesSequence
ReadsSequenceState ReadsSessionViews DDL CopyIn CopyOut LocksRows LocksTable LocksTransaction UsesCursor RunsOpaqueCode Writes
TempOnCommitDrop`)

func describeEffects(e Effects) string {
	var names []string
	for i, name := range effectNames {
		if e&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// describe writes every fact of a statement, a line a command.
func describe(sql string, s *Statement) string {
	var b strings.Builder
	if s.Unparsed {
		fmt.Fprintf(&b, "unparsed\n")
	}
	if s.Conforming {
		fmt.Fprintf(&b, "conforming\n")
	}
	for _, h := range s.Hints {
		fmt.Fprintf(&b, "hint: %s=%s\n", h.Name, h.Value)
	}
	if s.HintError != "" {
		fmt.Fprintf(&b, "hint error: %s\n", s.HintError)
	}
	if s.Literals {
		fmt.Fprintf(&b, "literals\n")
	}
	if s.TimeWords {
		fmt.Fprintf(&b, "time words\n")
	}
	if s.Pin != "" {
		fmt.Fprintf(&b, "pin: %s\n", s.Pin)
	}
	for i := range s.Commands {
		describeCommand(&b, sql, &s.Commands[i])
	}
	return b.String()
}

// describeNames joins names with a * for those that the text does not show.
func describeNames(names []string, others bool) string {
	if others {
		names = append(names[:len(names):len(names)], "*")
	}
	return strings.Join(names, ",")
}

func describeCommand(b *strings.Builder, sql string, c *Command) {
	fmt.Fprintf(b, "%s", c.Kind)
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, " | %s %s", name, value)
		}
	}
	field("effects", describeEffects(c.Effects))
	if c.Chain {
		b.WriteString(" | chain")
	}
	field("settings", strings.Join(c.Settings, ","))
	field("locals", describeNames(c.Locals, c.LocalsAny))
	field("restores", describeNames(c.Restores, c.RestoresAny))
	field("channel", c.Channel)
	field("name", c.Name)
	if c.NameEnd > 0 {
		fmt.Fprintf(b, " | at %d-%d %s", c.NameStart, c.NameEnd, sql[c.NameStart:c.NameEnd])
	}
	if c.BodyEnd > 0 {
		fmt.Fprintf(b, " | body <%s>", sql[c.BodyStart:c.BodyEnd])
	}
	field("functions", strings.Join(c.Functions, ","))
	field("builtins", strings.Join(c.Builtins, ","))
	field("relations", strings.Join(c.Relations, ","))
	describeFacts(c, field)
	field("pin", c.Pin)
	b.WriteString("\n")
	if c.Prepared != nil {
		b.WriteString("  prepared: ")
		describeCommand(b, sql, c.Prepared)
	}
	if c.Explained != nil {
		b.WriteString("  explained: ")
		describeCommand(b, sql, c.Explained)
	}
}

// describeFacts writes what a command names: tables as r(eads), a(lters) and l(ocks), calls with their number of arguments, comparisons
// with the place of their table, literals by their place as #0.
func describeFacts(c *Command, field func(name, value string)) {
	var list []string
	flush := func(name string) {
		field(name, strings.Join(list, ", "))
		list = nil
	}
	for _, t := range c.Tables {
		bits := ""
		for i, letter := range "ral" {
			if t.Access&(1<<i) != 0 {
				bits += string(letter)
			}
		}
		list = append(list, describeNamed(Named{t.Schema, t.Name})+":"+bits)
	}
	if c.Incomplete {
		list = append(list, "*")
	}
	flush("tables")
	for _, f := range c.Calls {
		first := ""
		if f.First != "" {
			first = "'" + f.First + "'"
		}
		list = append(list, fmt.Sprintf("%s/%d%s", describeNamed(Named{f.Schema, f.Name}), f.Args, first))
	}
	flush("calls")
	for _, o := range c.Operators {
		list = append(list, describeNamed(o))
	}
	flush("operators")
	for _, t := range c.Types {
		list = append(list, describeNamed(t))
	}
	flush("types")
	list = c.Attributes
	flush("attributes")
	list = c.Keywords
	flush("keywords")
	list = c.SystemColumns
	flush("system columns")
	if c.Samples {
		field("samples", "yes")
	}
	if c.Extracts {
		field("extracts", "yes")
	}
	for _, cast := range c.Casts {
		list = append(list, describeCast(cast))
	}
	flush("casts")
	list = c.Derived
	flush("derived")
	for _, cmp := range c.Compared {
		list = append(list, describeComparison(cmp))
	}
	flush("compared")
	if c.Inserted != nil {
		list = append(list, describeInsertion(c.Inserted))
	}
	flush("inserted")
	list = c.Sets
	flush("sets")
	if c.Conflicts {
		field("conflicts", "yes")
	}
	if c.Single {
		field("single", "yes")
	}
	if c.Transaction != (Transaction{}) {
		field("transaction", fmt.Sprintf("%+v", c.Transaction))
	}
	if c.Assigned.Name != "" {
		field("assigned", fmt.Sprintf("%+v", c.Assigned))
	}
	for _, s := range c.Configured {
		field("configured", fmt.Sprintf("%+v", s))
	}
	if c.Analyze {
		field("analyze", "yes")
	}
}

// describeCast writes what decides whether the value is a text, and the type.
func describeCast(c Cast) string {
	from := slices.Clone(c.Columns)
	for _, f := range c.Calls {
		from = append(from, f+"()")
	}
	from = append(from, c.Operators...)
	if c.Opaque {
		from = append(from, "*")
	}
	return strings.Join(from, " ") + "::" + describeNamed(c.Type)
}

func describeNamed(n Named) string {
	if n.Schema == "" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}

func describeInsertion(in *Insertion) string {
	text := strings.Join(in.Columns, " ")
	for _, row := range in.Rows {
		text += "(" + describeValues(row) + ")"
	}
	if in.Overriding {
		text += " overriding"
	}
	return text
}

func describeComparison(c Comparison) string {
	verb := "="
	if c.Array {
		verb = "=any"
	}
	return fmt.Sprintf("%d.%s%s(%s)", c.Table, c.Column, verb, describeValues(c.Values))
}

func describeValues(list []Value) string {
	var values []string
	for _, v := range list {
		text := v.Text
		switch {
		case v.Kind == ValueParam:
			text = fmt.Sprintf("$%d", v.Param)
		case v.Kind == ValueOther:
			text = "other"
		case v.Null:
			text = "null"
		case v.Literal >= 0:
			text = fmt.Sprintf("#%d", v.Literal) // the text differs within a template
		}
		if v.Negative {
			text = "-" + text
		}
		if v.Cast != (Named{}) {
			text += "::" + describeNamed(v.Cast)
		}
		values = append(values, text)
	}
	return strings.Join(values, " ")
}

// TestGolden holds the facts to testdata/golden: "# comment", the SQL, "----", the facts, an empty line.
func TestGolden(t *testing.T) {
	cache := NewCache(1 << 20)
	runGoldens(t, "testdata/golden/*.txt", func(sql string) string { return describe(sql, cache.Statement([]byte(sql))) })
}

func runGoldens(t *testing.T, pattern string, describe func(sql string) string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runGolden(t, file, describe) })
	}
}

func runGolden(t *testing.T, file string, describe func(sql string) string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var comment, sql, want strings.Builder
	inFacts := false
	finish := func() {
		if sql.Len() == 0 {
			out.WriteString(comment.String())
			return
		}
		text := strings.TrimSuffix(sql.String(), "\n")
		got := describe(text)
		if !*update && got != want.String() {
			t.Errorf("%s%s\ngot:\n%swant:\n%s", comment.String(), text, got, want.String())
		}
		fmt.Fprintf(&out, "%s%s\n----\n%s\n", comment.String(), text, got)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "# "):
			finish()
			comment.Reset()
			sql.Reset()
			want.Reset()
			inFacts = false
			comment.WriteString(line + "\n")
		case line == "----":
			inFacts = true
		case line == "" && inFacts:
		case inFacts:
			want.WriteString(line + "\n")
		default:
			sql.WriteString(line + "\n")
		}
	}
	finish()
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
