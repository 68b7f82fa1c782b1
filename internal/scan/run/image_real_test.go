//go:build real

package run_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/run"
	"github.com/keywright/keywright/internal/secret"
)

// TestRealImage builds an image with a Docker engine and searches what "docker save" makes of it.
func TestRealImage(t *testing.T) {
	host := peers.Docker(t)
	socket := strings.TrimPrefix(host, "unix://")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	fileText, fileV := fresh()
	envText, envV := fresh()
	argText, argV := fresh()
	folder := packed(t, "Dockerfile", "FROM scratch\nARG KEY\nCOPY old.env /app/.env\nENV OTHER="+envText+"\nLABEL used=$KEY\nCOPY new.env /app/.env\n",
		"old.env", "A="+fileText+"\n", "new.env", "A=\n")
	answer, err := client.Post("http://docker/build?"+url.Values{"t": {"acme/app:1"}, "buildargs": {`{"KEY":"` + argText + `"}`}}.Encode(), "application/x-tar", strings.NewReader(folder))
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(said), "Successfully built") {
		t.Fatalf("build: %d, %v, %d bytes", answer.StatusCode, err, len(said))
	}
	saved, err := client.Get("http://docker/images/acme%2Fapp:1/get")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, saved.Body)
	_ = saved.Body.Close()
	if err != nil || f.Close() != nil || saved.StatusCode != http.StatusOK {
		t.Fatalf("save: %d, %v", saved.StatusCode, err)
	}
	got := do(t, run.Options{Paths: []string{name}})
	if !got.Complete {
		t.Errorf("%+v", got.Gaps)
	}
	layers := func(v secret.Value) (all []*report.Layer) {
		for _, p := range key(t, got, v).Places {
			if p.Layer != nil {
				all = append(all, p.Layer)
			}
		}
		return all
	}
	file := layers(fileV)
	if len(file) != 1 || file[0].Number != 1 || file[0].Of != 2 || file[0].Image.String() != "acme/app:1" || !strings.Contains(file[0].Command.String(), "COPY") {
		t.Errorf("%+v", file)
	}
	for name, v := range map[string]secret.Value{"environment": envV, "argument": argV} {
		found := false
		for _, l := range layers(v) {
			found = found || l.Number == 0
		}
		if !found {
			t.Errorf("%s: not in the configuration: %+v", name, key(t, got, v).Places)
		}
	}
	leaks(t, got, fileV)
}
