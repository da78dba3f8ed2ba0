package configs

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with the configuration.
type Problem struct {
	// Line is where in the file, counted from 1; 0 is unknown or not in the file.
	Line int
	// Path is the key, for example databases.app.pool.size, or the name of the environment variable; "" is the file as a whole.
	Path string
	// Text says what is wrong and what to do. It holds no secret.
	Text string
}

// String returns "line 3: pool.size: …".
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error is everything that is wrong with a configuration, in the order of its source.
type Error struct {
	// Source is the file's path, or what stands in for a file.
	Source   string
	Problems []Problem
}

// Error returns one line, or one line for each problem below a headline.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return fmt.Sprintf("configuration %s: %s", e.Source, e.Problems[0])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration %s: %d problems", e.Source, len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// nearest returns the candidate that a typist most likely meant by word, or "" when none is near.
func nearest(word string, candidates []string) string {
	if len(word) > maxVariableName {
		return ""
	}
	best, bestDistance := "", len(word)/3+2
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(word), candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours between a and b.
func distance(a, b string) int {
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			change := previous[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			current[j] = min(change, previous[j]+1, current[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}

// unknownKey words the commonest mistake.
func unknownKey(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("unknown key; did you mean %s?", near)
	}
	return "unknown key; known here are " + strings.Join(known, ", ")
}
