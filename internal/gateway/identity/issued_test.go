package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// TestRecordOfTokens: every token stands in the record before anybody has it, and the record holds none.
func TestRecordOfTokens(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	if list, damaged, err := s.Issued(); err != nil || damaged != 0 || len(list) != 0 {
		t.Errorf("before the first: %v, %d, %v", list, damaged, err)
	}
	token, claims, err := s.Issue("web", time.Hour, []string{"models"}, []string{"claude-*"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, issuedFile)
	// A crash left half a line behind; the next entry is whole all the same.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":"HALF`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, _, err := s.Issue("late", time.Minute, nil, nil); err != nil {
		t.Fatal(err)
	}
	list, damaged, err := s.Issued()
	if err != nil || damaged != 1 || len(list) != 2 {
		t.Fatalf("%+v, %d damaged, %v", list, damaged, err)
	}
	first := list[0]
	if first.ID != claims.ID || first.App != "web" || strings.Join(first.Routes, "") != "models" || first.UID != os.Getuid() || first.Expires.Unix() != claims.Expires {
		t.Errorf("recorded %+v", first)
	}
	if !first.Live(time.Now()) || first.Live(time.Now().Add(2*time.Hour)) {
		t.Error("its life is wrong")
	}
	if err := s.Revoke(claims.ID); err != nil {
		t.Fatal(err)
	}
	if list, _, _ := s.Issued(); !list[0].Revoked || list[0].Live(time.Now()) || list[1].Revoked {
		t.Errorf("after revoking one: %+v", list)
	}
	if err := s.Revoke("NOSUCHID"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown id: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secrettest.NoLeak(t, "record", text, token)
	// Nor does it hold what would make a token: the signature.
	if _, sig, _ := strings.Cut(token.RevealString(), "."); strings.Contains(string(text), sig) {
		t.Error("the record holds a signature")
	}
	// A token that cannot be recorded is not given out.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if v, _, err := s.Issue("web", time.Hour, nil, nil); err == nil || !v.IsZero() {
		t.Errorf("without a record: %v", err)
	}
}
