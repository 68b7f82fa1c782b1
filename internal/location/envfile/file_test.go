package envfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/fault"
)

// TestTheFileIsLookedAtOnceMore changes the file between the look and the replacement, as an editor does that takes no lock.
func TestTheFileIsLookedAtOnceMore(t *testing.T) {
	for what, meddle := range map[string]func(path string) error{
		"text of the same length": func(path string) error { return os.WriteFile(path, []byte("A=2\n"), 0o600) },
		"permissions":             func(path string) error { return os.Chmod(path, 0o640) },
		"another file": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte("A=1\n"), 0o600), os.Rename(path+".new", path))
		},
		"no file": os.Remove,
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte("A=1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPlace(path)
		if err != nil {
			t.Fatal(err)
		}
		lock, err := p.lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before, err := p.read()
		if err != nil {
			t.Fatal(err)
		}
		if err := meddle(path); err != nil {
			t.Fatal(err)
		}
		seen, _ := os.ReadFile(path)
		err = p.replace(t.Context(), lock, before, []byte("A=new\n"), 0o600)
		lock.release()
		if now, _ := os.ReadFile(path); string(now) != string(seen) || err == nil {
			t.Errorf("%s: the file is %q, was %q (%v)", what, now, seen, err)
		}
		if what != "no file" && !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := p.dir.Lstat(siblingName(p.base)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the sibling is left: %v", what, err)
		}
		p.close()
	}
	// A file that appears where none was is not overwritten.
	path := filepath.Join(t.TempDir(), "f")
	p, err := openPlace(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	lock, err := p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	if err := os.WriteFile(path, []byte("A=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.replace(t.Context(), lock, nil, []byte("A=new\n"), 0o600); !fault.Is(err, fault.Conflict) {
		t.Errorf("a file that appeared: %v", err)
	}
}
