package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

const store = "s_0123456789abcdef"

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// record links n events.
func record(t testing.TB, n int) []audit.Entry {
	t.Helper()
	var out []audit.Entry
	var last audit.Entry
	for i := range n {
		e, err := audit.Link(last, event.Event{At: noon.Add(time.Duration(i) * time.Second), Type: event.RotationStep, Actor: "keywright", Key: "prod-primary", Text: fmt.Sprintf("step %d <&> \u2028 ü", i)}, store)
		if err != nil {
			t.Fatal(err)
		}
		out, last = append(out, e), e
	}
	return out
}

func each(entries []audit.Entry) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestLink(t *testing.T) {
	full := event.Event{
		At: time.Date(2026, 11, 21, 13, 0, 0, 123456789, time.FixedZone("", 3600)), Type: event.EffectDone, Actor: "op@host", Key: "prod-primary", Version: "v_1", Rotation: "r-1", Location: "aws-prod",
		Effect: "e-1", Text: "two\nlines \u202e<b>", Fields: map[string]string{"z": "1", "a": "\x00\x1b[31m"},
	}
	before := maps.Clone(full.Fields)
	e, err := audit.Link(audit.Entry{}, full, store)
	if err != nil {
		t.Fatal(err)
	}
	if e.Seq != 1 || e.Store != store || e.Prev != audit.Genesis(store) || e.Hash != e.Sum() || !e.At.Equal(e.Event.At) {
		t.Errorf("first entry: %+v", e)
	}
	if !maps.Equal(full.Fields, before) {
		t.Error("Link changed its argument")
	}
	want := `{"event":{"actor":"op@host","at":"2026-11-21T12:00:00.123456Z","effect":"e-1","fields":{"a":"[31m","z":"1"},"key":"prod-primary","location":"aws-prod","rotation":"r-1",` +
		`"text":"two lines <b>","type":"effect.done","version":"v_1"},"hash":"` + e.Hash.String() + `","prev":"` + audit.Genesis(store).String() + `","seq":1,"store":"` + store + `"}`
	if got := string(e.Line()); got != want {
		t.Errorf("Line:\n%s\nwant\n%s", got, want)
	}
	hashed := "keywright-audit-1\n" + strings.Replace(want, `"hash":"`+e.Hash.String()+`",`, "", 1)
	if e.Hash != audit.Hash(sha256.Sum256([]byte(hashed))) {
		t.Error("the hash is not that of the line without it")
	}
	if back, err := audit.ParseEntry(e.Line()); err != nil || !cmp.Equal(back, e) {
		t.Errorf("ParseEntry: %v\n%s", err, cmp.Diff(back, e))
	}
	next := must(audit.Link(e, event.Event{At: noon, Type: "x"}, store))
	if next.Seq != 2 || next.Prev != e.Hash || next.Hash == e.Hash {
		t.Errorf("second entry: %+v", next)
	}
	if got, want := string(next.Line()), `{"event":{"actor":"","at":"2026-11-21T12:00:00.000000Z","type":"x"},"hash"`; !strings.HasPrefix(got, want) {
		t.Errorf("a bare event: %s", got)
	}
	if other := must(audit.Link(audit.Entry{}, full, "s_other")); other.Prev == e.Prev || other.Hash == e.Hash {
		t.Error("the chain is not bound to the store")
	}
	key := strings.Join([]string{"sk", "ant", "api03", strings.Repeat("x", 40)}, "-")
	hot := must(audit.Link(audit.Entry{}, event.Event{At: noon, Type: "t", Actor: key, Key: "k", Version: "v", Rotation: key, Location: key, Effect: key, Text: "a " + key, Fields: map[string]string{key: key}}, store))
	if bytes.Contains(hot.Line(), []byte("xxxxxxxx")) {
		t.Errorf("a key passed: %s", hot.Line())
	}
	for what, c := range map[string]struct {
		prev  audit.Entry
		event event.Event
		store string
	}{
		"no store": {audit.Entry{}, full, ""}, "no time": {audit.Entry{}, event.Event{Type: "x"}, store}, "no type": {audit.Entry{}, event.Event{At: noon}, store}, "late": {audit.Entry{}, event.Event{Type: "x", At: noon.AddDate(9000, 0, 0)}, store},
		"other store": {e, full, "s_other"}, "last number": {audit.Entry{Store: store, Seq: 1<<53 - 1}, full, store}, "negative": {audit.Entry{Store: store, Seq: -1}, full, store},
	} {
		if got, err := audit.Link(c.prev, c.event, c.store); !fault.Is(err, fault.Invalid) || got.Seq != 0 {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

// A field that is added to event.Event must reach the canonical form.
func TestEveryFieldOfAnEventIsHashed(t *testing.T) {
	base := must(audit.Link(audit.Entry{}, event.Event{At: noon, Type: "x"}, store))
	seen := map[audit.Hash]string{base.Hash: "nothing"}
	typ := reflect.TypeFor[event.Event]()
	for i := range typ.NumField() {
		e := event.Event{At: noon, Type: "x"}
		switch f := reflect.ValueOf(&e).Elem().Field(i); f.Interface().(type) {
		case time.Time:
			e.At = noon.Add(time.Microsecond)
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{"a": "same"}))
		default:
			f.SetString("same")
		}
		h := must(audit.Link(audit.Entry{}, e, store)).Hash
		if other, ok := seen[h]; ok {
			t.Errorf("%s is hashed like %s", typ.Field(i).Name, other)
		}
		seen[h] = typ.Field(i).Name
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if line := must(audit.Link(audit.Entry{}, e, store)).Line(); !bytes.Contains(line, []byte(`"`+name+`":`)) {
			t.Errorf("%s is not in %s", name, line)
		}
	}
}

func TestParseEntryTakesCanonicalBytesAlone(t *testing.T) {
	line := string(record(t, 1)[0].Line())
	for what, bad := range map[string]string{
		"nothing": "", "null": "null", "blank in front": " " + line, "blank inside": strings.Replace(line, `,"seq"`, `, "seq"`, 1), "behind": line + "{}", "line end": line + "\n", "garbage": line + "x",
		"order": strings.Replace(strings.Replace(line, `,"seq":1`, "", 1), `{"event"`, `{"seq":1,"event"`, 1), "unknown": strings.Replace(line, `,"seq"`, `,"new":1,"seq"`, 1), "twice": strings.Replace(line, `,"seq":1`, `,"seq":1,"seq":1`, 1),
		"number": strings.Replace(line, `"seq":1`, `"seq":1.0`, 1), "upper case": strings.Replace(line, `"seq"`, `"Seq"`, 1), "escape": strings.Replace(line, "<", `\u003c`, 1), "time": strings.Replace(line, "00.000000Z", "00Z", 1),
		"hash": strings.Replace(line, `"hash":"`, `"hash":"00`, 1), "no hex": strings.Replace(line, `"hash":"`, `"hash":"zz`, 1), "UTF-8": strings.Replace(line, "step", "\xff", 1), "long": line + strings.Repeat(" ", 1<<20),
	} {
		if bad == line {
			t.Fatalf("%s: the same line", what)
		}
		if e, err := audit.ParseEntry([]byte(bad)); !fault.Is(err, fault.Corrupt) || e.Seq != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestHashText(t *testing.T) {
	h := audit.Genesis(store)
	var back audit.Hash
	if err := back.UnmarshalText(must(h.MarshalText())); err != nil || back != h {
		t.Errorf("round trip: %v", err)
	}
	for _, bad := range []string{"", "00", strings.Repeat("g", 64)} {
		if back.UnmarshalText([]byte(bad)) == nil || back != h {
			t.Errorf("UnmarshalText(%q)", bad)
		}
	}
	b, err := json.Marshal(record(t, 1)[0])
	if err != nil || !bytes.Contains(b, []byte(`"prev":"`+h.String()+`"`)) {
		t.Errorf("JSON: %s, %v", b, err)
	}
}

func TestClean(t *testing.T) {
	run := strings.Repeat("aB3_-", 8)
	key := strings.Join([]string{"sk", "ant", "api03", run}, "-")
	prefix := strings.Join([]string{"sk", "ant", ""}, "-")
	for in, want := range map[string]string{
		"":                         "",
		"plain text, with: marks!": "plain text, with: marks!",
		"  trimmed\t":              "trimmed",
		"a\r\nb\tc\vd\u2028e":      "a  b c d e",
		"red \x1b[31m bell\a del\x7f nul\x00 c1\u009b": "red [31m bell del nul c1",
		"bidi \u202eabc\u2066\u200f zero\u200b\ufeff":  "bidi abc zero",
		"not UTF-8 \xff\xfe":                           "not UTF-8",
		"umlaut ü 日本 🔑":                                "umlaut ü 日本 🔑",
		key:                                            audit.Removed,
		"was " + key + ", sorry":                       "was " + audit.Removed + ", sorry",
		key + " " + key:                                audit.Removed + " " + audit.Removed,
		strings.ToUpper(key):                           audit.Removed,
		key[:20]:                                       audit.Removed,
		prefix + "short":                               prefix + "short",
		prefix + "…":                                   prefix + "…",
		key[:30] + "\u200b" + key[30:]:                 audit.Removed,
		key[:4] + "\x00" + key[4:]:                     audit.Removed,
		key[:30] + "\xff" + key[30:]:                   audit.Removed,
		key[:25] + "\n" + key[25:]:                     audit.Removed,
		key[:25] + "\r\n   " + key[25:] + "\nbye":      audit.Removed + " bye",
		prefix + "\n" + run:                            audit.Removed,
		strings.Repeat("ü", 1000):                      strings.Repeat("ü", 1000),
		strings.Repeat("ü", 1001):                      strings.Repeat("ü", 999) + "…",
		strings.Repeat("a", 990) + key:                 strings.Repeat("a", 990) + audit.Removed[:9] + "…",
		strings.Repeat("\x00", 1<<16) + key:            "",
	} {
		got := audit.Clean(in)
		if got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
		if again := audit.Clean(got); again != got {
			t.Errorf("Clean twice: %q, then %q", got, again)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("text")
	f.Add(strings.Join([]string{"sk", "ant", "api03", "abcdefgh\nabcdefghabcdefgh"}, "-"))
	f.Add("sk-\u200bant-\xffabcdefgh")
	f.Add(strings.Repeat("é \n", 600))
	f.Fuzz(func(t *testing.T, in string) {
		out := audit.Clean(in)
		if !utf8.ValidString(out) || utf8.RuneCountInString(out) > audit.MaxText || audit.Clean(out) != out {
			t.Errorf("Clean(%q) = %q", in, out)
		}
		for _, r := range out {
			if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
				t.Errorf("Clean(%q) let %U through", in, r)
			}
		}
		low := strings.ToLower(out)
		for i := strings.Index(low, "sk-ant-"); i >= 0; {
			rest := low[i+7:]
			n := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_-", r) })
			if n < 0 {
				n = len(rest)
			}
			if n >= 8 {
				t.Errorf("Clean(%q) = %q", in, out)
			}
			next := strings.Index(rest, "sk-ant-")
			if next < 0 {
				break
			}
			i += 7 + next
		}
	})
}

// Whatever people write, its entry can be read back and verified.
func TestAnyEventCanBeLinked(t *testing.T) {
	s := signer(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		var last audit.Entry
		var entries []audit.Entry
		for range rapid.IntRange(1, 5).Draw(t, "n") {
			e := event.Event{
				At: time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at")), Type: "x", Actor: text.Draw(t, "actor"), Effect: text.Draw(t, "effect"), Text: text.Draw(t, "text"),
				Fields: rapid.MapOfN(text, text, 0, 3).Draw(t, "fields"),
			}
			linked, err := audit.Link(last, e, store)
			if err != nil {
				t.Fatal(err)
			}
			back, err := audit.ParseEntry(linked.Line())
			if err != nil || back.Sum() != linked.Hash {
				t.Fatalf("%s: %v", linked.Line(), err)
			}
			var generic map[string]any
			if err := json.Unmarshal(linked.Line(), &generic); err != nil {
				t.Fatalf("not JSON: %s", linked.Line())
			}
			entries, last = append(entries, back), linked
		}
		c := must(s.Sign(last, noon))
		r, err := audit.Verifier{Store: store, Keys: []ed25519.PublicKey{s.Public()}, Witnessed: []audit.Checkpoint{c}}.Verify(each(entries))
		if err != nil || r.Outside == nil {
			t.Fatalf("%v, %+v", err, r)
		}
	})
}
