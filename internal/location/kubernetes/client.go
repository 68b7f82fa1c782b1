package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keywright/keywright/internal/fault"
)

// fieldManager is the name under which the API server keeps the fields that this driver writes.
const fieldManager = "keywright"

// maxStatus bounds what is read of a refusal.
const maxStatus = 64 << 10

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
	h.Transport = &watcher{next: h.Transport}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	made, err := dynamic.NewForConfigAndClient(cfg, h)
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

// reply is a refusal of the API server, of which only the code and the words that a program may act on are kept.
type reply struct {
	code       int
	reason     string
	retryAfter time.Duration
}

func (r *reply) Error() string { return "status " + strconv.Itoa(r.code) }

// lost says that no complete reply came. sent is true when the request may have reached the server.
type lost struct {
	sent  bool
	what  string
	cause error // a context's error, or nil
}

func (l *lost) Error() string { return l.what }
func (l *lost) Unwrap() error { return l.cause }

// watcher stands before the transport: it replaces refusals by errors without their text, and notes whether a failed
// request had been sent. So the library behind it never repeats a request and never quotes a reply.
type watcher struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	resp, err := w.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	switch {
	case err != nil:
		return nil, &lost{sent: sent.Load(), what: describe(err), cause: ended(err)}
	case resp.StatusCode < 300:
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // Only read.
	refusal := &reply{code: resp.StatusCode}
	var status struct {
		Reason  string `json:"reason"`
		Details struct {
			RetryAfterSeconds int `json:"retryAfterSeconds"`
		} `json:"details"`
	}
	if body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus)); err == nil && json.Unmarshal(body, &status) == nil {
		refusal.reason = status.Reason // compared, never shown
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil {
		seconds = status.Details.RetryAfterSeconds
	}
	refusal.retryAfter = time.Duration(max(0, min(seconds, 3600))) * time.Second
	return nil, refusal
}

// describe names the trouble of a connection. Errors of protocols are not quoted, since they may contain what the other side sent.
func describe(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "no connection to the API server"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "the name of the API server is not known"
	}
	if cause := ended(err); cause != nil {
		return cause.Error()
	}
	return "the connection to the API server was lost"
}

func ended(err error) error {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	return nil
}

// explain gives an error of a call its kind. write is true for calls that change something: a reply that did not come, or that
// says that the server gave up, leaves open whether the change was made.
func explain(what string, err error, write bool) error {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*reply](err); ok {
		return refused(what, refusal, write)
	}
	if l, ok := errors.AsType[*lost](err); ok {
		switch {
		case l.sent && write:
			return fault.Wrap(fault.Indeterminate, l, what)
		case errors.Is(l, context.Canceled):
			return fault.Wrap(fault.Canceled, l, what)
		}
		return fault.Wrap(fault.Unavailable, l, what, fault.Hint("see whether kubectl reaches the cluster from this host"))
	}
	// What is left was found behind the headers of a reply: it was cut, or is not what the API promises.
	kind := fault.Unavailable
	if write {
		kind = fault.Indeterminate
	}
	if cause := ended(err); cause != nil {
		if !write && cause == context.Canceled { //nolint:errorlint // ended gives exactly this value.
			kind = fault.Canceled
		}
		return fault.Wrap(kind, cause, what)
	}
	return fault.New(kind, what+": the reply was cut or cannot be read")
}

func refused(what string, r *reply, write bool) error {
	with := func(kind fault.Kind, text, hint string) error {
		return fault.New(kind, what+": "+text, fault.RetryAfter(r.retryAfter), fault.Hint("%s", hint))
	}
	switch {
	case r.code == http.StatusUnauthorized:
		return with(fault.Unauthenticated, "the API server does not accept the login", "see: kubectl auth whoami, with the same kubeconfig and context")
	case r.code == http.StatusForbidden:
		return with(fault.Forbidden, "the login lacks the right", "give it the rights that docs/locations/kubernetes.md lists")
	case r.code == http.StatusNotFound:
		return with(fault.NotFound, "there is none", "compare the namespace and the name with: kubectl get")
	case r.code == http.StatusConflict && r.reason == string(metav1.StatusReasonAlreadyExists):
		return with(fault.Conflict, "there is one already", "look at it with: kubectl describe")
	case r.code == http.StatusConflict:
		return with(fault.Conflict, "it was changed in between", "look at it, then plan again")
	case r.code == http.StatusTooManyRequests:
		return with(fault.RateLimited, "the API server asks to wait", "")
	case r.code == http.StatusServiceUnavailable, r.code >= 500 && !write, r.code >= 300 && r.code < 400:
		return with(fault.Unavailable, "the API server answers with "+r.Error(), "")
	case r.code >= 500:
		return with(fault.Indeterminate, "the API server answers with "+r.Error(), "")
	case r.code == http.StatusGone:
		return with(fault.Unavailable, "the list changed while it was read", "")
	case r.code == http.StatusMethodNotAllowed, r.code == http.StatusUnsupportedMediaType, r.code == http.StatusNotAcceptable:
		return with(fault.Unsupported, "the API server cannot do this", "")
	}
	return with(fault.Invalid, "the API server refuses the request with "+r.Error(), "an admission rule of the cluster may forbid it; try the same change with kubectl")
}

// decode gives the bytes of a field of a Secret.
func decode(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	return b, err == nil
}
