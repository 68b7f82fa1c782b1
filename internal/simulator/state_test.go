package simulator_test

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/simulator"
)

func TestStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "simulator.json")
	c := newClock()
	open := func() (*simulator.Simulator, *world) {
		t.Helper()
		s, err := simulator.Open(path, simulator.Options{Clock: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(s.Handler())
		t.Cleanup(srv.Close)
		return s, &world{Simulator: s, t: t, url: srv.URL, clock: c, http: srv.Client()}
	}
	s, w := open()
	admin := s.AdminKey()
	ws := s.AddWorkspace("prod").ID
	id, value := w.key(simulator.CreateKey{Workspace: ws})
	dead, deadValue := w.key(simulator.CreateKey{})
	if err := s.SetStatus(dead, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	w.want(200, "POST", "/v1/messages", value, hello)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{admin, value, deadValue} {
		if bytes.Contains(raw, []byte(v)) || bytes.Contains(raw, []byte(v[20:60])) {
			t.Error("the file holds a value")
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}

	again, w2 := open()
	w2.want(200, "GET", "/v1/models", value, "")
	w2.want(401, "GET", "/v1/models", deadValue, "")
	w2.want(200, "GET", "/v1/organizations/me", admin, "")
	if d := cmp.Diff(s.Keys(), again.Keys()); d != "" {
		t.Error(d)
	}
	if again.RequestsOf(id) != 1 || again.Organization() != s.Organization() || again.DefaultWorkspace() != s.DefaultWorkspace() {
		t.Error("usage, organization or default workspace were lost")
	}
	if !again.DeleteKey(dead) || again.DeleteKey(dead) {
		t.Error("DeleteKey reports the wrong thing")
	}
	third, _ := open()
	if n := len(third.Keys()); n != 1 {
		t.Errorf("%d keys after a deletion, want 1", n)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	for name, content := range map[string]string{"garbage": "hello", "newer": `{"format":99}`, "empty": `{"format":1}`, "digest": `{"format":1,"keys":[{"sha256":"00"}]}`} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := simulator.Open(path, simulator.Options{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%s was changed", name)
		}
	}
	if _, err := simulator.Open(filepath.Join(t.TempDir(), "none", "state.json"), simulator.Options{}); err == nil {
		t.Error("Open made a state in a folder that does not exist")
	}
}
