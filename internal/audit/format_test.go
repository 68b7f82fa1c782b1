package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
)

var update = flag.Bool("update", false, "write the worked example into docs/audit-format.md")

const page = "../../docs/audit-format.md"

// example builds the worked example of the page.
func example(t *testing.T) []byte {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(i)
	}
	der := must(x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed)))
	path := filepath.Join(t.TempDir(), "example.key")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := must(audit.OpenSigner(path, "", false))
	const id = "s_00112233445566aa"
	var entries []audit.Entry
	var last audit.Entry
	for i, e := range []event.Event{
		{Type: event.RotationStarted, Actor: "operator@zensupport.example", Key: "prod-primary", Rotation: "r-2026-11-21-prod-primary", Text: `reason "quarterly" <planned> & announced`},
		{Type: event.EffectIntended, Actor: "keywright", Key: "prod-primary", Version: "v_0123456789abcdef", Rotation: "r-2026-11-21-prod-primary", Location: "staging-env", Effect: "e-1"},
		{
			Type: event.EffectDone, Actor: "keywright", Key: "prod-primary", Version: "v_0123456789abcdef", Rotation: "r-2026-11-21-prod-primary", Location: "staging-env", Effect: "e-1",
			Text: "geprüft: größer 日本", Fields: map[string]string{"held": "kf_3f9a11d2c4b5a697", "how": "read back"},
		},
	} {
		e.At = noon.Add(time.Duration(i) * 1500 * time.Millisecond)
		last = must(audit.Link(last, e, id))
		entries = append(entries, last)
	}
	var out bytes.Buffer
	if _, err := audit.Export(&out, audit.Verifier{Store: id}, each(entries), s, noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.VerifyExport(bytes.NewReader(out.Bytes()), audit.Verifier{Store: id, Keys: []ed25519.PublicKey{s.Public()}}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// exampleOutput is what the commands on the page print. It is computed from what the lines say, and compared with what the
// commands really print by a test with the build tag real.
func exampleOutput(t *testing.T, file []byte) string {
	t.Helper()
	var out strings.Builder
	for line := range bytes.Lines(file) {
		e, err := audit.ParseEntry(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			continue
		}
		if e.Seq == 1 {
			fmt.Fprintf(&out, "genesis %v\n", audit.Genesis(e.Store))
		}
		fmt.Fprintf(&out, "entry %d prev %v hash %v correct\n", e.Seq, e.Prev, e.Hash)
	}
	const verified = "Signature Verified Successfully\n"
	return out.String() + verified + verified + "the end is correct\n"
}

// part gives the text between two markers of the page, and the page with that text replaced.
func part(t *testing.T, text, name, replacement string) (old, replaced string) {
	t.Helper()
	open, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(text, open)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the page has no part %q", name)
	}
	return old, before + open + replacement + end + after
}

func TestFormatPage(t *testing.T) {
	text := string(must(os.ReadFile(page)))
	file := example(t)
	wantExample := "```json\n" + string(file) + "```\n"
	wantOutput := "```text\n" + exampleOutput(t, file) + "```\n"
	gotExample, next := part(t, text, "example", wantExample)
	gotOutput, next := part(t, next, "output", wantOutput)
	if gotExample == wantExample && gotOutput == wantOutput {
		return
	}
	if !*update {
		t.Fatalf("the worked example in %s is not what the code writes: the format changed, which breaks every record (or run this test with -update)", page)
	}
	if err := os.WriteFile(page, []byte(next), 0o644); err != nil {
		t.Fatal(err)
	}
}
