package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keywright/keywright/internal/fault"
)

// workloadKind is one sort of object with a pod template.
type workloadKind struct {
	word, owner string // as configured; as it stands in a pod's owner reference
	gvr         schema.GroupVersionResource
}

func workloadKinds() []workloadKind {
	apps := func(word, owner, resource string) workloadKind {
		return workloadKind{word: word, owner: owner, gvr: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: resource}}
	}
	return []workloadKind{
		apps("deployment", "ReplicaSet", "deployments"),
		apps("statefulset", "StatefulSet", "statefulsets"),
		apps("daemonset", "DaemonSet", "daemonsets"),
	}
}

func kindOf(word string) (workloadKind, bool) {
	for _, k := range workloadKinds() {
		if k.word == word {
			return k, true
		}
	}
	return workloadKind{}, false
}

// workload is a Deployment, StatefulSet or DaemonSet as it was read.
type workload struct {
	kind workloadKind
	raw  *unstructured.Unstructured
}

// String gives the form of the configuration: "deployment/x".
func (w workload) String() string { return w.kind.word + "/" + w.raw.GetName() }

// spec gives the pod specification of the template. It is shared, not copied.
func (w workload) spec() map[string]any { return object(at(w.raw.Object, "spec", "template", "spec")) }

// marks gives the annotations of the template.
func (w workload) marks() map[string]string {
	return texts(at(w.raw.Object, "spec", "template", "metadata", "annotations"))
}

// owns reports whether a pod belongs to w.
func (w workload) owns(pod *unstructured.Unstructured) bool {
	for _, o := range pod.GetOwnerReferences() {
		if o.Controller == nil || !*o.Controller || o.Kind != w.kind.owner {
			continue
		}
		if w.kind.owner != "ReplicaSet" {
			return o.UID == w.raw.GetUID()
		}
		// A ReplicaSet is named after its Deployment, and selectors of Deployments do not overlap.
		return strings.HasPrefix(o.Name, w.raw.GetName()+"-") && w.selects(pod)
	}
	return false
}

func (w workload) selects(pod *unstructured.Unstructured) bool {
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object(at(w.raw.Object, "spec", "selector")), &s); err != nil {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(&s)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.GetLabels()))
}

// candidates gives the configured workloads, or all of the namespace.
func (p *place) candidates(ctx context.Context) ([]workload, error) {
	if len(p.cfg.Workloads) == 0 {
		return p.everyWorkload(ctx)
	}
	var all []workload
	for _, name := range p.cfg.Workloads {
		word, name, _ := strings.Cut(name, "/")
		kind, _ := kindOf(word)
		u, err := p.api.get(ctx, kind.gvr, name)
		if err != nil {
			return nil, err
		}
		all = append(all, workload{kind: kind, raw: u})
	}
	return sorted(all), nil
}

// chosen leaves the configured workloads, or those whose template carries the field of a wanted Secret.
func (p *place) chosen(all []workload, wanted func(string) bool) []workload {
	if len(p.cfg.Workloads) > 0 {
		return all
	}
	return slices.DeleteFunc(all, func(w workload) bool { return len(names(w.spec(), p.cfg.Field, wanted)) == 0 })
}

// workloads is candidates and chosen in one.
func (p *place) workloads(ctx context.Context, wanted func(string) bool) ([]workload, error) {
	all, err := p.candidates(ctx)
	if err != nil {
		return nil, err
	}
	return p.chosen(all, wanted), nil
}

// everyWorkload gives all workloads of the namespace, ordered by kind and name.
func (p *place) everyWorkload(ctx context.Context) ([]workload, error) {
	var all []workload
	for _, kind := range workloadKinds() {
		list, err := p.api.list(ctx, kind.gvr, "")
		if err != nil {
			return nil, err
		}
		for i := range list {
			all = append(all, workload{kind: kind, raw: &list[i]})
		}
	}
	return sorted(all), nil
}

// sorted gives the one order in which every process changes workloads, so that of two at once one wins at the first.
func sorted(ws []workload) []workload {
	slices.SortFunc(ws, func(a, b workload) int { return strings.Compare(a.String(), b.String()) })
	return ws
}

// mark sets annotations of the pod template, and with it starts a rollout. It compares and sets.
func (p *place) mark(ctx context.Context, w workload, marks map[string]string) error {
	return p.template(ctx, w, map[string]any{"metadata": map[string]any{"annotations": marks}})
}

// template merges a change into the pod template of exactly the state of w that was read. Lists are replaced whole.
func (p *place) template(ctx context.Context, w workload, change map[string]any) error {
	merge, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": w.raw.GetUID(), "resourceVersion": w.raw.GetResourceVersion()},
		"spec":     map[string]any{"template": change},
	})
	if err != nil {
		return fault.Wrap(fault.Unknown, err, fmt.Sprintf("encode change of %s", w))
	}
	_, err = p.api.patch(ctx, w.kind.gvr, w.raw.GetName(), merge)
	return err
}

// again checks and changes w, and does so anew on the state that is there then, as long as others change the workload at the same
// time: its own controller writes the status, which moves the resourceVersion. An error of check is final.
func (p *place) again(ctx context.Context, w workload, check, change func(workload) error) error {
	var err error
	for range 5 {
		if err = check(w); err != nil {
			return err
		}
		if err = change(w); !fault.Is(err, fault.Conflict) {
			return err
		}
		u, read := p.api.get(ctx, w.kind.gvr, w.raw.GetName())
		if read != nil {
			return read
		}
		switch {
		case u.GetUID() != w.raw.GetUID():
			return conflict(fmt.Sprintf("change %s: it was deleted and made anew", w))
		case u.GetResourceVersion() == w.raw.GetResourceVersion():
			return err // it was refused for another reason
		}
		w.raw = u
	}
	return err
}

func joined(ws []workload) string {
	out := make([]string, 0, len(ws))
	for _, w := range ws {
		out = append(out, w.String())
	}
	return strings.Join(out, ", ")
}
