package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/guard"
)

// fieldManager is the name under which the API server keeps the fields that this driver writes.
const fieldManager = "keywright"

var (
	secretsGVR = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	podsGVR    = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	reviewGVR  = schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}
)

// client makes the calls that the driver needs, in one namespace. The connection is made by the first call. Its errors are
// faults that begin with the verb and the object; no text of a reply enters them.
type client struct {
	config    clientcmd.ClientConfig
	namespace string

	mu   sync.Mutex
	made dynamic.Interface
}

func newClient(kubeconfig, context, namespace string) *client {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.WarnIfAllMissing = false
	if kubeconfig != "" {
		rules.ExplicitPath = kubeconfig
	}
	return &client{
		config:    clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}),
		namespace: namespace,
	}
}

// server gives the address of the API server as the kubeconfig names it, or the empty string.
func (c *client) server() string {
	raw, err := c.config.ClientConfig()
	if err != nil {
		return ""
	}
	return raw.Host
}

func (c *client) connect() (dynamic.Interface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made, nil
	}
	cfg, err := c.config.ClientConfig()
	if err != nil {
		// The text may quote parts of the kubeconfig, which holds credentials.
		return nil, fault.New(fault.Invalid, "read kubeconfig: it is missing, or names no usable cluster, user and context",
			fault.Hint("see: kubectl config get-contexts; then set kubeconfig and context of the location"))
	}
	cfg.QPS = -1 // Location limits the calls.
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.UserAgent = fieldManager
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read kubeconfig: the certificates or the login of its user cannot be used",
			fault.Hint("see whether kubectl works with the same kubeconfig and context"))
	}
	guarded := (&guard.Transport{Next: h.Transport, Peer: wording(), Read: readStatus}).Client()
	guarded.Timeout = h.Timeout
	made, err := dynamic.NewForConfigAndClient(cfg, guarded)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read kubeconfig: the address of the cluster cannot be used")
	}
	c.made = made
	return made, nil
}

func (c *client) resource(gvr schema.GroupVersionResource) (dynamic.ResourceInterface, error) {
	d, err := c.connect()
	if err != nil {
		return nil, err
	}
	return d.Resource(gvr).Namespace(c.namespace), nil
}

func (c *client) get(ctx context.Context, gvr schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	r, err := c.resource(gvr)
	if err != nil {
		return nil, err
	}
	u, err := r.Get(ctx, name, metav1.GetOptions{})
	return u, explain(fmt.Sprintf("get %s %q", gvr.Resource, name), err, false)
}

func (c *client) list(ctx context.Context, gvr schema.GroupVersionResource, labels string) ([]unstructured.Unstructured, error) {
	r, err := c.resource(gvr)
	if err != nil {
		return nil, err
	}
	var all []unstructured.Unstructured
	for next := ""; ; {
		page, err := r.List(ctx, metav1.ListOptions{LabelSelector: labels, Limit: 500, Continue: next})
		if err != nil {
			return nil, explain("list "+gvr.Resource, err, false)
		}
		all = append(all, page.Items...)
		if next = page.GetContinue(); next == "" {
			return all, nil
		}
	}
}

// patch sends a merge patch. With the resourceVersion in its metadata the API server compares and sets.
func (c *client) patch(ctx context.Context, gvr schema.GroupVersionResource, name string, merge []byte) (*unstructured.Unstructured, error) {
	r, err := c.resource(gvr)
	if err != nil {
		return nil, err
	}
	u, err := r.Patch(ctx, name, types.MergePatchType, merge, metav1.PatchOptions{FieldManager: fieldManager})
	return u, explain(fmt.Sprintf("change %s %q", gvr.Resource, name), err, true)
}

func (c *client) create(ctx context.Context, gvr schema.GroupVersionResource, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	r, err := c.resource(gvr)
	if err != nil {
		return nil, err
	}
	u, err := r.Create(ctx, o, metav1.CreateOptions{FieldManager: fieldManager})
	return u, explain(fmt.Sprintf("create %s %q", gvr.Resource, o.GetName()), err, true)
}

// remove deletes exactly the object that was read: the uid and resourceVersion must still be the same.
func (c *client) remove(ctx context.Context, gvr schema.GroupVersionResource, o *unstructured.Unstructured) error {
	r, err := c.resource(gvr)
	if err != nil {
		return err
	}
	uid, version := o.GetUID(), o.GetResourceVersion()
	err = r.Delete(ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	return explain(fmt.Sprintf("delete %s %q", gvr.Resource, o.GetName()), err, true)
}

// allowed asks whether the presented login may do verb. It changes nothing.
func (c *client) allowed(ctx context.Context, verb string, gvr schema.GroupVersionResource, name string) (bool, error) {
	d, err := c.connect()
	if err != nil {
		return false, err
	}
	attributes := map[string]any{"namespace": c.namespace, "verb": verb, "group": gvr.Group, "resource": gvr.Resource}
	if name != "" {
		attributes["name"] = name
	}
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": attributes},
	}}
	answer, err := d.Resource(reviewGVR).Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, explain("ask for own rights", err, false)
	}
	yes, _, _ := unstructured.NestedBool(answer.Object, "status", "allowed")
	return yes, nil
}

// wording gives the words for the errors of calls to the API server.
func wording() guard.Peer {
	return guard.Peer{Name: "the API server", Refused: refused, Reach: "see whether kubectl reaches the cluster from this host"}
}

// explain gives an error of a call its kind; see guard.Peer.
func explain(what string, err error, write bool) error { return wording().Explain(what, err, write) }

// readStatus takes from a refusal the words that the driver acts on.
func readStatus(body []byte, r *guard.Refusal) {
	var status struct {
		Reason  string `json:"reason"`
		Details struct {
			RetryAfterSeconds int `json:"retryAfterSeconds"`
		} `json:"details"`
	}
	if json.Unmarshal(body, &status) == nil {
		r.Reason = status.Reason
		r.RetryAfter = time.Duration(min(status.Details.RetryAfterSeconds, 3600)) * time.Second
	}
}

func refused(r *guard.Refusal) (fault.Kind, string, string) {
	switch r.Code {
	case http.StatusUnauthorized:
		return fault.Unauthenticated, "the API server does not accept the login", "see: kubectl auth whoami, with the same kubeconfig and context"
	case http.StatusForbidden:
		return fault.Forbidden, "the login lacks the right", "give it the rights that docs/locations/kubernetes.md lists"
	case http.StatusNotFound:
		return fault.NotFound, "there is none", "compare the namespace and the name with: kubectl get"
	case http.StatusConflict:
		if r.Reason == string(metav1.StatusReasonAlreadyExists) {
			return fault.Conflict, "there is one already", "look at it with: kubectl describe"
		}
		return fault.Conflict, "it was changed in between", "look at it, then plan again"
	case http.StatusGone:
		return fault.Unavailable, "the list changed while it was read", ""
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		return fault.Unsupported, "the API server cannot do this", ""
	}
	return fault.Invalid, "the API server refuses the request with " + r.Error(), "an admission rule of the cluster may forbid it; try the same change with kubectl"
}

// decode gives the bytes of a field of a Secret.
func decode(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	return b, err == nil
}
