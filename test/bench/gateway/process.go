package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/gateway"
)

// process is a gateway that runs.
type process struct {
	cmd    *exec.Cmd
	dir    string // its state, keys and logs
	url    string
	token  string
	status *http.Client
	admin  *gateway.Client
	ended  chan error
}

// primary is the name of the key that --key gives.
const primary = apikey.Name("primary")

// start runs the built program in front of an upstream, with no configuration file. The first key is the primary one.
func start(ctx context.Context, binary, dir, upstream string, keys []*account) (*process, error) {
	args := []string{"--listen", "127.0.0.1:0", "--upstream", upstream, "--state-dir", dir, "--access-log", filepath.Join(dir, "access.log")}
	for i, k := range keys {
		path, err := keyFile(dir, i, k)
		if err != nil {
			return nil, err
		}
		flag := "--backup"
		if i == 0 {
			flag = "--key"
		}
		args = append(args, flag, "file:"+path)
	}
	return startWith(ctx, binary, dir, nil, args...)
}

// everything is a configuration in which all that a request may pass is on: guards of each kind, the cache, the queue, and a price for the model.
const everything = `organization: bench
keys:
  primary: { class: production-primary, owner: dev@bench.example, locations: [behind] }
locations:
  behind: { kind: gateway, key: primary }
gateway:
  listen: 127.0.0.1:0
  upstream: %[1]s
  state_dir: %[2]s
  access_log: access.log
  keys:
    - { key: primary, source: "file:%[2]s/0.key" }
  prices: prices.yaml
  apps:
    bench:
      models: ["claude-*"]
      requests_per_minute: 1000000000
      tokens_per_minute: 1000000000
      concurrent: 100000
      cost_per_day: 1000000000
      cache: [messages]
  queue:
    master_key: "file:%[2]s.master"
  traces:
    endpoint: http://127.0.0.1:9
`

// startFull is start with everything on. Traces are made for the callers that ask for them, which are none here.
func startFull(ctx context.Context, binary, dir, upstream string, key *account) (*process, error) {
	if _, err := keyFile(dir, 0, key); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "keywright.yaml")
	for name, text := range map[string]string{
		path:                              fmt.Sprintf(everything, upstream, dir),
		filepath.Join(dir, "prices.yaml"): "date: 2026-11-01\ncurrency: USD\nmodels:\n  haiku: { input: 1, output: 5 }\n",
		dir + ".master":                   rand.Text() + rand.Text()[:6],
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return startWith(ctx, binary, dir, []string{"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0"}, "--config", path)
}

// keyFile writes the file of a key. The directory is made when it is not there.
func keyFile(dir string, i int, k *account) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(dir, strconv.Itoa(i)+".key")
	return path, writeKey(path, k.text)
}

// startWith runs the built program, and waits until it serves.
func startWith(ctx context.Context, binary, dir string, env []string, args ...string) (*process, error) {
	g := &process{dir: dir, ended: make(chan error, 1)}
	g.cmd = exec.CommandContext(ctx, binary, append([]string{"gateway"}, args...)...)
	g.cmd.Cancel = func() error { return g.cmd.Process.Signal(syscall.SIGTERM) }
	g.cmd.WaitDelay = time.Minute
	g.cmd.Env = append(os.Environ(), env...)
	errs, err := g.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			if _, at, ok := strings.Cut(lines.Text(), " on http"); ok && len(address) == 0 {
				address <- "http" + at
				continue
			}
			// That keys change, are refused and die is what is measured.
			if !strings.Contains(lines.Text(), " key kf_") && !strings.Contains(lines.Text(), "fingerprint=kf_") {
				fmt.Fprintln(os.Stderr, "gateway:", lines.Text())
			}
		}
		g.ended <- g.cmd.Wait()
	}()
	select {
	case g.url = <-address:
	case err := <-g.ended:
		return nil, fmt.Errorf("the gateway did not start: %w", err)
	}
	g.admin = gateway.NewClient(dir)
	g.status = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "gateway.sock"))
	}}}
	token, err := exec.CommandContext(ctx, binary, "token", "issue", "--app", "bench", "--ttl", "24h", "--state-dir", dir).Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("issue a token: %w", err), g.stop())
	}
	g.token = strings.TrimSpace(string(token))
	return g, nil
}

// stop lets the gateway end, and says whether it did so cleanly.
func (g *process) stop() error {
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	err := <-g.ended
	g.ended <- err
	return err
}

// writeKey replaces a key file as a whole.
func writeKey(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// look asks the status socket.
func (g *process) look(ctx context.Context) (s gateway.Status, err error) {
	b, err := g.ask(ctx, "/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

func (g *process) ask(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := g.status.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// metric gives the number of a metric without labels, or -1.
func (g *process) metric(ctx context.Context, name string) (float64, error) {
	b, err := g.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, fmt.Errorf("the gateway has no metric %s", name)
}

// The ways in which a key changes.
const (
	bySignal = iota // the file is written, and SIGHUP sent
	bySight         // the file is written, and the gateway has to see it by itself
	bySocket        // the status socket is told, and answers when the key is in force
	ways
)

// swap brings a key into force, then waits until the former one has no request, and sets that one inactive. It gives the time until the new key was
// in use.
func (g *process) swap(ctx context.Context, old, next *account, way int) (time.Duration, error) {
	took, err := g.bring(ctx, old, next, way)
	if err != nil {
		return 0, err
	}
	return took, g.drain(ctx, old)
}

// bring makes a key the primary one, and waits until the gateway has acknowledged it: from then on no request that begins may use the former one.
func (g *process) bring(ctx context.Context, old, next *account, way int) (time.Duration, error) {
	began := time.Now()
	if way == bySocket {
		s, err := g.admin.Put(ctx, primary, next.value(), gateway.PlaceExpect{})
		if err != nil {
			return 0, err
		}
		if !s.InForce.Same(next.value().Digest()) {
			return 0, errors.New("the gateway holds the new key, but it is not in force")
		}
		old.closed.Store(since())
		return time.Since(began), nil
	}
	if err := writeKey(filepath.Join(g.dir, "0.key"), next.text); err != nil {
		return 0, err
	}
	if way == bySignal {
		if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			return 0, err
		}
	}
	if err := g.until(ctx, func(s gateway.Status) bool { return s.Keys[0].Fingerprint == next.fingerprint }); err != nil {
		return 0, fmt.Errorf("wait for the new key: %w", err)
	}
	old.closed.Store(since())
	return time.Since(began), nil
}

// drain waits until the last request on a former key has ended, and sets the key inactive: whatever used it later would be refused.
func (g *process) drain(ctx context.Context, old *account) error {
	if err := g.until(ctx, func(s gateway.Status) bool {
		for _, k := range s.Keys {
			if k.Fingerprint == old.fingerprint && k.InFlight > 0 {
				return false
			}
		}
		return true
	}); err != nil {
		return fmt.Errorf("wait for the last request on the old key: %w", err)
	}
	old.live.Store(false)
	return nil
}

// until asks for the status until it is as wanted, a minute at most.
func (g *process) until(ctx context.Context, ok func(gateway.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		s, err := g.look(ctx)
		if err != nil {
			return err
		}
		if len(s.Keys) > 0 && ok(s) {
			return nil
		}
		if !wait(ctx, 5*time.Millisecond) {
			return errors.New("it took more than a minute")
		}
	}
}

// memory gives the resident and the proportional set of a process, in bytes.
func memory(pid int) (rss, pss int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "Rss:":
			rss = n << 10
		case "Pss:":
			pss = n << 10
		}
	}
	return rss, pss, nil
}
