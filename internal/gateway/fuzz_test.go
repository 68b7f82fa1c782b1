package gateway

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/gateway/wire"
)

func FuzzStream(f *testing.F) {
	f.Add([]byte("event: message_start\ndata: {}\n\nevent: content_block_delta\ndata: {}\n\nevent: message_stop\ndata: {}\n\n"), 7)
	f.Add([]byte("event: error\r\ndata: {\"type\":\"error\"}\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		step = max(step, 1)%4096 + 1
		s := &stream{ctx: t.Context(), body: io.NopCloser(&stepped{in, step}), x: &exchange{}, g: &Gateway{metrics: newMetrics()}}
		out, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		cut := wire.ErrorEvent("api_error", "keywright gateway: the provider broke the stream off before its end")
		if s.x.cut {
			if !bytes.HasSuffix(out, cut) {
				t.Fatal("a cut without an error event")
			}
			out = out[:len(out)-len(cut)]
		} else if !s.whole {
			t.Fatal("a clean end without message_stop")
		}
		// What comes out is the start of what came in, up to the end of an event or all of it.
		if !bytes.HasPrefix(in, out) {
			t.Fatal("the stream was changed")
		}
	})
}

type stepped struct {
	b []byte
	n int
}

func (s *stepped) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.n)], s.b)
	s.b = s.b[n:]
	return n, nil
}

func FuzzHeadersAndPath(f *testing.F) {
	f.Add("/v1/messages", "X-A", "b")
	f.Add("/v1/models/..%2f", "Connection", "x-api-key")
	f.Add("/v1/skills/skill_1/versions/1/content", "Connection", "x-api-key")
	f.Add("/v1/files//content", "Connection", "x-api-key")
	f.Fuzz(func(t *testing.T, path, name, value string) {
		g := &Gateway{}
		g.rules.Store(&ruleBook{routes: mustRoutes(t)})
		if r, _, _ := g.find("GET", path); r != nil && !crooked(path) {
			administration := forbidden(path) && r.kind == ""
			if administration || path != r.path && !strings.Contains(r.path, "{}") || strings.Contains(path, "..") || strings.Count(path, "/") != strings.Count(r.path, "/") {
				t.Fatalf("%q is served", path)
			}
		}
		canonical := http.CanonicalHeaderKey(name)
		switch strings.ToLower(canonical) {
		case "authorization", "x-api-key", "cookie", "anthropic-workspace-id", "forwarded", "x-forwarded-for", "proxy-authorization", "origin":
			if !private(canonical) && canonical == http.CanonicalHeaderKey(strings.ToLower(name)) {
				t.Fatalf("%q goes out", canonical)
			}
		}
		_ = value
	})
}
