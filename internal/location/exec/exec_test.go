package exec

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

var everything = []string{"read", "stage", "remove", "reload", "confirm", "probe"}

// program gives the configuration that starts the test binary as the program of the place in the file.
func program(tb testing.TB, path string, abilities ...string) Config {
	tb.Helper()
	return Config{Command: []string{self, "program", path}, Abilities: abilities}
}

func open(tb testing.TB, cfg Config) location.Driver {
	tb.Helper()
	d, err := Open(cfg, location.Env{Name: "place", Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) {
	locationtest.Run(t, locationtest.Harness{
		How: location.ReadBack, CAS: true, ReloadsOnce: true, RetryAfter: true,
		Faults: append(locationtest.StatusFaults(), locationtest.Interruptions()...),
		New: func(tb testing.TB) *locationtest.Place {
			path := filepath.Join(tb.TempDir(), "state.json")
			look := func(tb testing.TB) (s state) {
				change(tb, path, func(now *state) { s = *now })
				return s
			}
			again := func() location.Driver { return open(tb, program(tb, path, everything...)) }
			return &locationtest.Place{
				Driver: again(), Again: again,
				Held: func(tb testing.TB) ([]byte, bool) {
					s := look(tb)
					return []byte(s.Held.Value), s.Held.Value != ""
				},
				Overwrite: func(tb testing.TB, v secret.Value) {
					change(tb, path, func(s *state) { s.hold(kept{Value: v.RevealString()}) })
				},
				StageForeign: func(tb testing.TB, v secret.Value) {
					change(tb, path, func(s *state) { s.Staged = kept{Value: v.RevealString()} })
				},
				Copies: func(tb testing.TB) (all [][]byte) {
					s := look(tb)
					for _, k := range append(s.Older, s.Held, s.Staged) {
						all = append(all, []byte(k.Value))
					}
					return all
				},
				Break:   func(tb testing.TB, f locationtest.Fault) { change(tb, path, func(s *state) { s.Fault = &f }) },
				Reloads: func(tb testing.TB) int { return len(look(tb).Reloads) },
			}
		},
	})
}

func TestAbilities(t *testing.T) {
	for can := range ability(1 << len(everything)) {
		var names []string
		for i, name := range everything {
			if can>>i&1 == 1 {
				names = append(names, name)
			}
		}
		got := location.AbilitiesOf(open(t, Config{Command: []string{"/bin/true"}, Abilities: names}))
		want := location.Abilities{Reads: can&canRead != 0, Stages: can&canStage != 0, Unstages: can&canStage != 0, Removes: can&canRemove != 0,
			Reloads: can&canReload != 0, Confirms: can&canConfirm != 0, Probes: can&canProbe != 0, Checks: true}
		if got != want {
			t.Errorf("%v: %+v", names, got)
		}
	}
}

// script makes an executable shell script and gives its path.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReplies(t *testing.T) {
	long := strings.Repeat("x", 500)
	v := secrettest.Fake(t)
	for name, c := range map[string]struct {
		script      string
		read, write fault.Kind // of the errors of probe and reload
		message     string     // part of them; there is none when it is empty
	}{
		"success":            {`echo '{"ok":true,"more":1}'`, 0, 0, ""},
		"no reply":           {`exit 0`, fault.Unknown, fault.Indeterminate, "not understood"},
		"no JSON":            {`echo yes`, fault.Unknown, fault.Indeterminate, "not understood"},
		"no ok":              {`echo '{}'`, fault.Unknown, fault.Indeterminate, "not understood"},
		"two objects":        {`echo '{"ok":true}{"ok":true}'`, fault.Unknown, fault.Indeterminate, "not understood"},
		"exit code":          {`exit 4`, fault.Unknown, fault.Indeterminate, "exit code 4"},
		"success, exit code": {`echo '{"ok":true}'; exit 4`, fault.Unknown, fault.Indeterminate, "success and then"},
		"refusal, exit code": {`echo '{"ok":false,"kind":"forbidden","message":"no  right"}'; exit 1`, fault.Forbidden, fault.Forbidden, "no  right"},
		"killed":             {`kill -9 $$`, fault.Unknown, fault.Indeterminate, "exit code -1"},
		"own kind":           {`echo '{"ok":false,"kind":"findings"}'`, fault.Unknown, fault.Unknown, "no reason"},
		"made-up kind":       {`echo '{"ok":false,"kind":"superb"}'`, fault.Unknown, fault.Unknown, "no reason"},
		"controls":           {`printf '%s' '{"ok":false,"kind":"invalid","message":"a\u001b[31mb\u202ec\nd"}'`, fault.Invalid, fault.Invalid, "a [31mb c d"},
		"long word":          {`echo '{"ok":false,"kind":"invalid","message":"got ` + v.RevealString() + `."}'`, fault.Invalid, fault.Invalid, "got [...]."},
		"long":               {`echo '{"ok":false,"kind":"invalid","message":"` + strings.ReplaceAll(long, "xx", "x ") + `"}'`, fault.Invalid, fault.Invalid, "..."},
		"too much":           {`head -c 70000 /dev/zero`, fault.Invalid, fault.Indeterminate, "more than"},
		"unavailable":        {`echo '{"ok":false,"kind":"unavailable"}'`, fault.Unavailable, fault.Unavailable, "no reason"},
		"stderr":             {`echo ` + v.RevealString() + ` >&2; exit 1`, fault.Unknown, fault.Indeterminate, "exit code 1"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Config{Command: []string{script(t, c.script)}, Abilities: everything})
			wants := []fault.Kind{c.read, c.write}
			for i, err := range []error{d.(location.Prober).Probe(t.Context()), d.(location.Reloader).Reload(t.Context(), "r")} {
				if want := wants[i]; (err != nil) != (c.message != "") || fault.KindOf(err) != want {
					t.Errorf("error %v is %v, want %v", err, fault.KindOf(err), want)
				}
				if err == nil {
					continue
				}
				secrettest.NoLeak(t, "error", fmt.Appendf(nil, "%v %+v %#v %s", err, err, err, fault.HintOf(err)), v)
				if !strings.Contains(err.Error(), c.message) || len(err.Error()) > 400 {
					t.Errorf("error %q, want %q in it", err, c.message)
				}
			}
		})
	}
}

func TestHoldings(t *testing.T) {
	const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for name, c := range map[string]struct {
		holding string
		ok      bool
		known   apikey.Fingerprint
	}{
		"nothing there":    {`{"present":false,"how":"read back"}`, true, ""},
		"read back":        {`{"present":true,"how":"read back","digest":"` + digest + `"}`, true, "kf_0123456789abcdef"},
		"read, no digest":  {`{"present":true,"how":"read back"}`, false, ""},
		"short digest":     {`{"present":true,"how":"read back","digest":"0123"}`, false, ""},
		"label":            {`{"present":true,"how":"label","fingerprint":"kf_0123456789abcdef"}`, true, "kf_0123456789abcdef"},
		"label by digest":  {`{"present":true,"how":"label","digest":"` + digest + `"}`, true, "kf_0123456789abcdef"},
		"label, none":      {`{"present":true,"how":"label"}`, false, ""},
		"odd fingerprint":  {`{"present":true,"how":"label","fingerprint":"kf_xyz"}`, false, ""},
		"changed":          {`{"present":true,"how":"changed","changed_at":"2026-11-21T12:00:00Z","digest":"` + digest + `"}`, true, ""},
		"changed, when":    {`{"present":true,"how":"changed"}`, false, ""},
		"unverifiable":     {`{"present":true,"how":"unverifiable"}`, true, ""},
		"signed":           {`{"present":true,"how":"signed"}`, false, ""},
		"no how":           {`{"present":true}`, false, ""},
		"absent, digest":   {`{"present":false,"how":"read back","digest":"` + digest + `"}`, true, ""},
		"odd revision":     {`{"present":true,"how":"unverifiable","revision":"a\nb"}`, false, ""},
		"revision too big": {`{"present":true,"how":"unverifiable","revision":"` + strings.Repeat("x", 201) + `"}`, false, ""},
		"null":             {`null`, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Config{Command: []string{script(t, `echo '{"ok":true,"holding":`+c.holding+`}'`)}})
			h, err := d.Inspect(t.Context())
			if (err == nil) != c.ok || h.Fingerprint != c.known {
				t.Errorf("holding %+v, error %v", h, err)
			}
		})
	}
}

func TestConfirmations(t *testing.T) {
	for c, ok := range map[string]bool{
		`{"how":"read back","running":3,"taken":2,"old":1}`:  true,
		`{"how":"label","running":0}`:                        true,
		`{"how":"read back","running":3,"taken":2}`:          false,
		`{"how":"read back","running":0,"taken":1,"old":-1}`: false,
		`{"running":1,"taken":1}`:                            false,
		`null`:                                               false,
	} {
		d := open(t, Config{Command: []string{script(t, `echo '{"ok":true,"confirmation":`+c+`}'`)}, Abilities: everything})
		if _, err := d.(location.Confirmer).Confirm(t.Context(), apikey.Digest{1}); (err == nil) != ok {
			t.Errorf("%s: %v", c, err)
		}
	}
}

// TestValueTravelsByInputAlone looks at what the program was started with.
func TestValueTravelsByInputAlone(t *testing.T) {
	t.Setenv("KEYWRIGHT_TEST_PASSED", "seen")
	t.Setenv("KEYWRIGHT_TEST_KEPT", "not seen")
	dir := t.TempDir()
	d := open(t, Config{Environment: []string{"KEYWRIGHT_TEST_PASSED"}, Command: []string{script(t, `
in=$(cat)
case $in in
*'"op":"inspect"'*) echo '{"ok":true,"holding":{"present":true,"how":"unverifiable"}}'; exit ;;
esac
tr '\0' ' ' < /proc/$$/cmdline > `+dir+`/argv
env > `+dir+`/env
printf '%s' "$in" > `+dir+`/in
echo '{"ok":true,"receipt":{"revision":"7","facts":{"said":"no"}}}'`)}})
	v := secrettest.Fake(t)
	r, err := d.Put(t.Context(), v, location.Expect{})
	if err != nil || r.Revision != "7" || r.Facts["said"] != "no" {
		t.Fatalf("receipt %+v, %v", r, err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	secrettest.NoLeak(t, "argv and environment", append(read("argv"), read("env")...), v)
	if !bytes.Contains(read("in"), []byte(`"value":"`+v.RevealString()+`"`)) {
		t.Error("the value is not in the request")
	}
	if env := string(read("env")); !strings.Contains(env, "KEYWRIGHT_TEST_PASSED=seen") || strings.Contains(env, "KEYWRIGHT_TEST_KEPT") {
		t.Error("the environment is not the declared one")
	}
}

// TestReceiptHoldsNoValue lets the program put the value into every text that it may return.
func TestReceiptHoldsNoValue(t *testing.T) {
	d := open(t, Config{Command: []string{script(t, `
in=$(cat)
v=${in##*'"value":"'}; v=${v%'"}'}
case $in in
*'"op":"inspect"'*) echo '{"ok":true,"holding":{"present":true,"how":"unverifiable"}}' ;;
*) echo "{\"ok\":true,\"receipt\":{\"revision\":\"$v\",\"replaced\":\"x$v\",\"facts\":{\"$v\":\"a\",\"b\":\"$v\"}}}" ;;
esac`)}})
	v := secrettest.Fake(t)
	r, err := d.Put(t.Context(), v, location.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	secrettest.NoLeak(t, "receipt", fmt.Appendf(nil, "%+v", r), v)
	if r.Revision != "" || len(r.Facts) != 1 {
		t.Errorf("receipt %+v", r)
	}
}

func TestSpeech(t *testing.T) {
	v := secret.New([]byte("correct horse battery"))
	for s, want := range map[string]string{
		"no right":             "no right",
		"it said correct h":    "its message is withheld, since it held a part of the value",
		"batteries, of a car":  "batteries, of a car",
		"not his horse batter": "its message is withheld, since it held a part of the value",
	} {
		if got := speech(s, v); got != want {
			t.Errorf("%q gives %q", s, got)
		}
	}
	if got := speech("battery", secret.New([]byte("tt"))); got == "battery" {
		t.Error("a short value is shown")
	}
}

func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if errs := open(t, program(t, path, everything...)).(location.Checker).Check(t.Context()); len(errs) != 0 {
		t.Error(errs)
	}
	change(t, path, func(s *state) {
		if !slices.Equal(s.Calls, []string{"abilities", "check"}) {
			t.Errorf("calls %v", s.Calls)
		}
	})
	for name, c := range map[string]struct {
		script string
		kinds  []fault.Kind
	}{
		"less than declared": {`case $(cat) in *abilities*) echo '{"ok":true,"abilities":["read"]}' ;; *) echo '{"ok":true}' ;; esac`, []fault.Kind{fault.Invalid}},
		"problems":           {`case $(cat) in *abilities*) echo '{"ok":false,"kind":"unsupported"}' ;; *) echo '{"ok":true,"problems":[{"kind":"forbidden"},{"kind":"not_found","message":"no vault"}]}' ;; esac`, []fault.Kind{fault.Forbidden, fault.NotFound}},
		"neither":            {`case $(cat) in *inspect*) echo '{"ok":true,"holding":{"how":"unverifiable"}}' ;; *) echo '{"ok":false,"kind":"unsupported"}' ;; esac`, nil},
		"no inspect":         {`echo '{"ok":false,"kind":"unsupported"}'`, []fault.Kind{fault.Unsupported}},
		"broken":             {`exit 1`, []fault.Kind{fault.Unknown}},
	} {
		t.Run(name, func(t *testing.T) {
			errs := open(t, Config{Command: []string{script(t, c.script)}, Abilities: []string{"read", "reload"}}).(location.Checker).Check(t.Context())
			var kinds []fault.Kind
			for _, err := range errs {
				kinds = append(kinds, fault.KindOf(err))
			}
			if !slices.Equal(kinds, c.kinds) {
				t.Errorf("errors %v", errs)
			}
		})
	}
}

func TestPrograms(t *testing.T) {
	loose := script(t, "exit 0")
	if err := os.Chmod(loose, 0o722); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		command string
		kind    fault.Kind
	}{
		"writable by others": {loose, fault.Forbidden},
		"absent":             {"./absent", fault.NotFound},
		"not executable":     {text, fault.Invalid},
	} {
		d := open(t, Config{Command: []string{c.command}, Abilities: everything})
		// Nothing was started, so that even a change is no matter of doubt.
		if err := d.(location.Reloader).Reload(t.Context(), "r"); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v is %v", name, err, fault.KindOf(err))
		}
		if errs := d.(location.Checker).Check(t.Context()); len(errs) == 0 {
			t.Errorf("%s: check finds nothing", name)
		}
	}
}

func TestTimeoutAndCancel(t *testing.T) {
	slow := script(t, "exec sleep 60")
	d := open(t, Config{Command: []string{slow}, Abilities: everything, Timeout: 50 * time.Millisecond})
	if err := d.(location.Prober).Probe(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("probe: %v", err)
	}
	if err := d.(location.Reloader).Reload(t.Context(), "r"); !fault.Is(err, fault.Indeterminate) {
		t.Errorf("reload: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.(location.Reloader).Reload(ctx, "r"); !fault.Is(err, fault.Canceled) {
		t.Errorf("cancelled before it began: %v", err)
	}
}

func TestOpen(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no command":      {},
		"empty program":   {Command: []string{""}},
		"zero byte":       {Command: []string{"./p", "a\x00b"}},
		"unknown ability": {Command: []string{"./p"}, Abilities: []string{"fly"}},
		"negative":        {Command: []string{"./p"}, Timeout: -1},
	} {
		if _, err := Open(cfg, location.Env{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	address := func(cfg Config, dir string) string {
		d, err := Open(cfg, location.Env{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return d.(location.Addresser).Address()
	}
	if address(Config{Command: []string{"./p", "a"}}, "/etc/x") != address(Config{Command: []string{"/etc/x/p", "a"}, Abilities: everything}, "/etc") {
		t.Error("one program has two addresses")
	}
	if address(Config{Command: []string{"/p", "a"}}, "/") == address(Config{Command: []string{"/p", "b"}}, "/") {
		t.Error("two places have one address")
	}
	if address(Config{Command: []string{"/p", "a"}, Place: "vault"}, "/") != address(Config{Command: []string{"/p", "b"}, Place: "vault"}, "/") {
		t.Error("one named place has two addresses")
	}
}

// TestStageOfWhatIsHeld goes without a request: there is nothing to stage and nothing to promote.
func TestStageOfWhatIsHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	v := secrettest.Fake(t)
	change(t, path, func(s *state) { s.Held.Value = v.RevealString() })
	d := open(t, program(t, path, everything...))
	r, err := d.(location.Stager).Stage(t.Context(), v, location.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.(location.Promoter).Promote(t.Context(), r); err != nil {
		t.Error(err)
	}
	change(t, path, func(s *state) {
		if !slices.Equal(s.Calls, []string{"inspect"}) {
			t.Errorf("calls %v", s.Calls)
		}
	})
}

// FuzzDecode feeds replies to the decoder, and everything that is made of them to the leak check.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"ok":true}`, `{"ok":false,"kind":"conflict","message":"m","hint":"h","retry_after":3}`, `{"ok":true,"value":"v"}`, `{"ok":true,"value":7}`,
		`{"ok":true,"holding":{"present":true,"how":"read back","digest":"00"},"receipt":{"at":"2026-11-21T12:00:00Z"}}`, `[]`, "", `{"ok":true,"confirmation":{"running":-1}}`} {
		f.Add([]byte(s))
	}
	v := secret.New([]byte("abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := decode(b)
		if !ok {
			return
		}
		err := r.problem.error("run program", v)
		text := fmt.Sprintf("%v %s %+v", err, fault.HintOf(err), r.receipt(v))
		if strings.Contains(text, "abcdefghijkl") || len([]rune(err.Error())) > 400 {
			t.Errorf("text %q", text)
		}
		if _, err := r.holding(); err != nil && !fault.Is(err, fault.Invalid) {
			t.Error(err)
		}
		if _, err := r.confirmation(); err != nil && !fault.Is(err, fault.Invalid) {
			t.Error(err)
		}
	})
}
