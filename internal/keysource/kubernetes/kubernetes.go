// Package kubernetes reads a value from a Secret of Kubernetes and watches it. It writes nothing, and shows no text of a reply. The gateway reads
// with it; a pod needs the rights get and watch on that one Secret.
package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
)

// maxReply bounds a Secret, in bytes: the API server keeps at most 1 MiB, in base64 and with its metadata.
const maxReply = 4 << 20

// Config names a Secret and a key of its data.
type Config struct {
	Namespace, Secret, Field string
	// Kubeconfig is a path; without it that of the environment, else the service account of the pod. Context is one of its contexts.
	Kubeconfig, Context string
}

// Reader reads one field. It is safe for concurrent use.
type Reader struct {
	c      Config
	config clientcmd.ClientConfig

	mu   sync.Mutex
	http *http.Client
	base *url.URL
}

var _ keysource.Reader = (*Reader)(nil)

// New checks the configuration. It asks nothing yet. Kind: Invalid.
func New(c Config) (*Reader, error) {
	if c.Namespace == "" || c.Secret == "" || c.Field == "" || strings.ContainsAny(c.Namespace+c.Secret, "/?#%") {
		return nil, fault.New(fault.Invalid, "open Kubernetes Secret: want a namespace, a name and a key of its data")
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.WarnIfAllMissing = false
	if c.Kubeconfig != "" {
		rules.ExplicitPath = c.Kubeconfig
	}
	return &Reader{c: c, config: clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context})}, nil
}

func (r *Reader) verb() string { return fmt.Sprintf("read Secret %s/%s", r.c.Namespace, r.c.Secret) }

func (r *Reader) connect() (*http.Client, *url.URL, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.http != nil {
		return r.http, r.base, nil
	}
	cfg, err := r.config.ClientConfig()
	if err != nil {
		// The text may quote parts of the kubeconfig.
		return nil, nil, fault.New(fault.Invalid, r.verb()+": the kubeconfig is missing, or names no usable cluster, user and context", fault.Hint("see: kubectl config get-contexts"))
	}
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.UserAgent = "keywright"
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, r.verb()+": the certificates or the login of the kubeconfig cannot be used", fault.Hint("see whether kubectl works with the same kubeconfig and context"))
	}
	host := cfg.Host
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	base, err := url.Parse(host)
	if err != nil || base.Hostname() == "" {
		return nil, nil, fault.New(fault.Invalid, r.verb()+": the address of the cluster cannot be used")
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r.http, r.base = h, base
	return h, base, nil
}

// object is what is read of a Secret.
type object struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Data map[string]json.RawMessage `json:"data"`
}

// Read implements keysource.Reader. There is no generation: resource versions are opaque.
func (r *Reader) Read(ctx context.Context) (keysource.Reading, error) {
	res, err := r.get(ctx, "/secrets/"+r.c.Secret, nil)
	if err != nil {
		return keysource.Reading{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	defer clear(raw)
	if err != nil {
		return keysource.Reading{}, r.lost(ctx)
	}
	var o object
	if json.Unmarshal(raw, &o) != nil || o.Metadata.ResourceVersion == "" {
		return keysource.Reading{}, fault.New(fault.Unavailable, r.verb()+": the answer is not understood")
	}
	got := keysource.Reading{Mark: o.Metadata.ResourceVersion}
	got.Value, err = r.field(o)
	return got, err
}

func (r *Reader) field(o object) (secret.Value, error) {
	defer func() {
		for _, raw := range o.Data {
			clear(raw)
		}
	}()
	raw, ok := o.Data[r.c.Field]
	var text string
	if !ok || json.Unmarshal(raw, &text) != nil {
		return secret.Value{}, fault.New(fault.NotFound, fmt.Sprintf("%s: its data has no key %q", r.verb(), r.c.Field), fault.Hint("kubectl describe secret -n %s %s", r.c.Namespace, r.c.Secret))
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return secret.Value{}, fault.New(fault.Invalid, fmt.Sprintf("%s: the key %q is not in base64", r.verb(), r.c.Field))
	}
	v, err := keysource.Whole(b)
	return v, fault.In(err, r.verb())
}

// watchFor is how long one watch is asked to last, in seconds.
const watchFor = "300"

// Wait implements keysource.Reader by a watch that begins behind the mark.
func (r *Reader) Wait(ctx context.Context, mark string) error {
	query := url.Values{"watch": {"1"}, "fieldSelector": {"metadata.name=" + r.c.Secret}, "resourceVersion": {mark}, "timeoutSeconds": {watchFor}}
	for {
		ended, err := r.watch(ctx, query)
		if err != nil || !ended {
			return err
		}
	}
}

// watch gives true when the server ended the watch and nothing has changed.
func (r *Reader) watch(ctx context.Context, query url.Values) (ended bool, err error) {
	res, err := r.get(ctx, "/secrets", query)
	if err != nil {
		if fault.Is(err, fault.Conflict) { // the mark is too old to watch from: read anew
			return false, nil
		}
		return false, err
	}
	defer res.Body.Close()
	// The first event is a change whatever it says; of its body nothing is kept.
	one := make([]byte, 1)
	for {
		n, err := res.Body.Read(one)
		if n > 0 && one[0] > ' ' {
			return false, nil
		}
		if errors.Is(err, io.EOF) {
			return ctx.Err() == nil, ctx.Err()
		}
		if err != nil {
			return false, r.lost(ctx)
		}
	}
}

func (r *Reader) lost(ctx context.Context) error {
	if ctx.Err() != nil {
		return fault.In(context.Cause(ctx), r.verb())
	}
	return fault.New(fault.Unavailable, r.verb()+": the API server does not answer", fault.Hint("see whether kubectl reaches the cluster from this host"))
}

// get asks for a resource of the namespace. The caller closes the body of a good answer.
func (r *Reader) get(ctx context.Context, resource string, query url.Values) (*http.Response, error) {
	h, base, err := r.connect()
	if err != nil {
		return nil, err
	}
	u := *base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/api/v1/namespaces/" + r.c.Namespace + resource
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, r.verb()+": the address cannot be used")
	}
	req.Header.Set("Accept", "application/json")
	res, err := h.Do(req)
	if err != nil {
		return nil, r.lost(ctx)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	res.Body.Close()
	what := "get"
	if query != nil {
		what = "watch"
	}
	switch status := res.StatusCode; {
	case status == http.StatusUnauthorized:
		return nil, fault.New(fault.Unauthenticated, r.verb()+": the API server does not accept the login", fault.Hint("see: kubectl auth whoami"))
	case status == http.StatusForbidden:
		return nil, fault.New(fault.Forbidden, r.verb()+": the login lacks the right to "+what+" it", fault.Hint("give a Role the verbs get and watch on secrets, with resourceNames: [%s]", r.c.Secret))
	case status == http.StatusNotFound:
		return nil, fault.New(fault.NotFound, r.verb()+": there is none", fault.Hint("kubectl get secret -n %s", r.c.Namespace))
	case status == http.StatusGone:
		return nil, fault.New(fault.Conflict, r.verb()+": the watch begins too long ago")
	case status == http.StatusTooManyRequests:
		return nil, fault.New(fault.RateLimited, r.verb()+": the API server asks to wait")
	case status >= 500:
		return nil, fault.Newf(fault.Unavailable, "%s: the API server answers with status %d", r.verb(), status)
	default:
		return nil, fault.Newf(fault.Invalid, "%s: the API server answers with status %d", r.verb(), status)
	}
}
