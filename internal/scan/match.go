package scan

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// reach is how far before an anchor a key may start, and longest how long a value may be.
const (
	reach       = 192
	longestBody = 512
	shortestRef = 8 // a prefix with fewer characters behind it is a mention, not even a placeholder
)

// candidate is a key in a text: text[start:end], of which the first prefix bytes are public.
type candidate struct {
	start, end int
	prefix     int
	family     string
	kind       Kind
	grade      Grade
	fixed      bool // the length is one that keys of the kind have
}

// candidates gives the keys whose anchor starts at hit in b.
func (f *Family) candidates(b []byte, hit int, give func(candidate)) {
	found := func(c candidate) { c.family = f.Name; give(c) }
	for s := hit; s >= 0 && s >= hit-16; s-- {
		if f.from(b, s, hit, found) {
			return
		}
	}
	// The anchor stands within a body: go back over the characters that values are made of.
	low := hit
	for low > 0 && low > hit-reach && (URLSafe.Has(b[low-1])) {
		low--
	}
	for s := hit - 3; s >= low; s-- {
		for i := range f.Shapes {
			k := &f.Shapes[i]
			if k.Anchors != nil && k.Inside != "" && bytes.HasPrefix(b[s:], []byte(k.Prefix)) && f.run(b[s+len(k.Prefix):], k.Alphabet) > hit-s-len(k.Prefix) {
				found(f.grade(k, b, s))
				return
			}
		}
	}
}

// from tries the prefixes of the family at s, where the anchor at hit must begin within the prefix.
func (f *Family) from(b []byte, s, hit int, found func(candidate)) bool {
	for i := range f.Shapes {
		k := &f.Shapes[i]
		if s+len(k.Prefix) > hit && bytes.HasPrefix(b[s:], []byte(k.Prefix)) && (k.Anchors == nil || k.Anchors[0] == k.Prefix) {
			found(f.grade(k, b, s))
			return true
		}
	}
	if f.Prefix == "" || s+len(f.Prefix) <= hit || !bytes.HasPrefix(b[s:], []byte(f.Prefix)) {
		return false
	}
	c, ok := f.unfamiliar(b, s)
	if !ok {
		c.grade = 0
	}
	found(c)
	return true
}

// unfamiliar judges a key with the family's prefix and a kind that no shape names.
func (f *Family) unfamiliar(b []byte, s int) (candidate, bool) {
	at := s + len(f.Prefix)
	n := f.run(b[at:], URLSafe)
	name := 0
	for name < n && (b[at+name] >= 'a' && b[at+name] <= 'z' || b[at+name] >= '0' && b[at+name] <= '9') {
		name++
	}
	c := candidate{start: s, end: at + n, prefix: len(f.Prefix), kind: "unfamiliar kind", grade: Near}
	numbered := name >= 3 && name <= 14 && name < n && b[at+name] == '-' && b[at+name-1] <= '9' && b[at] >= 'a'
	body := b[at : at+n]
	if numbered {
		body = b[at+name+1 : at+n]
		c.prefix += name + 1
	}
	switch {
	case len(body) < shortestRef:
		return c, false
	case !numbered && !mixed(body):
		return c, false // words that happen to run into the prefix, as in the name of a page
	case len(body) < 40 || standIn(body):
		c.grade = Placeholder
	}
	if cut := usualCut(body); cut > 0 {
		c.end -= len(body) - cut
	}
	return c, true
}

// run is the length of the run of an alphabet at the start of b, up to one more than the longest value and up to the next key of the family.
func (f *Family) run(b []byte, a Alphabet) int {
	n := run(b, a)
	if f.Prefix != "" {
		if i := bytes.Index(b[:min(len(b), n+len(f.Prefix))], []byte(f.Prefix)); i >= 0 {
			n = min(n, i)
		}
	}
	return n
}

// grade judges the key of kind k whose prefix starts at s. A zero grade means that there is only a prefix.
func (f *Family) grade(k *KindShape, b []byte, s int) candidate {
	at := s + len(k.Prefix)
	n := f.run(b[at:], k.Alphabet)
	c := candidate{start: s, prefix: len(k.Prefix), kind: k.Kind}
	body := b[at : at+n]
	if k.Alphabet == Base64 {
		body = trimPadding(body)
		n = len(body)
	}
	length := 0
	for _, l := range k.Lengths {
		if n < l || !bytes.HasSuffix(body[:l], []byte(k.Tail)) {
			continue
		}
		if m := (l - len(k.Inside)) / 2; k.Inside != "" && string(body[m:m+len(k.Inside)]) != k.Inside {
			continue
		}
		length = l
		break
	}
	switch {
	case n < shortestRef:
		return c
	case length > 0:
		c.grade, c.fixed = Exact, true
	case n < k.Min:
		length, c.grade = n, Placeholder
	case k.Lengths != nil || n > longestBody:
		length, c.grade = n, Near
	case k.Alphabet == Base64:
		length, c.grade = n, Near
		if raw, err := base64.StdEncoding.DecodeString(string(body)); err == nil && len(raw) >= 24 && len(raw) <= 64 {
			c.grade = Exact
		}
	default:
		length, c.grade = n, Exact
		if cut := usualCut(body); cut > 0 {
			length = cut
		}
	}
	length = min(length, longestBody)
	c.end = at + length
	if c.grade != Placeholder && standIn(body[:length]) {
		c.grade = Placeholder
	}
	return c
}

// usualCut gives the length of the usual body where a longer run starts with one: 86 characters, "-", and 8 that end "AA".
func usualCut(body []byte) int {
	if len(body) > 95 && body[86] == '-' && body[93] == 'A' && body[94] == 'A' {
		return 95
	}
	return 0
}

func trimPadding(b []byte) []byte {
	if i := bytes.IndexByte(b, '='); i >= 0 {
		for i < len(b) && b[i] == '=' {
			i++
		}
		return b[:i]
	}
	return b
}

// run is the length of the run of an alphabet at the start of b, up to one more than the longest value.
func run(b []byte, a Alphabet) int {
	n := 0
	for n < len(b) && n <= longestBody && a.Has(b[n]) {
		n++
	}
	return n
}

// mixed reports whether b has lower case, upper case and digits.
func mixed(b []byte) bool {
	var lower, upper, digit bool
	for _, c := range b {
		lower = lower || c >= 'a' && c <= 'z'
		upper = upper || c >= 'A' && c <= 'Z'
		digit = digit || c >= '0' && c <= '9'
	}
	return lower && upper && digit
}

// standIn reports whether a body is a placeholder: runs of one character, sequences, repetitions, few different characters, or words.
func standIn(b []byte) bool {
	same, up, down := 1, 1, 1
	for i := 1; i < len(b); i++ {
		step := int(b[i]) - int(b[i-1])
		same, up, down = streak(same, step == 0), streak(up, step == 1), streak(down, step == -1)
		if same >= 7 || up >= 8 || down >= 8 {
			return true
		}
	}
	for period := 2; period <= 16 && period*3 <= len(b); period++ {
		equal := 0
		for i := period; i < len(b); i++ {
			if b[i] == b[i-period] {
				equal++
			}
		}
		if equal*10 >= (len(b)-period)*7 {
			return true
		}
	}
	return bitsPerByte(b) < 3.2 || worded(b)
}

func streak(n int, on bool) int {
	if on {
		return n + 1
	}
	return 1
}

// Words that make a body a placeholder: long ones wherever they stand, short ones between separators. In a random body of 95 characters
// the chance of any is below one in a million.
func worded(b []byte) bool {
	s := strings.ToLower(string(b))
	for _, w := range []string{"example", "placeholder", "replaceme", "replace-me", "replace_me", "changeme", "change-me", "change_me", "redacted",
		"your-key", "your_key", "yourkey", "your-api", "your_api", "yourapi", "api-key", "api_key", "dummykey", "fakekey", "insert-", "insert_", "notreal", "not-a-real", "not_a_real"} {
		if strings.Contains(s, w) {
			return true
		}
	}
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '-' || r == '_' }) {
		switch word {
		case "fake", "test", "demo", "dummy", "your", "here", "sample", "mock", "todo", "secret", "token", "invalid", "testing", "stub":
			return true
		}
	}
	return false
}
