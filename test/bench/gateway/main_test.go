package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestWhole: a stream that is short, spliced or has an event too many is told apart from one that is as it should be.
func TestWhole(t *testing.T) {
	events := script("msg_1", 3)
	text := strings.Join(events, "")
	if err := whole(text, 3); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"empty":         "",
		"cut":           text[:len(text)/2],
		"without end":   strings.Join(events[:len(events)-1], ""),
		"event missing": strings.Replace(text, events[4], "", 1),
		"event twice":   strings.Replace(text, events[4], events[4]+events[4], 1),
		"spliced":       strings.Replace(text, events[4], script("msg_2", 3)[4], 1),
	} {
		if whole(bad, 3) == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// TestProvider: the imitation knows its own keys alone, and counts requests that began behind the end of their key.
func TestProvider(t *testing.T) {
	p := &provider{answer: func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusOK) }}
	a := p.key()
	ask := func(method, key, began string) int {
		r := httptest.NewRequestWithContext(context.Background(), method, "/v1/messages", strings.NewReader("{}"))
		r.Header.Set("X-Api-Key", key)
		r.Header.Set(beganHeader, began)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w.Code
	}
	if got := ask("POST", a.text, "1"); got != 200 {
		t.Error(got)
	}
	if got := ask("POST", a.text+"x", "1"); got != 401 {
		t.Error(got)
	}
	a.closed.Store(5)
	ask("POST", a.text, "4")
	ask("POST", a.text, "6")
	a.live.Store(false)
	if got := ask("GET", a.text, ""); got != 401 {
		t.Error(got)
	}
	if a.late.Load() != 1 || p.late() != 1 || a.calls.Load() != 3 || a.probes.Load() != 1 {
		t.Errorf("late %d, calls %d, probes %d", a.late.Load(), a.calls.Load(), a.probes.Load())
	}
}
