package httpx_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestAuthentication(t *testing.T) {
	v := secrettest.Fake(t)
	var seen http.Header
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() })
	c := client(t, s.URL)
	for _, tc := range []struct {
		auth         httpx.Auth
		header, want string
	}{
		{httpx.Header("x-api-key", v), "X-Api-Key", v.RevealString()},
		{httpx.Bearer(v), "Authorization", "Bearer " + v.RevealString()},
	} {
		caller := http.Header{"User-Agent": {"somebody"}, "X-Api-Key": {"another"}}
		if _, err := c.Do(t.Context(), httpx.Request{Auth: tc.auth, Header: caller}); err != nil {
			t.Fatal(err)
		}
		if seen.Get(tc.header) != tc.want {
			t.Errorf("%v: the header is not as expected", tc.auth)
		}
		if got := seen.Get("User-Agent"); got != "keywright/test" {
			t.Errorf("User-Agent = %q", got)
		}
		if caller.Get("X-Api-Key") != "another" || len(caller) != 2 {
			t.Errorf("%v: the caller's headers were changed", tc.auth)
		}
	}
	if _, err := c.Do(t.Context(), httpx.Request{Auth: httpx.Basic("me", v)}); err != nil {
		t.Fatal(err)
	}
	if user, pass, ok := (&http.Request{Header: seen}).BasicAuth(); !ok || user != "me" || pass != v.RevealString() {
		t.Error("Basic did not arrive")
	}
	for name, bad := range map[string]text{"empty": "", "line end": "secret-word\n", "blank": "secret word", "not ASCII": "sécret-word", "zero": "secret\x00"} {
		_, err := c.Do(t.Context(), httpx.Request{Auth: httpx.Bearer(bad)})
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "word") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type text string

func (s text) Reveal(use func([]byte)) { use([]byte(s)) }

// TestNothingLeaks talks to a server that repeats what it gets in every place that it can.
func TestNothingLeaks(t *testing.T) {
	v := secrettest.Fake(t)
	var out bytes.Buffer
	for _, status := range []int{200, 302, 400, 401, 429, 500} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			got := r.Header.Get("X-Api-Key")
			w.Header().Set("Location", "http://127.0.0.1:1/"+got)
			w.Header().Set("Retry-After", got)
			w.Header().Set("request-id", got[20:70])
			w.Header().Set("X-Org", got[len(got)-20:])
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error":{"type":%q},"data":[%q}`, got, got)
		})
		c := client(t, s.URL+"/"+strings.Repeat("hidden", 2), func(o *httpx.Options) {
			o.Log = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		reply, err := c.Do(t.Context(), httpx.Request{Method: "POST", Path: "/keys", Query: url.Values{"q": {v.RevealString()}}, Auth: httpx.Header("x-api-key", v)})
		var into struct{ Data []string }
		fmt.Fprintf(&out, "%v %+v %v %q %s\n", reply, reply, reply.Decode(&into), reply.Word("error.type", "known"), reply.HeaderWord("X-Org", regexp.MustCompile(`.`)))
		if err != nil {
			fmt.Fprintf(&out, "%v %+v %s\n", err, err, fault.HintOf(err))
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "reply", reply)
	}
	secrettest.NoLeak(t, "output", out.Bytes(), v)
	for _, want := range []string{`"path":"/keys"`, `"query":"q"`, `"status":429`, `"kind":"rate limited"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the trace lacks %s", want)
		}
	}
	if strings.Contains(out.String(), "hiddenhidden") {
		t.Error("the base path is shown")
	}
}

func TestReadingReplies(t *testing.T) {
	body := `{"type":"error","error":{"type":"known","details":{"error_code":"code"},"message":"You have reached"},"n":1,"null":null,"more":true}`
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Id", "abc")
		if r.URL.Path == "/twice" {
			body += body
		}
		io.WriteString(w, body)
	})
	c := client(t, s.URL)
	r, err := c.Do(t.Context(), httpx.Request{})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Type string
		N    int
	}
	if err := r.Decode(&got); err != nil || got.Type != "error" || got.N != 1 {
		t.Errorf("Decode: %v, %+v", err, got)
	}
	for path, want := range map[string]string{"error.type": "known", "error.details.error_code": "code", "n": "", "null": "", "error": "", "none.such": "", "type": ""} {
		if w := r.Word(path, "known", "code"); w != want {
			t.Errorf("Word(%q) = %q, want %q", path, w, want)
		}
	}
	if !r.Match("error.message", regexp.MustCompile("^You have")) || r.Match("error.message", regexp.MustCompile("^have")) || r.Match("null", regexp.MustCompile("")) {
		t.Error("Match")
	}
	if r.HeaderWord("X-Id", regexp.MustCompile("^[a-c]+$")) != "abc" || r.HeaderWord("X-Id", regexp.MustCompile("^x")) != "" {
		t.Error("HeaderWord")
	}
	if r.Date.IsZero() {
		t.Error("no Date")
	}
	if r, err = c.Do(t.Context(), httpx.Request{Path: "/twice"}); err != nil || !fault.Is(r.Decode(&got), fault.Unavailable) {
		t.Errorf("two documents: %v", err)
	}
	var number struct{ Type int }
	if err := r.Decode(&number); err == nil || strings.Contains(err.Error(), "error\"") {
		t.Errorf("wrong type: %v", err)
	}
}

func TestAdapterKeepsListedHeadersOnly(t *testing.T) {
	v := secrettest.Fake(t)
	var seen http.Header
	var sent []byte
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		sent, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Set-Cookie", "a=b")
		io.WriteString(w, `{"a":1}`)
	})
	a := client(t, s.URL).Adapt(httpx.Bearer(v), true, "Content-Type", "x-version")
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"text/plain"}, "X-Version": {"7"}, "X-Other": {"no"}, "Authorization": {"no"}, "Cookie": {"no"}}
	res, err := a.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if string(body) != `{"a":1}` || string(sent) != "body" || len(res.Header["Set-Cookie"]) != 0 {
		t.Errorf("reply %q, request %q, header %v", body, sent, res.Header)
	}
	if seen.Get("X-Version") != "7" || seen.Get("X-Other") != "" || seen.Get("Cookie") != "" || seen.Get("Authorization") != "Bearer "+v.RevealString() {
		t.Error("headers are not as expected")
	}
	if last, err := a.Last(); err != nil || last.Status != 200 {
		t.Errorf("Last = %v, %v", last, err)
	}
}
