package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/notify"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var sample = notify.Notice{At: now, Key: "prod-primary", Rotation: "r-1", Kind: "manual", What: "started", Hint: "é < & \u2028"}

const key = "a key for tests, of no worth"

func sign(message []byte) ([]byte, error) {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(message)
	return h.Sum(nil), nil
}

// request is what a receiver got.
type request struct {
	method, uri string
	header      http.Header
	body        []byte
}

// receiver answers with a status and keeps what came.
func receiver(t *testing.T, status int) (*httptest.Server, *[]request) {
	var got []request
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = append(got, request{r.Method, r.RequestURI, r.Header, body})
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write([]byte("foreign words"))
	}))
	t.Cleanup(s.Close)
	return s, &got
}

func channel(t *testing.T, s *httptest.Server, path string, log io.Writer) *Channel {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	o := httpx.Options{RootCAs: pool}
	if log != nil {
		o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c, err := New(Config{URL: s.URL + path, Sign: sign, HTTP: o, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSendSigns(t *testing.T) {
	s, got := receiver(t, http.StatusAccepted)
	var log bytes.Buffer
	c := channel(t, s, "/hook/s3cret-path?token=s3cret-query", &log)
	for range 2 {
		if err := c.Send(t.Context(), "n_1", sample); err != nil {
			t.Fatal(err)
		}
	}
	r := (*got)[0]
	if r.method != http.MethodPost || r.uri != "/hook/s3cret-path?token=s3cret-query" || r.header.Get("Content-Type") != "application/json" || r.header.Get(HeaderDelivery) != "n_1" {
		t.Errorf("request %+v", r)
	}
	want, err := sample.Body()
	if err != nil || !bytes.Equal(r.body, want) {
		t.Errorf("body %s", r.body)
	}
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(r.header.Get(HeaderTimestamp) + "." + r.header.Get(HeaderNonce) + "." + string(r.body)))
	if r.header.Get(HeaderSignature) != "v1="+hex.EncodeToString(h.Sum(nil)) {
		t.Errorf("signature %q", r.header.Get(HeaderSignature))
	}
	if r.header.Get(HeaderTimestamp) != "1795262400" || len(r.header.Get(HeaderNonce)) != 32 || r.header.Get(HeaderNonce) == (*got)[1].header.Get(HeaderNonce) {
		t.Errorf("timestamp %q, nonces %q and %q", r.header.Get(HeaderTimestamp), r.header.Get(HeaderNonce), (*got)[1].header.Get(HeaderNonce))
	}
	if strings.Contains(log.String()+c.Name(), "s3cret") || !strings.HasPrefix(c.Name(), "webhook 127.0.0.1:") {
		t.Errorf("name %q, log:\n%s", c.Name(), log.String())
	}
}

// TestDocumentedReceiver runs the receiver that docs/notifications.md shows.
func TestDocumentedReceiver(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is missing")
		}
		t.Skip("python3 is missing: the documented receiver is not run")
	}
	doc, err := os.ReadFile("../../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(doc), "```python\n")
	code, _, found := strings.Cut(code, "```")
	if !found {
		t.Fatal("no Python in the page")
	}
	s, got := receiver(t, http.StatusOK)
	if err := channel(t, s, "/", nil).Send(t.Context(), "n_1", sample); err != nil {
		t.Fatal(err)
	}
	r := (*got)[0]
	headers := map[string]string{}
	for _, name := range []string{HeaderTimestamp, HeaderNonce, HeaderSignature} {
		headers[name] = r.header.Get(name)
	}
	input, err := json.Marshal(map[string]any{"headers": headers, "body": string(r.body), "key": key, "now": now.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	code += `
import json, sys
i = json.load(sys.stdin)
key, body, seen = i["key"].encode(), i["body"].encode(), set()
print(verify(key, i["headers"], body, seen, i["now"]), verify(key, i["headers"], body, seen, i["now"]),
      verify(key, i["headers"], body + b" ", set(), i["now"]), verify(b"x", i["headers"], body, set(), i["now"]), verify(key, i["headers"], body, set(), i["now"] + 301))
`
	path := filepath.Join(t.TempDir(), "receiver.py")
	if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, path)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "True False False False False" { //nolint:dupword // One answer for each signature.
		t.Errorf("%v: %s", err, out)
	}
}

func TestSendTrouble(t *testing.T) {
	for status, kind := range map[int]fault.Kind{302: fault.Invalid, 401: fault.Unauthenticated, 404: fault.NotFound, 429: fault.RateLimited, 500: fault.Unavailable, 502: fault.Unavailable} {
		s, got := receiver(t, status)
		err := channel(t, s, "/s3cret", nil).Send(t.Context(), "n_1", sample)
		if !fault.Is(err, kind) || len(*got) != 1 {
			t.Errorf("%d: %v after %d requests", status, err, len(*got))
		}
		if strings.Contains(err.Error(), "foreign") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: the error holds too much: %v", status, err)
		}
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for _, raw := range []string{"http://example.com/hook", "ftp://example.com", "https://user:pass@example.com/", "://", "https:///path", "https://example.com/#s3cret", "https://example.com/?a=%zz"} {
		if _, err := New(Config{URL: raw}); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "example") {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{"https://169.254.169.254/latest", "https://[fd00:ec2::254]/", "https://[fe80::1%25lo]/", "https://0.0.0.0/"} {
		c, err := New(Config{URL: raw})
		if err != nil {
			continue // refused even earlier
		}
		if err := c.Send(t.Context(), "n_1", sample); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestASignatureThatCannotBeMadeSendsNothing(t *testing.T) {
	s, got := receiver(t, http.StatusOK)
	c := channel(t, s, "/", nil)
	c.sign = func([]byte) ([]byte, error) {
		return nil, fault.Wrap(fault.NotFound, errors.New("no such variable"), "read secret")
	}
	if err := c.Send(t.Context(), "n_1", sample); !fault.Is(err, fault.NotFound) || len(*got) != 0 {
		t.Errorf("%v after %d requests", err, len(*got))
	}
	c.sign = nil
	if err := c.Send(t.Context(), "n_1", sample); err != nil || (*got)[0].header.Get(HeaderSignature) != "" {
		t.Errorf("without a key: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Send(ctx, "n_1", sample); !fault.Is(err, fault.Canceled) || len(*got) != 1 {
		t.Errorf("cancelled: %v", err)
	}
}
