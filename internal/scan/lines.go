package scan

import "bytes"

// allowMark, on the line of a key, asks for leniency. Whether it is granted is the caller's to say.
const allowMark = "keywright" + ":allow"

// lineCounter gives the line of an offset. It counts from the last answer.
type lineCounter struct {
	text   []byte
	base   int64 // the offset of text in the document, whose first line here is first
	first  int
	binary bool
	at     int
	line   int
}

func newLineCounter(b []byte) lineCounter {
	return lineCounter{text: b, binary: bytes.IndexByte(b[:min(len(b), 8000)], 0) >= 0, first: 1, line: 1}
}

func (l *lineCounter) at64(offset int64) int {
	return int(min(max(offset-l.base, 0), int64(len(l.text))))
}

// where gives the line, from 1, and whether it holds the mark; 0 and false in binary objects. Lines end in "\n".
func (l *lineCounter) where(offset int64) (int, bool) {
	if l.binary {
		return 0, false
	}
	o := l.at64(offset)
	if o < l.at {
		l.line -= bytes.Count(l.text[o:l.at], []byte{'\n'})
	} else {
		l.line += bytes.Count(l.text[l.at:o], []byte{'\n'})
	}
	l.at = o
	const wide = 4096 // longer lines are looked at in part
	low, high := max(o-wide, 0), min(o+wide, len(l.text))
	low += bytes.LastIndexByte(l.text[low:o], '\n') + 1
	if i := bytes.IndexByte(l.text[o:high], '\n'); i >= 0 {
		high = o + i
	}
	return l.line, bytes.Contains(l.text[low:high], []byte(allowMark))
}

// slide forgets the text before base, whose lines it counts, and awaits the window that starts there.
func (l *lineCounter) slide(base int64) {
	if n := l.at64(base); !l.binary {
		l.first += bytes.Count(l.text[:n], []byte{'\n'})
	}
	l.text, l.base, l.at, l.line = nil, base, 0, l.first
}
