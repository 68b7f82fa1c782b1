package secret_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestParseRef(t *testing.T) {
	for _, s := range []string{"env:A", "env:_a9", "file:/x", "file:x y", "cmd:/bin/true", "cmd:pass show 'the key'", "file:/etc/sk-ant-production"} {
		var r secret.Ref
		if err := r.UnmarshalText([]byte(s)); err != nil || string(r) != s {
			t.Errorf("ParseRef(%q): %v", s, err)
		}
	}
	v := secrettest.Fake(t)
	value := v.RevealString()
	for _, s := range []string{
		"", "A", "env:", "env:9", "env:$HOME", "env:A B", "file:", "cmd:", "cmd:  ", "cmd:'", "cmd:''", "vault:x", ":", "FILE:x",
		value, value + ":x", "env:" + value, "file:" + value, "cmd:echo " + value, "x:" + value, "env:" + value[:40], strings.ToUpper(value) + ":",
	} {
		var r secret.Ref
		err := r.UnmarshalText([]byte(s))
		if !fault.Is(err, fault.Invalid) || r != "" {
			t.Errorf("reference of %d bytes: %q, %v", len(s), r, err)
			continue
		}
		secrettest.NoLeak(t, "error", []byte(err.Error()+fault.HintOf(err)), v)
		if strings.Contains(err.Error()+fault.HintOf(err), value[:30]) {
			t.Errorf("the error quotes a part of the value: %v", err)
		}
		if _, err := secret.Ref(s).Resolve(t.Context(), ""); !fault.Is(err, fault.Invalid) {
			t.Errorf("Resolve: %v", err)
		}
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	v := secrettest.Fake(t)
	t.Setenv("REF_TEST", v.RevealString())
	t.Setenv("REF_TEST_EMPTY", "")
	write := func(name, tail string, mode os.FileMode) {
		v.Reveal(func(b []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), append(append([]byte(nil), b...), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("bare", "", 0o600)
	write("lf", "\n", 0o400)
	write("crlf", "\r\n", 0o600)
	for _, ref := range []secret.Ref{"env:REF_TEST", "file:bare", "file:lf", "file:crlf", secret.Ref("file:" + dir + "/bare"), "cmd:cat lf", "cmd:cat 'crlf'"} {
		got, err := ref.Resolve(t.Context(), dir)
		if err != nil || !got.Equal(v) {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}

	write("two", "\n\n", 0o600) // one line end is dropped and no more
	if got, err := secret.Ref("file:two").Resolve(t.Context(), dir); err != nil || got.Len() != v.Len()+1 {
		t.Errorf("two line ends: %v, %v", got, err)
	}

	write("group", "", 0o640)
	write("world", "", 0o604)
	for name, content := range map[string]string{"empty": "", "newline": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, child.MaxOutput+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ncat lf\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for ref, kind := range map[secret.Ref]fault.Kind{
		"env:REF_TEST_EMPTY": fault.NotFound, "env:REF_TEST_UNSET": fault.NotFound, "file:none": fault.NotFound, "file:empty": fault.NotFound, "file:newline": fault.NotFound,
		"file:group": fault.Forbidden, "file:world": fault.Forbidden, "file:bare/below": fault.Forbidden, "file:fifo": fault.Invalid, "file:.": fault.Invalid, "file:large": fault.Invalid,
		"cmd:./none": fault.NotFound, "cmd:true": fault.NotFound, "cmd:./script": fault.Unknown, "": fault.Invalid,
	} {
		got, err := ref.Resolve(t.Context(), dir)
		if err == nil || fault.KindOf(err) != kind || !got.IsZero() {
			t.Errorf("%q: %v, %v (%v)", ref, got, err, fault.KindOf(err))
			continue
		}
		secrettest.NoLeak(t, string(ref), []byte(err.Error()+fault.HintOf(err)), v)
	}
}
