package keyfile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
)

func TestCreateThenRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir", "key")
	if err := keyfile.Create(path, keyfile.Private, []byte("0123")); err != nil {
		t.Fatal(err)
	}
	b, err := keyfile.Read(path, keyfile.Private, 4)
	if err != nil || string(b) != "0123" {
		t.Fatalf("Read = %q, %v", b, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != keyfile.Private {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: mode %v, %v", info.Mode(), err)
	}
	if err := keyfile.Create(path, keyfile.Private, []byte("other")); !fault.Is(err, fault.Conflict) {
		t.Errorf("second Create: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "0123" {
		t.Errorf("second Create changed the file to %q", b)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside the file: %v, %v", entries, err)
	}
}

// Many processes may start for the first time at once: one wins, and nobody ever sees half a file.
func TestCreateHasOneWinner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var wins sync.Map
	var wg sync.WaitGroup
	for i := range byte(16) {
		wg.Go(func() {
			content := bytes.Repeat([]byte{'a' + i}, 32)
			switch err := keyfile.Create(path, keyfile.Private, content); {
			case err == nil:
				wins.Store(i, content)
			case !fault.Is(err, fault.Conflict):
				t.Errorf("Create: %v", err)
			}
			if b, err := keyfile.Read(path, keyfile.Private, 32); err != nil || len(b) != 32 {
				t.Errorf("Read: %d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
	n := 0
	wins.Range(func(_, content any) bool {
		n++
		if b, _ := os.ReadFile(path); !bytes.Equal(b, content.([]byte)) {
			t.Error("the file is not the winner's")
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d winners", n)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("sixteen bytes ok"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	inOpen := at("open/key", 0o600)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := at("foreign", 0o600)
	asRoot := os.Chown(foreign, 12345, -1) == nil
	for _, c := range []struct {
		path string
		most os.FileMode
		kind fault.Kind
		hint bool
	}{
		{at("fine", 0o600), keyfile.Private, fault.Unknown, false},
		{at("less", 0o400), keyfile.Private, fault.Unknown, false},
		{at("systemd", 0o440), keyfile.Delivered, fault.Unknown, false},
		{at("public", 0o644), keyfile.Public, fault.Unknown, false},
		{at("group", 0o640), keyfile.Private, fault.Forbidden, true},
		{at("world", 0o604), keyfile.Private, fault.Forbidden, true},
		{at("world2", 0o644), keyfile.Delivered, fault.Forbidden, true},
		{at("writable", 0o620), keyfile.Public, fault.Forbidden, true},
		{inOpen, keyfile.Private, fault.Forbidden, true},
		{foreign, keyfile.Private, fault.Forbidden, true},
		{filepath.Join(dir, "none"), keyfile.Private, fault.NotFound, false},
		{fifo, keyfile.Private, fault.Invalid, false},
		{dir, keyfile.Private, fault.Invalid, false},
	} {
		if c.path == foreign && !asRoot {
			continue
		}
		_, err := keyfile.Read(c.path, c.most, 16)
		if (err == nil) != (c.kind == fault.Unknown) || fault.KindOf(err) != c.kind || (fault.HintOf(err) != "") != c.hint {
			t.Errorf("Read(%s): %v (%v, hint %q)", c.path, err, fault.KindOf(err), fault.HintOf(err))
		}
	}
	if _, err := keyfile.Read(at("large", 0o600), keyfile.Private, 15); !fault.Is(err, fault.Invalid) {
		t.Errorf("a file above the limit: %v", err)
	}
	if err := keyfile.Create(filepath.Join(open, "new"), keyfile.Private, nil); !fault.Is(err, fault.Forbidden) {
		t.Errorf("Create in a directory of everybody: %v", err)
	}
	if err := keyfile.Create(filepath.Join(dir, "fine", "new"), keyfile.Private, nil); !fault.Is(err, fault.Forbidden) {
		t.Errorf("Create below a file: %v", err)
	}
	if err := keyfile.SyncDir(filepath.Join(dir, "none")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("SyncDir: %v", err)
	}
}

func TestOutside(t *testing.T) {
	root := t.TempDir()
	data := filepath.Join(root, "data")
	if err := os.MkdirAll(filepath.Join(data, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(filepath.Join(data, "sub"), link); err != nil {
		t.Fatal(err)
	}
	for path, inside := range map[string]bool{
		filepath.Join(root, "config", "key"):       false,
		filepath.Join(root, "data.key"):            false,
		filepath.Join(root, "data..key"):           false,
		filepath.Join(data, "..", "key"):           false,
		filepath.Join(data, "key"):                 true,
		filepath.Join(data, "..key"):               true,
		filepath.Join(data, "not", "yet", "there"): true,
		filepath.Join(link, "key"):                 true,
		data:                                       true,
	} {
		err := keyfile.Outside(path, data)
		if (err != nil) != inside || (inside && !fault.Is(err, fault.Forbidden)) {
			t.Errorf("Outside(%q): %v", path, err)
		}
	}
	if err := keyfile.Outside(filepath.Join(data, "key"), ""); err != nil {
		t.Errorf("no data directory: %v", err)
	}
}
