package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestHandlerShowsTheFingerprintAlone(t *testing.T) {
	value := secrettest.Fake(t)
	fingerprint := fingerprintOf(value.RevealString())
	if want := string(value.Fingerprint()); fingerprint != want {
		t.Errorf("fingerprint = %q, want %q", fingerprint, want)
	}
	for _, test := range []struct {
		fingerprint, path string
		status            int
		body              string
	}{
		{fingerprint, "/healthz", http.StatusOK, "ok"},
		{fingerprint, "/fingerprint", http.StatusOK, fingerprint},
		{"", "/healthz", http.StatusServiceUnavailable, "no key"},
		{"", "/fingerprint", http.StatusServiceUnavailable, "no key"},
	} {
		w := httptest.NewRecorder()
		handler(test.fingerprint).ServeHTTP(w, httptest.NewRequest(http.MethodGet, test.path, nil))
		if w.Code != test.status || strings.TrimSpace(w.Body.String()) != test.body {
			t.Errorf("GET %s with key %q: %d %q, want %d %q", test.path, test.fingerprint, w.Code, w.Body, test.status, test.body)
		}
		secrettest.NoLeak(t, test.path, w.Body.Bytes(), value)
	}
}
