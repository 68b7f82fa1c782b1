package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// scene is a configuration and a store to measure on.
type scene struct {
	name               string // with %d for stored
	configured, stored int
}

// surroundings are where the measured program lives: it reads and writes nothing else of its own.
type surroundings struct{ home string }

// prepare writes the configuration and the store.
func (s scene) prepare(ctx context.Context, dir string) (surroundings, error) {
	home, err := os.MkdirTemp(dir, "scene-")
	if err != nil {
		return surroundings{}, err
	}
	var keys, places strings.Builder
	for i := range s.configured {
		fmt.Fprintf(&keys, "  key-%d:\n    class: staging\n    owner: team@zen.example\n    locations: [place-%d]\n", i, i)
		fmt.Fprintf(&places, "  place-%d:\n    kind: env-file\n    path: %s/app-%d.env\n    variable: ANTHROPIC_API_KEY\n    reload: { command: systemctl restart zen }\n", i, home, i)
	}
	text := "organization: zen\nstate: { dir: state }\nkeys:\n" + keys.String() + "locations:\n" + places.String()
	if err := os.WriteFile(filepath.Join(home, "keywright.yaml"), []byte(text), 0o600); err != nil {
		return surroundings{}, err
	}
	return surroundings{home}, s.fill(ctx, filepath.Join(home, "state", "keywright.db"))
}

// fill makes a store in which each key has a current and a previous version, a place that was read back, and a rotation that ended.
func (s scene) fill(ctx context.Context, path string) error {
	st, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		return err
	}
	err = st.Update(ctx, func(tx *store.Tx) error {
		for i := range s.stored {
			if err := fillKey(tx, i); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, st.Close())
}

func fillKey(tx *store.Tx, i int) error {
	key := apikey.Name(fmt.Sprintf("key-%d", i))
	place := fmt.Sprintf("place-%d", i)
	now := time.Now().UTC()
	version := func(state apikey.State, generation int, age time.Duration) apikey.Version {
		id := fmt.Sprintf("v_%d_%d", generation, i)
		return apikey.Version{
			ID: apikey.VersionID(id), Key: key, State: state, Digest: sha256.Sum256([]byte(id)),
			ProviderID: fmt.Sprintf("apikey_01EXAMPLE%08d%d", i, generation), Environment: apikey.Staging, Created: now.Add(-age), Added: now.Add(-age), Activated: now.Add(-age),
		}
	}
	current, previous := version(apikey.Current, 1, 24*time.Hour), version(apikey.Previous, 2, 48*time.Hour)
	for _, v := range []apikey.Version{current, previous} {
		if err := tx.PutVersion(v); err != nil {
			return err
		}
	}
	plan := rotation.Plan{
		ID: fmt.Sprintf("r-%d", i), Key: key, Process: rotation.ProcessOrdinary, Old: previous.ID,
		Places: []rotation.Place{{Name: place, Kind: "env-file", Address: "env-file:/etc/" + place, Config: json.RawMessage(`{"path":"/etc/app.env","variable":"ANTHROPIC_API_KEY"}`)}},
	}
	if err := tx.CreateRotation(rotation.Row{ID: plan.ID, Key: key, Kind: rotation.Manual, Status: rotation.Running, Plan: plan}); err != nil {
		return err
	}
	if err := tx.SetStatus(plan.ID, 0, store.SetStatus{Status: rotation.Done}); err != nil {
		return err
	}
	if err := tx.SetDesired(store.Desired{Location: place, Key: key, Version: current.ID, Rotation: plan.ID}); err != nil {
		return err
	}
	held, err := json.Marshal(location.Holding{Present: true, How: location.ReadBack, Digest: current.Digest, ChangedAt: now, Revision: "sha256:0123456789abcdef"})
	if err != nil {
		return err
	}
	return tx.PutObservation(store.Observation{Location: place, Holding: held})
}

// start runs the program once. A status that lacks keys is an error, so that a fast refusal is never taken for a fast answer.
func start(ctx context.Context, env surroundings, binary string, keys int, args ...string) (spent, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = env.home
	cmd.Env = []string{"HOME=" + env.home, "PATH=" + os.Getenv("PATH"), "KEYWRIGHT_CONFIG_DIR=" + filepath.Join(env.home, "config")}
	cmd.Stdout, cmd.Stderr = &out, &errOut
	begin := time.Now()
	err := cmd.Run()
	wall := time.Since(begin)
	if cmd.ProcessState == nil {
		return spent{}, err
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != fault.ExitFindings {
		return spent{}, fmt.Errorf("run keywright %s: exit %d\n%s", args[0], code, errOut.Bytes())
	}
	if args[0] == "status" {
		if n := bytes.Count(out.Bytes(), []byte("\nkey-")); n != keys {
			return spent{}, fmt.Errorf("run keywright status: it shows %d keys, not %d\n%s", n, keys, errOut.Bytes())
		}
	}
	x := spent{wall: wall, processor: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		x.peak = int64(u.Maxrss)      //nolint:unconvert // It is shorter on systems of 32 bits.
		if runtime.GOOS != "darwin" { // which counts bytes
			x.peak <<= 10
		}
	}
	return x, nil
}
