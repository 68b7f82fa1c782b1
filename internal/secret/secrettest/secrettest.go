// Package secrettest makes test values at run time and looks for leaked ones. It is used by tests alone and is not in the
// binary.
package secrettest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/secret"
)

// Fake gives a fresh value of the layout of an API key. Its fakeness is visible: the body says so in words.
func Fake(tb testing.TB) secret.Value {
	tb.Helper()
	return secret.New([]byte(text("api03")))
}

// FakeAdmin is Fake with the layout of an admin key.
func FakeAdmin(tb testing.TB) secret.Value {
	tb.Helper()
	return secret.New([]byte(text("admin01")))
}

func text(sort string) string {
	random := rand.Text() + rand.Text() + rand.Text() + rand.Text()
	body := "fake-example-" + random
	return strings.Join([]string{"sk", "ant", sort, body[:93] + "AA"}, "-")
}

// Forms gives the shapes in which a value could leak: as it is, JSON-escaped, URL-escaped, hex in both cases, and base64 of both
// alphabets at the three alignments. Each is long enough not to occur by chance.
func Forms(v secret.Value) [][]byte {
	var forms [][]byte
	v.Reveal(func(b []byte) {
		if len(b) < 16 {
			return
		}
		forms = append(forms, bytes.Clone(b))
		if q, err := json.Marshal(string(b)); err == nil {
			forms = append(forms, q[1:len(q)-1])
		}
		forms = append(forms, []byte(url.QueryEscape(string(b))), []byte(hex.EncodeToString(b)), bytes.ToUpper([]byte(hex.EncodeToString(b))))
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for lead := range 3 {
				s := enc.EncodeToString(append(make([]byte, lead), b...))
				// The first and last group mix in neighbouring bytes.
				forms = append(forms, []byte(s[4:len(s)-4]))
			}
		}
		// A part of the value is a leak too: everything behind the prefix's first 20 characters.
		forms = append(forms, bytes.Clone(b[len(b)-len(b)/2:]))
	})
	return forms
}

// NoLeak fails the test when data contains any form of any of the values. where names the data in the failure.
func NoLeak(tb testing.TB, where string, data []byte, values ...secret.Value) {
	tb.Helper()
	for _, v := range values {
		for i, form := range Forms(v) {
			if bytes.Contains(data, form) {
				tb.Errorf("%s leaks %v (form %d)", where, v.Fingerprint(), i)
				break
			}
		}
	}
}

// NoLeakIn runs NoLeak over every regular file below dir, except those whose path is in but.
func NoLeakIn(tb testing.TB, dir string, but []string, values ...secret.Value) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		for _, b := range but {
			if path == b {
				return nil
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		NoLeak(tb, path, data, values...)
		return nil
	})
	if err != nil {
		tb.Fatalf("search %s: %v", dir, err)
	}
}
