package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// levels is the table of ARCHITECTURE.md. A package may import those of lower levels only.
func levels() map[string]int {
	return map[string]int{
		"cmd/pgtier":         7,
		"bench":              7,
		"proxy/wiretest":     7, // tests only: conversations held against a server and a whole proxy
		"proxy/shardtest":    7, // tests only: shards held against one server
		"resharder/movetest": 7, // tests only: moves under clients of whole proxies
		"bench/regress":      7,
		"configs":            6,
		"proxy":              5,
		"proxy/session":      4,
		"proxy/admin":        4,
		"proxy/pool":         3,
		"proxy/fleet":        3,
		"proxy/cache":        3,
		"resharder":          3,
		"router":             2,
		"router/plan":        2,
		"router/tags":        2,
		"proxy/backend":      2,
		"proxy/sequence":     2,
		"router/balance":     1,
		"router/catalog":     1,
		"router/topology":    1,
		"proxy/auth":         1,
		"proxy/merge":        1,
		"proxy/copyrows":     0,
		"proxy/shardmap":     1,
		"proxy/follow":       1,
		"resharder/stream":   1,
		"proxy/wire":         0,
		"parser":             0,
		"router/shard":       0,
		"cmd/localpg":        0,
		"cmd/localpg/pgtest": 1,
		"cmd/demo":           1,
	}
}

// walls is who alone may import a module: everybody else would spread its ways through the code.
func walls() map[string][]string {
	return map[string][]string{
		"github.com/spf13/viper":               {"configs"},
		"github.com/pganalyze/pg_query_go":     {"parser"},
		"github.com/jackc/pgproto3":            {"proxy/wire"},
		"github.com/jackc/pglogrepl":           {"proxy/follow"},
		"github.com/spf13/cobra":               {"cmd/pgtier", "bench"},
		"github.com/prometheus/client_golang/": {"proxy"},
	}
}

// source is one Go file of ours.
type source struct {
	path, pkg string
	imports   []string
	test      bool
}

// sources reads the import lines of every Go file below root. It reads them itself rather than asking the go
// command, because the result of a test that runs a command is cached although the sources changed.
func sources(t *testing.T, root string) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin" || entry.Name() == "out") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		one := source{path: filepath.ToSlash(relative), pkg: filepath.ToSlash(filepath.Dir(relative)), test: strings.HasSuffix(path, "_test.go")}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			one.imports = append(one.imports, imported)
		}
		all = append(all, one)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// violations lists what breaks the layers.
func violations(all []source) []string {
	var found []string
	known := levels()
	for _, file := range all {
		level, ok := known[file.pkg]
		if !ok {
			found = append(found, file.path+": package "+file.pkg+" is not in the table of layers")
			continue
		}
		for _, imported := range file.imports {
			for module, allowed := range walls() {
				if strings.HasPrefix(imported, module) && !slices.Contains(allowed, file.pkg) && !file.test {
					found = append(found, file.path+": imports "+imported+", which is for "+strings.Join(allowed, ", "))
				}
			}
			below, ours := strings.CutPrefix(imported, "pgtier/")
			if !ours {
				continue
			}
			target, ok := known[below]
			switch {
			case !ok:
				found = append(found, file.path+": imports "+below+", which is not in the table of layers")
			case file.test && (below == file.pkg || strings.HasPrefix(below, "cmd/localpg")):
				// Tests stand beside their package and start real servers.
			case target >= level:
				found = append(found, file.path+": "+file.pkg+" (level "+strconv.Itoa(level)+") imports "+below+" (level "+strconv.Itoa(target)+")")
			}
		}
	}
	return found
}

func TestPackagesImportOnlyLowerLayers(t *testing.T) {
	all := sources(t, filepath.Join("..", ".."))
	if len(all) < 20 {
		t.Fatalf("read only %d files: the test looks in the wrong place", len(all))
	}
	for _, violation := range violations(all) {
		t.Error(violation)
	}
}

func TestLayerRulesCatchWhatTheyAreFor(t *testing.T) {
	for name, tc := range map[string]struct {
		file source
		want string
	}{
		"upwards":        {source{path: "a.go", pkg: "proxy/pool", imports: []string{"pgtier/proxy/session"}}, "level 4"},
		"same level":     {source{path: "a.go", pkg: "proxy/session", imports: []string{"pgtier/proxy/admin"}}, "level 4"},
		"upwards, test":  {source{path: "a_test.go", pkg: "proxy/pool", imports: []string{"pgtier/proxy"}, test: true}, "level 5"},
		"viper":          {source{path: "a.go", pkg: "proxy", imports: []string{"github.com/spf13/viper"}}, "for configs"},
		"pg_query":       {source{path: "a.go", pkg: "router", imports: []string{"github.com/pganalyze/pg_query_go/v5"}}, "for parser"},
		"pglogrepl":      {source{path: "a.go", pkg: "proxy", imports: []string{"github.com/jackc/pglogrepl"}}, "for proxy/follow"},
		"pgproto3":       {source{path: "a.go", pkg: "proxy/session", imports: []string{"github.com/jackc/pgproto3/v2"}}, "for proxy/wire"},
		"unknown":        {source{path: "a.go", pkg: "proxy/util"}, "not in the table"},
		"unknown import": {source{path: "a.go", pkg: "proxy", imports: []string{"pgtier/proxy/util"}}, "not in the table"},
	} {
		got := violations([]source{tc.file})
		if len(got) != 1 || !strings.Contains(got[0], tc.want) {
			t.Errorf("%s: got %q, want one that says %q", name, got, tc.want)
		}
	}
	if got := violations([]source{{path: "a.go", pkg: "configs", imports: []string{"pgtier/proxy", "github.com/spf13/viper", "fmt"}}}); len(got) != 0 {
		t.Errorf("allowed imports are refused: %q", got)
	}
}
