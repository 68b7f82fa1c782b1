//go:build real

package real

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// program is the path of the binary under test, built once per run as a release is.
var program string

// arguments are the command lines of all processes that were seen while the tests ran.
var arguments = struct {
	sync.Mutex
	seen map[string]bool
}{seen: map[string]bool{}}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kw-real-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make directory:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "open directory:", err)
		return 1
	}
	program = filepath.Join(dir, "keywright")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/keywright/keywright/cmd/keywright")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build keywright: %v\n%s", err, out)
		return 1
	}
	ctx, stop := context.WithCancel(context.Background())
	var sampling sync.WaitGroup
	sampling.Go(func() { sample(ctx) })
	defer sampling.Wait()
	defer stop()
	return m.Run()
}

// sample looks at the command line of every process of the host again and again.
func sample(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return // no /proc on this system
		}
		for _, e := range entries {
			if _, err := strconv.Atoi(e.Name()); err != nil {
				continue
			}
			line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			if err == nil && len(line) > 0 {
				arguments.Lock()
				arguments.seen[string(line)] = true
				arguments.Unlock()
			}
		}
	}
}

// world is one organization: a simulated provider, a directory with all that the program keeps, and every value in it.
type world struct {
	t         *testing.T
	dir       string
	sim       *simulator.Simulator
	url       string
	workspace string
	env       []string // in addition to what every process of the world gets
	uid       int      // who runs the program; 0 is who runs the test

	mu     sync.Mutex
	values []secret.Value
	output bytes.Buffer
	count  int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "kw-world-") // t.TempDir would be too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, sim: simulator.New(simulator.Options{})}
	for _, name := range []string{"home", "config", "state", "xdg-config", "xdg-state", "xdg-cache", "tmp", "witness"} {
		if err := os.Mkdir(w.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(w.sim.Handler())
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	w.url, w.workspace = server.URL, w.sim.AddWorkspace("Production").ID
	admin := w.sim.AdminKey()
	w.values = append(w.values, secret.New([]byte(admin)))
	w.write("admin.key", admin+"\n")
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// head is how every configuration begins.
func (w *world) head() string {
	return fmt.Sprintf("organization: acme\nprovider: { url: %q, admin_key: \"file:admin.key\" }\n", w.url)
}

// key is the person in the Console who makes a key.
func (w *world) key(name string) string {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	_, value, err := w.sim.CreateKey(simulator.CreateKey{Name: fmt.Sprintf("acme-%s-202609%02d", name, w.count), Workspace: w.workspace})
	if err != nil {
		w.t.Fatal(err)
	}
	w.values = append(w.values, secret.New([]byte(value)))
	return value
}

// fingerprint is computed here and not by the program, so that a mistake there is seen.
func fingerprint(value string) string {
	sum := sha256.Sum256([]byte(value))
	return "kf_" + hex.EncodeToString(sum[:8])
}

// accepted asks the provider, without a request, whether it accepts a value.
func (w *world) accepted(value string) bool { return w.sim.Accepts(w.sim.KeyID(value)) }

// environment is all that the program sees of the test's own.
func (w *world) environment() []string {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	return append([]string{
		"PATH=" + path, "HOME=" + w.path("home"), "TMPDIR=" + w.path("tmp"), "TZ=UTC", "LANG=C.UTF-8", "NO_COLOR=1", "NO_PROXY=*",
		"KEYWRIGHT_CONFIG_DIR=" + w.path("config"),
		"XDG_CONFIG_HOME=" + w.path("xdg-config"), "XDG_STATE_HOME=" + w.path("xdg-state"), "XDG_CACHE_HOME=" + w.path("xdg-cache"),
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=" + region,
	}, w.env...)
}

// started is a run of the program.
type started struct {
	w    *world
	name string
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

// Write collects both output streams.
func (s *started) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *started) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// begin starts the program; what still runs when the test ends is killed. stdin may be empty.
func (w *world) begin(stdin string, args ...string) *started {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = w.dir, w.environment()
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	return w.launch(cmd)
}

func (w *world) launch(cmd *exec.Cmd) *started {
	w.t.Helper()
	s := &started{w: w, name: "keywright " + strings.Join(cmd.Args[1:], " "), cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s, s
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if w.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(w.uid), Gid: nogroup}
	}
	cmd.WaitDelay = time.Second
	failed := make(chan error, 1)
	go func() {
		// The kernel's promise to kill the child hangs on the thread that made it, so this one lives as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.done)
		err := cmd.Start()
		failed <- err
		if err == nil {
			_ = cmd.Wait() // the exit code says it
			w.mu.Lock()
			w.output.WriteString(s.output())
			w.mu.Unlock()
		}
	}()
	if err := <-failed; err != nil {
		w.t.Fatalf("start %s: %v", s.name, err)
	}
	w.t.Cleanup(func() {
		s.signal(syscall.SIGKILL)
		<-s.done
	})
	return s
}

func (s *started) signal(sig syscall.Signal) {
	select {
	case <-s.done:
	default:
		_ = s.cmd.Process.Signal(sig) // an error means that it has ended meanwhile
	}
}

// patience bounds every wait: the evidence of a rotation needs whole minutes.
const patience = 4 * time.Minute

// wait gives the exit code, or -1 when a signal ended it.
func (s *started) wait() int {
	s.w.t.Helper()
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		s.w.t.Fatalf("%s has not ended after %s\n%s", s.name, patience, s.output())
		return -1
	}
}

// says waits until the program has written a text.
func (s *started) says(text string) {
	s.w.t.Helper()
	s.w.eventually(s.name+" to say "+text, func() error {
		if strings.Contains(s.output(), text) {
			return nil
		}
		select {
		case <-s.done:
			s.w.t.Fatalf("%s ended with %d and did not say %q\n%s", s.name, s.cmd.ProcessState.ExitCode(), text, s.output())
		default:
		}
		return errors.New("it said\n" + s.output())
	})
}

// eventually asks until the answer is nil.
func (w *world) eventually(what string, is func() error) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		err := is()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			w.t.Fatalf("waited %s in vain for %s: %v", patience, what, err)
		}
	}
}

// keywright runs the program to its end, wants the exit code, and gives its output.
func (w *world) keywright(code int, args ...string) string {
	w.t.Helper()
	return w.feed("", code, args...)
}

func (w *world) feed(stdin string, code int, args ...string) string {
	w.t.Helper()
	s := w.begin(stdin, args...)
	if got := s.wait(); got != code {
		w.t.Fatalf("%s: exit code %d, want %d\n%s", s.name, got, code, s.output())
	}
	return s.output()
}

// noLeak searches all output, all command lines and every file below the world's directory for the values. The named files are places, or hold a
// value for another reason.
func (w *world) noLeak(places ...string) {
	w.t.Helper()
	may := []string{w.path("admin.key")}
	for _, p := range places {
		may = append(may, w.path(p))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	secrettest.NoLeak(w.t, "the output", w.output.Bytes(), w.values...)
	secrettest.NoLeakIn(w.t, w.dir, may, w.values...)
	arguments.Lock()
	defer arguments.Unlock()
	ours := 0
	for line := range arguments.seen {
		secrettest.NoLeak(w.t, "a command line", []byte(line), w.values...)
		if strings.HasPrefix(line, program+"\x00") {
			ours++
		}
	}
	if ours == 0 {
		w.t.Error("no command line of the program was ever seen")
	}
	if w.output.Len() == 0 {
		w.t.Error("the program never wrote anything")
	}
}

// wants fails the test when a text is not in the output of the program.
func wants(t *testing.T, output string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(output, text) {
			t.Errorf("%q is not in\n%s", text, output)
		}
	}
}

// contains gives an error unless a text is in the output.
func contains(output, text string) error {
	if strings.Contains(output, text) {
		return nil
	}
	return fmt.Errorf("%q is not in\n%s", text, output)
}
