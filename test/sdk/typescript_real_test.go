//go:build real

package sdk_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/simulator"
)

// TestRealTypeScriptSDKs installs both lines of the TypeScript SDK from the
// lock file and runs them against the simulator over a real socket.
func TestRealTypeScriptSDKs(t *testing.T) {
	dir := install(t, "typescript")
	for _, tt := range []struct {
		name     string
		version  string
		sampling bool
	}{
		{"anthropic-v0", simulator.Version20230601, true},
		{"anthropic-v1", simulator.Version20261021, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := simulator.New(simulator.Options{})
			srv := httptest.NewServer(s.Handler())
			defer srv.Close()
			ws := s.AddWorkspace("sdk").ID
			id, value, err := s.CreateKey(simulator.CreateKey{Name: "sdk-key", Workspace: ws})
			if err != nil {
				t.Fatal(err)
			}
			s.Fail(simulator.Fault{Path: "/v1/messages", Status: 529, Skip: 1, Times: 1})
			s.Fail(simulator.Fault{Path: "/v1/messages", Status: 429, RetryAfter: time.Second, Times: 1})
			input, err := json.Marshal(map[string]any{
				"url": srv.URL, "key": value, "admin": s.AdminKey(), "workspace": ws, "keyId": id, "sampling": tt.sampling,
			})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "node", "check.mjs", tt.name)
			cmd.Dir, cmd.Stdin = dir, bytes.NewReader(input)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("check.mjs: %v\n%s", err, out)
			}
			var got []int
			for _, r := range s.Requests() {
				if r.Path == "/v1/messages" {
					got = append(got, r.Status)
				}
				if r.Version != tt.version {
					t.Errorf("%s %s: version %q, want %q", r.Method, r.Path, r.Version, tt.version)
				}
			}
			if want := []int{429, 200, 529, 200, 200, 401}; !slices.Equal(got, want) {
				t.Errorf("messages answered %v, want %v", got, want)
			}
		})
	}
}
