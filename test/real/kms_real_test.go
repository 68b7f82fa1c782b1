//go:build real

package real

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keywright/keywright/internal/peers"
)

// TestRealKMS seals the values under a key of AWS KMS, and moves them to a master key in a file and back.
func TestRealKMS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	endpoint := peers.Moto(t)
	client := kms.New(kms.Options{Region: region, BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	inKMS, inFile := fmt.Sprintf("aws-kms:%s?region=%s", aws.ToString(made.KeyMetadata.KeyId), region), "file:"+w.path("master.key")
	old, fresh, last := w.key("app"), w.key("app"), w.key("app")
	places := []place{w.envFile("app.env", old)}
	around := w.surroundings(places)
	app := w.consume("app", places[0].held)
	configure := func(master string) {
		w.write("keywright.yaml", w.head()+fmt.Sprintf(`
state: { dir: state, master_key: %q }
keys:
  app: { class: production-primary, owner: platform@acme.example, organization: %s, workspace: %s, approvals: 0, locations: [app-env], soak: 1s, watch: 1s, health_wait: 0s }
locations:
  app-env: { kind: env-file, path: app.env, variable: %s, %s }
`, master, w.sim.Organization(), w.workspace, variable, app.wiring()))
	}
	// reachable says whether KMS can be reached.
	reachable := func(yes bool) {
		w.env = []string{"AWS_ENDPOINT_URL_KMS=" + endpoint, "AWS_MAX_ATTEMPTS=1"}
		if !yes {
			w.env[0] = fmt.Sprintf("AWS_ENDPOINT_URL_KMS=http://127.0.0.1:%d", freePort(t))
		}
	}

	reachable(true)
	configure(inKMS)
	w.keywright(0, "key", "adopt", "app")
	w.feed(fresh+"\n", 0, "key", "add", "app", "--spare")
	if _, err := os.Stat(w.path("config/master.key")); !os.IsNotExist(err) {
		t.Errorf("a master key file was made although KMS is the master: %v", err)
	}
	wants(t, w.keywright(0, "rotate", "app", "--yes"), "is done")
	w.hold(fresh, places, around)
	if w.accepted(old) {
		t.Error("the provider accepts the old key")
	}

	// From KMS to a file: KMS is not needed any more.
	wants(t, w.keywright(0, "custody", "rewrap", inFile, "--yes"), "sealed under the new master", inFile)
	info, err := os.Stat(w.path("master.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("master key file: %v, %v", info, err)
	}
	configure(inFile)
	reachable(false)
	w.feed(last+"\n", 0, "key", "add", "app", "--spare")
	w.soaking("app")
	w.hold(last, places, around)
	wants(t, w.keywright(0, "rollback", "app", "--yes"), "is done")
	w.hold(fresh, places, around)

	// And back: the file is not needed any more, and without KMS nothing can be opened.
	reachable(true)
	w.keywright(0, "custody", "rewrap", inKMS, "--yes")
	if err := os.Remove(w.path("master.key")); err != nil {
		t.Fatal(err)
	}
	configure(inKMS)
	w.soaking("app")
	w.hold(last, places, around)
	reachable(false)
	out := w.begin("", "rollback", "app", "--yes")
	out.says("ask AWS KMS: no answer")
	out.signal(syscall.SIGINT)
	out.wait()
	reachable(true)
	s := w.begin("", "rotation", "follow", "app")
	if code := s.wait(); code == 8 && strings.Contains(s.output(), "rotation resume") {
		w.keywright(0, "rotation", "resume", "app")
		w.keywright(0, "rotation", "follow", "app")
	}
	w.hold(fresh, places, around)
	app.unharmed()
	w.noneRefused()
	wants(t, w.keywright(0, "audit", "verify"), "the chain is whole")
	w.noLeak("app.env")
}

// soaking begins a rotation and leaves it once every place has the new version.
func (w *world) soaking(key string) {
	w.t.Helper()
	s := w.begin("", "rotate", key, "--yes")
	s.says("soak: both versions work")
	s.signal(syscall.SIGINT)
	if code := s.wait(); code != 130 {
		w.t.Fatalf("Ctrl-C: exit code %d\n%s", code, s.output())
	}
}
