// Package demo shows the whole life of a key in less than 90 seconds: it deploys small real applications that call a simulated provider without a
// pause, and runs the real program against them, kills it once, rotates, rolls back and replaces a leaked key, and counts every request.
// It decides nothing about keys and prints no value. It leaves nothing behind: processes are ended and files removed. The demo command calls it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/simulator"
)

// Options adjusts a demo.
type Options struct {
	// Out gets the text.
	Out io.Writer
	// Executable is the program to run, absolute.
	Executable string
	// Keep is an empty directory to work in that is left as it is at the end. Without it a temporary one is made and removed. A test that searches for
	// leaked values uses it.
	Keep string
	// Seed makes the values those that NewCast makes from it. Such values can be guessed. A test that searches for them uses it.
	Seed uint64
}

// limit is how long a demo may take, without what it does to end.
const limit = 85 * time.Second

// demo is a running demo.
type demo struct {
	*screen
	Options
	dir     string
	sim     *simulator.Simulator
	cast    *Cast
	url     string // of the simulated provider
	moto    string // address of Moto, or empty
	noMoto  string // why there is none
	channel string // address of the team's channel
	notices atomic.Int64
	apps    []*deployment
	start   time.Time
	cleanup []func()

	mu       sync.Mutex
	programs []*program
}

// deployment is an application and the place that its key is in.
type deployment struct {
	*supervisor
	app   Application
	place string
	where string // in words
	key   string // name of the key
}

// Run shows the demo. It returns nil when everything happened as told, and otherwise the reason; by then every process is ended and every file
// removed. Kinds: Canceled when ctx ended, Unavailable when the demo took too long, and those of the parts.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{screen: &screen{out: o.Out}, Options: o, start: time.Now()}
	within, cancel := context.WithTimeoutCause(ctx, limit, fault.Newf(fault.Unavailable, "it did not come to its end within %s", limit))
	defer cancel()
	defer func() {
		d.end()
		if err != nil {
			for _, text := range d.private {
				d.say(text)
			}
			err = fault.In(cause(within, err), "show demo")
		}
	}()
	if err := d.prepare(within); err != nil {
		return err
	}
	return d.play(within)
}

// cause gives the reason why the context ended, if that is why err came about.
func cause(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	why := context.Cause(ctx)
	if errors.Is(why, context.Canceled) {
		return fault.New(fault.Canceled, "interrupted; every process is ended and every file removed")
	}
	return why
}

// prepare builds the small world: provider, files, applications.
func (d *demo) prepare(ctx context.Context) error {
	if err := d.makeDir(); err != nil {
		return err
	}
	sim := simulator.New(simulator.Options{Seed: d.Seed, OrganizationName: "Demo", Latency: 20 * time.Millisecond, StreamPause: 2 * time.Millisecond})
	cast, err := NewCast(sim)
	if err != nil {
		return err
	}
	d.sim, d.cast = sim, cast
	if err := d.serve(ctx, sim); err != nil {
		return err
	}
	d.startMoto(ctx)
	if err := d.listenForNotices(ctx); err != nil {
		return err
	}
	if err := d.deploy(ctx); err != nil {
		return err
	}
	return d.configure()
}

func (d *demo) makeDir() error {
	d.dir = d.Keep
	if d.dir == "" {
		dir, err := os.MkdirTemp("", "keywright-demo-")
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "make directory")
		}
		d.dir = dir
		d.cleanup = append(d.cleanup, func() {
			if err := os.RemoveAll(dir); err != nil {
				d.say("not removed: " + err.Error())
			}
		})
	}
	// The configuration's directory is named by its real path: a link above it would be another name for the same file.
	real, err := filepath.EvalSymlinks(d.dir)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "make directory")
	}
	d.dir = real
	for _, name := range []string{"home", "config", "state", "tmp", "witness"} {
		if err := os.Mkdir(filepath.Join(d.dir, name), 0o700); err != nil {
			return fault.Wrap(fault.Unavailable, err, "make directory")
		}
	}
	return nil
}

// serve puts the simulated provider on a loopback address.
func (d *demo) serve(ctx context.Context, sim *simulator.Simulator) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "listen for the simulated provider")
	}
	d.url = "http://" + l.Addr().String()
	server := &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	d.cleanup = append(d.cleanup, func() { _ = server.Close() })
	return nil
}

// listenForNotices is the team's channel: it counts what people would have been told.
func (d *demo) listenForNotices(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "listen for notices")
	}
	d.channel = "http://" + l.Addr().String() + "/notices"
	mux := http.NewServeMux()
	mux.HandleFunc("POST /notices", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 64<<10)); err == nil {
			d.notices.Add(1)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	d.cleanup = append(d.cleanup, func() { _ = server.Close() })
	return nil
}

// deploy starts the applications, each with the key of its place.
func (d *demo) deploy(ctx context.Context) error {
	const variable = "ANTHROPIC_API_KEY"
	primary, secondary := d.cast.Primary, d.cast.Secondary
	d.apps = []*deployment{
		{place: "staging-env", key: primary.Name, where: "env file", app: Application{File: "staging.env", Rate: 2, Workers: 2}},
		{place: "web-env", key: primary.Name, where: "env file", app: Application{File: "web.env", Rate: 8, Workers: 3}},
		{place: "agent-aws", key: primary.Name, where: "Secrets Manager (moto)", app: Application{Secret: "demo/anthropic", Endpoint: d.moto, Rate: 5, Workers: 2}},
		{place: "batch-env", key: secondary.Name, where: "env file", app: Application{File: "batch.env", Rate: 10, Workers: 3}},
	}
	if d.moto == "" {
		d.apps[2].place, d.apps[2].where, d.apps[2].app = "agent-env", "env file", Application{File: "agent.env", Rate: 5, Workers: 2}
	}
	for _, a := range d.apps {
		value := primary.Old
		if a.key == secondary.Name {
			value = secondary.Old
		}
		a.app.URL = d.url
		var err error
		if a.app.File != "" {
			a.app.File, a.app.Variable = filepath.Join(d.dir, a.app.File), variable
			content := "# read once, when the application starts\nLOG_LEVEL=info\n" + variable + "=" + value.RevealString() + "\nPORT=8080\n"
			err = os.WriteFile(a.app.File, []byte(content), 0o600)
		} else {
			err = createSecret(ctx, a.app, value)
		}
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "deploy "+a.place)
		}
		name, _, _ := strings.Cut(a.place, "-")
		if a.supervisor, err = newSupervisor(ctx, name, func() *exec.Cmd { return d.application(a.app) }); err != nil {
			return err
		}
	}
	return nil
}

// application is the command of a new worker.
func (d *demo) application(a Application) *exec.Cmd {
	cmd := exec.Command(d.Executable, a.Arguments()...) //nolint:noctx // its supervisor drains it
	cmd.Dir = d.dir
	cmd.Env = d.environment()
	cmd.Stderr = &lines{each: func(line string) { d.log("application: " + line) }}
	return cmd
}

// environment is all that a child process sees of ours: whatever it keeps for a user is in the demo's directory.
func (d *demo) environment() []string {
	in := func(name string) string { return filepath.Join(d.dir, name) }
	var env []string
	for _, name := range []string{"PATH", "LANG", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "NO_COLOR=1",
		"HOME="+in("home"), "TMPDIR="+in("tmp"), "KEYWRIGHT_CONFIG_DIR="+in("config"),
		"AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+accessKey, "AWS_EC2_METADATA_DISABLED=true",
	)
}

// configure writes keywright.yaml and the admin key that it refers to.
func (d *demo) configure() error {
	var admin []byte
	d.cast.Admin.Reveal(func(b []byte) { admin = append(append(admin, b...), '\n') })
	defer clear(admin)
	err := os.WriteFile(filepath.Join(d.dir, "admin.key"), admin, 0o600)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.dir, "keywright.yaml"), []byte(d.configuration()), 0o600)
	}
	return fault.Wrap(fault.Unavailable, err, "write configuration")
}

func (d *demo) configuration() string {
	var b strings.Builder
	fmt.Fprintf(&b, "organization: demo\nprovider:\n  url: %s\n  admin_key: file:admin.key\nstate:\n  dir: state\n  witness: witness/checkpoints\nnotify:\n  - webhook: %s\n", d.url, d.channel)
	key := func(name, class, more string) {
		fmt.Fprintf(&b, "  %s:\n    class: %s\n    owner: platform@demo.example\n    organization: %s\n    workspace: %s\n%s", name, class, d.cast.Organization, d.cast.Workspace, more)
	}
	b.WriteString("keys:\n")
	key(d.cast.Primary.Name, "production-primary", fmt.Sprintf(`    backup: %s
    approvals: 0
    soak: 3s
    watch: 2s
    health_wait: 1s
    waves:
      - { name: staging, locations: [%s] }
      - { name: production, locations: [%s, %s], batch: 50%%, watch: 1s }
`, d.cast.Secondary.Name, d.apps[0].place, d.apps[1].place, d.apps[2].place))
	key(d.cast.Secondary.Name, "production-secondary", fmt.Sprintf("    approvals: 0\n    soak: 60s\n    watch: 2s\n    health_wait: 1s\n    locations: [%s]\n", d.apps[3].place))
	b.WriteString("locations:\n")
	for _, a := range d.apps {
		fmt.Fprintf(&b, "  %s:\n", a.place)
		if a.app.File != "" {
			fmt.Fprintf(&b, "    kind: env-file\n    path: %s\n    variable: %s\n", filepath.Base(a.app.File), a.app.Variable)
		} else {
			fmt.Fprintf(&b, "    kind: aws-secrets-manager\n    secret: %s\n    field: %s\n    region: %s\n    endpoint: %s\n", a.app.Secret, secretField, region, a.app.Endpoint)
		}
		fmt.Fprintf(&b, "    reload: { http: %s/restart }\n    confirm: { http: { url: %s/fingerprint, json: running } }\n    probe: { http: %s/healthz }\n", a.url, a.url, a.url)
	}
	return b.String()
}

// end ends every process, by its id, and removes every file.
func (d *demo) end() {
	d.mu.Lock()
	programs := d.programs
	d.mu.Unlock()
	var all sync.WaitGroup
	for _, p := range programs {
		all.Go(func() { p.stop(3 * time.Second) })
	}
	for _, a := range d.apps {
		if a.supervisor != nil {
			all.Go(a.close)
		}
	}
	all.Wait()
	for i := len(d.cleanup) - 1; i >= 0; i-- {
		d.cleanup[i]()
	}
	d.cast.destroy()
}

func (d *demo) launch(name string, cmd *exec.Cmd) (*program, error) {
	p, err := launch(name, cmd)
	if err == nil {
		d.mu.Lock()
		d.programs = append(d.programs, p)
		d.mu.Unlock()
	}
	return p, err
}
