package parser

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"
	grammar "github.com/pganalyze/pg_query_go/v5/parser"
	"google.golang.org/protobuf/proto"
)

// grammarLock lets one goroutine at a time into pg_query. While it parses, pg_query points the process's file descriptor 2 at
// a pipe and back again; two at once would leave it on a closed pipe, and the next line to standard error would be fatal.
var grammarLock sync.Mutex

// analyse finds the facts of text the slow way. It sets everything but Template.
func analyse(text string) *Statement {
	src := []byte(text)
	st := &Statement{}
	st.readHints(src)
	st.Literals, st.Conforming = quotes(src)
	if bytes.IndexByte(src, 0) >= 0 {
		st.Unparsed, st.Pin = true, pinNUL
		return st
	}
	whole := &wholeText{src: src, taken: takenOut(src)}
	st.TimeWords = timeLiteral(src, whole.taken)
	readable := makeReadable(src)
	blankComments(src)
	if len(src) > shortenAbove && startsPlain(src) {
		shorten(src)
		whole.shortened = true
	}
	tree, err := parseGuarded(src)
	switch {
	case errors.Is(err, errUnterminated):
		st.Unparsed, st.Commands = true, guess(src)
		if !readable {
			st.Pin = pinEncoding
		}
		st.unite()
		return st
	case errors.Is(err, errTextTooLarge):
		st.Unparsed, st.Pin, st.Effects = true, pinTooLarge, glance(src)
		return st
	case err != nil:
		st.Unparsed = true
		st.Commands = guess(src)
	default:
		st.Commands = commands(tree, whole)
	}
	if !readable {
		if hidesFacts(st, src) {
			st.Pin = pinEncoding
		}
		if misreadsNames(src, text) {
			st.hideTables()
		}
	}
	st.unite()
	return st
}

// unite computes the unions over the commands.
func (s *Statement) unite() {
	for i := range s.Commands {
		c := &s.Commands[i]
		if len(s.Commands) > 1 && c.Effects&(SQLPrepare|SQLExecute|SQLDeallocate) != 0 {
			c.pin(strings.ToUpper(c.Kind.String()) + " among several statements")
		}
		s.Effects |= c.Effects
		if s.Pin == "" {
			s.Pin = c.Pin
		}
	}
	s.Plain = s.isPlain()
}

var (
	errTextTooLarge = errors.New("statement too large to analyse")
	errUnterminated = errors.New("comment, literal or quoted name without an end")
)

// parseGuarded parses src, whose comments are blanked, unless that could take too long or overflow the stack of pg_query.
func parseGuarded(src []byte) (*pg.ParseResult, error) {
	if unterminated(src) {
		return nil, errUnterminated
	}
	if deeperThan(src, maxDepth) || costly(src) {
		return nil, errTextTooLarge
	}
	tree, err := parse(string(src))
	if err != nil && (strings.Contains(err.Error(), "recursion depth") || strings.Contains(err.Error(), "memory exhausted")) {
		return nil, errTextTooLarge
	}
	return tree, err
}

// parse runs PostgreSQL's grammar over text.
func parse(text string) (*pg.ParseResult, error) {
	grammarLock.Lock()
	encoded, err := grammar.ParseToProtobuf(text)
	grammarLock.Unlock()
	if err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	tree := &pg.ParseResult{}
	if err := proto.Unmarshal(encoded, tree); err != nil {
		return nil, fmt.Errorf("decode parse tree: %w", err)
	}
	return tree, nil
}

// makeReadable replaces, in place, the bytes that are no UTF-8 by ASCII ones that keep tokens where they are, and says
// whether there were none. The client may speak another encoding; the facts rarely lie in such bytes.
func makeReadable(src []byte) bool {
	if utf8.Valid(src) {
		return true
	}
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			if i > 0 && src[i-1] != '$' && classes[src[i-1]]&classIdentCont != 0 {
				src[i] = '$' // no keyword has one
			} else {
				src[i] = '_'
			}
		}
		i += n
	}
	return false
}

// hidesFacts says whether bytes in an unknown encoding may have hidden something: in some, a character's second byte is an ASCII
// one, of which the backslash and letters could be misread; names would be compared in the wrong encoding.
func hidesFacts(st *Statement, src []byte) bool {
	if st.Unparsed || bytes.IndexByte(src, '\\') >= 0 {
		return true
	}
	for i := range st.Commands {
		if c := &st.Commands[i]; c.Name != "" || c.Channel != "" {
			return true
		}
	}
	return false
}

// misreadsNames says whether makeReadable changed more than literals and comments of text.
func misreadsNames(src []byte, text string) bool {
	l := lexer{src: src}
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		if (isName(t) || t.kind == tokenBad) && string(src[t.start:t.end]) != text[t.start:t.end] {
			return true
		}
	}
	return false
}

// hideTables notes that the names of tables may be wrong.
func (s *Statement) hideTables() {
	for i := range s.Commands {
		for c := &s.Commands[i]; c != nil; c = c.Prepared {
			c.Incomplete = true
			if c.Explained != nil {
				c.Explained.Incomplete = true
			}
		}
	}
}

// blankComments overwrites comments with spaces, in place. pg_query's scanner trips over comments where PostgreSQL's does
// not: WITH /* */ ORDINALITY, and literals continued behind a comment.
func blankComments(src []byte) {
	l := lexer{src: src}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		switch t.kind {
		case tokenComment:
			for i := t.start; i < t.end; i++ {
				src[i] = ' '
			}
		case tokenString, tokenEscape, tokenUString, tokenBits, tokenNational:
			blankJoints(src, t)
		}
	}
}

// blankJoints blanks the comments between the segments of a literal.
func blankJoints(src []byte, t token) {
	l := lexer{src: src}
	quote := t.start + bytes.IndexByte(src[t.start:t.end], '\'')
	for {
		end, _ := l.segment(quote+1, t.kind)
		if end >= t.end {
			return
		}
		quote, _ = l.continuation(end)
		for i := end; i < quote; i++ {
			if src[i] != '\n' && src[i] != '\r' { // a line break is what joins them
				src[i] = ' '
			}
		}
	}
}

// quotes says whether src has quoted literals, or bytes in which one may hide, and whether a plain one has a backslash.
func quotes(src []byte) (literals, backslash bool) {
	l := lexer{src: src}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		switch t.kind {
		case tokenString, tokenEscape, tokenDollar, tokenUString, tokenBits, tokenNational, tokenBad:
			literals = true
		}
	}
	return literals, l.backslash
}

// startsPlain says whether src is one statement of a kind that names nothing by offset.
func startsPlain(src []byte) bool {
	l := lexer{src: src}
	t := l.nextCode()
	if t.kind != tokenIdent || !takesTemplate(src[t.start:t.end]) {
		return false
	}
	for ; t.kind != tokenEnd; t = l.nextCode() {
		if t.kind == tokenSelf && src[t.start] == ';' {
			return l.nextCode().kind == tokenEnd
		}
	}
	return true
}

// commands reads the facts of every statement of the tree of a text.
func commands(tree *pg.ParseResult, whole *wholeText) []Command {
	if len(tree.Stmts) == 0 {
		return nil
	}
	out := make([]Command, len(tree.Stmts))
	for i, raw := range tree.Stmts {
		start, end := int(raw.StmtLocation), len(whole.src)
		if raw.StmtLen > 0 {
			end = start + int(raw.StmtLen)
		}
		out[i].read(raw.Stmt, source{text: whole.src[start:end], offset: start, whole: whole})
	}
	return out
}

// source is the text of one statement.
type source struct {
	text   []byte
	offset int // of text in the whole
	whole  *wholeText
}

// pin notes the first reason.
func (c *Command) pin(reason string) {
	if c.Pin == "" {
		c.Pin = reason
	}
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}
