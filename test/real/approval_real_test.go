//go:build real

package real

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Users of the host for TestRealApproval; they need no account.
const (
	operator = 64101
	approver = 64102
	stranger = 64103
)

// TestRealApproval has three users of one host: who asks for a rotation, who approves it through the daemon's socket, and one who may not open the socket.
func TestRealApproval(t *testing.T) {
	if os.Getuid() != 0 {
		const text = "other users can be had by root alone"
		if os.Getenv("CI") == "true" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	t.Parallel()
	w := newWorld(t)
	old, fresh := w.key("web"), w.key("web")
	places := []place{w.envFile("web.env", old)}
	around := w.surroundings(places)
	w.write("keywright.yaml", w.head()+fmt.Sprintf(`
state: { dir: state }
keys:
  web: { class: production-primary, owner: platform@acme.example, organization: %s, workspace: %s, locations: [web-env], soak: 1h, health_wait: 0s, approvals: 1 }
locations:
  web-env: { kind: env-file, path: web.env, variable: %s }
contacts:
  - { role: approver, name: Kim Lee, contact: kim@acme.example }
`, w.sim.Organization(), w.workspace, variable))
	if err := os.Mkdir(w.path("run"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(w.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, operator, nogroup)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{w.dir, w.path("run")} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.uid = operator
	// as runs a command as another user, who can read nothing of the operator's.
	home := t.TempDir()
	as := func(uid, gid uint32, args ...string) *started {
		t.Helper()
		cmd := exec.Command("setpriv", append([]string{fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", gid), "--clear-groups", program}, args...)...)
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home, "TZ=UTC"}
		mine := w.uid
		w.uid = 0
		defer func() { w.uid = mine }()
		return w.launch(cmd)
	}
	ends := func(s *started, code int, text string) {
		t.Helper()
		if got := s.wait(); got != code {
			t.Fatalf("%s: exit code %d, want %d\n%s", s.name, got, code, s.output())
		}
		wants(t, s.output(), text)
	}

	w.keywright(0, "key", "adopt", "web")
	w.feed(fresh+"\n", 0, "key", "add", "web", "--spare")
	socket := w.path("run/kw.sock")
	daemon := w.begin("", "serve", "--socket", socket, "--group", "nogroup")
	daemon.says("serving on")
	w.keywright(0, "rotate", "web", "--yes", "--detach")
	waiting := func() error { return w.shows("web", "waiting for 1 more approval") }
	w.eventually("the rotation to wait for approval", waiting)

	wants(t, w.keywright(3, "rotation", "approve", "web"), "asked for it yourself")
	wants(t, w.keywright(3, "rotation", "approve", "web", "--socket", socket), "asked for it yourself")
	ends(as(operator, operator+1000, "rotation", "approve", "web", "--socket", socket), 3, "asked for it yourself")
	ends(as(stranger, stranger, "rotation", "approve", "web", "--socket", socket), 6, "nobody answers")
	if err := waiting(); err != nil {
		t.Fatalf("after the refusals: %v", err)
	}
	w.hold(old, places, around)

	ends(as(approver, nogroup, "rotation", "approve", "web", "--socket", socket, "--note", "go"), 0, "approve is written down")
	w.eventually("the rotation to go on", func() error { return w.shows("web", "soak: both versions work") })
	w.hold(fresh, places, around)
	wants(t, w.keywright(0, "audit", "tail", "-n", "100"), fmt.Sprintf("%d@", approver))
	wants(t, w.keywright(0, "audit", "verify"), "the chain is whole")
	daemon.signal(syscall.SIGTERM)
	if code := daemon.wait(); code != 0 {
		t.Errorf("daemon: exit code %d\n%s", code, daemon.output())
	}
	w.noLeak("web.env")
}

// shows wants a text in what is shown of a rotation.
func (w *world) shows(rotation, text string) error {
	w.t.Helper()
	return contains(w.keywright(0, "rotation", "show", rotation), text)
}
