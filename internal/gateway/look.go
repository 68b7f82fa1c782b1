package gateway

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// look reads what the gateway needs from a message request, in one pass and without keeping it: the fields that decide on top, and whether
// anything inside belongs to an account. It is a Writer that is fed the body in pieces, and strict enough that nobody can mean one model
// to the gateway and another to the provider: the text must be one JSON object, and no deciding field may come twice.
type look struct {
	model     string
	maxTokens int64
	stream    bool
	sticky    bool // names a file, a container, a skill, or thinking that was signed
	size      int64

	state  lookState
	depth  int
	kinds  []byte // '{' or '[' for each depth
	esc    bool
	isKey  bool   // the string being read stands where a name stands
	str    []byte // the string being read, as long as it may matter
	key    string // the last name at depth 1
	scalar []byte // the bare word being read
	seen   map[string]bool
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
	l.size += int64(n)
	for i := 0; i < len(p) && l.err == ""; i++ {
		if l.state == inString {
			i += l.text(p[i:]) - 1
			continue
		}
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
	if room := maxString - len(l.str); room > 0 && (l.isKey || l.depth == 1) {
		l.str = append(l.str, p[:min(room, len(p))]...)
	}
}

func (l *look) endString() {
	if len(l.str) < maxString && !utf8.Valid(l.str) {
		l.err = "it is no UTF-8"
		return
	}
	if !l.isKey {
		if l.depth == 1 && l.key == "model" {
			l.model = unquote(l.str)
		}
		l.after()
		return
	}
	name := unquote(l.str)
	switch name {
	case "file_id", "container", "skill_id", "skills", "signature":
		l.sticky = true
	}
	if l.depth == 1 {
		l.key = name
		switch name {
		case "model", "max_tokens", "stream":
			if l.seen[name] {
				l.err = name + " stands in it twice"
				return
			}
			if l.seen == nil {
				l.seen = map[string]bool{}
			}
			l.seen[name] = true
		}
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
	l.kinds = append(l.kinds[:l.depth], c)
	l.depth++
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
	l.after()
}

func (l *look) endScalar() {
	s := string(l.scalar)
	if s != "true" && s != "false" && s != "null" && !json.Valid(l.scalar) {
		l.err = "it is no valid JSON"
		return
	}
	if l.depth == 1 {
		switch l.key {
		case "stream":
			l.stream = s == "true"
		case "max_tokens":
			if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < 1e12 {
				l.maxTokens = int64(n)
			}
		}
	}
	l.after()
}
