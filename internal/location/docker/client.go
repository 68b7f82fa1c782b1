package docker

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/guard"
)

// maxReply bounds what is read of the reply to a creation.
const maxReply = 1 << 20

// engine makes the calls that the driver needs. The connection is made, and the version of the API agreed, by the first call. Its
// errors are faults that begin with the verb and the object; no text of a reply enters them.
type engine struct {
	host         string // unix:///path or tcp://address:port
	certificates string // a folder with ca.pem, cert.pem and key.pem, for tcp

	mu   sync.Mutex
	made *client.Client
	http *http.Client
	base string // the URL of the API, without the version
}

func (e *engine) connect(ctx context.Context) (*client.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.made != nil {
		return e.made, nil
	}
	transport := &http.Transport{MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second}
	options := []client.Opt{client.WithHost(e.host)}
	scheme, address, _ := strings.Cut(e.host, "://")
	switch {
	case scheme == "unix":
		var dialer net.Dialer
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", address)
		}
		e.base = "http://" + client.DummyHost
	case e.certificates != "":
		config, err := e.tls()
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = config
		options = append(options, client.WithScheme("https"))
		e.base = "https://" + address
	default:
		e.base = "http://" + address
	}
	e.http = (&guard.Transport{Next: transport, Peer: wording(), Accept: []int{http.StatusNotModified}}).Client()
	c, err := client.New(append(options, client.WithHTTPClient(e.http))...)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "connect to engine: %q is no address of a Docker engine", e.host)
	}
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		transport.CloseIdleConnections()
		return nil, explain("connect to engine", err, false)
	}
	e.made = c
	return c, nil
}

func (e *engine) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(e.certificates, "cert.pem"), filepath.Join(e.certificates, "key.pem"))
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "read certificate and key in %q: they are missing or do not fit", e.certificates)
	}
	ca, err := os.ReadFile(filepath.Join(e.certificates, "ca.pem"))
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		return nil, fault.Newf(fault.Invalid, "read ca.pem in %q: it is missing or holds no certificate", e.certificates)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool}, nil
}

// box is a container as it was read. The maps are its configuration as the engine gave it, so that fields which this program does
// not know are kept too.
type box struct {
	ID           string `json:"Id"`
	Name         string
	Created      time.Time
	Image        string
	RestartCount int
	State        struct {
		Status     string
		Running    bool
		Paused     bool
		Restarting bool
		ExitCode   int
		StartedAt  time.Time
		Health     *struct{ Status string }
	}
	Config          map[string]json.RawMessage
	HostConfig      map[string]json.RawMessage
	NetworkSettings struct {
		Networks map[string]map[string]json.RawMessage
	}
	Mounts []struct {
		Type        string
		Name        string
		Destination string
		RW          bool
	}
}

// get decodes a member of the configuration into what it should be; a missing member leaves the zero value.
func get[T any](m map[string]json.RawMessage, key string) T {
	var v T
	_ = json.Unmarshal(m[key], &v)
	return v
}

func (b box) name() string              { return strings.TrimPrefix(b.Name, "/") }
func (b box) short() string             { return b.ID[:min(len(b.ID), 12)] }
func (b box) labels() map[string]string { return get[map[string]string](b.Config, "Labels") }
func (b box) environment() []string     { return get[[]string](b.Config, "Env") }
func (b box) running() bool             { return b.State.Running || b.State.Restarting || b.State.Paused }

// inspect reads the container with this id or exactly this name.
func (e *engine) inspect(ctx context.Context, id string) (box, error) {
	c, err := e.connect(ctx)
	if err != nil {
		return box{}, err
	}
	what := fmt.Sprintf("inspect container %q", id)
	answer, err := c.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	defer clear(answer.Raw)
	if err != nil {
		return box{}, explain(what, err, false)
	}
	var b box
	if err := json.Unmarshal(answer.Raw, &b); err != nil || b.ID == "" {
		return box{}, fault.New(fault.Unavailable, what+": the reply cannot be read")
	}
	if b.ID != id && b.name() != id { // a name may also be taken for the beginning of an id
		return box{}, fault.New(fault.NotFound, what+": there is none")
	}
	return b, nil
}

// list gives id, names and network mode of every container, running or not, whose name matches.
func (e *engine) list(ctx context.Context, name string) ([]container.Summary, error) {
	c, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	options := client.ContainerListOptions{All: true}
	if name != "" {
		options.Filters = client.Filters{}.Add("name", "^/"+regexp.QuoteMeta(name))
	}
	answer, err := c.ContainerList(ctx, options)
	return answer.Items, explain("list containers", err, false)
}

// create makes a container of a body that was put together from another's own configuration.
func (e *engine) create(ctx context.Context, name string, body any) (id string, err error) {
	c, err := e.connect(ctx)
	if err != nil {
		return "", err
	}
	var answer struct {
		ID string `json:"Id"`
	}
	err = e.post(ctx, c, "create container "+strconv.Quote(name), "/containers/create?name="+url.QueryEscape(name), body, &answer)
	if err == nil && answer.ID == "" {
		err = fault.Newf(fault.Indeterminate, "create container %q: the reply names none", name)
	}
	return answer.ID, err
}

// join connects a container to a further network.
func (e *engine) join(ctx context.Context, id, network string, endpoint any) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	body := map[string]any{"Container": id, "EndpointConfig": endpoint}
	return e.post(ctx, c, "connect to network "+strconv.Quote(network), "/networks/"+url.PathEscape(network)+"/connect", body, nil)
}

// post sends a body that the client library has no faithful type for.
func (e *engine) post(ctx context.Context, c *client.Client, what, path string, body, into any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return fault.New(fault.Unknown, what+": the configuration cannot be encoded")
	}
	defer clear(encoded)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+"/v"+c.ClientVersion()+path, bytes.NewReader(encoded))
	if err != nil {
		return fault.New(fault.Invalid, what+": the address cannot be used")
	}
	req.GetBody = nil // never sent twice
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return explain(what, err, true)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err == nil && into != nil {
		err = json.Unmarshal(reply, into)
	}
	if err != nil {
		return fault.New(fault.Indeterminate, what+": the reply was cut or cannot be read")
	}
	return nil
}

func (e *engine) rename(ctx context.Context, b box, to string) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	_, err = c.ContainerRename(ctx, b.ID, client.ContainerRenameOptions{NewName: to})
	return explain(fmt.Sprintf("rename container %q to %q", b.name(), to), err, true)
}

func (e *engine) stop(ctx context.Context, b box) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	_, err = c.ContainerStop(ctx, b.ID, client.ContainerStopOptions{})
	return explain(fmt.Sprintf("stop container %q", b.name()), err, true)
}

func (e *engine) start(ctx context.Context, b box) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	_, err = c.ContainerStart(ctx, b.ID, client.ContainerStartOptions{})
	return explain(fmt.Sprintf("start container %q", b.name()), err, true)
}

func (e *engine) remove(ctx context.Context, b box) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	_, err = c.ContainerRemove(ctx, b.ID, client.ContainerRemoveOptions{})
	return explain(fmt.Sprintf("remove container %q", b.name()), err, true)
}

// policy is when the engine starts a container by itself.
type policy struct {
	Name              string
	MaximumRetryCount int
}

func (p policy) none() bool { return p.Name == "" || p.Name == "no" }

func (e *engine) setPolicy(ctx context.Context, b box, p policy) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	set := container.RestartPolicy{Name: container.RestartPolicyMode(p.Name), MaximumRetryCount: p.MaximumRetryCount}
	_, err = c.ContainerUpdate(ctx, b.ID, client.ContainerUpdateOptions{RestartPolicy: &set})
	return explain(fmt.Sprintf("set restart policy of container %q", b.name()), err, true)
}

// wording gives the words for the errors of calls to the engine.
func wording() guard.Peer {
	return guard.Peer{
		Name: "the engine", Refused: refused, Log: "see the log of the engine",
		Reach:  "see whether docker ps works on this host with the same DOCKER_HOST",
		Denied: "run Keywright as root or as a member of the socket's group",
	}
}

// explain gives an error of a call its kind; see guard.Peer.
func explain(what string, err error, write bool) error { return wording().Explain(what, err, write) }

func refused(r *guard.Refusal) (fault.Kind, string, string) {
	switch r.Code {
	case http.StatusUnauthorized:
		return fault.Unauthenticated, "the engine does not accept the login", "see the certificates of the location"
	case http.StatusForbidden:
		return fault.Forbidden, "the engine does not allow it", "an authorization plugin of the engine decides this"
	case http.StatusNotFound:
		return fault.NotFound, "there is none, or something that it needs is gone", "compare with: docker ps --all"
	case http.StatusConflict:
		return fault.Conflict, "the name is taken, or the container is in another state", "compare with: docker ps --all"
	}
	return fault.Invalid, "the engine refuses the request with " + r.Error(), "see the log of the engine"
}
