package scan

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
)

// Whatever the text and the place: a view names for every byte a place in the text, in order; and what was encoded is decoded to what it was.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("c2stYW50LWFwaTAz\n  LWtleQ=="), uint16(3), uint8(formBase64))
	f.Add([]byte("73:6b:2d:61:6e:74, 0x2d"), uint16(0), uint8(formNumbers))
	f.Add([]byte("736b2d616e742d\" +\n\"617069"), uint16(2), uint8(formHex))
	f.Add([]byte(`sk\u002dant\x2d\055\u{2d}a`), uint16(2), uint8(formBackslash))
	f.Add([]byte("sk&#45;ant&#x2d;api&#045;"), uint16(2), uint8(formEntity))
	f.Add([]byte("sk%2dant%252D=2d=\r\n"), uint16(1), uint8(formPercent))
	f.Add([]byte("sk=2Dant=\r\n=2D"), uint16(1), uint8(formQuoted))
	f.Add([]byte("s\x00k\x00-\x00a\x00n\x00t\x00"), uint16(4), uint8(formUTF16))
	f.Fuzz(func(t *testing.T, b []byte, where uint16, form8 uint8) {
		if len(b) == 0 {
			return
		}
		at := int(where) % len(b)
		kind := form(form8)%formPacked + 1
		for phase := range 4 {
			v := decode(b, at, &needle{form: kind, phase: phase})
			if len(v.text) != len(v.pos) {
				t.Fatalf("%d bytes with %d places", len(v.text), len(v.pos))
			}
			for i, p := range v.pos {
				if int(p) < 0 || int(p) >= len(b) || i > 0 && p < v.pos[i-1] {
					t.Fatalf("byte %d of %d is at %d of %d", i, len(v.text), p, len(b))
				}
			}
		}
		for _, j := range []joints{literals, breaks, marks, literals | breaks | marks} {
			if n := joint(b[at:], j); n < 0 || n > longestJoint || n > len(b)-at {
				t.Fatalf("a joint of %d in %d bytes", n, len(b)-at)
			}
			if v, hit := flattenText(b, at, 100, j); hit < 0 || hit > len(v.text) || len(v.text) != len(v.pos) {
				t.Fatalf("the place %d became %d of %d", at, hit, len(v.text))
			}
		}
		text := b[:min(len(b), 1000)]
		if got, err := io.ReadAll(&base64Reader{text: []byte(base64.StdEncoding.EncodeToString(text) + "!")}); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("base64 of %q became %q, %v", text, got, err)
		}
		same := func(what string, v view) {
			if string(v.text) != string(text) {
				t.Fatalf("%s of %q became %q", what, text, v.text)
			}
		}
		text = append([]byte("s"), text...) // as keys begin; of a list it says that the numbers are decimal
		same("base64", base64View([]byte(base64.RawURLEncoding.EncodeToString(text)), 0, ahead, 0))
		same("hex", hexView([]byte(hex.EncodeToString(text)), 0))
		same("a list of numbers", numbersView([]byte(strings.Trim(strings.ReplaceAll(fmt.Sprintf("%d", text), " ", ", "), "[]")+";"), 0))
	})
}
