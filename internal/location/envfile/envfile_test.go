package envfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/envfile"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

const variable = "ANTHROPIC_API_KEY"

var line = regexp.MustCompile(`(?m)^(export )?` + variable + `=.*\n`)

// bySh asks a real shell what the variable is. The file must be one that the test wrote.
func bySh(tb testing.TB, shell, path string) ([]byte, bool) {
	tb.Helper()
	sh, err := exec.LookPath(shell)
	if err != nil {
		missing(tb, "the shell "+shell)
	}
	c := exec.Command(sh, "-c", `. "$1"; printf %s "${`+variable+`-}"`, "sh", path)
	c.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := c.Output()
	if err != nil {
		tb.Fatalf("source the file: %v", err)
	}
	return out, len(out) > 0
}

func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatalf("missing here: %s", what)
	}
	tb.Skipf("missing here: %s", what)
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func open(tb testing.TB, c envfile.Config) *envfile.Driver {
	tb.Helper()
	if c.Variable == "" && c.Format != envfile.Value {
		c.Variable = variable
	}
	d, err := envfile.New(c, location.Env{})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	starts := map[envfile.Format]string{
		envfile.Dotenv:      "# the service\nLOG_LEVEL=debug\nGREETING=\"two\nlines\"\nANTHROPIC_API_KEY_FILE='/x y'\n",
		envfile.Shell:       "# the service\nexport LOG_LEVEL=debug\nif [ -n \"$X\" ]; then\n  echo \"it's\"\nfi\ncat <<EOF >/dev/null\nit's\nEOF\n",
		envfile.Systemd:     "; the service\nLOG_LEVEL=debug\nLONG=a \\\n  b\n",
		envfile.Environment: "PATH=\"/usr/bin:/bin\"\nLANG=C.UTF-8\n",
	}
	for format, text := range starts {
		t.Run(string(format), func(t *testing.T) {
			locationtest.Run(t, locationtest.Harness{How: location.ReadBack, CAS: true, New: func(tb testing.TB) *locationtest.Place {
				path := filepath.Join(tb.TempDir(), "service.env")
				write(tb, path, text)
				return atFile(tb, path, envfile.Config{Path: path, Format: format})
			}})
		})
	}
	t.Run("the value alone", func(t *testing.T) {
		locationtest.Run(t, locationtest.Harness{How: location.ReadBack, CAS: true, New: func(tb testing.TB) *locationtest.Place {
			path := filepath.Join(tb.TempDir(), "primary.key")
			p := atFile(tb, path, envfile.Config{Path: path, Format: envfile.Value, Create: true})
			p.Neighbours, p.Disturb = nil, nil
			p.Held = func(tb testing.TB) ([]byte, bool) {
				b, err := os.ReadFile(path)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					tb.Fatal(err)
				}
				return bytes.TrimSuffix(b, []byte("\n")), len(b) > 0
			}
			p.Overwrite = func(tb testing.TB, v secret.Value) { write(tb, path, v.RevealString()+"\n") }
			return p
		}})
	})
	t.Run("no file", func(t *testing.T) {
		locationtest.Run(t, locationtest.Harness{How: location.ReadBack, CAS: true, New: func(tb testing.TB) *locationtest.Place {
			path := filepath.Join(tb.TempDir(), "service.env")
			p := atFile(tb, path, envfile.Config{Path: path, Create: true})
			p.Neighbours, p.Disturb = nil, nil
			return p
		}})
	})
}

func atFile(tb testing.TB, path string, c envfile.Config) *locationtest.Place {
	text := func() string {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			tb.Fatal(err)
		}
		return string(b)
	}
	return &locationtest.Place{
		Driver: open(tb, c),
		Again:  func() location.Driver { return open(tb, c) },
		Held: func(tb testing.TB) ([]byte, bool) {
			if text() == "" {
				return nil, false
			}
			if c.Format == envfile.Dotenv || c.Format == envfile.Shell || c.Format == "" {
				return bySh(tb, "sh", path)
			}
			m := regexp.MustCompile(`(?m)^`+variable+`=(.*)$`).FindAllStringSubmatch(text(), -1)
			if len(m) == 0 {
				return nil, false
			}
			return []byte(m[len(m)-1][1]), true
		},
		Overwrite: func(tb testing.TB, v secret.Value) {
			write(tb, path, line.ReplaceAllString(text(), "")+variable+"="+v.RevealString()+"\n")
		},
		Neighbours: func(testing.TB) []byte { return []byte(line.ReplaceAllString(text(), "")) },
		Disturb:    func(tb testing.TB) { write(tb, path, "OTHER=1\n"+text()) },
		Copies: func(tb testing.TB) [][]byte {
			var all [][]byte
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				tb.Fatal(err)
			}
			for _, e := range entries {
				all = append(all, []byte(read(tb, filepath.Join(filepath.Dir(path), e.Name()))))
			}
			return all
		},
	}
}

func TestOwnerPermissionsAndAttributesStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	write(t, path, variable+"=old\n")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, "user.note", []byte("kept"), 0); err != nil {
		t.Logf("no attributes on this file system: %v", err)
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 12345, 23456
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, envfile.Config{Path: path, AllowGroup: true})
	if _, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode() != 0o640 || int(st.Uid) != uid || int(st.Gid) != gid {
		t.Errorf("after a put: %v, %+v", info.Mode(), st)
	}
	b := make([]byte, 16)
	if n, err := unix.Getxattr(path, "user.note", b); err == nil && string(b[:n]) != "kept" {
		t.Errorf("the attribute is %q", b[:n])
	} else if err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Errorf("the attribute is lost: %v", err)
	}
}

func TestLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dir, "real", "a.env"), filepath.Join(dir, "link.env")
	write(t, file, variable+"=old\n")
	if err := os.Symlink("real/a.env", link); err != nil {
		t.Fatal(err)
	}
	d := open(t, envfile.Config{Path: link})
	v := secrettest.Fake(t)
	if _, err := d.Put(t.Context(), v, location.Expect{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(link); err != nil || got != "real/a.env" || read(t, file) != variable+"="+v.RevealString()+"\n" {
		t.Errorf("the link is %q (%v)", got, err)
	}
	if got, want := d.Address(), open(t, envfile.Config{Path: file}).Address(); got != want || !filepath.IsAbs(got) {
		t.Errorf("addresses %q and %q", got, want)
	}
	refused := map[string]string{}
	nowhere := filepath.Join(dir, "nowhere.env")
	if err := os.Symlink("real/none", nowhere); err != nil {
		t.Fatal(err)
	}
	refused["link to nothing"] = nowhere
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	refused["pipe"] = fifo
	toDevice := filepath.Join(dir, "null.env")
	if err := os.Symlink("/dev/null", toDevice); err != nil {
		t.Fatal(err)
	}
	refused["link to a device"] = toDevice
	refused["directory"] = filepath.Join(dir, "real")
	if _, err := os.Stat("/proc/self/environ"); err == nil {
		refused["file of the kernel"] = "/proc/self/environ"
	}
	for what, path := range refused {
		d := open(t, envfile.Config{Path: path, Create: true})
		if _, err := d.Inspect(t.Context()); !fault.Is(err, fault.Invalid) {
			t.Errorf("inspect of a %s: %v", what, err)
		}
		if _, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{}); err == nil {
			t.Errorf("put into a %s: no error", what)
		}
		if len(d.Check(t.Context())) == 0 {
			t.Errorf("check of a %s finds nothing", what)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "real", "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused put made a file: %v", err)
	}
}

func TestFilesOfWrongPermissionsAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	text := variable + "=old\n"
	for _, c := range []struct {
		mode  fs.FileMode
		group bool
		fine  bool
		hint  string
	}{
		{0o600, false, true, ""}, {0o400, false, true, ""}, {0o644, false, false, "chmod 600"}, {0o640, false, false, "allow_group"}, {0o640, true, true, ""},
		{0o644, true, false, "chmod 600"}, {0o660, true, false, "chmod 600"}, {0o602, false, false, "chmod 600"}, {0o666, true, false, "chmod 600"},
	} {
		_ = os.Remove(path)
		write(t, path, text)
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		d := open(t, envfile.Config{Path: path, AllowGroup: c.group})
		errs := d.Check(t.Context())
		_, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{})
		if c.fine != (err == nil) || c.fine != (len(errs) == 0) {
			t.Errorf("mode %04o, allow_group %v: put %v, check %v", c.mode, c.group, err, errs)
			continue
		}
		if !c.fine && (!fault.Is(err, fault.Forbidden) || !strings.Contains(fault.HintOf(err), c.hint) || fault.HintOf(errs[0]) != fault.HintOf(err) || read(t, path) != text) {
			t.Errorf("mode %04o: %v, hint %q", c.mode, err, fault.HintOf(err))
		}
	}
	_ = os.Remove(path)
	write(t, path, text)
	if err := os.Link(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	d := open(t, envfile.Config{Path: path})
	if _, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{}); !fault.Is(err, fault.Invalid) || len(d.Check(t.Context())) != 1 {
		t.Errorf("put into a file with two names: %v", err)
	}
}

func TestMakingAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new.env")
	d := open(t, envfile.Config{Path: path})
	if _, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{}); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), "create") {
		t.Errorf("put without create: %v", err)
	}
	if len(d.Check(t.Context())) != 1 {
		t.Errorf("check without create: %v", d.Check(t.Context()))
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("a refused put made %v", entries)
	}
	d = open(t, envfile.Config{Path: path, Create: true, Mode: "0640", AllowGroup: true})
	if errs := d.Check(t.Context()); len(errs) != 0 {
		t.Errorf("check with create: %v", errs)
	}
	old := syscall.Umask(0o077)
	_, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{Checked: true, Absent: true})
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the new file: %v, %v", info, err)
	}
	d = open(t, envfile.Config{Path: filepath.Join(dir, "none", "x.env"), Create: true})
	if h, err := d.Inspect(t.Context()); err != nil || h.Present {
		t.Errorf("inspect without a directory: %+v, %v", h, err)
	}
	if _, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("put without a directory: %v", err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, c := range []envfile.Config{
		{}, {Path: "x"}, {Path: "x", Variable: "A B"}, {Path: "x", Variable: "A", Format: "ini"}, {Path: "x", Variable: "A", Mode: "rw"},
		{Path: "x", Variable: "A", Mode: "0644"}, {Path: "x", Variable: "A", Mode: "0640"}, {Path: "x", Variable: "A", Mode: "4600"}, {Path: "x", Variable: "A", Mode: "0000"},
	} {
		if _, err := envfile.New(c, location.Env{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	dir := t.TempDir()
	d, err := envfile.Kind().Open(&envfile.Config{Path: "a/../b.env", Variable: "A"}, location.Env{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := d.(location.Addresser); !ok || a.Address() != filepath.Join(real, "b.env") {
		t.Errorf("the address of a relative path: %v", a.Address())
	}
}

// sibling is the name that a replacement has before it takes the place of path. It is part of what people may meet after
// a crash, so the test spells it.
func sibling(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".keywright-new")
}

func TestWhatAKilledWriterLeftIsSwept(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	write(t, path, variable+"=old\n")
	d := open(t, envfile.Config{Path: path})
	write(t, sibling(path), "half of a "+strings.Repeat("long ", 100))
	if _, err := d.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(sibling(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("inspect left it: %v", err)
	}
	write(t, sibling(path), "half of a "+strings.Repeat("long ", 100))
	v := secrettest.Fake(t)
	if _, err := d.Put(t.Context(), v, location.Expect{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(sibling(path)); !errors.Is(err, fs.ErrNotExist) || read(t, path) != variable+"="+v.RevealString()+"\n" {
		t.Errorf("put left it: %v", err)
	}
	// What is not ours is neither used nor erased.
	other := filepath.Join(filepath.Dir(path), "other")
	write(t, other, "precious\n")
	for what, plant := range map[string]func() error{
		"link":       func() error { return os.Symlink("other", sibling(path)) },
		"hard link":  func() error { return os.Link(other, sibling(path)) },
		"directory":  func() error { return os.Mkdir(sibling(path), 0o700) },
		"open to us": func() error { return os.WriteFile(sibling(path), nil, 0o600) },
	} {
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		if what == "open to us" {
			if err := os.Chmod(sibling(path), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{}); !fault.Is(err, fault.Conflict) {
			t.Errorf("put beside a planted %s: %v", what, err)
		}
		if _, err := d.Inspect(t.Context()); err != nil {
			t.Errorf("inspect beside a planted %s: %v", what, err)
		}
		if read(t, other) != "precious\n" {
			t.Fatalf("a planted %s led to another file", what)
		}
		if err := os.Remove(sibling(path)); err != nil {
			t.Errorf("a planted %s is gone: %v", what, err)
		}
	}
}

func TestALivingWriterIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	write(t, path, variable+"=old\n")
	d := open(t, envfile.Config{Path: path})
	f, err := os.OpenFile(sibling(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(sibling(path)); err != nil {
		t.Fatalf("inspect erased what a living writer holds: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Put(ctx, secrettest.Fake(t), location.Expect{}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("put beside a living writer: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{}); err != nil {
		t.Errorf("put after it ended: %v", err)
	}
}

// TestKilledAtAnyMoment kills real processes that write, and looks at what they leave.
func TestKilledAtAnyMoment(t *testing.T) {
	if path := os.Getenv("ENVFILE_TEST_WRITE"); path != "" {
		d := open(t, envfile.Config{Path: path})
		for i := range 1_000_000 {
			v := secret.New(fmt.Appendf(nil, "%08d-%s", i, strings.Repeat("x", 5000)))
			if _, err := d.Put(t.Context(), v, location.Expect{}); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				fmt.Fprintln(os.Stdout, "writing")
			}
		}
		return
	}
	path := filepath.Join(t.TempDir(), ".env")
	const before, after = "A=1\n", "B=2\n"
	write(t, path, before+variable+"=start\n"+after)
	whole := regexp.MustCompile(`^A=1\n` + variable + `=(start|\d{8}-x+)\nB=2\n$`)
	wholeSize := []int{len(before + variable + "=start\n" + after), len(before+variable+"=00000000-\n"+after) + 5000}
	isWhole := func(text string) bool { return whole.MatchString(text) && slices.Contains(wholeSize, len(text)) }
	left := 0
	for i := range 12 {
		c := exec.Command(os.Args[0], "-test.run=^TestKilledAtAnyMoment$")
		c.Env = append(os.Environ(), "ENVFILE_TEST_WRITE="+path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatalf("the writer did not begin: %v", err)
		}
		// A number of reads that differs from round to round decides when it dies.
		for range i * 20 {
			if text := read(t, path); !isWhole(text) {
				t.Fatalf("a reader saw half a file of %d bytes", len(text))
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // It was killed.
		if !isWhole(read(t, path)) {
			t.Fatalf("round %d left half a file", i)
		}
		if _, err := os.Lstat(sibling(path)); err == nil {
			left++
		}
		if _, err := open(t, envfile.Config{Path: path}).Inspect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
			t.Fatalf("round %d left %v (%v)", i, entries, err)
		}
	}
	t.Logf("%d of 12 killed writers left a file beside", left)
}

func TestFullAndReadOnlyDisks(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "the right to mount a small file system (root)")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64k"); err != nil {
		missing(t, "the right to mount a small file system: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, ".env")
	text := "FILL=" + strings.Repeat("x", 40<<10) + "\n" + variable + "=old\n"
	write(t, path, text)
	d := open(t, envfile.Config{Path: path})
	v := secrettest.Fake(t)
	_, err := d.Put(t.Context(), v, location.Expect{})
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, syscall.ENOSPC) || fault.HintOf(err) == "" || read(t, path) != text {
		t.Errorf("put on a full disk: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("it left %v (%v)", entries, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err = d.Put(t.Context(), v, location.Expect{})
	if !fault.Is(err, fault.Forbidden) || !errors.Is(err, syscall.EROFS) || read(t, path) != text {
		t.Errorf("put on a read-only disk: %v", err)
	}
	if errs := d.Check(t.Context()); len(errs) != 1 || !errors.Is(errs[0], syscall.EROFS) {
		t.Errorf("check on a read-only disk: %v", errs)
	}
	if h, err := d.Inspect(t.Context()); err != nil || !h.Present {
		t.Errorf("inspect on a read-only disk: %v", err)
	}
}

func TestAFileThatIsAMountPointIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "the right to mount (root)")
	}
	dir := t.TempDir()
	path, source := filepath.Join(dir, ".env"), filepath.Join(dir, "source")
	write(t, path, "")
	write(t, source, variable+"=old\n")
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		missing(t, "the right to mount: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Error(err)
		}
	})
	_, err := open(t, envfile.Config{Path: path}).Put(t.Context(), secrettest.Fake(t), location.Expect{})
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.HintOf(err), "mount its directory") || read(t, source) != variable+"=old\n" {
		t.Errorf("put: %v (%s)", err, fault.HintOf(err))
	}
}

func TestNoErrorHoldsAValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	v := secrettest.Fake(t)
	for _, text := range []string{"if true; then\n" + variable + "=%s\nfi\n", variable + "=\"%s\n", variable + "=%s$X\n", variable + "=%s # \x00\n", "X='%s\n"} {
		write(t, path, fmt.Sprintf(text, v.RevealString()))
		d := open(t, envfile.Config{Path: path, Format: envfile.Shell})
		h, err := d.Inspect(t.Context())
		_, put := d.Put(t.Context(), secrettest.Fake(t), location.Expect{})
		_, got := d.Read(t.Context())
		if put == nil || got == nil {
			t.Errorf("%q: no error", text)
		}
		var all bytes.Buffer
		fmt.Fprintf(&all, "%+v %v %v %s %v %v", h, err, put, fault.HintOf(put), got, d.Check(t.Context()))
		secrettest.NoLeak(t, text, all.Bytes(), v)
	}
}

func TestTheValueAlone(t *testing.T) {
	v := secrettest.Fake(t)
	for text, want := range map[string]string{"": v.RevealString() + "\n", "\n": v.RevealString() + "\n", "old-value": v.RevealString(), "old-value\r\n": v.RevealString() + "\r\n"} {
		path := filepath.Join(t.TempDir(), "primary.key")
		write(t, path, text)
		d := open(t, envfile.Config{Path: path, Format: envfile.Value})
		h, err := d.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Put(t.Context(), v, location.Expect{Revision: h.Revision}); err != nil || read(t, path) != want {
			t.Errorf("from %q: %v", text, err)
		}
	}
	// What is no value alone is left as it is.
	for _, text := range []string{"ANTHROPIC_API_KEY=x\n", "one\ntwo\n", " padded\n", "\xff\xfe"} {
		path := filepath.Join(t.TempDir(), "primary.key")
		write(t, path, text)
		d := open(t, envfile.Config{Path: path, Format: envfile.Value})
		if _, err := d.Put(t.Context(), v, location.Expect{}); !fault.Is(err, fault.Invalid) || read(t, path) != text {
			t.Errorf("into %q: %v", text, err)
		}
		if _, err := d.Read(t.Context()); !fault.Is(err, fault.Invalid) {
			t.Errorf("read of %q: %v", text, err)
		}
	}
	for _, c := range []envfile.Config{{Path: "x"}, {Path: "x", Format: envfile.Value, Variable: "A"}} {
		if _, err := envfile.New(c, location.Env{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
