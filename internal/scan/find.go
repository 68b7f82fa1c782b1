package scan

import (
	"bytes"
	"context"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
)

// finder is one Find.
type finder struct {
	ctx   context.Context
	s     *Searcher
	text  []byte
	yield func(Match)
	gaps  []Gap
	seen  map[place]bool
	lines lineCounter
}

type place struct {
	digest apikey.Digest
	offset int64
	inner  string
}

func newFinder(ctx context.Context, s *Searcher, b []byte, yield func(Match)) *finder {
	return &finder{ctx: ctx, s: s, text: b, yield: yield, seen: map[place]bool{}, lines: newLineCounter(b)}
}

func (f *finder) search() {
	f.s.needle.walk(f.text, func(at int, nd *needle) bool {
		fam := &f.s.o.Families[nd.family]
		fam.candidates(f.text, at, func(c candidate) { c.family = fam.Name; f.report(f.text, c, int64(c.start), "", "") })
		return true
	})
}

// report turns a candidate in text into a Match at offset of the object.
func (f *finder) report(text []byte, c candidate, offset int64, form, inner string) {
	if c.grade == 0 {
		return
	}
	m := Match{Family: c.family, Kind: c.kind, Grade: c.grade, Offset: offset, Form: form, Inner: inner, Size: c.end - c.start, Prefix: string(text[c.start : c.start+c.prefix])}
	v := secret.New(bytes.Clone(text[c.start:c.end]))
	p := place{digest: v.Digest(), offset: offset, inner: inner}
	if f.seen[p] {
		v.Destroy()
		return
	}
	f.seen[p] = true
	if c.grade != Placeholder {
		body := text[c.start+c.prefix : c.end]
		if bitsPerByte(body)*float64(len(body)) < strongBits {
			m.ID = localID(f.s.store, text[c.start:c.end])
		} else {
			m.Digest = v.Digest()
			m.ID = ID(m.Digest.Fingerprint())
		}
	}
	m.Line, m.Allowed = f.lines.where(offset)
	if f.s.o.Keep && c.grade != Placeholder {
		m.Value = v
	} else {
		v.Destroy()
	}
	f.yield(m)
}
