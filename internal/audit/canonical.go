package audit

import (
	"time"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/event"
)

// The canonical form is JSON without blanks, its names sorted by bytes, in UTF-8 with as few escapes as JSON allows: what
// `jq -cS .` prints.

const timeLayout = "2006-01-02T15:04:05.000000Z"

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// appendEvent leaves out empty members except actor, at and type.
func appendEvent(b []byte, e event.Event) []byte {
	b = append(b, `{"actor":`...)
	b = appendString(b, e.Actor)
	b = appendMember(b, "at", formatTime(e.At))
	b = appendOptional(b, "effect", e.Effect)
	if len(e.Fields) > 0 {
		b = append(b, `,"fields":`...)
		open := byte('{')
		for _, n := range sortedKeys(e.Fields) {
			b = append(b, open)
			b = appendString(b, n)
			b = append(b, ':')
			b = appendString(b, e.Fields[n])
			open = ','
		}
		b = append(b, '}')
	}
	b = appendOptional(b, "key", string(e.Key))
	b = appendOptional(b, "location", e.Location)
	b = appendOptional(b, "rotation", e.Rotation)
	b = appendOptional(b, "text", e.Text)
	b = appendMember(b, "type", string(e.Type))
	b = appendOptional(b, "version", string(e.Version))
	return append(b, '}')
}

func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendMember(b, name, value)
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, ',')
	b = appendString(b, name)
	b = append(b, ':')
	return appendString(b, value)
}

func appendString(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r < ' ' || r == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[r>>4], hexDigits[r&15])
		default:
			b = utf8.AppendRune(b, r) // bytes that are no UTF-8 become U+FFFD
		}
	}
	return append(b, '"')
}
