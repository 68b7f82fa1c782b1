package scan

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
)

// finder is one Find or one Stream.
type finder struct {
	ctx    context.Context
	s      *Searcher
	yield  func(Match)
	gaps   []Gap
	seen   map[place]bool
	output int64 // what is left of Limits.Output
	end    time.Time
	spare  [][]byte

	limit string // that has ended the archive which is open
}

type place struct {
	digest apikey.Digest
	offset int64
	inner  string
}

// document is text with lines of its own: the object, a member of an archive, or what a compressed file holds.
type document struct {
	lines lineCounter
	inner string
	// Where the document was itself decoded from a text, its matches stand at the place of the encoding.
	fixed   bool
	offset  int64
	line    int
	allowed bool
	wide    bool // UTF-16, by its byte order mark
	big     bool // the high byte first
	fresh   bool // only keys that were seen nowhere else are reported
}

// frame is a text to search: a window of a document, or a view decoded from a place in the parent.
type frame struct {
	text   []byte
	base   int64 // of text[0] in the document, without a parent
	parent *frame
	pos    []int32 // for each byte of text, the index in the parent's
	doc    *document
	form   string
	depth  int
	runEnd int  // where the last run of base64 with packed data ends
	cut    bool // the text goes on behind its end, and another frame will show it
}

// recent is a view that was searched, so that the other anchors in it are not decoded again.
type recent struct {
	form  form
	view  view
	until int
}

func newFinder(ctx context.Context, s *Searcher, yield func(Match)) *finder {
	return &finder{ctx: ctx, s: s, yield: yield, seen: map[place]bool{}, output: s.o.Limits.Output, end: s.o.now().Add(s.o.Limits.Time)}
}

// object searches a whole object in memory.
func (f *finder) object(b []byte) {
	doc := &document{lines: newLineCounter(b)}
	kind := containerOf(b)
	if kind != noContainer && kind != wideText {
		f.open(kind, bytes.NewReader(b), &frame{doc: &document{}})
		if len(f.gaps) == 0 {
			return
		}
		// What could not be opened is searched as it is.
		doc.fresh = true
	}
	f.text(&frame{text: b, doc: doc})
}

// over reports whether the work must end, and says so once.
func (f *finder) over(fr *frame) bool {
	switch {
	case f.ctx.Err() != nil:
		f.gap(fr, 0, ReasonStopped)
	case f.output <= 0:
		f.gap(fr, 0, ReasonOutput)
	case f.s.o.now().After(f.end):
		f.gap(fr, 0, ReasonTime)
	default:
		return false
	}
	return true
}

func (f *finder) gap(fr *frame, at int, reason string) {
	g := Gap{Form: fr.form, Inner: fr.doc.inner, Reason: reason}
	g.Offset, _, _ = fr.place(at)
	if !slices.ContainsFunc(f.gaps, func(h Gap) bool { return h.Inner == g.Inner && h.Reason == g.Reason && h.Form == g.Form }) {
		f.gaps = append(f.gaps, g)
	}
}

// place gives the offset and line in the document of a byte of the text, and whether that line has the mark.
func (fr *frame) place(i int) (int64, int, bool) {
	for fr.parent != nil {
		if i < len(fr.pos) {
			i = int(fr.pos[i])
		} else {
			i = 0
		}
		fr = fr.parent
	}
	if d := fr.doc; d.fixed {
		return d.offset, d.line, d.allowed
	}
	line, allowed := fr.doc.lines.where(fr.base + int64(i))
	return fr.base + int64(i), line, allowed
}

// scan searches a text for anchors, decodes around those that are encoded, and matches those that are plain.
func (f *finder) scan(fr *frame) (more bool) {
	var last []recent
	hits := 0
	f.s.needle.walk(fr.text, func(at int, nd *needle) bool {
		if hits++; hits%1024 == 0 && f.over(fr) {
			return false
		}
		switch nd.form {
		case formPlain:
			f.plain(fr, at, nd.family)
			return true
		case formPacked:
			more = f.packed(fr, at, nd.phase) || more
			return true
		}
		if slices.ContainsFunc(last, func(r recent) bool { return r.covers(nd, at) }) {
			return true
		}
		if fr.depth >= f.s.o.Limits.Depth {
			f.gap(fr, at, ReasonDepth)
			return true
		}
		v := decode(fr.text, at, nd)
		if f.output -= int64(len(v.text)); f.output <= 0 {
			return !f.over(fr)
		}
		if len(v.text) == 0 {
			return true
		}
		if len(last) >= 8 {
			last = append(last[:0], last[1:]...)
		}
		last = append(last, recent{form: nd.form, view: v, until: at + ahead/2})
		f.scan(&frame{text: v.text, pos: v.pos, parent: fr, doc: fr.doc, form: chain(fr.form, formNames[nd.form]), depth: fr.depth + 1, cut: fr.cuts(v)})
		return true
	})
	f.known(fr)
	return more
}

// cuts reports whether a view of the text ends although its encoding goes on, or may go on behind the end of the text.
func (fr *frame) cuts(v view) bool {
	const edge = 64
	return !v.whole || fr.cut && len(v.pos) > 0 && int(v.pos[len(v.pos)-1]) >= len(fr.text)-edge
}

func decode(b []byte, at int, nd *needle) view {
	switch nd.form {
	case formUTF16:
		return wideView(b, at)
	case formBase64:
		return base64View(b, at, ahead, nd.phase)
	case formHex:
		return hexView(b, at)
	case formNumbers:
		return numbersView(b, at)
	default:
		return escapeView(b, at, nd.form)
	}
}

// covers reports whether a needle was decoded in the view, at its own alignment, and far enough from the end of the view.
func (r *recent) covers(nd *needle, at int) bool {
	if r.form != nd.form || at >= r.until && !r.view.whole {
		return false
	}
	pos := r.view.pos
	i, ok := slices.BinarySearch(pos, int32(at)) //nolint:gosec // as in put
	if nd.form != formBase64 {
		return ok
	}
	// The fourth character of a group starts no byte.
	return ok && i%3 == nd.phase || !ok && nd.phase == 3 && i%3 == 0 && i > 0 && i < len(pos)
}

func chain(form, next string) string {
	if form == "" {
		return next
	}
	return form + ">" + next
}

// plain matches around an anchor in the text as it is, and, where that gives no exact key, with the interruptions left out.
func (f *finder) plain(fr *frame, at, family int) {
	fam := &f.s.o.Families[family]
	var weak []candidate
	exact, tried := false, false
	fam.candidates(fr.text, at, func(c candidate) {
		tried = true
		if c.end == len(fr.text) && fr.cut {
			return
		}
		if c.grade == Exact {
			exact = true
			f.report(fr, c)
		} else if c.grade != 0 {
			weak = append(weak, c)
		}
	})
	// The first anchor of a split key is followed by an interruption; another one of its anchors may stand behind it.
	end := at
	for end < len(fr.text) && end < at+longestBody && (URLSafe.Has(fr.text[end]) || Base64.Has(fr.text[end]) && fr.text[end] != '=') {
		end++
	}
	interrupted := joint(fr.text[end:], literals|breaks|marks) > 0
	if !tried && at > 0 {
		// An anchor from the end of a prefix, whose beginning may stand before an interruption.
		if v, hit := flattenText(fr.text, at, 8, literals|breaks|marks); hit >= 0 {
			fam.candidates(v.text, hit, func(candidate) { tried = true })
		}
		interrupted = tried
	}
	if exact || interrupted && f.split(fr, at, fam) {
		return
	}
	for _, c := range weak {
		f.report(fr, c)
	}
}

// split matches around an anchor with literals put together and line ends left out. It takes only what then is exact.
func (f *finder) split(fr *frame, at int, fam *Family) bool {
	for _, j := range []joints{literals, literals | breaks | marks} {
		v, hit := flattenText(fr.text, at, longestBody+100, j)
		f.output -= int64(len(v.text))
		if hit < 0 || len(v.text) == 0 {
			continue
		}
		child := &frame{text: v.text, pos: v.pos, parent: fr, doc: fr.doc, form: chain(fr.form, "split"), depth: fr.depth, cut: fr.cuts(v)}
		found := false
		fam.candidates(v.text, hit, func(c candidate) {
			if c.grade != Exact || c.end == len(v.text) && child.cut {
				return
			}
			usual := c.fixed || bytes.HasSuffix(v.text[c.start:c.end], []byte("AA")) && c.end-c.start-c.prefix == 95
			if !usual && (j != literals || !mixed(v.text[c.start+c.prefix:c.end])) {
				return
			}
			found = true
			f.report(child, c)
		})
		if found {
			return true
		}
	}
	return false
}

// report turns a candidate into a Match.
func (f *finder) report(fr *frame, c candidate) {
	c = f.familiar(fr, c)
	m := Match{Family: c.family, Kind: c.kind, Grade: c.grade, Form: fr.form, Inner: fr.doc.inner, Size: c.end - c.start, Prefix: string(fr.text[c.start : c.start+c.prefix])}
	m.Offset, m.Line, m.Allowed = fr.place(c.start)
	value := fr.text[c.start:c.end]
	v := secret.New(bytes.Clone(value))
	p := place{digest: v.Digest(), offset: m.Offset, inner: m.Inner}
	anywhere := place{digest: p.digest, offset: -1}
	if f.seen[p] || fr.doc.fresh && f.seen[anywhere] {
		v.Destroy()
		return
	}
	f.seen[p], f.seen[anywhere] = true, true
	if c.grade != Placeholder {
		body := value[c.prefix:]
		if Guessable(body) {
			m.ID = localID(f.s.store, value)
		} else {
			m.Digest = v.Digest()
			m.ID = ID(m.Digest.Fingerprint())
		}
	}
	if f.s.o.Keep && c.grade != Placeholder {
		m.Value = v
	} else {
		v.Destroy()
	}
	f.yield(m)
}

// packed opens compressed data or an archive that stands in base64 at an index of the text. It reports whether the data goes on behind a window.
func (f *finder) packed(fr *frame, at, phase int) bool {
	if fr.depth+1 >= f.s.o.Limits.Depth {
		f.gap(fr, at, ReasonDepth)
		return false
	}
	if phase != 0 {
		return false
	}
	head := make([]byte, 24)
	if n, _ := (&base64Reader{text: fr.text[at:min(len(fr.text), at+100)]}).Read(head); !plausible(head[:n]) || f.over(fr) {
		return false
	}
	r := &base64Reader{text: fr.text[at:]}
	doc := &document{fixed: true, inner: fr.doc.inner}
	doc.offset, doc.line, doc.allowed = fr.place(at)
	before, output := len(f.gaps), f.output
	f.stream(r, &frame{doc: doc, form: chain(fr.form, "base64"), depth: fr.depth + 1})
	if output-f.output < 64 {
		// Characters that happen to look like the start of compressed data.
		f.gaps = f.gaps[:before]
	}
	f.output -= int64(r.i) // what was taken in is work too
	if !fr.cut {
		return false
	}
	if at >= fr.runEnd {
		_, _ = io.Copy(io.Discard, r)
		fr.runEnd = at + r.i
	}
	if fr.runEnd >= len(fr.text) {
		// A larger window shows the rest; what is damaged by the cut is no gap.
		f.gaps = f.gaps[:before]
		return true
	}
	return false
}
