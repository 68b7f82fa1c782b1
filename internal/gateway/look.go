package gateway

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/gateway/object"
)

// look reads what the gateway needs from a message request or a batch of them, in one pass and without keeping it: the fields that decide on
// top, whether anything inside belongs to an account, and the ids of objects that it names. It is a Writer that is fed the body in pieces, and
// strict enough that nobody can mean one model or object to the gateway and another to the provider: the text must be one JSON object, no
// deciding field may come twice in a message, and of ids that come twice each one counts.
type look struct {
	batch bool // the body is a batch of messages

	model     string
	maxTokens int64
	stream    bool
	sticky    bool // names a file, a container, a skill, a conversation, or thinking that was signed
	server    bool // offers a tool that the provider runs, or names a container
	thread    bool // the provider keeps the conversation
	size      int64

	named map[object.Name]struct{} // the objects it names
	odd   bool                     // a name of an object is no id
	items map[string]*share        // of a batch, by model

	state  lookState
	depth  int
	kinds  []byte // '{' or '[' for each depth
	roles  []role // and what it is
	esc    bool
	isKey  bool   // the string being read stands where a name stands
	wanted bool   // the string being read is a value that matters
	str    []byte // the string being read, as long as it may matter
	name   word   // the last name
	scalar []byte // the bare word being read
	seen   uint8  // deciding fields of the message being read, as bits
	at     int64  // where the byte being read stands
	from   int64  // where the message being read began
	skills []string
	kept   skillKind // of the skill being read
	err    string
}

type lookState uint8

const (
	wantValue lookState = iota // a value
	wantFirst                  // the first name, or the end of the object
	wantName                   // a name
	wantColon
	wantComma // a comma, or the end
	wantItem  // the first item, or the end of the array
	inString
	inScalar
	atEnd
)

// maxDepth bounds nesting; the provider's own objects are far from it.
const maxDepth = 128

// maxString bounds what is kept of a string: names and models are short.
const maxString = 256

// Write reads a piece. It never fails: the verdict is in problem.
func (l *look) Write(p []byte) (int, error) {
	n := len(p)
	base := l.size
	l.size += int64(n)
	for i := 0; i < len(p) && l.err == ""; i++ {
		if l.state == inString {
			i += l.text(p[i:]) - 1
			continue
		}
		l.at = base + int64(i)
		l.step(p[i])
	}
	return n, nil
}

// problem says why the body cannot be sent, or gives the empty string. It is called after the last piece.
func (l *look) problem() string {
	if l.err == "" && l.state == inScalar && l.depth == 0 {
		l.err = "it is no object"
	}
	if l.err == "" && l.state != atEnd {
		l.err = "it is not whole"
	}
	return l.err
}

// text reads the inside of a string and gives how many bytes it took.
func (l *look) text(p []byte) int {
	if l.esc {
		l.esc = false
		l.keep(p[:1])
		return 1
	}
	end := bytes.IndexByte(p, '"')
	if end < 0 {
		end = len(p)
	}
	back := bytes.IndexByte(p[:end], '\\')
	if back >= 0 {
		l.keep(p[:back+1])
		l.esc = true
		return back + 1
	}
	l.keep(p[:end])
	if end < len(p) {
		l.endString()
		return end + 1
	}
	return end
}

func (l *look) keep(p []byte) {
	if room := maxString - len(l.str); room > 0 && (l.isKey || l.wanted) {
		l.str = append(l.str, p[:min(room, len(p))]...)
	}
}

func (l *look) endString() {
	if len(l.str) < maxString && !utf8.Valid(l.str) {
		l.err = "it is no UTF-8"
		return
	}
	if l.isKey {
		l.endName()
		return
	}
	if l.wanted {
		l.value(unquote(l.str))
	}
	l.after()
}

func (l *look) endName() {
	if bytes.IndexByte(l.str, '\\') < 0 {
		l.name = wordOf(l.str)
	} else {
		l.name = wordOf([]byte(unquote(l.str)))
	}
	switch l.name {
	case wordFileID, wordContainer, wordSkillID, wordSkills, wordSignature:
		l.sticky = true
	}
	if l.roles[l.depth-1] == roleMessage {
		bit := uint8(0)
		switch l.name {
		case wordModel:
			bit = 1
		case wordMaxTokens:
			bit = 2
		case wordStream:
			bit = 4
		case wordThread:
			l.sticky, l.thread = true, true
		case wordContainer:
			l.server = true
		}
		if l.seen&bit != 0 {
			l.err = unquote(l.str) + " stands in it twice"
			return
		}
		l.seen |= bit
	}
	l.state = wantColon
}

// unquote gives the text of the inside of a JSON string.
func unquote(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	var s string
	if json.Unmarshal(append(append([]byte{'"'}, b...), '"'), &s) != nil {
		return string(b)
	}
	return s
}

// after says what may come behind a value.
func (l *look) after() {
	if l.state = wantComma; l.depth == 0 {
		l.state = atEnd
	}
}

func (l *look) step(c byte) {
	if l.state == inScalar {
		switch c {
		case ' ', '\t', '\n', '\r', ',', '}', ']':
			l.endScalar()
			if l.err != "" {
				return
			}
		default:
			if len(l.scalar) >= 64 {
				l.err = "it has a number that is too long"
				return
			}
			l.scalar = append(l.scalar, c)
			return
		}
	}
	switch c {
	case ' ', '\t', '\n', '\r':
		return
	case '"':
		l.quote()
		return
	case '{', '[':
		l.open(c)
		return
	case '}', ']':
		l.close(c)
		return
	case ':':
		if l.state == wantColon {
			l.state = wantValue
			return
		}
	case ',':
		if l.state == wantComma && l.depth > 0 {
			if l.state = wantValue; l.kinds[l.depth-1] == '{' {
				l.state = wantName
			}
			return
		}
	default:
		if l.state == wantValue || l.state == wantItem {
			l.state = inScalar
			l.scalar = append(l.scalar[:0], c)
			return
		}
	}
	l.err = "it is no valid JSON"
}

func (l *look) quote() {
	switch l.state {
	case wantName, wantFirst:
		l.isKey = true
	case wantValue, wantItem:
		l.isKey = false
	default:
		l.err = "it is no valid JSON"
		return
	}
	if l.depth == 0 {
		l.err = "it is no object"
		return
	}
	l.str = l.str[:0]
	l.wanted = !l.isKey && l.wants()
	l.state = inString
}

func (l *look) open(c byte) {
	switch {
	case l.state != wantValue && l.state != wantItem:
		l.err = "it is no valid JSON"
		return
	case l.depth == 0 && c != '{':
		l.err = "it is no object"
		return
	case l.depth >= maxDepth:
		l.err = "it is nested too deeply"
		return
	}
	r := roleMessage
	if l.depth > 0 {
		name := l.name
		if l.kinds[l.depth-1] == '[' {
			name = wordOther
		}
		r = roleOf(l.roles[l.depth-1], name, c)
	} else if l.batch {
		r = roleBatch
	}
	l.kinds, l.roles = append(l.kinds[:l.depth], c), append(l.roles[:l.depth], r)
	l.depth++
	l.begin(r)
	if l.state = wantFirst; c == '[' {
		l.state = wantItem
	}
}

func (l *look) close(c byte) {
	ok := l.depth > 0
	if ok && c == '}' {
		ok = l.kinds[l.depth-1] == '{' && (l.state == wantFirst || l.state == wantComma)
	} else if ok {
		ok = l.kinds[l.depth-1] == '[' && (l.state == wantItem || l.state == wantComma)
	}
	if !ok {
		l.err = "it is no valid JSON"
		return
	}
	l.depth--
	l.end(l.roles[l.depth])
	l.after()
}

func (l *look) endScalar() {
	s := string(l.scalar)
	if s != "true" && s != "false" && s != "null" && !json.Valid(l.scalar) {
		l.err = "it is no valid JSON"
		return
	}
	if l.depth > 0 && l.roles[l.depth-1] == roleMessage {
		switch l.name {
		case wordStream:
			l.stream = s == "true"
		case wordMaxTokens:
			if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < 1e12 {
				l.maxTokens = int64(n)
			}
		}
	}
	l.after()
}
