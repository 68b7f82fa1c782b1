package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
)

// applicationVariable makes this test binary an application.
const applicationVariable = "KEYWRIGHT_TEST_APPLICATION"

func TestMain(m *testing.M) {
	text := os.Getenv(applicationVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	var a Application
	err := json.Unmarshal([]byte(text), &a)
	if err == nil {
		err = a.Run(context.Background(), os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// world is a simulated provider and one application that calls it.
type world struct {
	*demo
	t     *testing.T
	file  string
	super *supervisor
}

func newWorld(t *testing.T) *world {
	t.Helper()
	sim := simulator.New(simulator.Options{Latency: 5 * time.Millisecond})
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(server.Close)
	cast, err := NewCast(sim)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, file: filepath.Join(t.TempDir(), "app.env"), demo: &demo{screen: &screen{out: io.Discard}, sim: sim, cast: cast, url: server.URL}}
	w.deployed(cast.Primary.Old)
	text, err := json.Marshal(Application{URL: server.URL, File: w.file, Variable: "ANTHROPIC_API_KEY", Rate: 100, Workers: 4})
	if err != nil {
		t.Fatal(err)
	}
	w.super, err = newSupervisor(t.Context(), "app", func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{applicationVariable + "=" + string(text), "GORACE=atexit_sleep_ms=0"} // otherwise each end takes a second
		return cmd
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.super.close)
	return w
}

// deployed puts a value into the application's env file.
func (w *world) deployed(v secret.Value) {
	w.t.Helper()
	if err := os.WriteFile(w.file, []byte("A=1\nANTHROPIC_API_KEY=\""+v.RevealString()+"\"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-patience.C:
			w.t.Fatalf("waited for %s in vain", what)
		}
	}
}

func (w *world) call(method, path, change string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.super.url+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	if change != "" {
		req.Header.Set("Keywright-Change-Id", change)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRestartLosesNoRequest(t *testing.T) {
	w := newWorld(t)
	values := []secret.Value{w.cast.Primary.New, w.cast.Primary.Old, w.cast.Primary.New}
	for i, v := range values {
		served := w.super.total().Served
		w.until("requests", func() bool { return w.super.total().Served >= served+20 })
		w.deployed(v)
		if status, body := w.call("POST", "/restart", fmt.Sprint("change ", i)); status != http.StatusNoContent {
			t.Fatalf("restart: status %d %s", status, body)
		}
		if status, body := w.call("GET", "/fingerprint", ""); status != 200 || body != fmt.Sprintf("{\"application\":\"app\",\"running\":[%q]}\n", v.Fingerprint()) {
			t.Fatalf("fingerprint after change %d: status %d %s, want %s", i, status, body, v.Fingerprint())
		}
		if status, _ := w.call("GET", "/healthz", ""); status != 200 {
			t.Errorf("health after change %d: status %d", i, status)
		}
	}
	w.super.close()
	got := w.super.total()
	served, refused := w.providerLog()
	if got.failures() != 0 || got.Streamed == 0 || got.Served != served || refused != 0 {
		t.Errorf("%d served, %d streamed, failed: %s; the provider saw %d and %d", got.Served, got.Streamed, got.statuses(), served, refused)
	}
}

func TestRestartWithRefusedKeyKeepsTheOldWorker(t *testing.T) {
	w := newWorld(t)
	w.cast.Primary.New.Reveal(func(b []byte) {
		if err := w.sim.SetStatus(w.sim.KeyID(string(b)), simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
	})
	w.deployed(w.cast.Primary.New)
	if status, _ := w.call("POST", "/restart", "a"); status != http.StatusServiceUnavailable {
		t.Errorf("restart with a refused key: status %d", status)
	}
	if got := w.super.fingerprint(); got != w.cast.Primary.Old.Fingerprint() {
		t.Errorf("the application uses %s", got)
	}
	served := w.super.total().Served
	w.until("more requests", func() bool { return w.super.total().Served > served })
	if n := w.super.total().failures(); n != 0 {
		t.Errorf("%d requests failed", n)
	}
}

func TestRepeatedChangeRestartsOnce(t *testing.T) {
	w := newWorld(t)
	pids := map[int]bool{}
	for _, change := range []string{"a", "a", "b", "b", "b"} {
		if status, body := w.call("POST", "/restart", change); status != http.StatusNoContent {
			t.Fatalf("restart: status %d %s", status, body)
		}
		for _, k := range w.super.running() {
			pids[k.program.pid] = true
		}
	}
	if len(pids) != 2 {
		t.Errorf("%d workers for 2 changes", len(pids))
	}
}

func TestFailuresAreSeen(t *testing.T) {
	w := newWorld(t)
	w.until("requests", func() bool { return w.super.total().Served > 0 })
	w.cast.Primary.Old.Reveal(func(b []byte) {
		if err := w.sim.SetStatus(w.sim.KeyID(string(b)), simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
	})
	w.until("failures", func() bool { return w.super.total().Failed[401] > 0 })
	if status, _ := w.call("GET", "/healthz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("health while requests fail: status %d", status)
	}
	w.super.close()
	got := w.super.total()
	if _, refused := w.providerLog(); got.Failed[401] != refused || got.First.IsZero() || got.Last.Before(got.First) {
		t.Errorf("failed: %s from %s to %s; the provider refused %d", got.statuses(), got.First, got.Last, refused)
	}
	if status, _ := http.Get(w.super.url + "/healthz"); status != nil {
		t.Error("the address is still open")
	}
}

func TestAnotherPageCannotRestart(t *testing.T) {
	w := newWorld(t)
	req := httptest.NewRequestWithContext(t.Context(), "POST", w.super.url+"/restart", http.NoBody)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	reply := httptest.NewRecorder()
	w.super.server.Handler.ServeHTTP(reply, req)
	if reply.Code != http.StatusForbidden {
		t.Errorf("status %d", reply.Code)
	}
}

func TestSummaryCountsFailures(t *testing.T) {
	lost := tally{Failed: map[int]int{401: 1}, First: time.Now(), Last: time.Now()}
	tests := []struct {
		name   string
		totals [4]tally
		leak   leak
		want   string // in the error; empty for none
	}{
		{"nothing failed", [4]tally{}, leak{}, ""},
		{"a rotation cost a request", [4]tally{1: lost}, leak{}, "the applications say 0 served and 1 failed"},
		{"served more than the provider answered", [4]tally{{Served: 1}}, leak{}, "the applications say 1 served"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			d := &demo{screen: &screen{out: &out}, sim: simulator.New(simulator.Options{})}
			for _, total := range tt.totals {
				d.apps = append(d.apps, &deployment{supervisor: &supervisor{ended: total}, place: "place"})
			}
			err := d.summary(tt.leak)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q\n%s", err, tt.want, &out)
			}
		})
	}
}

// TestLostInRotation has the provider agree with the applications that a request failed: that is still no success, unless it belongs to the emergency.
func TestLostInRotation(t *testing.T) {
	w := newWorld(t)
	w.until("requests", func() bool { return w.super.total().Served > 0 })
	w.sim.Fail(simulator.Fault{Status: 500, Times: 1, Path: "/v1/messages"})
	w.until("a failure", func() bool { return w.super.total().failures() == 1 })
	w.super.close()
	idle := func() *deployment { return &deployment{supervisor: &supervisor{}} }
	w.apps = []*deployment{{supervisor: w.super}, idle(), idle(), idle()}
	if err := w.summary(leak{}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "1 failed in a rotation") {
		t.Errorf("a request failed in a rotation: %v", err)
	}
	w.apps = []*deployment{idle(), idle(), idle(), {supervisor: w.super}}
	if err := w.summary(leak{}); err != nil {
		t.Errorf("a request failed in the emergency: %v", err)
	}
}

func TestFold(t *testing.T) {
	word := strings.Repeat("x", 40)
	tests := []struct{ in, want string }{
		{"short", "short"},
		{"  a  " + word + " " + word + " " + word, "  a  " + word + " " + word + "\n     " + word},
		{strings.Repeat("y", 200), strings.Repeat("y", 200)},
		{"", ""},
	}
	for _, tt := range tests {
		if got := strings.Join(fold(tt.in), "\n"); got != tt.want {
			t.Errorf("fold(%q)\n%s\nwant\n%s", tt.in, got, tt.want)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("a  b " + strings.Repeat("c ", 200))
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Join(strings.Fields(strings.Join(fold(text), " ")), " ") != strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ") && strings.ToValidUTF8(text, "") == text {
			t.Errorf("fold changed the words of %q", text)
		}
	})
}

func TestLines(t *testing.T) {
	var got []string
	l := &lines{each: func(s string) { got = append(got, s) }}
	for _, part := range []string{"a\nb", "c\n", "\n", strings.Repeat("z", maxLine+1), "end"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	l.flush()
	l.flush()
	want := []string{"a", "bc", "", strings.Repeat("z", maxLine), "zend"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%d lines: %.40q", len(got), got)
	}
}

func TestFeedHoldsAndCounts(t *testing.T) {
	var out bytes.Buffer
	f := newFeed(&screen{out: &out}, printed([]string{"old"}))
	for _, l := range []string{"old", "old", "new"} {
		f.add(l)
	}
	f.hold()
	f.add("held")
	if want := "  … 2 lines as above\n  new\n"; out.String() != want {
		t.Errorf("printed %q, want %q", &out, want)
	}
	f.release()
	f.add("last")
	if want := "  held\n  last\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("printed %q", &out)
	}
	seen, more := f.after(4)
	if len(seen) != 1 || seen[0] != "last" {
		t.Errorf("after 4: %q", seen)
	}
	f.add("again")
	<-more
}

func TestRunRefusesWhatItCannotUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Options{Out: io.Discard, Executable: os.Args[0], Keep: dir}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a directory that is in use: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, Options{Out: io.Discard, Executable: os.Args[0]}); !fault.Is(err, fault.Canceled) {
		t.Errorf("interrupted before it began: %v", err)
	}
}
