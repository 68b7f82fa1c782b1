package kubernetes

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/keywright/keywright/internal/location/locationtest"
)

// fake is a stateful API server for Secrets, workloads and pods with their resourceVersion, uid and generation, and the
// controllers that replace the pods of a changed template at once.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any // by path
	denied   map[string]bool           // "verb resource"
	once     *locationtest.Fault
	calls    []string
	hold     bool                     // pods of new templates do not turn ready
	on       func(call string) string // what to do at a call: "" or "before" or "after" end the connection there
	released chan struct{}
}

func newFake(tb testing.TB) *fake {
	f := &fake{objects: map[string]map[string]any{}, denied: map[string]bool{}, released: make(chan struct{})}
	f.Server = httptest.NewServer(f)
	tb.Cleanup(func() { close(f.released); f.Close() })
	return f
}

// kubeconfig writes a kubeconfig that leads to the fake.
func (f *fake) kubeconfig(tb testing.TB) string {
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: fake\nclusters: [{name: fake, cluster: {server: '" + f.URL + "'}}]\n" +
		"users: [{name: fake, user: {}}]\ncontexts: [{name: fake, context: {cluster: fake, user: fake}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func (f *fake) breakOnce(_ testing.TB, b locationtest.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.once = &b
}

// at sets what happens at each call; f.mu is held while it runs.
func (f *fake) at(on func(call string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

// hits reports whether a fault on a write is meant for this call: the one that changes what is in force, or that stages.
func hits(method, resource string, body map[string]any) bool {
	switch {
	case resource == "secrets" && method == http.MethodPost:
		return text(body, "metadata", "labels", labelState) == stateStaged
	case resource == "secrets":
		return method == http.MethodPatch && body["data"] != nil
	}
	return method == http.MethodPatch
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var body map[string]any
	_ = json.Unmarshal(raw, &body)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource := parts[len(parts)-1]
	if i := slices.Index(parts, "namespaces"); i >= 0 && len(parts) > i+2 {
		resource = parts[i+2]
	}
	call := r.Method + " " + resource

	f.mu.Lock()
	f.calls = append(f.calls, call)
	var b locationtest.Fault
	if f.once != nil && (!f.once.OnWrite || hits(r.Method, resource, body)) {
		b, f.once = *f.once, nil
	}
	cut := ""
	if f.on != nil {
		cut = f.on(call)
	}
	if cut == "before" {
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	if b.Hang {
		f.mu.Unlock()
		select {
		case <-r.Context().Done():
		case <-f.released:
		}
		return
	}
	code, answer := b.Status, map[string]any(nil)
	if b.Status == 0 {
		if code, answer = f.do(r, resource, body); answer != nil {
			answer = clone(answer)
		}
	}
	f.mu.Unlock()

	switch {
	case b.Cut || cut == "after":
		panic(http.ErrAbortHandler)
	case b.Garbage:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "]garbage[")
		return
	case code == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", strconv.Itoa(locationtest.RetryAfterSeconds))
	}
	if answer == nil {
		answer = status(code, map[int]string{404: "NotFound", 409: "Conflict", 403: "Forbidden", 401: "Unauthorized", 422: "Invalid"}[code])
		answer["message"] = "the request was " + string(raw) // a careless server
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func status(code int, reason string) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason}
}

// do serves one call. The lock is held.
func (f *fake) do(r *http.Request, resource string, body map[string]any) (int, map[string]any) {
	path := r.URL.Path
	switch {
	case resource == "selfsubjectaccessreviews":
		a := object(at(body, "spec", "resourceAttributes"))
		verb := fmt.Sprintf("%s %s", a["verb"], a["resource"])
		body["status"] = map[string]any{"allowed": !f.denied[verb]}
		return 201, body
	case r.Method == http.MethodGet && strings.HasSuffix(path, "/"+resource):
		selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
		if err != nil {
			return 400, nil
		}
		items := []any{}
		for _, p := range slices.Sorted(maps.Keys(f.objects)) {
			if o := f.objects[p]; strings.HasPrefix(p, path+"/") && selector.Matches(labels.Set(texts(at(o, "metadata", "labels")))) {
				items = append(items, o)
			}
		}
		return 200, map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items}
	case r.Method == http.MethodPost:
		path += "/" + text(body, "metadata", "name")
		if f.objects[path] != nil {
			return 409, status(409, "AlreadyExists")
		}
		return 201, f.write(path, body, r.URL.Query().Get("fieldManager"))
	}
	o := f.objects[path]
	switch {
	case o == nil:
		return 404, nil
	case r.Method == http.MethodDelete:
		for _, k := range []string{"uid", "resourceVersion"} {
			if want := text(body, "preconditions", k); want != "" && want != text(o, "metadata", k) {
				return 409, nil
			}
		}
		delete(f.objects, path)
		return 200, map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Success"}
	case r.Method == http.MethodPatch:
		for _, k := range []string{"uid", "resourceVersion"} {
			if want := text(body, "metadata", k); want != "" && want != text(o, "metadata", k) {
				return 409, nil
			}
		}
		changed := clone(o)
		merge(changed, body)
		if o["immutable"] == true && !same(o["data"], changed["data"]) {
			return 422, nil
		}
		return 200, f.write(path, changed, r.URL.Query().Get("fieldManager"))
	}
	return 200, o
}

// write stores an object as the API server does. The lock is held.
func (f *fake) write(path string, o map[string]any, manager string) map[string]any {
	old := f.objects[path]
	o = clone(o)
	f.version++
	m := object(o["metadata"])
	m["resourceVersion"] = strconv.Itoa(f.version)
	now := time.Unix(int64(1_700_000_000+f.version*60), 0).UTC().Format(time.RFC3339)
	if old == nil {
		m["uid"], m["creationTimestamp"] = fmt.Sprintf("uid-%d", f.version), now
	}
	if !same(old["spec"], o["spec"]) {
		m["generation"] = number(m, "generation") + 1
	}
	if !same(old["data"], o["data"]) && o["kind"] == "Secret" {
		fields := map[string]any{}
		for k := range object(o["data"]) {
			fields["f:"+k] = map[string]any{}
		}
		m["managedFields"] = []any{map[string]any{"manager": manager, "operation": "Update", "time": now, "fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:data": fields}}}
	}
	f.objects[path] = o
	if strings.Contains(path, "/apps/v1/") {
		f.roll(path, o, old, now)
	}
	return clone(o)
}

// roll is the controllers: it replaces the pods when the template changed.
func (f *fake) roll(path string, o, old map[string]any, now string) {
	f.version++
	ns := strings.Split(path, "/")[5]
	name, kind := text(o, "metadata", "name"), text(o, "kind")
	n := number(o, "spec", "replicas")
	if kind == "DaemonSet" {
		n = 2
	}
	if !same(at(old, "spec", "template"), at(o, "spec", "template")) {
		for p := range f.objects {
			if strings.HasPrefix(p, "/api/v1/namespaces/"+ns+"/pods/"+strings.ToLower(kind)+"-"+name+"-") && !f.hold {
				delete(f.objects, p)
			}
		}
		for i := range n {
			pod := fmt.Sprintf("%s-%s-%d-%d", strings.ToLower(kind), name, f.version, i)
			owner := map[string]any{"controller": true, "kind": kind, "name": name, "uid": text(o, "metadata", "uid")}
			if kind == "Deployment" {
				owner["kind"], owner["name"] = "ReplicaSet", fmt.Sprintf("%s-%d", name, f.version)
			}
			f.objects["/api/v1/namespaces/"+ns+"/pods/"+pod] = clone(map[string]any{
				"apiVersion": "v1", "kind": "Pod",
				"metadata": map[string]any{
					"name": pod, "namespace": ns, "ownerReferences": []any{owner},
					"labels": at(o, "spec", "template", "metadata", "labels"), "annotations": at(o, "spec", "template", "metadata", "annotations"),
				},
				"spec":   at(o, "spec", "template", "spec"),
				"status": podStatus(!f.hold, now),
			})
		}
	}
	have := n
	if f.hold {
		have = 0
	}
	o["status"] = map[string]any{
		"observedGeneration": number(o, "metadata", "generation"), "availableReplicas": have,
		"desiredNumberScheduled": n, "numberAvailable": have,
	}
	object(o["metadata"])["resourceVersion"] = strconv.Itoa(f.version)
}

func podStatus(ready bool, now string) map[string]any {
	return map[string]any{
		"phase":             "Running",
		"conditions":        []any{map[string]any{"type": "Ready", "status": map[bool]string{true: "True", false: "False"}[ready]}},
		"containerStatuses": []any{map[string]any{"name": "app", "state": map[string]any{"running": map[string]any{"startedAt": now}}}},
	}
}

// put stores an object as a stranger would.
func (f *fake) put(path string, o map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.objects[path]; old != nil {
		merged := clone(old)
		merge(merged, o)
		o = merged
	}
	f.write(path, o, "stranger")
}

func (f *fake) get(path string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects[path] == nil {
		items := []any{}
		for _, p := range slices.Sorted(maps.Keys(f.objects)) {
			if strings.HasPrefix(p, path+"/") {
				items = append(items, f.objects[p])
			}
		}
		if len(items) == 0 {
			return nil
		}
		return clone(map[string]any{"items": items})
	}
	return clone(f.objects[path])
}

func merge(into, from map[string]any) {
	for k, v := range from {
		switch m, ok := v.(map[string]any); {
		case v == nil:
			delete(into, k)
		case ok:
			if object(into[k]) == nil {
				into[k] = map[string]any{}
			}
			merge(object(into[k]), m)
		default:
			into[k] = v
		}
	}
}

func clone(o map[string]any) map[string]any {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
