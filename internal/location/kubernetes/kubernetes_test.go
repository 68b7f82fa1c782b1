package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// fakeWorld makes a Secret and workloads of the given kinds that refer to it, in a fresh fake.
func fakeWorld(t *testing.T, kinds ...string) (*fake, world) {
	t.Helper()
	f := newFake(t)
	w := world{peer: f, ns: "ai", secret: "anthropic"}
	f.put(secretPath("ai", "anthropic"), newSecret("ai", "anthropic"))
	for _, kind := range kinds {
		w.workloads = append(w.workloads, kind+"/app")
		f.put(workloadPath("ai", kind, "app"), newWorkload("ai", kind, "app", "anthropic"))
	}
	return f, w
}

func inspect(t *testing.T, d location.Driver) location.Holding {
	t.Helper()
	h, err := d.Inspect(t.Context())
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return h
}

func put(t *testing.T, d location.Driver, v secret.Value) location.Receipt {
	t.Helper()
	r, err := d.Put(t.Context(), v, location.ExpectHolding(inspect(t, d)))
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	return r
}

func confirm(t *testing.T, d location.Driver, v secret.Value) location.Confirmation {
	t.Helper()
	c, err := d.(location.Confirmer).Confirm(t.Context(), v.Digest())
	if err != nil {
		t.Fatalf("confirm: %v", err)
	}
	return c
}

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("error %v of kind %v, want kind %v", err, fault.KindOf(err), kind)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Config{Namespace: "ai", Secret: "anthropic"}
	for name, change := range map[string]func(*Config){
		"namespace":         func(c *Config) { c.Namespace = "AI" },
		"no secret":         func(c *Config) { c.Secret = "" },
		"path":              func(c *Config) { c.Secret = "../x" },
		"field":             func(c *Config) { c.Field = "a/b" },
		"style":             func(c *Config) { c.Style = "both" },
		"workload kind":     func(c *Config) { c.Workloads = []string{"cronjob/x"} },
		"workload no name":  func(c *Config) { c.Workloads = []string{"deployment/"} },
		"workload twice":    func(c *Config) { c.Workloads = []string{"deployment/x", "deployment/x"} },
		"long name":         func(c *Config) { c.Style, c.Secret = "versioned", strings.Repeat("a", 250) },
		"create, versioned": func(c *Config) { c.Style, c.Create = "versioned", true },
	} {
		cfg := good
		change(&cfg)
		_, err := Open(cfg, location.Env{})
		if !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v (hint %q), want Invalid with a hint", name, err, fault.HintOf(err))
		}
	}
	if _, err := Open(good, location.Env{}); err != nil {
		t.Errorf("good configuration: %v", err)
	}
}

func TestMissingKubeconfigIsInvalid(t *testing.T) {
	d, err := Open(Config{Kubeconfig: "none", Namespace: "ai", Secret: "anthropic"}, location.Env{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Inspect(t.Context())
	wantKind(t, err, fault.Invalid)
	if d.(location.Addresser).Address() == "" {
		t.Error("no address without a kubeconfig")
	}
}

func TestCreateOnlyWhenAllowed(t *testing.T) {
	f := newFake(t)
	w := world{peer: f, ns: "ai", secret: "anthropic"}
	v := secrettest.Fake(t)
	_, err := w.open(t, "in-place").Put(t.Context(), v, location.Expect{Checked: true, Absent: true})
	wantKind(t, err, fault.NotFound)
	if f.get(secretPath("ai", "anthropic")) != nil {
		t.Fatal("the Secret was made without create")
	}
	d := w.open(t, "in-place", func(c *Config) { c.Create = true })
	r := put(t, d, v)
	if h := inspect(t, d); !h.Holds(v.Digest()) || h.Revision != r.Revision {
		t.Errorf("after creating: %+v, receipt %+v", h, r)
	}
	if got := text(f.get(secretPath("ai", "anthropic")), "metadata", "annotations", markFingerprint); got != string(v.Fingerprint()) {
		t.Errorf("fingerprint annotation %q", got)
	}
}

func TestImmutableSecretIsRefusedWithAHint(t *testing.T) {
	f, w := fakeWorld(t, "Deployment")
	f.put(secretPath("ai", "anthropic"), map[string]any{"immutable": true})
	d := w.open(t, "in-place")
	_, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.Unsupported)
	if !strings.Contains(fault.HintOf(err), "versioned") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	v := secrettest.Fake(t)
	d = w.open(t, "versioned")
	put(t, d, v)
	if !inspect(t, d).Holds(v.Digest()) {
		t.Error("versioned does not hold the value")
	}
}

func TestConfirmInPlaceGoesPodByPod(t *testing.T) {
	_, w := fakeWorld(t, "Deployment", "DaemonSet")
	d := w.open(t, "in-place")
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	put(t, d, a)
	// The pods started before the field was written.
	if c := confirm(t, d, a); c.Running != 5 || c.Old != 5 || c.How != location.ChangedAt {
		t.Errorf("before the restart: %+v", c)
	}
	if err := d.(location.Reloader).Reload(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	if c := confirm(t, d, a); !c.Complete() || c.Running != 5 || c.How != location.Label {
		t.Errorf("after the restart: %+v", c)
	}
	put(t, d, b)
	if c := confirm(t, d, b); c.Taken != 0 || c.Old != 5 {
		t.Errorf("after a second put: %+v", c)
	}
	if c := confirm(t, d, a); c.Taken != 0 || c.Unknown != 5 {
		t.Errorf("the replaced value, of which the pods carry the mark: %+v", c)
	}
}

func TestConfirmCountsPodsOfNothingKnown(t *testing.T) {
	for _, style := range []string{"in-place", "versioned"} {
		f, w := fakeWorld(t, "Deployment")
		d := w.open(t, style)
		v := secrettest.Fake(t)
		put(t, d, v)
		if r, ok := d.(location.Reloader); ok {
			if err := r.Reload(t.Context(), "r1"); err != nil {
				t.Fatal(err)
			}
		}
		if !confirm(t, d, v).Complete() {
			t.Fatalf("%s: incomplete without the further pod", style)
		}
		spec := object(at(newWorkload("ai", "Deployment", "job", "anthropic"), "spec", "template", "spec"))
		path := "/api/v1/namespaces/ai/pods/job-1"
		f.put(path, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "job-1"}, "spec": spec, "status": podStatus(true, "2001-01-01T00:00:00Z")})
		c := confirm(t, d, v)
		if c.Running != 4 || c.Taken != 3 || c.Complete() || !strings.Contains(fmt.Sprint(c.Facts), "job-1") {
			t.Errorf("%s: a pod of a job with the old value: %+v", style, c)
		}
		f.put(path, map[string]any{"status": map[string]any{"phase": "Succeeded"}})
		if c := confirm(t, d, v); !c.Complete() {
			t.Errorf("%s: the job has ended: %+v", style, c)
		}
	}
}

func TestStuckRolloutNamesTheReason(t *testing.T) {
	for _, style := range []string{"in-place", "versioned"} {
		f, w := fakeWorld(t, "Deployment")
		d := w.open(t, style)
		put(t, d, secrettest.Fake(t))
		f.mu.Lock()
		f.hold = true
		f.mu.Unlock()
		v := secrettest.Fake(t)
		put(t, d, v)
		if r, ok := d.(location.Reloader); ok {
			if err := r.Reload(t.Context(), "r1"); err != nil {
				t.Fatal(err)
			}
		}
		if c := confirm(t, d, v); c.Running != 6 || c.Taken != 0 || c.Old != 3 || c.Unknown != 3 {
			t.Errorf("%s: new pods that are not ready: %+v", style, c)
		}
		wantKind(t, d.(location.Prober).Probe(t.Context()), fault.Unavailable)
		for _, p := range objects(f.get("/api/v1/namespaces/ai/pods")["items"]) {
			f.put("/api/v1/namespaces/ai/pods/"+text(p, "metadata", "name"), map[string]any{"status": map[string]any{"containerStatuses": []any{
				map[string]any{"state": map[string]any{"waiting": map[string]any{"reason": "CrashLoopBackOff", "message": v.RevealString()}}},
				map[string]any{"state": map[string]any{"waiting": map[string]any{"reason": v.RevealString()}}},
			}}})
		}
		f.put(workloadPath("ai", "Deployment", "app"), map[string]any{"metadata": map[string]any{"x": "y"}})
		f.mu.Lock()
		object(f.objects[workloadPath("ai", "Deployment", "app")]["status"])["conditions"] = []any{map[string]any{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}}
		f.mu.Unlock()
		_, err := d.(location.Confirmer).Confirm(t.Context(), v.Digest())
		wantKind(t, err, fault.Unavailable)
		if hint := fault.HintOf(err); !strings.Contains(hint, "CrashLoopBackOff") {
			t.Errorf("%s: hint %q", style, hint)
		}
		secrettest.NoLeak(t, "the error", []byte(err.Error()+fault.HintOf(err)), v)
	}
}

func TestVersionedLeavesOtherReferencesAlone(t *testing.T) {
	f, w := fakeWorld(t, "Deployment")
	path := workloadPath("ai", "Deployment", "app")
	o := f.get(path)
	app := objects(at(o, "spec", "template", "spec", "containers"))[0]
	app["env"] = append(app["env"].([]any), map[string]any{"name": "THIRD", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "anthropic", "key": "OTHER"}}})
	f.put(path, o)
	d := w.open(t, "versioned")
	v := secrettest.Fake(t)
	put(t, d, v)
	var to []string
	for _, r := range references(object(at(f.get(path), "spec", "template", "spec")), field) {
		to = append(to, fmt.Sprintf("%s %v", r.name, r.carries))
	}
	name := d.(*versioned).versionName(v.Digest())
	want := []string{name + " true", "unrelated true", "anthropic false", name + " true", name + " true", name + " true"}
	if !slices.Equal(to, want) {
		t.Errorf("references %v, want %v", to, want)
	}
}

// TestVersionedSurvivesACutAtEveryCall ends the connection before or after the n-th call, as a crash of either side would, and lets a
// new driver finish, or go back.
func TestVersionedSurvivesACutAtEveryCall(t *testing.T) {
	for _, back := range []bool{false, true} {
		for _, when := range []string{"before", "after"} {
			done := false
			for n := 0; !done; n++ {
				f, w := fakeWorld(t, "DaemonSet", "Deployment", "StatefulSet")
				d := w.open(t, "versioned")
				a, b := secrettest.Fake(t), secrettest.Fake(t)
				put(t, d, a)
				h := inspect(t, d)
				seen := 0
				f.at(func(call string) string {
					if strings.HasPrefix(call, "GET ") { // HTTP repeats a lost reading by itself
						return ""
					}
					if seen++; seen == n+1 {
						return when
					}
					return ""
				})
				_, err := d.Put(t.Context(), b, location.ExpectHolding(h))
				f.at(nil)
				done = seen <= n
				if done != (err == nil) {
					t.Fatalf("call %d, %s: %v", n, when, err)
				}
				// At each moment every reference leads to a Secret with one of the two values.
				for i := range w.workloads {
					for _, name := range names(object(at(w.workload(i), "spec", "template", "spec")), field, func(s string) bool { return s != "unrelated" }) {
						data := text(w.get(secretPath("ai", name)), "data", field)
						if data != b64(a.RevealString()) && data != b64(b.RevealString()) {
							t.Fatalf("call %d, %s: %s refers to %q, which holds neither value", n, when, w.workloads[i], name)
						}
					}
				}
				want := b
				if back {
					want = a
				}
				again := w.open(t, "versioned")
				put(t, again, want)
				if h := inspect(t, again); !h.Holds(want.Digest()) || h.Facts["mixed"] != "" || h.Pending != nil {
					t.Fatalf("call %d, %s, back %v: %+v", n, when, back, h)
				}
				if c := confirm(t, again, want); !c.Complete() {
					t.Fatalf("call %d, %s, back %v: %+v", n, when, back, c)
				}
			}
		}
	}
}

func TestHalfSwitchedIsSaid(t *testing.T) {
	f, w := fakeWorld(t, "DaemonSet", "Deployment")
	d := w.open(t, "versioned")
	put(t, d, secrettest.Fake(t))
	patches := 0
	f.at(func(call string) string {
		if call == "PATCH daemonsets" || call == "PATCH deployments" {
			if patches++; patches == 2 {
				return "before"
			}
		}
		return ""
	})
	h := inspect(t, d)
	if _, err := d.Put(t.Context(), secrettest.Fake(t), location.ExpectHolding(h)); err == nil {
		t.Fatal("no error")
	}
	f.at(nil)
	h = inspect(t, d)
	if h.Known() || h.How != location.Nothing || h.Facts["mixed"] == "" {
		t.Errorf("half switched: %+v", h)
	}
	_, err := d.(location.Reader).Read(t.Context())
	wantKind(t, err, fault.Conflict)
}

func TestReferencesThatWentElsewhereAreSaid(t *testing.T) {
	f, w := fakeWorld(t, "Deployment")
	d := w.open(t, "versioned")
	put(t, d, secrettest.Fake(t))
	o := f.get(workloadPath("ai", "Deployment", "app"))
	point(object(at(o, "spec", "template", "spec")), field, func(string) bool { return true }, "somebody-elses")
	f.put(workloadPath("ai", "Deployment", "app"), o)
	if h := inspect(t, d); h.Known() || h.How != location.Nothing {
		t.Errorf("no reference is left: %+v", h)
	}
	_, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.NotFound)
}

func TestRemoveSparesWhatIsInUse(t *testing.T) {
	f, w := fakeWorld(t, "Deployment")
	d := w.open(t, "versioned")
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	put(t, d, a)
	path := "/api/v1/namespaces/ai/pods/lingering"
	name := d.(*versioned).versionName(a.Digest())
	f.put(path, map[string]any{"kind": "Pod", "metadata": map[string]any{"name": "lingering"}, "spec": map[string]any{"volumes": []any{map[string]any{"secret": map[string]any{"secretName": name}}}}})
	put(t, d, b)
	err := d.(location.Remover).Remove(t.Context(), a.Digest())
	wantKind(t, err, fault.Conflict)
	wantKind(t, d.(location.Remover).Remove(t.Context(), b.Digest()), fault.Conflict)
	f.put(path, map[string]any{"status": map[string]any{"phase": "Failed"}})
	if err := d.(location.Remover).Remove(t.Context(), a.Digest()); err != nil || f.get(secretPath("ai", name)) != nil {
		t.Errorf("remove: %v", err)
	}
	// One that carries our name and not our label stays.
	c := secrettest.Fake(t)
	stranger := newSecret("ai", d.(*versioned).versionName(c.Digest()))
	merge(stranger, map[string]any{"data": map[string]any{field: b64(c.RevealString())}})
	f.put(secretPath("ai", text(stranger, "metadata", "name")), stranger)
	if err := d.(location.Remover).Remove(t.Context(), c.Digest()); err != nil || f.get(secretPath("ai", text(stranger, "metadata", "name"))) == nil {
		t.Errorf("remove of a stranger's: %v", err)
	}
	_, err = d.Put(t.Context(), c, location.Expect{})
	wantKind(t, err, fault.Conflict)
}

func TestStatusUpdatesOfTheControllerAreNoConflict(t *testing.T) {
	for _, style := range []string{"in-place", "versioned"} {
		f, w := fakeWorld(t, "Deployment")
		d := w.open(t, style)
		moves := 0
		f.at(func(call string) string {
			if call == "PATCH deployments" && moves < 2 {
				moves++
				o := f.objects[workloadPath("ai", "Deployment", "app")]
				f.version++
				object(o["metadata"])["resourceVersion"] = fmt.Sprint(f.version)
			}
			return ""
		})
		v := secrettest.Fake(t)
		put(t, d, v)
		if r, ok := d.(location.Reloader); ok {
			if err := r.Reload(t.Context(), "r1"); err != nil {
				t.Errorf("%s: %v", style, err)
			}
		}
		if moves != 2 || !inspect(t, d).Holds(v.Digest()) {
			t.Errorf("%s: %d moves", style, moves)
		}
	}
}

func TestCheckNamesEachMissingRight(t *testing.T) {
	f, w := fakeWorld(t, "Deployment")
	for style, denied := range map[string][]string{
		"in-place":  {"patch secrets", "patch deployments", "list pods"},
		"versioned": {"create secrets", "delete secrets", "list secrets"},
	} {
		f.denied = map[string]bool{}
		if errs := w.open(t, style).(location.Checker).Check(t.Context()); len(errs) != 0 {
			t.Fatalf("%s: healthy, and %v", style, errs)
		}
		for _, right := range denied {
			f.denied = map[string]bool{right: true}
			errs := w.open(t, style).(location.Checker).Check(t.Context())
			if len(errs) != 1 || !fault.Is(errs[0], fault.Forbidden) || !strings.Contains(errs[0].Error(), right) || !strings.Contains(fault.HintOf(errs[0]), "verbs: [") {
				t.Errorf("%s without %q: %v", style, right, errs)
			}
		}
	}
}

func TestCheckSeesWhoElseWrites(t *testing.T) {
	marks := map[string]map[string]any{
		"External Secrets": {"ownerReferences": []any{map[string]any{"kind": "ExternalSecret", "name": "x", "uid": "1"}}},
		"Sealed Secrets":   {"ownerReferences": []any{map[string]any{"kind": "SealedSecret", "name": "x", "uid": "1"}}},
		"Argo CD":          {"annotations": map[string]any{"argocd.argoproj.io/tracking-id": "x"}},
		"Flux":             {"labels": map[string]any{"kustomize.toolkit.fluxcd.io/name": "x"}},
		"Helm":             {"labels": map[string]any{"app.kubernetes.io/managed-by": "Helm"}},
	}
	for who, metadata := range marks {
		f, w := fakeWorld(t, "Deployment")
		f.put(secretPath("ai", "anthropic"), map[string]any{"metadata": metadata})
		f.put(workloadPath("ai", "Deployment", "app"), map[string]any{"metadata": metadata})
		for _, style := range []string{"in-place", "versioned"} {
			errs := w.open(t, style).(location.Checker).Check(t.Context())
			if len(errs) != 1 || !fault.Is(errs[0], fault.Conflict) || !strings.Contains(errs[0].Error(), who) || fault.HintOf(errs[0]) == "" {
				t.Errorf("%s, %s: %v", who, style, errs)
			}
			if errs := w.open(t, style, func(c *Config) { c.AllowManaged = true }).(location.Checker).Check(t.Context()); len(errs) != 0 {
				t.Errorf("%s, %s, allowed: %v", who, style, errs)
			}
		}
	}
	f, w := fakeWorld(t, "Deployment")
	d := w.open(t, "in-place")
	put(t, d, secrettest.Fake(t))
	f.put(secretPath("ai", "anthropic"), map[string]any{"metadata": map[string]any{"annotations": map[string]any{lastApplied: `{"data":{"` + field + `":"eA=="}}`}}})
	f.put(workloadPath("ai", "Deployment", "app"), map[string]any{"spec": map[string]any{"paused": true}})
	errs := d.(location.Checker).Check(t.Context())
	if len(errs) != 2 || !fault.Is(errs[0], fault.Conflict) || !fault.Is(errs[1], fault.Conflict) {
		t.Errorf("copy of kubectl apply, paused rollout: %v", errs)
	}
}

func TestConfiguredWorkloadWithoutReference(t *testing.T) {
	f, w := fakeWorld(t, "Deployment")
	f.put(workloadPath("ai", "Deployment", "plain"), newWorkload("ai", "Deployment", "plain", "other"))
	some := func(c *Config) { c.Workloads = []string{"deployment/plain"} }
	_, err := w.open(t, "versioned", some).Put(t.Context(), secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.Invalid)
	d := w.open(t, "in-place", some)
	put(t, d, secrettest.Fake(t))
	if err := d.(location.Reloader).Reload(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	if got := text(f.get(workloadPath("ai", "Deployment", "app")), "spec", "template", "metadata", "annotations", markRestarted); got != "" {
		t.Error("a workload that is not configured was restarted")
	}
	_, err = w.open(t, "in-place", func(c *Config) { c.Workloads = []string{"deployment/none"} }).(location.Confirmer).Confirm(t.Context(), secrettest.Fake(t).Digest())
	wantKind(t, err, fault.NotFound)
}

func TestNobodyAnswers(t *testing.T) {
	f, w := fakeWorld(t, "Deployment")
	d := w.open(t, "in-place")
	f.Close()
	_, err := d.Inspect(t.Context())
	wantKind(t, err, fault.Unavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Inspect(ctx)
	wantKind(t, err, fault.Canceled)
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{"prod": "prod", "": "", "a.b_c-d": "a.b_c-d"} {
		if got := label(in); got != want {
			t.Errorf("label(%q) = %q", in, got)
		}
	}
	for _, in := range []string{"k8s prod", strings.Repeat("x", 80), "-a", "é/ü", strings.Repeat("-", 70)} {
		if got := label(in); !labelRE().MatchString(got) || got == in {
			t.Errorf("label(%q) = %q, which is no label", in, got)
		}
	}
}

// FuzzPoint switches the references of arbitrary specifications: all that carry the field lead to the new name afterwards, and
// switching back gives the same bytes.
func FuzzPoint(f *testing.F) {
	seed, err := json.Marshal(at(newWorkload("ai", "Deployment", "app", "from"), "spec", "template", "spec"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"containers":[{"env":[{"valueFrom":{"secretKeyRef":{"name":"from","key":"ANTHROPIC_API_KEY"}}},7],"envFrom":"x"}],"volumes":[{"secret":{"secretName":"from","items":[{"key":"other"}]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec map[string]any
		if json.Unmarshal(data, &spec) != nil || strings.Contains(string(data), "THE-NEW") {
			t.Skip()
		}
		from := func(s string) bool { return s == "from" }
		before := clone(map[string]any{"spec": spec})
		n := len(names(spec, field, from))
		point(spec, field, from, "THE-NEW")
		if left := names(spec, field, from); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		if moved := names(spec, field, func(s string) bool { return s == "THE-NEW" }); len(moved) != n {
			t.Errorf("%d names became %v", n, moved)
		}
		point(spec, field, func(s string) bool { return s == "THE-NEW" }, "from")
		if !same(before["spec"], spec) {
			t.Error("switching back gives another specification")
		}
	})
}
