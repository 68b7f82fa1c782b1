package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
)

// pod is a pod as it was read.
type pod struct {
	raw   *unstructured.Unstructured
	owner string // the workload that it belongs to, or empty
}

func (p pod) spec() map[string]any { return object(p.raw.Object["spec"]) }

// over reports whether the pod's containers have ended for good.
func (p pod) over() bool {
	phase := text(p.raw.Object, "status", "phase")
	return phase == "Succeeded" || phase == "Failed"
}

// running reports whether a container of the pod was started.
func (p pod) running() bool { return text(p.raw.Object, "status", "phase") == "Running" }

func (p pod) leaving() bool { return p.raw.GetDeletionTimestamp() != nil }

func (p pod) ready() bool {
	for _, c := range objects(at(p.raw.Object, "status", "conditions")) {
		if c["type"] == "Ready" {
			return c["status"] == "True"
		}
	}
	return false
}

func (p pod) containers() []map[string]any {
	return slices.Concat(objects(at(p.raw.Object, "status", "initContainerStatuses")), objects(at(p.raw.Object, "status", "containerStatuses")))
}

// reasonRE is what a reason is by the API's conventions: one word in CamelCase. Anything else is not shown.
var reasonRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Z][A-Za-z]{0,63}$`) })

// waiting gives the reasons for which containers of the pod wait.
func (p pod) waiting() []string {
	var out []string
	for _, c := range p.containers() {
		if reason := text(c, "state", "waiting", "reason"); reasonRE().MatchString(reason) {
			out = append(out, reason)
		}
	}
	return out
}

// startedAfter reports whether every running container of the pod started after t, by the node's clock. known is false
// when no start is told.
func (p pod) startedAfter(t time.Time) (after, known bool) {
	for _, c := range objects(at(p.raw.Object, "status", "containerStatuses")) {
		started, err := time.Parse(time.RFC3339, text(c, "state", "running", "startedAt"))
		if err != nil {
			return false, false
		}
		if !started.After(t) {
			return false, true
		}
		known = true
	}
	return known, known
}

// state says which value a pod has.
type state int

const (
	undecided state = iota
	taken
	old
)

type verdict struct {
	state state
	how   location.Knowledge
}

// byTime judges a pod that has no mark by the times of its start and of the last write of the field, which is only told where the
// API server keeps managed fields.
func (p *place) byTime(u *unstructured.Unstructured, consumer pod) verdict {
	at, ours := p.changed(u)
	after, known := consumer.startedAfter(at)
	switch {
	case at.IsZero() || !known:
	case after:
		return verdict{state: taken, how: location.ChangedAt}
	case ours: // this driver writes the field only to change it
		return verdict{state: old, how: location.ChangedAt}
	}
	return verdict{state: undecided, how: location.ChangedAt}
}

// confirm judges every running pod that belongs to one of ws or is handed a wanted Secret. A pod that has the value and is
// not ready counts as unknown until it is; one that is being deleted counts as long as it is there.
func (p *place) confirm(ctx context.Context, ws []workload, wanted func(string) bool, judge func(pod) verdict) (location.Confirmation, error) {
	if err := p.stuck(ctx, ws); err != nil {
		return location.Confirmation{}, err
	}
	pods, err := p.pods(ctx, ws, wanted)
	if err != nil {
		return location.Confirmation{}, err
	}
	c := location.Confirmation{How: location.Label, Facts: map[string]string{}}
	starting, others, waiting := 0, []string{}, map[string]int{}
	for _, consumer := range pods {
		for _, reason := range consumer.waiting() {
			waiting[reason]++
		}
		if !consumer.running() {
			starting++
			continue
		}
		if consumer.owner == "" {
			others = append(others, consumer.raw.GetName())
		}
		c.Running++
		v := judge(consumer)
		if v.how == location.ChangedAt {
			c.How = location.ChangedAt
		}
		switch {
		case v.state == old:
			c.Old++
		case v.state == taken && (consumer.ready() || consumer.leaving()):
			c.Taken++
		default:
			c.Unknown++
		}
	}
	c.Facts["workloads"] = joined(ws)
	if len(ws) == 0 {
		c.Facts["workloads"] = "none refers to the Secret"
	}
	if starting > 0 {
		c.Facts["starting"] = strconv.Itoa(starting)
	}
	if len(others) > 0 {
		slices.Sort(others)
		c.Facts["pods of nothing known"] = strings.Join(others[:min(len(others), 10)], ", ")
	}
	if len(waiting) > 0 {
		c.Facts["waiting"] = counted(waiting)
	}
	return c, nil
}

func counted(reasons map[string]int) string {
	var out []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		out = append(out, fmt.Sprintf("%s %d", reason, reasons[reason]))
	}
	return strings.Join(out, ", ")
}

// pods gives the pods that are not over and belong to one of ws or are handed a wanted Secret.
func (p *place) pods(ctx context.Context, ws []workload, wanted func(string) bool) ([]pod, error) {
	list, err := p.api.list(ctx, podsGVR, "")
	if err != nil {
		return nil, err
	}
	var out []pod
	for i := range list {
		consumer := pod{raw: &list[i]}
		if consumer.over() {
			continue
		}
		for _, w := range ws {
			if w.owns(consumer.raw) {
				consumer.owner = w.String()
			}
		}
		if consumer.owner != "" || len(names(consumer.spec(), p.cfg.Field, wanted)) > 0 {
			out = append(out, consumer)
		}
	}
	return out, nil
}

// stuck gives an error when the rollout of a Deployment made no progress within its deadline.
func (p *place) stuck(ctx context.Context, ws []workload) error {
	for _, w := range ws {
		for _, c := range objects(at(w.raw.Object, "status", "conditions")) {
			if c["type"] != "Progressing" || c["status"] != "False" || c["reason"] != "ProgressDeadlineExceeded" || !observed(w) {
				continue
			}
			return fault.New(fault.Unavailable, fmt.Sprintf("follow rollout of %s: it made no progress within its deadline", w),
				fault.Hint("%ssee: kubectl --namespace %s describe %s", p.reasons(ctx, w), p.cfg.Namespace, w))
		}
	}
	return nil
}

// reasons gives why pods of w wait, as the beginning of a hint, or nothing.
func (p *place) reasons(ctx context.Context, w workload) string {
	pods, err := p.pods(ctx, []workload{w}, func(string) bool { return false })
	waiting := map[string]int{}
	for _, consumer := range pods {
		for _, reason := range consumer.waiting() {
			waiting[reason]++
		}
	}
	if err != nil || len(waiting) == 0 {
		return ""
	}
	return "its pods wait: " + counted(waiting) + "; "
}

// observed reports whether the controller has seen the newest template.
func observed(w workload) bool {
	return number(w.raw.Object, "status", "observedGeneration") >= w.raw.GetGeneration()
}

// available gives Unavailable unless every replica of every workload is available.
func (p *place) available(ctx context.Context, ws []workload) error {
	if len(ws) == 0 {
		return fault.New(fault.NotFound, fmt.Sprintf("probe workloads of secret %q: none refers to it", p.cfg.Secret),
			fault.Hint("name them: workloads: [deployment/NAME]"))
	}
	if err := p.stuck(ctx, ws); err != nil {
		return err
	}
	for _, w := range ws {
		want, have := int64(1), number(w.raw.Object, "status", "availableReplicas")
		if at(w.raw.Object, "spec", "replicas") != nil {
			want = number(w.raw.Object, "spec", "replicas")
		}
		if w.kind.word == "daemonset" {
			want, have = number(w.raw.Object, "status", "desiredNumberScheduled"), number(w.raw.Object, "status", "numberAvailable")
		}
		hint := func() fault.Option {
			return fault.Hint("%ssee: kubectl --namespace %s rollout status %s", p.reasons(ctx, w), p.cfg.Namespace, w)
		}
		switch {
		case !observed(w):
			return fault.New(fault.Unavailable, fmt.Sprintf("probe %s: its controller has not seen the newest template", w), hint())
		case want == 0:
			return fault.New(fault.Unavailable, fmt.Sprintf("probe %s: it is scaled to zero", w), fault.Hint("scale it up, or leave it out of workloads"))
		case have < want:
			return fault.New(fault.Unavailable, fmt.Sprintf("probe %s: %d of %d replicas are available", w, have, want), hint())
		}
	}
	return nil
}
