package httpx

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

func TestAddresses(t *testing.T) {
	for address, want := range map[string][2]bool{ // allowed for https, allowed for plain http
		"127.0.0.1": {true, true}, "::1": {true, true}, "10.0.0.1": {true, false}, "203.0.113.7": {true, false}, "2001:db8::1": {true, false},
		"169.254.169.254": {false, false}, "169.254.170.2": {false, false}, "fe80::1": {false, false}, "fd00:ec2::254": {false, false},
		"0.0.0.0": {false, false}, "::": {false, false}, "224.0.0.1": {false, false}, "fd00::1": {true, false},
	} {
		for i, loopbackOnly := range []bool{false, true} {
			if got := checkAddress(netip.MustParseAddr(address), loopbackOnly) == nil; got != want[i] {
				t.Errorf("checkAddress(%s, %v) allowed = %v", address, loopbackOnly, got)
			}
		}
	}
	for _, address := range []string{"[::ffff:169.254.169.254]:80", "[fe80::1%eth0]:80", "nonsense"} {
		if DialControl(false)("tcp", address, nil) == nil {
			t.Errorf("%s is allowed", address)
		}
	}
}

// TestPhrases: whatever net/http reports, and it may quote the reply, only our own words go out.
func TestPhrases(t *testing.T) {
	c, err := New(Options{BaseURL: "https://api.example"})
	if err != nil {
		t.Fatal(err)
	}
	const foreign = "words of the other side"
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&net.DNSError{Err: foreign, Name: foreign}, "host name"},
		{x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{foreign}}, Host: foreign}, "another host"},
		{x509.UnknownAuthorityError{}, "authority"},
		{x509.CertificateInvalidError{Reason: x509.Expired, Detail: foreign}, "not valid"},
		{&handshakeError{errors.New(foreign)}, "TLS"},
		{&net.OpError{Op: foreign, Err: syscall.ECONNREFUSED}, "refused"},
		{&net.OpError{Op: foreign, Err: syscall.ECONNRESET}, "reset"},
		{io.ErrUnexpectedEOF, "ended"},
		{os.ErrDeadlineExceeded, "in time"},
		{&refusedAddress{"the name leads to a link-local address"}, "link-local"},
		{errors.New(foreign), "no usable reply"},
	} {
		got := c.broken(t.Context(), "call", fmt.Errorf("%s: %w", foreign, tc.err), false)
		if !strings.Contains(got.Error(), tc.want) || strings.Contains(got.Error(), foreign) {
			t.Errorf("%T: %q, want %q", tc.err, got, tc.want)
		}
	}
	if got := Bearer(nil).String(); got != "authentication by Authorization" {
		t.Errorf("String = %q", got)
	}
}

// TestRefusedAddressOnTheWay: the check runs when a connection is made, behind every look-up of a name.
func TestRefusedAddressOnTheWay(t *testing.T) {
	c, err := New(Options{BaseURL: "https://169.254.169.254"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), Request{Method: "POST"}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("Do: %v", err)
	}
}

func TestNoProxyByDefault(t *testing.T) {
	for base, asked := range map[string]bool{"https://api.example": false, "http://127.0.0.1": true} {
		c, err := New(Options{BaseURL: base, ProxyFromEnvironment: asked})
		if err != nil || c.transport.Proxy != nil {
			t.Errorf("%s: %v, a proxy function is set", base, err)
		}
	}
}

func FuzzPath(f *testing.F) {
	c, err := New(Options{BaseURL: "https://api.example/base"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("v1", "a/b")
	f.Add("..", "%2e%2e")
	f.Add("a?b", "c#d\r\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		u, err := c.url(Path(a, b), nil)
		if err != nil {
			return
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", u.String(), nil)
		if err != nil {
			return
		}
		if req.URL.Host != "api.example" || !strings.HasPrefix(req.URL.Path, "/base/") || req.URL.RawQuery != "" || req.URL.Fragment != "" {
			t.Errorf("%q %q lead to %s", a, b, req.URL)
		}
		if n := strings.Count(req.URL.EscapedPath(), "/"); n != 3 {
			t.Errorf("%q %q make %d segments", a, b, n)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7", "")
	f.Add("1e400", "-1")
	f.Add("Fri, 20 Nov 2026 12:00:00 GMT", "x")
	f.Fuzz(func(t *testing.T, seconds, ms string) {
		h := http.Header{}
		h.Set("Retry-After", seconds)
		h.Set("Retry-After-Ms", ms)
		if d := retryAfter(h, time.Time{}, time.Now); d < 0 || d > maxRetryAfter {
			t.Errorf("%q %q give %v", seconds, ms, d)
		}
	})
}
