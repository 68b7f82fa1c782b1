package config

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/all"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

var update = flag.Bool("update", false, "write the expected texts anew")

// example gives the example of the documentation.
func example(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "<!-- example -->\n```yaml\n")
	text, _, end := strings.Cut(rest, "```\n")
	if !ok || !end {
		t.Fatal("docs/configuration.md has no example")
	}
	return text
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func testDirs() *Dirs { return &Dirs{Config: "/conf", State: "/state"} }

func load(t testing.TB, text string) (*Config, []Warning, error) {
	t.Helper()
	return LoadBytes("keywright.yaml", "/dir", []byte(text), Options{Dirs: testDirs()})
}

func must(t testing.TB, text string) *Config {
	t.Helper()
	c, _, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExample(t *testing.T) {
	dir := t.TempDir()
	p := write(t, dir, "keywright.yaml", example(t))
	c, warnings, err := Load(t.Context(), []string{p}, Options{Dirs: testDirs()})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v %v", err, warnings)
	}
	k := c.Keys["prod-primary"]
	if k.Name != "prod-primary" || k.Environment != apikey.Production || k.RotateEvery != 90*24*time.Hour || k.Soak != 24*time.Hour || k.HealthWait != 30*time.Second || k.Approvals != 1 || len(k.Windows) != 1 || k.Parallel != 16 {
		t.Errorf("key: %+v", k)
	}
	if k.Waves[0].Production || !k.Waves[1].Production || k.Waves[1].Watch != 5*time.Minute || len(k.Waves[1].Batches()) != 2 {
		t.Errorf("waves: %+v", k.Waves)
	}
	if got := k.Test[0]; !slices.Equal(got.Command, []string{"./scripts/diagnose", "--smoke"}) || got.Name != "diagnose" || got.Key != k.Name {
		t.Errorf("test: %+v", got)
	}
	if got := k.Test[1].HTTP; got == nil || got.Expect != 200 || got.Method != "GET" {
		t.Errorf("test: %+v", got)
	}
	if w := c.Keys["prod-secondary"].Waves; len(w) != 1 || w[0].Name != "production" || !w[0].Production {
		t.Errorf("short form: %+v", w)
	}
	if c.Dir != dir || !slices.Equal(c.Source, []string{p}) || c.State.Dir != "/state/zen-support" || c.State.Store != "/state/zen-support/keywright.db" || c.MasterDir != "/conf" {
		t.Errorf("surroundings: %+v", c.State)
	}
	for name, want := range map[string]location.Abilities{
		"staging-env": {Reads: true, Checks: true, Reloads: true, Probes: true},
		"wiki":        {Manual: true},
	} {
		l, err := c.Place(name, location.Env{StateDir: dir, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Abilities(); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if len(c.Locations["aws-prod"].Probe) != 2 {
		t.Error("a list of probes was not read")
	}
	if _, err := c.Place("staging-enb", location.Env{}); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), "staging-env") {
		t.Error(err, fault.HintOf(err))
	}
}

// What Show prints means the same as what was read.
func TestShowRoundTrip(t *testing.T) {
	text := strings.Replace(example(t), "    watch: 5m\n", "    watch: 5m\n      - { name: canary, locations: [wiki2], production: false }\n    health_wait: 0s\n    windows: []\n", 1)
	text = strings.Replace(text, "  wiki:\n", "  wiki2: { kind: exec, command: ./put, timeout: 2m, environment: [A] }\n  wiki:\n", 1)
	text = strings.Replace(text, "  admin_key:", "  smoke_model: m\n  admin_key:", 1)
	first := must(t, strings.Replace(text, "        watch: 5m\n      - { name: canary", "        watch: 5m\n      - { name: canary", 1))
	shown, err := Show(first)
	if err != nil {
		t.Fatal(err)
	}
	second := must(t, string(shown))
	if diff := cmp.Diff(first, second, cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateEmpty(), cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })); diff != "" {
		t.Errorf("%s\n%s", diff, shown)
	}
	if k := first.Keys["prod-primary"]; k.HealthWait != 0 || len(k.Windows) > 0 || k.Waves[2].Production {
		t.Errorf("overrides were lost: %+v", k)
	}
}

func TestSnapshot(t *testing.T) {
	c := must(t, example(t))
	for _, name := range slices.Sorted(maps.Keys(c.Locations)) {
		raw, err := c.Snapshot(name)
		if err != nil {
			t.Fatal(err)
		}
		l, dir, err := readSnapshot(c.kinds, raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.Locations[name], l, cmpopts.EquateEmpty()); diff != "" || dir != "/dir" {
			t.Errorf("%s: %s\n%s", name, raw, diff)
		}
		open, err := OpenSnapshot(raw, location.Env{StateDir: t.TempDir(), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		direct, err := c.Place(name, location.Env{StateDir: t.TempDir(), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		if open.Name() != name || open.Address() != direct.Address() || open.Abilities() != direct.Abilities() {
			t.Errorf("%s opens as %s %s", name, open.Name(), open.Address())
		}
	}
	for _, raw := range []string{``, `{}`, `{"name":"x","config":{"kind":"nothing"}}`, `{"name":"x","config":{"kind":"env-file","path":"a","variable":"A","new":1}}`, `{"name":"x","config":[`, `{"name":"x","config":[1]}`} {
		if _, err := OpenSnapshot([]byte(raw), location.Env{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	if _, err := c.Snapshot("none"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// The texts of errors are an interface too: people read them.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, warnings, err := load(t, string(text))
			if !fault.Is(err, fault.Invalid) || fault.ExitCode(err) != fault.ExitUsage {
				t.Fatalf("not refused: %v", err)
			}
			all, ok := errors.AsType[*Errors](err)
			if !ok || len(all.Problems) == 0 {
				t.Fatalf("no problems: %v", err)
			}
			for _, p := range all.Problems {
				if p.File == "" || p.Line == 0 && p.Message != "it is empty" {
					t.Errorf("no position: %+v", p)
				}
			}
			got := err.Error() + "\n"
			for _, w := range warnings {
				got += "warning: " + w.Error() + "\n"
			}
			golden := strings.TrimSuffix(f, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s", cmp.Diff(string(want), got))
			}
		})
	}
}

// A value that somebody pasted anywhere is refused and never shown.
func TestNoValueIsQuoted(t *testing.T) {
	for name, make := range map[string]func(v string) string{
		"reference": func(v string) string { return "organization: a\nprovider: { admin_key: " + v + " }\n" },
		"field":     func(v string) string { return "organization: a\n" + v + ": 1\n" },
		"name":      func(v string) string { return "organization: a\nkeys: { " + v + ": { class: staging, owner: x } }\n" },
		"text":      func(v string) string { return "organization: " + v + "\n" },
		"kind":      func(v string) string { return "organization: a\nlocations: { x: { kind: " + v + " } }\n" },
		"duration":  func(v string) string { return "organization: a\nclasses: { staging: { soak: " + v + " } }\n" },
		"comment":   func(v string) string { return "organization: a # " + v + "\n" },
		"variable": func(v string) string {
			return "organization: a\nlocations: { x: { kind: env-file, path: a, variable: " + v + " } }\n"
		},
		"syntax": func(v string) string { return "organization: a\n\"" + v + "\n" },
		"alias":  func(v string) string { return "organization: *" + v + "\n" },
		"tag":    func(v string) string { return "organization: !" + v + " x\n" },
		"location": func(v string) string {
			return "organization: a\nkeys: { k: { class: staging, owner: x, locations: [" + v + "] } }\n"
		},
		"database": func(v string) string { return "organization: a\nstate: { store: \"postgres://u:" + v + "@h/d\" }\n" },
		"master":   func(v string) string { return "organization: a\nstate: { master_key: \"passphrase:" + v + "\" }\n" },
		"environment": func(v string) string {
			return "organization: a\nkeys: { k: { class: staging, owner: x, test: [{ command: ./x, env: " + v + " }] } }\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := secrettest.Fake(t)
			for _, text := range []string{v.RevealString(), strings.TrimPrefix(v.RevealString(), "sk-ant-api03-")} {
				_, warnings, err := load(t, make(text))
				if err == nil && strings.HasPrefix(text, "sk-") {
					t.Error("not refused")
				}
				if err != nil {
					secrettest.NoLeak(t, name, []byte(err.Error()), v)
					if strings.Contains(err.Error(), text[:24]) {
						t.Errorf("it is quoted: %v", err)
					}
				}
				for _, w := range warnings {
					if strings.Contains(w.Error(), text[:24]) {
						t.Errorf("it is quoted: %v", w)
					}
				}
			}
		})
	}
}

func TestSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	base := write(t, dir, "base.yaml", "include: [more/keys.yaml]\norganization: zen\nclasses:\n  own: { environment: qa, soak: 1h }\nlocations:\n  a: { kind: env-file, path: a, variable: A }\ncontacts: [{ role: x, name: y, contact: z }]\n")
	write(t, dir, "more/keys.yaml", "keys:\n  k: { class: own, owner: x, locations: [a, b] }\n")
	other := write(t, dir, "other.yaml", "locations:\n  b: { kind: env-file, path: b, variable: B }\ncontacts: [{ role: x, name: yy, contact: z }]\n")
	c, warnings, err := Load(t.Context(), []string{base, other}, Options{Dirs: testDirs()})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	k := c.Keys["k"]
	if len(c.Source) != 3 || len(c.Contacts) != 2 || len(c.Locations) != 2 || k.Soak != time.Hour || k.Environment != "qa" || k.RotateEvery != 365*24*time.Hour || k.Waves[0].Name != "qa" || k.Waves[0].Production {
		t.Errorf("%+v %+v", c, k)
	}

	clash := write(t, dir, "clash.yaml", "organization: zen\nlocations:\n  a: { kind: env-file, path: c, variable: A }\n")
	_, _, err = Load(t.Context(), []string{base, other, clash}, Options{Dirs: testDirs()})
	for _, want := range []string{clash + `:1:1: "organization" is given twice (first in ` + base + ", line 2; keep one)", clash + `:3:3: "a" in "locations" is given twice (first in ` + base + ", line 6; keep one)", "\n2 errors"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}

	round := write(t, dir, "round.yaml", "organization: zen\ninclude: [round.yaml, none.yaml]\n")
	_, _, err = Load(t.Context(), []string{round}, Options{Dirs: testDirs()})
	if err == nil || !strings.Contains(err.Error(), ":2:11: include: ") || !strings.Contains(err.Error(), "read twice") || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

func TestFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	p := write(t, dir, "keywright.yaml", "organization: zen\n")
	for _, c := range []struct {
		path string
		mode os.FileMode
		kind fault.Kind
	}{{p, 0o620, fault.Forbidden}, {p, 0o602, fault.Forbidden}, {dir, 0o777, fault.Forbidden}} {
		info, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(t.Context(), []string{p}, Options{Dirs: testDirs()}); !fault.Is(err, c.kind) {
			t.Errorf("%s %o: %v", c.path, c.mode, err)
		}
		if err := os.Chmod(c.path, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(p, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(t.Context(), []string{p}, Options{Dirs: testDirs()}); err != nil {
		t.Errorf("a file that others may read: %v", err)
	}
	if _, _, err := Load(t.Context(), []string{filepath.Join(dir, "none")}, Options{Dirs: testDirs()}); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if _, _, err := Load(t.Context(), []string{dir}, Options{Dirs: testDirs()}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	big := write(t, dir, "big.yaml", "organization: zen\n#"+strings.Repeat("x", maxFile))
	if _, _, err := Load(t.Context(), []string{big}, Options{Dirs: testDirs()}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "1 MiB") {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	dir, conf := t.TempDir(), t.TempDir()
	dirs := Dirs{Config: conf}
	if _, err := Find(dir, dirs); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Error(err)
	}
	theirs := write(t, conf, FileName, "")
	if p, err := Find(dir, dirs); err != nil || p != theirs {
		t.Error(p, err)
	}
	ours := write(t, dir, FileName, "organization: zen\n")
	if p, err := Find(dir, dirs); err != nil || p != ours {
		t.Error(p, err)
	}
	t.Chdir(dir)
	if c, _, err := Load(t.Context(), nil, Options{Dirs: &dirs}); err != nil || c.Organization != "zen" {
		t.Error(err)
	}
}

func TestDirs(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(n string) string { return m[n] } }
	for _, c := range []struct {
		uid         int
		env         map[string]string
		conf, state string
	}{
		{0, map[string]string{"HOME": "/root", "XDG_CONFIG_HOME": "/x"}, "/etc/keywright", "/var/lib/keywright"},
		{0, map[string]string{"KEYWRIGHT_CONFIG_DIR": "/own"}, "/own", "/var/lib/keywright"},
		{7, map[string]string{"HOME": "/h"}, "/h/.config/keywright", "/h/.local/state/keywright"},
		{7, map[string]string{"HOME": "/h", "KEYWRIGHT_CONFIG_DIR": "relative"}, "/h/.config/keywright", "/h/.local/state/keywright"},
		{7, map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "relative"}, "/c/keywright", "/h/.local/state/keywright"},
	} {
		d, err := dirsOf(c.uid, env(c.env))
		if err != nil || d.Config != c.conf || d.State != c.state {
			t.Errorf("%v: %+v %v", c.env, d, err)
		}
	}
	if _, err := dirsOf(7, env(nil)); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	c := must(t, `
organization: zen
keys:
  a: &base { class: staging, owner: x, soak: 2h, locations: [one] }
  b: { <<: *base, soak: 3h, locations: [two] }
  c:
    <<: [{ owner: z }, *base]
    locations: [three]
locations:
  one: &l
    kind: env-file
    path: a
    variable: A
  two: { <<: *l, path: b }
  three: { <<: *l, path: c }
`)
	if c.Keys["b"].Soak != 3*time.Hour || c.Keys["b"].Owner != "x" || c.Keys["c"].Owner != "z" || c.Keys["c"].Soak != 2*time.Hour || c.Locations["two"].Name != "two" {
		t.Errorf("%+v %+v", c.Keys["b"], c.Keys["c"])
	}
}

func TestWarnings(t *testing.T) {
	_, warnings, err := load(t, `
organization: zen
keys:
  a: { class: production-primary, owner: x, backup: b, waves: [{ name: p, locations: [one] }, { name: staging, locations: [two] }] }
  b: { class: staging, owner: x }
  c: { class: staging, owner: x, automatic: true, locations: [wiki] }
locations:
  wiki: { kind: manual, place: the vault, person: jane }
  one: { kind: env-file, path: a, variable: A }
  two: { kind: env-file, path: ./a, variable: A }
  three: { kind: env-file, path: c, variable: A }
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.Message)
	}
	for _, want := range []string{"is of another environment", "comes after production", "has no locations", "is the same place as", "belongs to no key", `key "c" is automatic, and a person begins its rotations all the same, since location "wiki" is manual`} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("no warning %q in %q", want, got)
		}
	}
	if len(warnings) != 6 {
		t.Errorf("%q", got)
	}
}

// Every default in the tags can be read, and every tag is known.
// Which place is the same as another is asked only of those who want to know; all other warnings stay.
func TestSkipSamePlace(t *testing.T) {
	dir := t.TempDir()
	text := "organization: zen\nkeys:\n  k: { class: staging, owner: o, locations: [one] }\nlocations:\n" +
		"  one: { kind: env-file, path: a, variable: A }\n  two: { kind: env-file, path: ./a, variable: A }\n"
	for skip, want := range map[bool][]string{
		false: {`location "two" is the same place as "one"`, `location "two" belongs to no key`},
		true:  {`location "two" belongs to no key`},
	} {
		_, warnings, err := LoadBytes(FileName, dir, []byte(text), Options{Dirs: testDirs(), SkipSamePlace: skip})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range warnings {
			got = append(got, w.Message)
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("skip %v: %q, want %q", skip, got, want)
		}
	}
}

// A name given twice is found among few and among many, and so is one that a merged mapping brings again.
func TestTwiceAmongMany(t *testing.T) {
	for _, n := range []int{2, 15, 16, 17, 18, 40} {
		var keys strings.Builder
		for i := range n {
			fmt.Fprintf(&keys, "  key-%d: { class: staging, owner: o }\n", i)
		}
		head := "organization: zen\nkeys:\n" + keys.String()
		_, _, err := load(t, head+fmt.Sprintf("  key-%d: { class: staging, owner: o }\n", n-1))
		if want := fmt.Sprintf(`"key-%d" is given twice in "keys" (first on line %d; keep one)`, n-1, n+2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d keys: %v, want %s", n, err, want)
		}
		c := must(t, strings.Replace(head, "keys:\n", "keys:\n  base: &base { class: staging, owner: o, purpose: p }\n  <<: { key-0: *base, key-new: *base }\n", 1))
		if c.Keys["key-0"].Purpose != "" || c.Keys["key-new"].Purpose != "p" || len(c.Keys) != n+2 {
			t.Errorf("%d keys: merged to %v", n, slices.Collect(maps.Keys(c.Keys)))
		}
	}
}

func TestTags(t *testing.T) {
	var visit func(t *testing.T, typ reflect.Type, seen map[reflect.Type]bool)
	visit = func(t *testing.T, typ reflect.Type, seen map[reflect.Type]bool) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] || typ == reflect.TypeFor[time.Location]() || typ == reflect.TypeFor[Window]() || typ == reflect.TypeFor[Batch]() {
			return
		}
		seen[typ] = true
		for _, f := range fieldsOf(typ) {
			if f.help == "" || !strings.HasSuffix(f.help, ".") {
				t.Errorf("%s.%s has no sentence of help", typ, f.name)
			}
			if f.def != "" {
				v := reflect.New(typ).Elem()
				newReader().prefill(v)
				zero := f.def == "false" || f.def == "0"
				if v.FieldByIndex(f.index).IsZero() != zero {
					t.Errorf("%s.%s: the default %q cannot be read", typ, f.name, f.def)
				}
			}
			visit(t, f.typ, seen)
		}
	}
	seen := map[reflect.Type]bool{}
	visit(t, reflect.TypeFor[Config](), seen)
	visit(t, reflect.TypeFor[common](), seen)
	for _, k := range all.All() {
		visit(t, reflect.TypeOf(k.Config()), seen)
	}
	if len(seen) < 15 {
		t.Errorf("only %d types", len(seen))
	}
}

// Texts that would keep the parser busy for minutes never reach it.
func TestCostlyTexts(t *testing.T) {
	for name, text := range map[string]string{
		"lines":    strings.Repeat("#\n", maxLines+1) + "organization: zen\n",
		"siblings": strings.Repeat("a:\n", maxSiblings+1),
		"items":    "organization: zen\nkeys:\n" + strings.Repeat("  - x\n", maxSiblings+1),
		"indent":   strings.Repeat(" ", 600) + "a: b\n",
		"brackets": "a: " + strings.Repeat("{b: ", 200),
		"size":     strings.Repeat("x", maxFile+1),
	} {
		_, _, err := load(t, text)
		if all, ok := errors.AsType[*Errors](err); !ok || len(all.Problems) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An alias may stand for much, but not without end.
	wave := "{ name: w, locations: [" + strings.Repeat("x, ", 1000) + "x] }"
	text := "organization: zen\nkeys:\n  a: { class: staging, owner: x, waves: [&w " + wave + strings.Repeat(", *w", 200) + "] }\n"
	_, _, err := load(t, text)
	if err == nil || !strings.Contains(err.Error(), "more than 100000 entries, aliases counted") {
		t.Errorf("%.300v", err)
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/errors/*.yaml")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 4096 {
			f.Add(b)
		}
	}
	f.Add([]byte(example(f)))
	f.Add([]byte("organization: &a [*a]\nkeys: {<<: *a, ? [x] : y, ? : }\n"))
	f.Add([]byte("%YAML 1.2\n--- !!map\norganization: !!str zen\n...\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, err := LoadBytes("f.yaml", "/dir", b, Options{Dirs: testDirs()})
		if err != nil {
			if !fault.Is(err, fault.Invalid) || err.Error() == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		shown, err := Show(c)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := LoadBytes("f.yaml", "/dir", shown, Options{Dirs: testDirs()})
		if err != nil {
			t.Fatalf("what is shown cannot be read: %v\n%s", err, shown)
		}
		twice, err := Show(again)
		if err != nil || string(shown) != string(twice) {
			t.Fatalf("shown again it differs: %v\n%s", err, cmp.Diff(string(shown), string(twice)))
		}
	})
}
