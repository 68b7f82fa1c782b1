//go:build real

package real

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keywright/keywright/internal/peers"
)

const (
	region   = "us-east-1"
	variable = "ANTHROPIC_API_KEY"
	nogroup  = 65534
)

// place is where a copy of the key is, as the test sees it: by means of its own.
type place struct {
	name string
	// held gives the value that is in force there.
	held func() (string, error)
	// around gives everything beside the value that must not change.
	around func() (string, error)
}

// anchored gives a text without the value in it.
func anchored(text, value string) string { return strings.ReplaceAll(text, value, "(the value)") }

// between gives what stands between two texts.
func between(text, before, after string) (string, error) {
	_, rest, ok := strings.Cut(text, before)
	value, _, ends := strings.Cut(rest, after)
	if !ok || !ends {
		return "", errors.New("the value is not where it was")
	}
	return value, nil
}

// envFile makes an env file with neighbours.
func (w *world) envFile(name, value string) place {
	w.write(name, "# written by hand\r\nPORT=8080\n\nexport "+variable+"='"+value+"' # the key\nLAST=\"a b\"")
	held := func() (string, error) {
		text, err := os.ReadFile(w.path(name))
		if err != nil {
			return "", err
		}
		return between(string(text), "export "+variable+"='", "'")
	}
	return place{name: name, held: held, around: func() (string, error) {
		value, err := held()
		if err != nil {
			return "", err
		}
		text, err := os.ReadFile(w.path(name))
		return anchored(string(text), value), err
	}}
}

// secretsManager is Moto as the test sees it.
type secretsManager struct {
	endpoint string
	client   *secretsmanager.Client
}

func newSecretsManager(t *testing.T) *secretsManager {
	endpoint := peers.Moto(t)
	return &secretsManager{endpoint: endpoint, client: secretsmanager.New(secretsmanager.Options{
		Region: region, BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})}
}

// secret makes a secret that is a JSON object with the value in the member api_key.
func (m *secretsManager) secret(t *testing.T, name, value string) place {
	t.Helper()
	text := `{ "user":"app",  "api_key" : "` + value + `", "limits": {"rate": 1.50, "note": "\u00fc <b>"}, "z":null }` + "\n"
	if _, err := m.client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String(name), SecretString: aws.String(text)}); err != nil {
		t.Fatal(err)
	}
	// Moto's answer without a stage is stale after a label was moved.
	whole := func() (string, error) {
		got, err := m.client.GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(name), VersionStage: aws.String("AWSCURRENT")})
		if err != nil {
			return "", err
		}
		return aws.ToString(got.SecretString), nil
	}
	held := func() (string, error) {
		text, err := whole()
		if err != nil {
			return "", err
		}
		return between(text, `"api_key" : "`, `"`)
	}
	return place{name: name, held: held, around: func() (string, error) {
		text, err := whole()
		if err != nil {
			return "", err
		}
		value, err := held()
		return anchored(text, value), err
	}}
}

type object = map[string]any

// engine is a Docker engine as the test sees it.
type engine struct {
	host, image string
	http        *http.Client
}

func newEngine(t *testing.T) *engine {
	e := &engine{host: peers.Docker(t)}
	e.image = peers.ImportImage(t, e.host)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(e.host, "unix://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	e.http = &http.Client{Transport: transport, Timeout: time.Minute}
	return e
}

func (e *engine) do(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://engine"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// container starts a container with the value in its environment that serves its fingerprint at a port.
func (e *engine) container(t *testing.T, name, value string, port int) place {
	t.Helper()
	err := e.do(http.MethodPost, "/containers/create?name="+name, object{
		"Image": e.image, "Labels": object{"team": "ai"}, "Volumes": object{"/data": object{}}, "StopTimeout": 5,
		"Env": []string{"MODE=fast # not a comment", "EMPTY=", variable + "=" + value, fmt.Sprintf("PORT=%d", port), "LAST=ä=b"},
		"HostConfig": object{
			"NetworkMode": "host", "RestartPolicy": object{"Name": "always"}, "CapDrop": []string{"ALL"}, "ReadonlyRootfs": true,
			"Ulimits": []any{object{"Name": "nofile", "Soft": 512, "Hard": 1024}}, "Tmpfs": object{"/tmp": "size=1m"},
		},
	}, nil)
	if err == nil {
		err = e.do(http.MethodPost, "/containers/"+name+"/start", nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	type inspected struct {
		State  struct{ Running bool }
		Config struct {
			Env    []string
			Image  string
			Labels map[string]string
		}
		HostConfig struct {
			NetworkMode    string
			RestartPolicy  struct{ Name string }
			CapDrop        []string
			ReadonlyRootfs bool
			Tmpfs          map[string]string
		}
	}
	look := func() (in inspected, err error) {
		err = e.do(http.MethodGet, "/containers/"+name+"/json", nil, &in)
		return in, err
	}
	return place{
		name: name,
		held: func() (string, error) {
			in, err := look()
			if err != nil {
				return "", err
			}
			if !in.State.Running {
				return "", errors.New("the container does not run")
			}
			for _, v := range in.Config.Env {
				if value, ok := strings.CutPrefix(v, variable+"="); ok {
					return value, nil
				}
			}
			return "", errors.New("the container has no such variable")
		},
		around: func() (string, error) {
			in, err := look()
			if err != nil {
				return "", err
			}
			for i, v := range in.Config.Env {
				if strings.HasPrefix(v, variable+"=") {
					in.Config.Env[i] = variable
				}
			}
			maps.DeleteFunc(in.Config.Labels, func(name, _ string) bool { return strings.HasPrefix(name, "dev.keywright.") })
			text, err := json.Marshal([]any{in.Config, in.HostConfig})
			return string(text), err
		},
	}
}

// served asks the program in a container which key it has.
func served(port int) (string, error) {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/fingerprint", port))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(text)), err
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// cluster is a control plane as the test sees it.
type cluster struct {
	config, base string
	http         *http.Client
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{config: peers.Kubernetes(t)}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.config)
	if err != nil {
		t.Fatal(err)
	}
	if c.http, err = rest.HTTPClientFor(cfg); err != nil {
		t.Fatal(err)
	}
	c.base = cfg.Host
	return c
}

func (c *cluster) do(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// kubeSecret is a Secret of the API.
type kubeSecret struct {
	Data map[string][]byte
}

// kubePod is a pod of the API.
type kubePod struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp string
	}
	Spec   kubeSpec
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

// kubeSpec is what the test reads of the specification of a pod.
type kubeSpec struct {
	Containers []struct {
		Env []struct {
			Name      string
			ValueFrom struct{ SecretKeyRef struct{ Name, Key string } }
		}
	}
}

// reference gives the Secret that a pod gets the key from.
func (s kubeSpec) reference() string {
	for _, c := range s.Containers {
		for _, e := range c.Env {
			if e.Name == variable {
				return e.ValueFrom.SecretKeyRef.Name
			}
		}
	}
	return ""
}

// deployment makes a namespace with a Secret and a Deployment of three pods that get the value from it.
func (c *cluster) deployment(w *world, namespace, value string) place {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	core, apps := "/api/v1/namespaces/"+namespace, "/apis/apps/v1/namespaces/"+namespace
	must(c.do(http.MethodPost, "/api/v1/namespaces", object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}}, nil))
	w.eventually("service account", func() error { return c.do(http.MethodGet, core+"/serviceaccounts/default", nil, nil) })
	must(c.do(http.MethodPost, core+"/secrets", object{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": object{"name": "anthropic"},
		"data": object{variable: []byte(value), "OTHER": []byte("a neighbour"), "binary": []byte("\x00\xff")},
	}, nil))
	must(c.do(http.MethodPost, apps+"/deployments", object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "app"},
		"spec": object{
			"replicas": 3, "selector": object{"matchLabels": object{"app": "app"}},
			"strategy": object{"type": "RollingUpdate", "rollingUpdate": object{"maxSurge": "100%", "maxUnavailable": 0}}, // simulated nodes are slow to end a pod
			"template": object{
				"metadata": object{"labels": object{"app": "app"}},
				"spec": object{
					"terminationGracePeriodSeconds": 0,
					"containers": []any{object{"name": "app", "image": "registry.invalid/app:1", "env": []any{
						object{"name": "MODE", "value": "fast"},
						object{"name": variable, "valueFrom": object{"secretKeyRef": object{"name": "anthropic", "key": variable}}},
					}}},
				},
			},
		},
	}, nil))
	w.eventually("pods of "+namespace, func() error {
		pods, err := c.ready(namespace)
		if err == nil && len(pods) != 3 {
			err = fmt.Errorf("%d pods are ready", len(pods))
		}
		return err
	})
	inForce := func() (s kubeSecret, err error) {
		var d struct {
			Spec struct{ Template struct{ Spec kubeSpec } }
		}
		if err := c.do(http.MethodGet, apps+"/deployments/app", nil, &d); err != nil {
			return s, err
		}
		err = c.do(http.MethodGet, core+"/secrets/"+d.Spec.Template.Spec.reference(), nil, &s)
		return s, err
	}
	return place{
		name: namespace,
		held: func() (string, error) {
			s, err := inForce()
			return string(s.Data[variable]), err
		},
		around: func() (string, error) {
			s, err := inForce()
			delete(s.Data, variable)
			if err != nil {
				return "", err
			}
			text, err := json.Marshal(s.Data)
			return string(text), err
		},
	}
}

// ready gives the pods of a namespace; a pod that is not ready, or on its way out, is an error.
func (c *cluster) ready(namespace string) ([]kubePod, error) {
	var list struct{ Items []kubePod }
	if err := c.do(http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods", nil, &list); err != nil {
		return nil, err
	}
	for _, p := range list.Items {
		is := false
		for _, cond := range p.Status.Conditions {
			is = is || cond.Type == "Ready" && cond.Status == "True"
		}
		if !is || p.Metadata.DeletionTimestamp != "" {
			return nil, fmt.Errorf("pod %s is not ready", p.Metadata.Name)
		}
	}
	return list.Items, nil
}

// hold wants that every place has the value, and everything around it is as it was.
func (w *world) hold(value string, places []place, around map[string]string) {
	w.t.Helper()
	for _, p := range places {
		got, err := p.held()
		if err != nil || got != value {
			w.t.Errorf("%s holds %s, want %s (%v)", p.name, fingerprint(got), fingerprint(value), err)
		}
		if now, err := p.around(); err != nil || now != around[p.name] {
			w.t.Errorf("what stands around the value in %s has changed (%v)\nfrom %q\nto   %q", p.name, err, around[p.name], now)
		}
	}
}

// surroundings remembers what stands around the value in each place.
func (w *world) surroundings(places []place) map[string]string {
	w.t.Helper()
	around := map[string]string{}
	for _, p := range places {
		text, err := p.around()
		if err != nil {
			w.t.Fatalf("read %s: %v", p.name, err)
		}
		around[p.name] = text
	}
	return around
}
