//go:build real

package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// realEngine is a real engine as the tests see it. It speaks plain HTTP, so that it shares no mistake with the driver.
type realEngine struct {
	t     *testing.T
	host  string
	image string
	mount string // a folder of the host to mount, or empty
	http  *http.Client
}

func newEngine(t *testing.T) *realEngine {
	e := &realEngine{t: t, host: peers.Docker(t)}
	e.image = peers.ImportImage(t, e.host)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(e.host, "unix://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	e.http = &http.Client{Transport: transport}
	return e
}

func (e *realEngine) do(method, path string, in any) (int, []byte) {
	e.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		e.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://engine"+path, bytes.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, out
}

// run makes and starts a container in place of an older one of the name.
func (e *realEngine) run(name string, environment ...string) {
	e.t.Helper()
	e.do(http.MethodDelete, "/containers/"+name+"?force=1", nil)
	env := append([]string{"MODE=fast # not a comment", "EMPTY="}, environment...)
	mounts := []any{}
	if e.mount != "" {
		mounts = append(mounts, object{"Type": "bind", "Source": e.mount, "Target": "/mounted"})
	}
	code, answer := e.do(http.MethodPost, "/containers/create?name="+name, object{
		"Image": e.image, "Env": env, "Labels": object{"team": "ai"}, "Volumes": object{"/data": object{}}, "StopTimeout": 5,
		"HostConfig": object{
			"NetworkMode": "host", "Mounts": mounts, "RestartPolicy": object{"Name": "always"}, "CapDrop": []string{"ALL"}, "ReadonlyRootfs": true,
			"Ulimits": []any{object{"Name": "nofile", "Soft": 512, "Hard": 1024}}, "Tmpfs": object{"/tmp": "size=1m"},
		},
	})
	if code != http.StatusCreated {
		e.t.Fatalf("create: status %d: %s", code, answer)
	}
	if code, answer := e.do(http.MethodPost, "/containers/"+name+"/start", nil); code != http.StatusNoContent {
		e.t.Fatalf("start: status %d: %s", code, answer)
	}
}

func (e *realEngine) snapshot(name string) []object {
	e.t.Helper()
	_, list := e.do(http.MethodGet, "/containers/json?all=1", nil)
	var all []struct {
		ID string `json:"Id"`
	}
	if err := json.Unmarshal(list, &all); err != nil {
		e.t.Fatal(err)
	}
	var out []object
	for _, c := range all {
		code, answer := e.do(http.MethodGet, "/containers/"+c.ID+"/json", nil)
		var b object
		if code == http.StatusOK && json.Unmarshal(answer, &b) == nil {
			out = append(out, b)
		}
	}
	return relatives(out, name)
}

func (e *realEngine) running(name string) []object { return running(e.snapshot(name), name) }

// says gives the fingerprint that the program of the container in force serves.
func (e *realEngine) says(port int) string {
	client := &http.Client{Timeout: time.Second}
	for range 100 {
		if resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/fingerprint", port)); err == nil {
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return strings.TrimSpace(string(b))
			}
		}
		<-time.After(100 * time.Millisecond)
	}
	e.t.Fatal("the program does not answer")
	return ""
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRealSuite(t *testing.T) {
	e := newEngine(t)
	made := 0
	locationtest.Run(t, locationtest.Harness{
		How: location.ReadBack,
		New: func(tb testing.TB) *locationtest.Place {
			made++
			name := fmt.Sprintf("app-%d", made)
			e.run(name)
			tb.Cleanup(func() {
				for _, b := range e.snapshot(name) {
					e.do(http.MethodDelete, "/containers/"+b["Id"].(string)+"?force=1&v=1", nil)
				}
			})
			inForce := func() object {
				all := e.running(name)
				if len(all) == 0 {
					tb.Fatal("nothing runs")
				}
				return all[0]
			}
			return &locationtest.Place{
				Driver: open(tb, e.host, name),
				Again:  func() location.Driver { return open(tb, e.host, name) },
				Held: func(testing.TB) ([]byte, bool) {
					v, ok := value(inForce())
					return []byte(v), ok && v != ""
				},
				Overwrite: func(_ testing.TB, v secret.Value) { e.run(name, variable+"="+v.RevealString()) },
				Neighbours: func(testing.TB) []byte {
					return configuration(inForce())
				},
				Copies: func(testing.TB) [][]byte {
					var all [][]byte
					for _, b := range e.snapshot(name) {
						v, _ := value(b)
						all = append(all, []byte(v))
					}
					return all
				},
			}
		},
	})
}

// TestRealRotation asks the program in the container which key it has.
func TestRealRotation(t *testing.T) {
	e := newEngine(t)
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	port := freePort(t)
	e.run("app", variable+"="+a.RevealString(), fmt.Sprintf("PORT=%d", port))
	if got := e.says(port); got != string(a.Fingerprint()) {
		t.Fatalf("the program has %q", got)
	}
	before := e.running("app")[0]
	first := before["Id"]
	d := open(t, e.host, "app")
	if errs := d.(location.Checker).Check(t.Context()); len(errs) != 0 {
		t.Fatalf("check: %v", errs)
	}
	staged, err := d.(location.Stager).Stage(t.Context(), b, location.ExpectHolding(inspect(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.says(port); got != string(a.Fingerprint()) {
		t.Errorf("after staging the program has %q", got)
	}
	promoted, err := d.(location.Promoter).Promote(t.Context(), staged)
	if err != nil {
		t.Fatalf("promote: %v (%s)", err, fault.HintOf(err))
	}
	if got := e.says(port); got != string(b.Fingerprint()) {
		t.Errorf("after promoting the program has %q", got)
	}
	if err := d.(location.Prober).Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	c, err := d.(location.Confirmer).Confirm(t.Context(), b.Digest())
	if err != nil || !c.Complete() {
		t.Errorf("confirm: %+v, %v", c, err)
	}
	after := e.running("app")[0]
	if x, y := configuration(before), configuration(after); !bytes.Equal(x, y) {
		t.Errorf("the configuration changed\nfrom %s\nto   %s", x, y)
	}
	if _, err := d.(location.Restorer).Restore(t.Context(), promoted); err != nil {
		t.Fatalf("restore: %v", err)
	}
	if got := e.says(port); got != string(a.Fingerprint()) {
		t.Errorf("after restoring the program has %q", got)
	}
	if now := e.running("app"); len(now) != 1 || now[0]["Id"] != first || restart(now[0]) != "always" {
		t.Error("the first container is not back as it was")
	}
	if err := d.(location.Remover).Remove(t.Context(), b.Digest()); err != nil {
		t.Errorf("remove: %v", err)
	}
	if all := e.snapshot("app"); len(all) != 1 {
		t.Errorf("%d containers are left", len(all))
	}
}

// TestRealNewContainerDoesNotStart makes the staged container unable to start: the folder that it mounts is gone.
func TestRealNewContainerDoesNotStart(t *testing.T) {
	e := newEngine(t)
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	folder := filepath.Join(t.TempDir(), "mounted")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	e.mount = folder
	e.run("app", variable+"="+a.RevealString())
	old := e.running("app")[0]["Id"]
	d := open(t, e.host, "app")
	staged, err := d.(location.Stager).Stage(t.Context(), b, location.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	// The old one needs the folder too, once it is stopped: it is back after the first refused start.
	wire := d.(*driver).api.http.Transport.(*guard.Transport)
	wire.Next = &afterRefusal{next: wire.Next, do: func() {
		if err := os.Mkdir(folder, 0o700); err != nil && !os.IsExist(err) {
			t.Error(err)
		}
	}}
	_, err = d.(location.Promoter).Promote(t.Context(), staged)
	wantKind(t, err, fault.Unavailable)
	now := e.running("app")
	if len(now) != 1 || now[0]["Id"] != old || now[0]["Name"] != "/app" || restart(now[0]) != "always" {
		t.Error("the old container does not run as before")
	}
	if h := inspect(t, d); !h.Holds(a.Digest()) || h.Facts[factState] != "" {
		t.Errorf("afterwards %+v", h)
	}
}

// afterRefusal does something after each call that the engine refuses.
type afterRefusal struct {
	next http.RoundTripper
	do   func()
}

func (a *afterRefusal) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.next.RoundTrip(r)
	if err == nil && resp.StatusCode >= 400 {
		a.do()
	}
	return resp, err
}
