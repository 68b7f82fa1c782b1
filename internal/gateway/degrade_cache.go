package gateway

import (
	"crypto/sha256"
	"encoding/binary"
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
	if l != nil && (l.Stream || l.Sticky || l.Varied) {
		return
	}
	body := sha256.Sum256(x.body.Head())
	x.cacheable, x.request = true, cacheKey(body, x.app.name, x.path, r.URL.RawQuery, strings.Join(r.Header["Anthropic-Version"], ","), strings.Join(r.Header["Anthropic-Beta"], ","))
}

// cacheKey is a digest over a digest and texts. Each text stands behind its length, so that no two lists of them are alike.
func cacheKey(digest cache.Key, texts ...string) cache.Key {
	b := append(make([]byte, 0, 256), digest[:]...)
	for _, text := range texts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text))) //nolint:gosec // Heads are bounded.
		b = append(b, text...)
	}
	return sha256.Sum256(b)
}

// inDomain puts the request and the domain together: an answer of one organization or workspace is none of another's.
func (x *exchange) inDomain(d domain) cache.Key {
	return cacheKey(x.request, d.organization, d.workspace)
}

// recordAnswer makes an answer that is being read enter the cache at its end.
func (g *Gateway) recordAnswer(res *http.Response, x *exchange, e *entry) {
	d := e.where()
	if res.StatusCode != http.StatusOK || d.organization == "" && d.workspace == "" || events(res.Header) || res.Header.Get("Content-Encoding") != "" || res.ContentLength > g.cache.Largest() {
		return
	}
	h := make(http.Header, 4)
	for name, values := range res.Header {
		if kept := name == "Content-Type" || name == "Request-Id" || strings.HasPrefix(name, "Anthropic-") && !strings.HasPrefix(name, "Anthropic-Ratelimit-"); kept {
			h[name] = values
		}
	}
	res.Body = &keeping{ReadCloser: res.Body, c: g.cache, key: x.inDomain(d), header: h, body: make([]byte, 0, max(res.ContentLength, 0))}
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
	if !x.cacheable {
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
		a, ok := g.cache.Get(x.inDomain(d), now)
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
