package awssecretsmanager

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// maxDocument is the service's limit for a secret's string, in bytes.
const maxDocument = 64 << 10

// document is the text of one version of the secret: the value itself when field is empty, otherwise a JSON object that
// holds it in that member. The zero document is that of a secret that has no value yet. Its text is kept in a
// secret.Value because neighbours may be secret too.
type document struct {
	field string
	text  secret.Value
}

// value gives the held value, or the zero Value when the document, or the member, is missing, null or empty. Kinds: Invalid when
// the text is not what the configuration says.
func (d document) value() (secret.Value, error) {
	if d.text.IsZero() || d.field == "" {
		return d.text, nil
	}
	var v secret.Value
	var err error
	d.text.Reveal(func(b []byte) {
		var m member
		if m, err = find(b, d.field); err != nil || !m.found {
			return
		}
		var text []byte
		if text, err = unquote(b[m.start:m.end], d.field); err == nil {
			v = secret.New(text)
		}
	})
	return v, err
}

// with gives a copy that holds v; every byte outside the value's own JSON string stays as it is. A missing member is added
// behind the last one, in its layout. Kinds: Invalid.
func (d document) with(v secret.Value) (document, error) {
	var out []byte
	var err error
	v.Reveal(func(value []byte) {
		if !utf8.Valid(value) {
			err = fault.New(fault.Invalid, "build secret: the value is not text")
			return
		}
		if d.field == "" {
			out = bytes.Clone(value)
			return
		}
		quoted := quote(value)
		defer clear(quoted)
		d.text.Reveal(func(text []byte) { out, err = set(text, d.field, quoted) })
	})
	if err != nil {
		return document{}, err
	}
	if len(out) > maxDocument {
		clear(out)
		return document{}, fault.Newf(fault.Invalid, "build secret: it would be longer than the %d bytes that the service takes", maxDocument)
	}
	return document{field: d.field, text: secret.New(out)}, nil
}

// member says where in a JSON object one member's value stands, and what is needed to add one.
type member struct {
	found      bool
	start, end int    // of the value when found
	last       int    // behind the last member's value, or behind the opening brace of an empty object
	before     []byte // the blanks before the last member's name
	after      []byte // the blanks behind the last member's colon
	empty      bool
}

// find looks for the member name in the object that text is. Names compare decoded, so that an escaped spelling is the
// same name. Kinds: Invalid for text that is no JSON object, and for a name that stands there twice: consumers would
// disagree on which one counts.
func find(text []byte, name string) (member, error) {
	bad := func(what string) (member, error) {
		return member{}, fault.New(fault.Invalid, "read secret: "+what, fault.Hint("leave out `field` when the whole string is the value; otherwise make the secret a JSON object with the text member %q", name))
	}
	if !utf8.Valid(text) || !json.Valid(text) {
		return bad("its string is not JSON")
	}
	i := blanks(text, 0)
	if text[i] != '{' {
		return bad("its JSON is not an object")
	}
	i++
	m := member{empty: true, last: i}
	for {
		from := i
		i = blanks(text, i)
		if text[i] == '}' {
			return m, nil
		}
		m.empty, m.before = false, text[from:i]
		end := skip(text, i)
		var key string
		if err := json.Unmarshal(text[i:end], &key); err != nil {
			return bad("its JSON has a member name that cannot be read")
		}
		i = blanks(text, end) + 1 // the colon
		start := blanks(text, i)
		m.after = text[i:start]
		i = skip(text, start)
		m.last = i
		if key == name {
			if m.found {
				return bad(fmt.Sprintf("its JSON has the member %q twice", name))
			}
			m.found, m.start, m.end = true, start, i
		}
		if i = blanks(text, i); text[i] == ',' {
			i++
		}
	}
}

// set gives text with the member name set to the JSON string quoted. An empty text gives a new object.
func set(text []byte, name string, quoted []byte) ([]byte, error) {
	if len(text) == 0 {
		text = []byte("{}")
	}
	m, err := find(text, name)
	if err != nil {
		return nil, err
	}
	if m.found {
		if _, err := unquote(text[m.start:m.end], name); err != nil {
			return nil, err
		}
		return bytes.Join([][]byte{text[:m.start], quoted, text[m.end:]}, nil), nil
	}
	separator := []byte(",")
	if m.empty {
		separator = nil
	}
	return bytes.Join([][]byte{text[:m.last], separator, m.before, quote([]byte(name)), []byte(":"), m.after, quoted, text[m.last:]}, nil), nil
}

// unquote decodes the JSON string literal. Null gives nothing; every other sort of value is Invalid.
func unquote(literal []byte, name string) ([]byte, error) {
	if string(literal) == "null" {
		return nil, nil
	}
	if literal[0] != '"' {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("read secret: its member %q is not text", name), fault.Hint("`field` names a member of the outermost object that holds the value as a JSON string"))
	}
	var s string
	if err := json.Unmarshal(literal, &s); err != nil || bytes.ContainsRune([]byte(s), utf8.RuneError) {
		return nil, fault.Newf(fault.Invalid, "read secret: its member %q has an escape that is no character", name)
	}
	return []byte(s), nil
}

// quote gives the JSON string of valid UTF-8 text, with no more escapes than JSON asks for.
func quote(text []byte) []byte {
	out := make([]byte, 0, len(text)+2)
	out = append(out, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// blanks gives the first offset from i that holds no JSON blank. The text must be valid JSON.
func blanks(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// skip gives the offset behind the JSON value that starts at i. The text must be valid JSON.
func skip(text []byte, i int) int {
	depth := 0
	for {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++ // only reached inside an object or array
			continue
		default: // a number, true, false or null
			for i < len(text) && !bytes.ContainsRune([]byte(",]} \t\n\r"), rune(text[i])) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}
