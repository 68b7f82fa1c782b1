//go:build real

package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// cluster is a real API server as the harness sees it. It speaks plain HTTP, so that it shares no mistake with the driver.
type cluster struct {
	t      *testing.T
	config string
	base   string
	http   *http.Client
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, config: peers.Kubernetes(t)}
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

func (c *cluster) kubeconfig(testing.TB) string { return c.config }

func (c *cluster) do(method, path, sort string, in any) (int, map[string]any) {
	c.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			c.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", sort)
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, out
}

func (c *cluster) put(path string, o map[string]any) {
	c.t.Helper()
	code, answer := c.do(http.MethodPatch, path, "application/merge-patch+json", o)
	if code == http.StatusNotFound {
		code, answer = c.do(http.MethodPost, filepath.Dir(path), "application/json", o)
	}
	if code >= 300 {
		c.t.Fatalf("stranger's write of %s: status %d, %v", path, code, answer["message"])
	}
}

func (c *cluster) get(path string) map[string]any {
	c.t.Helper()
	code, answer := c.do(http.MethodGet, path, "application/json", nil)
	switch code {
	case http.StatusOK:
		return answer
	case http.StatusNotFound:
		return nil
	}
	c.t.Fatalf("stranger's read of %s: status %d", path, code)
	return nil
}

// namespace makes a namespace, and waits for the account without which no pod is admitted.
func (c *cluster) namespace(name string) string {
	c.t.Helper()
	c.put("/api/v1/namespaces/"+name, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}})
	c.wait("service account", func() bool { return c.get("/api/v1/namespaces/"+name+"/serviceaccounts/default") != nil })
	return name
}

func (c *cluster) wait(what string, done func() bool) {
	c.t.Helper()
	begun := time.Now()
	defer func() { c.t.Logf("%s after %v", what, time.Since(begun).Round(time.Millisecond)) }()
	for end := time.Now().Add(3 * time.Minute); !done(); <-time.After(100 * time.Millisecond) {
		if time.Now().After(end) {
			for _, p := range objects(c.get("/api/v1/pods")["items"]) {
				c.t.Logf("%s/%s %s ready=%t deleted=%v uses %v", text(p, "metadata", "namespace"), text(p, "metadata", "name"), text(p, "status", "phase"),
					pod{raw: &unstructured.Unstructured{Object: p}}.ready(), at(p, "metadata", "deletionTimestamp"),
					names(object(p["spec"]), field, func(string) bool { return true }))
			}
			c.t.Fatalf("%s did not come about", what)
		}
	}
}

// settled reports whether every workload of w has rolled out and no pod of an older template is left.
func (c *cluster) settled(w world) bool {
	want := int64(0)
	for i := range w.workloads {
		o := w.workload(i)
		kind := text(o, "kind")
		n, updated := number(o, "spec", "replicas"), number(o, "status", "updatedReplicas")
		if kind == "DaemonSet" {
			n, updated = number(o, "status", "desiredNumberScheduled"), number(o, "status", "updatedNumberScheduled")
		}
		if number(o, "status", "observedGeneration") != number(o, "metadata", "generation") || updated != n || kind == "DaemonSet" && n == 0 {
			return false
		}
		want += n
	}
	pods := objects(c.get("/api/v1/namespaces/" + w.ns + "/pods")["items"])
	for _, p := range pods {
		if at(p, "metadata", "deletionTimestamp") != nil || !strings.Contains(fmt.Sprint(at(p, "status", "conditions")), "status:True type:Ready") {
			return false
		}
	}
	return int64(len(pods)) == want
}

func TestRealSuite(t *testing.T) {
	c := newCluster(t)
	for _, style := range []string{"in-place", "versioned"} {
		t.Run(style, func(t *testing.T) {
			n := 0
			h := harness(style, []string{"Deployment", "StatefulSet"}, func(testing.TB) (peer, string, *fake) {
				n++
				return scaled{c, map[string]int{"in-place": 1, "versioned": 0}[style]}, c.namespace(fmt.Sprintf("%s-%d", style, n)), nil
			}, func(_ testing.TB, w world) { c.wait("rollout", func() bool { return c.settled(w) }) })
			locationtest.Run(t, h)
		})
	}
}

// scaled makes workloads with n replicas. The suite removes old Secrets at once, which pods of a real cluster still use for a
// moment; so style versioned runs it without pods, and TestRealRollout with them.
type scaled struct {
	*cluster
	n int
}

func (s scaled) put(path string, o map[string]any) {
	if at(o, "spec", "replicas") != nil {
		object(o["spec"])["replicas"] = s.n
	}
	s.cluster.put(path, o)
}

func TestRealRollout(t *testing.T) {
	c := newCluster(t)
	for _, style := range []string{"in-place", "versioned"} {
		t.Run(style, func(t *testing.T) {
			w := world{peer: scaled{c, 2}, ns: c.namespace("rollout-" + style), secret: "anthropic", workloads: []string{"DaemonSet/app-d", "Deployment/app", "StatefulSet/app-s"}}
			c.put(secretPath(w.ns, w.secret), newSecret(w.ns, w.secret))
			for _, name := range w.workloads {
				kind, name, _ := strings.Cut(name, "/")
				w.put(workloadPath(w.ns, kind, name), newWorkload(w.ns, kind, name, w.secret))
			}
			d := w.open(t, style)
			c.wait("first rollout", func() bool { return c.settled(w) })
			if errs := d.(location.Checker).Check(t.Context()); len(errs) != 0 {
				t.Fatalf("check: %v", errs)
			}
			a, b := secrettest.Fake(t), secrettest.Fake(t)
			const pods = 2 + 2 + 2
			roll := func(id string) {
				if r, ok := d.(location.Reloader); ok {
					for range 2 {
						if err := r.Reload(t.Context(), id); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			put(t, d, a)
			roll("r1")
			c.wait("confirmation", func() bool { return confirm(t, d, a).Complete() && c.settled(w) })
			if got := confirm(t, d, a); got.Running != pods || got.Taken != pods || got.How != location.Label {
				t.Errorf("after the first rollout: %+v", got)
			}
			c.wait("probe", func() bool { return d.(location.Prober).Probe(t.Context()) == nil })
			for i := range w.workloads {
				if g := number(w.workload(i), "metadata", "generation"); g > 3 {
					t.Errorf("%s was changed %d times", w.workloads[i], g)
				}
			}

			// New pods that never turn ready: the old ones stay.
			c.put(workloadPath(w.ns, "Deployment", "app"), map[string]any{"spec": map[string]any{"progressDeadlineSeconds": 5}})
			hold := map[string]any{"metadata": map[string]any{"annotations": map[string]any{peers.HoldReadyAnnotation: "yes"}}}
			if style == "in-place" {
				c.put(workloadPath(w.ns, "Deployment", "app"), map[string]any{"spec": map[string]any{"template": hold}})
			} else {
				c.put(workloadPath(w.ns, "Deployment", "app"), map[string]any{"spec": map[string]any{"paused": true}})
				if errs := d.(location.Checker).Check(t.Context()); len(errs) != 1 || !fault.Is(errs[0], fault.Conflict) {
					t.Errorf("check of a paused rollout: %v", errs)
				}
				c.put(workloadPath(w.ns, "Deployment", "app"), map[string]any{"spec": map[string]any{"template": hold}})
				c.put(workloadPath(w.ns, "Deployment", "app"), map[string]any{"spec": map[string]any{"paused": false}})
			}
			r := put(t, d, b)
			roll("r2")
			var stuck error
			c.wait("deadline of the rollout", func() bool {
				var got location.Confirmation
				got, stuck = d.(location.Confirmer).Confirm(t.Context(), b.Digest())
				if got.Complete() {
					t.Fatalf("confirmed, although pods are held: %+v", got)
				}
				return stuck != nil
			})
			wantKind(t, stuck, fault.Unavailable)
			wantKind(t, d.(location.Prober).Probe(t.Context()), fault.Unavailable)

			// Back again, and the pods are released.
			c.put(workloadPath(w.ns, "Deployment", "app"), map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{peers.HoldReadyAnnotation: nil}}}}})
			if rs, ok := d.(location.Restorer); ok {
				if _, err := rs.Restore(t.Context(), r); err != nil {
					t.Fatalf("restore: %v", err)
				}
			} else {
				put(t, d, a)
				roll("r3")
			}
			c.wait("rollout back", func() bool {
				got, err := d.(location.Confirmer).Confirm(t.Context(), a.Digest())
				return err == nil && got.Complete() && got.Running == pods && c.settled(w)
			})
			if rm, ok := d.(location.Remover); ok {
				if err := rm.Remove(t.Context(), b.Digest()); err != nil {
					t.Errorf("remove: %v", err)
				}
				if c.get(secretPath(w.ns, d.(*versioned).versionName(b.Digest()))) != nil {
					t.Error("the Secret of the rejected value is still there")
				}
				wantKind(t, rm.Remove(t.Context(), a.Digest()), fault.Conflict)
			}
			if held, ok := w.held(); !ok || string(held) != a.RevealString() {
				t.Error("the place does not hold the first value")
			}
		})
	}
}

// TestRealRolesOfTheDocumentation gives a login exactly the rights that the page names.
func TestRealRolesOfTheDocumentation(t *testing.T) {
	c := newCluster(t)
	roles := rolesOf(t, string(meta))
	for i, style := range []string{"in-place", "versioned"} {
		t.Run(style, func(t *testing.T) {
			ns := c.namespace("roles-" + style)
			w := world{peer: limited{c, ns}, ns: ns, secret: "anthropic-api-key", workloads: []string{"Deployment/app"}}
			c.put(secretPath(ns, w.secret), newSecret(ns, w.secret))
			c.put(workloadPath(ns, "Deployment", "app"), newWorkload(ns, "Deployment", "app", w.secret))
			d := w.open(t, style)
			errs := d.(location.Checker).Check(t.Context())
			for _, err := range errs {
				wantKind(t, err, fault.Forbidden)
			}
			if len(errs) < 8 {
				t.Errorf("without a role: %v", errs)
			}
			_, err := d.Inspect(t.Context())
			wantKind(t, err, fault.Forbidden)

			rbac := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + ns
			c.put(rbac+"/roles/keywright", map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": map[string]any{"name": "keywright"}, "rules": roles[i]})
			c.put(rbac+"/rolebindings/keywright", map[string]any{
				"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": map[string]any{"name": "keywright"},
				"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "keywright"},
				"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": "keywright", "namespace": ns}},
			})
			c.wait("role", func() bool { return len(d.(location.Checker).Check(t.Context())) == 0 })
			a, b := secrettest.Fake(t), secrettest.Fake(t)
			put(t, d, a)
			put(t, d, b)
			if r, ok := d.(location.Reloader); ok {
				if err := r.Reload(t.Context(), "r1"); err != nil {
					t.Error(err)
				}
			}
			var last location.Confirmation
			t.Cleanup(func() { t.Logf("last confirmation: %+v", last) })
			c.wait("confirmation", func() bool { last = confirm(t, d, b); return last.Complete() && c.settled(w) })
			if rm, ok := d.(location.Remover); ok {
				if err := rm.Remove(t.Context(), a.Digest()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// limited is the cluster for a login that acts as a service account without rights of its own.
type limited struct {
	*cluster
	ns string
}

func (l limited) kubeconfig(tb testing.TB) string {
	cfg, err := clientcmd.LoadFromFile(l.config)
	if err != nil {
		tb.Fatal(err)
	}
	for _, u := range cfg.AuthInfos {
		u.Impersonate = "system:serviceaccount:" + l.ns + ":keywright"
	}
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, path); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// rolesOf gives the rules of each role in the page.
func rolesOf(t *testing.T, page string) [][]any {
	t.Helper()
	var roles [][]any
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if strings.TrimSpace(line) != "rules:" {
			continue
		}
		end := i + slices.Index(lines[i:], "")
		var role struct {
			Rules []any `json:"rules"`
		}
		if err := yaml.Unmarshal([]byte(strings.Join(lines[i:end], "\n")), &role); err != nil {
			t.Fatal(err)
		}
		roles = append(roles, role.Rules)
	}
	if len(roles) != 2 {
		t.Fatalf("%d roles", len(roles))
	}
	return roles
}
