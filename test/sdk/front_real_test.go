//go:build real

package sdk_test

import (
	"bufio"
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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// front is "keywright gateway" as a process of its own, before the provider's imitation.
type front struct {
	t                 *testing.T
	sim               *simulator.Simulator
	program, dir, url string
	err               bytes.Buffer
	mu                sync.Mutex
	id, value         string   // the key in force
	values            []string // all keys that were ever in the file
}

// build builds the program as it is released.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "keywright")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/keywright/keywright/cmd/keywright")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build keywright: %v\n%s", err, out)
	}
	return program
}

// begin starts a gateway. wrap stands between it and the imitation.
func begin(t *testing.T, program string, wrap func(f *front, next http.Handler) http.Handler, flags ...string) *front {
	t.Helper()
	f := &front{t: t, program: program, dir: t.TempDir(), sim: simulator.New(simulator.Options{})}
	upstream := httptest.NewServer(wrap(f, f.sim.Handler()))
	t.Cleanup(upstream.Close)
	f.put()
	if err := os.Mkdir(f.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"gateway", "--listen", "127.0.0.1:0", "--upstream", upstream.URL, "--key", "file:key", "--state-dir", f.path("state"), "--access-log", f.path("access.log")}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, append(args, flags...)...)
	cmd.Dir, cmd.Env = f.dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		f.err.WriteString(lines.Text() + "\n")
		if _, at, ok := strings.Cut(lines.Text(), " on http://"); ok {
			f.url = "http://" + at
			break
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			f.err.WriteString(lines.Text() + "\n")
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("gateway: %v", err)
		}
		f.noLeak()
		if t.Failed() {
			t.Logf("the gateway said:\n%s", &f.err)
		}
	})
	if f.url == "" {
		t.Fatal("the gateway did not start")
	}
	return f
}

func (f *front) path(name string) string { return filepath.Join(f.dir, name) }

// put makes a key at the provider and writes it into the gateway's file, at once as a whole.
func (f *front) put() {
	f.t.Helper()
	id, value, err := f.sim.CreateKey(simulator.CreateKey{Name: "gateway"})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(f.path("key.new"), []byte(value+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.path("key.new"), f.path("key")); err != nil {
		f.t.Fatal(err)
	}
	f.id, f.value = id, value
	f.values = append(f.values, value)
}

// change writes a new key, waits until it is in force, and gives the former one.
func (f *front) change() (id, value string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	id, value = f.id, f.value
	f.put()
	want := secret.New([]byte(f.value)).Fingerprint()
	f.until("the new key to be in force", func(s status) bool { return s.role(string(want)) == "primary" })
	return id, value
}

// rotate is change, and then the old key dies at the provider as soon as its last request has ended.
func (f *front) rotate() {
	f.t.Helper()
	id, value := f.change()
	old := secret.New([]byte(value)).Fingerprint()
	f.until("the last request on the old key", func(s status) bool { return s.role(string(old)) == "" })
	if err := f.sim.SetStatus(id, simulator.StatusInactive); err != nil {
		f.t.Error(err)
	}
}

// status gives the role of each fingerprint.
type status map[string]string

func (s status) role(fingerprint string) string { return s[fingerprint] }

func (f *front) until(what string, ok func(status) bool) {
	f.t.Helper()
	end := time.NewTimer(20 * time.Second)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := app.GatewayStatus(f.t.Context(), f.path("state"))
		if err != nil {
			f.t.Fatal(err)
		}
		s := status{}
		for _, k := range got.Keys {
			s[string(k.Fingerprint)] = k.Role
		}
		if ok(s) {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			f.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// used checks that the provider saw messages on so many keys and refused none for its key.
func (f *front) used(keys int) {
	f.t.Helper()
	seen := map[string]bool{}
	for _, r := range f.sim.Requests() {
		seen[r.KeyID] = seen[r.KeyID] || r.Path == "/v1/messages"
		if r.Status == http.StatusUnauthorized {
			f.t.Errorf("the provider refused a key at %s %s", r.Method, r.Path)
		}
	}
	n := 0
	for _, messages := range seen {
		if messages {
			n++
		}
	}
	if n != keys {
		f.t.Errorf("the provider saw messages on %d keys, want %d", n, keys)
	}
}

// token issues one as a person would.
func (f *front) token(app string) string {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), f.program, "token", "issue", "--app", app, "--state-dir", f.path("state"))
	cmd.Env = []string{"HOME=" + f.dir}
	out, err := cmd.Output()
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// access is what a line of the access log has.
type access struct {
	App, Route, Method, Row string
	Status, Attempts        int
	Stream, Cut, Aborted    bool
}

func (f *front) accesses() []access {
	f.t.Helper()
	raw, err := os.ReadFile(f.path("access.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	var all []access
	for line := range bytes.Lines(raw) {
		var a access
		if err := json.Unmarshal(line, &a); err != nil {
			f.t.Fatalf("%v: %s", err, line)
		}
		all = append(all, a)
	}
	return all
}

// noLeak looks for values in all that the gateway wrote.
func (f *front) noLeak() {
	var values []secret.Value
	for _, v := range f.values {
		values = append(values, secret.New([]byte(v)))
	}
	secrettest.NoLeak(f.t, "standard error", f.err.Bytes(), values...)
	raw, err := os.ReadFile(f.path("access.log"))
	if err != nil {
		f.t.Error(err)
	}
	secrettest.NoLeak(f.t, "access log", raw, values...)
}

// withTools answers for the provider's imitation, which uses no tools: when a message request offers the named tool, and fewer than rounds results
// of it came, the answer is its use. The imitation judges and records the request all the same. each runs before every such answer.
func withTools(next http.Handler, name string, input any, rounds int, each func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		var body struct {
			Model    string
			Stream   bool
			Tools    []struct{ Name string }
			Messages []struct{ Content json.RawMessage }
		}
		offered := json.Unmarshal(raw, &body) == nil && r.URL.Path == "/v1/messages" &&
			slices.ContainsFunc(body.Tools, func(tool struct{ Name string }) bool { return tool.Name == name })
		results := 0
		for _, m := range body.Messages {
			var blocks []struct{ Type string }
			if json.Unmarshal(m.Content, &blocks) == nil {
				for _, b := range blocks {
					if b.Type == "tool_result" {
						results++
					}
				}
			}
		}
		if !offered || results >= rounds {
			next.ServeHTTP(w, r)
			return
		}
		judged := httptest.NewRecorder()
		next.ServeHTTP(judged, r)
		for h, v := range judged.Header() {
			w.Header()[h] = v
		}
		w.Header().Del("Content-Length")
		if judged.Code != http.StatusOK {
			w.WriteHeader(judged.Code)
			_, _ = w.Write(judged.Body.Bytes())
			return
		}
		if each != nil {
			each()
		}
		use(w, body.Model, body.Stream, fmt.Sprintf("toolu_01%022d", results), name, input)
	})
}

// use writes a message that uses a tool.
func use(w http.ResponseWriter, model string, stream bool, id, name string, input any) {
	block := func(input any) map[string]any {
		return map[string]any{"type": "tool_use", "id": id, "name": name, "input": input}
	}
	usage := map[string]any{"input_tokens": 20, "output_tokens": 10}
	message := map[string]any{"id": "msg" + strings.TrimPrefix(id, "toolu"), "type": "message", "role": "assistant", "model": model, "content": []any{block(input)},
		"stop_reason": "tool_use", "stop_sequence": nil, "usage": usage}
	if !stream {
		_ = json.NewEncoder(w).Encode(message)
		return
	}
	event := func(name string, data map[string]any) {
		data["type"] = name
		text, _ := json.Marshal(data)
		_, _ = w.Write([]byte("event: " + name + "\ndata: " + string(text) + "\n\n"))
		_ = http.NewResponseController(w).Flush()
	}
	message["content"], message["stop_reason"] = []any{}, nil
	text, _ := json.Marshal(input)
	event("message_start", map[string]any{"message": message})
	event("content_block_start", map[string]any{"index": 0, "content_block": block(map[string]any{})})
	event("ping", map[string]any{})
	for piece := range slices.Chunk(text, 7) {
		event("content_block_delta", map[string]any{"index": 0, "delta": map[string]any{"type": "input_json_delta", "partial_json": string(piece)}})
	}
	event("content_block_stop", map[string]any{"index": 0})
	event("message_delta", map[string]any{"delta": map[string]any{"stop_reason": "tool_use", "stop_sequence": nil}, "usage": usage})
	event("message_stop", map[string]any{})
}

// install runs npm ci on a copy of a folder and gives the copy. Where npm is missing it skips the test; in CI it fails.
func install(t *testing.T, folder string) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed in CI: %v", tool, err)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}
