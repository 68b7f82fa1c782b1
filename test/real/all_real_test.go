//go:build real

package real

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestRealAllPlaces runs the whole life of a key that is in a place of every kind: adopted, rotated to the end, rotated and rolled back, and replaced as
// leaked, while an application at each place calls the provider.
func TestRealAllPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	moto, docker, kube := newSecretsManager(t), newEngine(t), newCluster(t)
	values := []string{w.key("app"), w.key("app"), w.key("app")}
	old := values[0]
	port := freePort(t)

	script := w.script("script.value", old)
	places := []place{
		w.envFile("staging.env", old), moto.secret(t, "acme/anthropic", old), kube.deployment(w, "in-place", old), kube.deployment(w, "versioned", old),
		docker.container(t, "app", old, port), script,
	}
	around := w.surroundings(places)
	wiki := place{name: "wiki", held: func() (string, error) { return w.read("wiki.txt"), nil }, around: func() (string, error) { return "", nil }}
	w.write("wiki.txt", old)
	apps := []*consumer{w.consume("env", places[0].held), w.consume("aws", places[1].held), w.follow("in-place", places[2].held), w.follow("versioned", places[3].held),
		w.follow("docker", places[4].held), w.consume("script", script.held)}
	restarted := []*consumer{apps[0], apps[1], apps[5]}
	w.write("keywright.yaml", w.head()+fmt.Sprintf(`
state: { dir: state, witness: witness/checkpoints }
keys:
  app:
    class: production-primary
    owner: platform@acme.example
    organization: %s
    workspace: %s
    approvals: 0
    soak: 3s
    watch: 2s
    health_wait: 1s
    waves:
      - { name: staging, locations: [staging] }
      - { name: production, locations: [in-place, versioned, secrets-manager, container, script], batch: 40%%, watch: 1s }
      - { name: people, locations: [wiki] }
locations:
  staging: { kind: env-file, path: staging.env, variable: %s, production: false, %s }
  secrets-manager: { kind: aws-secrets-manager, secret: acme/anthropic, field: api_key, region: %s, endpoint: %q, style: staged, %s }
  in-place: { kind: kubernetes, kubeconfig: %q, namespace: in-place, secret: anthropic, style: in-place }
  versioned: { kind: kubernetes, kubeconfig: %q, namespace: versioned, secret: anthropic, style: versioned }
  container:
    { kind: docker, host: %q, container: app, confirm: { http: "http://127.0.0.1:%d/fingerprint" }, probe: { http: "http://127.0.0.1:%d/healthz" } }
  script: { kind: exec, command: [./script.py, script.value], abilities: [read], %s }
  wiki: { kind: manual, place: the page Keys in the wiki, person: kim@acme.example, steps: [open the page, paste the value] }
contacts:
  - { role: on-call, name: Platform, contact: "+1 555 0100" }
`, w.sim.Organization(), w.workspace, variable, apps[0].wiring(), region, moto.endpoint, apps[1].wiring(), kube.config, kube.config, docker.host, port, port, apps[5].wiring()))

	wants(t, w.keywright(0, "key", "adopt", "app"), fingerprint(old))
	w.feed(values[1]+"\n", 0, "key", "add", "app", "--spare")
	wants(t, w.keywright(0, "plan", "app"), fingerprint(values[1]), "staging", "secrets-manager", "in-place", "versioned", "container", "script", "wiki", "Nothing has been changed")

	// check wants one value everywhere, also in the running consumers.
	pods := map[string][]string{}
	check := func(value string) {
		t.Helper()
		w.hold(value, places, around)
		if got, err := wiki.held(); err != nil || got != value {
			t.Errorf("wiki holds %s (%v)", fingerprint(got), err)
		}
		for _, c := range restarted {
			if got := c.holds(); got != value {
				t.Errorf("application %s has %s, want %s", c.name, fingerprint(got), fingerprint(value))
			}
		}
		if got, err := served(port); err != nil || got != fingerprint(value) {
			t.Errorf("the container's program has %s, want %s (%v)", got, fingerprint(value), err)
		}
		for _, ns := range []string{"in-place", "versioned"} {
			w.eventually("new pods of "+ns, func() error { return kube.replaced(ns, pods) })
		}
	}
	// person waits until the manual place is asked for, changes it and signs.
	person := func(value string) {
		t.Helper()
		w.write("wiki.txt", value)
		w.keywright(0, "rotation", "sign", "app", "wiki", "--note", "pasted it")
	}
	for _, ns := range []string{"in-place", "versioned"} {
		if err := kube.replaced(ns, pods); err != nil {
			t.Fatal(err)
		}
	}

	// To the end.
	wants(t, w.keywright(8, "rotate", "app", "--yes"), "rotation sign", "wiki")
	person(values[1])
	wants(t, w.keywright(0, "rotation", "follow", "app"), "is done")
	check(values[1])
	if w.accepted(old) || !w.accepted(values[1]) {
		t.Errorf("the provider accepts the old key: %v, the new one: %v", w.accepted(old), w.accepted(values[1]))
	}
	evidence := w.keywright(0, "rotation", "show", "app", "--evidence")
	wants(t, evidence, "allowed", "no use from", "staging holds the new version", "secrets-manager holds the new version", "in-place holds the new version",
		"versioned holds the new version", "container holds the new version", "script holds the new version", "wiki was signed for by")
	wants(t, w.keywright(0, "key", "list"), fingerprint(old), "archived", fingerprint(values[1]), "current")
	wants(t, w.keywright(0, "rotation", "log"), fingerprint(values[1]))

	// Again, and back during the soak.
	w.feed(values[2]+"\n", 0, "key", "add", "app", "--spare")
	w.keywright(8, "rotate", "app", "--yes")
	person(values[2])
	following := w.begin("", "rotation", "follow", "app")
	following.says("soak: both versions work")
	following.signal(syscall.SIGINT)
	if code := following.wait(); code != 130 {
		t.Errorf("Ctrl-C: exit code %d\n%s", code, following.output())
	}
	check(values[2])
	wants(t, w.keywright(8, "rollback", "app", "--yes", "--note", "error rate up"), "wiki")
	person(values[1])
	wants(t, w.keywright(0, "rotation", "follow", "app"), "is done")
	check(values[1])
	if !w.accepted(values[1]) || !w.accepted(values[2]) {
		t.Error("the rollback cut a version off")
	}
	w.noneRefused()
	for _, a := range apps {
		a.unharmed()
	}

	// Leaked.
	wants(t, w.keywright(8, "emergency", "app", "--yes", "--reason", "key in a public repository"), "all places at once", "+1 555 0100")
	if w.accepted(values[1]) {
		t.Error("the leaked key is accepted while the wiki waits")
	}
	w.hold(values[2], places, around)
	person(values[2])
	wants(t, w.keywright(0, "rotation", "follow", "app"), "is done")
	check(values[2])
	wants(t, w.keywright(0, "incident", "list"), "inc-")
	wants(t, w.keywright(0, "key", "list"), "compromised")

	wants(t, w.keywright(0, "audit", "verify"), "the chain is whole")
	w.keywright(0, "audit", "verify", "--against", "witness/checkpoints")
	w.keywright(8, "status") // an incident is open
	w.noLeak("staging.env", "script.value", "wiki.txt")
}

// wiring is how a configuration names the application's restart, fingerprint and health.
func (c *consumer) wiring() string {
	return fmt.Sprintf("reload: { http: \"%s/restart\" }, confirm: { http: \"%s/fingerprint\" }, probe: { http: \"%s/healthz\" }", c.url, c.url, c.url)
}

// script puts the sample program of the exec protocol beside the configuration; its place is a file.
func (w *world) script(file, value string) place {
	w.t.Helper()
	sample, err := os.ReadFile(filepath.Join("..", "..", "internal", "location", "exec", "example.py"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path("script.py"), sample, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.write(file, value)
	return place{name: file, around: func() (string, error) { return "", nil }, held: func() (string, error) {
		text, err := os.ReadFile(w.path(file))
		return string(text), err
	}}
}

// replaced wants that all pods of a namespace are ready, get the key from one Secret, and none of them is one that was seen before. It remembers them.
func (c *cluster) replaced(namespace string, before map[string][]string) error {
	pods, err := c.ready(namespace)
	if err != nil {
		return err
	}
	if len(pods) != 3 {
		return fmt.Errorf("%d pods", len(pods))
	}
	var now []string
	for _, p := range pods {
		if slices.Contains(before[namespace], p.Metadata.UID) {
			return fmt.Errorf("pod %s is an old one", p.Metadata.Name)
		}
		if p.Spec.reference() != pods[0].Spec.reference() || !strings.HasPrefix(p.Spec.reference(), "anthropic") {
			return errors.New("the pods get the key from several Secrets")
		}
		now = append(now, p.Metadata.UID)
	}
	before[namespace] = append(before[namespace], now...)
	return nil
}
