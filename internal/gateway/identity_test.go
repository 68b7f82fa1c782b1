package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

func unmarshal(b []byte, into any) error { return json.Unmarshal(b, into) }

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, simulator.Options{}, func(o *Options) { o.Open, o.Identify = false, []Identifier{ids} })
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
	other, err := OpenSigner(t.TempDir())
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
	if _, _, err := s.Issue("x", 25*time.Hour, nil, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a life of 25 h: %v", err)
	}
	if _, _, err := s.Issue("a b", time.Hour, nil, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a name with a blank: %v", err)
	}
	// The same key is read again, and a file that others may read is refused.
	again, err := OpenSigner(dir)
	if err != nil || again.ID() != s.ID() {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(filepath.Join(dir, signingFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSigner(dir); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a readable signing key: %v", err)
	}
}

func TestTokenClaims(t *testing.T) {
	s, err := OpenSigner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := s.Tokens()
	now := time.Now()
	sign := func(c Claims) string {
		payload, _ := json.Marshal(c)
		var sig []byte
		_ = s.with(func(k ed25519.PrivateKey) { sig = ed25519.Sign(k, append([]byte(signedDomain), payload...)) })
		return TokenPrefix + base64.RawURLEncoding.EncodeToString(payload) + "." + base64.RawURLEncoding.EncodeToString(sig)
	}
	good := Claims{Issuer: s.id, Audience: s.id, App: "a", Issued: now.Unix(), Expires: now.Add(time.Minute).Unix(), ID: "1"}
	if _, err := ids.verify(sign(good), now); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Claims){
		"another issuer": func(c *Claims) { c.Issuer = "gw_x" }, "another audience": func(c *Claims) { c.Audience = "gw_x" }, "expired": func(c *Claims) { c.Expires = now.Unix() },
		"too long": func(c *Claims) { c.Expires = now.Add(25 * time.Hour).Unix() }, "from the future": func(c *Claims) { c.Issued = now.Add(time.Hour).Unix(); c.Expires = c.Issued + 60 },
		"no id": func(c *Claims) { c.ID = "" }, "no application": func(c *Claims) { c.App = "" },
	} {
		c := good
		change(&c)
		if _, err := ids.verify(sign(c), now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOpenNeedsOwnUser(t *testing.T) {
	c := loopbackPair(t)
	from, to := netip.MustParseAddrPort(c.RemoteAddr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
	if uid, ok := tcpPeer(from, to); !ok || uid != os.Geteuid() {
		t.Errorf("own connection: %d %v", uid, ok)
	}
	if _, ok := tcpPeer(to, netip.AddrPortFrom(to.Addr(), 1)); ok {
		t.Error("a connection that is not there has an owner")
	}
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1234        0 1\n" +
		"   1: 0100007F:1F91 0100007F:9C40 06 00000000:00000000 00:00000000 00000000     0        0 0\n"
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	if uid, ok := owner(strings.NewReader(table), at(8080), at(40000)); !ok || uid != 1234 {
		t.Errorf("%d %v", uid, ok)
	}
	if _, ok := owner(strings.NewReader(table), at(8081), at(40000)); ok {
		t.Error("a connection that has ended shows root as its owner")
	}
	g, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, p := range []*peer{{}, {known: true, uid: os.Geteuid() + 1}, {unix: true}} {
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
	p := Peers{Apps: map[int]string{7: "cron"}}
	r := httptest.NewRequest("GET", "/", nil)
	if _, err := p.Identify(r); !errors.Is(err, ErrNoOpinion) {
		t.Errorf("without a socket: %v", err)
	}
	r = r.WithContext(context.WithValue(r.Context(), peerKey{}, &peer{unix: true, known: true, uid: 7}))
	if c, err := p.Identify(r); err != nil || c.App != "cron" {
		t.Errorf("%v %v", c, err)
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
		o.Open, o.Identify = false, []Identifier{Certificates{Apps: map[string]string{"app.internal": "support"}}}
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

func TestOIDC(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwks := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	}))
	defer jwks.Close()
	id, err := NewOIDC(OIDC{Issuer: "https://issuer", Audience: "keywright", JWKS: jwks.URL, Apps: map[string]string{"system:serviceaccount:prod:*": "prod", "system:serviceaccount:prod:batch": "batch"}})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(with any, alg jose.SignatureAlgorithm, claims map[string]any) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: with}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := json.Marshal(claims)
		o, err := s.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := o.CompactSerialize()
		return text
	}
	claims := func(change ...any) map[string]any {
		c := map[string]any{"iss": "https://issuer", "aud": "keywright", "sub": "system:serviceaccount:prod:web", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
		for i := 0; i < len(change); i += 2 {
			c[change[i].(string)] = change[i+1]
		}
		return c
	}
	ask := func(token string) (Caller, error) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		return id.Identify(r)
	}
	if c, err := ask(sign(key, jose.RS256, claims())); err != nil || c.App != "prod" {
		t.Errorf("%v %v", c, err)
	}
	if c, err := ask(sign(key, jose.RS256, claims("sub", "system:serviceaccount:prod:batch"))); err != nil || c.App != "batch" {
		t.Errorf("%v %v", c, err)
	}
	other, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, token := range map[string]string{
		"another issuer": sign(key, jose.RS256, claims("iss", "https://evil")), "another audience": sign(key, jose.RS256, claims("aud", "x")),
		"expired": sign(key, jose.RS256, claims("exp", time.Now().Add(-time.Hour).Unix())), "another key": sign(other, jose.RS256, claims()),
		"another subject": sign(key, jose.RS256, claims("sub", "system:serviceaccount:dev:web")), "a symmetric algorithm": sign([]byte(strings.Repeat("k", 32)), jose.HS256, claims()),
		"an algorithm that is not listed": sign(key, jose.RS512, claims()),
	} {
		if _, err := ask(token); err == nil || errors.Is(err, ErrNoOpinion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ask("kwt_x.y"); !errors.Is(err, ErrNoOpinion) {
		t.Errorf("a gateway token: %v", err)
	}
	for _, bad := range []OIDC{{}, {Issuer: "i", Audience: "a", JWKS: "http://example.com", Apps: map[string]string{"a": "b"}}, {Issuer: "i", Audience: "a", JWKS: jwks.URL, Apps: map[string]string{"a": "b"}, Algorithms: []string{"HS256"}}} {
		if _, err := NewOIDC(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
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
	level := func(status int, u usage, cut bool) (float64, float64) {
		a.tokens.level, a.tokens.at, a.spent = 1000, time.Now(), 0
		x := &exchange{route: r, app: a, model: "claude-haiku-5-5", status: status, usage: u, cut: cut}
		a.Prices["haiku"] = Price{Input: 1000, Output: 1000}
		if refused := a.reserve(x, &look{size: 297, maxTokens: 400}); refused != nil {
			t.Fatal(refused)
		}
		a.settle(x)
		return 1000 - a.tokens.level, a.spent * 1000
	}
	for _, c := range []struct {
		status int
		u      usage
		cut    bool
		want   float64
	}{{200, usage{input: 50, output: 20}, false, 70}, {500, usage{}, false, 0}, {200, usage{input: 50, output: 1}, true, 500}, {200, usage{}, false, 500}} {
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
