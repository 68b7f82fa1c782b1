package script

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keywright/keywright/internal/cli"
)

// When the tests run as root, the program does not: root's directories are those of the host, and root passes every permission.
const (
	ownUID   = 65534
	otherUID = 65533
	uidVar   = "KEYWRIGHT_TEST_UID"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"keywright":  program,
		"keywright2": program, // by another user; see as
	})
}

// program is the binary: the same entry as cmd/keywright, as an ordinary user.
func program() {
	if os.Getuid() == 0 {
		uid := ownUID
		if n, err := strconv.Atoi(os.Getenv(uidVar)); err == nil {
			uid = n
		}
		if err := become(uid); err != nil {
			fmt.Fprintln(os.Stderr, "become another user:", err)
			os.Exit(125)
		}
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func become(uid int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(ownUID); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}

func TestScripts(t *testing.T) { run(t, filepath.Join("testdata", "*.txtar")) }

// run runs the scripts side by side, each in a directory and with a simulation of its own.
func run(t *testing.T, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no script fits %s (%v)", pattern, err)
	}
	root := t.TempDir()
	for dir := root; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Files:               files,
		WorkdirRoot:         root,
		Setup:               setup,
		Cmds:                commands(),
		Condition:           condition,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Getuid() == 0, nil
	case "linux":
		return runtime.GOOS == "linux", nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// setup gives the script a home, and a session in which its values are remembered.
func setup(env *testscript.Env) error {
	s := &session{}
	env.Values[sessionKey{}] = s
	home := filepath.Join(env.WorkDir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	env.Setenv("USER", "tester")
	env.Setenv("TZ", "UTC")
	env.Setenv("NO_PROXY", "*")
	env.Setenv("STATE", filepath.Join(home, ".local", "state", "keywright"))
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		env.Setenv("GOCOVERDIR", dir)
	}
	env.Defer(s.stop)
	return own(env.WorkDir)
}

// own gives a tree to the user that the program runs as, and takes the rights of the others, as an umask of 022 would.
func own(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if os.Getuid() == 0 {
			if err := os.Lchown(path, ownUID, ownUID); err != nil {
				return err
			}
		}
		if d.Type()&os.ModeSymlink != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()&^0o022)
	})
}
