package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/api"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// backend has one rotation and notes what is said to it.
type backend struct {
	active *bool
	said   []said
	err    error
}

type said struct {
	who    api.Person
	id     string
	signal rotation.Signal
	data   rotation.SignalData
}

var _ api.Backend = (*backend)(nil)

func (b *backend) List(_ context.Context, active bool) ([]rotation.Row, error) {
	b.active = &active
	return []rotation.Row{{ID: "r-1", Status: rotation.Waiting}}, b.err
}

func (b *backend) Show(_ context.Context, id string) (any, error) {
	if id != "r-1" {
		return nil, fault.New(fault.NotFound, "show rotation: there is none", fault.Hint("keywright rotation list"))
	}
	return map[string]string{"id": id}, nil
}

func (b *backend) SignalAs(_ context.Context, who api.Person, id string, s rotation.Signal, d rotation.SignalData) error {
	b.said = append(b.said, said{who, id, s, d})
	return b.err
}

func (b *backend) StatusOf(context.Context) (any, error) {
	return map[string]int{"keys": 2}, b.err
}

// start serves b on a socket and gives its path.
func start(t *testing.T, b api.Backend) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("this system does not tell who is at the other end of a socket, so every request is refused")
	}
	path := socket(t)
	l, err := api.Listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	server, ended := api.Server(b), make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return path
}

// socket gives the path of a socket in a directory that is not there yet. The path is short, since sockets allow about 100 characters.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "s")
}

func TestReading(t *testing.T) {
	b := new(backend)
	c := api.NewClient(start(t, b))
	var list struct{ Rotations []rotation.Row }
	for _, active := range []bool{true, false} {
		if err := c.Get(t.Context(), "/v1/rotations?active="+strconv.FormatBool(active), &list); err != nil || len(list.Rotations) != 1 || list.Rotations[0].ID != "r-1" || *b.active != active {
			t.Errorf("list active=%v: %+v, %v, asked for active=%v", active, list, err, *b.active)
		}
	}
	var shown struct{ ID string }
	if err := c.Get(t.Context(), "/v1/rotations/r-1", &shown); err != nil || shown.ID != "r-1" {
		t.Errorf("show: %+v, %v", shown, err)
	}
	if err := c.Get(t.Context(), "/v1/rotations/r-2", &shown); !fault.Is(err, fault.NotFound) || fault.HintOf(err) != "keywright rotation list" {
		t.Errorf("show one that is not there: %v (%s)", err, fault.HintOf(err))
	}
	var status struct{ Keys int }
	if err := c.Get(t.Context(), "/v1/status", &status); err != nil || status.Keys != 2 {
		t.Errorf("status: %+v, %v", status, err)
	}
	var health struct{ Status string }
	if err := c.Get(t.Context(), "/v1/health", &health); err != nil || health.Status != "ok" {
		t.Errorf("health: %+v, %v", health, err)
	}
	if err := c.Get(t.Context(), "/v1/other", &health); err == nil {
		t.Error("an unknown resource is answered")
	}
}

func TestKindsTravel(t *testing.T) {
	b := new(backend)
	c := api.NewClient(start(t, b))
	for _, kind := range []fault.Kind{fault.Invalid, fault.Unsupported, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Conflict,
		fault.RateLimited, fault.Unavailable, fault.Corrupt, fault.Indeterminate} {
		b.err = fault.New(kind, "do it: no\x1b[31m", fault.Hint("look\x07 there"))
		err := c.Get(t.Context(), "/v1/status", new(any))
		if !fault.Is(err, kind) || !strings.HasPrefix(err.Error(), "do it: no") || strings.ContainsAny(err.Error()+fault.HintOf(err), "\x1b\x07") {
			t.Errorf("%v: %q (%q), kind %v", kind, err, fault.HintOf(err), fault.KindOf(err))
		}
	}
}

func TestSignal(t *testing.T) {
	b := new(backend)
	c := api.NewClient(start(t, b))
	for _, s := range []rotation.Signal{rotation.SignalApprove, rotation.SignalPause, rotation.SignalResume, rotation.SignalCancel, rotation.SignalSign} {
		b.said = nil
		err := c.Post(t.Context(), "/v1/rotations/r-1/signal", api.SignalRequest{Signal: s, Subject: "wiki", Note: "seen\x1b"}, new(any))
		if err != nil || len(b.said) != 1 {
			t.Fatalf("%s: %v, said %+v", s, err, b.said)
		}
		got := b.said[0]
		if got.id != "r-1" || got.signal != s || got.data.Subject != "wiki" || !strings.HasPrefix(got.data.Note, "seen") || strings.Contains(got.data.Note, "\x1b") {
			t.Errorf("%s: %+v", s, got)
		}
		// The person is who the system says is there, and nothing that the request says.
		name, _, _ := strings.Cut(got.who.Name, "@")
		if me, err := user.Current(); got.who.UID != os.Getuid() || err == nil && name != me.Username {
			t.Errorf("%s was said by %+v", s, got.who)
		}
	}
	b.err = fault.New(fault.Forbidden, "approve rotation r-1: you asked for it yourself")
	if err := c.Post(t.Context(), "/v1/rotations/r-1/signal", api.SignalRequest{Signal: rotation.SignalApprove}, new(any)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a refused approval: %v", err)
	}
}

func TestSignalsThatAreRefused(t *testing.T) {
	b := new(backend)
	path := start(t, b)
	for name, body := range map[string]string{
		"unknown signal": `{"signal":"launch"}`,
		"no signal":      `{}`,
		"unknown field":  `{"signal":"approve","who":"root"}`,
		"no JSON":        `approve`,
		"nothing":        ``,
		"too large":      `{"signal":"approve","note":"` + strings.Repeat("x", 64<<10) + `"}`,
	} {
		status, p := request(t, path, http.MethodPost, "/v1/rotations/r-1/signal", body, nil)
		if status != http.StatusBadRequest || p.Kind != fault.Invalid.String() || p.Error == "" || len(p.Error) > 200 {
			t.Errorf("%s: %d %+v", name, status, p)
		}
	}
	if len(b.said) != 0 {
		t.Errorf("said: %+v", b.said)
	}
}

// request sends what Client never sends.
func request(t *testing.T, path, method, resource, body string, header map[string]string) (int, api.Problem) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://keywright"+resource, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p api.Problem
	_ = json.Unmarshal(raw, &p) // an answer that is no problem leaves p empty
	return res.StatusCode, p
}

func TestWebPagesAreRefused(t *testing.T) {
	b := new(backend)
	path := start(t, b)
	for _, header := range []map[string]string{{"Origin": "http://keywright"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-origin"}} {
		for _, call := range []struct{ method, resource, body string }{{"GET", "/v1/status", ""}, {"POST", "/v1/rotations/r-1/signal", `{"signal":"approve"}`}} {
			if status, p := request(t, path, call.method, call.resource, call.body, header); status != http.StatusForbidden || p.Kind != fault.Forbidden.String() {
				t.Errorf("%s with %v: %d %+v", call.resource, header, status, p)
			}
		}
	}
	if len(b.said) != 0 {
		t.Errorf("said: %+v", b.said)
	}
	if status, _ := request(t, path, "GET", "/v1/status", "", nil); status != http.StatusOK {
		t.Errorf("the same without the headers: %d", status)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	b := new(backend)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/v1/rotations/r-1/signal", strings.NewReader(`{"signal":"approve"}`))
	api.Handler(b).ServeHTTP(w, r) // no socket, so nobody vouches for the peer
	if w.Code != http.StatusForbidden || len(b.said) != 0 {
		t.Errorf("a request without a peer: %d, said %+v", w.Code, b.said)
	}
	server := api.Server(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() { _ = server.Close(); <-ended }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a request over TCP: %d", res.StatusCode)
	}
}

func TestListen(t *testing.T) {
	path := socket(t)
	first, err := api.Listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	mode(t, path, 0o600)
	mode(t, filepath.Dir(path), 0o700)
	if _, err := api.Listen(t.Context(), path, ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second one: %v", err)
	}
	// The process dies, and leaves the socket behind.
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("there is no stale socket to replace: %v", err)
	}
	again, err := api.Listen(t.Context(), path, "")
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	mode(t, path, 0o600)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen(t.Context(), filepath.Join(t.TempDir(), strings.Repeat("x", 120)), ""); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
		t.Errorf("a path that is too long: %v", err)
	}
}

func TestListenForAGroup(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip("the user has no name here: ", err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Skip("the group has no name here: ", err)
	}
	path := socket(t)
	l, err := api.Listen(t.Context(), path, group.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mode(t, path, 0o660)
	other := socket(t)
	if _, err := api.Listen(t.Context(), other, "no-such-group-anywhere"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a group that is not there: %v", err)
	}
	if err := api.NewClient(other).Get(t.Context(), "/v1/health", new(any)); err == nil {
		t.Error("a socket that could not be given to its group is served")
	}
}

func mode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != want {
		t.Errorf("%s: %v, %v, want %o", path, info, err, want)
	}
}

func TestClientWithoutADaemon(t *testing.T) {
	err := api.NewClient(filepath.Join(t.TempDir(), "s")).Get(t.Context(), "/v1/health", new(any))
	if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
}
