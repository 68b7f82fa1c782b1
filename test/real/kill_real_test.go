//go:build real

package real

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lease is how long the claim of a dead process on a rotation lasts.
const lease = 5 * time.Second

// TestRealKill kills the program without warning at ten moments and more of rotations and rollbacks, and wants after each that every place and every running consumer has a
// value that the provider accepts, and at the end that nothing is lost.
func TestRealKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	moto, docker := newSecretsManager(t), newEngine(t)
	old, fresh := w.key("app"), w.key("app")
	port := freePort(t)
	places := []place{w.envFile("staging.env", old), w.envFile("app.env", old), moto.secret(t, "acme/anthropic", old), docker.container(t, "app", old, port)}
	around := w.surroundings(places)
	apps := []*consumer{w.consume("staging", places[0].held), w.consume("env", places[1].held), w.consume("aws", places[2].held), w.follow("docker", places[3].held)}
	w.write("keywright.yaml", w.head()+fmt.Sprintf(`
state: { dir: state }
keys:
  app:
    class: production-primary
    owner: platform@acme.example
    organization: %s
    workspace: %s
    approvals: 0
    soak: 15s
    watch: 2s
    health_wait: 1s
    waves:
      - { name: staging, locations: [staging] }
      - { name: production, locations: [env, secrets-manager, container], batch: 34%% }
locations:
  staging: { kind: env-file, path: staging.env, variable: %s, production: false, %s }
  env: { kind: env-file, path: app.env, variable: %s, %s }
  secrets-manager: { kind: aws-secrets-manager, secret: acme/anthropic, field: api_key, region: %s, endpoint: %q, %s }
  container:
    { kind: docker, host: %q, container: app, confirm: { http: "http://127.0.0.1:%d/fingerprint" }, probe: { http: "http://127.0.0.1:%d/healthz" } }
`, w.sim.Organization(), w.workspace, variable, apps[0].wiring(), variable, apps[1].wiring(), region, moto.endpoint, apps[2].wiring(), docker.host, port, port))
	w.keywright(0, "key", "adopt", "app")
	w.feed(fresh+"\n", 0, "key", "add", "app", "--spare")

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	killed := 0
	// kill ends a run without warning, unless it is at its end already.
	kill := func(s *started) {
		t.Helper()
		s.signal(syscall.SIGKILL)
		if code := s.wait(); code != -1 {
			t.Logf("%s had ended with %d", s.name, code)
			return
		}
		killed++
		lines := strings.Split(strings.TrimSpace(s.output()), "\n")
		t.Logf("kill %d: %s; its last line: %s", killed, s.name, lines[len(lines)-1])
		w.nobodyStranded(places, apps)
	}
	// next is the command that goes on: what is deployed everywhere is rolled back, what is rolled back is rotated again.
	next := func() []string {
		t.Helper()
		active := w.keywright(0, "rotation", "list", "--active")
		switch {
		case !strings.Contains(active, " running "):
			return []string{"rotate", "app", "--yes"}
		case strings.Contains(w.keywright(0, "rotation", "show", "app"), "soak: both versions work"):
			return []string{"rollback", "app", "--yes"}
		case random.IntN(3) == 0:
			return []string{"resume"}
		}
		return []string{"rotation", "follow", "app"}
	}
	for n := 0; killed < 8 && n < 40; n++ {
		args := next()
		moment := time.Duration(random.IntN(1500)) * time.Millisecond
		if len(args) < 3 || args[2] != "--yes" {
			moment += lease // until the dead one's claim is over, nothing happens
		}
		s := w.begin("", args...)
		select {
		case <-time.After(moment):
		case <-s.done:
		}
		kill(s)
	}
	// Whatever the last kill left, the new version is to come everywhere.
	for range 3 {
		switch show := next(); show[0] {
		case "rotate":
			s := w.begin("", show...)
			s.says("soak: both versions work")
			kill(s)
		case "rollback": // it soaks
		default:
			s := w.begin("", "rotation", "follow", "app")
			w.eventually("the soak, or the end of a rollback", func() error {
				select {
				case <-s.done:
					return nil
				default:
					return contains(s.output(), "soak: both versions work")
				}
			})
			kill(s)
		}
	}
	// The old version is set inactive, which lies behind minutes of evidence: kill it on both sides of that.
	for _, until := range []string{"no use", "watch: inactive"} {
		s := w.begin("", "rotation", "follow", "app")
		if until == "no use" {
			w.eventually("the old key to be refused", func() error {
				if w.accepted(old) {
					return fmt.Errorf("it is accepted\n%s", s.output())
				}
				return nil
			})
		} else {
			s.says(until)
			<-time.After(time.Duration(random.IntN(500)) * time.Millisecond)
		}
		kill(s)
	}
	if killed < 10 {
		t.Errorf("only %d kills", killed)
	}
	wants(t, w.keywright(0, "rotation", "follow", "app"), "is done")

	w.hold(fresh, places, around)
	if got, err := served(port); err != nil || got != fingerprint(fresh) {
		t.Errorf("the container's program has %s (%v)", got, err)
	}
	if w.accepted(old) || !w.accepted(fresh) {
		t.Errorf("the provider accepts the old key: %v, the new one: %v", w.accepted(old), w.accepted(fresh))
	}
	w.noneRefused()
	for _, a := range apps {
		a.unharmed()
	}
	wants(t, w.keywright(0, "key", "list"), "archived", "current")
	wants(t, w.keywright(0, "audit", "verify"), "the chain is whole")
	w.noLeak("staging.env", "app.env")
}

// nobodyStranded wants that what each place and each running application holds is accepted by the provider. A container that is being switched runs again
// at the next resume at the latest; its copies are asked about instead.
func (w *world) nobodyStranded(places []place, apps []*consumer) {
	w.t.Helper()
	for _, p := range places {
		value, err := p.held()
		switch {
		case err != nil:
			w.t.Logf("%s: %v", p.name, err)
		case !w.accepted(value):
			w.t.Errorf("%s holds %s, which the provider refuses", p.name, fingerprint(value))
		}
	}
	for _, a := range apps {
		if value := a.holds(); value != "" && !w.accepted(value) {
			w.t.Errorf("application %s has %s, which the provider refuses", a.name, fingerprint(value))
		}
	}
}
