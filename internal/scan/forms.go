package scan

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// form is the way in which an anchor is written.
type form uint8

const (
	formPlain form = iota
	formUTF16
	formBase64
	formHex     // digits in a row
	formNumbers // bytes as separated hex or decimal numbers, as in dumps and array literals
	formPercent
	formBackslash // \u002d, \x2d, \u{2d}, \055
	formEntity
	formQuoted // quoted-printable
	formPacked // the start of compressed data or an archive in base64
)

var formNames = [...]string{formUTF16: "utf-16", formBase64: "base64", formHex: "hex", formNumbers: "bytes", formPercent: "percent",
	formBackslash: "escapes", formEntity: "html", formQuoted: "quoted-printable", formPacked: "base64"}

// anyFamily marks needles behind which a key of any family may stand.
const anyFamily = -1

// newNeedles writes every anchor of every family in every form.
func newNeedles(families []Family) *needles {
	n := &needles{have: map[string]bool{}}
	for i, f := range families {
		for j, a := range f.anchors() {
			n.add(needle{atoms: literal(a), form: formPlain, family: i})
			n.add(needle{atoms: literal(strings.TrimSuffix(wide(a), "\x00")), form: formUTF16, family: anyFamily})
			n.encoded(a, 18)
			n.add(needle{atoms: folded(hex.EncodeToString([]byte(a))), form: formHex, family: anyFamily})
			if first := j == 0 || f.Prefix == ""; first {
				n.encoded(wide(a), 18)
				n.twice(a)
				n.escaped(a)
				n.numbers(a)
			}
		}
	}
	n.packed()
	n.have = nil
	return n
}

// wide is s in UTF-16, the low byte first.
func wide(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(s[i])
		b.WriteByte(0)
	}
	return b.String()
}

// encoded adds the base64 of s at the three alignments: the characters that s alone determines, at most so many.
func (n *needles) encoded(s string, most int) {
	for lead := range 3 {
		text, first := determined(s, lead)
		text = text[:min(len(text), most)]
		n.add(needle{atoms: urlSafe(text), form: formBase64, family: anyFamily, phase: first % 4})
	}
}

// determined gives the characters of base64 that s determines when lead bytes stand before it, and the index of the first.
func determined(s string, lead int) (string, int) {
	all := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", lead) + s))
	first, last := (lead*8+5)/6, (lead+len(s))*8/6
	return all[first:last], first
}

// twice adds base64 of base64.
func (n *needles) twice(s string) {
	for lead := range 3 {
		inner, _ := determined(s, lead)
		n.encoded(inner, 12)
	}
}

// escaped adds escapes of the hyphens alone, and of the first three characters.
func (n *needles) escaped(s string) {
	before, rest, ok := strings.Cut(s, "-")
	word, _, more := strings.Cut(rest, "-")
	if ok && more && before != "" && len(word) >= 3 {
		for _, e := range []struct {
			text string
			form form
		}{
			{"%2d" + word + "%2d", formPercent}, {"%252d" + word, formPercent}, {"u002d" + word, formBackslash}, {`\x2d` + word, formBackslash},
			{"u{2d}" + word, formBackslash}, {`\055` + word, formBackslash}, {"&#45;" + word, formEntity}, {"&#x2d;" + word, formEntity},
			{"&#045;" + word, formEntity}, {"=2d" + word + "=2d", formQuoted},
		} {
			// Only the digits of an escape come in both cases; the word does not.
			at := strings.LastIndex(e.text, word)
			n.add(needle{atoms: append(append(folded(e.text[:at]), literal(word)...), folded(e.text[at+len(word):])...), form: e.form, family: anyFamily})
		}
	}
	each := func(format string) string {
		var b strings.Builder
		for i := range 3 {
			fmt.Fprintf(&b, format, s[i])
		}
		return b.String()
	}
	n.add(needle{atoms: folded(each("%%%02x")), form: formPercent, family: anyFamily})
	n.add(needle{atoms: folded(each("%%25%02x")), form: formPercent, family: anyFamily})
	n.add(needle{atoms: folded(each(`\u00%02x`)), form: formBackslash, family: anyFamily})
	n.add(needle{atoms: folded(each(`\\u00%02x`)), form: formBackslash, family: anyFamily})
	n.add(needle{atoms: folded(each(`\u{%02x}`)), form: formBackslash, family: anyFamily})
	n.add(needle{atoms: folded(each(`\x%02x`)), form: formBackslash, family: anyFamily})
	n.add(needle{atoms: folded(each(`\\x%02x`)), form: formBackslash, family: anyFamily})
	n.add(needle{atoms: folded(each(`\%03o`)), form: formBackslash, family: anyFamily})
	n.add(needle{atoms: folded(each("&#%d;")), form: formEntity, family: anyFamily})
	n.add(needle{atoms: folded(each("&#x%02x;")), form: formEntity, family: anyFamily})
	n.add(needle{atoms: folded(each("&#%03d;")), form: formEntity, family: anyFamily})
	n.add(needle{atoms: folded(each("=%02x")), form: formQuoted, family: anyFamily})
}

// numbers adds the first four bytes as lists of numbers.
func (n *needles) numbers(s string) {
	for _, l := range []struct{ format, between string }{{"%02x", " "}, {"%02x", ":"}, {"%02x", "-"}, {"0x%02x", ","}, {"0x%02x", ", "}, {"0x%02x", " "}, {"%d", ","}, {"%d", ", "}, {"%d", " "}} {
		var parts []string
		for i := range 4 {
			parts = append(parts, fmt.Sprintf(l.format, s[i]))
		}
		n.add(needle{atoms: folded(strings.Join(parts, l.between)), form: formNumbers, family: anyFamily})
	}
}

// packed adds the starts of compressed data in base64, and of base64 of that.
func (n *needles) packed() {
	const upToP = "ABCDEFGHIJKLMNOP"
	add := func(phase int, atoms ...string) {
		n.add(needle{atoms: atoms, form: formPacked, family: anyFamily, phase: phase})
	}
	add(0, "H", "4", "s", "I", "ABCDEFGH", upToP)        // gzip: 1f 8b 08, flags
	add(0, "K", "L", "U", "v", "/_", "QRSTUVWXYZabcdef") // zstd: 28 b5 2f fd
	add(0, literal("UEsDBBQ")...)                        // zip: PK 3 4, version 2.0
	add(0, literal("UEsDBAo")...)                        // version 1.0
	add(0, literal("UEsDBC0")...)                        // version 4.5
	add(0, "/_", "T", "d", "6", "W", "F", "o")           // xz: fd 7zXZ
	add(0, literal("QlpoOTFB")...)                       // bzip2: BZh91A
	// Base64 of base64: whole files and values are encoded, so the inner text starts a group of its own.
	add(0, append(literal("SDRzSU"), "FJNRVZdh", upToP[1:]+"Q")...)
	add(0, literal("VUVzREJC")...)
	add(0, literal("VUVzREJB")...)
	add(0, append(literal("S0xVdi"), "89+/-_")...)
}

// literal gives the atoms of a text.
func literal(s string) []string {
	atoms := make([]string, len(s))
	for i := range len(s) {
		atoms[i] = s[i : i+1]
	}
	return atoms
}

// folded gives the atoms of a text whose letters may be of either case.
func folded(s string) []string {
	atoms := make([]string, len(s))
	for i := range len(s) {
		atoms[i] = s[i : i+1]
		if other := s[i] ^ 0x20; s[i] >= 'a' && s[i] <= 'f' {
			atoms[i] += string(rune(other))
		}
	}
	return atoms
}

// urlSafe gives the atoms of base64 text in either alphabet.
func urlSafe(s string) []string {
	atoms := literal(s)
	for i, a := range atoms {
		switch a {
		case "+":
			atoms[i] = "+-"
		case "/":
			atoms[i] = "/_"
		}
	}
	return atoms
}
