package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/notify"
)

// script writes a shell script into a directory that nobody else can change.
func script(t *testing.T, body string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "tell")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

func TestSendHandsTheNoticeOverOnStdin(t *testing.T) {
	dir, _ := script(t, `cat >got; printf '%s' "$*" >args; env >env`)
	t.Setenv("KEYWRIGHT_TEST_SECRET", "hidden")
	c, err := New(Config{Argv: []string{"./tell", "a b", "$(c)"}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	n := notify.Notice{At: time.Unix(1, 0), Key: "prod-primary", Kind: "manual", What: "started"}
	if err := c.Send(t.Context(), "n_1", n); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var got notify.Notice
	if err := json.Unmarshal([]byte(read("got")), &got); err != nil || got.What != "started" || got.Key != "prod-primary" {
		t.Errorf("stdin: %+v %v", got, err)
	}
	if read("args") != "a b $(c)" {
		t.Errorf("arguments: %q", read("args"))
	}
	if env := read("env"); !strings.Contains(env, "KEYWRIGHT_DELIVERY=n_1") || strings.Contains(env, "hidden") || strings.Contains(env, "started") {
		t.Errorf("environment: %s", env)
	}
	if c.Name() != "command tell" || c.Check() != nil {
		t.Errorf("%q, %v", c.Name(), c.Check())
	}
}

func TestSendTrouble(t *testing.T) {
	dir, path := script(t, "echo words of the program; echo more >&2; exit 3")
	c, err := New(Config{Argv: []string{path}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Send(t.Context(), "n_1", notify.Notice{})
	if !fault.Is(err, fault.Unknown) || strings.Contains(err.Error(), "words") || strings.Contains(err.Error(), "more") {
		t.Errorf("exit 3: %v", err)
	}
	if err := os.Chmod(path, 0o722); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), "n_1", notify.Notice{}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a program that others can change: %v", err)
	}
	if _, err := New(Config{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no program: %v", err)
	}
	missing, err := New(Config{Argv: []string{"./none"}, Dir: dir})
	if err != nil || !fault.Is(missing.Check(), fault.NotFound) {
		t.Errorf("missing: %v", err)
	}
}
