package consumer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func script(t *testing.T, body string) *command {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "program"), []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := newCommand(CommandConfig{Argv: []string{"./program", "an argument"}, Timeout: 5 * time.Second}, location.Env{Name: "place", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCommandEnvironment(t *testing.T) {
	t.Setenv("KEYWRIGHT_TEST_KEPT", "not seen")
	want := apikey.Digest{1, 2}
	c := script(t, `[ "$1" = "an argument" ] && [ "$KEYWRIGHT_LOCATION" = place ] && [ -z "$KEYWRIGHT_TEST_KEPT" ] || exit 1
[ -z "$KEYWRIGHT_CHANGE_ID" ] || [ "$KEYWRIGHT_CHANGE_ID" = change-7 ] || exit 1
echo "$KEYWRIGHT_CHANGE_ID" >> ids
[ -z "$KEYWRIGHT_FINGERPRINT" ] || echo "$KEYWRIGHT_FINGERPRINT"`)
	if err := c.Reload(t.Context(), "change-7"); err != nil {
		t.Error(err)
	}
	if err := c.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := c.Confirm(t.Context(), want)
	if err != nil || !got.Complete() || got.How != location.Label {
		t.Errorf("%+v, %v", got, err)
	}
	if ids, err := os.ReadFile(filepath.Join(c.env.Dir, "ids")); err != nil || string(ids) != "change-7\n\n\n" {
		t.Errorf("ids %q, %v", ids, err)
	}
}

func TestCommandFailures(t *testing.T) {
	v := secrettest.Fake(t)
	for name, c := range map[string]struct {
		script                 string
		reload, confirm, probe fault.Kind
	}{
		"exit code": {"echo " + v.RevealString() + "; echo " + v.RevealString() + " >&2; exit 3", fault.Indeterminate, fault.Unavailable, fault.Unavailable},
		"killed":    {"kill -9 $$", fault.Indeterminate, fault.Unavailable, fault.Unavailable},
		"flood":     {"head -c 70000 /dev/zero", fault.Indeterminate, fault.Invalid, fault.Unavailable},
		"slow":      {"exec sleep 60", fault.Indeterminate, fault.Unavailable, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := script(t, c.script)
			if name == "slow" {
				p.cfg.Timeout = 50 * time.Millisecond
			}
			_, confirmed := p.Confirm(t.Context(), apikey.Digest{1})
			for what, e := range map[string]struct {
				err  error
				kind fault.Kind
			}{"reload": {p.Reload(t.Context(), "r"), c.reload}, "confirm": {confirmed, c.confirm}, "probe": {p.Probe(t.Context()), c.probe}} {
				wantKind(t, what, e.err, e.kind)
				secrettest.NoLeak(t, what, fmt.Appendf(nil, "%v %s", e.err, fault.HintOf(e.err)), v)
			}
		})
	}
	t.Run("not started", func(t *testing.T) {
		p := script(t, "exit 0")
		p.cfg.Argv[0] = "./absent"
		wantKind(t, "reload", p.Reload(t.Context(), "r"), fault.NotFound)
		wantKind(t, "probe", p.Probe(t.Context()), fault.NotFound)
		if err := os.Chmod(filepath.Join(p.env.Dir, "program"), 0o722); err != nil {
			t.Fatal(err)
		}
		p.cfg.Argv[0] = "./program"
		wantKind(t, "reload", p.Reload(t.Context(), "r"), fault.Forbidden)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantKind(t, "reload", p.Reload(ctx, "r"), fault.Canceled)
		wantKind(t, "probe", p.Probe(ctx), fault.Canceled)
	})
}

func TestCount(t *testing.T) {
	const a, b = "kf_0123456789abcdef", "kf_fedcba9876543210"
	for out, want := range map[string]string{
		a:                                     "1 1 0 0",
		b + "\n":                              "1 0 1 0",
		a + "\n " + b + "\r\n" + a + "\n":     "3 2 1 0",
		`{"running":3,"taken":2,"old":1}`:     "3 2 1 0",
		` {"running":3,"taken":1,"old":1}`:    "3 1 1 1",
		`{"running":0,"taken":0}`:             "0 0 0 0",
		`{"running":3,"taken":2,"unknown":0}`: "no",
		`{"running":3,"taken":4}`:             "no",
		`{"running":-1,"taken":-1}`:           "no",
		`{"taken":1}`:                         "no",
		`{"running":1,"taken":1`:              "no",
		"":                                    "no",
		"\n\n":                                "no",
		a + b:                                 "no",
		a + " " + b:                           "no",
		"kf_0123456789abcde":                  "no",
		strings.ToUpper(a):                    "no",
		"the consumer has " + a:               "no",
	} {
		c, ok := count([]byte(out), a)
		got := "no"
		if ok {
			got = fmt.Sprint(c.Running, c.Taken, c.Old, c.Unknown)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", out, got, want)
		}
	}
}

// FuzzCount checks that whatever is accepted adds up.
func FuzzCount(f *testing.F) {
	for _, s := range []string{"kf_0123456789abcdef\n", `{"running":3,"taken":1,"old":1,"unknown":1}`, `{"running":9e99}`, "{}", "x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		if c, ok := count(out, "kf_0123456789abcdef"); ok && (min(c.Running, c.Taken, c.Old, c.Unknown) < 0 || c.Taken+c.Old+c.Unknown != c.Running) {
			t.Errorf("%q: %+v", out, c)
		}
	})
}
