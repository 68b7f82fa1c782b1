package plant

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// wrap breaks s into lines.
func wrap(s string, width int, end string) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + end)
		s = s[width:]
	}
	return b.String() + s
}

// wide gives UTF-16.
func wide(s string, order binary.AppendByteOrder, mark bool) []byte {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xfeff)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

func encodedPlaces() []Place {
	p := func(name string, f func(g *Garden, key string) string) Place {
		return Place{Name: name, Make: func(g *Garden, key string) []byte { return []byte(f(g, key)) }}
	}
	bytesOf := func(name string, f func(g *Garden, key string) []byte) Place { return Place{Name: name, Make: f} }
	all := []Place{
		bytesOf("UTF-16 LE with mark", func(_ *Garden, key string) []byte {
			return wide("Schlüssel:\r\n"+key+"\r\n", binary.LittleEndian, true)
		}),
		bytesOf("UTF-16 BE with mark", func(_ *Garden, key string) []byte { return wide("key:\r\n"+key+"\r\n", binary.BigEndian, true) }),
		bytesOf("UTF-16 LE without mark", func(_ *Garden, key string) []byte { return wide("key: "+key+"\n", binary.LittleEndian, false) }),
		bytesOf("UTF-16 BE without mark", func(_ *Garden, key string) []byte { return wide("key: "+key, binary.BigEndian, false) }),
		bytesOf("UTF-16 at an odd place of a binary", func(g *Garden, key string) []byte {
			return append(append(g.Noise(1001), wide(key, binary.LittleEndian, false)...), g.Noise(99)...)
		}),
		bytesOf("base64 in UTF-16 with mark", func(_ *Garden, key string) []byte {
			return wide("key: "+b64("k="+key)+"\r\n", binary.LittleEndian, true)
		}),
		p("base64 wrapped at 76", func(g *Garden, key string) string {
			return wrap(b64(string(lines(g, 3))+key+string(lines(g, 3))), 76, "\n")
		}),
		p("base64 wrapped at 64 with CRLF", func(g *Garden, key string) string {
			return wrap(b64(string(lines(g, 2))+key+string(lines(g, 2))), 64, "\r\n")
		}),
		p("base64 wrapped and indented", func(g *Garden, key string) string {
			return "data:\n    " + wrap(b64(string(lines(g, 2))+key+string(lines(g, 2))), 60, "\n    ")
		}),
		p("base64 wrapped with escapes", func(g *Garden, key string) string {
			return `{"file":"` + wrap(b64(string(lines(g, 2))+key+string(lines(g, 2))), 60, `\n`) + `"}`
		}),
		p("base64 as literals", func(g *Garden, key string) string {
			return `x = "` + wrap(b64("password="+key+";"), 50, "\" +\n\t\"") + `"`
		}),
		p("base64 URL-safe without padding", func(g *Garden, key string) string {
			return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"??>>~~","key":"`+key+`"}`)) + ".x"
		}),
		p("basic authentication", func(_ *Garden, key string) string { return "Authorization: Basic " + b64("user:"+key) + "\r\n" }),
		p("Kubernetes Secret", func(_ *Garden, key string) string {
			return "apiVersion: v1\nkind: Secret\ndata:\n  key: " + b64(key) + "\n  other: YWJj\n"
		}),
		p("data address", func(_ *Garden, key string) string {
			return "<a href=\"data:text/plain;base64," + b64("it is "+key) + "\">"
		}),
		p("PowerShell encoded command", func(_ *Garden, key string) string {
			return "powershell -EncodedCommand " + base64.StdEncoding.EncodeToString(wide("$env:K='"+key+"'", binary.LittleEndian, false))
		}),
		p("base64 of percent", func(_ *Garden, key string) string {
			return "q=" + strings.ReplaceAll(b64("v="+key), "=", "%3D") + "&r=1"
		}),
		p("hex", func(_ *Garden, key string) string { return "k=" + hex.EncodeToString([]byte(key)) + ";" }),
		p("hex upper case", func(_ *Garden, key string) string {
			return "k=" + strings.ToUpper(hex.EncodeToString([]byte("a "+key+" b")))
		}),
		p("hex wrapped", func(g *Garden, key string) string { return wrap(hex.EncodeToString([]byte(key+"\n")), 61, "\n") }),
		p("hex with blanks", func(_ *Garden, key string) string { return strings.TrimSpace(fmt.Sprintf("% x", key)) + "\n" }),
		p("hex with colons", func(_ *Garden, key string) string {
			return strings.ReplaceAll(fmt.Sprintf("% X", key), " ", ":") + "\n"
		}),
		p("C array", func(_ *Garden, key string) string {
			var b strings.Builder
			for i := range len(key) {
				fmt.Fprintf(&b, "0x%02x, ", key[i])
				if i%12 == 11 {
					b.WriteString("\n\t")
				}
			}
			return "char k[] = {\n\t" + b.String() + "};"
		}),
		p("decimal array", func(_ *Garden, key string) string {
			n := make([]int, len(key))
			for i := range n {
				n[i] = int(key[i])
			}
			b, _ := json.Marshal(map[string]any{"type": "Buffer", "data": n})
			return string(b)
		}),
		p("Python list", func(_ *Garden, key string) string {
			return "k = bytes(" + strings.ReplaceAll(fmt.Sprintf("%d", []byte(key)), " ", ", ") + ")"
		}),
		p("JSON in JSON", func(_ *Garden, key string) string {
			s := key
			for range 3 {
				b, _ := json.Marshal(map[string]string{"k": s})
				s = string(b)
			}
			return s
		}),
		p("JSON in JSON in base64", func(_ *Garden, key string) string {
			b, _ := json.Marshal(map[string]string{"a": `{"k":"` + key + `"}`})
			return b64(string(b))
		}),
	}
	for lead := range 3 {
		pad := "ab"[:lead]
		all = append(all,
			p(fmt.Sprintf("base64 at alignment %d", lead), func(_ *Garden, key string) string { return "x: " + b64(pad+key+"!") }),
			p(fmt.Sprintf("base64 of UTF-16 at alignment %d", lead), func(_ *Garden, key string) string {
				return base64.StdEncoding.EncodeToString(append([]byte(pad), wide(key, binary.LittleEndian, false)...))
			}))
		for outer := range 3 {
			pad2 := "xy"[:outer]
			all = append(all, p(fmt.Sprintf("base64 twice at alignments %d and %d", lead, outer), func(_ *Garden, key string) string {
				return b64(pad2 + b64(pad+key))
			}))
		}
		// A line end at every place of the first anchor.
		for at := range 16 {
			all = append(all, p(fmt.Sprintf("base64 at alignment %d broken at %d", lead, at), func(_ *Garden, key string) string {
				s := b64("0123456789ab"+pad+key) + "\n"
				return s[:16+at] + "\n" + s[16+at:]
			}))
		}
	}
	return append(all, bytesOf("base64 in a large binary", func(g *Garden, key string) []byte {
		return append(append(append(g.Noise(2<<20+5), 0), b64("k="+key)...), append([]byte{0}, g.Noise(1000)...)...)
	}), bytesOf("UTF-16 mark on a binary", func(g *Garden, key string) []byte {
		return bytes.Join([][]byte{{0xff, 0xfe, 1, 1}, g.Noise(100), []byte(key), g.Noise(10)}, nil)
	}))
}

func escapedPlaces() []Place {
	each := func(name, format string, dash bool) Place {
		return Place{Name: name, Make: func(_ *Garden, key string) []byte {
			var b strings.Builder
			for i := range len(key) {
				if dash && key[i] != '-' {
					b.WriteByte(key[i])
				} else {
					fmt.Fprintf(&b, format, key[i])
				}
			}
			return []byte(`"k": "` + b.String() + "\"\n")
		}}
	}
	return []Place{
		each("percent", "%%%02X", true), each("percent, all", "%%%02x", false), each("percent twice", "%%25%02X", true), each("percent twice, all", "%%25%02x", false),
		each("unicode escapes", `\u%04x`, true), each("unicode escapes, all", `\u%04X`, false), each("unicode escapes in JSON", `\\u%04x`, true),
		each("unicode escapes in JSON, all", `\\u%04x`, false), each("unicode braces", `\u{%x}`, true), each("unicode braces, all", `\u{%x}`, false),
		each("hex escapes", `\x%02x`, true), each("hex escapes, all", `\x%02X`, false), each("hex escapes in JSON", `\\x%02x`, false),
		each("octal escapes", `\%03o`, true), each("octal escapes, all", `\%03o`, false), each("entities", "&#%d;", true), each("entities, all", "&#%d;", false),
		each("hex entities", "&#x%02X;", true), each("hex entities, all", "&#x%x;", false), each("entities with zeros", "&#%03d;", true),
		each("quoted-printable", "=%02X", true), each("quoted-printable, all", "=%02X", false),
	}
}
