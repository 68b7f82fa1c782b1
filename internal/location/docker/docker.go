// Package docker keeps a key in a variable of a Docker container's environment. An environment cannot be changed, so the
// container is made anew with the same configuration, and the old one is kept, stopped and renamed, until its value is
// purged. The driver never pulls an image, never removes a container that it did not make or a volume, and never runs
// anything inside a container. Location calls it.
package docker

import (
	"context"
	_ "embed" // for meta.toml
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// Config is the configuration of one location.
type Config struct {
	Host         string `yaml:"host" help:"Address of the Docker engine: unix:///PATH, or tcp://ADDRESS:PORT." default:"unix:///var/run/docker.sock"`
	Certificates string `yaml:"certificates" help:"Folder with ca.pem, cert.pem and key.pem, for an engine reached over TCP."`
	Container    string `yaml:"container" help:"Name of the container." required:"true"`
	Variable     string `yaml:"variable" help:"Variable of its environment that holds the value." default:"ANTHROPIC_API_KEY"`
	AllowCompose bool   `yaml:"allow_compose" help:"Write although Compose made the container and will make it anew from its own files." default:"false"`
}

//go:embed meta.toml
var meta []byte

// Kind describes the connector.
func Kind() location.Kind { return location.NewKind("docker", meta, Open) }

const defaultHost = "unix:///var/run/docker.sock"

var (
	nameRE     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`) })
	variableRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })
	tcpRE      = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^tcp://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}$`)
	})
	loopbackRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^tcp://(127\.[0-9.]+|localhost|\[::1\]):`) })
)

// Open makes the driver and no connection. Errors are Invalid.
func Open(cfg Config, env location.Env) (location.Driver, error) {
	bad := func(what, hint string) error {
		return fault.New(fault.Invalid, "open container: "+what, fault.Hint("%s", hint))
	}
	if cfg.Host == "" {
		cfg.Host = defaultHost
	}
	if cfg.Variable == "" {
		cfg.Variable = "ANTHROPIC_API_KEY"
	}
	socket, isSocket := strings.CutPrefix(cfg.Host, "unix://")
	switch {
	case !nameRE().MatchString(cfg.Container):
		return nil, bad(fmt.Sprintf("%q is no name of a container", cfg.Container), "see the last column of: docker ps")
	case !variableRE().MatchString(cfg.Variable):
		return nil, bad(fmt.Sprintf("%q is no name of a variable", cfg.Variable), "letters, digits and underscores")
	case isSocket && !filepath.IsAbs(socket), !isSocket && !tcpRE().MatchString(cfg.Host):
		return nil, bad(fmt.Sprintf("%q is no address of an engine", cfg.Host), "write unix:///PATH or tcp://ADDRESS:PORT")
	case !isSocket && cfg.Certificates == "" && !loopbackRE().MatchString(cfg.Host):
		return nil, bad("an engine on another host needs certificates", "name the folder with ca.pem, cert.pem and key.pem as certificates")
	}
	if cfg.Certificates != "" && !filepath.IsAbs(cfg.Certificates) {
		cfg.Certificates = filepath.Join(env.Dir, cfg.Certificates)
	}
	now := env.Now
	if now == nil {
		now = time.Now
	}
	return &driver{cfg: cfg, now: now, api: &engine{host: cfg.Host, certificates: cfg.Certificates}}, nil
}

// driver is one variable of one container. It is safe for concurrent use.
type driver struct {
	cfg Config
	now func() time.Time
	api *engine
}

var (
	_ location.Driver    = (*driver)(nil)
	_ location.Reader    = (*driver)(nil)
	_ location.Stager    = (*driver)(nil)
	_ location.Promoter  = (*driver)(nil)
	_ location.Unstager  = (*driver)(nil)
	_ location.Confirmer = (*driver)(nil)
	_ location.Prober    = (*driver)(nil)
	_ location.Restorer  = (*driver)(nil)
	_ location.Remover   = (*driver)(nil)
	_ location.Checker   = (*driver)(nil)
	_ location.Addresser = (*driver)(nil)
)

// Facts of receipts and holdings.
const (
	factContainer = "container" // the id of the container that the receipt is about
	factBefore    = "before"    // the id of the one that it replaces
	factState     = "state"
)

// Inspect implements location.Driver. The value is read back from the configuration of the container in force. While a
// switch is unfinished, the fact "state" says so.
func (d *driver) Inspect(ctx context.Context) (location.Holding, error) {
	f, err := d.look(ctx)
	if err != nil {
		return location.Holding{}, err
	}
	return f.holding(), nil
}

// Put implements location.Driver: Stage and Promote in one. Putting what is held finishes, or takes back, a switch that a crash left
// half done.
func (d *driver) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	f, staged, err := d.stage(ctx, v, expect, false)
	if err != nil {
		return location.Receipt{}, err
	}
	return d.activate(ctx, f, staged)
}

// Read implements location.Reader.
func (d *driver) Read(ctx context.Context) (secret.Value, error) {
	f, err := d.look(ctx)
	if err != nil {
		return secret.Value{}, err
	}
	if f.current == nil {
		return secret.Value{}, d.missing()
	}
	value, _ := lookup(f.current.environment(), d.cfg.Variable)
	if value == "" {
		return secret.Value{}, fault.Newf(fault.NotFound, "read container %q: its environment has no %s", d.cfg.Container, d.cfg.Variable)
	}
	return secret.New([]byte(value)), nil
}

func (d *driver) missing() error {
	return fault.New(fault.NotFound, fmt.Sprintf("find container %q: there is none", d.cfg.Container), fault.Hint("compare the name with: docker ps --all"))
}

// Stage implements location.Stager: it makes the new container and does not start it.
func (d *driver) Stage(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	_, staged, err := d.stage(ctx, v, expect, true)
	return staged, err
}

// Promote implements location.Promoter: the old container is renamed and stopped, the new one gets its name and is started.
// When it does not start, the old one is started again.
func (d *driver) Promote(ctx context.Context, staged location.Receipt) (location.Receipt, error) {
	f, err := d.look(ctx)
	if err != nil {
		return location.Receipt{}, err
	}
	if f.current == nil {
		return location.Receipt{}, d.missing()
	}
	if id := f.current.ID; id != staged.Facts[factContainer] && id != staged.Facts[factBefore] {
		return location.Receipt{}, conflict(fmt.Sprintf("promote container %q: it was replaced since the new one was staged", d.cfg.Container))
	}
	return d.activate(ctx, f, staged)
}

// Unstage implements location.Unstager: it removes the new container, unless it is in force.
func (d *driver) Unstage(ctx context.Context, staged location.Receipt) error {
	f, err := d.look(ctx)
	if err != nil {
		return err
	}
	m := f.member(staged.Facts[factContainer])
	if m == nil || m.role != waiting {
		return nil
	}
	return d.discard(ctx, m)
}

// Confirm implements location.Confirmer: every running container of this name, also one that a crash left running beside, by its
// environment.
func (d *driver) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	f, err := d.look(ctx)
	if err != nil {
		return location.Confirmation{}, err
	}
	c := location.Confirmation{How: location.ReadBack, Facts: map[string]string{}}
	for _, m := range f.members {
		if !m.running() {
			continue
		}
		c.Running++
		switch digest := m.digest; {
		case digest.Same(want):
			c.Taken++
			c.Facts[factContainer] = m.short()
		case digest.Known():
			c.Old++
		default:
			c.Unknown++
		}
	}
	return c, nil
}

// settled is how long a container must have run before a restart that the engine counted is no sign of a loop any more.
const settled = 10 * time.Second

// Probe implements location.Prober.
func (d *driver) Probe(ctx context.Context) error {
	f, err := d.look(ctx)
	if err != nil {
		return err
	}
	if f.current == nil {
		return d.missing()
	}
	s, name := f.current.State, f.current.name()
	bad := func(what string) error {
		return fault.New(fault.Unavailable, fmt.Sprintf("probe container %q: %s", name, what), fault.Hint("see: docker logs %s", name))
	}
	switch {
	case s.Restarting:
		return bad(fmt.Sprintf("it restarts again and again, the last time with exit code %d", s.ExitCode))
	case s.Paused:
		return bad("it is paused")
	case !s.Running:
		return bad(fmt.Sprintf("it does not run, the exit code is %d", s.ExitCode))
	case f.current.RestartCount > 0 && d.now().Sub(s.StartedAt) < settled:
		return bad(fmt.Sprintf("it was restarted %d times, the last time within %v", f.current.RestartCount, settled))
	case s.Health != nil && s.Health.Status == "starting":
		return bad("its health check has not succeeded yet")
	case s.Health != nil && s.Health.Status == "unhealthy":
		return bad("its health check fails")
	}
	return nil
}

// Restore implements location.Restorer: the container from before gets the name back and is started, the other is kept.
func (d *driver) Restore(ctx context.Context, promoted location.Receipt) (location.Receipt, error) {
	f, err := d.look(ctx)
	if err != nil {
		return location.Receipt{}, err
	}
	if f.current == nil {
		return location.Receipt{}, d.missing()
	}
	now, before := promoted.Facts[factContainer], promoted.Facts[factBefore]
	switch id := f.current.ID; {
	case id != now && id != before:
		return location.Receipt{}, conflict(fmt.Sprintf("restore container %q: it was replaced since", d.cfg.Container))
	case f.member(before) == nil:
		return location.Receipt{}, conflict(fmt.Sprintf("restore container %q: the one from before is gone", d.cfg.Container))
	}
	return d.activate(ctx, f, location.Receipt{Replaced: f.revision(), Facts: map[string]string{factContainer: before, factBefore: now}})
}

// Remove implements location.Remover: it removes the stopped containers beside the one in force that Keywright made and that have
// the value in their environment. Volumes stay.
func (d *driver) Remove(ctx context.Context, old apikey.Digest) error {
	f, err := d.look(ctx)
	if err != nil || f.current == nil {
		return err
	}
	if f.unfinished() {
		if _, err := d.activate(ctx, f, f.receipt(f.current)); err != nil {
			return err
		}
		if f, err = d.look(ctx); err != nil {
			return err
		}
	}
	for _, m := range f.members {
		if m == f.current || !m.ours || !m.digest.Same(old) {
			continue
		}
		if err := d.discard(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// discard removes a stopped container that Keywright made. One that is gone already is success.
func (d *driver) discard(ctx context.Context, m *member) error {
	if m.running() {
		return conflict(fmt.Sprintf("remove container %q: it runs", m.name()))
	}
	if err := d.api.remove(ctx, m.box); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// Check implements location.Checker. The engine knows no rights: who may use its socket may do everything.
func (d *driver) Check(ctx context.Context) []error {
	f, err := d.look(ctx)
	if err != nil {
		return []error{err}
	}
	if f.current == nil {
		return []error{d.missing()}
	}
	var problems []error
	if err := d.replaceable(ctx, f.current); err != nil {
		problems = append(problems, err)
	}
	if project := f.current.labels()["com.docker.compose.project"]; project != "" && !d.cfg.AllowCompose {
		problems = append(problems, fault.New(fault.Conflict, fmt.Sprintf("check container %q: Compose made it and will make it anew from its own files", d.cfg.Container),
			fault.Hint("use a location of kind env-file on the project's .env with a command that reloads it, or set allow_compose: true")))
	}
	if f.unfinished() {
		problems = append(problems, fault.New(fault.Conflict, fmt.Sprintf("check container %q: a switch was begun and not finished", d.cfg.Container),
			fault.Hint("keywright resume finishes it; compare with: docker ps --all")))
	}
	return problems
}

// Address implements location.Addresser.
func (d *driver) Address() string { return d.cfg.Host + "|" + d.cfg.Container }

// carriable reports whether an environment can hold the value: text without a zero byte.
func carriable(v secret.Value) bool {
	ok := false
	v.Reveal(func(b []byte) { ok = utf8.Valid(b) && !strings.Contains(string(b), "\x00") })
	return ok
}

func conflict(what string) error {
	return fault.New(fault.Conflict, what, fault.Hint("look at it with docker ps --all, then plan again"))
}
