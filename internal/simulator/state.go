package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const stateFormat = 1

// state is the file form of a simulator: digests and hints, never values.
// The provider log, batches, files, skills, containers, faults and limits are not kept.
type state struct {
	Format     int          `json:"format"`
	Simulation string       `json:"simulation"`
	OrgID      string       `json:"organization"`
	OrgName    string       `json:"organization_name"`
	DefaultWS  string       `json:"default_workspace"`
	Person     string       `json:"console_person"`
	Workspaces []*workspace `json:"workspaces"`
	Users      []*user      `json:"users"`
	Keys       []*key       `json:"keys"`
	Admins     []*adminKey  `json:"admin_keys"`
	Usage      []usageEntry `json:"usage"`
	Activities []activity   `json:"activities"`
}

type usageEntry struct {
	usageKey
	usageSum
}

// Open returns the simulator that was saved at path, or a new one that will be
// saved there. Every change of keys, workspaces and members is saved at once;
// usage is saved with it and by Close. The file has mode 0600 and holds no
// value. Organization in the options is ignored for an existing file. One
// process may use a file at a time.
func Open(path string, o Options) (*Simulator, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		s := New(o)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.statePath = path
		s.persist()
		if s.saveErr != nil {
			return nil, fmt.Errorf("open simulator state: %w", s.saveErr)
		}
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open simulator state: %w", err)
	}
	var st state
	if err := json.Unmarshal(raw, &st); err != nil {
		return nil, fmt.Errorf("read simulator state %q: %w", path, err)
	}
	if st.Format != stateFormat {
		return nil, fmt.Errorf("read simulator state %q: format %d is not known", path, st.Format)
	}
	if err := st.check(); err != nil {
		return nil, fmt.Errorf("read simulator state %q: %w", path, err)
	}
	s := newEmpty(o)
	s.statePath = path
	s.restore(st)
	return s, nil
}

// check refuses what save never writes.
func (st state) check() error {
	switch {
	case st.OrgID == "":
		return errors.New("the organization is missing")
	case slices.Contains(st.Workspaces, nil), slices.Contains(st.Users, nil), slices.Contains(st.Keys, nil), slices.Contains(st.Admins, nil):
		return errors.New("a list has an empty entry")
	case !slices.ContainsFunc(st.Workspaces, func(w *workspace) bool { return w.ID == st.DefaultWS }):
		return errors.New("the default workspace is missing")
	}
	return nil
}

func (s *Simulator) restore(st state) {
	s.orgID, s.orgName, s.defaultWS, s.consoleBy = st.OrgID, st.OrgName, st.DefaultWS, st.Person
	s.workspaces, s.users, s.keys, s.admins, s.activities = st.Workspaces, st.Users, st.Keys, st.Admins, st.Activities
	for _, k := range s.keys {
		s.byDigest[k.Digest] = k
	}
	for _, a := range s.admins {
		s.adminBy[a.Digest] = a
	}
	for _, u := range st.Usage {
		s.usage[u.usageKey] = u.usageSum
	}
}

// Close saves the state where Open was told to, and returns the last error of
// saving. A simulator made by New has nothing to save. It may be called twice.
func (s *Simulator) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.persist()
	return s.saveErr
}

// persist saves the state if there is a place for it. The caller holds the lock.
func (s *Simulator) persist() {
	if s.statePath == "" {
		return
	}
	if s.saveErr = s.save(); s.saveErr != nil {
		s.log.Error("save simulator state", "error", s.saveErr)
	}
}

func (s *Simulator) save() error {
	st := state{
		Format: stateFormat, Simulation: "This file belongs to a simulation; it holds no key values.",
		OrgID: s.orgID, OrgName: s.orgName, DefaultWS: s.defaultWS, Person: s.consoleBy,
		Workspaces: s.workspaces, Users: s.users, Keys: s.keys, Admins: s.admins, Activities: s.activities,
	}
	s.settle(s.now())
	for k, v := range s.usage {
		st.Usage = append(st.Usage, usageEntry{k, v})
	}
	raw, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return fmt.Errorf("marshal state: %w", err)
	}
	return writeFile(s.statePath, raw)
}

// writeFile replaces path atomically with mode 0600.
func writeFile(path string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("create state: %w", err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write state: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
