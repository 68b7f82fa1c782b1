//go:build real

package sdk_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/simulator"
)

// TestRealTypeScriptSDKsThroughGateway has both lines of the TypeScript SDK call through the built gateway, each call once and none repeated, while
// the key in the gateway's file changes and the old ones die.
func TestRealTypeScriptSDKsThroughGateway(t *testing.T) {
	dir, program := install(t, "typescript"), build(t)
	for _, line := range []string{"anthropic-v0", "anthropic-v1"} {
		for _, open := range []bool{false, true} {
			name, flags := line+" with a token", []string{"--grant", "batches,files"}
			if open {
				name, flags = line+" without a token", append(flags, "--open")
			}
			t.Run(name, func(t *testing.T) {
				f := begin(t, program, func(_ *front, next http.Handler) http.Handler {
					return withTools(next, "weather", map[string]string{"city": "Oslo"}, 1, nil)
				}, flags...)
				key := "none"
				if !open {
					key = f.token("typescript")
				}
				f.sim.Fail(simulator.Fault{Path: "/v1/messages", Status: 529, Skip: 3, Times: 1})
				through(t, f, dir, line, key, !open)
				most := 0
				for _, a := range f.accesses() {
					most = max(most, a.Attempts)
					if a.Cut || a.Aborted || a.Status != 200 && a.Status != 404 && a.Row != "identity" {
						t.Errorf("%+v", a)
					}
				}
				if most != 2 {
					t.Errorf("%d attempts at most; the overload took one more", most)
				}
				f.used(6)
			})
		}
	}
}

// through runs the calls of through.mjs over five changes of the key.
func through(t *testing.T, f *front, dir, line, key string, bearer bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "through.mjs", line)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	done := make(chan map[string]int, 1)
	go func() {
		seen := map[string]int{}
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			seen[lines.Text()]++
			calls.Add(1)
		}
		done <- seen
	}()
	if err := json.NewEncoder(stdin).Encode(map[string]any{"url": f.url, "key": key, "bearer": bearer}); err != nil {
		t.Error(err)
	}
	traffic := func() bool {
		from, end := calls.Load(), time.NewTimer(20*time.Second)
		defer end.Stop()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for calls.Load() < from+40 {
			select {
			case <-tick.C:
			case <-end.C:
				t.Errorf("%d calls in 20 s", calls.Load()-from)
				return false
			}
		}
		return true
	}
	for range 5 {
		if !traffic() {
			break
		}
		f.rotate()
	}
	traffic()
	stdin.Close()
	seen := <-done
	if err := cmd.Wait(); err != nil {
		t.Errorf("through.mjs: %v\n%s", err, &stderr)
	}
	for _, name := range []string{"message", "stream", "events", "tools", "streamedTools", "countTokens", "models", "batches", "files", "end"} {
		if seen[name] == 0 {
			t.Errorf("%s was never called with success: %v", name, seen)
		}
	}
	t.Logf("%d calls: %v", calls.Load(), seen)
}
