package admin

import (
	"fmt"
	"strings"
	"time"

	"pgtier/proxy/wire"
)

// Cache is what a database keeps of answers.
type Cache struct {
	Database             string
	State                string // serving, or why nothing is
	Answers              int
	Bytes, Memory        int64
	Hits, Misses, Shared uint64
	Passed, Stale        uint64
	Kept, Evicted        uint64
	Writes, Flushes      uint64
	Unknown              int64
	Delay                time.Duration // of writes past the proxy; negative: they are not followed
	Statements           []CachedStatement
}

// CachedStatement is what keeping the answers of one statement has brought.
type CachedStatement struct {
	Text              string
	State             string // kept, not kept or resting
	Asked, Hits, Kept uint64
	Reason            string
}

func cacheColumns() []Column {
	return []Column{
		{"database", Text}, {"statement", Text}, {"state", Text}, {"asked", Int8}, {"hits", Int8}, {"hit_percent", Int8}, {"kept", Int8}, {"reason", Text},
		{"answers", Int8}, {"bytes", Int8}, {"memory", Int8}, {"evicted", Int8}, {"shared", Int8}, {"passed", Int8}, {"stale", Int8}, {"writes", Int8},
		{"flushes", Int8}, {"unknown", Int8}, {"delay_ms", Int8},
	}
}

// showCache tells of each database that keeps answers, in a row without statement, and behind it of each statement that was
// looked for among them or never will be.
func showCache(k *call) error {
	for _, c := range k.view.Caches() {
		var delay any
		if c.Delay >= 0 {
			delay = c.Delay.Milliseconds()
		}
		k.row(c.Database, nil, c.State, int64(c.Hits+c.Misses), int64(c.Hits), percent(c.Hits, c.Hits+c.Misses), int64(c.Kept), nil,
			int64(c.Answers), c.Bytes, c.Memory, int64(c.Evicted), int64(c.Shared), int64(c.Passed), int64(c.Stale), int64(c.Writes), int64(c.Flushes), c.Unknown, delay)
		for _, s := range c.Statements {
			k.row(c.Database, shorten(s.Text), s.State, int64(s.Asked), int64(s.Hits), percent(s.Hits, s.Asked), int64(s.Kept), known(s.Reason),
				nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil)
		}
	}
	return nil
}

// percent is part in hundredths of whole, nil of nothing.
func percent(part, whole uint64) any {
	if whole == 0 {
		return nil
	}
	return int64(part * 100 / whole)
}

// Answers are some of those kept.
type Answers struct {
	Database      string // "" for all
	Table         string // as "schema.name"; "" for all
	Column, Value string // that depend on rows of the table with this value there; a Column "" is any
}

// resetCache gives up the answers of all databases, of one, of one table's, or of those of its rows that have a key.
func resetCache(k *call) error {
	of, ok := answersOf(strings.TrimSuffix(strings.TrimSpace(behind(k.arg, 2)), ";"))
	if !ok {
		return wire.NewError(wire.CodeSyntaxError, "RESET CACHE takes a database, a table and a key at most", "RESET CACHE [<db> [<schema>.<table> [<column> = <value>]]]")
	}
	n, err := k.actions.ResetCache(of)
	if err != nil {
		return err
	}
	k.notice(fmt.Sprintf("%d answers given up", n))
	return nil
}

// answersOf reads what is behind RESET CACHE. A value may stand between single quotes, which are doubled inside of them.
func answersOf(text string) (of Answers, ok bool) {
	text, value, keyed := strings.Cut(text, "=")
	words := strings.Fields(text)
	if len(words) > 3 || keyed != (len(words) == 3) {
		return of, false
	}
	words = append(words, "", "", "")
	of = Answers{Database: words[0], Table: words[1], Column: words[2], Value: strings.TrimSpace(value)}
	if quoted := of.Value; strings.HasPrefix(quoted, "'") {
		if len(quoted) < 2 || !strings.HasSuffix(quoted, "'") {
			return of, false
		}
		of.Value = strings.ReplaceAll(quoted[1:len(quoted)-1], "''", "'")
	}
	return of, !keyed || of.Value != "" || strings.TrimSpace(value) == "''"
}
