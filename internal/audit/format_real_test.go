//go:build real

package audit_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
)

func tools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not on this machine", name)
			}
			t.Skipf("%s is not on this machine", name)
		}
	}
}

// A third party follows the page word for word.
func TestRealFormatPageByHand(t *testing.T) {
	tools(t, "sh", "jq", "openssl", "sha256sum", "base64")
	text := string(must(os.ReadFile(page)))
	_, script, ok := strings.Cut(text, "```sh\n")
	script, _, ok2 := strings.Cut(script, "```\n")
	if !ok || !ok2 {
		t.Fatal("the page has no commands")
	}
	file := example(t)
	run := func(content []byte) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "example.jsonl"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	if got, want := run(file), exampleOutput(t, file); got != want {
		t.Errorf("the commands print\n%s\nwant\n%s", got, want)
	}
	if got := run(bytes.Replace(file, []byte("planned"), []byte("foreseen"), 1)); !strings.Contains(got, "WRONG") || strings.Contains(got, "the end is correct") {
		t.Errorf("an edited export prints\n%s", got)
	}
}

// jq sees the canonical form as its own, whatever the texts hold.
func TestRealCanonicalFormIsThatOfJQ(t *testing.T) {
	tools(t, "jq")
	var all bytes.Buffer
	var last audit.Entry
	for _, text := range []string{`"\/`, "<>&'", "\u2028\u00a0\ufffd", "日本 🔑 é é", "{}[]:,", "\x01\b\f\n\r\t\x7f", "\\u0041", "\U0010ffff\ue000"} {
		last = must(audit.Link(last, event.Event{At: noon, Type: "x", Actor: text, Text: text, Fields: map[string]string{text: text, "Z": "", "a": "", "ä": "", "\U0001f511": "", "\uff5e": ""}}, store))
		all.Write(append(last.Line(), '\n'))
	}
	cmd := exec.CommandContext(t.Context(), "jq", "-cS", ".")
	cmd.Stdin = bytes.NewReader(all.Bytes())
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, all.Bytes()) {
		t.Errorf("jq prints\n%s\nfor\n%s%v", out, all.Bytes(), err)
	}
}
