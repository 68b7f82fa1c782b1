package kubernetes

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
)

// peer is an API server, as the harness sees it: the fake, or a real one.
type peer interface {
	// kubeconfig gives the path of a kubeconfig.
	kubeconfig(tb testing.TB) string
	// put merges o into the object at path, or makes it, as a stranger would.
	put(path string, o map[string]any)
	// get gives the object at path, or nil.
	get(path string) map[string]any
}

const field = "ANTHROPIC_API_KEY"

func secretPath(ns, name string) string {
	return "/api/v1/namespaces/" + ns + "/secrets/" + name
}

func workloadPath(ns, kind, name string) string {
	return "/apis/apps/v1/namespaces/" + ns + "/" + strings.ToLower(kind) + "s/" + name
}

// newSecret gives a Secret with neighbours and without the field.
func newSecret(ns, name string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
		"metadata": map[string]any{"name": name, "namespace": ns, "labels": map[string]any{"team": "ai"}},
		"data":     map[string]any{"OTHER": b64("a neighbour"), "binary": b64("\x00\xff"), "empty": ""},
	}
}

// newWorkload gives a workload of which one container gets the field by environment, one every field, and one a file.
func newWorkload(ns, kind, name, from string) map[string]any {
	pause := func(name string, more map[string]any) map[string]any {
		c := map[string]any{"name": name, "image": "registry.invalid/app:1", "resources": map[string]any{}}
		merge(c, more)
		return c
	}
	w := map[string]any{
		"apiVersion": "apps/v1", "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": ns},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": name}, "annotations": map[string]any{"team": "ai"}},
				"spec": map[string]any{
					"terminationGracePeriodSeconds": 0, // simulated nodes are slow to end a pod
					"initContainers":                []any{pause("init", map[string]any{"envFrom": []any{map[string]any{"configMapRef": map[string]any{"name": "settings", "optional": true}}}})},
					"containers": []any{
						pause("app", map[string]any{"env": []any{
							map[string]any{"name": "MODE", "value": "fast"},
							map[string]any{"name": field, "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": from, "key": field, "optional": true}}},
							map[string]any{"name": "OTHER", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "unrelated", "key": field, "optional": true}}},
						}}),
						pause("side", map[string]any{"envFrom": []any{map[string]any{"secretRef": map[string]any{"name": from}}}, "volumeMounts": []any{map[string]any{"name": "keys", "mountPath": "/keys"}}}),
					},
					"volumes": []any{
						map[string]any{"name": "keys", "secret": map[string]any{"secretName": from, "optional": true}},
						map[string]any{"name": "mix", "projected": map[string]any{"sources": []any{map[string]any{"secret": map[string]any{"name": from, "items": []any{map[string]any{"key": field, "path": "key"}}}}}}},
					},
				},
			},
		},
	}
	if kind != "DaemonSet" {
		object(w["spec"])["replicas"] = 3
	}
	if kind == "StatefulSet" {
		object(w["spec"])["serviceName"] = name
	}
	return w
}

// world is one place in a namespace: a Secret and the workloads that refer to it.
type world struct {
	peer
	ns, secret string
	workloads  []string // kind/name
}

func (w world) open(tb testing.TB, style string, change ...func(*Config)) location.Driver {
	tb.Helper()
	cfg := Config{Kubeconfig: w.kubeconfig(tb), Namespace: w.ns, Secret: w.secret, Field: field, Style: style}
	for _, c := range change {
		c(&cfg)
	}
	d, err := Open(cfg, location.Env{Name: "k8s prod"})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func (w world) workload(i int) map[string]any {
	kind, name, _ := strings.Cut(w.workloads[i], "/")
	return w.get(workloadPath(w.ns, kind, name))
}

// refs gives the names that the first workload refers to.
func (w world) refs() string {
	spec := object(at(w.workload(0), "spec", "template", "spec"))
	return strings.Join(names(spec, field, func(s string) bool { return s != "unrelated" }), " ")
}

// held gives the field of the Secret that the workloads refer to, without the driver.
func (w world) held() ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(text(w.get(secretPath(w.ns, w.refs())), "data", field))
	return b, err == nil && len(b) > 0
}

// neighbours gives everything of the Secret and the workloads that is not ours.
func (w world) neighbours() []byte {
	s := w.get(secretPath(w.ns, w.refs()))
	data := object(s["data"])
	delete(data, field)
	all := []any{data, s["type"]}
	for i := range w.workloads {
		o := w.workload(i)
		spec := object(at(o, "spec", "template", "spec"))
		point(spec, field, func(s string) bool { return s != "unrelated" }, "THE-SECRET")
		notes := object(at(o, "spec", "template", "metadata", "annotations"))
		for k := range notes {
			if strings.HasPrefix(k, markPrefix) {
				delete(notes, k)
			}
		}
		all = append(all, o["spec"])
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return b
}

// overwrite does what a stranger's apply of the first manifests does.
func (w world) overwrite(v secret.Value) {
	v.Reveal(func(b []byte) {
		w.put(secretPath(w.ns, w.secret), map[string]any{"data": map[string]any{field: base64.StdEncoding.EncodeToString(b)}})
	})
	for i, name := range w.workloads {
		spec := object(at(w.workload(i), "spec", "template", "spec"))
		point(spec, field, func(s string) bool { return s != "unrelated" }, w.secret)
		kind, name, _ := strings.Cut(name, "/")
		w.put(workloadPath(w.ns, kind, name), map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": spec["containers"], "volumes": spec["volumes"]}}}})
	}
}

// harness makes places of one style. start gives a peer and a namespace; the fake is nil where the peer is real.
func harness(style string, kinds []string, start func(testing.TB) (p peer, ns string, f *fake), settle func(tb testing.TB, w world)) locationtest.Harness {
	made := 0
	return locationtest.Harness{
		How: location.ReadBack, CAS: true, ReloadsOnce: true,
		New: func(tb testing.TB) *locationtest.Place {
			p, ns, f := start(tb)
			made++
			w := world{peer: p, ns: ns, secret: fmt.Sprintf("anthropic-%d", made)}
			w.put(secretPath(ns, w.secret), newSecret(ns, w.secret))
			for _, kind := range kinds {
				name := fmt.Sprintf("app-%d", made)
				w.workloads = append(w.workloads, kind+"/"+name)
				w.put(workloadPath(ns, kind, name), newWorkload(ns, kind, name, w.secret))
			}
			place := &locationtest.Place{
				Driver:     w.open(tb, style),
				Again:      func() location.Driver { return w.open(tb, style) },
				Held:       func(testing.TB) ([]byte, bool) { return w.held() },
				Overwrite:  func(_ testing.TB, v secret.Value) { w.overwrite(v) },
				Neighbours: func(testing.TB) []byte { return w.neighbours() },
				Disturb: func(testing.TB) {
					if style == "in-place" {
						w.put(secretPath(ns, w.secret), map[string]any{"data": map[string]any{"OTHER": b64("changed"), "NEW": b64("new")}})
						return
					}
					kind, name, _ := strings.Cut(w.workloads[0], "/")
					w.put(workloadPath(ns, kind, name), map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{"stranger": "was here"}}}}})
				},
				Copies: func(testing.TB) [][]byte {
					var all [][]byte
					for _, s := range objects(w.get("/api/v1/namespaces/" + ns + "/secrets")["items"]) {
						b, err := base64.StdEncoding.DecodeString(text(s, "data", field))
						if err != nil {
							tb.Fatal(err)
						}
						all = append(all, b)
					}
					return all
				},
				Reloads: func(testing.TB) int {
					n := 0
					for i := range w.workloads {
						n += int(number(w.workload(i), "metadata", "generation"))
					}
					return n
				},
				Settle: func(tb testing.TB) { settle(tb, w) },
			}
			if f != nil {
				place.Break = f.breakOnce
			}
			return place
		},
	}
}

func TestSuite(t *testing.T) {
	for _, style := range []string{"in-place", "versioned"} {
		t.Run(style, func(t *testing.T) {
			h := harness(style, []string{"DaemonSet", "Deployment", "StatefulSet"}, func(tb testing.TB) (peer, string, *fake) {
				f := newFake(tb)
				return f, "ai", f
			}, func(testing.TB, world) {})
			h.RetryAfter = true
			h.Faults = append(locationtest.StatusFaults(), locationtest.Interruptions()...)
			if style == "versioned" {
				// A cut or refused switch of the first of three workloads is settled by the next call, not by looking.
				one := harness(style, []string{"Deployment"}, func(tb testing.TB) (peer, string, *fake) {
					f := newFake(tb)
					return f, "ai", f
				}, func(testing.TB, world) {})
				h.New = one.New
			}
			locationtest.Run(t, h)
		})
	}
}
