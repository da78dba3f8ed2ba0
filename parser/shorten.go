package parser

// shortenAbove is the length, in bytes, from which long lists are shortened before the grammar sees them: a parse costs
// about 5 µs a constant, so that 1 MB of VALUES would take seconds.
const shortenAbove = 8 << 10

// keepItems is how many items of a list stay. Functions whose literals matter take fewer arguments.
const keepItems = 16

// shorten blanks with spaces, in place, constants and parameters behind the first keepItems of a list inside parentheses,
// and rows of nothing else, "( … )", behind the first keepItems rows. They carry no facts; what stays keeps its offset.
func shorten(text []byte) {
	s := shortener{text: text, open: make([]openList, 1, 16)}
	l := lexer{src: text}
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		s.token(t)
	}
}

// shortener follows the lists of a text.
type shortener struct {
	text []byte
	open []openList // the last is the innermost; the first stands for the text itself
}

// openList is a list that has not ended.
type openList struct {
	items int      // commas seen
	comma int      // offset of the last one
	item  itemKind // what the item behind it is so far
	mixed bool     // some item is more than a constant
}

type itemKind uint8

const (
	itemEmpty    itemKind = iota
	itemConstant          // one constant or parameter
	itemRow               // ( constants )
	itemMixed
)

func (s *shortener) token(t token) {
	top := &s.open[len(s.open)-1]
	c := byte(0)
	if t.kind == tokenSelf {
		c = s.text[t.start]
	}
	switch {
	case c == ',':
		s.endItem(t.start)
		top.items++
		top.comma, top.item = t.start, itemEmpty
	case c == '(':
		s.open = append(s.open, openList{})
	case c == ')' && len(s.open) > 1:
		s.endItem(t.start)
		row := !top.mixed
		s.open = s.open[:len(s.open)-1]
		s.extend(row, itemRow)
	default:
		s.extend(isConstant(t.kind), itemConstant)
	}
}

// extend adds something to the innermost list's item; simple things stay what they are only when alone.
func (s *shortener) extend(simple bool, kind itemKind) {
	top := &s.open[len(s.open)-1]
	if simple && top.item == itemEmpty {
		top.item = kind
		return
	}
	top.item = itemMixed
}

// endItem blanks the item that ends before offset end if nobody needs it. Outside parentheses only rows go: there a constant
// may be SELECT's, whose columns are counted.
func (s *shortener) endItem(end int) {
	top := &s.open[len(s.open)-1]
	if top.item != itemConstant {
		top.mixed = true
	}
	if top.items < keepItems || top.item != itemRow && (top.item != itemConstant || len(s.open) == 1) {
		return
	}
	for i := top.comma; i < end; i++ {
		s.text[i] = ' '
	}
}

func isConstant(k tokenKind) bool {
	switch k {
	case tokenString, tokenEscape, tokenDollar, tokenBits, tokenInteger, tokenNumber, tokenParam:
		return true
	}
	return false
}
