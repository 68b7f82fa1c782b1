package report

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// real makes a value that no grade takes for a placeholder.
func real(tb testing.TB) (string, secret.Value) {
	tb.Helper()
	body := rand.Text() + strings.ToLower(rand.Text()) + rand.Text() + strings.ToLower(rand.Text())
	s := strings.Join([]string{"sk", "ant", "api03", body[:86], rand.Text()[:6] + "AA"}, "-")
	return s, secret.New([]byte(s))
}

func masker() *Masker { return NewMasker(scan.New(scan.Options{})) }

var hostile = []string{
	"plain/path.txt", "a b", "a%b", "::error::x", "a\nb", "a\r\n::stop-commands::x", "\x1b[31mred", "\u202egnp.exe", "\u2066x", "a\x00b", "\xff\xfe", "<script>alert(1)</script>",
	"[x](javascript:alert(1))", "`code`", "| cell |", "# head", "- item", "1. item", "@everyone", "![x](http://h/)", "https://h/", "www.h", "'\"><img src=x>", "{{.}}", "]]>", "-->",
	"//host/share", "../../etc/passwd", "file,line=3:title=x", "\u2028", "\u0085", "\ufeff", "é𝒳 漢", "a\\b", "\U000e0001tag", strings.Repeat("x", 5000),
}

// sample gives a report whose every foreign text is foreign.
func sample(m *Masker, foreign string) *Report {
	c := NewCollector(m, nil, Lenient)
	at := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	text := m.Text(foreign)
	digest := apikey.Digest{1, 2, 3}
	id := scan.ID(digest.Fingerprint())
	c.Match(scan.Match{Family: "anthropic", Kind: "API key", Grade: scan.Exact, ID: id, Digest: digest, Line: 3, Offset: 40, Form: "base64>gzip", Inner: foreign, Size: 108},
		At{Source: "file", Repository: foreign, Path: foreign})
	c.Match(scan.Match{Family: "anthropic", Kind: "API key", Grade: scan.Exact, ID: id, Digest: digest, Line: 9, Size: 108}, At{Source: "history", Part: "commit message", Object: strings.Repeat("a", 40)})
	c.Match(scan.Match{Family: "openai", Kind: "user key", Grade: scan.Near, ID: "kf_00000000000000ff", Line: 1, Allowed: true}, At{Source: "stdin"})
	c.Match(scan.Match{Grade: scan.Placeholder}, At{Source: "file", Path: foreign})
	commit := Commit{ID: strings.Repeat("b", 40), Author: text, Authored: at, Committer: text, Committed: at, Subject: text}
	c.Expose(id, Exposure{Repository: text, First: &commit, Last: &commit, Removed: []Commit{commit}, Reintroduced: []Commit{commit}, Refs: []Text{text}, Tips: []Text{text}, Pushed: "yes", PushedTo: []Text{text}, PushedAt: at, From: at, Days: 18})
	c.Gap(Gap{Repository: text, Path: text, Inner: text, Reason: "the object is missing"})
	r := c.Report()
	for i := range r.Keys {
		if r.Keys[i].Family == "openai" {
			r.Keys[i].Ignored = &Ignored{By: "baseline", Reason: text, Author: text, Expires: at}
		}
	}
	r.Finish("devel", at, 1500*time.Millisecond)
	return r
}

type rendering struct {
	name  string
	write func(*Report, io.Writer) error
}

func renderings() []rendering {
	return []rendering{
		{"table", func(r *Report, w io.Writer) error { return r.Table(w, TableOptions{All: true}) }},
		{"story", func(r *Report, w io.Writer) error { return r.Story(w, &r.Keys[0], TableOptions{}) }},
		{"json", (*Report).JSON},
		{"jsonl", func(r *Report, w io.Writer) error { return NewStream(w).End(r) }},
		{"sarif", (*Report).SARIF},
		{"annotations", (*Report).Annotations},
		{"markdown", (*Report).Markdown},
		{"html", (*Report).HTML},
	}
}

func render(t *testing.T, f rendering, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := f.write(r, &b); err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	return b.String()
}

// badRune finds a character that no rendering may show.
func badRune(s string) (rune, bool) {
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) || r == utf8.RuneError {
			return r, true
		}
	}
	return 0, false
}

func TestHostileTextIsHarmlessInEveryRendering(t *testing.T) {
	m := masker()
	clean := map[string]int{}
	for _, f := range renderings() {
		clean[f.name] = strings.Count(render(t, f, sample(m, "x")), "\n")
	}
	for _, text := range hostile {
		r := sample(m, text)
		for _, f := range renderings() {
			out := render(t, f, r)
			if c, bad := badRune(out); bad {
				t.Errorf("%s of %.40q shows %U", f.name, text, c)
			}
			if n := strings.Count(out, "\n"); n != clean[f.name] {
				t.Errorf("%s of %.40q has %d lines, want %d", f.name, text, n, clean[f.name])
			}
			checkSyntax(t, m, f.name, text, out)
		}
	}
}

func checkSyntax(t *testing.T, masker *Masker, name, text, out string) {
	t.Helper()
	switch name {
	case "json", "sarif":
		if !json.Valid([]byte(out)) {
			t.Errorf("%s of %.40q is no JSON", name, text)
		}
	case "jsonl":
		for l := range strings.Lines(out) {
			if !json.Valid([]byte(l)) {
				t.Errorf("a line of %.40q is no JSON: %s", text, l)
			}
		}
	case "annotations":
		for l := range strings.Lines(out) {
			if !strings.HasPrefix(l, "::error ") && !strings.HasPrefix(l, "::warning ") && !strings.HasPrefix(l, "::notice ") || strings.Count(l, "::") < 2 {
				t.Errorf("annotation of %.40q: %s", text, l)
			}
			head, _, _ := strings.Cut(l[2:], "::")
			for p := range strings.SplitSeq(head[strings.IndexByte(head, ' ')+1:], ",") {
				if k, _, _ := strings.Cut(p, "="); k != "file" && k != "line" && k != "title" {
					t.Errorf("annotation of %.40q has a property %q", text, p)
				}
			}
		}
	case "markdown":
		if i := strings.IndexAny(out, "<>@"); i >= 0 {
			t.Errorf("markdown of %.40q holds %q", text, out[i:i+1])
		}
		escaped := md(masker.Text(text).String())
		for i := range len(escaped) {
			if strings.IndexByte("`*_[](){}~$!^", escaped[i]) >= 0 && (i == 0 || escaped[i-1] != '\\') {
				t.Errorf("markdown of %.40q has a bare %q in %q", text, escaped[i], escaped)
			}
		}
		if strings.HasPrefix(strings.TrimLeft(escaped, " "), "-") || strings.Contains(escaped, "://") || strings.Contains(strings.ToLower(escaped), "www.") || strings.Contains(escaped, "|") {
			t.Errorf("markdown of %.40q is %q", text, escaped)
		}
	case "html":
		d := xml.NewDecoder(strings.NewReader(out))
		d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("html of %.40q: %v", text, err)
			}
			if s, ok := token.(xml.StartElement); ok && strings.Contains(" script img a iframe link object ", " "+s.Name.Local+" ") {
				t.Errorf("html of %.40q has an element %s", text, s.Name.Local)
			}
		}
	}
}

func TestKeysInForeignTextAreMasked(t *testing.T) {
	key, v := real(t)
	fake := secrettest.Fake(t)
	second, w := real(t)
	m := masker()
	placeholder := ""
	fake.Reveal(func(b []byte) { placeholder = string(b) })
	for _, text := range []string{
		"dir/" + key + "/file", key, "x" + key + key, key + second, "a\nb " + key + "\x1b", key[:60] + "\u200b" + key[60:], key[:30] + "\xff" + key[30:], key[:7] + "\r\n" + key[7:],
		strings.ReplaceAll(key, "-", "\u00ad-"), placeholder, "by " + placeholder + " and " + second, key[:70],
	} {
		got := m.Text(text).String()
		secrettest.NoLeak(t, "masked "+printable(strip(got)), []byte(got), v, w, fake)
		if !strings.Contains(got, "[") {
			t.Errorf("nothing was masked: %q", got)
		}
		r := sample(m, text)
		for _, f := range renderings() {
			secrettest.NoLeak(t, f.name, []byte(render(t, f, r)), v, w, fake)
		}
	}
	if got := m.Text("dir/" + key + "/file").String(); got != "dir/["+string(v.Fingerprint())+"]/file" {
		t.Errorf("masked as %q", got)
	}
	if got := m.Text("docs/" + base64.StdEncoding.EncodeToString([]byte(key))); strings.Contains(got.String(), "[kf_") {
		secrettest.NoLeak(t, "base64", []byte(got.String()), v)
	}
	_ = hex.EncodeToString
}

func TestTheMaskingTestCanFail(t *testing.T) {
	key, v := real(t)
	if bytes.Contains([]byte(masker().Text("x "+key).String()), secrettest.Forms(v)[0]) {
		t.Error("not masked")
	}
	if !bytes.Contains([]byte("x "+key), secrettest.Forms(v)[0]) {
		t.Error("the forms of a value do not hold the value itself")
	}
}

func TestOneEntryPerKey(t *testing.T) {
	r := sample(masker(), "a/b.txt")
	if len(r.Keys) != 2 || r.Counts.Keys != 1 || r.Counts.Places != 2 || r.Counts.Ignored != 1 || r.Counts.Placeholders != 1 || r.Counts.AllowMarks != 1 || r.Complete || !r.Found() {
		t.Errorf("%+v", r.Counts)
	}
	if r.Keys[0].Family != "anthropic" || r.Keys[0].Places[0].Source != "file" || r.Keys[0].Places[1].Source != "history" {
		t.Errorf("%+v", r.Keys[0])
	}
	table := render(t, renderings()[0], r)
	for _, want := range []string{
		"Anthropic API key · exact · not verified\n", "a/b.txt!/a/b.txt", "in base64 in gzip", "added bbbbbbbbb 2026-11-03 by a/b.txt, removed bbbbbbbbb", "pushed to a/b.txt 2026-11-03",
		"exposed 18 days, and still", "ignored by baseline: a/b.txt (a/b.txt) until 2026-11-03", "1 key in 2 places · 0 files in 1.5 s · 1 placeholder not counted · 1 ignored · INCOMPLETE: 1 part not searched",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
}

func TestAnIgnoredKeyThatIsLiveIsShown(t *testing.T) {
	r := sample(masker(), "a")
	for i := range r.Keys {
		if r.Keys[i].Ignored != nil {
			r.Keys[i].Verdict = &Verdict{State: Live, Reason: "accepted by the provider"}
		}
	}
	r.Counts = Counts{}
	r.Finish("", time.Time{}, 0)
	if r.Counts.Keys != 2 || r.Keys[0].Family != "openai" {
		t.Errorf("%+v", r.Counts)
	}
	if out := render(t, rendering{"table", func(r *Report, w io.Writer) error { return r.Table(w, TableOptions{}) }}, r); !strings.Contains(out, "LIVE (accepted by the provider)") {
		t.Error(out)
	}
	if out := render(t, rendering{"sarif", (*Report).SARIF}, r); strings.Contains(out, "suppressions") {
		t.Error("a live key is suppressed")
	}
}

func TestRotateComesFirst(t *testing.T) {
	k := sample(masker(), "a").Keys[0]
	steps := k.Next()
	if !strings.Contains(steps[0], "new key") || !strings.Contains(steps[len(steps)-1], "rewriting history") {
		t.Errorf("%q", steps)
	}
	k.Known = &Known{Key: "prod-primary", State: apikey.Current}
	if s := k.Next()[0]; !strings.Contains(s, "keywright emergency prod-primary") {
		t.Error(s)
	}
	k.Verdict = &Verdict{State: Dead}
	if s := k.Next()[0]; strings.Contains(s, "emergency") {
		t.Error(s)
	}
}

// TestSARIFHasTheRequiredShape checks what the schema of SARIF 2.1.0 requires of the parts that are used, and allows no others.
func TestSARIFHasTheRequiredShape(t *testing.T) {
	for _, text := range hostile {
		var log map[string]any
		if err := json.Unmarshal([]byte(render(t, rendering{"sarif", (*Report).SARIF}, sample(masker(), text))), &log); err != nil {
			t.Fatal(err)
		}
		fields(t, log, "$schema version runs")
		if log["version"] != "2.1.0" {
			t.Error(log["version"])
		}
		run := one(t, log["runs"])
		fields(t, run, "tool invocations columnKind originalUriBaseIds results")
		bases := run["originalUriBaseIds"].(map[string]any)
		for _, base := range bases {
			fields(t, base.(map[string]any), "description")
			fields(t, base.(map[string]any)["description"].(map[string]any), "text")
		}
		driver := run["tool"].(map[string]any)["driver"].(map[string]any)
		fields(t, driver, "name informationUri version rules")
		rules := driver["rules"].([]any)
		for _, r := range rules {
			fields(t, r.(map[string]any), "id name shortDescription help properties")
		}
		inv := one(t, run["invocations"])
		fields(t, inv, "executionSuccessful startTimeUtc toolExecutionNotifications")
		if inv["executionSuccessful"] != false {
			t.Error("an incomplete scan says that it succeeded")
		}
		if _, err := time.Parse(time.RFC3339, inv["startTimeUtc"].(string)); err != nil {
			t.Error(err)
		}
		seen := map[string]bool{}
		for _, r := range run["results"].([]any) {
			res := r.(map[string]any)
			fields(t, res, "ruleId ruleIndex level message locations partialFingerprints suppressions properties")
			if rules[int(res["ruleIndex"].(float64))].(map[string]any)["id"] != res["ruleId"] {
				t.Error("ruleIndex and ruleId disagree")
			}
			if l := res["level"].(string); l != "error" && l != "warning" && l != "note" {
				t.Error(l)
			}
			phys := one(t, res["locations"])["physicalLocation"].(map[string]any)
			fields(t, phys, "artifactLocation region")
			artifact := phys["artifactLocation"].(map[string]any)
			fields(t, artifact, "uri uriBaseId")
			if base, ok := artifact["uriBaseId"]; ok && bases[base.(string)] == nil {
				t.Errorf("the base %q is not described", base)
			}
			uri := artifact["uri"].(string)
			if u, err := url.Parse(uri); err != nil || u.Host != "" || uri == "" {
				t.Errorf("uri %q: %v", uri, err)
			}
			if region, ok := phys["region"].(map[string]any); ok && region["startLine"].(float64) < 1 {
				t.Error(region)
			}
			place := res["partialFingerprints"].(map[string]any)["keywrightPlace/v1"].(string)
			if seen[place] {
				t.Error("two results share a fingerprint")
			}
			seen[place] = true
		}
	}
}

func TestSARIFFingerprintsSurviveAMoveWithinTheFile(t *testing.T) {
	at := func(lines ...int) []string {
		c := NewCollector(masker(), nil, Lenient)
		for _, l := range lines {
			c.Match(scan.Match{Grade: scan.Exact, ID: "kf_1", Line: l, Offset: int64(l)}, At{Source: "file", Path: "a"})
		}
		r := c.Report()
		r.Finish("", time.Time{}, 0)
		var log sarifLog
		if err := json.Unmarshal([]byte(render(t, rendering{"sarif", (*Report).SARIF}, r)), &log); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, res := range log.Runs[0].Results {
			all = append(all, res.PartialFingerprints["keywrightPlace/v1"])
		}
		return all
	}
	a, b := at(3, 8), at(5, 90)
	if len(a) != 2 || a[0] == a[1] || strings.Join(a, " ") != strings.Join(b, " ") {
		t.Errorf("%q and %q", a, b)
	}
}

func fields(t *testing.T, m map[string]any, allowed string) {
	t.Helper()
	for k := range m {
		if !strings.Contains(" "+allowed+" ", " "+k+" ") {
			t.Errorf("unexpected property %q", k)
		}
	}
}

func one(t *testing.T, v any) map[string]any {
	t.Helper()
	list, ok := v.([]any)
	if !ok || len(list) != 1 {
		t.Fatalf("want a list of one, got %v", v)
	}
	return list[0].(map[string]any)
}

func TestAReportIsBounded(t *testing.T) {
	c := NewCollector(masker(), nil, Lenient)
	for i := range mostPlaces + 10 {
		c.Match(scan.Match{Grade: scan.Exact, ID: "kf_1", Line: i + 1, Offset: int64(i)}, At{Source: "file", Path: "a"})
	}
	for i := range mostGaps + 5 {
		c.Gap(Gap{Reason: "x", Object: strconv.Itoa(i / 2)})
	}
	r := c.Report()
	r.Finish("", time.Time{}, 0)
	if len(r.Keys[0].Places) != mostPlaces || r.Keys[0].MorePlaces != 10 || r.Counts.Places != mostPlaces+10 || len(r.Gaps) != mostGaps/2 || r.Gaps[0].Times != 2 || r.MoreGaps != 5 || r.Complete {
		t.Errorf("%d places, %d gaps, %+v", len(r.Keys[0].Places), len(r.Gaps), r.Counts)
	}
}

func TestStreamSaysPlacesAsTheyCome(t *testing.T) {
	var b bytes.Buffer
	s := NewStream(&b)
	c := NewCollector(masker(), s, Lenient)
	c.Match(scan.Match{Family: "anthropic", Kind: "API key", Grade: scan.Exact, ID: "kf_1", Line: 3}, At{Source: "file", Path: "a"})
	if got := b.String(); !strings.Contains(got, `"type":"place"`) || !strings.Contains(got, `"grade":"exact"`) {
		t.Errorf("after the first place: %q", got)
	}
	r := c.Report()
	r.Finish("", time.Time{}, 0)
	if err := s.End(r); err != nil {
		t.Fatal(err)
	}
	var types []string
	for l := range strings.Lines(b.String()) {
		var v struct {
			Type string
			Key  map[string]any
		}
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatal(err)
		}
		types = append(types, v.Type)
		if v.Key != nil && (v.Key["place_count"] != 1.0 || v.Key["fingerprint"] != "kf_1" || v.Key["places"] != nil) {
			t.Errorf("%v", v.Key)
		}
	}
	if strings.Join(types, " ") != "place key summary" {
		t.Errorf("%q", types)
	}
}

func FuzzForeignText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	m := masker()
	f.Fuzz(func(t *testing.T, s string) {
		text := m.Text(s).String()
		if c, bad := badRune(text); bad || strings.Contains(text, "\n") {
			t.Fatalf("%q shows %U", text, c)
		}
		if m.Text(text).String() != text && len(text) < mostShown {
			t.Fatalf("masking twice changes %q into %q", text, m.Text(text).String())
		}
		r := sample(m, s)
		for _, f := range renderings() {
			out := render(t, f, r)
			if c, bad := badRune(out); bad {
				t.Fatalf("%s shows %U", f.name, c)
			}
			checkSyntax(t, m, f.name, s, out)
		}
	})
}

// TestANameOfADamagedArchiveFillsNoScreen: what a reader sees of it is cut, and the JSON has more.
func TestANameOfADamagedArchiveFillsNoScreen(t *testing.T) {
	inner := masker().Text(strings.Repeat("é", 1000))
	for _, text := range []string{Gap{Inner: inner}.What(), Place{Path: masker().Text("a.zip"), Inner: inner}.Where()} {
		if n := utf8.RuneCountInString(text); n < longName || n > longName+20 || !strings.HasSuffix(text, "é…") {
			t.Errorf("%d characters: %.40s", n, text)
		}
	}
}
