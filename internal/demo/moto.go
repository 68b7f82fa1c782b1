package demo

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// motoWithin is how long Moto may take to start. Without it the demo uses a second env file.
const motoWithin = 15 * time.Second

// startMoto starts a Moto server if there is one on this machine, and says otherwise why there is none.
func (d *demo) startMoto(ctx context.Context) {
	path, err := exec.LookPath("moto_server")
	if err != nil {
		d.noMoto = "moto_server is not installed"
		return
	}
	address, err := freeAddress(ctx)
	if err != nil {
		d.noMoto = "there is no free port for moto_server"
		return
	}
	host, port, _ := net.SplitHostPort(address)
	log, err := os.OpenFile(filepath.Join(d.dir, "moto.log"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		d.noMoto = "moto_server has no log file"
		return
	}
	defer log.Close()
	cmd := exec.Command(path, "-H", host, "-p", port) //nolint:noctx // end stops it, and waits
	cmd.Dir = d.dir
	// The environment stays: the program may be a shim that finds its interpreter by it.
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(d.dir, "tmp"), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdout, cmd.Stderr = log, log
	moto, err := d.launch("moto_server", cmd)
	if err != nil {
		d.noMoto = "moto_server cannot be started"
		return
	}
	endpoint := "http://" + address
	patience, cancel := context.WithTimeout(ctx, motoWithin)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	for !answers(patience, client, endpoint+"/moto-api/data.json") {
		select {
		case <-moto.done:
			d.noMoto = "moto_server ended when it was started"
			return
		case <-patience.Done():
			d.noMoto = "moto_server gave no answer"
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	d.moto = endpoint
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), nil
}

// answers reports whether an address gives status 200.
func answers(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// createSecret makes the secret that the application reads, with a neighbour that nobody may touch.
func createSecret(ctx context.Context, a Application, value secret.Value) error {
	text, err := json.Marshal(map[string]string{"database_url": "postgres://demo.example/agent", secretField: value.RevealString()})
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "make secret")
	}
	defer clear(text)
	_, err = awsClient(a.Endpoint).CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String(a.Secret), SecretString: aws.String(string(text))})
	if err != nil {
		return fault.New(fault.Unavailable, "make secret: moto_server did not take it")
	}
	return nil
}
