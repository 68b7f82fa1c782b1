package consumer

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func serve(t *testing.T, h http.HandlerFunc) Request {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Request{URL: s.URL + "/health?private=word", Timeout: 5 * time.Second}
}

func TestProbeByHTTP(t *testing.T) {
	v := secrettest.Fake(t)
	cut := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		serve    http.HandlerFunc
		expect   int
		contains string
		kind     fault.Kind
		ok       bool
	}{
		"ok":            {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "all is well") }, 0, "is well", 0, true},
		"other text":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, v.RevealString()) }, 0, "is well", fault.Unavailable, false},
		"text too late": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", maxAnswer), "is well") }, 0, "is well", fault.Unavailable, false},
		"other status": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, v.RevealString(), http.StatusServiceUnavailable)
		}, 0, "", fault.Unavailable, false},
		"expected status": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, "", 0, true},
		"redirect":        {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, 0, "", fault.Unavailable, false},
		"cut":             {cut, 0, "", fault.Unavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			r := serve(t, func(w http.ResponseWriter, req *http.Request) {
				calls.Add(1)
				if req.Method != http.MethodGet || req.URL.Path != "/health" {
					t.Errorf("%s %s", req.Method, req.URL.Path)
				}
				c.serve(w, req)
			})
			p, err := ProbeConfig{HTTP: &ProbeHTTP{Request: r, Expect: c.expect, Contains: c.contains}}.Open(location.Env{})
			if err != nil {
				t.Fatal(err)
			}
			err = p.Probe(t.Context())
			if (err == nil) != c.ok || fault.KindOf(err) != c.kind || calls.Load() != 1 {
				t.Errorf("%v is %v after %d calls", err, fault.KindOf(err), calls.Load())
			}
			if err != nil {
				secrettest.NoLeak(t, "error", []byte(err.Error()), v)
				if strings.Contains(err.Error(), "private") {
					t.Errorf("the whole address is in %q", err)
				}
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	v := secrettest.Fake(t)
	t.Setenv("KEYWRIGHT_TEST_HEADER", "Bearer "+v.RevealString())
	t.Setenv("KEYWRIGHT_TEST_BROKEN", v.RevealString()+"\r\nX: y")
	var calls atomic.Int32
	r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		calls.Add(1)
		if req.Header.Get("Authorization") != "Bearer "+v.RevealString() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	probe := func(ref secret.Ref) error {
		r.Headers = map[string]secret.Ref{"Authorization": ref}
		p, err := newProbeHTTP(ProbeHTTP{Request: r}, location.Env{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Probe(t.Context())
	}
	if err := probe("env:KEYWRIGHT_TEST_HEADER"); err != nil {
		t.Error(err)
	}
	err := probe("env:KEYWRIGHT_TEST_BROKEN")
	wantKind(t, "control character", err, fault.Invalid)
	secrettest.NoLeak(t, "error", []byte(err.Error()), v)
	wantKind(t, "not set", probe("env:KEYWRIGHT_TEST_ABSENT"), fault.NotFound)
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestReloadByHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  int
		kind  fault.Kind
		ok    bool
	}{
		"accepted":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, 0, 0, true},
		"exactly":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, 200, fault.Indeterminate, false},
		"unauthorised":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, 0, fault.Unauthenticated, false},
		"forbidden":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, 0, fault.Forbidden, false},
		"absent":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, 0, fault.NotFound, false},
		"conflict":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(409) }, 0, fault.Conflict, false},
		"too many":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, 0, fault.RateLimited, false},
		"internal":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 0, fault.Indeterminate, false},
		"unavailable":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, 0, fault.Unavailable, false},
		"redirect":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusTemporaryRedirect) }, 0, fault.Invalid, false},
		"cut after sent": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, fault.Indeterminate, false},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			r := serve(t, func(w http.ResponseWriter, req *http.Request) {
				calls.Add(1)
				if req.Method != http.MethodPost || req.Header.Get("Keywright-Change-Id") != "change-7" || req.ContentLength > 0 {
					t.Errorf("%s, headers %v", req.Method, req.Header)
				}
				c.serve(w, req)
			})
			p, err := newReloadHTTP(ReloadHTTP{Request: r, Expect: c.want}, location.Env{})
			if err != nil {
				t.Fatal(err)
			}
			if err = p.Reload(t.Context(), "change-7"); (err == nil) != c.ok || fault.KindOf(err) != c.kind || calls.Load() != 1 {
				t.Errorf("%v is %v after %d calls", err, fault.KindOf(err), calls.Load())
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		s := httptest.NewServer(nil)
		s.Close()
		p, err := newReloadHTTP(ReloadHTTP{Request: Request{URL: s.URL}}, location.Env{})
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, "reload", p.Reload(t.Context(), "r"), fault.Unavailable)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantKind(t, "cancelled", p.Reload(ctx, "r"), fault.Canceled)
	})
}

func TestConfirmByHTTP(t *testing.T) {
	want := apikey.Digest{0xab}
	is, other := string(want.Fingerprint()), "kf_0123456789abcdef"
	for name, c := range map[string]struct {
		body, path string
		counts     string // running, taken, old, unknown; or the kind of the error
	}{
		"taken":            {"the key is " + is + ".", "", "1 1 0 0"},
		"taken, twice":     {is + " " + is, "", "1 1 0 0"},
		"old":              {`{"key":"` + other + `"}`, "", "1 0 1 0"},
		"both":             {is + " and before " + other, "", "1 0 0 1"},
		"none":             {"hello", "", "1 0 0 1"},
		"longer":           {is + "00", "", "1 0 0 1"},
		"path":             {`{"a":{"b":["x","` + is + `"]},"old":"` + other + `"}`, "a.b.1", "1 1 0 0"},
		"list":             {`{"pods":["` + is + `","` + other + `","` + is + `"]}`, "pods", "3 2 1 0"},
		"empty list":       {`{"pods":[]}`, "pods", "0 0 0 0"},
		"no such path":     {`{"a":1}`, "a.b", "invalid"},
		"outside the list": {`{"a":["` + is + `"]}`, "a.1", "invalid"},
		"no number":        {`{"a":["` + is + `"]}`, "a.x", "invalid"},
		"no fingerprint":   {`{"a":"x"}`, "a", "invalid"},
		"no JSON":          {is, "a", "invalid"},
		"too long":         {strings.Repeat(" ", maxAnswer) + is, "", "invalid"},
		"error status":     {"", "", "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.counts == "unavailable" {
					w.WriteHeader(500)
				}
				fmt.Fprint(w, c.body)
			})
			p, err := newConfirmHTTP(ConfirmHTTP{Request: r, JSON: c.path}, location.Env{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Confirm(t.Context(), want)
			counts := fmt.Sprint(got.Running, got.Taken, got.Old, got.Unknown)
			if err != nil {
				counts = fault.KindOf(err).String()
			} else if got.How != location.Label {
				t.Errorf("how: %q", got.How)
			}
			if counts != c.counts {
				t.Errorf("%s (%v), want %s", counts, err, c.counts)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for address, c := range map[string]struct{ any, loopbackOnly bool }{
		"127.0.0.1:80":                  {true, true},
		"[::1]:80":                      {true, true},
		"10.0.0.1:80":                   {true, false},
		"192.0.2.7:443":                 {true, false},
		"[2001:db8::1]:443":             {true, false},
		"169.254.169.254:80":            {false, false},
		"169.254.1.1:80":                {false, false},
		"[fe80::1%eth0]:80":             {false, false},
		"[::ffff:169.254.169.254]:80":   {false, false},
		"[64:ff9b::a9fe:a9fe]:80":       {false, false},
		"[fd00:ec2::254]:80":            {false, false},
		"[fd20:ce::254]:80":             {false, false},
		"100.100.100.200:80":            {false, false},
		"168.63.129.16:80":              {false, false},
		"0.0.0.0:80":                    {false, false},
		"[::]:80":                       {false, false},
		"224.0.0.1:80":                  {false, false},
		"[::ffff:127.0.0.1]:80":         {true, true},
		"not an address":                {false, false},
		"[64:ff9b::7f00:1]:80":          {true, true},
		"[2001:db8:64:ff9b::a9fe:1]:80": {true, false},
	} {
		if got := control(false)("tcp", address, nil) == nil; got != c.any {
			t.Errorf("%s allowed: %v", address, got)
		}
		if got := control(true)("tcp", address, nil) == nil; got != c.loopbackOnly {
			t.Errorf("%s allowed for headers over plain http: %v", address, got)
		}
	}
	p, err := newProbeHTTP(ProbeHTTP{Request: Request{URL: "http://169.254.169.254/latest/meta-data/"}}, location.Env{})
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, "metadata", p.Probe(t.Context()), fault.Forbidden)
}

// FuzzAt walks any path through any text.
func FuzzAt(f *testing.F) {
	f.Add([]byte(`{"a":["kf_0123456789abcdef"]}`), "a.0")
	f.Add([]byte(`[[[]]]`), "0.0.0.0")
	f.Add([]byte(`{"":{"":"kf_0123456789abcdef"}}`), ".")
	f.Fuzz(func(t *testing.T, body []byte, path string) {
		found, ok := at(body, path)
		for _, s := range found {
			if !ok || !whole(s) {
				t.Errorf("%q in %q gives %q", path, body, s)
			}
		}
	})
}
