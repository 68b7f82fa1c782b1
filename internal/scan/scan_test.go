package scan_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/plant"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// fresh makes a key of the usual layout that no grade takes for a placeholder.
func fresh(kind string) string {
	body := rand.Text() + strings.ToLower(rand.Text()) + rand.Text() + strings.ToLower(rand.Text())
	return strings.Join([]string{"sk", "ant", kind, body[:86], rand.Text()[:6] + "AA"}, "-")
}

func find(t *testing.T, s *scan.Searcher, b string) []scan.Match {
	t.Helper()
	var all []scan.Match
	if gaps := s.Find(t.Context(), []byte(b), func(m scan.Match) { all = append(all, m) }); gaps != nil {
		t.Errorf("gaps: %+v", gaps)
	}
	return all
}

func idOf(key string) scan.ID {
	return scan.ID(apikey.Digest(sha256.Sum256([]byte(key))).Fingerprint())
}

func TestPlainKeyIsFoundWhateverStandsBesideIt(t *testing.T) {
	s := scan.New(scan.Options{})
	for _, edge := range []string{"", "x", "_", "-", "9", "\"", "\n", "\r\n", "\x00", "=", "\xff", "ÿ", "AA", "\\n", "%22"} {
		for pad := range 9 {
			key := fresh("api03")
			text := strings.Repeat("\n", pad) + edge + key + edge
			if !s.Anchored([]byte(text)) {
				t.Fatalf("%q beside the key: not anchored", edge)
			}
			got := find(t, s, text)
			if len(got) != 1 || got[0].ID != idOf(key) || got[0].Grade != scan.Exact || got[0].Offset != int64(pad+len(edge)) {
				t.Fatalf("%q beside the key: %+v", edge, got)
			}
		}
	}
}

type inventory struct {
	shapes []scan.Shape
	held   map[apikey.Digest]bool
}

func (i inventory) Shapes() []scan.Shape       { return i.shapes }
func (i inventory) Holds(d apikey.Digest) bool { return i.held[d] }

func TestKnownKeyOfUnfamiliarShape(t *testing.T) {
	value := strings.ToLower(rand.Text() + rand.Text())[:40]
	known := inventory{[]scan.Shape{{Length: 40, Alphabet: scan.Alphanumeric}}, map[apikey.Digest]bool{apikey.Digest(sha256.Sum256([]byte(value))): true}}
	s := scan.New(scan.Options{Known: known})
	other := strings.ToLower(rand.Text() + rand.Text())[:40]
	got := find(t, s, "a="+other+"\nb="+value+";\nc="+value+"x\n")
	if len(got) != 1 || got[0].ID != idOf(value) || got[0].Line != 2 || got[0].Offset != 45 || got[0].Grade != scan.Exact {
		t.Errorf("found %+v", got)
	}
	if !s.Anchored([]byte("b=" + value)) {
		t.Error("an object with a known key is not anchored")
	}
	if got := find(t, scan.New(scan.Options{}), "b="+value); len(got) != 0 {
		t.Errorf("found without the inventory: %+v", got)
	}
}

func TestKnownKeyStandsBetweenMarks(t *testing.T) {
	digest := func(v string) apikey.Digest { return apikey.Digest(sha256.Sum256([]byte(v))) }
	value := rand.Text() + "/" + strings.ToLower(rand.Text())
	s := scan.New(scan.Options{Known: inventory{[]scan.Shape{{Length: len(value), Alphabet: scan.Base64}}, map[apikey.Digest]bool{digest(value): true}}})
	for _, text := range []string{"%s", "KEY=%s", "a/%s/b", "x=%s&y=1", "\"%s\"", "%s=", "/%s", "token: %s\n", strings.Repeat("a/", 700_000) + "%s"} {
		if got := find(t, s, fmt.Sprintf(text, value)); len(got) != 1 || got[0].ID != idOf(value) {
			t.Errorf("%.40q: found %+v", text, got)
		}
	}
	for _, text := range []string{"a%s", "%sb", "1%s/"} {
		if got := find(t, s, fmt.Sprintf(text, value)); len(got) != 0 {
			t.Errorf("%.40q: found %+v", text, got)
		}
	}
}

func TestAKnownValueIsNoPlaceholderAndHasItsOwnLength(t *testing.T) {
	usual := fresh("api03")
	for name, value := range map[string]string{
		"like a placeholder": strings.Join([]string{"sk", "ant", "api03", "this-is-a-test-" + rand.Text() + strings.ToLower(rand.Text())}, "-"),
		"longer":             usual + "bcdefgh",
		"exact":              usual,
	} {
		digest := apikey.Digest(sha256.Sum256([]byte(value)))
		s := scan.New(scan.Options{Known: inventory{nil, map[apikey.Digest]bool{digest: true}}})
		got := find(t, s, "KEY="+value+"\n")
		if len(got) != 1 || got[0].ID != idOf(value) || !got[0].Digest.Same(digest) || got[0].Grade < scan.Near || got[0].Size != len(value) {
			t.Errorf("%s: found %+v", name, got)
		}
		if got := find(t, scan.New(scan.Options{}), "KEY="+value); name != "exact" && (len(got) != 1 || got[0].ID == idOf(value)) {
			t.Errorf("%s: without the inventory found %+v", name, got)
		}
	}
}

func TestWeakValuesGetAnIDOfThisStore(t *testing.T) {
	weak := "whs" + "ec_" + "abcdeabcfghiadbecfgahibdjceaghbi"
	id := func(key string) scan.ID {
		o := scan.Options{}
		if key != "" {
			o.StoreKey = secret.New([]byte(key))
		}
		got := find(t, scan.New(o), weak)
		if len(got) != 1 || !strings.HasPrefix(string(got[0].ID), "kl_") || got[0].Digest.Known() {
			t.Fatalf("found %+v", got)
		}
		return got[0].ID
	}
	if first, again, none := id("one"), id("one"), id(""); first != again || first == id("two") || none == id("") {
		t.Error("the id does not depend on the store's key alone")
	}
}

func TestTheValueIsThereOnlyOnDemand(t *testing.T) {
	key := fresh("api03")
	got := find(t, scan.New(scan.Options{}), key)
	if len(got) != 1 || !got[0].Value.IsZero() {
		t.Fatalf("found %+v", got)
	}
	got = find(t, scan.New(scan.Options{Keep: true}), key+"\nsk-ant-api03-"+strings.Repeat("x", 95))
	if len(got) != 2 || got[0].Value.Digest() != got[0].Digest || !got[1].Value.IsZero() || got[1].ID != "" {
		t.Fatalf("found %+v", got)
	}
	for _, m := range got {
		secrettest.NoLeak(t, "a printed match", fmt.Appendf(nil, "%v %+v %#v", m, m, m), secret.New([]byte(key)))
	}
}

func TestPlaceOfAMatch(t *testing.T) {
	s := scan.New(scan.Options{})
	key := fresh("api03")
	encoded := base64.StdEncoding.EncodeToString([]byte("x: " + key))
	for _, c := range []struct {
		text   string
		line   int
		offset int
		form   string
		allow  bool
	}{
		{"a\nb\n" + key, 3, 4, "", false},
		{"a\r\nb=" + key + " # keywright:allow\r\n", 2, 5, "", true},
		{"keywright:allow\n" + key + "\nkeywright:allow", 2, 16, "", false},
		{"a\n\n\nk: " + encoded + "\n", 4, 11, "base64", false},
		{"a\n" + strings.ReplaceAll(key, "-", "%2D"), 2, 2, "percent", false},
		{"a\nk = \"" + key[:50] + "\" +\n\"" + key[50:] + "\"", 2, 7, "split", false},
		{"a\x00\n" + key, 0, 3, "", false},
	} {
		got := find(t, s, c.text)
		if len(got) != 1 || got[0].Line != c.line || got[0].Offset != int64(c.offset) || got[0].Form != c.form || got[0].Allowed != c.allow {
			t.Errorf("in %q: %+v", c.text[:min(12, len(c.text))], got)
		}
	}
	// A stream counts the lines of the windows that it has left behind.
	var in strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&in, "line %d\n", i+1)
	}
	var streamed []scan.Match
	s.Stream(t.Context(), strings.NewReader(in.String()+key), func(m scan.Match) { streamed = append(streamed, m) })
	if len(streamed) != 1 || streamed[0].Line != 300_001 || streamed[0].Offset != int64(in.Len()) {
		t.Errorf("streamed: %+v", streamed)
	}
}

func TestTwoKeysSideBySide(t *testing.T) {
	for _, kinds := range [][2]string{{"api03", "api03"}, {"api03", "oat01"}, {"oat01", "api03"}, {"sid01", "sid02"}} {
		a, b := fresh(kinds[0]), fresh(kinds[1])
		got := find(t, scan.New(scan.Options{}), a+b)
		if len(got) != 2 || got[0].ID != idOf(a) || got[1].ID != idOf(b) {
			t.Errorf("%v: %+v", kinds, got)
		}
	}
}

// Windows that overlap by the margin miss no anchor.
func TestMargin(t *testing.T) {
	s := scan.New(scan.Options{})
	g := plant.New(9)
	for i, p := range plant.Places() {
		_, content, row := p.Draw(g, i)
		if !s.AnchoredPart(content) || len(content) > 100_000 {
			continue
		}
		for at := range len(content) {
			if !s.AnchoredPart(content[:at]) && !s.AnchoredPart(content[max(0, at-s.Margin()+1):]) {
				t.Fatalf("%s: cut at %d, neither side is anchored", row.Place, at)
			}
		}
	}
}
