package providertest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
)

// hostile is a peer, or something between us and it, that misbehaves the same way to every call.
type hostile struct {
	name  string
	serve http.HandlerFunc
	// slow peers need a short time-out.
	slow bool
	// lost is what a change of status must say: whether it may have been applied. Zero: any error will do.
	lost fault.Kind
}

func hostiles(end <-chan struct{}) []hostile {
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	const html = "<html><body>Welcome to the hotel network</body></html>"
	hang := func(r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}
	return []hostile{
		{name: "a body without end", lost: fault.Indeterminate, serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"data":["`)
			chunk := make([]byte, 1<<20)
			for i := range chunk {
				chunk[i] = 'a'
			}
			for range 200 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}},
		{name: "garbage", serve: answer(200, "application/json", "{\"data\":[{{\x00\xff"), lost: fault.Indeterminate},
		{name: "JSON of another kind", serve: answer(200, "application/json", `[1,"two",null]`), lost: fault.Indeterminate},
		{name: "an empty object", serve: answer(200, "application/json", `{}`), lost: fault.Indeterminate},
		{name: "null", serve: answer(200, "application/json", `null`), lost: fault.Indeterminate},
		{name: "deep JSON", serve: answer(200, "application/json", deep()), lost: fault.Indeterminate},
		{name: "no body", serve: answer(200, "application/json", ""), lost: fault.Indeterminate},
		{name: "a portal's page", serve: answer(200, "text/html", html), lost: fault.Indeterminate},
		{name: "a portal's refusal", serve: answer(401, "text/html", html)},
		{name: "an edge's refusal", serve: answer(403, "text/html", html)},
		{name: "an edge's limit", serve: answer(429, "text/html", html)},
		{name: "another API's refusal", serve: answer(401, "application/json", `{"error":"invalid_token"}`)},
		{name: "an error in the wrong place", serve: answer(500, "application/json", `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`)},
		{name: "a cut body", lost: fault.Indeterminate, serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"data":[],"has_more":false`)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "a cut refusal", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(401)
			io.WriteString(w, `{"type":"error","error":{"type":"authentication_error"}}`)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "no reply", lost: fault.Indeterminate, serve: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "a header that never comes", lost: fault.Indeterminate, slow: true, serve: func(_ http.ResponseWriter, r *http.Request) { hang(r) }},
		{name: "a body that never ends", lost: fault.Indeterminate, slow: true, serve: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"data":[`)
			http.NewResponseController(w).Flush()
			hang(r)
		}},
	}
}

// deep is JSON that is nested deeper than any decoder should follow.
func deep() string {
	b := make([]byte, 200_000)
	for i := range b {
		b[i] = '['
	}
	return `{"data":` + string(b)
}

// facing runs check against every hostile peer.
func (x *run) facing(check func(h hostile, p provider.Provider)) {
	x.Helper()
	end := make(chan struct{})
	defer close(end)
	for _, h := range hostiles(end) {
		s := serve(x.TB, h.serve)
		timeout := time.Minute
		if h.slow {
			timeout = patience
		}
		check(h, x.connect(s.URL, timeout))
	}
}

func serve(tb testing.TB, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

func hostileValues(x *run) {
	_, v := x.key()
	x.facing(func(h hostile, p provider.Provider) {
		for _, q := range questions(p) {
			got, err := q.ask(x.Context(), v)
			x.record(got, err)
			if err != nil || got.Answer != provider.Unknown || got.Reason == "" {
				x.Errorf("%s, %s: %+v, %v", h.name, q.name, got, err)
			}
		}
	})
	closed := httptest.NewServer(nil)
	closed.Close()
	if got := x.inspect(x.connect(closed.URL, time.Minute), v); got.Answer != provider.Unknown || got.Status != 0 {
		x.Errorf("nobody listens: %+v", got)
	}
}

func hostileAdmin(x *run) {
	x.facing(func(h hostile, p provider.Provider) {
		for name, call := range calls(p) {
			err := call(x.Context())
			x.record(err)
			if name == "Clock" {
				// The date of any reply serves.
				continue
			}
			if err == nil {
				x.Errorf("%s: %s gave no error", h.name, name)
			}
			if name == "SetStatus" && h.lost != fault.Unknown && !fault.Is(err, h.lost) {
				x.Errorf("%s: SetStatus: %v (%v), want %v", h.name, err, fault.KindOf(err), h.lost)
			}
		}
	})
}

func redirects(x *run) {
	_, v := x.key()
	var followed atomic.Int32
	elsewhere := serve(x.TB, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(x.TB, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL+r.URL.Path, status) })
		p := x.connect(s.URL, time.Minute)
		for _, q := range questions(p) {
			got, err := q.ask(x.Context(), v)
			x.record(got, err)
			if err != nil || got.Answer != provider.Unknown {
				x.Errorf("%d, %s: %+v, %v", status, q.name, got, err)
			}
		}
		for name, call := range calls(p) {
			err := call(x.Context())
			x.record(err)
			if err == nil && name != "Clock" {
				x.Errorf("%d, %s gave no error", status, name)
			}
		}
	}
	if n := followed.Load(); n != 0 {
		x.Errorf("%d redirects were followed", n)
	}
}

// echo faces a peer that repeats what it was sent in every header and field that a provider may show. The search for leaks is the check.
func echo(x *run) {
	_, v := x.key()
	for _, status := range []int{200, 400, 401, 429, 500} {
		s := serve(x.TB, func(w http.ResponseWriter, r *http.Request) {
			got := r.Header.Get("x-api-key") + r.Header.Get("Authorization")
			half := got[len(got)/2:]
			for _, name := range []string{"request-id", "anthropic-organization-id", "anthropic-workspace-id", "Retry-After"} {
				w.Header().Set(name, half)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"type":"error","error":{"type":%q,"message":%q,"details":{"error_code":%q}},"id":%q,"name":%q,"has_more":false,`+
				`"data":[{"id":"apikey_1","type":"platform_api_key_%s","name":"a %s b","status":%q,"created_at":"2026-11-20T00:00:00Z","workspace_id":%q,`+
				`"created_by":{"id":%q,"type":%q},"principal":{"type":%q},"api_key_id":%q,"actor":{"type":%q,"email_address":"%s@example.com"},`+
				`"updates":[{"type":%q,"previous_value":%q,"current_value":%q}]}]}`,
				got, got, got, got, got, got, got, got, got, got, got, got, got, got, got, got, got, got)
		})
		p := x.connect(s.URL, time.Minute)
		for _, q := range questions(p) {
			got, err := q.ask(x.Context(), v)
			x.record(got, err)
		}
		if l, ok := p.(provider.Lister); ok {
			keys, err := l.List(x.Context(), "")
			x.record(keys, err)
		}
		if a, ok := p.(provider.ActivityReporter); ok {
			acts, err := a.Activities(x.Context(), time.Time{})
			x.record(acts, err)
		}
		for _, call := range calls(p) {
			x.record(call(x.Context()))
		}
	}
}
