package peers

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// KeyApp is the reference of the image that ImportImage makes.
const KeyApp = "keywright-peers/keyapp:latest"

// Docker starts a Docker engine of its own, with a containerd of its own as its child, and returns its address
// ("unix:///..."), the form of DOCKER_HOST. It takes root. There is no bridge: run containers with the network "host" or
// "none". There are no images either: see ImportImage. Containers left when the test ends are stopped.
func Docker(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "dockerd", "a Docker engine of one's own takes root")
	}
	dockerd := need(t, "apt-get install docker.io", "dockerd")
	for _, helper := range []string{"containerd", "runc"} {
		need(t, "apt-get install docker.io", helper)
	}
	dir := folder(t, "docker")
	socket := filepath.Join(dir, "docker.sock")
	// An empty configuration instead of the machine's own.
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "TMPDIR=" + dir}
	p := start(t, dir, "dockerd", syscall.SIGTERM, environment, dockerd,
		"--config-file="+config, "--host=unix://"+socket, "--group=root",
		"--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "dockerd.pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--shutdown-timeout=5")
	client := socketClient(t, socket)
	p.ready(t, time.Minute, func(ctx context.Context) error { return get(ctx, client, "http://docker/_ping") })
	return "unix://" + socket
}

// ImportImage gives the engine at host the image KeyApp and returns its reference. Its only program runs until SIGTERM. It
// prints and serves the fingerprint of the environment's ANTHROPIC_API_KEY and never the value: see internal/peers/keyapp.
func ImportImage(t testing.TB, host string) string {
	t.Helper()
	socket, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		t.Fatalf("host %q is no Unix socket", host)
	}
	program := filepath.Join(t.TempDir(), "keyapp")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/keywright/keywright/internal/peers/keyapp")
	build.Dir = moduleRoot(t)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build keyapp: %v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	image, err := archive("keyapp", data)
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	if err := importImage(ctx, socketClient(t, socket), image); err != nil {
		t.Fatalf("import image: %v", err)
	}
	return KeyApp
}

// importImage asks the engine to make KeyApp from the one layer in image.
func importImage(ctx context.Context, client *http.Client, image io.Reader) error {
	repository, tag, _ := strings.Cut(KeyApp, ":")
	query := url.Values{"fromSrc": {"-"}, "repo": {repository}, "tag": {tag}, "changes": {`ENTRYPOINT ["/keyapp"]`, "USER 65534:65534"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker/images/create?"+query.Encode(), image)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	// The answer is a stream of progress messages; a failure is one of them.
	for messages := json.NewDecoder(resp.Body); ; {
		var message struct {
			Error string `json:"error"`
		}
		switch err := messages.Decode(&message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case message.Error != "":
			return fmt.Errorf("engine: %s", message.Error)
		}
	}
}

// archive returns a tar file with one program in it.
func archive(name string, program []byte) (io.Reader, error) {
	var file bytes.Buffer
	w := tar.NewWriter(&file)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	return &file, w.Close()
}

// socketClient returns a client that reaches a Unix socket whatever host it is asked for.
func socketClient(t testing.TB, socket string) *http.Client {
	var dialer net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
