package cli

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/run"
	"github.com/keywright/keywright/internal/secret"
)

// localNamesSize is the size of the key that makes the names "kl_…" of values that could be guessed back from a hash.
const localNamesSize = 32

// localNames reads the key of local names, or makes one that is kept only when a report uses it.
func (s *scanning) localNames() {
	if s.store != "" {
		if b, err := keyfile.Read(s.store, keyfile.Private, localNamesSize); err == nil && len(b) == localNamesSize {
			s.o.StoreKey = secret.New(b)
			return
		}
	}
	s.key, s.fresh = make([]byte, localNamesSize), true
	_, _ = rand.Read(s.key) // never fails
	s.o.StoreKey = secret.New(bytes.Clone(s.key))
}

// keepLocalNames keeps the key when the report has such a name, or a state may, so that the next scan gives the same.
func (s *scanning) keepLocalNames(r *report.Report) {
	defer clear(s.key)
	local := false
	for i := range r.Keys {
		local = local || strings.HasPrefix(string(r.Keys[i].Fingerprint), "kl_")
	}
	if !local && !s.o.Remembers() || !s.fresh {
		return
	}
	if kept := s.store != "" && keyfile.Create(s.store, keyfile.Private, s.key) == nil; !kept && local {
		r.Notes = append(r.Notes, "names that begin with kl_ hold for this scan alone: the key that makes them could not be kept")
	}
}

// states keeps what was searched of histories, a file for each repository.
type states struct{ dir string }

// mostState is the largest state in bytes that is read.
const mostState = 1 << 30

func (s states) file(repository string) string {
	sum := sha256.Sum256([]byte(repository))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+".state")
}

// Load implements run.States.
func (s states) Load(repository string) []byte {
	name := s.file(repository)
	info, err := os.Lstat(name)
	if err != nil || info.Size() > mostState {
		return nil
	}
	b, err := keyfile.Read(name, keyfile.Private, int(info.Size()))
	if err != nil {
		return nil
	}
	return b
}

// Save implements run.States.
func (s states) Save(repository string, state []byte) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return replaceFile(s.file(repository), state)
}

var _ run.States = states{}

// detectors names this build of the program, and so its detectors.
func detectors() string {
	// The link of the system leads to the file that runs, whatever has become of its name.
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		self, nameErr := os.Executable()
		if nameErr != nil {
			return ""
		}
		if info, err = os.Stat(self); err != nil {
			return ""
		}
	}
	return fmt.Sprintf("%s %d %d", Version(), info.Size(), info.ModTime().UnixNano())
}

// replaceFile puts a whole file of mode 0600 in the place of the named one.
func replaceFile(name string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}

// isTerminal reports whether w is a screen that somebody may look at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
