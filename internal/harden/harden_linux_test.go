package harden_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/harden"
)

// state is what a process can say of itself.
type state struct {
	Dumpable  int
	Core, Max uint64
	Umask     int
}

// childVariable makes the test program the child: with "plain" it reports its state, with "hardened" it hardens itself first.
const childVariable = "KEYWRIGHT_HARDEN_CHILD"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(childVariable); mode {
	case "":
		os.Exit(m.Run())
	case "hardened":
		if err := harden.Process(); err != nil {
			panic(err)
		}
		fallthrough
	default:
		report()
	}
}

func report() {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		panic(err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		panic(err)
	}
	umask := unix.Umask(0)
	unix.Umask(umask)
	if err := os.WriteFile(os.Getenv(childVariable+"_FILE"), []byte("x"), 0o666); err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(state{dumpable, core.Cur, core.Max, umask}); err != nil {
		panic(err)
	}
}

// child runs the test program anew and gives its state and the mode of a file that it made.
func child(t *testing.T, mode string) (s state, file os.FileMode) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+mode, childVariable+"_FILE="+path)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return s, info.Mode().Perm()
}

func TestProcess(t *testing.T) {
	// A child that does not harden itself shows that the test can see the difference.
	umask := unix.Umask(0o022)
	defer unix.Umask(umask)
	plain, file := child(t, "plain")
	if plain.Dumpable != 1 || plain.Umask != 0o022 || file != 0o644 {
		t.Fatalf("a plain process: %+v, makes files of mode %o", plain, file)
	}
	hardened, file := child(t, "hardened")
	if want := (state{Umask: 0o077}); hardened != want {
		t.Errorf("a hardened process: %+v, want %+v", hardened, want)
	}
	if file != 0o600 {
		t.Errorf("a hardened process makes files of mode %o", file)
	}
}
