package guard_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/guard"
)

var peer = guard.Peer{Name: "the peer", Reach: "reach it", Denied: "join the group", Log: "read the log", Refused: func(r *guard.Refusal) (fault.Kind, string, string) {
	if r.Reason == "Taken" {
		return fault.Conflict, "it is taken", "look"
	}
	return fault.Invalid, "it refuses with " + r.Error(), ""
}}

// call makes a call through the guard and explains it, reading the body as a library does.
func call(ctx context.Context, t *testing.T, g *guard.Transport, url string, write bool) error {
	t.Helper()
	method := http.MethodGet
	if write {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = nil
	res, err := g.Client().Do(req)
	if err == nil {
		defer res.Body.Close()
		_, err = io.ReadAll(res.Body)
	}
	return g.Peer.Explain("ask", err, write)
}

func TestRefusals(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", "/200")
		w.Header().Set("Retry-After", r.URL.Query().Get("wait"))
		w.WriteHeader(code)
		io.WriteString(w, "text of the other side "+r.URL.Query().Get("reason"))
	}))
	defer s.Close()
	g := &guard.Transport{Next: new(http.Transport), Peer: peer, Accept: []int{304}, Read: func(body []byte, r *guard.Refusal) {
		if strings.HasSuffix(string(body), "Taken") {
			r.Reason = "Taken"
		}
		r.RetryAfter = 3 * time.Second
	}}
	for path, want := range map[string]struct {
		read, write fault.Kind
		text, hint  string
		wait        time.Duration
	}{
		"/302":              {fault.Unavailable, fault.Unavailable, "ask: the peer answers with status 302", "read the log", 3 * time.Second},
		"/404":              {fault.Invalid, fault.Invalid, "ask: it refuses with status 404", "", 3 * time.Second},
		"/409?reason=Taken": {fault.Conflict, fault.Conflict, "ask: it is taken", "look", 3 * time.Second},
		"/429?wait=7":       {fault.RateLimited, fault.RateLimited, "ask: the peer asks to wait", "", 7 * time.Second},
		"/429?wait=9999999": {fault.RateLimited, fault.RateLimited, "ask: the peer asks to wait", "", time.Hour},
		"/429?wait=-5":      {fault.RateLimited, fault.RateLimited, "ask: the peer asks to wait", "", 0},
		"/500":              {fault.Unavailable, fault.Indeterminate, "ask: the peer answers with status 500", "read the log", 3 * time.Second},
		"/503":              {fault.Unavailable, fault.Unavailable, "ask: the peer answers with status 503", "read the log", 3 * time.Second},
	} {
		for _, write := range []bool{false, true} {
			kind := want.read
			if write {
				kind = want.write
			}
			err := call(t.Context(), t, g, s.URL+path, write)
			if !fault.Is(err, kind) || err.Error() != want.text || fault.HintOf(err) != want.hint || fault.RetryAfterOf(err) != want.wait {
				t.Errorf("%s, write %v: %v (%v, hint %q, wait %v)", path, write, err, fault.KindOf(err), fault.HintOf(err), fault.RetryAfterOf(err))
			}
		}
	}
	for _, path := range []string{"/200", "/304"} {
		if err := call(t.Context(), t, g, s.URL+path, true); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	g.Read = nil
	if err := call(t.Context(), t, g, s.URL+"/409?reason=Taken", true); !fault.Is(err, fault.Invalid) {
		t.Errorf("without Read the body is looked at: %v", err)
	}
}

func TestLost(t *testing.T) {
	drop := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer drop.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half of a text")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer cut.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	failing := func(err error) http.RoundTripper {
		return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: err}
		}}
	}
	for name, c := range map[string]struct {
		next        http.RoundTripper
		url         string
		read, write fault.Kind
		text, hint  string // of a read
	}{
		"dropped":     {new(http.Transport), drop.URL, fault.Unavailable, fault.Indeterminate, "ask: the connection to the peer was lost", "reach it"},
		"cut":         {new(http.Transport), cut.URL, fault.Unavailable, fault.Indeterminate, "ask: the reply was cut or cannot be read", ""},
		"closed":      {new(http.Transport), closed.URL, fault.Unavailable, fault.Unavailable, "ask: no connection to the peer", "reach it"},
		"denied":      {failing(os.ErrPermission), drop.URL, fault.Forbidden, fault.Forbidden, "ask: this user may not use the socket of the peer", "join the group"},
		"no such":     {failing(&net.DNSError{IsNotFound: true}), drop.URL, fault.Unavailable, fault.Unavailable, "ask: the name of the peer cannot be looked up", "reach it"},
		"out of time": {failing(context.DeadlineExceeded), drop.URL, fault.Unavailable, fault.Unavailable, "ask: no connection to the peer", "reach it"},
	} {
		g := &guard.Transport{Next: c.next, Peer: peer}
		if err := call(t.Context(), t, g, c.url, false); !fault.Is(err, c.read) || err.Error() != c.text || fault.HintOf(err) != c.hint {
			t.Errorf("%s: %v (%v, hint %q)", name, err, fault.KindOf(err), fault.HintOf(err))
		}
		if err := call(t.Context(), t, g, c.url, true); !fault.Is(err, c.write) {
			t.Errorf("%s, write: %v (%v)", name, err, fault.KindOf(err))
		}
	}
}

// TestCancelled has the caller leave while a call is on its way, before the reply and in the middle of it.
func TestCancelled(t *testing.T) {
	for _, half := range []bool{false, true} {
		for write, want := range map[bool]fault.Kind{false: fault.Canceled, true: fault.Indeterminate} {
			ctx, cancel := context.WithCancel(t.Context())
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadAll(r.Body); err != nil {
					t.Error(err)
				}
				if half {
					io.WriteString(w, "half")
					http.NewResponseController(w).Flush()
				}
				cancel()
				<-r.Context().Done()
			}))
			err := call(ctx, t, &guard.Transport{Next: new(http.Transport), Peer: peer}, s.URL, write)
			if !fault.Is(err, want) || !errors.Is(err, context.Canceled) {
				t.Errorf("half a reply %v, write %v: %v (%v), want %v", half, write, err, fault.KindOf(err), want)
			}
			cancel()
			s.Close()
		}
	}
}

func TestExplainNothing(t *testing.T) {
	if err := peer.Explain("ask", nil, true); err != nil {
		t.Error(err)
	}
}
