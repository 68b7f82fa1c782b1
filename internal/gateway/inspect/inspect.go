// Package inspect reads the body of a message request, or of a batch of them, as it passes: which model it names, how large its answer may become, and
// which objects of the provider it names. It understands no more of the body than that, in one pass and with little memory.
//
// It never keeps, changes or logs what it reads, and never decides whether a request may go on: the gateway calls it and does.
package inspect

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/gateway/object"
)

// Body reads what the gateway needs from a message request or a batch of them, in one pass and without keeping it: the fields that decide on
// top, whether anything inside belongs to an account, and the ids of objects that it names. It is a Writer that is fed the body in pieces, and
// strict enough that nobody can mean one model or object to the gateway and another to the provider: the text must be one JSON object, no
// deciding field may come twice in a message, and of ids that come twice each one counts. What it gives holds for what has come so far.
type Body struct {
	// Batch says that the body is a batch of messages.
	Batch bool

	// Model, MaxTokens and Stream are those of the message, in a batch of the last one.
	Model     string
	MaxTokens int64
	Stream    bool
	// Sticky says that it names a file, a container, a skill, a conversation, or thinking that was signed.
	Sticky bool
	// Server says that it offers a tool that the provider runs, or names a container.
	Server bool
	// Thread says that the provider keeps the conversation.
	Thread bool
	// Varied says that the same message may be meant to be answered otherwise each time: it asks for a temperature other than zero, has blocks of
	// a tool or of thinking, which belong to one conversation, or something that is not known here.
	Varied bool
	// Size counts the bytes of the body.
	Size int64
	// Named are the objects that it names, and Odd says that what stands for a name of one is no id.
	Named map[object.Name]struct{}
	Odd   bool
	// Items are the messages of a batch, by model.
	Items map[string]*Share

	state  state
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
	only   bool   // Varied is for a temperature alone, which is being read
	at     int64  // where the byte being read stands
	from   int64  // where the message being read began
	skills []string
	kept   skillKind // of the skill being read
	err    string

	// Room for what a usual body takes, so that reading one allocates nothing more.
	room struct {
		kinds  [8]byte
		roles  [8]role
		str    [48]byte
		scalar [16]byte
	}
}

// New makes a reader for one message, or for a batch of them.
func New(batch bool) *Body {
	b := &Body{Batch: batch}
	b.kinds, b.roles, b.str, b.scalar = b.room.kinds[:0], b.room.roles[:0], b.room.str[:0], b.room.scalar[:0]
	return b
}

var _ io.Writer = (*Body)(nil)

type state uint8

const (
	wantValue state = iota // a value
	wantFirst              // the first name, or the end of the object
	wantName               // a name
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

// Write reads a piece. It never fails: the verdict is in Problem.
func (b *Body) Write(p []byte) (int, error) {
	n := len(p)
	base := b.Size
	b.Size += int64(n)
	for i := 0; i < len(p) && b.err == ""; i++ {
		if b.state == inString {
			i += b.text(p[i:]) - 1
			continue
		}
		b.at = base + int64(i)
		b.step(p[i])
	}
	return n, nil
}

// Problem says why the body cannot be sent, or gives the empty string. It is called after the last piece.
func (b *Body) Problem() string {
	if b.err == "" && b.state == inScalar && b.depth == 0 {
		b.err = "it is no object"
	}
	if b.err == "" && b.state != atEnd {
		b.err = "it is not whole"
	}
	return b.err
}

// Failed reports whether what has come so far cannot be sent, whatever may follow.
func (b *Body) Failed() bool { return b.err != "" }

// text reads the inside of a string and gives how many bytes it took.
func (b *Body) text(p []byte) int {
	if b.esc {
		b.esc = false
		b.keep(p[:1])
		return 1
	}
	end := bytes.IndexByte(p, '"')
	if end < 0 {
		end = len(p)
	}
	back := bytes.IndexByte(p[:end], '\\')
	if back >= 0 {
		b.keep(p[:back+1])
		b.esc = true
		return back + 1
	}
	b.keep(p[:end])
	if end < len(p) {
		b.endString()
		return end + 1
	}
	return end
}

func (b *Body) keep(p []byte) {
	if room := maxString - len(b.str); room > 0 && (b.isKey || b.wanted) {
		b.str = append(b.str, p[:min(room, len(p))]...)
	}
}

func (b *Body) endString() {
	if len(b.str) < maxString && !utf8.Valid(b.str) {
		b.err = "it is no UTF-8"
		return
	}
	if b.isKey {
		b.endName()
		return
	}
	if b.wanted {
		b.value(unquote(b.str))
	}
	b.after()
}

func (b *Body) endName() {
	if bytes.IndexByte(b.str, '\\') < 0 {
		b.name = wordOf(b.str)
	} else {
		b.name = wordOf([]byte(unquote(b.str)))
	}
	switch b.name {
	case wordFileID, wordContainer, wordSkillID, wordSkills, wordSignature:
		b.Sticky = true
	}
	if b.roles[b.depth-1] == roleMessage {
		bit := uint8(0)
		switch b.name {
		case wordModel:
			bit = 1
		case wordMaxTokens:
			bit = 2
		case wordStream:
			bit = 4
		case wordThread:
			b.Sticky, b.Thread = true, true
		case wordContainer:
			b.Server = true
		}
		b.vary()
		if b.seen&bit != 0 {
			b.err = unquote(b.str) + " stands in it twice"
			return
		}
		b.seen |= bit
	}
	b.state = wantColon
}

// vary looks at a name of the message itself.
func (b *Body) vary() {
	switch b.name {
	case wordModel, wordMaxTokens, wordStream, wordSteady:
	case wordTemperature: // until it is seen to be zero
		b.Varied, b.only = true, !b.Varied
	default:
		b.Varied, b.only = true, false
	}
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
func (b *Body) after() {
	if b.state = wantComma; b.depth == 0 {
		b.state = atEnd
	}
}

func (b *Body) step(c byte) {
	if b.state == inScalar {
		switch c {
		case ' ', '\t', '\n', '\r', ',', '}', ']':
			b.endScalar()
			if b.err != "" {
				return
			}
		default:
			if len(b.scalar) >= 64 {
				b.err = "it has a number that is too long"
				return
			}
			b.scalar = append(b.scalar, c)
			return
		}
	}
	switch c {
	case ' ', '\t', '\n', '\r':
		return
	case '"':
		b.quote()
		return
	case '{', '[':
		b.open(c)
		return
	case '}', ']':
		b.close(c)
		return
	case ':':
		if b.state == wantColon {
			b.state = wantValue
			return
		}
	case ',':
		if b.state == wantComma && b.depth > 0 {
			if b.state = wantValue; b.kinds[b.depth-1] == '{' {
				b.state = wantName
			}
			return
		}
	default:
		if b.state == wantValue || b.state == wantItem {
			b.state = inScalar
			b.scalar = append(b.scalar[:0], c)
			return
		}
	}
	b.err = "it is no valid JSON"
}

func (b *Body) quote() {
	switch b.state {
	case wantName, wantFirst:
		b.isKey = true
	case wantValue, wantItem:
		b.isKey = false
	default:
		b.err = "it is no valid JSON"
		return
	}
	if b.depth == 0 {
		b.err = "it is no object"
		return
	}
	b.str = b.str[:0]
	b.wanted = !b.isKey && b.wants()
	b.state = inString
}

func (b *Body) open(c byte) {
	switch {
	case b.state != wantValue && b.state != wantItem:
		b.err = "it is no valid JSON"
		return
	case b.depth == 0 && c != '{':
		b.err = "it is no object"
		return
	case b.depth >= maxDepth:
		b.err = "it is nested too deeply"
		return
	}
	r := roleMessage
	if b.depth > 0 {
		name := b.name
		if b.kinds[b.depth-1] == '[' {
			name = wordOther
		}
		r = roleOf(b.roles[b.depth-1], name, c)
	} else if b.Batch {
		r = roleBatch
	}
	b.kinds, b.roles = append(b.kinds[:b.depth], c), append(b.roles[:b.depth], r)
	b.depth++
	b.begin(r)
	if b.state = wantFirst; c == '[' {
		b.state = wantItem
	}
}

func (b *Body) close(c byte) {
	ok := b.depth > 0
	if ok && c == '}' {
		ok = b.kinds[b.depth-1] == '{' && (b.state == wantFirst || b.state == wantComma)
	} else if ok {
		ok = b.kinds[b.depth-1] == '[' && (b.state == wantItem || b.state == wantComma)
	}
	if !ok {
		b.err = "it is no valid JSON"
		return
	}
	b.depth--
	b.end(b.roles[b.depth])
	b.after()
}

func (b *Body) endScalar() {
	s := string(b.scalar)
	if s != "true" && s != "false" && s != "null" && !json.Valid(b.scalar) {
		b.err = "it is no valid JSON"
		return
	}
	if b.depth > 0 && b.roles[b.depth-1] == roleMessage {
		switch b.name {
		case wordStream:
			b.Stream = s == "true"
		case wordTemperature:
			if n, err := strconv.ParseFloat(s, 64); b.only && err == nil && n == 0 {
				b.Varied = false
			}
			b.only = false
		case wordMaxTokens:
			if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < 1e12 {
				b.MaxTokens = int64(n)
			}
		}
	}
	b.after()
}
