// Package app assembles Keywright: it opens the store, custody, provider and locations that a configuration names, makes plans, and
// hands a runner all that it needs. It decides nothing about keys itself. The command line, the daemon and the demo call it.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/notify"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/release"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Options adjusts an App.
type Options struct {
	// Config is the configuration to work with. It is required.
	Config *config.Config
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Actor names who acts, in the audit log; empty means the operating-system user.
	Actor string
	// Log receives what operators read; nil means nothing.
	Log *slog.Logger
	// Version is the program's version, for the user agent.
	Version string
	// AcceptProviderChange allows another provider URL than the one that the store was first used with.
	AcceptProviderChange bool
	// BackedUp says that a PostgreSQL database was backed up, so that its schema may be brought forward.
	BackedUp bool
	// Fault is handed to the runner; tests of crashes use it.
	Fault func(point string, e rotation.Effect) error
}

// App is an assembled Keywright. It is safe for concurrent use. Close it.
type App struct {
	Config   *config.Config
	Store    *store.Store
	Provider provider.Provider
	Runner   *runner.Runner
	Intake   *intake.Intake
	Actor    string
	UID      int

	options  Options
	stateDir string
	now      func() time.Time
	log      *slog.Logger
	vault    *vault
	released *release.Book
	signer   *audit.Signer
	// tell tells people; nil where no channel is configured.
	tell func(ctx context.Context, n notify.Notice) error

	mu     sync.Mutex
	opened map[string]*location.Location
}

// Open assembles an App. Nothing is asked of the provider or of a place. Kinds are those of the parts.
func Open(ctx context.Context, o Options) (*App, error) {
	a := &App{Config: o.Config, options: o, now: o.Now, log: o.Log, Actor: o.Actor, UID: os.Getuid(), opened: map[string]*location.Location{}}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.Actor == "" {
		a.Actor = systemUser()
	}
	if err := a.openStore(ctx); err != nil {
		return nil, err
	}
	if err := a.openRest(ctx); err != nil {
		_ = a.Store.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) openRest(ctx context.Context) error {
	if err := a.openCustody(ctx); err != nil {
		return err
	}
	if err := a.openProvider(ctx); err != nil {
		return err
	}
	var err error
	if a.tell, err = a.teller(); err != nil {
		return err
	}
	a.released = &release.Book{Store: a.Store, Unseal: a.vault.Open, Now: a.now}
	a.Intake = &intake.Intake{Store: a.Store, Vault: a.vault, Provider: a.Provider, ProviderURL: a.Config.Provider.URL, Signal: a.spareAdded, Now: a.now, Log: a.log}
	a.Runner = runner.New(runner.Surroundings{
		Store: a.Store, Vault: a.vault, Provider: a.Provider, Place: a.openPlanned, Places: a.configured, Gateways: a.gatewayFact, Test: a.runTest, Tell: a.tellRotation(), Report: a.report,
		Now: a.now, Log: a.log, Fault: a.options.Fault,
	})
	return nil
}

// Close gives the store back.
func (a *App) Close() {
	if err := a.Store.Close(); err != nil {
		a.log.Warn("store not closed in order", "error", err)
	}
}

// StateDir is the private directory of this organization.
func (a *App) StateDir() string { return a.stateDir }

// Now is the clock.
func (a *App) Now() time.Time { return a.now() }

func systemUser() string {
	name := fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

func (a *App) openStore(ctx context.Context) error {
	a.stateDir = a.Config.State.Dir
	if err := os.MkdirAll(a.stateDir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make state directory", fault.Hint("set state.dir in keywright.yaml to a directory of yours"))
	}
	url, err := a.Config.State.Store.Resolve(ctx, a.Config.Dir, a.stateDir)
	if err != nil {
		return err
	}
	a.Store, err = store.Open(ctx, url, store.Options{Now: a.now, Actor: a.Actor, BackedUp: a.options.BackedUp})
	return err
}

func (a *App) openCustody(ctx context.Context) error {
	// New keys are made only while nothing depends on older ones.
	var empty, unsigned bool
	var known string
	err := a.Store.View(ctx, func(tx *store.Tx) error {
		ids, err := tx.SealedIDs()
		if err != nil {
			return err
		}
		signed, err := tx.Checkpoints()
		if err != nil {
			return err
		}
		known, _, err = tx.Meta(metaAuditKey)
		empty, unsigned = len(ids) == 0, len(signed) == 0 && known == ""
		return err
	})
	if err != nil {
		return err
	}
	dir, err := config.UserDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make configuration directory")
	}
	master, err := custody.OpenMaster(ctx, a.Config.State.MasterKey, custody.Env{ConfigDir: dir, DataDir: a.stateDir, FirstRun: empty})
	if err != nil {
		return err
	}
	a.vault = &vault{store: a.Store, custody: custody.New(master)}
	a.signer, err = audit.OpenSigner(filepath.Join(dir, "audit.key"), a.stateDir, unsigned)
	if fault.Is(err, fault.NotFound) {
		return fault.In(err, "open audit key", fault.Hint("copy audit.key from another host of this store, or from your backup"))
	}
	if err != nil || a.signer.KeyID() == known {
		return err
	}
	return a.pinSigner(ctx)
}

// metaAuditKey is where the store remembers which key signs its checkpoints.
const metaAuditKey = "audit key"

// pinSigner refuses an audit key other than the one that the store was first used with: hosts that share a store would sign with several keys, and
// each would call the checkpoints of the others forged.
func (a *App) pinSigner(ctx context.Context) error {
	return a.Store.Update(ctx, func(tx *store.Tx) error {
		known, _, err := tx.Meta(metaAuditKey)
		switch {
		case err != nil || known == a.signer.KeyID():
			return err
		case known == "":
			return tx.SetMeta(metaAuditKey, a.signer.KeyID())
		}
		return fault.New(fault.Conflict, fmt.Sprintf("open audit key: this host has %s, and this store was used with %s", a.signer.KeyID(), known),
			fault.Hint("copy audit.key from another host of this store, or from your backup"))
	})
}

// metaProviderURL is where the store remembers which provider it belongs to.
const metaProviderURL = "provider url"

func (a *App) openProvider(ctx context.Context) error {
	c := a.Config.Provider
	pc := anthropic.Config{BaseURL: c.URL, Model: c.SmokeModel, HTTP: httpx.Options{UserAgent: "keywright/" + a.options.Version, Log: a.log, Now: a.now}}
	if c.AdminKey != "" {
		pc.AdminKey = func(ctx context.Context) (secret.Value, error) { return c.AdminKey.Resolve(ctx, a.Config.Dir) }
	}
	var err error
	if a.Provider, err = anthropic.New(pc); err != nil {
		return err
	}
	return a.pinProvider(ctx, c.URL)
}

// pinProvider refuses a provider URL that changed without anybody saying so: values would go to another host.
func (a *App) pinProvider(ctx context.Context, url string) error {
	var known string
	err := a.Store.View(ctx, func(tx *store.Tx) (err error) {
		known, _, err = tx.Meta(metaProviderURL)
		return err
	})
	if err != nil || known == url {
		return err
	}
	if known != "" && !a.options.AcceptProviderChange {
		return fault.New(fault.Conflict, fmt.Sprintf("open provider: the configuration says %q, and this store was used with %q", url, known),
			fault.Hint("if that is meant: add --accept-provider-change once"))
	}
	return a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.SetMeta(metaProviderURL, url); err != nil || known == "" {
			return err
		}
		return tx.Record(event.Event{Type: event.ProviderChanged, Text: known + " to " + url})
	})
}

// vault joins the sealed values of the store with custody.
type vault struct {
	store   *store.Store
	custody *custody.Custody
}

const purposeValue = "value"

func (v *vault) binding(id apikey.VersionID, key apikey.Name, generation int) custody.Binding {
	return custody.Binding{Store: v.store.ID(), Key: key, Version: id, Purpose: purposeValue, Generation: generation}
}

// Seal encrypts a value for the store.
func (v *vault) Seal(ctx context.Context, id apikey.VersionID, key apikey.Name, value secret.Value) (secret.Sealed, int, error) {
	const generation = 1
	sealed, err := v.custody.Seal(ctx, value, v.binding(id, key, generation))
	return sealed, generation, err
}

// Open decrypts the value of a version. The caller destroys it.
func (v *vault) Open(ctx context.Context, id apikey.VersionID) (secret.Value, error) {
	var version apikey.Version
	var sealed secret.Sealed
	var generation int
	err := v.store.View(ctx, func(tx *store.Tx) (err error) {
		if version, err = tx.Version(id); err != nil {
			return err
		}
		sealed, generation, err = tx.Sealed(id)
		return err
	})
	if err != nil {
		return secret.Value{}, err
	}
	value, err := v.custody.Open(ctx, sealed, v.binding(id, version.Key, generation))
	if err == nil && value.Digest() != version.Digest {
		value.Destroy()
		return secret.Value{}, fault.Newf(fault.Corrupt, "open value of %s: it is not the value that was sealed", version.Fingerprint())
	}
	return value, err
}

var _ runner.Vault = (*vault)(nil)

// Rewrap seals every value anew under another master; a master file that is missing is made. It is repeatable: values that the new master seals
// already are passed over. It gives the number of values under the new master.
func (a *App) Rewrap(ctx context.Context, spec string) (int, error) {
	dir, err := config.UserDir()
	if err != nil {
		return 0, err
	}
	// A relative path starts where it does in keywright.yaml, since that is where the name goes next.
	if scheme, path, ok := strings.Cut(spec, ":"); ok && (scheme == "file" || scheme == "age") && !filepath.IsAbs(path) {
		spec = scheme + ":" + filepath.Join(a.Config.Dir, path)
	}
	master, err := custody.OpenMaster(ctx, spec, custody.Env{ConfigDir: dir, DataDir: a.stateDir, FirstRun: true})
	if err != nil {
		return 0, err
	}
	next := custody.New(master)
	done := 0
	err = a.Store.Update(ctx, func(tx *store.Tx) error {
		done = 0
		ids, err := tx.SealedIDs()
		if err != nil {
			return err
		}
		for _, id := range ids {
			version, err := tx.Version(id)
			if err != nil {
				return err
			}
			sealed, generation, err := tx.Sealed(id)
			if err != nil {
				return err
			}
			b := a.vault.binding(id, version.Key, generation)
			again, err := a.vault.custody.Rewrap(ctx, sealed, b, master)
			if err != nil {
				return err
			}
			if err := tx.PutSealed(id, again, generation); err != nil {
				return err
			}
			done++
		}
		return tx.Record(event.Event{Type: event.MasterChanged, Text: fmt.Sprintf("%d values, from %s to %s", done, a.vault.custody.MasterID(), next.MasterID())})
	})
	return done, err
}
