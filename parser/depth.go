package parser

// maxDepth bounds how deep a parse tree may get, by an estimate that is never below the truth by more than a small
// factor. pg_query's C code recurses over the tree without looking at its stack: a chain of about 25,000 operators was
// measured to overflow 8 MB and kill the process. At 1,000 it uses some 320 kB.
const maxDepth = 1000

const (
	// maxTokens bounds a parse, and so the wait of others for the grammar's lock, to about half a second: 4 µs a token were measured.
	maxTokens = 100_000
	// maxWarnings bounds CREATE GLOBAL TEMP. The warning about it counts all characters before it: 20,000 in one text took 12 s.
	maxWarnings = 100
)

// costly says whether the grammar would take too long over src.
func costly(src []byte) bool {
	if len(src) <= maxWarnings {
		return false
	}
	tokens, warnings := 0, 0
	l := lexer{src: src}
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		tokens++
		if t.kind == tokenBad && t.end-t.start > maxOperator && classes[src[t.start]]&classOperator != 0 {
			return true
		}
		if isWord(src, t, "global") {
			warnings++
		}
	}
	return tokens > maxTokens || warnings > maxWarnings
}

// unterminated says whether src ends inside a comment, a literal or a quoted name. The server rejects that; pg_query takes time
// quadratic in the text over some of it.
func unterminated(src []byte) bool {
	l := lexer{src: src}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		if t.kind == tokenBad && t.end == len(src) && classes[src[t.start]]&classDigit == 0 && t.end-t.start > 1 {
			return true
		}
	}
	return false
}

// level is one open parenthesis, bracket or CASE while the depth is estimated.
type level struct {
	isCase bool
	item   int // depth of the expression being read
	max    int // deepest expression of the list so far
	chain  int // joins and set operations: each nests all before it
}

func (v *level) depth() int { return v.chain + max(v.max, v.item) }

// deeperThan says whether the tree of src may be deeper than limit. Commas, AND and OR start a new
// expression beside the last one; operators and nested constructs are counted as if each contained the rest.
func deeperThan(src []byte, limit int) bool {
	levels := make([]level, 1, 32)
	l := lexer{src: src}
	plain := true // the token before lets END and CASE be keywords
	for {
		t := l.nextCode()
		top := &levels[len(levels)-1]
		text := src[t.start:t.end]
		switch t.kind {
		case tokenEnd:
			return false
		case tokenSelf, tokenOperator:
			switch text[0] {
			case '(', '[':
				if len(levels) > limit {
					return true
				}
				levels = append(levels, level{})
			case ')', ']':
				for len(levels) > 1 {
					closed := levels[len(levels)-1]
					levels = closeLevel(levels)
					if !closed.isCase {
						break
					}
				}
			case ',', ';':
				top.max, top.item = max(top.max, top.item), 0
			case '.':
			default:
				top.item++
			}
		case tokenIdent:
			if plain {
				levels = countWord(levels, text)
			}
		}
		plain = !(t.kind == tokenSelf && text[0] == '.') && !(t.kind == tokenIdent && foldMatch(text, "as"))
		if levels[len(levels)-1].depth() > limit || len(levels) > limit {
			return true
		}
	}
}

// closeLevel makes the innermost level a part of the expression around it.
func closeLevel(levels []level) []level {
	last := len(levels) - 1
	levels[last-1].item += levels[last].depth() + 1
	return levels[:last]
}

// countWord counts a keyword that nests expressions.
func countWord(levels []level, word []byte) []level {
	top := &levels[len(levels)-1]
	switch {
	case foldMatch(word, "case"):
		return append(levels, level{isCase: true, chain: 1})
	case foldMatch(word, "end"):
		if top.isCase {
			return closeLevel(levels)
		}
	case foldMatch(word, "and"), foldMatch(word, "or"):
		top.max, top.item = max(top.max, top.item), 0
	case foldMatch(word, "join"), foldMatch(word, "union"), foldMatch(word, "intersect"), foldMatch(word, "except"):
		top.chain++
	case foldMatch(word, "select"):
		top.chain += 2 // a query in an expression is six messages deep, not two
	default:
		for _, k := range [...]string{"not", "is", "isnull", "notnull", "like", "ilike", "similar", "in", "between",
			"collate", "at", "overlaps", "escape", "operator"} {
			if foldMatch(word, k) {
				top.item++
			}
		}
	}
	return levels
}
