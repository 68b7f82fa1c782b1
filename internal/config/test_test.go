package config

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// script writes a program that records what it got.
func script(t *testing.T, dir, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "check"), []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func snapshotOf(t *testing.T, x Test) []byte {
	t.Helper()
	if x.Timeout == 0 {
		x.Timeout = 20 * time.Second
	}
	raw, err := x.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRunCommand(t *testing.T) {
	dir, v := t.TempDir(), secrettest.Fake(t)
	out := filepath.Join(dir, "out")
	read := func() string {
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	script(t, dir, `{ echo "key=$KEYWRIGHT_KEY args=$* env=$NEW other=$OTHER pass=$PASSED"; cat; } > out; echo "$NEW"`)
	t.Setenv("OTHER", "seen")
	t.Setenv("PASSED", "seen")

	raw := snapshotOf(t, Test{Key: "prod", Name: "n", Command: Argv{"./check", "a b"}, Pass: []string{"PASSED"}})
	secrettest.NoLeak(t, "stored test", raw, v)
	if err := RunTest(t.Context(), raw, dir, v); err != nil {
		t.Fatal(err)
	}
	if want := "key=prod args=a b env= other= pass=seen\n" + v.RevealString() + "\n"; read() != want {
		t.Error("by standard input: the program got something else")
	}
	if err := RunTest(t.Context(), snapshotOf(t, Test{Key: "prod", Command: Argv{"./check"}, Env: "NEW"}), dir, v); err != nil {
		t.Fatal(err)
	}
	if want := "key=prod args= env=" + v.RevealString() + " other= pass=\n"; read() != want {
		t.Error("by the environment: the program got something else")
	}

	script(t, dir, `cat; cat >&2; exit 3`)
	err := RunTest(t.Context(), snapshotOf(t, Test{Command: Argv{"./check"}}), dir, v)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "exit code 3") {
		t.Error(err)
	}
	secrettest.NoLeak(t, "error", []byte(err.Error()+fault.HintOf(err)), v)
	if err := RunTest(t.Context(), snapshotOf(t, Test{Command: Argv{"./none"}}), dir, v); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for _, raw := range []string{"", "{}", `{"config":{}}`, `{"config":{"command":["x"],"new":1}}`, `{"config":{"command":["x"],"http":{"url":"https://x.example"}}}`} {
		if err := RunTest(t.Context(), []byte(raw), dir, v); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestRunHTTP(t *testing.T) {
	v := secrettest.Fake(t)
	var got *http.Request
	status := 200
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.WriteHeader(status)
		_, _ = w.Write([]byte(r.Header.Get("x-api-key")))
	}))
	defer s.Close()
	run := func(h HTTPTest) error {
		return RunTest(t.Context(), snapshotOf(t, Test{Key: "prod", HTTP: &h}), t.TempDir(), v)
	}
	if err := run(HTTPTest{URL: s.URL + "/ai/health?deep=1", Method: "GET", Expect: 200}); err != nil {
		t.Fatal(err)
	}
	if got.URL.Path != "/ai/health" || got.URL.Query().Get("deep") != "1" || got.Header.Get("x-api-key") != "" {
		t.Errorf("%s %v", got.URL, got.Header)
	}
	if err := run(HTTPTest{URL: s.URL, Method: "POST", Expect: 200, Header: "x-api-key"}); err != nil {
		t.Fatal(err)
	}
	if got.Method != "POST" || got.Header.Get("x-api-key") != v.RevealString() {
		t.Error("the value did not arrive in its header")
	}
	for _, c := range []struct {
		status, expect int
		kind           fault.Kind
	}{{404, 200, fault.Invalid}, {401, 200, fault.Invalid}, {503, 200, fault.Unavailable}, {429, 200, fault.Unavailable}, {200, 204, fault.Invalid}} {
		status = c.status
		err := run(HTTPTest{URL: s.URL, Method: "GET", Expect: c.expect, Header: "x-api-key"})
		if !fault.Is(err, c.kind) {
			t.Errorf("%d: %v", c.status, err)
		}
		secrettest.NoLeak(t, "error", []byte(err.Error()), v)
	}
	status = 403
	if err := run(HTTPTest{URL: s.URL, Method: "GET", Expect: 403}); err != nil {
		t.Errorf("an expected refusal: %v", err)
	}
	s.Close()
	if err := run(HTTPTest{URL: s.URL, Method: "GET", Expect: 200}); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}
