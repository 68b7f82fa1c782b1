package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/inspect"
	"github.com/keywright/keywright/internal/gateway/wire"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	s, err := identity.OpenSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, simulator.Options{}, func(o *Options) { o.Open, o.Identify = false, []identity.Identifier{ids} })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	token, claims, err := s.Issue("support", time.Hour, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.values = append(w.values, token)
	text := token.RevealString()
	w.want(200, "POST", "/v1/messages", hello, "x-api-key", text)
	w.want(200, "POST", "/v1/messages", hello, "Authorization", "Bearer "+text)
	w.want(200, "POST", "/v1/messages", hello, "Authorization", "Bearer "+text, "x-api-key", text)
	for name, bad := range map[string]string{
		"none": "", "another": "kwt_x.y", "cut": text[:len(text)-2], "changed": text[:20] + "A" + text[21:], "padded": text + "=", "longer": text + "A", "only the prefix": "kwt_", "basic": "abc",
	} {
		if a := w.do("POST", "/v1/messages", hello, "x-api-key", bad); a.status != 401 || a.errorType() != "authentication_error" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	// A real key is refused with a hint, and is not repeated.
	real := secrettest.Fake(t)
	if a := w.do("POST", "/v1/messages", hello, "x-api-key", real.RevealString()); a.status != 401 || !strings.Contains(a.body, "rotate") {
		t.Errorf("a real key: %d %s", a.status, a.body)
	} else {
		secrettest.NoLeak(t, "answer", []byte(a.body), real)
	}
	// Another gateway's token is not ours.
	other, err := identity.OpenSigner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, _ := other.Issue("support", time.Hour, nil, nil)
	w.want(401, "POST", "/v1/messages", hello, "x-api-key", foreign.RevealString())
	// Narrowed tokens.
	narrow, _, _ := s.Issue("support", time.Hour, []string{"models"}, nil)
	w.want(200, "GET", "/v1/models", "", "x-api-key", narrow.RevealString())
	w.want(403, "POST", "/v1/messages", hello, "x-api-key", narrow.RevealString())
	model, _, _ := s.Issue("support", time.Hour, nil, []string{"claude-sonnet-*"})
	w.want(403, "POST", "/v1/messages", hello, "x-api-key", model.RevealString())
	w.want(200, "POST", "/v1/messages", strings.Replace(hello, "haiku-5-5", "sonnet-5-5", 1), "x-api-key", model.RevealString())
	// Revoked: dropped by a gateway that has seen it before.
	if err := s.Revoke(claims.ID); err != nil {
		t.Fatal(err)
	}
	w.until("the token is dropped", func() bool { return w.do("GET", "/v1/models", "", "x-api-key", text).status == 401 })
}

func TestOpenNeedsOwnUser(t *testing.T) {
	g, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, p := range []*identity.Peer{{}, {Known: true, UID: os.Geteuid() + 1}, {Unix: true}} {
		if _, refused := g.identify(httptest.NewRequest("GET", "/", nil), p); refused == nil || refused.status != 403 {
			t.Errorf("%+v was let in", p)
		}
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Serve(t.Context(), l, nil, 0); !fault.Is(err, fault.Invalid) {
		t.Errorf("open to the world: %v", err)
	}
}

func TestUnixSocketAndStatus(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.want(200, "POST", "/v1/messages", hello)
	path := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- w.g.ServeAdmin(ctx, l) }()
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	res, err := client.Get("http://keywright/status")
	if err != nil {
		t.Fatal(err)
	}
	var s Status
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil || len(s.Keys) != 1 || s.Keys[0].Fingerprint != k.Value.Fingerprint() || s.Keys[0].Requests != 1 || !s.Ready {
		t.Errorf("%v %+v", err, s)
	}
	res.Body.Close()
	if res, err = client.Get("http://keywright/metrics"); err != nil || res.StatusCode != 200 {
		t.Errorf("%v", err)
	}
	res.Body.Close()
	if _, err := ListenUnix(path); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second one: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// The public listener shows none of it.
	w.want(404, "GET", "/status", "")
	w.want(404, "GET", "/metrics", "")
	// A Unix socket for callers: known by the system.
	l, err = ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	go func() { done <- w.g.Serve(ctx, l, nil, time.Second) }()
	if res, err = client.Get("http://anything/v1/models"); err != nil || res.Header.Get("Request-Id") == "" {
		t.Errorf("%v %v", res, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestMetricsText(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.want(200, "POST", "/v1/messages", helloStream)
	w.want(400, "POST", "/v1/messages", "x")
	w.until("both are counted", func() bool {
		var b strings.Builder
		w.g.WriteMetrics(&b)
		return strings.Contains(b.String(), `status="2xx"`) && strings.Contains(b.String(), `status="4xx"`)
	})
	var b strings.Builder
	w.g.WriteMetrics(&b)
	for _, want := range []string{
		`keywright_gateway_requests_total{app="open",model="haiku",status="2xx",fingerprint="` + string(k.Value.Fingerprint()) + `",role="primary"} 1`,
		`direction="output"`, `keywright_gateway_first_event_seconds_count 1`, `state="healthy"} 1`, "keywright_gateway_generation 1",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing %s in\n%s", want, b.String())
		}
	}
	typed := map[string]bool{}
	for line := range strings.Lines(b.String()) {
		if f := strings.Fields(line); f[0] == "#" && f[1] == "TYPE" {
			typed[f[2]] = true
		} else if f[0] != "#" {
			name, _, _ := strings.Cut(f[0], "{")
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if typed[strings.TrimSuffix(name, suffix)] {
					name = strings.TrimSuffix(name, suffix)
				}
			}
			if !typed[name] {
				t.Errorf("%q has no type", name)
			}
		}
	}
}

func TestCertificates(t *testing.T) {
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "support"}, DNSNames: []string{"localhost", "app.internal"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
	w := start(t, simulator.Options{}, func(o *Options) {
		o.Open, o.Identify = false, []identity.Identifier{identity.Certificates{Apps: map[string]string{"app.internal": "support"}}}
	})
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.g.Serve(ctx, l, &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12}, time.Second)
	}()
	for _, c := range []struct {
		with   bool
		status int
	}{{true, 200}, {false, 401}} {
		conf := &tls.Config{RootCAs: pool}
		if c.with {
			conf.Certificates = []tls.Certificate{pair}
		}
		tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
		res, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String() + "/v1/models")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.ProtoMajor != 2 {
			// Serve hands TLS to net/http, which offers HTTP/2.
			t.Errorf("protocol %s", res.Proto)
		}
		// The provider's imitation wants a version header: its own refusal shows that the request came through.
		if c.with && res.StatusCode == 401 || !c.with && res.StatusCode != 401 {
			t.Errorf("with certificate %v: %d", c.with, res.StatusCode)
		}
		tr.CloseIdleConnections()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGuards(t *testing.T) {
	prices := map[string]Price{"haiku": {Input: 0.1, Output: 0.5}}
	for _, c := range []struct {
		name   string
		app    App
		body   string
		ok     int // how many go through
		status int
	}{
		{"requests", App{RequestsPerMinute: 3}, hello, 3, 429},
		{"model", App{Models: []string{"claude-sonnet-*"}}, hello, 0, 403},
		{"tokens", App{TokensPerMinute: 150}, hello, 3, 429},
		{"cost", App{CostPerDay: 1e-12, Prices: prices}, hello, 0, 429},
		{"no price", App{CostPerDay: 1, Prices: map[string]Price{"sonnet": {}}}, hello, 0, 403},
		{"route", App{Routes: []string{"models"}}, hello, 0, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, simulator.Options{}, func(o *Options) { o.Apps = map[string]App{OpenApp: c.app} })
			k, _ := w.key("primary", simulator.CreateKey{})
			w.swap(Set{Keys: []Key{k}})
			for range c.ok {
				w.want(200, "POST", "/v1/messages", c.body)
			}
			var last answer
			for range 20 { // the bucket of tokens is settled to less than was reserved
				if last = w.do("POST", "/v1/messages", c.body); last.status != 200 {
					break
				}
			}
			if last.status != c.status || last.errorType() == "" || c.status == 429 && last.header.Get("Retry-After") == "" {
				t.Errorf("%d %s %v", last.status, last.body, last.header)
			}
		})
	}
}

// TestGuardSettles: the reservation becomes what the provider counted, goes back on an error, and stands after a cut.
func TestGuardSettles(t *testing.T) {
	a := &appState{App: App{TokensPerMinute: 1000, CostPerDay: 10, Prices: map[string]Price{"haiku": {Input: 1e6, Output: 1e6}}}, tokens: bucket{perMinute: 1000}}
	r := &route{name: "messages"}
	level := func(status int, u wire.Usage, cut bool) (float64, float64) {
		a.tokens.level, a.tokens.at, a.spent = 1000, time.Now(), 0
		x := &exchange{route: r, app: a, model: "claude-haiku-5-5", status: status, usage: u, cut: cut}
		a.Prices["haiku"] = Price{Input: 1000, Output: 1000}
		if refused := a.reserve(x, &inspect.Body{Size: 297, MaxTokens: 400}); refused != nil {
			t.Fatal(refused)
		}
		a.settle(x)
		return 1000 - a.tokens.level, a.spent * 1000
	}
	for _, c := range []struct {
		status int
		u      wire.Usage
		cut    bool
		want   float64
	}{{200, wire.Usage{Input: 50, Output: 20}, false, 70}, {500, wire.Usage{}, false, 0}, {200, wire.Usage{Input: 50, Output: 1}, true, 500}, {200, wire.Usage{}, false, 500}} {
		tokens, cost := level(c.status, c.u, c.cut)
		if d := tokens - c.want; d < -1 || d > 1 {
			t.Errorf("%+v: %.0f tokens", c, tokens)
		}
		if d := cost - c.want; d < -1 || d > 1 {
			t.Errorf("%+v: cost %.1f", c, cost)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{}, {Upstream: "http://api.example.com", Open: true}, {Upstream: "https://u:p@api.example.com", Open: true}, {Upstream: "https://api.example.com?x", Open: true},
		{Upstream: "https://api.example.com"}, {Upstream: "ftp://x", Open: true},
		{Upstream: "https://x", Open: true, Allow: []string{"GET /v1/organizations"}}, {Upstream: "https://x", Open: true, Allow: []string{"GET /v1/oauth/token"}},
		{Upstream: "https://x", Open: true, Allow: []string{"GET /v2/x"}}, {Upstream: "https://x", Open: true, Allow: []string{"GET /v1/a/../organizations"}},
		{Upstream: "https://x", Open: true, Allow: []string{"DELETE /v1/x"}}, {Upstream: "https://x", Open: true, Allow: []string{"/v1/x"}},
	} {
		if g, err := New(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", o, err)
			g.Close()
		}
	}
	g, err := New(Options{Upstream: "https://x", Open: true, Allow: []string{"POST /v1/complete"}})
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	g.Close()
	_ = secret.Value{}
}
