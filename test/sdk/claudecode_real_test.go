//go:build real && linux

package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/simulator"
)

// TestRealClaudeCodeThroughGateway has Claude Code, as npm installs it, work through the built gateway in a network of its own that leads nowhere
// else: it gets its gateway tokens by apiKeyHelper, uses a tool several times, and the key changes during each of its requests.
func TestRealClaudeCodeThroughGateway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	dir, program := install(t, "claudecode"), build(t)
	for _, open := range []bool{false, true} {
		name, flags := "with a token", []string(nil)
		if open {
			name, flags = "without a token", []string{"--open"}
		}
		t.Run(name, func(t *testing.T) {
			alone(t)
			const rounds = 4
			project := t.TempDir()
			note := filepath.Join(project, "note.txt")
			if err := os.WriteFile(note, []byte("The bridge opens at noon.\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var f *front
			t.Cleanup(func() {
				if t.Failed() && f != nil {
					for _, a := range f.accesses() {
						t.Logf("%+v", a)
					}
					for _, r := range f.sim.Requests() {
						t.Logf("%+v", r)
					}
				}
			})
			f = begin(t, program, func(f *front, next http.Handler) http.Handler {
				return withTools(next, "Read", map[string]string{"file_path": note}, rounds, func() {
					// The request has its answer on the old key, which may die before the answer is through.
					id, _ := f.change()
					if err := f.sim.SetStatus(id, simulator.StatusInactive); err != nil {
						t.Error(err)
					}
				})
			}, flags...)
			out := claude(t, f, dir, project, open)
			if out.IsError || out.Subtype != "success" || out.Turns < rounds || out.Result == "" {
				t.Errorf("%+v", out)
			}
			for _, a := range f.accesses() {
				if a.Status != http.StatusOK || a.Attempts != 1 || a.Cut || a.Aborted {
					t.Errorf("%+v", a)
				}
			}
			f.used(rounds + 1)
		})
	}
}

// outcome is what Claude Code prints at its end.
type outcome struct {
	Subtype string
	IsError bool `json:"is_error"`
	Turns   int  `json:"num_turns"`
	Result  string
}

// claude runs Claude Code without a person.
func claude(t *testing.T, f *front, dir, project string, open bool) outcome {
	t.Helper()
	home := t.TempDir()
	helper := f.program + " token issue --app claude-code --ttl 1h --state-dir " + f.path("state")
	if open {
		helper = "echo none"
	}
	settings, err := json.Marshal(map[string]string{"apiKeyHelper": helper})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "settings.json"), settings, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join(dir, "node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs"), "-p", "--output-format", "json", "What does the note say?")
	cmd.Dir = project
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CLAUDE_CONFIG_DIR=" + home, "ANTHROPIC_BASE_URL=" + f.url,
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_TELEMETRY=1", "DISABLE_AUTOUPDATER=1", "DISABLE_ERROR_REPORTING=1", "CLAUDE_CODE_MAX_RETRIES=0", "CLAUDE_CODE_MAX_OUTPUT_TOKENS=32000",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("claude: %v\n%s\n%s", err, &stdout, &stderr)
	}
	var out outcome
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		t.Fatalf("claude: %v\n%s", err, &stdout)
	}
	if s := strings.TrimSpace(stderr.String()); s != "" {
		t.Logf("claude said: %s", s)
	}
	return out
}

// alone moves the test into a network namespace with nothing but loopback, with all that it starts and listens on. The thread is given up with the
// test, so that no other sees that network.
func alone(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace can be made: %v", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
