package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/gateway/cache"
	"github.com/keywright/keywright/internal/gateway/inspect"
)

// cacheRoutes are the routes whose answers may be kept.
var cacheRoutes = []string{"messages", "count_tokens", "models"}

// remember prepares the keeping of an answer, and its use while the provider is down: where the application has opted in, and the answer
// depends on nothing but the request. The guards have let it pass.
func (g *Gateway) remember(r *http.Request, x *exchange, l *inspect.Body) {
	if !slices.Contains(x.app.Cache, x.route.name) || x.body.Spilled() || !x.body.Replayable() {
		return
	}
	if l != nil && (l.Stream || l.Sticky || !steady(x.body.Head())) {
		return
	}
	h := sha256.New()
	for _, part := range []string{x.app.name, x.path, r.URL.RawQuery, strings.Join(r.Header["Anthropic-Version"], ","), strings.Join(r.Header["Anthropic-Beta"], ",")} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(part))) //nolint:gosec // Heads are bounded. A hash does not fail.
		h.Write([]byte(part))
	}
	body := sha256.Sum256(x.body.Head())
	h.Write(body[:])
	x.cacheable = h.Sum(nil)
}

// steadyNames are what a message may have in it to be answered from the cache. Tools, thinking, containers and whatever is not known yet are not
// among them.
var steadyNames = []string{"model", "messages", "system", "max_tokens", "stop_sequences", "stream", "metadata", "temperature", "top_p", "top_k", "service_tier"}

// steady reports whether the answer to a message may be given for an identical one: whoever asks for a temperature wants other answers, and
// the steps of a tool or of thinking belong to one conversation.
func steady(body []byte) bool {
	var parts map[string]json.RawMessage
	if json.Unmarshal(body, &parts) != nil {
		return false
	}
	for name := range parts {
		if !slices.Contains(steadyNames, name) {
			return false
		}
	}
	if t, ok := parts["temperature"]; ok {
		if n, err := strconv.ParseFloat(string(t), 64); err != nil || n != 0 {
			return false
		}
	}
	for _, block := range []string{"tool_use", "tool_result", "thinking"} {
		if bytes.Contains(parts["messages"], []byte(block)) {
			return false
		}
	}
	return true
}

// cacheKey puts the request and the domain together: an answer of one organization or workspace is none of another's.
func cacheKey(request []byte, d domain) cache.Key {
	h := sha256.New()
	h.Write(request)
	for _, part := range []string{d.organization, d.workspace} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(part))) //nolint:gosec // Heads are bounded. A hash does not fail.
		h.Write([]byte(part))
	}
	return cache.Key(h.Sum(nil))
}

// recordAnswer makes an answer that is being read enter the cache at its end.
func (g *Gateway) recordAnswer(res *http.Response, x *exchange, e *entry) {
	d := e.where()
	if res.StatusCode != http.StatusOK || d.organization == "" && d.workspace == "" || events(res.Header) || res.Header.Get("Content-Encoding") != "" || res.ContentLength > g.cache.Largest() {
		return
	}
	h := http.Header{}
	for name, values := range res.Header {
		if kept := name == "Content-Type" || name == "Request-Id" || strings.HasPrefix(name, "Anthropic-") && !strings.HasPrefix(name, "Anthropic-Ratelimit-"); kept {
			h[name] = values
		}
	}
	res.Body = &keeping{ReadCloser: res.Body, c: g.cache, key: cacheKey(x.cacheable, d), header: h}
}

// keeping copies a body that is read, and keeps it when it came whole.
type keeping struct {
	io.ReadCloser
	c      *cache.Cache
	key    cache.Key
	header http.Header
	body   []byte
	done   bool
}

func (k *keeping) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	if k.done {
		return n, err
	}
	k.body = append(k.body, p[:n]...)
	switch {
	case int64(len(k.body)) > k.c.Largest():
		k.body, k.done = nil, true
	case errors.Is(err, io.EOF):
		k.c.Put(k.key, cache.Answer{Header: k.header, Body: k.body, At: time.Now()})
		k.done = true
	case err != nil:
		k.body, k.done = nil, true
	}
	return n, err
}

// cached gives the kept answer for a request, or nil. It says its age, and that it is stale.
func (g *Gateway) cached(x *exchange) *http.Response {
	if x.cacheable == nil {
		return nil
	}
	now := time.Now()
	var seen []domain
	for _, e := range g.set.Load().entries {
		d := e.where()
		if slices.Contains(seen, d) {
			continue
		}
		seen = append(seen, d)
		a, ok := g.cache.Get(cacheKey(x.cacheable, d), now)
		if !ok {
			continue
		}
		h := a.Header.Clone()
		h.Set("Age", strconv.FormatInt(int64(now.Sub(a.At)/time.Second), 10))
		h.Set("Warning", `110 keywright "Response is Stale"`)
		h.Set("Content-Length", strconv.Itoa(len(a.Body)))
		x.status, x.row, x.cached = http.StatusOK, "cache", true
		g.metrics.cacheHits.Add(1)
		return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: h, ContentLength: int64(len(a.Body)), Body: io.NopCloser(strings.NewReader(string(a.Body)))}
	}
	return nil
}
