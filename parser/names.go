package parser

// isWord says whether t is this unquoted word, given in lower case.
func isWord(text []byte, t token, word string) bool {
	return t.kind == tokenIdent && foldMatch(text[t.start:t.end], word)
}

func isName(t token) bool {
	return t.kind == tokenIdent || t.kind == tokenQuoted || t.kind == tokenUnicode
}

// setName notes where the prepared statement's name stands.
func (c *Command) setName(src source, t token) {
	c.NameStart, c.NameEnd = src.offset+t.start, src.offset+t.end
}

// findPrepare locates name and body of PREPARE name [(types)] AS body, and returns the body.
func (c *Command) findPrepare(src source) (body source) {
	l := lexer{src: src.text}
	l.nextCode() // the word PREPARE
	c.setName(src, l.nextCode())
	t := l.nextCode()
	for depth := 0; t.kind != tokenEnd && (depth > 0 || !isWord(src.text, t, "as")); t = l.nextCode() {
		if t.kind == tokenSelf && src.text[t.start] == '(' {
			depth++
		} else if t.kind == tokenSelf && src.text[t.start] == ')' {
			depth--
		}
	}
	t = l.nextCode()
	start, end := t.start, t.start
	for ; t.kind != tokenEnd && !(t.kind == tokenSelf && src.text[t.start] == ';'); t = l.nextCode() {
		end = t.end
	}
	c.BodyStart, c.BodyEnd = src.offset+start, src.offset+end
	return source{text: src.text[start:end], offset: c.BodyStart, whole: src.whole}
}

// findExecute locates the name of EXECUTE name, which may stand behind EXPLAIN (…) or CREATE TABLE … AS: it is the
// last EXECUTE outside parentheses that a name follows.
func (c *Command) findExecute(src source) {
	l := lexer{src: src.text}
	depth := 0
	after := false
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		if t.kind == tokenSelf {
			switch src.text[t.start] {
			case '(':
				depth++
			case ')':
				depth--
			}
		}
		if after && isName(t) {
			c.setName(src, t)
			after = false // EXECUTE execute names a statement "execute"
			continue
		}
		after = depth == 0 && isWord(src.text, t, "execute")
	}
}

// findDeallocate locates the name of DEALLOCATE [PREPARE] name: its last word.
func (c *Command) findDeallocate(src source) {
	l := lexer{src: src.text}
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		if isName(t) {
			c.setName(src, t)
		}
	}
}
